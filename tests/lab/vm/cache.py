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

"""Where images and frozen machines are kept between runs.

An entry is a directory whose name ends in a key: the hash of everything that
went into it.  It appears when it is complete.  Entries that nobody needs any
more are removed, but never one that a running machine reads.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import tempfile
import typing

VARIABLE = 'VOLUMEDRIVERS_LAB_CACHE'

# Locked (shared) by who reads an entry, QEMU among them.
IN_USE = 'in-use'

# Entries of a kind that are kept: of this branch, and of another one.
_KEPT = 2

_PARTIAL = 'partial-'
_LOCK = 'lock-'


def default_root() -> pathlib.Path:
    """Return the directory of the cache, which need not be there."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return pathlib.Path(chosen).absolute()
    base = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    return pathlib.Path(base) / 'volumedrivers' / 'lab'


def key_of(parts: Iterable[str | bytes]) -> str:
    """Return the key for what went into an entry."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        # The length keeps two parts from looking like another two.
        digest.update(b'%d:' % len(data) + data)
    return digest.hexdigest()[:16]


def content_of(paths: Iterable[pathlib.Path], base: pathlib.Path) -> Iterator[bytes]:
    """Yield names (below a base) and contents of files, for a key."""
    for path in sorted(set(paths)):
        yield os.fsencode(path.relative_to(base))
        yield path.read_bytes()


class Cache:
    """The directory; several processes may use it at once.

    :param root: None: the default
    :param waiting: called where another process builds and this one waits
    """

    def __init__(
        self, root: pathlib.Path | None = None, waiting: Callable[[], None] = lambda: None
    ) -> None:
        self.root = root or default_root()
        self._waiting = waiting

    def find(self, kind: str, key: str) -> pathlib.Path | None:
        """Return an entry if it is there, and note that it is of use."""
        path = self._path(kind, key)
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        return path

    def get(self, kind: str, key: str, make: Callable[[pathlib.Path], None]) -> pathlib.Path:
        """Return an entry, made now if it is not there.

        :param kind: 'image', 'frozen'
        :param make: fills an empty directory
        """
        found = self.find(kind, key)
        if found:
            return found
        with self._locked(kind):
            found = self.find(kind, key)
            if found:
                return found
            prefix = f'{_PARTIAL}{kind}-'
            directory = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=self.root))
            try:
                make(directory)
                (directory / IN_USE).touch()
                directory.chmod(0o755)
                directory.rename(self._path(kind, key))
            except BaseException:
                shutil.rmtree(directory, ignore_errors=True)
                raise
            self._remove_old(kind)
        return self._path(kind, key)

    @contextlib.contextmanager
    def reading(self, entry: pathlib.Path) -> Iterator[None]:
        """Keep an entry from being removed."""
        with (entry / IN_USE).open('rb') as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            yield

    def clean(self) -> list[str]:
        """Remove everything that no machine uses; return the names of what had to stay."""
        if not self.root.exists():
            return []
        kept = []
        kinds = {path.name.removeprefix(_LOCK) for path in self.root.glob(f'{_LOCK}*')}
        with contextlib.ExitStack() as locks:
            for kind in sorted(kinds):
                locks.enter_context(self._locked(kind))
            for path in self.root.iterdir():
                if path.is_dir() and not _remove(path):
                    kept.append(path.name)
        return sorted(kept)

    def _path(self, kind: str, key: str) -> pathlib.Path:
        return self.root / f'{kind}-{key}'

    def _remove_old(self, kind: str) -> None:
        # What a killed build left; nobody builds now but this process.
        for path in self.root.glob(f'{_PARTIAL}{kind}-*'):
            shutil.rmtree(path, ignore_errors=True)
        entries = sorted(self.root.glob(f'{kind}-*'), key=_used, reverse=True)
        for path in entries[_KEPT:]:
            _remove(path)

    @contextlib.contextmanager
    def _locked(self, kind: str) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / f'{_LOCK}{kind}').open('w') as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _used(path: pathlib.Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0


def _remove(path: pathlib.Path) -> bool:
    """Remove an entry unless somebody reads it."""
    lock: typing.IO[bytes] | contextlib.nullcontext[None]
    try:
        lock = (path / IN_USE).open('rb')
    except FileNotFoundError:
        lock = contextlib.nullcontext()
    with lock as file:
        if file is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        shutil.rmtree(path, ignore_errors=True)
    return True
