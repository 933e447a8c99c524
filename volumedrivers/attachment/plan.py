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

"""What an operation would do: its steps, with the exact actions of each.

The steps are those that the operation itself would run.  What is done in each
is said by the modules ``plan_...``.
"""

from collections.abc import Mapping
import dataclasses
import typing

from volumedrivers.attachment.record import Record
from volumedrivers.attachment.results import Outcome
from volumedrivers.attachment.results import Result

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.attach import Attach
    from volumedrivers.attachment.change import Extend
    from volumedrivers.attachment.change import SetQos
    from volumedrivers.attachment.connect_again import Reconnect
    from volumedrivers.attachment.connect_again import Repair
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.attachment.detach import Detach
    from volumedrivers.attachment.refresh import Refresh
    from volumedrivers.attachment.refresh_undo import Abandon
    from volumedrivers.attachment.swap import FinishSwap
    from volumedrivers.attachment.swap import UndoSwap

    Planned = (
        Attach
        | Detach
        | Extend
        | SetQos
        | Reconnect
        | Repair
        | Refresh
        | Abandon
        | FinishSwap
        | UndoSwap
    )

_NOTHING = 'nothing to do'


@dataclasses.dataclass(frozen=True)
class PlannedStep:
    """A step that would be run.

    :ivar seconds: how long it may take
    :ivar locks: what it would have for itself meanwhile
    :ivar actions: what would be done, in order; nothing of it is secret
    """

    name: str
    seconds: float
    locks: tuple[str, ...]
    actions: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Plan(Result):
    """What an operation would do.

    :ivar target: the guest's disk
    :ivar lock: what would be locked for the whole of it
    :ivar locked_by: who has that lock now
    :ivar before: what would be done first, with an interrupted operation
    :ivar recorded: what the journal says of the volume on this host
    :ivar on_host: what of it is on this host now
    :ivar used_by: other guests that have the volume
    :ivar xml: the disk that libvirt would be given
    :ivar problem: why it would fail, where it is one of several
    """

    operation: str
    guest: str
    guest_uuid: str
    volume_id: str
    driver_volume_type: str
    target: str | None
    lock: str
    locked_by: str | None
    before: str | None
    recorded: tuple[str, ...]
    on_host: tuple[str, ...]
    used_by: tuple[str, ...]
    steps: tuple[PlannedStep, ...]
    xml: str | None = None
    problem: str | None = None


@dataclasses.dataclass(frozen=True)
class PlannedOutcome(Outcome):
    """What recover would do with one attachment, or with one mount.

    :ivar seconds: how long it may take
    """

    steps: tuple[PlannedStep, ...] = ()


def make(
    job: 'Planned',
    actions: Mapping[str, tuple[str, ...]],
    *,
    target: str | None,
    before: str | None,
    xml: str | None = None,
) -> Plan:
    """Return the plan of an operation that has looked at everything.

    :param actions: of each of its steps, by name
    :param before: what would be done first, with an interrupted operation
    """
    context, record = job.context, job.record
    remains = job.driver.remains(
        job.info, record.key, volume=job.volume
    ) + context.encryptor.remains(job.volume_id, record.opened)
    return Plan(
        operation=str(job.operation),
        guest=job.guest.name,
        guest_uuid=job.guest.uuid,
        volume_id=job.volume_id,
        driver_volume_type=job.info.driver_volume_type,
        target=target,
        lock=context.volume_lock(job.volume_id),
        locked_by=locked_by(context, job.volume_id),
        before=before,
        recorded=recorded(job.before),
        on_host=tuple(map(str, remains)),
        used_by=tuple(sorted(job.others())),
        steps=steps(job, actions),
        xml=xml,
    )


def of_record(
    context: 'AttachmentContext',
    record: Record,
    operation: str,
    *,
    problem: str | None = None,
    before: str | None = None,
    on_host: tuple[str, ...] = (),
    steps: tuple[PlannedStep, ...] = (),
) -> Plan:
    """Return the plan of what has to do with a row of the journal only."""
    return Plan(
        operation=operation,
        guest=record.domain_name,
        guest_uuid=record.domain_uuid,
        volume_id=record.volume_id,
        driver_volume_type=record.driver_volume_type,
        target=record.target,
        lock=context.volume_lock(record.volume_id),
        locked_by=locked_by(context, record.volume_id),
        before=before,
        recorded=recorded(record),
        on_host=on_host,
        used_by=(),
        steps=steps,
        problem=problem,
    )


def steps(job: 'Planned', actions: Mapping[str, tuple[str, ...]]) -> tuple[PlannedStep, ...]:
    """Return the steps that the operation would run, with what is done in each."""
    return tuple(
        PlannedStep(
            name=step.name,
            seconds=step.seconds,
            locks=step.locks,
            actions=actions[step.name] or (_NOTHING,),
        )
        for step in job.steps()
        if step.needed
    )


def locked_by(context: 'AttachmentContext', volume_id: str) -> str | None:
    """Say who has the lock of a volume now."""
    holder = context.locks.holder(context.volume_lock(volume_id))
    return None if holder is None else str(holder)


def when(*, running: bool) -> str:
    """Say which definitions of a guest are changed."""
    return 'while it runs and for its next start' if running else 'for its next start'


def interrupted(record: Record | None, then: str) -> str | None:
    """Say where the operation of a row has stopped, if it has.

    :param then: what becomes of it
    """
    if record is None or record.is_settled:
        return None
    problem = f' ({record.problem})' if record.problem else ''
    return f'{record.operation} began and stopped in step {record.step or "none"}{problem}; {then}'


def recorded(record: Record | None) -> tuple[str, ...]:
    """Say what the journal knows of a volume."""
    if record is None or record.volume is None:
        return ()
    volume = record.volume
    facts = [
        f'{volume.source_type} {record.source or volume.path or ""}'.rstrip(),
        f'multipath map {volume.multipath_id}' if volume.multipath_id else '',
        f'{volume.paths.found} of {volume.paths.asked} paths',
        f'identity {volume.identity}' if volume.identity is not None else '',
    ]
    if record.opened is not None:
        facts.append(f'encrypted with {record.opened.provider}, opened by {record.opened.by}')
    return tuple(fact for fact in facts if fact)


def where(record: Record) -> str:
    """Say under which name a volume is known to the guest."""
    volume = record.volume
    return record.source or (volume.path or '' if volume is not None else '')


def comparing(record: Record) -> tuple[str, ...]:
    """Say what is done to be sure that it still is the recorded volume."""
    volume = record.volume
    if volume is None or volume.identity is None or volume.identity.kind == 'path':
        return ()  # its name is all that it is known by
    return (f'make sure that {where(record)} still is {volume.identity}',)


def settling(job: 'Planned', what: str) -> tuple[str, ...]:
    """Say what is written in the end."""
    return (f'write to {job.context.journal.path} that {what}',)
