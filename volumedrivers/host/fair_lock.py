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

"""Locks between all threads and processes of this host: first come, first served.

Who wants a lock draws a ticket: a file whose number is above all others of
that lock, and on which its owner holds a flock as long as it waits or works.
The lowest ticket whose owner lives has the lock.  The kernel drops a flock
with its owner, however that ended, so a dead one stops nobody; who draws a
ticket removes those the dead have left.

Tickets are drawn, and removed for others, behind a gate: one more flock, held
for some system calls.  An owner removes its own without.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import logging
import os
import threading
import time
import types
import typing

from volumedrivers import exception

LOG = logging.getLogger(__name__)

# Seconds between two looks at who is before us.
_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.05
_LONGEST_PAUSE_OF_NEXT = 0.01
# Seconds; also of somebody who does not wait for a lock itself.
_LEAST_WAIT_AT_GATE = 1.0
_NEW = '.new'
_GATE = 'gate-'
_OVERDUE = ', which is past its deadline and cannot be stopped'


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who has a lock.

    :ivar process: its id
    :ivar what: what it does
    :ivar since: when it got the lock, seconds since the epoch
    """

    process: int
    what: str
    since: float

    def __str__(self) -> str:
        seconds = max(0.0, time.time() - self.since)
        return f'{self.what} (process {self.process}, for {seconds:.0f} s)'


class Held:
    """Locks that are held; a context manager that releases them.

    Not for use in a forked child: there it does nothing.
    """

    def __init__(self, names: tuple[str, ...], tickets: list['_Ticket']) -> None:
        self.names = names
        self._tickets = tickets
        self._process = os.getpid()
        self._state = threading.Lock()
        self._awaited: list[threading.Event] = []
        self._inside = False
        self._given_up = False

    def __enter__(self) -> typing.Self:
        self._inside = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self._inside = False
        self.release()

    def release(self) -> None:
        """Release the locks, or let ``release_after`` do it; calling it again does nothing."""
        with self._state:
            self._given_up = True
        self._release_if_due()

    def release_after(self, event: threading.Event) -> None:
        """Keep the locks until an event is set, whoever releases them before.

        They are released then, by a thread that ends with the process; inside
        a ``with`` they are kept until it is left as well.  Who asks for the
        holder learns that it is overdue.
        """
        with self._state:
            if self._process != os.getpid() or not self._tickets:
                return
            self._awaited.append(event)
            self._given_up = self._given_up or not self._inside
            if not event.is_set():
                for ticket in self._tickets:
                    ticket.tell(overdue=True)

        def wait() -> None:
            event.wait()
            self._release_if_due()

        try:
            threading.Thread(target=wait, name='keeps overdue locks', daemon=True).start()
        except RuntimeError as error:
            # Kept for too long is better than released too early.
            LOG.warning('Locks %s are kept until this process ends: %s', self.names, error)

    def _release_if_due(self) -> None:
        with self._state:
            if not self._given_up or not all(event.is_set() for event in self._awaited):
                return
            tickets, self._tickets = self._tickets, []
        if self._process == os.getpid():
            _drop(tickets)


class FairLocks:
    """Locks by name, in files of one directory."""

    def __init__(self, directory: str | Callable[[], str]) -> None:
        """Make nothing yet.

        :param directory: of the files, on a local disk; all that shall keep
            each other out use the same.  Or what tells it, asked at first use
        """
        self._directory = directory
        self._swept: set[str] = set()

    @functools.cached_property
    def directory(self) -> str:
        """Of the files."""
        return self._directory if isinstance(self._directory, str) else self._directory()

    def acquire(self, names: Iterable[str], *, what: str, seconds: float) -> Held:
        """Get all of some locks, or none.

        They are taken in order of their names, so two that need the same ones
        do not wait for each other; this holds for the names of one call only.

        :param what: what they are wanted for; others are told
        :param seconds: how long to wait in all; 0: not at all
        :raises LockHeld: names the lock and who has it
        :raises InvalidOption: the directory cannot be used
        """
        wanted = tuple(sorted(set(names)))
        end = time.monotonic() + seconds
        tickets: list[_Ticket] = []
        try:
            for name in wanted:
                with self._told():
                    self._take(name, what, end, seconds, tickets)
        except BaseException:
            _drop(tickets)
            raise
        return Held(wanted, tickets)

    def holder(self, name: str) -> Holder | None:
        """Return who has a lock now; None: nobody.

        :raises InvalidOption: the directory cannot be used
        """
        with self._told():
            try:
                numbers = self._numbers(_hash(name))
            except FileNotFoundError:
                return None
            for number in sorted(numbers):
                found = _look(self._path(_hash(name), number))
                if found is not None:
                    return found
        return None

    def _take(
        self, name: str, what: str, end: float, seconds: float, tickets: list['_Ticket']
    ) -> None:
        key = _hash(name)
        try:
            with self._gate(key, end):
                before, number = self._queue(key)
                ticket = _Ticket(self._path(key, number), name, what)
                # Known to the caller before it can be interrupted elsewhere.
                tickets.append(ticket)
                ticket.draw()
            if before:
                if time.monotonic() < end:
                    holder = self._first(key, before=tickets) or 'another process'
                    LOG.info('waiting for %s, which is held by %s', name, holder)
                self._wait(before, end)
                ticket.tell()
        except TimeoutError as error:
            raise exception.LockHeld(
                lock=name,
                holder=str(self._first(key, before=tickets) or 'another process'),
                seconds=seconds,
            ) from error

    def _first(self, key: str, *, before: list['_Ticket']) -> Holder | None:
        own = {ticket.path for ticket in before}
        for number in sorted(self._numbers(key)):
            path = self._path(key, number)
            found = None if path in own else _look(path)
            if found is not None:
                return found
        return None

    def _wait(self, before: list[str], end: float) -> None:
        """Wait until all who came before are gone.

        :raises TimeoutError: they are not
        """
        for position, path in enumerate(before):
            is_next = position == len(before) - 1
            longest = _LONGEST_PAUSE_OF_NEXT if is_next else _LONGEST_PAUSE
            pause = _FIRST_PAUSE
            with _opened(path) as descriptor:
                while descriptor is not None and not _try(descriptor, fcntl.LOCK_SH):
                    left = end - time.monotonic()
                    if left <= 0:
                        raise TimeoutError
                    time.sleep(min(pause, left))
                    pause = min(2 * pause, longest)

    def _queue(self, key: str) -> tuple[list[str], int]:
        """Return the living tickets of a lock, in order, and the next number.

        What the dead have left is removed; once also of the other locks with
        the same gate, as nobody may ever want those again.
        """
        gate = key[0]
        lead = key if gate in self._swept else gate
        living = []
        for name in os.listdir(self.directory):
            if not name.startswith(lead):
                continue
            path = os.path.join(self.directory, name)
            # Whoever drew a new one did that behind this gate, and is dead.
            if name.endswith(_NEW) or not _lives(path):
                _unlink(path)
            elif name.startswith(key):
                living.append((int(name.rpartition('-')[2]), path))
        self._swept.add(gate)
        living.sort()
        return [path for _, path in living], living[-1][0] + 1 if living else 1

    def _numbers(self, key: str) -> list[int]:
        lead = key + '-'
        return [
            int(name[len(lead) :])
            for name in os.listdir(self.directory)
            if name.startswith(lead) and name[len(lead) :].isdecimal()
        ]

    def _path(self, key: str, number: int) -> str:
        return os.path.join(self.directory, f'{key}-{number}')

    @contextlib.contextmanager
    def _gate(self, key: str, end: float) -> Iterator[None]:
        """Be the only one who draws a ticket of this lock.

        :raises TimeoutError: somebody else does, and does not end
        """
        end = max(end, time.monotonic() + _LEAST_WAIT_AT_GATE)
        pause = _FIRST_PAUSE / 10
        descriptor = self._open_gate(key)
        try:
            while not _try(descriptor, fcntl.LOCK_EX):
                if time.monotonic() > end:
                    raise TimeoutError
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_OF_NEXT)
            yield
        finally:
            _close(descriptor)

    def _open_gate(self, key: str) -> int:
        # Sixteen, which stay: a file that others wait on cannot be removed.
        path = os.path.join(self.directory, _GATE + key[0])
        try:
            return _open(path, os.O_RDONLY | os.O_CREAT)
        except FileNotFoundError:
            os.makedirs(self.directory, mode=0o755, exist_ok=True)
            return _open(path, os.O_RDONLY | os.O_CREAT)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise exception.InvalidOption(
                option='[volumedrivers] lock_path',
                found=f'unusable ({error})',
                expected=f'a directory where this process may write {self.directory}',
            ) from error


class _Ticket:
    """A place in the queue for a lock, and the lock once all before it are gone."""

    def __init__(self, path: str, name: str, what: str) -> None:
        self.path = path
        self._text = '\n'.join(' '.join(part.split()) for part in (what, name))
        self._descriptor: int | None = None
        self._is_drawn = False

    def draw(self) -> None:
        """Appear in the queue, or leave no trace; behind the gate."""
        new = self.path + _NEW
        try:
            self._descriptor = _open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            self.tell()
            os.rename(new, self.path)
            self._is_drawn = True
        except BaseException:
            _unlink(new)
            _unlink(self.path)
            raise

    def tell(self, *, overdue: bool = False) -> None:
        """Say who has the lock, and since now."""
        if self._descriptor is not None:
            mark = _OVERDUE if overdue else ''
            text = f'{time.time():020.6f} {os.getpid()}\n{mark}\n{self._text}\n'
            os.pwrite(self._descriptor, text.encode(errors='backslashreplace'), 0)

    def drop(self) -> None:
        """Leave the queue; calling it again does nothing."""
        # As long as the name is there nobody else gets its number, so it goes
        # before the flock does, and is tried once: later it can be another's.
        drawn, self._is_drawn = self._is_drawn, False
        if drawn:
            _unlink(self.path)
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            _close(descriptor)


def _drop(tickets: list[_Ticket]) -> None:
    failed: BaseException | None = None
    for ticket in reversed(tickets):
        try:
            ticket.drop()
        except BaseException as error:
            failed = failed or error
            ticket.drop()
    # What cannot be removed is nobody's any more, and is swept by the next.
    if failed is not None and not isinstance(failed, OSError):
        raise failed


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode(errors='backslashreplace')).hexdigest()[:32]


def _lives(path: str) -> bool:
    with _opened(path) as descriptor:
        return descriptor is not None and not _try(descriptor, fcntl.LOCK_SH)


def _look(path: str) -> Holder | None:
    """Return the owner of a ticket, if it lives."""
    with _opened(path) as descriptor:
        if descriptor is None or _try(descriptor, fcntl.LOCK_SH):
            return None
        lines = os.pread(descriptor, 4096, 0).decode(errors='replace').split('\n')
    try:
        since, process = lines[0].split()
        return Holder(process=int(process), what=lines[2] + lines[1], since=float(since))
    except (ValueError, IndexError):
        return Holder(process=0, what='an unknown operation', since=time.time())


def _try(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int | None]:
    try:
        descriptor = _open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor
    finally:
        _close(descriptor)


# A forked child gets a copy of each descriptor, and with it a share of its
# flock: it would keep the lock of a parent that was killed.
_descriptors: set[int] = set()
_changing = threading.Lock()


def _open(path: str, flags: int) -> int:
    with _changing:
        descriptor = os.open(path, flags, 0o644)
        _descriptors.add(descriptor)
    return descriptor


def _close(descriptor: int) -> None:
    with _changing:
        _descriptors.discard(descriptor)
        try:
            # Closing would do only for the last one who has it.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)


def _after_fork_in_parent() -> None:
    _changing.release()


def _after_fork_in_child() -> None:
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()
    _changing.release()


os.register_at_fork(
    before=_changing.acquire,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
