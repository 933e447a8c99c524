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

"""Look whether an attachment is as its row of the journal says."""

from collections.abc import Iterator
import os
import shlex
import typing

from volumedrivers import exception
from volumedrivers.attachment import audit_facts
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment import refresh_undo
from volumedrivers.attachment.audit_findings import RowFindings
from volumedrivers.attachment.results import Finding
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import deadline
from volumedrivers.host import device_route

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.audit_facts import Facts
    from volumedrivers.attachment.record import Record
    from volumedrivers.host.block_device import DevicePaths
    from volumedrivers.libvirt.connected_volume import ConnectedVolume
    from volumedrivers.libvirt.guest_sources import DiskSources
    from volumedrivers.libvirt.guest_sources import GuestSources

# What a hard reboot does to a volume of a guest that Nova manages.
_OF_NOVA = frozenset(('attach', 'reconnect', 'volume refresh'))
# What BlockDevices reads; other kinds of identity the driver knows.
_OF_DEVICES = frozenset(('wwn', 'nguid', 'uuid'))


def of_row(facts: 'Facts', row: 'Record') -> Iterator[Finding]:
    """Yield what is wrong with one attachment."""
    look = _Row(facts, row)
    if not row.is_settled:
        yield look.unfinished()
    elif not facts.is_here(row):
        yield look.void()
    else:
        yield from look.guest()
        yield from look.volume()
        yield from look.opened()
        if row.problem:
            verb = 'volume refresh' if row.problem == refresh_undo.AGAIN else 'show'
            yield look.note(
                'last-problem',
                row.source,
                row.problem,
                f'{"Run" if verb != "show" else "Look at"} "{look.command(verb)}".',
            )


class _Row(RowFindings['Record']):
    """One row, beside what is known of this host."""

    def __init__(self, facts: 'Facts', row: 'Record') -> None:
        super().__init__(row)
        self.facts = facts
        self._guest = facts.guests.get(row.domain_uuid)

    def command(self, verb: str) -> str:
        """Return what to type to do something with this attachment."""
        # By its UUID also a guest is found that is gone or was renamed.
        known = self._guest is not None and self._guest.name == self.row.domain_name
        guest = self.row.domain_name if known else self.row.domain_uuid
        if self.row.manager == 'nova' and verb in _OF_NOVA:
            return f'openstack server reboot --hard {self.row.domain_uuid}'
        return f'volumedrivers {verb} {shlex.quote(guest)} {shlex.quote(self.row.volume_id)}'

    def unfinished(self) -> Finding:
        """Say whether the operation runs, or was interrupted."""
        row = self.row
        step = f'step {row.step!r} of {row.operation}' if row.step else str(row.operation)
        holder = self.facts.context.locks.holder(f'volume {row.volume_id}')
        if holder is not None:
            return self.note(
                'running', f'row {row.key}', f'{step}: {holder}', 'Wait until it has ended.'
            )
        why = row.problem or 'the process ended'
        return self.problem(
            'unfinished',
            f'row {row.key}',
            f'{step} did not end: {why}',
            'Run "volumedrivers recover".',
        )

    def void(self) -> Finding:
        """Say that nothing of this boot is known of it."""
        gone = self._guest is None
        if self.row.manager:
            manager = self.row.manager
            return self.note(
                'earlier-boot',
                f'row {self.row.key}',
                'it was connected before this host started',
                f'Run "{self.command("forget")}" if {manager} knows no such guest.'
                if gone
                else f'Nothing has to be done: {manager} connects it when it starts the guest.',
            )
        abandoned = self.row.problem == refresh_undo.NOT_CONNECTED
        verb = 'volume refresh' if abandoned else 'reconnect'
        return self.problem(
            'earlier-boot',
            f'row {self.row.key}',
            (self.row.problem or 'it was connected before this host started')
            + ('; the guest is gone' if gone else ''),
            'Run "volumedrivers recover"'
            + ('.' if gone else f', or "{self.command(verb)}" before the guest starts.'),
        )

    def guest(self) -> Iterator[Finding]:
        """Compare what the guest has with what it was given."""
        row, guest = self.row, self._guest
        if guest is None:
            yield self.problem(
                'guest-gone',
                row.source,
                f'libvirt has no guest {row.domain_name} ({row.domain_uuid}) any more',
                self._take_off(),
            )
            return
        disks = [
            disk for disk in guest.disks if guest_disks.volume_id_of(disk) == row.volume_id
        ] or [disk for disk in guest.disks if row.source and disk.source == row.source]
        if not disks:
            yield self.problem(
                'not-in-guest',
                row.source,
                f'guest {guest.name} has no disk of the volume',
                self._take_off(),
            )
            return
        if not row.manager:
            # Who manages the guest makes its definition anew for each start.
            yield from self._half(guest, disks)
        yield from self._other_source(guest, disks)

    def volume(self) -> Iterator[Finding]:
        """Look for the volume on this host."""
        volume = self.row.volume
        if volume is None:
            return
        if volume.source is not None:
            yield from self._network(volume)
        elif volume.source_type == 'file' and volume.path is not None:
            yield from self._file(volume, volume.path)
        elif volume.path is not None:
            yield from self._block(volume, volume.path)

    def opened(self) -> Iterator[Finding]:
        """Look for what decrypts the volume."""
        opened = self.row.opened
        if opened is None:
            return
        again = 'Stop the guest, then detach the volume and attach it again.'
        if opened.secret_uuid is not None and opened.secret_uuid not in self.facts.secrets:
            yield self.problem(
                'secret-gone',
                f'secret {opened.secret_uuid}',
                'libvirt has the passphrase of the volume no more; the guest cannot start with it',
                f'Run "{self.command("reconnect")}".',
            )
        if opened.path is not None and not os.path.exists(opened.path):
            yield self.problem(
                'decrypted-gone', opened.path, 'the decrypted device is not there', again
            )

    def _take_off(self) -> str:
        run = f'"{self.command("detach")}" to take the volume off this host.'
        if not self.row.manager:
            return f'Run {run}'
        return f'Unless {self.row.manager} is just about to start or change the guest, run {run}'

    def _half(self, guest: 'GuestSources', disks: 'list[DiskSources]') -> Iterator[Finding]:
        has = {disk.live for disk in disks}
        if guest.is_running and True not in has:
            yield self.problem(
                'half-in-guest',
                self.row.source,
                'the guest gets the disk at its next start, and has not got it now',
                f'Run "{self.command("detach")}", then attach it again.',
            )
        elif guest.is_running and guest.is_persistent and False not in has:
            yield self.problem(
                'half-in-guest',
                self.row.source,
                'the guest has the disk, and loses it at its next start',
                'Attach it once more ("volumedrivers attach"), which completes it.',
            )

    def _other_source(
        self, guest: 'GuestSources', disks: 'list[DiskSources]'
    ) -> Iterator[Finding]:
        source = self.row.source
        if not source or '***' in source:
            return
        # A snapshot puts a new image over the recorded one; the next start's
        # definition names the new one alone.
        over = {disk.source for disk in disks if source in disk.below}
        for disk in disks:
            if disk.source == source:
                continue
            beside = os.path.dirname(disk.source) == os.path.dirname(source)
            if disk.source in over or (disk.type == 'file' and beside):
                yield self.note(
                    'snapshot',
                    disk.source,
                    f'guest {guest.name} writes to an image over {source}',
                    'Nothing has to be done; the share stays mounted.',
                )
            else:
                yield self.problem(
                    'other-source',
                    disk.source or 'nothing',
                    f'disk {disk.target} of guest {guest.name} is called volume '
                    f'{self.row.volume_id}, which was given to it as {source}',
                    f'Stop the guest ("virsh destroy {shlex.quote(guest.name)}") until it is '
                    'known whose device that is.',
                )
            return

    def _network(self, volume: 'ConnectedVolume') -> Iterator[Finding]:
        source = volume.source
        assert source is not None  # noqa: S101
        if source.secret_uuid is not None and source.secret_uuid not in self.facts.secrets:
            yield self.problem(
                'secret-gone',
                f'secret {source.secret_uuid}',
                f'libvirt has no secret any more with which QEMU opens {self.row.source}',
                f'Run "{self.command("reconnect")}".',
            )
        silent = [
            f'{failed.name}: {self.facts.answers.get(failed.name, failed.reason)}'
            for failed in volume.paths.failed
            if self.facts.answers.get(failed.name) != ''
        ]
        if silent:
            yield self.note(
                'degraded',
                self.row.source,
                f'of {volume.paths.asked} endpoints {len(silent)} do not answer: '
                + ', '.join(silent),
                'Look at these servers.',
            )

    def _file(self, volume: 'ConnectedVolume', path: str) -> Iterator[Finding]:
        place = audit_facts.mount_place(self.facts, self.row)
        if place is None:
            yield self.problem(
                'mount-gone',
                self.facts.places.get(self.row.key) or path,
                f'the share with {path} is not mounted any more',
                f'Stop the guest and run "{self.command("reconnect")}".',
            )
            return
        answer = self.facts.shares.get(place)
        if answer is None or answer.problem:
            return  # said once, of the mount
        found = answer.inodes.get(path)
        recorded = None if volume.identity is None else volume.identity.value.rpartition('#')[2]
        if found is None:
            yield self.problem(
                'file-gone',
                path,
                'there is no such file',
                'Find out who has moved it; the guest may still have it open.',
            )
        elif recorded and recorded.isdecimal() and int(recorded) != found:
            yield self.problem(
                'other-identity',
                path,
                f'it is another file (inode {found}) than the one recorded ({volume.identity})',
                'Do not start the guest until it is known whose file that is.',
            )

    def _block(self, volume: 'ConnectedVolume', path: str) -> Iterator[Finding]:
        devices = self.facts.devices
        try:
            found = self._identity(volume, path)
            size = devices.size(path)
            paths = devices.paths(path)
        except exception.VolumeNotConnected:
            yield self.problem(
                'device-gone',
                path,
                'there is no such device on this host',
                f'Run "{self.command("detach")}", or "{self.command("repair")}" if the guest '
                'still needs it.',
            )
            return
        except exception.VolumeDriversError as error:
            yield self.problem(
                'unknown', path, f'it could not be read: {error}', 'Run the audit again.'
            )
            return
        for name in paths.names:
            # sysfs has what the disk was when the kernel found it.
            now = self.facts.changed_disks.get(name)
            found = found if now is None else str(now)
        if volume.identity is not None and found not in (None, str(volume.identity)):
            yield self.problem(
                'other-identity',
                path,
                f'it is another device ({found}) than the one recorded ({volume.identity})',
                'Stop the guest at once: it writes to another volume. Then run '
                f'"{self.command("show")}".',
            )
            return
        if volume.identity is not None and found is None:
            yield self.problem(
                'unknown',
                path,
                f'it does not say what it is; {volume.identity} is recorded',
                f'Run "{self.command("show")}".',
            )
        yield from self._paths(volume, path, paths)
        yield from self._size(volume, path, size)

    def _identity(self, volume: 'ConnectedVolume', path: str) -> str | None:
        """Return what the device is, as identities are written."""
        identity = volume.identity
        if identity is None:
            return None
        if identity.kind in _OF_DEVICES:
            found = self.facts.devices.identity(path)
            return None if found is None else ':'.join(found)
        info = ConnectionInfo.parse(self.row.connection_info)
        driver = self.facts.context.driver(info)
        answer = deadline.call(
            lambda: driver.current_identity(info, volume),
            what=path,
            seconds=self.facts.context.options.identify_timeout,
        )
        if answer is None:
            raise exception.VolumeNotConnected(volume_id=self.row.volume_id)
        return str(answer)

    def _paths(
        self, volume: 'ConnectedVolume', path: str, there: 'DevicePaths'
    ) -> Iterator[Finding]:
        broken = dict(there.failed)
        working = len(there.names) - len(broken)
        asked = volume.paths.asked
        failed = [f'{_way(name)} is {state}' for name, state in there.failed]
        if working >= asked and not failed:
            if volume.degraded:
                yield self.note(
                    'paths-back',
                    path,
                    f'all {asked} paths are there; {volume.paths.found} were when it was attached',
                    f'Run "{self.command("repair")}" to have that recorded.',
                )
            return
        back = []
        for one in volume.paths.failed:
            answer = self.facts.answers.get(one.name)
            if answer == '':
                back.append(f'{one.name} answers again')
            elif one.name not in there.names:
                failed.append(f'{one.name}: {answer or one.reason}')
        detail = f'{working} of {asked} paths work: ' + ', '.join([*back, *failed])
        if not working:
            yield self.problem(
                'no-path',
                path,
                detail,
                f'Look at the storage and the network, then run "{self.command("repair")}".',
            )
        elif working < asked:
            yield self.problem(
                'degraded',
                path,
                detail.removesuffix(': '),
                f'Run "{self.command("repair")}"' + ('.' if back else ' when they are back.'),
            )
        else:
            yield self.note(
                'failed-paths',
                path,
                detail,
                'Look at the storage and the network; the kernel tries again by itself.',
            )

    def _size(self, volume: 'ConnectedVolume', path: str, size: int) -> Iterator[Finding]:
        """Compare the host's size with the guest's, where the two can be."""
        capacity = self.facts.capacities.get((self.row.domain_uuid, self.row.target or ''))
        opened = self.row.opened
        if capacity is None or volume.format != 'raw':
            return
        if opened is not None and opened.by != 'storage' and not opened.header_size:
            return
        seen = capacity + (0 if opened is None else opened.header_size)
        if seen < size:
            yield self.problem(
                'size',
                path,
                f'the guest sees {seen} bytes, and this host {size}',
                f'Run "{self.command("extend")} {size}".',
            )
        elif seen > size:
            yield self.problem(
                'size',
                path,
                f'the guest sees {seen} bytes, and this host only {size}',
                'Find out whether the volume was shrunk or a path was not scanned; writes beyond '
                'its end fail.',
            )


def _way(name: str) -> str:
    """Return a device with the portal behind it."""
    route = device_route.find(name)
    return name if route.portal is None else f'{name} ({route.portal})'
