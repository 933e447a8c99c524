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

"""Decide what is done about a volume that is, or may be, reached another way now."""

from collections.abc import Callable
from collections.abc import Mapping
import os
import typing

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment import refresh_kinds
from volumedrivers.attachment.refresh_kinds import Family
from volumedrivers.attachment.refresh_kinds import How
from volumedrivers.libvirt import share_file

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.attachment.record import Record
    from volumedrivers.connection_info import ConnectionInfo
    from volumedrivers.libvirt.guest import Guest

_OF_A_DEVICE = (Family.PATHS, Family.DEVICE, Family.MAPPING)
# What a snapshot changes of a file that a guest has open.
_BY_SNAPSHOT = frozenset(('name', 'format'))


class Change(typing.NamedTuple):
    """What was recorded, and what is said now.

    :ivar changed: keys that say that the volume is reached another way
    """

    before: 'Record'
    old: 'ConnectionInfo'
    new: 'ConnectionInfo'
    changed: tuple[str, ...]


def decide(
    context: 'AttachmentContext',
    guest: 'Guest',
    change: Change,
    others: Callable[[], Mapping[str, str]],
) -> tuple[Family, How]:
    """Return what kind of source it is, and what is to be done.

    :param others: returns the other guests that have it, and their disk's type
    :raises NotRecorded: it was never connected
    :raises RefreshRefused: nothing can be done while it is in use
    :raises IdentityMismatch: it is named otherwise
    """
    before, old, new, changed = change
    volume = before.volume
    if volume is None:
        raise exception.NotRecorded(volume=before.volume_id, guest=guest.name)
    refresh_kinds.require_same_volume(old, new, volume)
    family = refresh_kinds.family(volume, new, context.registry.context.devices)
    running = guest.is_running()
    in_use = running or (family in _OF_A_DEVICE and 'block' in others().values())
    how = refresh_kinds.how(family, old, new, in_use=in_use)
    is_here = before.boot_id == context.boot_id
    # Something may be new that does not show.
    is_worth_it = how is not How.REFUSE and bool(before.problem or new.secrets())
    if not changed and is_here and not is_worth_it:
        return family, How.RECORD
    if family is Family.SHARE and running and _has_the_file(guest, change):
        return family, How.RECORD
    if how is How.REFUSE:
        reason = refresh_kinds.REASONS.get(family, 'its new paths lead to another device')
        if not running:
            reason = f'{reason}, and other guests of this host have it'
        raise exception.RefreshRefused(volume_id=before.volume_id, guest=guest.name, reason=reason)
    return family, how


def _has_the_file(guest: 'Guest', change: Change) -> bool:
    """Tell whether the guest has been given the file already, by a snapshot."""
    if not _BY_SNAPSHOT.issuperset(change.changed):
        return False
    name = share_file.share_data(change.new).name
    disk = guest_disks.find(guest, change.before.volume_id)
    path = None if disk is None else disk.path
    return path is not None and os.path.basename(path) == os.path.basename(name)
