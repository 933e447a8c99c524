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

"""One attachment as the journal keeps it: plain data, and nothing secret."""

from collections.abc import Mapping
import dataclasses
import enum
import typing

from volumedrivers.libvirt.connected_volume import ConnectedVolume


class Operation(enum.StrEnum):
    """What is being done with an attachment."""

    ATTACH = 'attach'
    DETACH = 'detach'
    EXTEND = 'extend'
    QOS = 'qos'
    SWAP = 'swap'
    RECONNECT = 'reconnect'
    REPAIR = 'repair'
    REFRESH = 'refresh'


@dataclasses.dataclass(frozen=True)
class Opened:
    """How an encrypted volume was opened, and what has to be closed.

    :ivar provider: luks, luks2 or plain
    :ivar by: qemu (native, with a libvirt secret), host (dm-crypt) or storage
        (nothing was done here)
    :ivar secret_uuid: the libvirt secret, where QEMU decrypts
    :ivar path: the decrypted device, where the host decrypts
    :ivar engine: libvirt's engine of the encryption; None is QEMU's own
    :ivar header_size: bytes of the volume that are not the guest's
    """

    provider: str
    by: typing.Literal['qemu', 'host', 'storage']
    secret_uuid: str | None = None
    path: str | None = None
    engine: str | None = None
    header_size: int = 0


@dataclasses.dataclass(frozen=True)
class Record:
    """A row of the journal.

    While ``operation`` is set the row is unfinished: ``step`` was begun, and what
    the steps before it found out is in the row.  Without one the volume is
    attached.

    :ivar key: ``<domain uuid>/<volume id>``; names this use to the drivers
    :ivar boot_id: the kernel's, of the boot in which the host side was made
    :ivar attachment_id: Cinder's
    :ivar connection_info: ConnectionInfo.to_dict(): secrets are ``***``
    :ivar target: name of the guest's disk, such as vdb
    :ivar disk: what was asked for: the fields of DiskRequest
    :ivar source: what libvirt was given, as guest_disks.source_of writes it
    :ivar volume: what connect_volume answered; None before that
    :ivar was_attached: whether the guest had the volume before the operation
    :ivar wanted: what the operation is for: size, limits, force
    :ivar problem: why the operation stopped; '' while it runs
    :ivar manager: who puts the volume's disk into the guest, such as nova; '':
        this package
    :ivar process: id of the process that wrote last
    :ivar began, changed: seconds since the epoch
    """

    key: str
    boot_id: str
    host: str
    domain_uuid: str
    domain_name: str
    volume_id: str
    driver_volume_type: str
    connection_info: Mapping[str, typing.Any]
    attachment_id: str | None = None
    target: str | None = None
    disk: Mapping[str, typing.Any] = dataclasses.field(default_factory=dict)
    source: str = ''
    volume: ConnectedVolume | None = None
    encryption: Mapping[str, typing.Any] | None = None
    opened: Opened | None = None
    operation: Operation | None = None
    step: str = ''
    was_attached: bool = False
    wanted: Mapping[str, typing.Any] = dataclasses.field(default_factory=dict)
    problem: str = ''
    process: int = 0
    began: float = 0.0
    changed: float = 0.0
    manager: str = ''

    @property
    def is_settled(self) -> bool:
        """Whether the volume is attached and nothing is being done with it."""
        return self.operation is None

    def to_dict(self) -> dict[str, typing.Any]:
        """Return plain, JSON-able data; ``from_dict`` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, typing.Any]) -> 'Record':
        """Read what ``to_dict`` wrote, also after it went through JSON."""
        values = dict(data)
        if values.get('volume') is not None:
            values['volume'] = ConnectedVolume.from_dict(values['volume'])
        if values.get('opened') is not None:
            values['opened'] = Opened(**values['opened'])
        if values.get('operation') is not None:
            values['operation'] = Operation(values['operation'])
        return cls(**values)


def make_key(domain_uuid: str, volume_id: str) -> str:
    """Return the name of a guest's use of a volume."""
    return f'{domain_uuid}/{volume_id}'
