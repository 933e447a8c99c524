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

import typing

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment.record import Record
from volumedrivers.connection_info import ConnectionInfo

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.libvirt.connected_volume import Remainder
    from volumedrivers.libvirt.guest import Guest


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
    try:
        disk = guest_disks.find(guest, record.volume_id)
        in_guest = (f'disk {guest_disks.target_of(disk)} of guest {guest.name}',) if disk else ()
        return (*in_guest, *map(str, _remains(context, record)))
    except exception.VolumeDriversError as error:
        return (f'not known: {error}',)


def _remains(context: 'AttachmentContext', record: Record) -> 'tuple[Remainder, ...]':
    info = ConnectionInfo.parse(record.connection_info)
    left = context.driver(info).remains(info, record.key, volume=record.volume)
    return left + context.encryptor.remains(record.volume_id, record.opened)
