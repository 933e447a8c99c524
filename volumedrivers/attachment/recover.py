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
an operation that runs, and is left alone.
"""

from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
import time
import typing

from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment import idle_mounts
from volumedrivers.attachment import steps
from volumedrivers.attachment.change import Extend
from volumedrivers.attachment.change import SetQos
from volumedrivers.attachment.connect_again import Reconnect
from volumedrivers.attachment.detach import Detach
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.results import Outcome
from volumedrivers.attachment.work import Work
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.disk import IOTune

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.host.fair_lock import Held
    from volumedrivers.libvirt.disk import Disk
    from volumedrivers.libvirt.guest import Guest

LOG = logging.getLogger(__name__)

#: gives a volume's connection_info with its secrets; None: it does not know
InfoOf = Callable[[Record], ConnectionInfo | None]

FINISHED = 'finished'
UNDONE = 'undone'
RECONNECTED = 'reconnected'
RUNNING = 'running'
FAILED = 'failed'


def recover(context: 'AttachmentContext', info_of: InfoOf) -> tuple[Outcome, ...]:
    """Go through all rows that need it; one that fails does not stop the others.

    A row may have two outcomes: what was interrupted is settled, and then the
    volume is connected again after a reboot.

    :param info_of: asked where a volume has to be connected again
    :raises JournalUnusable: it cannot be read
    """
    outcomes: list[Outcome] = []
    without_libvirt = ''
    for record in context.journal.find():
        if not _needs_it(context, record):
            continue
        if without_libvirt:
            # Each would wait as long again for a daemon that says nothing.
            outcomes.append(_outcome(record, FAILED, without_libvirt, 0.0))
            continue
        try:
            outcomes.extend(_one(context, record, info_of))
        except exception.HypervisorUnavailable as error:
            without_libvirt = str(error)
            outcomes.append(_outcome(record, FAILED, without_libvirt, 0.0))
    if not without_libvirt:
        outcomes.extend(idle_mounts.remove(context))
    return tuple(outcomes)


def finish(context: 'AttachmentContext', record: Record, held: 'Held') -> tuple[str, str]:
    """Finish or undo an unfinished row, with the lock of its volume held.

    :returns: what was done (finished, undone, failed), and why
    :raises VolumeDriversError: neither could be done; the row stays
    """
    guest = guest_disks.look_up(context.hypervisor, record.domain_uuid)
    # What QEMU has not answered yet is in no definition.
    guest.wait_until_idle()
    if record.operation is Operation.ATTACH:
        return _finish_attach(context, record, guest, held)
    if record.operation is Operation.DETACH:
        return _detach(context, record, guest, held, force=bool(record.wanted.get('force')))
    if record.operation in (Operation.RECONNECT, Operation.REPAIR):
        return _finish_connect(context, record, guest, held)
    return _finish_change(context, record, guest, held)


def _needs_it(context: 'AttachmentContext', record: Record) -> bool:
    return not record.is_settled or record.boot_id != context.boot_id


def _outcome(record: Record, action: str, detail: str, seconds: float) -> Outcome:
    return Outcome(
        guest=record.domain_name,
        guest_uuid=record.domain_uuid,
        volume_id=record.volume_id,
        operation=None if record.operation is None else str(record.operation),
        step=record.step,
        action=action,
        detail=detail,
        seconds=round(seconds, 3),
    )


def _one(context: 'AttachmentContext', found: Record, info_of: InfoOf) -> Iterator[Outcome]:
    """:raises HypervisorUnavailable"""
    try:
        held = context.lock_volume(found.volume_id, 'recover', found.domain_name, seconds=0)
    except exception.LockHeld as error:
        yield _outcome(found, RUNNING, error.holder, 0.0)
        return
    with held:
        record = context.journal.get(found.key)
        # What was interrupted, and then what a reboot took away.
        while (
            record is not None and _needs_it(context, record) and action not in (FAILED, RUNNING)
        ):
            started = time.monotonic()
            LOG.info('recovering volume %s of guest %s', record.volume_id, record.domain_name)
            action, detail = _done_for(context, record, held, info_of)
            yield _outcome(record, action, detail, time.monotonic() - started)
            was_settled = record.is_settled
            record = context.journal.get(found.key)
            if was_settled or record is None or not record.is_settled:
                return


def _done_for(
    context: 'AttachmentContext', record: Record, held: 'Held', info_of: InfoOf
) -> tuple[str, str]:
    try:
        if record.is_settled:
            return _after_reboot(context, record, held, info_of)
        return finish(context, record, held)
    except exception.HypervisorUnavailable:
        raise
    except exception.LockHeld as error:
        return RUNNING, f'waits for {error.lock}: {error.holder}'
    except exception.VolumeDriversError as error:
        return FAILED, '; '.join([str(error), *getattr(error, '__notes__', ())])
    except Exception as error:
        # A driver's mistake is not to keep the other volumes waiting.
        LOG.exception('Recovery of volume %s failed', record.volume_id)
        return FAILED, f'{type(error).__name__}: {error}'


def _info(record: Record) -> ConnectionInfo:
    return ConnectionInfo.parse(record.connection_info)


def _finish_attach(
    context: 'AttachmentContext', record: Record, guest: 'Guest', held: 'Held'
) -> tuple[str, str]:
    disk = guest_disks.find(guest, record.volume_id)
    job = _Settle(context, guest, _info(record), record, held)
    if disk is not None and (record.was_attached or job.is_whole(disk)):
        if job.is_connected():
            job.settle(was_attached=True, problem='')
            return FINISHED, f'guest {guest.name} has the volume'
        if record.was_attached or job.is_void:
            # The guest keeps what it had before; the host side is to be made again.
            job.settle(was_attached=True, boot_id='', problem='not connected')
            return UNDONE, 'the volume is not connected'
    action, detail = _detach(context, record, guest, held, force=False)
    return (UNDONE if action == FINISHED else action), detail


def _detach(
    context: 'AttachmentContext', record: Record, guest: 'Guest', held: 'Held', *, force: bool
) -> tuple[str, str]:
    job = Detach(context, guest, _info(record), record, held, force=force)
    job.find(None)
    result = job.result(steps.run(job, job.steps()))
    if result.leftovers:
        return FAILED, f'left behind: {", ".join(result.leftovers)}'
    where = 'guest and host' if result.removed_from_guest else 'host'
    return FINISHED, f'removed from the {where}'


def _finish_connect(
    context: 'AttachmentContext', record: Record, guest: 'Guest', held: 'Held'
) -> tuple[str, str]:
    job = _Settle(context, guest, _info(record), record, held)
    if record.operation is Operation.REPAIR:
        # Nothing was taken away, and what was added is the volume's.
        is_connected = job.is_connected()
        job.settle(problem='' if is_connected else 'not connected')
        return FINISHED, f'the volume is {"" if is_connected else "not "}connected'
    job.settle(boot_id='', problem='not connected')
    return UNDONE, 'the volume is not connected'


def _finish_change(
    context: 'AttachmentContext', record: Record, guest: 'Guest', held: 'Held'
) -> tuple[str, str]:
    try:
        return _change(context, record, guest, held)
    except exception.RetryLater as error:
        # It was interrupted, and not given up by whoever wanted it.
        context.journal.put(dataclasses.replace(record, problem=str(error)))
        raise
    finally:
        now = context.journal.get(record.key)
        if now is not None and now.is_settled and not record.was_attached:
            # It was attached by somebody else, and is not ours to keep a row of.
            context.journal.remove(record.key)


def _change(
    context: 'AttachmentContext', record: Record, guest: 'Guest', held: 'Held'
) -> tuple[str, str]:
    info = _info(record)
    settle = _Settle(context, guest, info, record, held)
    if guest_disks.find(guest, record.volume_id) is None:
        settle.settle(problem=f'guest {guest.name} does not have the volume any more')
        return UNDONE, settle.record.problem
    if settle.is_void:
        wanted = ', '.join(f'{name} {value}' for name, value in record.wanted.items())
        settle.settle(problem=f'{record.operation} ({wanted}) was interrupted by a reboot')
        return UNDONE, settle.record.problem
    job: Extend | SetQos
    if record.operation is Operation.EXTEND:
        job = Extend(context, guest, info, record, held, size=record.wanted['size'])
    else:
        job = SetQos(context, guest, info, record, held, iotune=IOTune(**record.wanted['limits']))
    job.find(None)
    steps.run(job, job.steps())
    return FINISHED, f'{record.operation} was done again'


def _after_reboot(
    context: 'AttachmentContext', record: Record, held: 'Held', info_of: InfoOf
) -> tuple[str, str]:
    """Bring the volumes of a persistent guest back; remove what nobody has."""
    guest = guest_disks.look_up(context.hypervisor, record.domain_uuid)
    guest.wait_until_idle()
    if guest_disks.find(guest, record.volume_id) is None:
        return _detach(context, record, guest, held, force=False)
    info = info_of(record)
    if info is None:
        info = _info(record)
        if info.secrets():
            raise exception.InvalidOption(
                option='connection_info',
                found='missing',
                expected=f'that of volume {record.volume_id}, whose credentials are not recorded',
            )
    job = Reconnect(context, guest, info, record, held)
    job.find()
    steps.run(job, job.steps())
    return RECONNECTED, f'under {record.source}'


class _Settle(Work):
    """Looks whether an attachment is as its row says, and writes that."""

    operation = Operation.ATTACH

    @property
    def is_void(self) -> bool:
        """Whether the host side was made before this host started."""
        return self.record.boot_id != self.context.boot_id

    def is_whole(self, disk: 'Disk') -> bool:
        """Tell whether the guest got what it was to get, in every definition."""
        return guest_disks.source_of(disk) == self.record.source and guest_disks.is_complete(
            self.guest, self.volume_id
        )

    def is_connected(self) -> bool:
        """Tell whether the recorded volume is what is there under its name.

        :raises IdentityMismatch: it is another one
        """
        if self.volume is None or self.is_void:
            return False
        return self.found_identity() is not None or self.volume.identity is None
