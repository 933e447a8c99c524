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

"""Where a share may be mounted, and what is mounted there.

A mount point is a directory directly below one of the configured bases.
Nothing deeper is allowed, because a deeper path could lead through a share, whose
server can put a symbolic link anywhere.  The path has to resolve to itself:
it is walked from the root, one component after the other, and a symbolic
link is refused wherever it stands.  Between that walk and the mount(2) of
mount(8), somebody who may write to a directory above could still exchange it;
so the walk is made again after the mount, and if it ends elsewhere the mount
is taken back.  Where the directories above the base belong to root there is
no such somebody.

Nothing here touches the root directory of a mounted share, which would hang
with its server; what is mounted is read from /proc/self/mountinfo.
"""

import contextlib
import os
import re
import stat
import typing

from volumedrivers import exception
from volumedrivers.privsep import trusted

_NAME = re.compile(r'[0-9A-Za-z_][0-9A-Za-z_.+=@-]{0,254}')
_WALK = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC


class Mounted(typing.NamedTuple):
    """One line of /proc/self/mountinfo."""

    fstype: str
    source: str
    options: frozenset[str]


def _refused(path: str, reason: str) -> exception.PrivilegedCallRefused:
    return exception.PrivilegedCallRefused(
        function='mount', reason=f'mount point {path!r} {reason}'
    )


def check(path: str) -> None:
    """:raises PrivilegedCallRefused: nothing may be mounted there"""
    bases = trusted.mount_point_bases()
    if (
        not isinstance(path, str)
        or not os.path.isabs(path)
        or os.path.normpath(path) != path
        or not path.isprintable()
    ):
        raise _refused(str(path), 'is no normalised absolute path')
    base, name = os.path.split(path)
    if base not in bases or not _NAME.fullmatch(name):
        ignored = trusted.ignored_files()
        hint = (
            f'; {", ".join(ignored)} does not count because others than root can change it'
            if ignored
            else ''
        )
        raise _refused(path, f'is not directly below {", ".join(bases)}{hint}')


@contextlib.contextmanager
def opened(path: str) -> typing.Iterator[int]:
    """Walk to a directory without following a link; yield its descriptor.

    :raises PrivilegedCallRefused: a component is a link or no directory
    :raises FileNotFoundError: a component is missing
    """
    descriptor = os.open('/', _WALK)
    try:
        for name in path.strip('/').split('/'):
            try:
                deeper = os.open(name, _WALK, dir_fd=descriptor)
            except NotADirectoryError as error:
                raise _refused(
                    path, f'has a component that is a symbolic link or no directory: {name!r}'
                ) from error
            os.close(descriptor)
            descriptor = deeper
        yield descriptor
    finally:
        os.close(descriptor)


def _check_directory(parent: int, name: str, path: str) -> None:
    found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if not stat.S_ISDIR(found.st_mode):
        raise _refused(path, 'is a symbolic link or no directory')


def place(path: str, *, mounted: bool) -> tuple[int, int]:
    """Return which directory a mount point lies in, as (device, inode).

    :param mounted: something is mounted there, and not to be looked at
    :raises PrivilegedCallRefused: it is a link, or the way to it has one
    :raises FileNotFoundError
    """
    base, name = os.path.split(path)
    with opened(base) as parent:
        if not mounted:
            _check_directory(parent, name, path)
        found = os.stat(parent)
        return found.st_dev, found.st_ino


def mounted_at(path: str) -> Mounted | None:
    """Return what is on top at a mount point; None: nothing is mounted."""
    top = None
    with open('/proc/self/mountinfo', encoding='utf-8', errors='surrogateescape') as table:
        for line in table:
            left, _, right = line.partition(' - ')
            fields = left.split(' ')
            if _unescaped(fields[4]) == path:
                fstype, source = right.split(' ')[:2]
                top = Mounted(fstype, _unescaped(source), frozenset(fields[5].split(',')))
    return top


def _unescaped(field: str) -> str:
    return re.sub(r'\\([0-7]{3})', lambda found: chr(int(found[1], 8)), field)


def make(path: str) -> None:
    """Make the directory, and the base if that is missing.

    A mount point is for root alone, so that nothing is written beside the
    share while it is not mounted; that does not hold for the share on top.

    :raises PrivilegedCallRefused: a link is in the way
    :raises MountFailed: it cannot be made
    """
    base, name = os.path.split(path)
    try:
        os.makedirs(base, mode=0o755, exist_ok=True)
        with opened(base) as parent:
            _make_in(parent, name, path)
    except OSError as error:
        raise exception.MountFailed(
            source='directory',
            mount_point=path,
            reason=f'not made: {os.strerror(error.errno or 0)}',
        ) from error


def _make_in(parent: int, name: str, path: str) -> None:
    try:
        os.mkdir(name, mode=0o700, dir_fd=parent)
    except FileExistsError:
        # Looking at what is mounted could hang.
        if mounted_at(path) is None:
            _check_directory(parent, name, path)


def remove(path: str) -> None:
    """Remove the directory if it is empty and nothing is mounted there.

    :raises MountFailed: something is there
    """
    base, name = os.path.split(path)
    try:
        with opened(base) as parent:
            os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise exception.MountFailed(
            source='directory',
            mount_point=path,
            reason=f'not removed: {os.strerror(error.errno or 0)}',
        ) from error
