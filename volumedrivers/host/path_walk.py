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

"""Where a path leads, found out without entering a mount that may hang."""

from collections.abc import Iterable
import errno
import os

from volumedrivers.host.mount_table import Mount

# File systems that answer from this host's own memory or disks.  Whatever is
# not among them may wait for a server.
_LOCAL = frozenset(
    (
        'bcachefs',
        'btrfs',
        'devtmpfs',
        'erofs',
        'ext2',
        'ext3',
        'ext4',
        'f2fs',
        'jfs',
        'overlay',
        'proc',
        'ramfs',
        'rootfs',
        'squashfs',
        'sysfs',
        'tmpfs',
        'vfat',
        'xfs',
        'zfs',
    )
)
# As the kernel has it.
_MOST_LINKS = 40


class PathWalk:
    """Follows symbolic links up to the first mount that is not local.

    :param mounts: the mount table
    """

    def __init__(self, mounts: Iterable[Mount]) -> None:
        self._stops = {mount.mount_point for mount in mounts if mount.fstype not in _LOCAL}

    def may_hang(self, mount_point: str) -> bool:
        """Tell whether something else than this host's disks is mounted there."""
        return mount_point in self._stops

    def resolve(self, path: str) -> str:
        """Return the path without symbolic links, as far as it was followed.

        What is not there, or cannot be looked at, stays as it is written.
        """
        left = path.split('/')[::-1]
        place = '/'
        links = 0
        while left:
            name = left.pop()
            if name in ('', '.'):
                continue
            if name == '..':
                place = os.path.dirname(place)
                continue
            place = os.path.join(place, name)
            if place in self._stops:
                break
            try:
                target = os.readlink(place)
            except OSError as error:
                if error.errno == errno.EINVAL:
                    continue
                break
            links += 1
            if links > _MOST_LINKS:
                break
            left.extend(target.split('/')[::-1])
            place = '/' if target.startswith('/') else os.path.dirname(place)
        return os.path.normpath(os.path.join(place, *left[::-1]))


def is_within(path: str, directory: str) -> bool:
    """Tell whether a path is a directory's, or of something below it."""
    return path == directory or path.startswith(directory.rstrip('/') + '/')
