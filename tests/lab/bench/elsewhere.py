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

"""The bench on a host that somebody else uses too: guests with names of its own."""

from collections.abc import Mapping
import contextlib
import fcntl
import pathlib
import typing

from tests.lab.bench import bench
from tests.lab.bench import guests
from tests.lab.storage.backend import Unreachable
from volumedrivers import exception
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests as testing_guests
from volumedrivers.testing.guests import GuestShell
from volumedrivers.testing.qemu_io import GuestIO

PREFIX = 'volumedrivers-lab-'
BOOT_TIMEOUT = 300.0  # seconds


class NamedGuests(Hypervisor):
    """A libvirt where the lab's two guests have a longer name."""

    def guest(self, name: str) -> Guest:
        return super().guest(libvirt_name(name))


class PausedGuest(guests.PausedGuest):
    """A guest without an operating system, whose QEMU logs into a directory."""

    def __init__(self, guest: Guest, logs: pathlib.Path) -> None:
        super().__init__(guest)
        self.logs = logs

    def _io(self) -> GuestIO:
        log = self.logs / f'{self.guest.name}.log'
        return GuestIO(self.guest, lambda: log.read_text(errors='replace'))


class LinuxGuest(guests.LinuxGuest):
    """A guest with the small Linux, whose serial line is in a directory."""

    def __init__(self, guest: Guest, sockets: pathlib.Path) -> None:
        super().__init__(guest)
        self.sockets = sockets

    @contextlib.contextmanager
    def shell(self) -> typing.Iterator[GuestShell]:
        shell = GuestShell.connect(
            self.guest.name, self.sockets / f'{self.guest.name}.sock', timeout=guests.TIMEOUT
        )
        try:
            yield shell
        finally:
            shell.close()


class BenchElsewhere(bench.Bench):
    """As Bench.

    :param place: ``logs`` (directory where QEMU of the guests logs), ``sockets``
        (directory of their serial lines), ``linux`` (the first has a small Linux)
    """

    def __init__(self, place: Mapping[str, typing.Any], **arguments: typing.Any) -> None:
        self._place = place
        super().__init__(**arguments)

    def detach(self, *arguments: typing.Any, **named: typing.Any) -> dict[str, typing.Any]:
        """As Bench, with the guests' names as the tests know them."""
        result = super().detach(*arguments, **named)
        users = [name.removeprefix(PREFIX) for name in result.get('still_used_by', ())]
        return {**result, 'still_used_by': users}

    def _make_hypervisor(self, uri: str) -> Hypervisor:
        return NamedGuests(uri)

    def _guest(self, name: str) -> guests.LabGuest:
        guest = self.hypervisor.guest(name)
        if name == guests.LINUX and self._place['linux']:
            return LinuxGuest(guest, pathlib.Path(self._place['sockets']))
        return PausedGuest(guest, pathlib.Path(self._place['logs']))

    def _linux(self) -> guests.LinuxGuest:
        guest = self._guest(guests.LINUX)
        if not isinstance(guest, guests.LinuxGuest):
            raise Unreachable('the guest on this host has no operating system')
        return guest


class Guests:
    """Starts the two guests, and removes them; a session of the RPC.

    There is one at a time on a host, whoever runs the lab there.

    :param uri: of libvirt
    :param place: as for the bench; ``state`` is a directory of this host
    :raises Busy: there is one already
    """

    def __init__(self, uri: str, place: Mapping[str, typing.Any]) -> None:
        state = pathlib.Path(place['state'])
        state.mkdir(parents=True, exist_ok=True)
        self._lock = (state / 'lab.lock').open('w')
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise exception.Busy(
                what=str(state), reason='another run of the lab uses it'
            ) from None
        self.hypervisor = NamedGuests(uri)
        self.hypervisor.__enter__()
        self._place = place

    def close(self) -> None:
        """Let go of libvirt."""
        self.hypervisor.__exit__(None, None, None)

    def start(self) -> None:
        """Start both; what is left of those of an earlier run is removed."""
        self.remove()
        first, second = (libvirt_name(name) for name in (guests.LINUX, guests.SECOND))
        if self._place['linux']:
            sockets = pathlib.Path(self._place['sockets'])
            sockets.mkdir(parents=True, exist_ok=True)
            linux = testing_guests.CooperatingGuest(
                self.hypervisor, sockets, first, boot_timeout=BOOT_TIMEOUT
            )
            linux.__enter__()
            linux.close()
        else:
            testing_guests.start_guest(self.hypervisor, first, persistent=True)
        testing_guests.start_guest(self.hypervisor, second, persistent=True)

    def remove(self) -> None:
        """Remove both.

        :raises HypervisorError: one has a disk, which only a detach may take from it
        """
        for name in (guests.LINUX, guests.SECOND):
            try:
                guest = self.hypervisor.guest(name)
            except exception.GuestNotFound:
                continue
            disks = guest.disks()
            if disks:
                raise exception.HypervisorError(
                    action=f'remove guest {guest.name}',
                    reason='it has the disks of volumes '
                    + ', '.join(str(disk.serial) for disk in disks)
                    + '; detach them with volumedrivers detach',
                )
            testing_guests.remove_guest(guest)


def libvirt_name(name: str) -> str:
    """Return the name in libvirt of a guest as the tests call it."""
    return f'{PREFIX}{name}' if name in (guests.LINUX, guests.SECOND) else name
