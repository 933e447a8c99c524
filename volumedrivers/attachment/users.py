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
from volumedrivers.host import mount_table
from volumedrivers.host.path_walk import PathWalk
from volumedrivers.host.path_walk import is_within

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.journal import Journal
    from volumedrivers.attachment.record import Record
    from volumedrivers.libvirt.guest_sources import DiskSources
    from volumedrivers.libvirt.guest_sources import GuestSources
    from volumedrivers.libvirt.hypervisor import Hypervisor


class Users:
    """Answers from the journal and from libvirt; what neither can say is an error.

    A guest that is defined and does not run is a user like any other, and so
    is a definition that names something only for the next start.  What the
    journal says of an earlier boot of this host counts for nothing.
    """

    def __init__(self, journal: 'Journal', hypervisor: 'Hypervisor') -> None:
        self._journal = journal
        self._hypervisor = hypervisor

    def of_volume(
        self, volume_id: str, domain_uuid: str, record: 'Record | None' = None
    ) -> dict[str, str]:
        """Return the other guests of this host that have the volume.

        :param domain_uuid: the guest that is not meant
        :param record: tells under which paths the volume is on this host; who
            names one of them has the volume, whatever its disk is called
        :returns: the type of the disk's source (block, file, network) by guest
            name
        :raises HypervisorUnavailable, HypervisorError, JournalUnusable
        """
        paths: frozenset[str] = frozenset() if record is None else paths_of(record)
        devices = {os.path.realpath(path) for path in paths if path.startswith('/dev/')}
        users: dict[str, str] = {
            other.domain_name: other.volume.source_type
            for other in self._rows()
            if other.domain_uuid != domain_uuid
            and other.volume is not None
            and (other.volume_id == volume_id or paths & paths_of(other))
        }
        for guest in self._guests(but=domain_uuid):
            types = {
                disk.type
                for disk in guest.disks
                if guest_disks.volume_id_of(disk) == volume_id
                or not paths.isdisjoint((disk.source, *disk.below))
                or not devices.isdisjoint(_devices_of(disk))
            }
            if types:
                # Who has the device as well as a file has the device.
                users[guest.name] = 'block' if 'block' in types else types.pop()
        return users

    def live_disk(self, domain_uuid: str, paths: frozenset[str]) -> str | None:
        """Return the target of a running guest's disk that is one of these paths.

        Also of one that has it below, or is being copied to it.

        :returns: None: it has no such disk, does not run, or is not there
        :raises HypervisorUnavailable, HypervisorError: libvirt could not say
        """
        devices = {os.path.realpath(path) for path in paths if path.startswith('/dev/')}
        try:
            guest = self._hypervisor.guest(domain_uuid).sources()
        except exception.GuestNotFound:
            return None
        for disk in guest.disks:
            if not disk.live:
                continue
            known = {os.path.realpath(path) for path in disk.paths if path.startswith('/dev/')}
            if not paths.isdisjoint((disk.source, *disk.paths)) or known & devices:
                return disk.target
        return None

    def of_directory(self, directory: str, attachment: str) -> frozenset[str]:
        """Return the guests that have something in a directory, or all of it.

        That is any path that their definitions name: images and what is below
        them, directories of virtiofs, whatever they are called by now.

        :param attachment: the use that is about to end; it begins with its key
        :raises HypervisorUnavailable, HypervisorError, JournalUnusable
        :raises HostUnreadable: the mount table cannot be read
        """
        try:
            walk = PathWalk(mount_table.read())
        except OSError as error:
            raise exception.HostUnreadable(
                what='/proc/self/mountinfo', reason=error.strerror or str(error)
            ) from error
        real = walk.resolve(directory)

        def has(path: str) -> bool:
            return is_within(path, directory) or is_within(walk.resolve(path), real)

        rows = self._rows()
        recorded = {
            record.domain_name
            for record in rows
            if not _is_of(attachment, record.key)
            and record.volume is not None
            and has(record.volume.path or '')
        }
        # What this package itself has put into a guest it takes out first.
        managed = any(record.manager and _is_of(attachment, record.key) for record in rows)
        return frozenset(recorded).union(
            guest.name
            for guest in self._guests()
            if any(map(has, _paths_but_of(guest, attachment) if managed else guest.paths))
        )

    def _rows(self) -> 'tuple[Record, ...]':
        now = boot.current()
        return tuple(record for record in self._journal.find() if record.boot_id == now)

    def _guests(self, *, but: str | None = None) -> 'Iterator[GuestSources]':
        for guest in self._hypervisor.guests():
            if guest.uuid == but:
                continue
            try:
                yield guest.sources()
            except exception.GuestNotFound:
                continue  # it went while we looked


def paths_of(record: 'Record') -> frozenset[str]:
    """Return the paths under which a volume, or its decrypted view, is here."""
    volume, opened = record.volume, record.opened
    found = (
        record.source,
        None if volume is None else volume.path,
        None if opened is None else opened.path,
    )
    return frozenset(path for path in found if path and path.startswith('/'))


def _devices_of(disk: 'DiskSources') -> set[str]:
    # One device has many names.  Nothing but links is read: a path of a file
    # could hang.
    return {
        os.path.realpath(path)
        for path in (disk.source, *disk.below)
        if disk.type == 'block' and path.startswith('/dev/')
    }


def _paths_but_of(guest: 'GuestSources', attachment: str) -> frozenset[str]:
    """Return a guest's paths, without those of the disk whose use is about to end.

    Who lets go of a volume before the guest's definition is changed, as Nova
    does, would keep its own share mounted.
    """
    domain_uuid, _, volume = attachment.partition('/')
    if guest.uuid != domain_uuid:
        return guest.paths
    volume_id = volume.partition('/')[0]
    ending: set[str] = set()
    other: set[str] = set()
    for disk in guest.disks:
        (ending if guest_disks.volume_id_of(disk) == volume_id else other).update(disk.paths)
    return guest.paths - (ending - other)


def _is_of(attachment: str, key: str) -> bool:
    return attachment == key or attachment.startswith(f'{key}/')
