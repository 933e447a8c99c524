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
import time
import typing

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
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
    from volumedrivers.libvirt.guest import Guest

#: gives a volume's connection_info with its secrets; None: it does not know
InfoOf = Callable[[Record], ConnectionInfo | None]

FINISHED = 'finished'
UNDONE = 'undone'
RECONNECTED = 'reconnected'
RUNNING = 'running'
FAILED = 'failed'


def recover(context: 'AttachmentContext', info_of: InfoOf) -> tuple[Outcome, ...]:
    """Go through all rows that need it; one that fails does not stop the others.

    :param info_of: asked where a volume has to be connected again
    :raises JournalUnusable, HypervisorUnavailable
    """
    return tuple(
        outcome
        for record in context.journal.find()
        if _needs_it(context, record)
        for outcome in _one(context, record, info_of)
    )


def finish(context: 'AttachmentContext', record: Record, held: 'Held') -> tuple[str, str]:
    """Finish or undo an unfinished row, with the lock of its volume held.

    :returns: what was done (finished, undone), and why
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


def _one(context: 'AttachmentContext', found: Record, info_of: InfoOf) -> typing.Iterator[Outcome]:
    started = time.monotonic()

    def outcome(record: Record, action: str, detail: str) -> Outcome:
        return Outcome(
            guest=record.domain_name,
            guest_uuid=record.domain_uuid,
            volume_id=record.volume_id,
            operation=None if record.operation is None else str(record.operation),
            step=record.step,
            action=action,
            detail=detail,
            seconds=round(time.monotonic() - started, 3),
        )

    try:
        held = context.lock_volume(found.volume_id, 'recover', found.domain_name, seconds=0)
    except exception.LockHeld as error:
        yield outcome(found, RUNNING, error.holder)
        return
    with held:
        record = context.journal.get(found.key)
        if record is None or not _needs_it(context, record):
            return  # somebody was faster
        try:
            if record.is_settled:
                action, detail = _after_reboot(context, record, held, info_of)
            else:
                action, detail = finish(context, record, held)
        except exception.VolumeDriversError as error:
            action, detail = FAILED, str(error)
        yield outcome(record, action, detail)


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
        if not guest.is_running():
            # Its definition has the disk, and had it before; the host side is
            # to be made again.
            job.settle(boot_id='', problem='not connected; reconnect it before the guest starts')
            return UNDONE, 'the guest does not run, and the volume is not connected'
    _, detail = _detach(context, record, guest, held, force=False)
    return UNDONE, detail


def _detach(
    context: 'AttachmentContext', record: Record, guest: 'Guest', held: 'Held', *, force: bool
) -> tuple[str, str]:
    job = Detach(context, guest, _info(record), record, held, force=force)
    job.find(None)
    result = job.result(steps.run(job, job.steps()))
    where = 'guest and host' if result.removed_from_guest else 'host'
    return FINISHED, f'removed from the {where}'


def _finish_connect(
    context: 'AttachmentContext', record: Record, guest: 'Guest', held: 'Held'
) -> tuple[str, str]:
    job = _Settle(context, guest, _info(record), record, held)
    if job.is_connected():
        job.settle(problem='', boot_id=context.boot_id)
        return FINISHED, 'the volume is connected'
    job.settle(boot_id='', problem='not connected')
    return UNDONE, 'the volume is not connected; "volumedrivers reconnect" does it'


def _finish_change(
    context: 'AttachmentContext', record: Record, guest: 'Guest', held: 'Held'
) -> tuple[str, str]:
    info = _info(record)
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
    disk = guest_disks.find(guest, record.volume_id)
    if disk is None:
        return _detach(context, record, guest, held, force=False)
    info = info_of(record)
    if info is None:
        info = _info(record)
        if info.secrets():
            raise exception.VolumeNotConnected(volume_id=record.volume_id)
    job = Reconnect(context, guest, info, record, held)
    job.find()
    steps.run(job, job.steps())
    return RECONNECTED, f'under {record.source}'


class _Settle(Work):
    """Looks whether an attachment is as its row says, and writes that."""

    operation = Operation.ATTACH

    def is_whole(self, disk: typing.Any) -> bool:
        """Tell whether the guest got what it was to get, in every definition."""
        return guest_disks.source_of(disk) == self.record.source and guest_disks.is_complete(
            self.guest, self.volume_id
        )

    def is_connected(self) -> bool:
        """Tell whether the recorded volume is what is there under its name."""
        return (
            self.volume is not None
            and self.record.boot_id == self.context.boot_id
            and self.found_identity() is not None
        )
