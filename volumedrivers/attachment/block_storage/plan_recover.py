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

"""What recover would do with Cinder's side, row by row, after guest and host."""

from collections.abc import Iterator
from collections.abc import Mapping
import typing

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment import record
from volumedrivers.attachment import recover_decision
from volumedrivers.attachment.block_storage import settle
from volumedrivers.attachment.block_storage import settle_decision
from volumedrivers.attachment.block_storage.reservation import Operation
from volumedrivers.attachment.block_storage.reservation import Reservation
from volumedrivers.attachment.block_storage.settle_decision import Do
from volumedrivers.attachment.plan import PlannedOutcome
from volumedrivers.attachment.plan import PlannedStep
from volumedrivers.attachment.record import make_key

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.context import StorageContext
    from volumedrivers.connection_info import ConnectionInfo

_LEFT = (recover_decision.FAILED, recover_decision.RUNNING)
_WHY = {
    Do.COMPLETE: 'guest {guest} has the volume',
    Do.SETTLE: 'guest {guest} has the volume',
    Do.RELEASE: 'nothing of the volume is in the guest or on this host',
    Do.FORGET: 'Cinder has nothing of it',
}
_ACTION = {
    Do.COMPLETE: 'tell Cinder that attachment {attachment} is complete',
    Do.SETTLE: 'write that the volume is attached, and let it be in use in Cinder',
    Do.RELEASE: 'delete attachment {attachment} in Cinder',
    Do.FORGET: 'remove the reservation',
}


def recovering(
    context: 'StorageContext', infos: Mapping[str, 'ConnectionInfo'] | None = None
) -> tuple[PlannedOutcome, ...]:
    """Say what recover would do.

    :param context: that only looks
    :raises JournalUnusable
    """
    of_host = context.attachments.plan.recover(infos)
    # One that was interrupted before a reboot has two; the last counts.
    after = {make_key(one.guest_uuid, one.volume_id): one for one in of_host if one.volume_id}
    return (*of_host, *_each(context, after))


def _each(
    context: 'StorageContext', after: Mapping[str, PlannedOutcome]
) -> Iterator[PlannedOutcome]:
    for row in context.reservations.find():
        holder = context.locks.holder(f'reservation {row.volume_id}')
        of_host = after.get(row.key)
        if holder is not None:
            if not row.is_settled:
                yield _outcome(row, recover_decision.RUNNING, str(holder))
        elif of_host is not None and of_host.action in _LEFT:
            if not row.is_settled:
                detail = f'guest and host come first, and are not settled: {of_host.detail}'
                yield _outcome(row, of_host.action, detail)
        else:
            try:
                yield from _one(context, row, of_host)
            except exception.VolumeDriversError as error:
                yield _outcome(row, recover_decision.FAILED, str(error))


def _one(
    context: 'StorageContext', row: Reservation, of_host: PlannedOutcome | None
) -> Iterator[PlannedOutcome]:
    settle.require_same_cinder(context, row)
    if row.operation is Operation.MIGRATE:
        detail = 'by which of the two volumes the guest has'
        said = 'tell Cinder how the migration has ended'
        yield _outcome(row, recover_decision.FINISHED, detail, _step(context, said))
        return
    seen, attachment_id = settle.see(context, row, here=_is_here(context, row, of_host))
    done = settle_decision.decide(seen)
    if done is Do.NOTHING:
        return
    names = {'guest': row.domain_name, 'attachment': attachment_id}
    if done is Do.WAIT:
        detail = f'Cinder may still do what it was asked for in step {row.step}; wait for it'
        yield _outcome(row, recover_decision.FAILED, detail)
    elif done is Do.REPORT:
        detail = f'guest {row.domain_name} has the volume, and Cinder has lost its attachment'
        yield _outcome(row, recover_decision.FAILED, detail)
    else:
        undone = settle_decision.is_undone(seen, done)
        action = recover_decision.UNDONE if undone else recover_decision.FINISHED
        said = _ACTION[done].format_map(names)
        yield _outcome(row, action, _WHY[done].format_map(names), _step(context, said))


def _is_here(context: 'StorageContext', row: Reservation, of_host: PlannedOutcome | None) -> bool:
    """Tell whether guest or host have the volume when they are recovered."""
    if of_host is not None and of_host.operation is not None:
        undone = of_host.action == recover_decision.UNDONE
        if of_host.operation == record.Operation.ATTACH:
            return not undone
        if of_host.operation == record.Operation.DETACH:
            return undone
        return True
    if context.host.journal.get(row.key) is not None:
        return True
    guest = guest_disks.look_up(context.host.hypervisor, row.domain_uuid)
    return guest_disks.find(guest, row.volume_id) is not None


def _step(context: 'StorageContext', action: str) -> tuple[PlannedStep, ...]:
    return (
        PlannedStep(name='settle', seconds=context.request_timeout, locks=(), actions=(action,)),
    )


def _outcome(
    row: Reservation, action: str, detail: str, steps: tuple[PlannedStep, ...] = ()
) -> PlannedOutcome:
    return PlannedOutcome(
        guest=row.domain_name,
        guest_uuid=row.domain_uuid,
        volume_id=row.volume_id,
        # Of one that was not interrupted Cinder only has too much, or too little.
        operation=str(row.operation or Operation.DETACH),
        step=row.step,
        action=action,
        detail=detail,
        seconds=sum(step.seconds for step in steps),
        steps=steps,
    )
