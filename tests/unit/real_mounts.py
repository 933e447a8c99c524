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

"""Real mounts for the tests of shares: tmpfs under any name, and FUSE that hangs."""

import ctypes
import os
import subprocess

from volumedrivers import exception
from volumedrivers.host import mount_table

_libc = ctypes.CDLL(None, use_errno=True)


class TmpfsMounter:
    """Stands in for volumedrivers.privsep.mount; each share is a tmpfs."""

    def __init__(self):
        self.calls = []
        self.fail_with = None
        self.mount_before_failing = False
        self.mount_as = None
        self.mounts_nothing = False

    def mount(self, fstype, source, mount_point, options=(), credentials=None, *, timeout=60):
        self.calls.append(('mount', source))
        if not self.mounts_nothing and (self.fail_with is None or self.mount_before_failing):
            mount_tmpfs(self.mount_as or source, mount_point)
        if self.fail_with is not None:
            raise self.fail_with

    def unmount(self, mount_point, lazy=False, *, timeout=60):
        self.calls.append(('lazy unmount' if lazy else 'unmount', mount_point))
        done = subprocess.run(
            ['umount', '-c', *(['-l'] if lazy else []), mount_point],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode and mount_table.find(mount_point) is not None:
            raise exception.Busy(what=mount_point, reason=done.stderr)

    def make_mount_point(self, path):
        os.makedirs(path, exist_ok=True)

    def remove_mount_point(self, path):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise exception.MountFailed(
                source='directory', mount_point=path, reason=str(error)
            ) from error

    def count(self, verb):
        return sum(1 for call in self.calls if call[0] == verb)


class SilentFuse:
    """A FUSE mount whose client never answers; closing it makes it a dead one."""

    def __init__(self, source, mount_point):
        os.makedirs(mount_point, exist_ok=True)
        self.mount_point = mount_point
        self.device = os.open('/dev/fuse', os.O_RDWR | os.O_CLOEXEC)
        options = f'fd={self.device},rootmode=40000,user_id=0,group_id=0'
        if _libc.mount(source.encode(), mount_point.encode(), b'fuse', 0, options.encode()):
            raise OSError(ctypes.get_errno(), 'mount of /dev/fuse')

    def die(self):
        """End the client: what waits for it fails, and so does what comes later."""
        if self.device is not None:
            os.close(self.device)
            self.device = None

    def remove(self):
        self.die()
        _libc.umount2(self.mount_point.encode(), 2)


def mount_tmpfs(source, mount_point):
    subprocess.run(['mount', '-t', 'tmpfs', source, mount_point], check=True)


def remove_all_below(directory):
    """Take away what a test that failed has left."""
    for mount in reversed(mount_table.read()):
        if mount.mount_point.startswith(f'{directory}/'):
            _libc.umount2(mount.mount_point.encode(), 2)
