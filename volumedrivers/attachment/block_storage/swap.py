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

"""The steps by which a guest goes over to the volume that Cinder migrates its volume to.

Cinder waits to be told how it has ended, in every case: so also what is refused
is a step that failed.  Once the guest has gone on with the new volume nothing
is undone, and recover finishes what is left.
"""

import dataclasses
import typing

from volumedrivers import exception
from volumedrivers.attachment import swap_volume
from volumedrivers.attachment.block_storage import flows
from volumedrivers.attachment.block_storage.attachment_flow import AttachmentFlow
from volumedrivers.attachment.block_storage.reservation import Flow
from volumedrivers.attachment.block_storage.reservation import Operation
from volumedrivers.attachment.block_storage.reservation import Reservation
from volumedrivers.attachment.block_storage.results import VolumeSwapResult
from volumedrivers.attachment.block_storage.results import with_inner
from volumedrivers.attachment.block_storage.work import StorageWork
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.results import SwapResult
from volumedrivers.attachment.steps import Step
from volumedrivers.cinder import attachments
from volumedrivers.cinder import migration

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.context import StorageContext
    from volumedrivers.attachment.record import Record
    from volumedrivers.connection_info import ConnectionInfo
    from volumedrivers.host.fair_lock import Held
    from volumedrivers.libvirt.copy_place import Progress
    from volumedrivers.libvirt.guest import Guest


class SwapVolume(StorageWork):
    """Cinder exports the new volume; the guest goes over; Cinder takes the old one back."""

    operation = Operation.MIGRATE

    def __init__(
        self,
        context: 'StorageContext',
        guest: 'Guest',
        before: Reservation,
        held: 'Held | None' = None,
        *,
        new_volume_id: str,
        bandwidth: int = 0,
        progress: 'Progress | None' = None,
    ) -> None:
        super().__init__(context, guest, before, before, held)
        self.bandwidth = bandwidth
        self.progress = progress
        self.info: ConnectionInfo | None = None
        self.volume: typing.Any = None
        self.swapped: SwapResult | None = None
        self._learn_of_new(volume_id=new_volume_id)

    @property
    def new(self) -> Reservation:
        """What Cinder has of the new volume."""
        return of_new(self.reservation)

    def steps(self) -> tuple[Step, ...]:
        """Return the steps in their order."""
        seconds = self.context.request_timeout
        return (
            Step(
                'accept',
                self.accept,
                self.refuse,
                seconds,
                leaves='the migration, whose end Cinder waits for',
            ),
            Step(
                'reserve',
                self.reserve,
                self.release_new,
                seconds,
                leaves='the attachment of the new volume in Cinder',
            ),
            Step('export', self.export, seconds=seconds),
            Step('swap', self.swap, self.stay, nested=True),
            Step('complete', self.complete, seconds=seconds),
            Step('release', self.release_old, seconds=seconds),
            Step('finish', self.finish, seconds=2 * seconds),
            Step('record', self.settle_new, records=True),
        )

    def accept(self) -> None:
        """Look whether Cinder waits for it."""
        new_volume_id = self.new.volume_id
        self.volume = migration.require_pair(
            self.context.storage, self.reservation.volume_id, new_volume_id
        )

    def refuse(self) -> None:
        tell_cinder(self.context, self.reservation, error=True)

    def reserve(self) -> None:
        storage, found = self.context.storage, self.reservation
        others = len(attachments.of_volume(storage, found.volume_id)) - 1
        if others:
            raise exception.WrongVolumeState(
                volume_id=found.volume_id,
                status=f'attached {others + 1} times',
                expected='attached once: each guest would write to a copy of its own',
            )
        users = self.context.host.users().of_volume(found.volume_id, self.guest.uuid)
        if users:
            # Cinder deletes what they have.
            raise exception.StillInUse(
                volume_id=found.volume_id,
                guest=', '.join(sorted(users)),
                reason='it has the volume too, and would not go over; detach it there',
            )
        new = AttachmentFlow(storage)
        try:
            attachment_id = new.reserve(self.new)
        except exception.CinderUnavailable as error:
            if error.may_be_done:
                self._take_back(error)
            raise
        self._learn_of_new(attachment_id=attachment_id)

    def release_new(self) -> None:
        if has_moved(self.on_host, self.reservation) is not False:
            raise exception.StillInUse(
                volume_id=self.new.volume_id,
                guest=self.guest.name,
                reason='the guest may have gone over to it; Cinder keeps the attachment',
            )
        AttachmentFlow(self.context.storage).release(self.new)

    def export(self) -> None:
        connector = dict(self.context.connector())
        self._learn_of_new(connector=connector)
        self.note(step='export')
        self.info = AttachmentFlow(self.context.storage).export(self.new, self.volume, connector)

    def swap(self) -> None:
        assert self.info is not None  # noqa: S101
        self.swapped = swap_volume.swap(
            self.context.host,
            self.guest.uuid,
            self.reservation.volume_id,
            self.info,
            attachment_id=self.new.attachment_id,
            bandwidth=self.bandwidth,
            progress=self.progress,
        )

    def stay(self) -> None:
        """What the guest has written there since is nowhere else."""
        if has_moved(self.on_host, self.reservation) is not False:
            raise exception.Busy(
                what=f'volume {self.reservation.volume_id}',
                reason=f'guest {self.guest.name} has gone on with its new place',
            )

    def complete(self) -> None:
        complete_new(self.context, self.reservation, self.on_host)

    def release_old(self) -> None:
        release_old(self.context, self.reservation, self.on_host)

    def finish(self) -> None:
        tell_cinder(self.context, self.reservation, error=False)

    def settle_new(self) -> None:
        self.reservation = settled_as_new(self.context, self.reservation)

    def after_failure(self, problem: str, step: str, *, undone: bool) -> None:
        """As before, if the guest has not gone over; else recover finishes it."""
        if undone:
            self.settle(problem=f'{self.operation}: {problem}')
        else:
            self.note(problem=problem)

    def result(self, seconds: dict[str, float]) -> VolumeSwapResult:
        """Say what was done."""
        assert self.swapped is not None  # noqa: S101
        return VolumeSwapResult.of(
            self.swapped,
            volume_name=self.reservation.volume_name,
            attachment_id=self.reservation.attachment_id,
            seconds=with_inner(seconds, 'swap', self.swapped.seconds),
        )

    def _learn_of_new(self, **more: typing.Any) -> None:
        wanted = self.reservation.wanted
        self.learn(wanted={**wanted, 'new': {**wanted.get('new', {}), **more}})

    def _take_back(self, error: exception.CinderUnavailable) -> None:
        try:
            AttachmentFlow(self.context.storage).release(self.new)
        except exception.VolumeDriversError as failure:
            error.add_note(f'whether Cinder reserved the new volume is not known: {failure}')


def of_new(found: Reservation) -> Reservation:
    """Return what Cinder has of the volume that a row's volume goes to."""
    new = found.wanted['new']
    return dataclasses.replace(
        found,
        key=make_key(found.domain_uuid, new['volume_id']),
        volume_id=new['volume_id'],
        attachment_id=new.get('attachment_id'),
        connector=new.get('connector', {}),
        flow=Flow.ATTACHMENT,
        wanted={},
    )


def has_moved(record: 'Record | None', found: Reservation) -> bool | None:
    """Tell whether guest and host have the new volume; None: that is not settled.

    :param record: of guest and host
    """
    if record is None or not record.is_settled:
        return None
    return bool(record.connection_info.get('volume_id') == found.wanted['new']['volume_id'])


def complete_new(context: 'StorageContext', found: Reservation, record: 'Record | None') -> None:
    """Tell Cinder that the guest has the new volume."""
    target = '' if record is None else record.target or ''
    AttachmentFlow(context.storage).complete(of_new(found), target=target)


def release_old(context: 'StorageContext', found: Reservation, record: 'Record | None') -> None:
    """Let Cinder take back the old volume, which is not on this host any more.

    :raises StillInUse: it may be
    """
    if record is not None and not has_moved(record, found):
        raise exception.StillInUse(
            volume_id=found.volume_id,
            guest=found.domain_name,
            reason='it is still connected to this host; Cinder keeps the attachment',
        )
    flows.of(context.storage, found).release(found)


def tell_cinder(context: 'StorageContext', found: Reservation, *, error: bool) -> None:
    """Tell Cinder how its migration has ended."""
    migration.finish(
        context.storage,
        found.volume_id,
        found.wanted['new']['volume_id'],
        error=error,
        seconds=float(context.options.cinder_timeout),
    )


def settled_as_new(context: 'StorageContext', found: Reservation) -> Reservation:
    """Write the row as Cinder has it now: the volume's id, the new one's attachment."""
    new = of_new(found)
    return context.reservations.put(
        dataclasses.replace(
            found,
            flow=Flow.ATTACHMENT,
            attachment_id=new.attachment_id,
            connector=new.connector,
            operation=None,
            step='',
            wanted={},
            problem='',
        )
    )
