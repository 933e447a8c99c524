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

"""What recover would do, row by row."""

from collections.abc import Iterator
import typing

from volumedrivers import exception
from volumedrivers.attachment import idle_mounts
from volumedrivers.attachment import plan
from volumedrivers.attachment import plan_change
from volumedrivers.attachment import plan_connect_again
from volumedrivers.attachment import plan_detach
from volumedrivers.attachment import plan_swap
from volumedrivers.attachment import recover
from volumedrivers.attachment import recover_decision
from volumedrivers.attachment.connect_again import Reconnect
from volumedrivers.attachment.detach import Detach
from volumedrivers.attachment.plan import PlannedOutcome
from volumedrivers.attachment.plan import PlannedStep
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.recover_decision import Decision
from volumedrivers.attachment.recover_decision import InfoOf
from volumedrivers.attachment.recover_decision import Settle
from volumedrivers.attachment.refresh_undo import Abandon
from volumedrivers.attachment.swap import FinishSwap
from volumedrivers.attachment.swap import UndoSwap

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.context import AttachmentContext


def recovering(context: 'AttachmentContext', info_of: InfoOf) -> tuple[PlannedOutcome, ...]:
    """Say for each row that needs it, and each mount, what recover would do.

    :param info_of: asked where a volume would have to be connected again
    :raises JournalUnusable: it cannot be read
    """
    return tuple(
        recover.each(
            context,
            lambda record: _one(context, record, info_of),
            lambda record, problem: _outcome(record, recover_decision.FAILED, problem),
            lambda: _mounts(context),
        )
    )


def _one(context: 'AttachmentContext', found: Record, info_of: InfoOf) -> Iterator[PlannedOutcome]:
    """:raises HypervisorUnavailable"""
    holder = plan.locked_by(context, found.volume_id)
    if holder is not None:
        yield _outcome(found, recover_decision.RUNNING, holder)
        return
    record: Record | None = found
    while record is not None and recover_decision.needs_it(context, record):
        try:
            decision = (
                recover_decision.after_reboot(context, record, info_of)
                if record.is_settled
                else recover_decision.of_unfinished(context, record)
            )
            steps = _steps(decision)
        except exception.HypervisorUnavailable:
            raise
        except Exception as error:
            problem = recover.problem_of(error, record)
            yield _outcome(record, recover_decision.FAILED, problem)
            return
        yield _outcome(record, decision.action, decision.detail, steps)
        if record.is_settled:
            return
        record = decision.row_after()


def _steps(decision: Decision) -> tuple[PlannedStep, ...]:
    work = decision.work
    if isinstance(work, Settle):
        path = work.context.journal.path
        return (
            PlannedStep(
                name='record',
                seconds=work.context.options.identify_timeout,
                locks=(),
                actions=(f'write to {path}: {decision.detail}',),
            ),
        )
    if isinstance(work, Detach):
        return plan.steps(work, plan_detach.actions(work))
    if isinstance(work, FinishSwap | UndoSwap):
        return plan.steps(work, plan_swap.actions(work))
    if isinstance(work, Reconnect):
        return plan.steps(work, plan_connect_again.actions(work))
    if isinstance(work, Abandon):
        lines = work.driver.plan_disconnect(work.info, work.record.key, volume=work.volume)
        return plan.steps(
            work, {'disconnect': lines, 'record': plan.settling(work, decision.detail)}
        )
    return plan.steps(work, plan_change.actions(work))


def _mounts(context: 'AttachmentContext') -> Iterator[PlannedOutcome]:
    try:
        idle = tuple(idle_mounts.look(context))
    except exception.VolumeDriversError as error:
        detail = f'shares that nobody uses cannot be looked for: {error}'
        yield _of_mount(recover_decision.FAILED, detail)
        return
    for share, problem in idle:
        what = f'{share.source} at {share.mount_point}'
        if problem is not None:
            yield _of_mount(recover_decision.FAILED, f'whether {what} is used: {problem}')
            continue
        step = PlannedStep(
            name='unmount',
            seconds=context.options.mount_timeout,
            locks=(),
            actions=(f'unmount {share.mount_point}', f'remove directory {share.mount_point}'),
        )
        yield _of_mount(recover_decision.FINISHED, f'nobody uses {what} any more', (step,))


def _of_mount(action: str, detail: str, steps: tuple[PlannedStep, ...] = ()) -> PlannedOutcome:
    seconds = sum(step.seconds for step in steps)
    outcome = idle_mounts.outcome(action, detail, seconds)
    return PlannedOutcome(**outcome.to_dict(), steps=steps)


def _outcome(
    record: Record, action: str, detail: str, steps: tuple[PlannedStep, ...] = ()
) -> PlannedOutcome:
    seconds = sum(step.seconds for step in steps)
    outcome = recover.outcome(record, action, detail, seconds)
    return PlannedOutcome(**outcome.to_dict(), steps=steps)
