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

"""What is mounted on this host, as the kernel says it.

Reading the table touches no mount, so it cannot hang on one; os.path.ismount
can.
"""

import dataclasses
import os
import re

_ESCAPE = re.compile(rb'\\([0-7]{3})')


@dataclasses.dataclass(frozen=True)
class Mount:
    """One line of /proc/self/mountinfo.

    :ivar mount_id: the kernel's number of this mount; used again once it is free
    :ivar device: the file system's device number, major:minor; likewise
    :ivar root: which directory of the file system is mounted, mostly ``/``
    :ivar fstype: nfs4, cifs, fuse.glusterfs, ...
    :ivar source: what was given to mount(8)
    """

    mount_id: int
    root: str
    mount_point: str
    fstype: str
    source: str
    device: str = ''

    @property
    def mark(self) -> str:
        """What tells this mount from one that takes its place."""
        return f'{self.mount_id} {self.device} {self.fstype} {self.source}'


def read(path: str = '/proc/self/mountinfo') -> tuple[Mount, ...]:
    """Return all mounts of this process' mount namespace, oldest first.

    Format: proc(5).  Blanks and backslashes in names are written as three
    octal digits.
    """
    with open(path, 'rb') as table:
        return tuple(_parse(line) for line in table)


def find(mount_point: str) -> Mount | None:
    """Return what is mounted at a directory, the topmost if several are.

    Only the directory above the mount point is looked at, never the mount.
    """
    directory, name = os.path.split(mount_point.rstrip('/'))
    real = os.path.join(os.path.realpath(directory), name)
    found = None
    for mount in read():
        if mount.mount_point == real:
            found = mount
    return found


def holding(path: str) -> Mount:
    """Return the mount that a path without symbolic links lies on."""
    best: Mount | None = None
    for mount in read():
        inside = path == mount.mount_point or path.startswith(mount.mount_point.rstrip('/') + '/')
        # Of two at one place the later is on top.
        if inside and (best is None or len(mount.mount_point) >= len(best.mount_point)):
            best = mount
    if best is None:
        raise LookupError(f'{path} lies on no mount')
    return best


def _parse(line: bytes) -> Mount:
    fields = line.rstrip(b'\n').split(b' ')
    # Optional fields of any number end at a lone dash.
    dash = fields.index(b'-', 6)
    return Mount(
        mount_id=int(fields[0]),
        root=_decode(fields[3]),
        mount_point=_decode(fields[4]),
        fstype=_decode(fields[dash + 1]),
        source=_decode(fields[dash + 2]),
        device=_decode(fields[2]),
    )


def _decode(field: bytes) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda digits: bytes([int(digits[1], 8)]), field))
