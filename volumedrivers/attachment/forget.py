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

"""Take an attachment out of the journal, and touch nothing else."""

import time
import typing

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.results import ForgetResult
from volumedrivers.attachment.results import paths_of
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import deadline

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.libvirt.connected_volume import Remainder
    from volumedrivers.libvirt.guest import Guest


def forget(
    context: 'AttachmentContext', guest: 'Guest', record: Record, *, force: bool
) -> ForgetResult:
    """Remove the row.

    :param force: even if something of it is still there
    :raises StillInUse: the guest has the disk, or the host the device
    """
    seconds = {}
    started = time.monotonic()
    left: tuple[str, ...] = ()
    if force:
        left = what_is_left(context, guest, record)
    else:
        require_unused(context, guest, record)
    seconds['look'] = round(time.monotonic() - started, 3)
    started = time.monotonic()
    context.journal.remove(record.key)
    seconds['record'] = round(time.monotonic() - started, 3)
    return ForgetResult(
        guest=record.domain_name,
        guest_uuid=record.domain_uuid,
        volume_id=record.volume_id,
        driver_volume_type=record.driver_volume_type,
        target=record.target,
        source=record.source,
        operation=None if record.operation is None else str(record.operation),
        step=record.step or None,
        problem=record.problem or None,
        leftovers=left,
        seconds=seconds,
        **paths_of(record.volume),
    )


def require_unused(context: 'AttachmentContext', guest: 'Guest', record: Record) -> None:
    """Refuse to forget what is still there.

    :raises StillInUse: the guest has the disk, or the host the device
    """
    reason = None
    disk = guest_disks.find(guest, record.volume_id)
    if disk is not None:
        reason = f'the guest has it as {guest_disks.target_of(disk)}'
    elif left := _remains(context, record):
        reason = f'this host has {", ".join(map(str, left))}; detach it'
    if reason is not None:
        raise exception.StillInUse(
            volume_id=record.volume_id, guest=record.domain_name, reason=reason
        )


def what_is_left(context: 'AttachmentContext', guest: 'Guest', record: Record) -> tuple[str, ...]:
    """Say what stays where it is; also what cannot be known."""

    def look() -> tuple[str, ...]:
        disk = guest_disks.find(guest, record.volume_id)
        in_guest = (f'disk {guest_disks.target_of(disk)} of guest {guest.name}',) if disk else ()
        return (*in_guest, *map(str, _remains(context, record)))

    # A host that hangs, or a driver that is broken, is why somebody forgets.
    what = f'a look at what is left of volume {record.volume_id}'
    try:
        return deadline.call(look, what=what, seconds=context.options.prove_timeout)
    except Exception as error:
        return (f'not known: {error}',)


def _remains(context: 'AttachmentContext', record: Record) -> 'tuple[Remainder, ...]':
    info = ConnectionInfo.parse(record.connection_info)
    left = context.driver(info).remains(info, record.key, volume=record.volume)
    return left + context.encryptor.remains(record.volume_id, record.opened)
