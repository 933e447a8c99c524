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

"""Stand-in of IBM Storage Scale (GPFS): a file system that the kernel calls gpfs.

The driver and os-brick's connector look at a path and mount nothing, so what
they meet is a mounted file system of that type.  The kernel's own ext4 under
the name gpfs is one: the module is copied with the name exchanged.  It is
mounted from ``/dev/gpfs0``, as GPFS shows it.
"""

import ctypes
import os
import pathlib
import typing

from tests.lab.standins import kernel_module
from tests.lab.standins.client_device import ClientDevice
from tests.lab.standins.shared_file import SharedFileBackend
from tests.lab.standins.shared_file import SharedFileVolume
from tests.lab.storage import backend
from tests.lab.storage.server_process import run

MOUNT_POINT = pathlib.Path('/gpfs/lab')
DEVICE = '/dev/gpfs0'
_SIZE = 4 << 30  # bytes, of which few are used


class GpfsVolume(SharedFileVolume):
    """A file of the stand-in; its server is this host itself, as in GPFS."""

    def identity(self) -> str:
        return f'file:{DEVICE}#{self.file.stat().st_ino}'

    def seen_by_target(self) -> list[str]:
        """Return who has the file open."""
        return list(openers(self.file))

    def withdraw(self) -> None:
        raise backend.Unreachable('nobody takes a file away whose file system stays')


class GpfsBackend(SharedFileBackend):
    """Stand-in of a GPFS cluster that this host is a node of."""

    name = 'gpfs'
    protocol = 'gpfs'
    export = DEVICE
    faults = ()

    def up(self) -> None:
        """Mount it, as mmstartup does when the host boots."""
        kernel_module.load('gpfs', 'ext4', ((b'ext4', b'gpfs'),))
        device = ClientDevice(self.image, ('gpfs0',))
        if not self.image.exists():
            self.image.parent.mkdir(parents=True, exist_ok=True)
            new = self.image.with_suffix('.new')
            with new.open('wb') as file:
                file.truncate(_SIZE)
            run('mkfs.ext4', '-q', '-F', '-E', 'lazy_itable_init=1', str(new))
            new.rename(self.image)
        device.appear()
        MOUNT_POINT.mkdir(parents=True, exist_ok=True)
        if not self.is_up():
            mount(DEVICE, MOUNT_POINT, 'gpfs')

    def is_up(self) -> bool:
        return os.path.ismount(MOUNT_POINT)

    @property
    def image(self) -> pathlib.Path:
        """Where it is stored."""
        return backend.STATE / 'standins' / 'gpfs' / 'disk'

    @property
    def directory(self) -> pathlib.Path:
        return MOUNT_POINT

    def data(self, volume: SharedFileVolume) -> dict[str, typing.Any]:
        """Return what Cinder's driver for GPFS says."""
        return {'name': volume.name, 'device_path': str(volume.file)}

    def make_volume(self, volume_id: str, size: int) -> GpfsVolume:
        super().make_volume(volume_id, size)
        return self.find_volume(volume_id)

    def find_volume(self, volume_id: str) -> GpfsVolume:
        return GpfsVolume(self, volume_id)


def mount(device: str, mount_point: pathlib.Path, fstype: str) -> None:
    """Mount a file system whose type mount(8) may not know.

    :raises OSError: the kernel refused
    """
    libc = ctypes.CDLL(None, use_errno=True)
    encoded = [os.fsencode(each) for each in (device, mount_point, fstype)]
    if libc.mount(*encoded, ctypes.c_ulong(0), None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(mount_point))


def openers(path: pathlib.Path) -> typing.Iterator[str]:
    """Yield the processes that have a file open."""
    wanted = path.stat()
    for process in pathlib.Path('/proc').iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            for entry in (process / 'fd').iterdir():
                try:
                    found = entry.stat()
                except FileNotFoundError:
                    continue
                if os.path.samestat(found, wanted):
                    name = (process / 'comm').read_text().strip()
                    yield f'{name} ({process.name}) has it open'
                    break
        except (FileNotFoundError, ProcessLookupError):
            # It has ended.
            continue
