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

"""Who uses a volume, or a share, on this host: journal and guests, nobody else."""

from collections.abc import Iterator
import os
import typing

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.host import boot

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.journal import Journal
    from volumedrivers.libvirt.guest import Guest
    from volumedrivers.libvirt.hypervisor import Hypervisor


class Users:
    """Answers from the journal and from libvirt; what neither can say is an error."""

    def __init__(self, journal: 'Journal', hypervisor: 'Hypervisor') -> None:
        self._journal = journal
        self._hypervisor = hypervisor

    def of_volume(self, volume_id: str, domain_uuid: str) -> dict[str, str]:
        """Return the other guests of this host that have the volume.

        :param domain_uuid: the guest that is not meant
        :returns: the type of the disk's source (block, file, network) by guest
            name
        :raises HypervisorUnavailable, HypervisorError, JournalUnusable
        """
        users = {
            record.domain_name: record.volume.source_type
            for record in self._journal.find(volume_id=volume_id)
            if record.domain_uuid != domain_uuid and record.volume is not None
        }
        users.update(guest_disks.other_users(self._hypervisor, volume_id, domain_uuid))
        return users

    def of_directory(self, directory: str, attachment: str) -> frozenset[str]:
        """Return the guests that have something below a directory.

        :param attachment: the use that is about to end; it begins with its key
        :raises HypervisorUnavailable, HypervisorError, JournalUnusable
        """
        recorded = {
            record.domain_name
            for record in self._journal.find()
            if record.boot_id == boot.current()
            and record.volume is not None
            and _is_below(record.volume.path or '', directory)
            and not attachment.startswith(record.key)
        }
        return frozenset(recorded).union(
            guest.name
            for guest in self._hypervisor.guests()
            if any(_is_below(path, directory) for path in _paths_of(guest))
        )


def _paths_of(guest: 'Guest') -> Iterator[str]:
    try:
        disks = tuple(guest_disks.disks_of(guest))
    except exception.GuestNotFound:
        return  # it went while we looked
    for disk in disks:
        if disk.path:
            yield disk.path


def _is_below(path: str, directory: str) -> bool:
    return path.startswith(directory.rstrip(os.sep) + os.sep)
