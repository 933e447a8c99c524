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

"""What the operations on Cinder's side of an attachment have in common."""

import dataclasses
import time
import typing

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment.block_storage import flows
from volumedrivers.attachment.block_storage.reservation import Operation
from volumedrivers.attachment.block_storage.reservation import Reservation
from volumedrivers.attachment.results import paths_of
from volumedrivers.attachment.work_row import WorkRow

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.context import StorageContext
    from volumedrivers.attachment.block_storage.flow import StorageFlow
    from volumedrivers.attachment.record import Record
    from volumedrivers.host.fair_lock import Held
    from volumedrivers.libvirt.disk import Disk
    from volumedrivers.libvirt.guest import Guest


class StorageWork(WorkRow):
    """One operation; ``reservation`` is what it knows, and what the journal gets.

    :ivar before: the journal's row when the operation began
    :ivar held: the lock of the volume's reservation
    """

    operation: typing.ClassVar[Operation]

    def __init__(
        self,
        context: 'StorageContext',
        guest: 'Guest',
        reservation: Reservation,
        before: Reservation | None,
        held: 'Held | None' = None,
    ) -> None:
        self.context = context
        self.guest = guest
        self.before = before
        self.held = held
        self.reservation = dataclasses.replace(
            reservation, operation=self.operation, step='', problem='', began=time.time()
        )

    @property
    def key(self) -> str:
        """Of the rows of both tables."""
        return self.reservation.key

    @property
    def flow(self) -> 'StorageFlow':
        """The calls by which the volume is attached."""
        return flows.of(self.context.storage, self.reservation)

    @property
    def what(self) -> str:
        """The operation as it is told to people."""
        found = self.reservation
        return f'{self.operation} of volume {found.volume_id} and guest {self.guest.name}'

    @property
    def on_host(self) -> 'Record | None':
        """What the journal has of guest and host; None: nothing is there."""
        return self.context.host.journal.get(self.key)

    @property
    def disk(self) -> 'Disk | None':
        """What the guest has of the volume; None: libvirt said that it has nothing."""
        guest = guest_disks.look_up(self.context.host.hypervisor, self.guest.uuid)
        return guest_disks.find(guest, self.reservation.volume_id)

    def note(self, **changes: typing.Any) -> None:
        """Write the row, with everything the steps so far have found out."""
        self.reservation = self.context.reservations.put(
            dataclasses.replace(self.reservation, **changes)
        )

    def learn(self, **changes: typing.Any) -> None:
        """Keep for the next time that the row is written."""
        self.reservation = dataclasses.replace(self.reservation, **changes)

    def settle(self, **changes: typing.Any) -> None:
        """Write the row of a volume that is attached, and with which nothing is being done."""
        self.note(operation=None, step='', wanted={}, **changes)

    def forget(self) -> None:
        """Remove the row: Cinder has nothing of it any more."""
        self.context.reservations.remove(self.key)

    def facts(self, left: tuple[str, ...]) -> dict[str, typing.Any]:
        """Return what a Failure says of the volume.

        :param left: what could not be undone
        """
        try:
            record = self.on_host
            reservation = self.context.reservations.get(self.key)
        except exception.VolumeDriversError:
            record, row = None, 'unknown'
        else:
            rows = [one for one in (record, reservation) if one is not None]
            row = 'none' if reservation is None else 'attached'
            if not all(one.is_settled for one in rows):
                row = 'unfinished'
        return {
            'guest': self.guest.name,
            'guest_uuid': self.guest.uuid,
            'volume_id': self.reservation.volume_id,
            'driver_volume_type': '' if record is None else record.driver_volume_type,
            'target': None if record is None else record.target,
            'leftovers': left,
            'record': row,
            **paths_of(None if record is None else record.volume),
        }
