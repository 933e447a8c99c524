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

"""What all operations on one volume and one guest have in common."""

import dataclasses
import time
import typing

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.results import paths_of
from volumedrivers.attachment.volume_encryption import VolumeEncryption
from volumedrivers.attachment.work_row import WorkRow
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.volume_devices import readable

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.host.fair_lock import Held
    from volumedrivers.libvirt.connected_volume import Identity
    from volumedrivers.libvirt.connected_volume import Remainder
    from volumedrivers.libvirt.disk import Disk
    from volumedrivers.libvirt.guest import Guest

#: kinds of a Remainder that are a device of this host
DEVICES = frozenset(('device', 'map', 'namespace'))


class Work(WorkRow):
    """One operation; ``record`` is what it knows, and what the journal gets.

    :ivar before: the journal's row when the operation began
    :ivar held: the lock of the volume
    :ivar left: what should have been removed and is still on this host
    :raises ManagedElsewhere: the guest would be changed, and is another program's
    """

    operation: typing.ClassVar[Operation]
    #: whether it leaves the guest as it is, whoever manages its disks
    HOST_ONLY: typing.ClassVar[bool] = False
    left: 'tuple[Remainder, ...]' = ()

    def __init__(
        self,
        context: 'AttachmentContext',
        guest: 'Guest',
        connection_info: ConnectionInfo,
        before: Record | None,
        held: 'Held | None' = None,
    ) -> None:
        if before is not None and before.manager and not self.HOST_ONLY:
            raise exception.ManagedElsewhere(
                guest=guest.name,
                manager=before.manager,
                operation=str(self.operation),
                volume_id=before.volume_id,
            )
        self.context = context
        self.guest = guest
        self.info = connection_info
        self.before = before
        self.held = held
        self.driver = context.driver(connection_info)
        self.record = self._first_record()

    @property
    def volume_id(self) -> str:
        """Cinder's."""
        return self.record.volume_id

    @property
    def volume(self) -> ConnectedVolume | None:
        """What connect_volume answered, here or when the volume was attached."""
        return self.record.volume

    @property
    def connected(self) -> ConnectedVolume | None:
        """What is on this host of the volume, as far as the operation has got."""
        return self.volume

    @property
    def alias(self) -> str:
        """What the guest's disk is called."""
        return f'{guest_disks.ALIAS_PREFIX}{self.volume_id}'

    @property
    def what(self) -> str:
        """The operation as it is told to people."""
        return f'{self.operation} of volume {self.volume_id} and guest {self.guest.name}'

    def note(self, **changes: typing.Any) -> None:
        """Write the row, with everything the steps so far have found out.

        What is not written, because it failed or was interrupted, is not taken
        for true: a row that was to be settled is undone as an unfinished one.
        """
        self.record = self.context.journal.put(dataclasses.replace(self.record, **changes))

    def learn(self, **changes: typing.Any) -> None:
        """Keep for the next time that the row is written."""
        self.record = dataclasses.replace(self.record, **changes)

    def settle(self, **changes: typing.Any) -> None:
        """Write the row of an attached volume with which nothing is being done."""
        self.note(operation=None, step='', wanted={}, **changes)

    def facts(self, left: tuple[str, ...]) -> dict[str, typing.Any]:
        """Return what a Failure says of the volume.

        :param left: what could not be undone
        """
        return {
            'guest': self.guest.name,
            'guest_uuid': self.guest.uuid,
            'volume_id': self.volume_id,
            'driver_volume_type': self.info.driver_volume_type,
            'target': self.record.target,
            'leftovers': (*left, *map(str, self.left)),
            'record': self._row(),
            **paths_of(self.connected),
        }

    def found_identity(self) -> 'Identity | None':
        """Compare what is under the volume's path now with what was recorded.

        :returns: what is there; None if nothing is
        :raises IdentityMismatch: it is something else
        """
        volume = self.volume
        if volume is None:
            return None
        found = self.driver.current_identity(self.info, volume)
        if found is not None and volume.identity is not None and found != volume.identity:
            raise exception.IdentityMismatch(
                path=volume.path or str(volume.identity),
                found=str(found),
                expected=str(volume.identity),
                volume_id=self.volume_id,
            )
        return found

    def know_disk(self, disk: 'Disk') -> None:
        """Keep what the guest calls the volume; of an unrecorded one, what its disk tells.

        :raises IdentityMismatch: its device is another volume's
        """
        self.learn(target=guest_disks.target_of(disk))
        if self.before is None:
            devices = self.context.registry.context.devices
            found = guest_disks.connected_volume(disk, self.info, devices)
            if found is not None:
                self.require_nobody_elses(found)
            self.learn(volume=found, source=guest_disks.source_of(disk))

    def open_again(self, volume: ConnectedVolume) -> None:
        """Open what was attached encrypted, as the row has it; nothing is formatted.

        :param volume: as it is connected now
        """
        metadata = self.record.encryption
        self.learn(
            opened=self.context.encryptor.open(
                self.info,
                volume,
                None if metadata is None else VolumeEncryption.parse(metadata),
                allow_format=False,
            )
        )

    def require_nobody_elses(self, volume: ConnectedVolume) -> None:
        """Refuse a device that the journal has as another volume.

        :raises IdentityMismatch
        """
        if volume.identity is not None and volume.identity.kind != 'path':
            identity = str(volume.identity)
            self._refuse_anothers(identity, volume.path or identity, 'a device of its own')

    def devices_to_remove(self) -> tuple[str, ...]:
        """Return the devices that a removal would take, where nobody recorded what they are.

        The driver finds them by the connection_info alone: that of another
        host perhaps, or one whose LUN has been given to another volume since.

        :raises IdentityMismatch: the journal has one of them as another volume
        :raises HostUnreadable: the kernel did not say
        """
        volume = self.volume
        if volume is not None and volume.identity is not None and volume.identity.kind != 'path':
            return ()
        found = tuple(
            left.name
            for left in self.driver.remains(self.info, self.record.key, volume=volume)
            if left.kind in DEVICES
        )
        for path in found:
            try:
                with readable(path):
                    identity = self.context.registry.context.devices.identity(path)
            except exception.VolumeNotConnected:
                continue
            if identity is not None:
                self._refuse_anothers(':'.join(identity), path, f'volume {self.volume_id}')
        return found

    def others(self) -> dict[str, str]:
        """Return the other guests that have the volume, and their disk's source type.

        :raises HypervisorUnavailable, HypervisorError: libvirt could not say
        """
        return self.context.users().of_volume(self.volume_id, self.guest.uuid, self.record)

    def _refuse_anothers(self, identity: str, path: str, expected: str) -> None:
        for other in self.context.journal.find(identity=identity):
            if other.boot_id == self.context.boot_id and other.volume_id != self.volume_id:
                raise exception.IdentityMismatch(
                    path=path,
                    found=f'{identity}, which is volume {other.volume_id} of guest '
                    f'{other.domain_name}',
                    expected=expected,
                    volume_id=self.volume_id,
                )

    def _row(self) -> typing.Literal['attached', 'unfinished', 'none', 'unknown']:
        try:
            record = self.context.journal.get(self.record.key)
        except exception.VolumeDriversError:
            return 'unknown'
        if record is None:
            return 'none'
        return 'attached' if record.is_settled else 'unfinished'

    def _first_record(self) -> Record:
        volume_id = volume_id_of(self.info)
        fresh = {
            'operation': self.operation,
            'step': '',
            'problem': '',
            'began': time.time(),
        }
        if self.before is not None:
            return dataclasses.replace(
                self.before,
                was_attached=self.before.is_settled or self.before.was_attached,
                **fresh,  # type: ignore[arg-type]
            )
        return Record(
            key=make_key(self.guest.uuid, volume_id),
            boot_id=self.context.boot_id,
            host=self.context.host,
            domain_uuid=self.guest.uuid,
            domain_name=self.guest.name,
            volume_id=volume_id,
            driver_volume_type=self.info.driver_volume_type,
            connection_info=self.info.to_dict(),
            **fresh,  # type: ignore[arg-type]
        )


def volume_id_of(connection_info: ConnectionInfo) -> str:
    """Return the id of the volume, by which everything of it is found again.

    :raises InvalidConnectionInfo: it has none
    """
    volume_id = connection_info.volume_id or connection_info.serial
    if not volume_id:
        raise exception.InvalidConnectionInfo(
            driver_volume_type=connection_info.driver_volume_type,
            key='serial',
            found='missing',
            expected='the id of the volume; by it the disk is found again',
        )
    return volume_id
