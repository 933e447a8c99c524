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
from collections.abc import Mapping
import contextlib
import errno
import hashlib
import json
import os
import shutil
import typing
import urllib.parse

from volumedrivers import exception
from volumedrivers.host import boot
from volumedrivers.host.share import Share

_USER = 'user-'
_HASHED = 'sha256-'
_CLAIM = 'mounted'
# A file name has at most 255 bytes.
_LONGEST = 200
# What says which share it is; options and credentials are not kept.
_KEPT = ('source', 'mount_point', 'fstype', 'mounted_fstypes', 'mounted_sources', 'root_size')


class Counted(typing.NamedTuple):
    """A mount point with users, or with a claim.

    :ivar mount_point: None: not known
    :ivar users: those whose names are too long to be kept are ``sha256-...``
    :ivar mark: of the claim; None: this package has not mounted it
    :ivar share: what was mounted; None: nothing, or it is not known
    """

    mount_point: str | None
    users: frozenset[str]
    mark: str | None = None
    share: Share | None = None


class ShareUsers(typing.Protocol):
    """Where the users of a mount are counted.

    A claim says that this package mounted what is there.  Its mark is that
    of the mount table, or ``begun``; what carries no claim was
    mounted by somebody else and is theirs to unmount.
    """

    def add(self, mount_point: str, attachment: str) -> None: ...

    def remove(self, mount_point: str, attachment: str) -> None: ...

    def users(self, mount_point: str) -> frozenset[str]: ...

    def claim(self, mount_point: str, mark: str, share: Share | None = None) -> None: ...

    def claimed(self, mount_point: str) -> str | None: ...

    def unclaim(self, mount_point: str) -> None: ...

    def counted(self) -> tuple[Counted, ...]: ...


class MemoryUsers:
    """Counts in this object only: for tests, and for programs that end soon."""

    def __init__(self) -> None:
        self._users: dict[str, set[str]] = collections.defaultdict(set)
        self._claims: dict[str, tuple[str, Share | None]] = {}

    def add(self, mount_point: str, attachment: str) -> None:
        self._users[mount_point].add(attachment)

    def remove(self, mount_point: str, attachment: str) -> None:
        self._users[mount_point].discard(attachment)

    def users(self, mount_point: str) -> frozenset[str]:
        return frozenset(self._users[mount_point])

    def claim(self, mount_point: str, mark: str, share: Share | None = None) -> None:
        self._claims[mount_point] = mark, share

    def claimed(self, mount_point: str) -> str | None:
        return self._claims.get(mount_point, (None, None))[0]

    def unclaim(self, mount_point: str) -> None:
        self._claims.pop(mount_point, None)

    def counted(self) -> tuple[Counted, ...]:
        places = {place for place, users in self._users.items() if users} | set(self._claims)
        return tuple(
            Counted(place, self.users(place), *self._claims.get(place, (None, None)))
            for place in sorted(places)
        )


class DirectoryUsers:
    """Counts that all processes of this host share and that outlive them.

    ``<path>/<boot id>/<md5 of the mount point>/`` holds one file
    ``user-<attachment>`` for each user, with the mount point in it, and
    ``mounted``, which says what, if the share was mounted by this package.  A
    reboot unmounts everything, so what was
    counted before it is void, and is removed.

    The callers hold the lock of the mount point; each change is one system
    call, so a process may end between any two.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def add(self, mount_point: str, attachment: str) -> None:
        with _told(self.path):
            directory = self._make(mount_point)
            path = os.path.join(directory, _user_file(attachment))
            with open(path, 'w', encoding='utf-8', errors='surrogateescape') as file:
                file.write(mount_point)

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
        return frozenset(_user_of(name) for name in names if name.startswith(_USER))

    def claim(self, mount_point: str, mark: str, share: Share | None = None) -> None:
        kept = None if share is None else {name: getattr(share, name) for name in _KEPT}
        with _told(self.path):
            directory = self._make(mount_point)
            new = os.path.join(directory, f'.{_CLAIM}.{os.getpid()}')
            with open(new, 'w', encoding='ascii') as file:
                json.dump({'mark': mark, 'mount_point': mount_point, 'share': kept}, file)
            os.replace(new, os.path.join(directory, _CLAIM))

    def claimed(self, mount_point: str) -> str | None:
        claim = self._claim(self._directory(mount_point))
        return None if claim is None else str(claim['mark'])

    def counted(self) -> tuple[Counted, ...]:
        """Return what is counted since this host started, without a lock."""
        with _told(self.path):
            try:
                names = os.listdir(os.path.join(self.path, boot.current()))
            except FileNotFoundError:
                return ()
        found = (self._counted(name) for name in sorted(names))
        return tuple(one for one in found if one.users or one.mark is not None)

    def _counted(self, name: str) -> Counted:
        directory = os.path.join(self.path, boot.current(), name)
        with _told(self.path):
            try:
                files = [entry for entry in os.listdir(directory) if entry.startswith(_USER)]
            except FileNotFoundError:
                files = []  # the last user went while we looked
        claim = self._claim(directory)
        place = None if claim is None else claim.get('mount_point')
        for file in files:
            place = place or self._read(os.path.join(directory, file))
        share = None if claim is None else claim.get('share')
        return Counted(
            mount_point=place or None,
            users=frozenset(map(_user_of, files)),
            mark=None if claim is None else str(claim['mark']),
            share=None if share is None else _share(share),
        )

    def _claim(self, directory: str) -> Mapping[str, typing.Any] | None:
        text = self._read(os.path.join(directory, _CLAIM))
        if text is None:
            return None
        try:
            claim = json.loads(text)
        except ValueError:
            claim = None
        # What cannot be read claims nothing that could be found mounted.
        return claim if isinstance(claim, dict) and 'mark' in claim else {'mark': text}

    def _read(self, path: str) -> str | None:
        with _told(self.path):
            try:
                with open(path, encoding='utf-8', errors='surrogateescape') as file:
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
        name = f'{_USER}{_HASHED}{digest}'
    return name


def _user_of(name: str) -> str:
    return urllib.parse.unquote(name.removeprefix(_USER))


def _share(kept: Mapping[str, typing.Any]) -> Share:
    values: dict[str, typing.Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()
    }
    return Share(**values)


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _remove_if_empty(directory: str) -> None:
    try:
        os.rmdir(directory)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.ENOENT, errno.EEXIST):
            raise
