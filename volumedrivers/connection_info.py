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

"""Cinder's connection_info, read once.

The only place that knows Cinder's keys.  ``ConnectionInfo.parse`` checks and
freezes; the caller's dictionary is never changed, and os-brick gets a copy of
its own from ``to_connector``.
"""

import dataclasses
import typing
from collections.abc import Mapping


class Secret:
    """A value that no log, exception, repr or JSON shows."""

    __slots__ = ('_value',)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself; call it where it is handed over, not before."""
        return self._value

    def __repr__(self) -> str:
        return '***'

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return '***'

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)


@dataclasses.dataclass(frozen=True)
class Portal:
    """One address of a target; ``host`` without brackets, lower case."""

    host: str
    port: int

    def __str__(self) -> str:
        return f'[{self.host}]:{self.port}' if ':' in self.host else f'{self.host}:{self.port}'


@dataclasses.dataclass(frozen=True)
class Chap:
    """CHAP credentials."""

    username: str
    password: Secret


@dataclasses.dataclass(frozen=True)
class IscsiTarget:
    """One way to an iSCSI or iSER logical unit."""

    portal: Portal
    iqn: str
    lun: int


@dataclasses.dataclass(frozen=True)
class IscsiData:
    targets: tuple[IscsiTarget, ...]
    auth: Chap | None = None
    discovery_auth: Chap | None = None


@dataclasses.dataclass(frozen=True)
class FibreChannelData:
    wwpns: tuple[str, ...]           # 16 lower-case hexadecimal digits each
    luns: tuple[int, ...]            # as many as wwpns
    initiator_target_map: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class NvmePortal:
    portal: Portal
    transport: str                   # tcp, rdma or fc


@dataclasses.dataclass(frozen=True)
class NvmeTarget:
    nqn: str
    portals: tuple[NvmePortal, ...]
    vol_uuid: str | None = None
    nguid: str | None = None
    ns_id: int | None = None


@dataclasses.dataclass(frozen=True)
class NvmeData:
    targets: tuple[NvmeTarget, ...]  # more than one: a replicated volume
    replica_count: int = 1
    alias: str | None = None
    host_nqn: str | None = None


@dataclasses.dataclass(frozen=True)
class LightOSData:
    subsystem_nqn: str
    uuid: str
    portals: tuple[NvmePortal, ...]


@dataclasses.dataclass(frozen=True)
class ScaleIOData:
    volume_name: str
    scaleio_volume_id: str | None = None


@dataclasses.dataclass(frozen=True)
class StorPoolData:
    volume: str
    client_id: int


@dataclasses.dataclass(frozen=True)
class HuaweiSdsData:
    volume_id: str


@dataclasses.dataclass(frozen=True)
class LocalData:
    """A path that Cinder itself names: drivers local and gpfs."""

    device_path: str


@dataclasses.dataclass(frozen=True)
class ShareData:
    """A file on a share: nfs, smbfs, glusterfs, quobyte, vzstorage, scality."""

    export: str                      # as Cinder gave it; a VZ password is cut out
    name: str
    format: str | None = None        # None: Cinder did not say
    options: tuple[str, ...] = ()    # mount options, split; secrets are in ``secret_options``
    secret_options: Secret | None = None
    password: Secret | None = None


@dataclasses.dataclass(frozen=True)
class RbdData:
    pool: str
    namespace: str | None
    image: str
    monitors: tuple[Portal, ...]     # empty: ceph.conf of the host names them
    auth_enabled: bool = False
    auth_username: str | None = None
    secret_uuid: str | None = None
    secret_type: str | None = None
    cluster_name: str | None = None
    keyring: Secret | None = None

    @property
    def name(self) -> str:
        """pool[/namespace]/image, as QEMU and libvirt write it."""
        return '/'.join(part for part in (self.pool, self.namespace, self.image) if part)


ProtocolData = (IscsiData | FibreChannelData | NvmeData | LightOSData | ScaleIOData |
                StorPoolData | HuaweiSdsData | LocalData | ShareData | RbdData | None)


@dataclasses.dataclass(frozen=True)
class ConnectionInfo:
    """One volume as Cinder describes it to this host.

    ``data`` is None for a driver_volume_type that this package has no schema
    for (a vendor's): its keys are all in ``unknown``.
    """

    driver_volume_type: str
    data: ProtocolData
    volume_id: str | None
    serial: str | None
    multiattach: bool
    access_mode: typing.Literal['rw', 'ro'] | None
    qos_specs: Mapping[str, str]
    discard: bool
    cacheable: bool
    encrypted: bool
    logical_block_size: int | None   # bytes
    physical_block_size: int | None  # bytes
    device_path: str | None          # where an earlier connect left it (Nova stores it)
    multipath_id: str | None
    enforce_multipath: bool | None
    unknown: Mapping[str, object]    # keys of data that no schema knows
    _raw: Mapping[str, object]       # a private deep copy of what Cinder sent

    @classmethod
    def parse(cls, raw: Mapping[str, object]) -> 'ConnectionInfo':
        """Check and freeze what Cinder sent.

        :param raw: ``{'driver_volume_type': str, 'data': {...}, ...}`` as
            Cinder's attachment or initialize_connection gives it
        :raises InvalidConnectionInfo: names the key, what was there (secrets
            shown as ***) and what is expected
        """
        raise NotImplementedError

    def to_connector(self) -> dict[str, object]:
        """Return a new copy of ``data`` for os-brick.

        Portals are normalised, secrets revealed, everything else as Cinder
        sent it; the receiver may change it.
        """
        raise NotImplementedError

    def to_dict(self) -> dict[str, object]:
        """Return the whole connection_info, JSON-able, secrets shown as ``***``."""
        raise NotImplementedError
