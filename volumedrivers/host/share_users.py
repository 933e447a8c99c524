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

"""Who uses a mounted share, counted in memory or on disk."""

import collections
from collections.abc import Iterator
import contextlib
import errno
import hashlib
import os
import shutil
import urllib.parse

from volumedrivers import exception
from volumedrivers.host import boot

_USER = 'user-'
_CLAIM = 'mounted'
# A file name has at most 255 bytes.
_LONGEST = 200


class MemoryUsers:
    """Counts in this object only: for tests, and for programs that end soon."""

    def __init__(self) -> None:
        self._users: dict[str, set[str]] = collections.defaultdict(set)
        self._claims: dict[str, str] = {}

    def add(self, mount_point: str, attachment: str) -> None:
        self._users[mount_point].add(attachment)

    def remove(self, mount_point: str, attachment: str) -> None:
        self._users[mount_point].discard(attachment)

    def users(self, mount_point: str) -> frozenset[str]:
        return frozenset(self._users[mount_point])

    def claim(self, mount_point: str, mark: str) -> None:
        self._claims[mount_point] = mark

    def claimed(self, mount_point: str) -> str | None:
        return self._claims.get(mount_point)

    def unclaim(self, mount_point: str) -> None:
        self._claims.pop(mount_point, None)


class DirectoryUsers:
    """Counts that all processes of this host share and that outlive them.

    ``<path>/<boot id>/<md5 of the mount point>/`` holds one empty file
    ``user-<attachment>`` for each user, and ``mounted`` if the share was
    mounted by this package.  A reboot unmounts everything, so what was
    counted before it is void, and is removed.

    The callers hold the lock of the mount point; each change is one system
    call, so a process may end between any two.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def add(self, mount_point: str, attachment: str) -> None:
        with _told(self.path):
            directory = self._make(mount_point)
            with open(os.path.join(directory, _user_file(attachment)), 'w', encoding='utf-8'):
                pass

    def remove(self, mount_point: str, attachment: str) -> None:
        with _told(self.path):
            directory = self._directory(mount_point)
            _unlink(os.path.join(directory, _user_file(attachment)))
            _remove_if_empty(directory)

    def users(self, mount_point: str) -> frozenset[str]:
        with _told(self.path):
            try:
                names = os.listdir(self._directory(mount_point))
            except FileNotFoundError:
                return frozenset()
        return frozenset(
            urllib.parse.unquote(name.removeprefix(_USER))
            for name in names
            if name.startswith(_USER)
        )

    def claim(self, mount_point: str, mark: str) -> None:
        with _told(self.path):
            directory = self._make(mount_point)
            new = os.path.join(directory, f'.{_CLAIM}.{os.getpid()}')
            with open(new, 'w', encoding='utf-8') as file:
                file.write(mark)
            os.replace(new, os.path.join(directory, _CLAIM))

    def claimed(self, mount_point: str) -> str | None:
        with _told(self.path):
            try:
                with open(
                    os.path.join(self._directory(mount_point), _CLAIM), encoding='utf-8'
                ) as file:
                    return file.read()
            except FileNotFoundError:
                return None

    def unclaim(self, mount_point: str) -> None:
        with _told(self.path):
            directory = self._directory(mount_point)
            _unlink(os.path.join(directory, _CLAIM))
            _remove_if_empty(directory)

    def _directory(self, mount_point: str) -> str:
        digest = hashlib.md5(os.fsencode(mount_point), usedforsecurity=False).hexdigest()
        return os.path.join(self.path, boot.current(), digest)

    def _make(self, mount_point: str) -> str:
        directory = self._directory(mount_point)
        of_this_boot = os.path.dirname(directory)
        if not os.path.isdir(of_this_boot):
            os.makedirs(of_this_boot, exist_ok=True)
            for name in os.listdir(self.path):
                if name != os.path.basename(of_this_boot):
                    shutil.rmtree(os.path.join(self.path, name), ignore_errors=True)
        os.makedirs(directory, exist_ok=True)
        return directory


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    """Turn an error of the state directory into one of this package."""
    try:
        yield
    except OSError as error:
        raise exception.InvalidOption(
            option='[volumedrivers] state_path',
            found=f'unusable ({error})',
            expected=f'a directory where this process may write {path}',
        ) from error


def _user_file(attachment: str) -> str:
    name = _USER + urllib.parse.quote(attachment, safe='')
    if len(name) > _LONGEST:
        digest = hashlib.sha256(attachment.encode()).hexdigest()
        name = f'{_USER}sha256-{digest}'
    return name


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _remove_if_empty(directory: str) -> None:
    try:
        os.rmdir(directory)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.ENOENT, errno.EEXIST):
            raise
