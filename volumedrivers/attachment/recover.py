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

"""Finish or undo what was interrupted, by what is true on this host now.

Only rows of the journal are looked at.  A row whose volume is locked belongs to
an operation that runs, and is left alone.  ``recover_decision`` says what is to
be made of each; here it is done.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import time
import typing

from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.attachment import former_work
from volumedrivers.attachment import idle_mounts
from volumedrivers.attachment import recover_decision
from volumedrivers.attachment import steps
from volumedrivers.attachment.detach import Detach
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.recover_decision import FAILED
from volumedrivers.attachment.recover_decision import RUNNING
from volumedrivers.attachment.recover_decision import Decision
from volumedrivers.attachment.recover_decision import InfoOf
from volumedrivers.attachment.recover_decision import Settle
from volumedrivers.attachment.results import Outcome
from volumedrivers.connection_info import ConnectionInfo

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.reservation import Reservation
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.host.fair_lock import Held

LOG = logging.getLogger(__name__)

# What may also be done with a volume that is not recorded.
_CHANGES = (Operation.EXTEND, Operation.QOS)

_Said = typing.TypeVar('_Said')


def recover(context: 'AttachmentContext', info_of: InfoOf) -> tuple[Outcome, ...]:
    """Go through all rows that need it; one that fails does not stop the others.

    A row may have two outcomes: what was interrupted is settled, and then the
    volume is connected again after a reboot.

    :param info_of: asked where a volume has to be connected again
    :raises JournalUnusable: it cannot be read
    """
    return tuple(
        each(
            context,
            lambda record: _one(context, record, info_of),
            lambda record, problem: outcome(record, FAILED, problem, 0.0),
            lambda: idle_mounts.remove(context),
        )
    )


def each(
    context: 'AttachmentContext',
    one: Callable[[Record], Iterable[_Said]],
    failed: Callable[[Record, str], _Said],
    mounts: Callable[[], Iterable[_Said]],
) -> Iterator[_Said]:
    """Go through the rows that need recovery, and then through the mounts.

    :param one: for a row; may raise HypervisorUnavailable
    :param failed: for a row of which libvirt can say nothing, and why
    :raises JournalUnusable: it cannot be read
    """
    without_libvirt = ''
    for record in context.journal.find():
        if not recover_decision.needs_it(context, record):
            continue
        if without_libvirt:
            # Each would wait as long again for a daemon that says nothing.
            yield failed(record, without_libvirt)
            continue
        try:
            yield from one(record)
        except exception.HypervisorUnavailable as error:
            without_libvirt = str(error)
            yield failed(record, without_libvirt)
    if not without_libvirt:
        yield from mounts()


def finish(context: 'AttachmentContext', record: Record, held: 'Held') -> tuple[str, str]:
    """Finish or undo an unfinished row, with the lock of its volume held.

    :returns: what was done (finished, undone, failed), and why
    :raises Busy: a program that the operation ran is still at work
    :raises VolumeDriversError: neither could be done; the row stays
    """
    try:
        former_work.wait(
            context,
            record,
            ConnectionInfo.parse(record.connection_info),
            force=bool(record.wanted.get('force')),
        )
        return _carry_out(recover_decision.of_unfinished(context, record, held))
    except exception.RetryLater as error:
        if record.operation in _CHANGES:
            # It was interrupted, and not given up by whoever wanted it.
            context.journal.put(dataclasses.replace(record, problem=str(error)))
        raise
    finally:
        _forget_what_is_not_ours(context, record)


def problem_of(error: Exception, row: 'Record | Reservation') -> str:
    """Say why nothing could be made of a row; the other rows have their turn all the same."""
    if isinstance(error, exception.VolumeDriversError):
        return '; '.join([str(error), *getattr(error, '__notes__', ())])
    # A driver's mistake, or ours, is not to keep the other volumes waiting.
    LOG.error('Looking after volume %s failed', row.volume_id, exc_info=error)
    return f'{type(error).__name__}: {error}'


def outcome(row: 'Record | Reservation', action: str, detail: str, seconds: float) -> Outcome:
    """Return what was made of a row of either table."""
    return Outcome(
        guest=row.domain_name,
        guest_uuid=row.domain_uuid,
        volume_id=row.volume_id,
        operation=None if row.operation is None else str(row.operation),
        step=row.step,
        action=action,
        detail=detail,
        seconds=round(seconds, 3),
    )


def _one(context: 'AttachmentContext', found: Record, info_of: InfoOf) -> Iterator[Outcome]:
    """:raises HypervisorUnavailable"""
    try:
        held = context.lock_volume(found.volume_id, 'recover', found.domain_name, seconds=0)
    except exception.LockHeld as error:
        yield outcome(found, RUNNING, error.holder, 0.0)
        return
    with held:
        record = context.journal.get(found.key)
        # What was interrupted, and then what a reboot took away.
        while record is not None and recover_decision.needs_it(context, record):
            started = time.monotonic()
            LOG.info('recovering volume %s of guest %s', record.volume_id, record.domain_name)
            action, detail = _done_for(context, record, held, info_of)
            yield outcome(record, action, detail, time.monotonic() - started)
            was_settled = record.is_settled
            record = context.journal.get(found.key)
            if was_settled or record is None or not record.is_settled:
                return


def _done_for(
    context: 'AttachmentContext', record: Record, held: 'Held', info_of: InfoOf
) -> tuple[str, str]:
    try:
        if record.is_settled:
            return _carry_out(recover_decision.after_reboot(context, record, info_of, held))
        return finish(context, record, held)
    except exception.HypervisorUnavailable:
        raise
    except exception.LockHeld as error:
        return RUNNING, f'waits for {error.lock}: {error.holder}'
    except Exception as error:
        return FAILED, problem_of(error, record)


def _carry_out(decision: Decision) -> tuple[str, str]:
    """Do it; return what was done, and why."""
    work = decision.work
    if isinstance(work, Settle):
        work.settle(**decision.changes)
        return decision.action, decision.detail
    seconds = steps.run(work, work.steps())
    if not isinstance(work, Detach):
        return decision.action, decision.detail
    result = work.result(seconds)
    if result.leftovers:
        return FAILED, f'left behind: {", ".join(result.leftovers)}'
    # It may have had the disk only once QEMU had answered.
    return decision.action, recover_decision.removed_from(guest=result.removed_from_guest)


def _forget_what_is_not_ours(context: 'AttachmentContext', record: Record) -> None:
    """Remove the row of a change to a volume that somebody else attached, once it is settled."""
    if record.operation not in _CHANGES or record.was_attached:
        return
    now = context.journal.get(record.key)
    if now is not None and now.is_settled:
        context.journal.remove(record.key)
