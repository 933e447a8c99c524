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

"""The guests of the lab: what they see of a disk, and what they read and write there.

``linux`` runs a small Linux and answers on a serial line; ``second`` has no
operating system and is paused: QEMU reads and writes for it, at its device.
Both keep running from one test to the next.
"""

import abc
import contextlib
import hashlib
import pathlib
import typing

from tests.lab.waiting import wait_until
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing.guests import GuestShell
from volumedrivers.testing.qemu_io import GuestIO

DIRECTORY = pathlib.Path('/run/lab')
QEMU_LOGS = pathlib.Path('/var/log/libvirt/qemu')
LINUX = 'linux'
SECOND = 'second'

# A guest in a guest, both emulated.
TIMEOUT = 90.0  # seconds


def pattern(byte: int, length: int) -> bytes:
    """Return what ``write`` leaves."""
    return bytes([byte]) * length


class LabGuest(abc.ABC):
    """A guest whose disks can be tried, each by the id of its volume."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest

    @abc.abstractmethod
    def write(self, volume_id: str, byte: int, offset: int, length: int) -> None:
        """Write one byte again and again, and flush.

        :raises VolumeDriversError: the guest could not
        """

    @abc.abstractmethod
    def reads(self, volume_id: str, byte: int, offset: int, length: int) -> bool:
        """Say whether the guest reads this byte all over, past its cache."""

    @abc.abstractmethod
    def size(self, volume_id: str) -> int:
        """Return the size in bytes that the guest sees."""

    def disk(self, volume_id: str) -> typing.Any:
        """Return the live disk of a volume."""
        return next(disk for disk in self.guest.disks() if disk.serial == volume_id)


class LinuxGuest(LabGuest):
    """The one with a Linux in it."""

    @contextlib.contextmanager
    def shell(self) -> typing.Iterator[GuestShell]:
        shell = GuestShell.connect(
            self.guest.name, DIRECTORY / f'{self.guest.name}.sock', timeout=TIMEOUT
        )
        try:
            yield shell
        finally:
            shell.close()

    def write(self, volume_id: str, byte: int, offset: int, length: int) -> None:
        with self.shell() as shell:
            device = shell.device_of(volume_id, timeout=TIMEOUT)
            block = _block(offset, length)
            shell.check(
                f"head -c {length} /dev/zero | tr '\\0' '\\{byte:03o}' | dd of=/dev/{device}"
                f' bs={block} seek={offset // block} conv=notrunc,fsync 2>/tmp/dd',
                timeout=TIMEOUT,
            )

    def reads(self, volume_id: str, byte: int, offset: int, length: int) -> bool:
        with self.shell() as shell:
            device = shell.device_of(volume_id, timeout=TIMEOUT)
            block = _block(offset, length)
            found = shell.check(
                'echo 3 >/proc/sys/vm/drop_caches;'
                f' dd if=/dev/{device} bs={block} skip={offset // block}'
                f' count={length // block} 2>/tmp/dd | sha256sum',
                timeout=TIMEOUT,
            )
        return found.split()[0] == hashlib.sha256(pattern(byte, length)).hexdigest()

    def size(self, volume_id: str) -> int:
        with self.shell() as shell:
            device = shell.device_of(volume_id, timeout=TIMEOUT)
            return 512 * int(shell.check(f'cat /sys/block/{device}/size', timeout=TIMEOUT))

    def is_read_only(self, volume_id: str) -> bool:
        with self.shell() as shell:
            device = shell.device_of(volume_id, timeout=TIMEOUT)
            return shell.check(f'cat /sys/block/{device}/ro', timeout=TIMEOUT) == '1'

    def begin_writing(self, volume_id: str) -> None:
        """Let the guest write numbered blocks of 512 bytes, each flushed, until told to stop."""
        with self.shell() as shell:
            device = shell.device_of(volume_id, timeout=TIMEOUT)
            shell.check('rm -f /tmp/stop /tmp/written')
            shell.check(
                '( i=0; while [ ! -e /tmp/stop ]; do'
                f" printf '%08d' $i | dd of=/dev/{device} bs=512 seek=$i conv=notrunc,sync,fsync"
                ' 2>/dev/null || break; i=$((i+1)); echo >>/tmp/written; done;'
                ' echo >/tmp/stopped ) </dev/null >/dev/null 2>&1 &'
            )

    def written(self) -> int:
        """Return how many blocks were written and flushed until now."""
        with self.shell() as shell:
            return int(shell.check('cat /tmp/written 2>/dev/null | wc -c'))

    def end_writing(self) -> int:
        """Stop writing; return how many blocks there are."""
        with self.shell() as shell:
            shell.check('echo >/tmp/stop')
        wait_until(self._has_stopped, 'the guest to end writing', timeout=TIMEOUT)
        return self.written()

    def _has_stopped(self) -> bool:
        with self.shell() as shell:
            code, _ = shell.run('rm /tmp/stopped 2>/dev/null', timeout=TIMEOUT)
        return code == 0


class PausedGuest(LabGuest):
    """The one without an operating system."""

    def write(self, volume_id: str, byte: int, offset: int, length: int) -> None:
        self._io().write(self.disk(volume_id).alias, byte, offset, length)

    def reads(self, volume_id: str, byte: int, offset: int, length: int) -> bool:
        try:
            self._io().read(self.disk(volume_id).alias, byte, offset, length)
        except Exception as error:
            if 'Pattern verification failed' in str(error):
                return False
            raise
        return True

    def size(self, volume_id: str) -> int:
        domain = self.guest.hypervisor.domain(self.guest.uuid)
        return int(domain.blockInfo(self.disk(volume_id).target.dev)[0])

    def _io(self) -> GuestIO:
        log = QEMU_LOGS / f'{self.guest.name}.log'
        return GuestIO(self.guest, lambda: log.read_text(errors='replace'))


def find(hypervisor: Hypervisor, name: str) -> LabGuest:
    """Return one of the guests."""
    guest = hypervisor.guest(name)
    return LinuxGuest(guest) if name == LINUX else PausedGuest(guest)


def _block(offset: int, length: int) -> int:
    """Return the largest block that divides both, for dd."""
    block = 65536
    while offset % block or length % block:
        block //= 2
    return block
