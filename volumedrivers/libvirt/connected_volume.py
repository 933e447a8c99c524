#    Licensed under the Apache License, Version 2.0 (the "License"); you may
#    not use this file except in compliance with the License. You may obtain
#    a copy of the License at
#
#         http://www.apache.org/licenses/LICENSE-2.0
#
#    Unless required by applicable law or agreed to in writing, software
#    distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
#    WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
#    License for the specific language governing permissions and limitations
#    under the License.

"""What a driver's connect_volume answers: the volume as it is on this host."""

from collections.abc import Mapping
import dataclasses
import typing

from volumedrivers import exception


@dataclasses.dataclass(frozen=True)
class Identity:
    """What a volume is, whatever it is called today.

    ``kind`` is one of wwn (SCSI, VPD page 0x83), nguid, uuid, rbd
    (fsid/pool/image), file (mount source and inode), path (the name is all
    there is).
    """

    kind: str
    value: str

    def __str__(self) -> str:
        return f'{self.kind}:{self.value}'


@dataclasses.dataclass(frozen=True)
class NetworkHost:
    name: str
    port: int | None = None


@dataclasses.dataclass(frozen=True)
class NetworkSource:
    """A source that QEMU opens itself; becomes ``<source protocol=...>``."""

    protocol: str  # rbd, iscsi, gluster, nbd
    name: str
    hosts: tuple[NetworkHost, ...] = ()
    auth_username: str | None = None
    secret_type: str | None = None  # libvirt's usage type: ceph, iscsi
    secret_uuid: str | None = None
    initiator_iqn: str | None = None


@dataclasses.dataclass(frozen=True)
class FailedPath:
    """One path that was asked for and is not there."""

    name: str  # portal, WWPN, monitor
    reason: str


@dataclasses.dataclass(frozen=True)
class PathReport:
    """How many ways lead to the volume."""

    asked: int = 1
    found: int = 1
    failed: tuple[FailedPath, ...] = ()


@dataclasses.dataclass(frozen=True)
class Remainder:
    """Something of a volume that is on this host.

    ``kind`` is one of device, map, controller, namespace, session, mapping,
    mount, secret, link, dm-crypt, file.
    """

    kind: str
    name: str  # /dev/sdb, nvme0, a mount point, a portal and target, usage of a secret
    detail: str = ''

    def __str__(self) -> str:
        return f'{self.kind} {self.name}' + (f' ({self.detail})' if self.detail else '')


@dataclasses.dataclass(frozen=True)
class ConnectedVolume:
    """A volume on this host; nothing in it is secret, all of it is JSON-able.

    Exactly one of ``path`` and ``source`` is set.  ``path`` means the same
    thing after a reboot.  ``device_info`` is what os-brick returned, word for
    word; it is what os-brick is given back on removal.
    """

    driver_volume_type: str
    volume_id: str | None
    source_type: typing.Literal['block', 'file', 'network']
    path: str | None = None
    source: NetworkSource | None = None
    format: str = 'raw'
    identity: Identity | None = None
    multipath_id: str | None = None
    paths: PathReport = PathReport()
    seconds: float = 0.0
    use_multipath: bool | None = None
    device_info: Mapping[str, object] = dataclasses.field(default_factory=dict)

    @property
    def degraded(self) -> bool:
        """True when fewer paths were found than asked for."""
        return self.paths.found < self.paths.asked

    def to_dict(self) -> dict[str, object]:
        """Return plain, JSON-able data; ``from_dict`` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, typing.Any]) -> 'ConnectedVolume':
        """Read what ``to_dict`` wrote."""
        values = dict(data)
        if values.get('source') is not None:
            source = dict(values['source'])
            source['hosts'] = tuple(NetworkHost(**host) for host in source['hosts'])
            values['source'] = NetworkSource(**source)
        if values.get('identity') is not None:
            values['identity'] = Identity(**values['identity'])
        paths = dict(values['paths'])
        paths['failed'] = tuple(FailedPath(**path) for path in paths['failed'])
        values['paths'] = PathReport(**paths)
        return cls(**values)


def check_recorded(volume: ConnectedVolume, found: Identity | None) -> None:
    """Compare what is there now with what was recorded, where both are known.

    :raises IdentityMismatch: something else is there
    """
    if volume.identity is not None and found is not None and found != volume.identity:
        raise exception.IdentityMismatch(
            path=volume.path or (volume.source.name if volume.source is not None else ''),
            found=str(found),
            expected=str(volume.identity),
            volume_id=volume.volume_id,
        )
