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

"""The journal's file: opened, locked, migrated, and closed before a fork."""

from collections.abc import Iterator
import contextlib
import logging
import os
import sqlite3
import tempfile
import threading
import time
import typing
import weakref

from volumedrivers import exception
from volumedrivers.attachment import journal_schema

LOG = logging.getLogger(__name__)

# Seconds; a transaction takes a thousandth of one.
_LONGEST_WAIT_TO_FORK = 5.0
_BESIDE = ('-wal', '-shm')
_DAMAGED = (
    'it is damaged ({error}); move it away together with its -wal and -shm, keep them for '
    '"sqlite3 FILE .recover", and let "volumedrivers audit" show what is on this host'
)
_REASONS: typing.Final = {
    sqlite3.SQLITE_FULL: 'its disk is full; free some space and call again',
    sqlite3.SQLITE_READONLY: 'this user may not write to it, or its file system is read-only',
    sqlite3.SQLITE_PERM: 'this user may not use it',
    sqlite3.SQLITE_CANTOPEN: 'it cannot be opened; see to its directory, which has to be writable',
    sqlite3.SQLITE_IOERR: 'its disk fails ({error}); see the log of the kernel',
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
}


class _Connection(sqlite3.Connection):
    """A connection, and the file that it was opened on."""

    file: tuple[int, int]


class Database:
    """Connections to one SQLite file; one is used by one thread at a time.

    They are kept for the next user rather than for one thread: the steps of
    an operation run in threads that soon end.

    A fork waits for the transactions of other threads and closes all
    connections first.  SQLite keeps its locks in memory of the process as
    well, and a child that inherits that would believe to have locked what
    only its parent has.
    """

    def __init__(self, path: str, *, timeout: float) -> None:
        self.path = path
        self._timeout = timeout
        self._idle: list[_Connection] = []
        self._in_use = 0
        self._was_there = False
        self._changed = threading.Condition()
        self._mine = threading.local()
        with _forking:
            _open_ones.add(self)
        # A connection refers to itself, so it would not be closed at once.
        weakref.finalize(self, _close_all, self._idle)

    @contextlib.contextmanager
    def transaction(self, *, write: bool) -> Iterator[sqlite3.Connection]:
        """Begin, and commit; whatever is raised inside undoes it all.

        :raises JournalUnusable: says why, and what to do
        :raises Busy: other processes did not let this one write in time
        """
        with self._told():
            connection = self._take()
        try:
            with self._told():
                connection.execute('BEGIN IMMEDIATE' if write else 'BEGIN')
                if not journal_schema.is_current(connection):
                    # Somebody has migrated it meanwhile.
                    raise self._unusable(journal_schema.problem(connection) or 'it was emptied')
            with self._told(files=False):
                yield connection
            with self._told():
                connection.execute('COMMIT')
        except BaseException:
            self._end_badly(connection)
            raise
        self._give_back(connection)

    def close(self) -> None:
        """Close what is not in use; the next use opens it again."""
        with self._changed:
            _close_all(self._idle)

    @contextlib.contextmanager
    def _told(self, *, files: bool = True) -> Iterator[None]:
        """Turn SQLite's errors into ours, and those of files if it was we who used them."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, 'sqlite_errorcode', 0) & 0xFF
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise exception.Busy(
                    what=f'the journal {self.path}',
                    reason=f'others have been writing to it for {self._timeout:g} s',
                ) from error
            if code == sqlite3.SQLITE_IOERR and self._is_full():
                code = sqlite3.SQLITE_FULL
            reason = _REASONS.get(code, '{error}').format(error=error)
            raise self._unusable(reason) from error
        except UnicodeDecodeError as error:
            # Python could not read SQLite's sentence, which quotes the damage.
            raise self._unusable(_DAMAGED.format(error='it holds no text')) from error
        except OSError as error:
            if not files:
                raise
            raise self._unusable(str(error)) from error

    def _is_full(self) -> bool:
        """Tell whether there was no room for the file that SQLite maps beside it."""
        with contextlib.suppress(OSError):
            return os.statvfs(os.path.dirname(self.path)).f_bavail == 0
        return False

    def _unusable(self, reason: str) -> exception.JournalUnusable:
        return exception.JournalUnusable(path=self.path, reason=reason)

    def _take(self) -> _Connection:
        with self._changed:
            connection = self._idle.pop() if self._idle else None
            self._in_use += 1
            self._mine.in_use = self._used_by_me() + 1
        try:
            if connection is not None and not self._is_current(connection):
                connection = None
            return connection or self._open()
        except BaseException:
            self._leave()
            raise

    def _is_current(self, connection: _Connection) -> bool:
        """Tell whether the file is still the same; otherwise close the connection."""
        same = False
        try:
            same = connection.file == self._file()
        finally:
            if not same:
                # Put back from a copy, for example.
                connection.close()
        return same

    def _give_back(self, connection: _Connection) -> None:
        with self._changed:
            self._idle.append(connection)
        self._leave()

    def _end_badly(self, connection: _Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute('ROLLBACK')
        except sqlite3.Error as error:
            LOG.debug('rolling back %s: %s', self.path, error)
        with contextlib.suppress(sqlite3.Error):
            connection.close()
        self._leave()

    def _leave(self) -> None:
        with self._changed:
            self._in_use -= 1
            self._mine.in_use = self._used_by_me() - 1
            self._changed.notify_all()

    def _used_by_me(self) -> int:
        return int(getattr(self._mine, 'in_use', 0))

    def before_fork(self) -> None:
        """Let the other threads end their transactions, and begin no more."""
        self._changed.acquire()
        self._changed.wait_for(lambda: self._in_use <= self._used_by_me(), _LONGEST_WAIT_TO_FORK)
        self.close()

    def after_fork_in_parent(self) -> None:
        self._changed.release()

    def after_fork_in_child(self) -> None:
        self._changed = threading.Condition()
        self._mine = threading.local()
        self._in_use = 0

    def _file(self) -> tuple[int, int]:
        try:
            found = os.stat(self.path)
        except FileNotFoundError as error:
            raise self._unusable(
                'it was removed while it was in use; put it back, or start this program anew '
                'to begin an empty one'
            ) from error
        return found.st_dev, found.st_ino

    def _open(self) -> _Connection:
        if not self._was_there:
            self._make()
        file = self._file()
        connection = sqlite3.connect(
            self.path,
            timeout=self._timeout,
            isolation_level=None,
            check_same_thread=False,
            factory=_Connection,
        )
        try:
            connection.file = file
            # In one look: another process may be making its tables.
            connection.execute('BEGIN')
            problem = journal_schema.problem(connection)
            connection.execute('ROLLBACK')
            if problem is not None:
                raise self._unusable(problem)
            self._protect()
            connection.execute('PRAGMA synchronous = FULL')
            self._use_wal(connection)
            if not journal_schema.is_current(connection):
                self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        self._was_there = True
        return connection

    def _make(self) -> None:
        """Make the file, for its owner only, unless it is there."""
        if os.path.lexists(self.path):
            return
        directory = os.path.dirname(self.path) or '.'
        # QEMU, which is another user, has to get to the shares below it.
        os.makedirs(directory, mode=0o755, exist_ok=True)
        # Made and closed under another name: closing a file drops the locks
        # that other threads of this process have on it.
        descriptor, name = tempfile.mkstemp(prefix='.journal-', dir=directory)
        os.close(descriptor)
        try:
            with contextlib.suppress(FileExistsError):
                os.link(name, self.path)
        finally:
            os.unlink(name)

    def _protect(self) -> None:
        # SQLite gives what it makes beside the file the same mode.
        for name in (self.path, *(self.path + suffix for suffix in _BESIDE)):
            with contextlib.suppress(FileNotFoundError):
                found = os.stat(name)
                if found.st_mode & 0o077 and found.st_uid == os.geteuid():
                    os.chmod(name, 0o600)

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        """Write ahead: readers do not wait for a writer, nor a writer for them."""
        end = time.monotonic() + self._timeout
        while True:
            try:
                mode = connection.execute('PRAGMA journal_mode = WAL').fetchone()[0]
            except sqlite3.OperationalError as error:
                # Two that open a new file at once: SQLite does not wait here.
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
                time.sleep(0.005)
                continue
            if mode != 'wal':
                raise self._unusable(
                    f'its file system cannot hold a write-ahead log (mode {mode}); '
                    'let [volumedrivers]state_path be on a local disk'
                )
            return

    def _migrate(self, connection: sqlite3.Connection) -> None:
        connection.execute('BEGIN EXCLUSIVE')
        try:
            problem = journal_schema.problem(connection)
            if problem is not None:
                raise self._unusable(problem)
            journal_schema.migrate(connection)
            connection.execute('COMMIT')
        except BaseException:
            if connection.in_transaction:
                connection.execute('ROLLBACK')
            raise


def _close_all(connections: list[_Connection]) -> None:
    while connections:
        connections.pop().close()


_open_ones: 'weakref.WeakSet[Database]' = weakref.WeakSet()
_forking = threading.Lock()
# Those that the fork under way has stopped; the set can change meanwhile.
_stopped: list[Database] = []


def _before_fork() -> None:
    _forking.acquire()
    for database in list(_open_ones):
        database.before_fork()
        _stopped.append(database)


def _after_fork_in_parent() -> None:
    while _stopped:
        _stopped.pop().after_fork_in_parent()
    _forking.release()


def _after_fork_in_child() -> None:
    while _stopped:
        _stopped.pop().after_fork_in_child()
    _forking.release()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
