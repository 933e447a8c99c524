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

"""Block devices that a vendor's client makes on its host, here loop devices of files.

The device comes into being when the volume is mapped and is gone from the
kernel when it is unmapped; udev gives it the vendor's names, as the vendor's
rules do.
"""

from collections.abc import Iterator
import contextlib
import errno
import fcntl
import os
import pathlib
import struct
import subprocess
import threading

from tests.lab.storage import loop
from tests.lab.storage.configfs import read
from tests.lab.storage.records import smallest_free
from tests.lab.waiting import wait_until

RULES = pathlib.Path('/etc/udev/rules.d/61-lab-standins.rules')
NAMER = pathlib.Path('/usr/local/lib/volumedrivers-lab/standin-names')

# The vendor's program that udev asks is a file beside the volume's here.
_NAMER = """\
#!/bin/sh
# Stand-in of the programs by which vendors' udev rules name devices.
read -r file 2>/dev/null <"/sys/block/$1/loop/backing_file" || exit 1
exec 2>/dev/null
read -r names <"$file.names" && echo "$names"
"""
_RULE = (
    'SUBSYSTEM=="block", KERNEL=="loop*", ACTION!="remove",'
    f' PROGRAM=="{NAMER} %k", SYMLINK+="%c"\n'
)

# linux/loop.h, linux/fs.h
_CLR_FD = 0x4C01
_SET_STATUS64 = 0x4C04
_SET_CAPACITY = 0x4C07
_CONFIGURE = 0x4C0A
_CTL_ADD = 0x4C80
_CTL_REMOVE = 0x4C81
_BLKROSET = 0x125D
_STATUS = struct.Struct('=5Q4I64s64s32s2Q')

# Those below are for anybody.
_FIRST = 64
_DEADLINE = 60.0  # seconds
_FOR_EVER = 86400.0


class InUse(Exception):
    """The device cannot go: these have it open."""


class ClientDevice:
    """A volume's file as a block device of this host, while it is mapped.

    :ivar image: the file
    :ivar names: below /dev, which udev gives it
    """

    def __init__(self, image: pathlib.Path, names: tuple[str, ...]) -> None:
        self.image = image
        self.names = names

    def kernel_name(self) -> str | None:
        """Return such as loop64; None: it is not there."""
        found = loop.find(self.image)
        return None if found is None else found.name

    def appear(self, *, read_only: bool = False) -> str:
        """Let it come into being under its names; return the kernel's name.

        :raises WaitedInVain: udev did not name it
        """
        install_rules()
        self._names_file.write_text(' '.join(self.names) + '\n')
        name = self.kernel_name()
        if name is None:
            name = self._bind()
        with opened(pathlib.Path('/dev', name)) as device:
            fcntl.ioctl(device, _BLKROSET, struct.pack('i', read_only))
        wait_until(
            lambda: all(_leads_to(each, name) for each in self.names),
            f'udev to call {name} {" and ".join(self.names)}',
            timeout=_DEADLINE,
        )
        return name

    def disappear(self, *, force: bool = False) -> None:
        """Let it be gone; once more is fine.

        :param force: even if somebody has it open: every access fails from now
            on, and the device goes with its names when the last one closes it
        :raises InUse: without force
        """
        name = self.kernel_name()
        if name is None:
            self._names_file.unlink(missing_ok=True)
            return
        users = self.users()
        if users and not force:
            raise InUse(', '.join(users))
        with opened(pathlib.Path('/dev', name)) as device:
            if users:
                # Nothing lies behind the first sector any more.
                fcntl.ioctl(device, _SET_STATUS64, _status(size_limit=512))
            fcntl.ioctl(device, _CLR_FD)
        if users:
            threading.Thread(target=self._remove, args=(name, None), daemon=True).start()
        else:
            self._remove(name, _DEADLINE)

    def notice_size(self) -> None:
        """Take on the file's size, if the device is there."""
        name = self.kernel_name()
        if name is not None:
            with opened(pathlib.Path('/dev', name)) as device:
                fcntl.ioctl(device, _SET_CAPACITY)

    def users(self) -> list[str]:
        """Return who has it open, or stands on it, one line each."""
        name = self.kernel_name()
        if name is None:
            return []
        number = os.stat(f'/dev/{name}').st_rdev
        holders = sorted(
            path.name for path in pathlib.Path(f'/sys/block/{name}/holders').iterdir()
        )
        return [f'{name} is below {holder}' for holder in holders] + list(_openers(number))

    def _remove(self, name: str, timeout: float | None) -> None:
        """Take the device out of the kernel once nobody has it open; wait for its names to go.

        :param timeout: seconds; None: for as long as it takes
        """
        seconds = timeout or _FOR_EVER
        wait_until(lambda: _is_removed(name), f'{name} to be closed by all', timeout=seconds)
        self._names_file.unlink(missing_ok=True)
        wait_until(
            lambda: not any(os.path.lexists(f'/dev/{each}') for each in self.names),
            f'udev to take the names of {name} away',
            timeout=_DEADLINE,
        )

    @property
    def _names_file(self) -> pathlib.Path:
        return self.image.with_name(f'{self.image.name}.names')

    def _bind(self) -> str:
        with opened(loop.CONTROL) as control, opened(self.image) as file:
            taken = {int(path.name[4:]) for path in loop.BLOCK.glob('loop*')}
            while True:
                number = smallest_free(taken, _FIRST)
                try:
                    fcntl.ioctl(control, _CTL_ADD, number)
                except FileExistsError:
                    # Another process was faster.
                    taken.add(number)
                    continue
                break
            node = pathlib.Path(f'/dev/loop{number}')
            wait_until(node.is_block_device, f'{node} to be there')
            with opened(node) as device:
                fcntl.ioctl(device, _CONFIGURE, loop.configuration(file, self.image))
        return node.name


def install_rules() -> None:
    """Let udev name the devices."""
    NAMER.parent.mkdir(parents=True, exist_ok=True)
    if not NAMER.exists() or NAMER.read_text() != _NAMER:
        NAMER.write_text(_NAMER)
        NAMER.chmod(0o755)
    if not RULES.exists() or RULES.read_text() != _RULE:
        RULES.write_text(_RULE)
        subprocess.run(['udevadm', 'control', '--reload'], check=True)


@contextlib.contextmanager
def opened(path: pathlib.Path) -> Iterator[int]:
    """Have a file or device open for reading and writing."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _status(*, size_limit: int) -> bytes:
    return _STATUS.pack(0, 0, 0, 0, size_limit, *[0] * 4, b'', b'', b'', 0, 0)


def _leads_to(name: str, kernel_name: str) -> bool:
    return os.path.realpath(f'/dev/{name}') == f'/dev/{kernel_name}'


def _is_removed(name: str) -> bool:
    """Take a loop device out of the kernel; False: somebody has it open still."""
    if not pathlib.Path('/sys/block', name).exists():
        return True
    if read(pathlib.Path('/sys/block', name, 'loop/backing_file')) is not None:
        return False
    try:
        with opened(loop.CONTROL) as control:
            fcntl.ioctl(control, _CTL_REMOVE, int(name[4:]))
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        if error.errno != errno.ENODEV:
            raise
    return True


def _openers(number: int) -> Iterator[str]:
    """Yield the processes that have a device open, udev's workers left out."""
    for process in pathlib.Path('/proc').iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            name = (process / 'comm').read_text().strip()
            if name in ('systemd-udevd', '(udev-worker)'):
                continue
            for entry in (process / 'fd').iterdir():
                with contextlib.suppress(OSError):
                    found = entry.stat()
                    if found.st_rdev == number and found.st_mode & 0o170000 == 0o060000:
                        yield f'{name} ({process.name}) has it open'
                        break
        except OSError:
            # It has ended.
            continue
