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

"""What is told of Cinder's side where only guest and host are worked on; Cinder is not asked."""

import contextlib
import dataclasses
import time
import typing

from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment import plan
from volumedrivers.attachment.block_storage.reader import ReservationReader
from volumedrivers.attachment.block_storage.reservation import Reservation
from volumedrivers.attachment.block_storage.reservations import Reservations
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.results import AttachedVolume
from volumedrivers.attachment.results import ForgetResult
from volumedrivers.attachment.results import Result
from volumedrivers.attachment.results import paths_of

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.manager import AttachmentManager

LOG = logging.getLogger(__name__)

IN_CINDER_ONLY = 'attached in Cinder only'


@dataclasses.dataclass(frozen=True)
class CinderSide(Result):
    """What this host has in Cinder of a volume, as it is recorded.

    :ivar attachment_id: None: it is not known yet
    :ivar mode: rw, or ro
    :ivar operation: what is being done or was interrupted; None: nothing, it is attached
    :ivar endpoint: Cinder's
    """

    volume_name: str
    attachment_id: str | None
    mode: str
    operation: str | None
    step: str | None
    problem: str | None
    endpoint: str

    @classmethod
    def of(cls, found: Reservation) -> 'CinderSide':
        """Return what a row says."""
        return cls(
            volume_name=found.volume_name,
            attachment_id=found.attachment_id,
            mode=found.mode,
            operation=None if found.operation is None else str(found.operation),
            step=found.step or None,
            problem=found.problem or None,
            endpoint=found.endpoint,
        )


class HostOnly:
    """The operations of an AttachmentManager, with what is recorded of Cinder beside them."""

    def __init__(self, manager: 'AttachmentManager') -> None:
        self._manager = manager
        self._reservations = Reservations(manager.context.journal.database)
        self._reader = ReservationReader(self._reservations)

    def has_any(self) -> bool:
        """Tell whether anything is recorded of a Cinder.

        :raises JournalUnusable
        """
        return bool(self._reader.find())

    def names(self) -> dict[str, str]:
        """Return what volumes are called in Cinder, by id, as far as it is recorded.

        :raises JournalUnusable
        """
        return {one.volume_id: one.volume_name for one in self._reader.find()}

    def side(self, guest_uuid: str, volume_id: str | None) -> CinderSide | None:
        """Return what is recorded of one volume; None: nothing.

        :raises JournalUnusable
        """
        found = self._reader.get(make_key(guest_uuid, volume_id or ''))
        return None if found is None else CinderSide.of(found)

    def volume_id(self, guest: str, volume: str) -> str:
        """Return the id of a volume that is called by its name in Cinder, else what is given.

        :param guest: that has it; a target name of it comes first
        :raises VolumeNotUnique: it has several of that name
        :raises JournalUnusable, GuestNotFound
        """
        if all(one.volume_name != volume for one in self._reader.find()):
            return volume
        domain = guest_disks.look_up(self._manager.context.hypervisor, guest)
        if guest_disks.find(domain, volume) is not None:
            return volume
        named = [
            one for one in self._reader.find(domain_uuid=domain.uuid) if one.volume_name == volume
        ]
        if len(named) > 1:
            raise exception.VolumeNotUnique(volume=volume, endpoint=named[0].endpoint)
        return named[0].volume_id if named else volume

    def list(
        self, guest: str | None = None, *, all_disks: bool = False
    ) -> tuple[tuple[AttachedVolume, CinderSide | None], ...]:
        """As AttachmentManager.list; also what is recorded of Cinder's side only."""
        rows = list(self._manager.list(guest, all_disks=all_disks))
        try:
            found = {one.key: one for one in self._reader.find()}
        except exception.VolumeDriversError as error:
            LOG.warning('what is recorded of Cinder is not known: %s', error)
            found = {}
        told = []
        for row in rows:
            side = found.pop(make_key(row.guest_uuid, row.volume_id or ''), None)
            told.append((_with_state(row, side), None if side is None else CinderSide.of(side)))
        told += [
            (_recorded_only(one), CinderSide.of(one))
            for one in found.values()
            if guest in (None, one.domain_name, one.domain_uuid)
        ]
        return tuple(told)

    def show(self, guest: str, volume: str) -> tuple[AttachedVolume, CinderSide | None]:
        """As AttachmentManager.show.

        :param volume: volume id, target name, or name in Cinder as it is recorded
        :raises DiskNotFound
        """
        with contextlib.suppress(exception.JournalUnusable, exception.Busy):
            volume = self.volume_id(guest, volume)
        row = self._manager.show(guest, volume)
        found = self._reader.get(make_key(row.guest_uuid, row.volume_id or ''))
        return _with_state(row, found), None if found is None else CinderSide.of(found)

    def forget(
        self, guest: str, volume: str, *, force: bool = False
    ) -> tuple[ForgetResult, CinderSide | None]:
        """As AttachmentManager.forget; also what is recorded of Cinder's side.

        Cinder keeps what it has: what may be on this host still must not be
        given to somebody else.

        :raises StillInUse, NotRecorded
        """
        context = self._manager.context
        domain = guest_disks.look_up(context.hypervisor, guest)
        found = self._find(domain.uuid, self.volume_id(guest, volume))
        if found is None:
            return self._manager.forget(guest, volume, force=force), None
        with context.locks.acquire(
            (f'reservation {found.volume_id}',),
            what=f'forget of volume {found.volume_id} and guest {domain.name}',
            seconds=context.options.lock_timeout,
        ):
            try:
                result = self._manager.forget(guest, found.volume_id, force=force)
            except exception.NotRecorded:
                result = self._nothing_here(domain, found, force=force)
            started = time.monotonic()
            self._reservations.remove(found.key)
            took = round(time.monotonic() - started, 3) + result.seconds.get('record', 0.0)
        seconds = {**result.seconds, 'record': took}
        return dataclasses.replace(result, seconds=seconds), CinderSide.of(found)

    def plan_forget(self, guest: str, volume: str, *, force: bool = False) -> plan.Plan:
        """Say what forget would do.

        :raises StillInUse, NotRecorded
        """
        domain = guest_disks.look_up(self._manager.context.hypervisor, guest)
        found = self._find(domain.uuid, self.volume_id(guest, volume))
        if found is None:
            return self._manager.plan.forget(guest, volume, force=force)
        said = f'remove what is recorded of attachment {found.attachment_id}; Cinder keeps it'
        try:
            planned = self._manager.plan.forget(guest, found.volume_id, force=force)
            (step,) = planned.steps
        except exception.NotRecorded:
            planned = self._nothing_to_plan(domain, found, force=force)
            seconds = self._manager.context.options.identify_timeout
            step = plan.PlannedStep(name='record', seconds=seconds, locks=(), actions=())
        return dataclasses.replace(
            planned,
            lock=f'reservation {found.volume_id}, then {planned.lock}',
            recorded=(*planned.recorded, f'attachment {found.attachment_id}'),
            steps=(dataclasses.replace(step, actions=(*step.actions, said)),),
        )

    def _find(self, domain_uuid: str, volume: str) -> Reservation | None:
        """Return the row of a volume's id, or of its target."""
        rows = self._reader.find(domain_uuid=domain_uuid)
        records = self._manager.context.journal.find(domain_uuid=domain_uuid) if rows else ()
        ids = {record.volume_id for record in records if volume == record.target} or {volume}
        return next((one for one in rows if one.volume_id in ids), None)

    def _nothing_to_plan(
        self, domain: typing.Any, found: Reservation, *, force: bool
    ) -> plan.Plan:
        result = self._nothing_here(domain, found, force=force)
        context = self._manager.context
        return plan.Plan(
            operation='forget',
            guest=result.guest,
            guest_uuid=result.guest_uuid,
            volume_id=result.volume_id,
            driver_volume_type='',
            target=None,
            lock=context.volume_lock(found.volume_id),
            locked_by=plan.locked_by(context, found.volume_id),
            before=None,
            recorded=(),
            on_host=result.leftovers,
            used_by=(),
            steps=(),
        )

    def _nothing_here(
        self, domain: typing.Any, found: Reservation, *, force: bool
    ) -> ForgetResult:
        disk = guest_disks.find(domain, found.volume_id)
        left: tuple[str, ...] = ()
        if disk is not None:
            target = guest_disks.target_of(disk)
            left = (f'disk {target} of guest {domain.name}',)
            if not force:
                raise exception.StillInUse(
                    volume_id=found.volume_id,
                    guest=domain.name,
                    reason=f'the guest has it as {target}',
                )
        return ForgetResult(
            guest=found.domain_name,
            guest_uuid=found.domain_uuid,
            volume_id=found.volume_id,
            driver_volume_type='',
            target=None,
            source='',
            operation=None if found.operation is None else str(found.operation),
            step=found.step or None,
            problem=found.problem or None,
            leftovers=left,
            seconds={},
            **paths_of(None),
        )


def _with_state(row: AttachedVolume, found: Reservation | None) -> AttachedVolume:
    """Return the row, with what is unfinished in Cinder where all else is well."""
    if found is None or found.is_settled or row.state not in ('attached', 'unrecorded'):
        return row
    return dataclasses.replace(row, state=_unfinished(found))


def _recorded_only(found: Reservation) -> AttachedVolume:
    return AttachedVolume(
        guest=found.domain_name,
        guest_uuid=found.domain_uuid,
        volume_id=found.volume_id,
        bus=None,
        target='',
        device='disk',
        source_type=None,
        source='',
        format=None,
        state=IN_CINDER_ONLY if found.is_settled else _unfinished(found),
    )


def _unfinished(found: Reservation) -> str:
    return f'{found.operation} unfinished' + (f' in step {found.step}' if found.step else '')
