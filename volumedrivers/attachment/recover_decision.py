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

"""What is to be made of a row that needs recovery, by what is true on this host now.

Guest and host are looked at, and nothing is changed.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import typing

from volumedrivers.attachment import guest_disks
from volumedrivers.attachment import lookup
from volumedrivers.attachment import refresh_undo
from volumedrivers.attachment import swap
from volumedrivers.attachment.change import Extend
from volumedrivers.attachment.change import SetQos
from volumedrivers.attachment.connect_again import Reconnect
from volumedrivers.attachment.detach import Detach
from volumedrivers.attachment.host_volume import HostDisconnect
from volumedrivers.attachment.host_volume import HostExtend
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.refresh_undo import Abandon
from volumedrivers.attachment.swap import FinishSwap
from volumedrivers.attachment.swap import UndoSwap
from volumedrivers.attachment.work import Work
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.disk import IOTune

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.host.fair_lock import Held
    from volumedrivers.libvirt.disk import Disk
    from volumedrivers.libvirt.guest import Guest

#: gives a volume's connection_info with its secrets; None: it does not know
InfoOf = Callable[[Record], ConnectionInfo | None]

FINISHED = 'finished'
UNDONE = 'undone'
RECONNECTED = 'reconnected'
RUNNING = 'running'
FAILED = 'failed'


@dataclasses.dataclass(frozen=True)
class Decision:
    """What is to be made of a row.

    :ivar action: finished, undone or reconnected
    :ivar detail: why; of a detach, from where the volume is removed
    :ivar work: whose steps do it; a Settle has none, and writes the changes
    :ivar changes: what the row gets
    :ivar keeps_row: False where the row goes: of what was detached, and of what
        was attached by somebody else, which is not ours to keep a row of
    """

    action: str
    detail: str
    work: 'Detach | Extend | SetQos | Reconnect | Abandon | Settle | FinishSwap | UndoSwap'
    changes: Mapping[str, typing.Any] = dataclasses.field(default_factory=dict)
    keeps_row: bool = True

    def row_after(self) -> Record | None:
        """Return the row as it is when all has been done; None: it is gone."""
        if not self.keeps_row:
            return None
        return dataclasses.replace(
            self.work.record, operation=None, step='', wanted={}, **self.changes
        )


class Settle(Work):
    """Looks whether an attachment is as its row says, and writes that."""

    operation = Operation.ATTACH
    HOST_ONLY = True

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


def needs_it(context: 'AttachmentContext', record: Record) -> bool:
    """Tell whether something is to be made of a row at all.

    After a reboot, whoever manages the guest's disks brings them back.
    """
    return not record.is_settled or (record.boot_id != context.boot_id and not record.manager)


def of_unfinished(
    context: 'AttachmentContext', record: Record, held: 'Held | None' = None
) -> Decision:
    """Decide on an operation that was interrupted.

    :param held: the lock of the volume; None: it is only planned
    :raises VolumeDriversError: neither to finish nor to undo it is right
    """
    guest = _guest(context, record)
    decide = _of_host if record.manager else _of_operation
    return decide(context, record, guest, held)


def _of_operation(
    context: 'AttachmentContext', record: Record, guest: 'Guest', held: 'Held | None'
) -> Decision:
    if record.operation is Operation.ATTACH:
        return _of_attach(context, record, guest, held)
    if record.operation is Operation.DETACH:
        return _detach(context, record, guest, held, force=bool(record.wanted.get('force')))
    if record.operation in (Operation.RECONNECT, Operation.REPAIR):
        return _of_connect(context, record, guest, held)
    if record.operation is Operation.REFRESH:
        return _of_refresh(context, record, guest, held)
    if record.operation is Operation.SWAP:
        return _of_swap(swap.to_settle(context, guest, record, held))
    return _of_change(context, record, guest, held)


def after_reboot(
    context: 'AttachmentContext', record: Record, info_of: InfoOf, held: 'Held | None' = None
) -> Decision:
    """Decide on a settled row of another boot.

    The volumes of a persistent guest are brought back; what nobody has is removed.

    :raises InvalidOption: the credentials of the volume are needed
    :raises VolumeDriversError: it cannot be brought back
    """
    guest = _guest(context, record)
    if guest_disks.find(guest, record.volume_id) is None:
        return _detach(context, record, guest, held, force=False)
    info = lookup.connection_info_to_connect(record, info_of(record))
    job = Reconnect(context, guest, info, record, held)
    job.find()
    return Decision(RECONNECTED, f'under {record.source}', job)


def _guest(context: 'AttachmentContext', record: Record) -> 'Guest':
    guest = guest_disks.look_up(context.hypervisor, record.domain_uuid)
    # What QEMU has not answered yet is in no definition.
    guest.wait_until_idle()
    return guest


def _info(record: Record) -> ConnectionInfo:
    return ConnectionInfo.parse(record.connection_info)


def _of_attach(
    context: 'AttachmentContext', record: Record, guest: 'Guest', held: 'Held | None'
) -> Decision:
    disk = guest_disks.find(guest, record.volume_id)
    job = Settle(context, guest, _info(record), record, held)
    if disk is not None and (record.was_attached or job.is_whole(disk)):
        if job.is_connected():
            changes: dict[str, typing.Any] = {'was_attached': True, 'problem': ''}
            return Decision(FINISHED, f'guest {guest.name} has the volume', job, changes)
        if record.was_attached or job.is_void:
            # The guest keeps what it had before; the host side is to be made again.
            changes = {'was_attached': True, 'boot_id': '', 'problem': 'not connected'}
            return Decision(UNDONE, 'the volume is not connected', job, changes)
    return dataclasses.replace(_detach(context, record, guest, held, force=False), action=UNDONE)


def _of_host(
    context: 'AttachmentContext', record: Record, guest: 'Guest', held: 'Held | None'
) -> Decision:
    """Decide on a row of a volume whose disk is somebody else's: the guest is only looked at."""
    info = _info(record)
    settle = Settle(context, guest, info, record, held)
    if record.operation is Operation.EXTEND:
        if settle.is_void:
            problem = f'extend to {record.wanted.get("size")} was interrupted by a reboot'
            return Decision(UNDONE, problem, settle, {'problem': problem}, record.was_attached)
        grow = HostExtend(context, guest, info, record, held, size=record.wanted['size'])
        return Decision(FINISHED, 'extend was done again', grow, keeps_row=record.was_attached)
    has_it = guest_disks.find(guest, record.volume_id) is not None
    if record.operation is not Operation.DETACH and has_it and settle.is_connected():
        changes = {'was_attached': True, 'problem': ''}
        return Decision(FINISHED, f'guest {guest.name} has the volume', settle, changes)
    force = bool(record.wanted.get('force'))
    job = HostDisconnect(context, guest, info, record, held, force=force)
    action = FINISHED if record.operation is Operation.DETACH else UNDONE
    return Decision(action, removed_from(guest=False), job, keeps_row=False)


def _detach(
    context: 'AttachmentContext',
    record: Record,
    guest: 'Guest',
    held: 'Held | None',
    *,
    force: bool,
) -> Decision:
    job = Detach(context, guest, _info(record), record, held, force=force)
    job.find(None)
    return Decision(FINISHED, removed_from(guest=job.disk is not None), job, keeps_row=False)


def removed_from(*, guest: bool) -> str:
    """Say from where a volume was removed."""
    return f'removed from the {"guest and host" if guest else "host"}'


def _of_connect(
    context: 'AttachmentContext', record: Record, guest: 'Guest', held: 'Held | None'
) -> Decision:
    job = Settle(context, guest, _info(record), record, held)
    changes: dict[str, typing.Any] = {'problem': 'not connected'}
    if record.operation is not Operation.REPAIR:
        return Decision(UNDONE, 'the volume is not connected', job, changes | {'boot_id': ''})
    # Nothing was taken away, and what was added is the volume's.
    if job.is_connected():
        return Decision(FINISHED, 'the volume is connected', job, {'problem': ''})
    return Decision(FINISHED, 'the volume is not connected', job, changes)


def _of_swap(job: FinishSwap | UndoSwap) -> Decision:
    if isinstance(job, FinishSwap):
        return Decision(FINISHED, f'guest {job.guest.name} has gone on with the new place', job)
    return Decision(UNDONE, f'guest {job.guest.name} has what it had', job)


def _of_refresh(
    context: 'AttachmentContext', record: Record, guest: 'Guest', held: 'Held | None'
) -> Decision:
    info = _info(record)
    settle = Settle(context, guest, info, record, held)
    changes: dict[str, typing.Any] = {'problem': refresh_undo.AGAIN}
    if refresh_undo.was_connecting(record) and not guest.is_running():
        disks = guest.disks(persistent=True)
        disk = guest_disks.find_among(disks, record.volume_id)
        is_as_defined = disk is not None and guest_disks.source_of(disk) == record.source
        if refresh_undo.is_defined(record) and is_as_defined and settle.is_connected():
            return Decision(FINISHED, 'the volume is connected', settle, {'problem': ''})
        if record.step == 'disconnect' and settle.is_connected():
            return Decision(UNDONE, 'the volume is still connected', settle, changes)
        changes = {'boot_id': '', 'problem': refresh_undo.NOT_CONNECTED}
        job = Abandon(context, guest, info, record, held)
        return Decision(UNDONE, 'the volume is not connected', job, changes)
    # Nothing was taken away that the guest has; what was added the row names.
    if settle.is_void:
        changes = {'problem': refresh_undo.NOT_CONNECTED}
    return Decision(UNDONE, 'the guest has the volume as before', settle, changes)


def _of_change(
    context: 'AttachmentContext', record: Record, guest: 'Guest', held: 'Held | None'
) -> Decision:
    info, keeps_row = _info(record), record.was_attached
    settle = Settle(context, guest, info, record, held)
    problem = ''
    if guest_disks.find(guest, record.volume_id) is None:
        problem = f'guest {guest.name} does not have the volume any more'
    elif settle.is_void:
        wanted = ', '.join(f'{name} {value}' for name, value in record.wanted.items())
        problem = f'{record.operation} ({wanted}) was interrupted by a reboot'
    if problem:
        return Decision(UNDONE, problem, settle, {'problem': problem}, keeps_row)
    job: Extend | SetQos
    if record.operation is Operation.EXTEND:
        job = Extend(context, guest, info, record, held, size=record.wanted['size'])
    else:
        job = SetQos(context, guest, info, record, held, iotune=IOTune(**record.wanted['limits']))
    job.find(None)
    return Decision(FINISHED, f'{record.operation} was done again', job, keeps_row=keeps_row)
