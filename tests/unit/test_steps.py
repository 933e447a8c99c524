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

"""Steps in order, and what becomes of those that fail, are late or are interrupted."""

import pathlib
import threading
import types
import typing

import pytest

from volumedrivers import exception
from volumedrivers.attachment import failure
from volumedrivers.attachment import steps
from volumedrivers.attachment.results import paths_of
from volumedrivers.attachment.steps import Step
from volumedrivers.host.deadline import Call
from volumedrivers.host.fair_lock import FairLocks


class Journal:
    """What was written; ``broken`` from which write on it cannot be."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []
        self.broken: int | None = None

    def write(self, **changes: object) -> None:
        if self.broken is not None and len(self.rows) >= self.broken:
            raise exception.JournalUnusable(path='/j', reason='its disk is full')
        self.rows.append(changes)

    def names(self) -> list[object]:
        return [row['step'] for row in self.rows if 'step' in row]


class Work:
    """As much of an operation as steps.run knows."""

    operation = 'attach'
    what = 'attach of volume v and guest g'

    def __init__(self, directory: pathlib.Path) -> None:
        self.journal = Journal()
        self.calls: list[str] = []
        self.seen: list[tuple[str, str]] = []
        self.end: list[tuple[str, object]] = []
        self.locks = FairLocks(str(directory))
        self.held = self.locks.acquire(('volume v',), what=self.what, seconds=0)
        self.context = types.SimpleNamespace(
            observer=self.observe,
            journal=self.journal,
            locks=self.locks,
            options=types.SimpleNamespace(lock_timeout=0.1),
        )

    def observe(self, operation: str, step: str, moment: str) -> None:
        assert operation == 'attach'
        self.seen.append((step, moment))

    def note(self, **changes: object) -> None:
        self.journal.write(**changes)

    def stopped(self, error: BaseException) -> None:
        self.end.append(('stopped', str(error)))

    def failed(self, error: BaseException, step: str, *, undone: bool) -> None:
        self.end.append((step, undone))

    def facts(self, left: tuple[str, ...]) -> dict[str, object]:
        return {
            'guest': 'g',
            'guest_uuid': 'u',
            'volume_id': 'v',
            'driver_volume_type': 'fake',
            'target': None,
            'leftovers': left,
            'record': 'none',
            **paths_of(None),
        }

    def step(self, name: str, error: BaseException | None = None, **options: object) -> Step:
        """A step that notes that it was done, and undone."""

        def do() -> None:
            self.calls.append(name)
            if error is not None:
                raise error

        def undo() -> None:
            self.calls.append(f'undo {name}')

        return Step(name, do, undo, **typing.cast(typing.Any, options))

    def run(self, *made: Step) -> dict[str, float]:
        return steps.run(typing.cast(typing.Any, self), made)


@pytest.fixture
def work(tmp_path: pathlib.Path) -> Work:
    return Work(tmp_path)


def failure_of(error: BaseException) -> failure.Failure:
    told = failure.of(error)
    assert told is not None
    return told


def busy() -> exception.Busy:
    return exception.Busy(what='it', reason='somebody')


def test_each_is_written_down_before_it_is_done(work: Work) -> None:
    first = work.step('connect')
    second = Step('attach', lambda: work.calls.append(f'attach after {work.journal.names()}'))
    seconds = work.run(first, second)
    assert work.calls == ['connect', "attach after ['connect', 'attach']"]
    assert list(seconds) == ['connect', 'attach']
    assert work.seen == [
        ('connect', 'before'),
        ('connect', 'after'),
        ('attach', 'before'),
        ('attach', 'after'),
    ]
    assert work.end == []


def test_what_is_not_needed_is_not_done(work: Work) -> None:
    assert list(work.run(work.step('encrypt', needed=False), work.step('attach'))) == ['attach']
    assert work.calls == work.journal.names() == ['attach']


def test_a_failure_undoes_what_was_done_in_reverse(work: Work) -> None:
    error = busy()
    with pytest.raises(exception.Busy) as caught:
        work.run(work.step('connect'), work.step('encrypt'), work.step('attach', error))
    assert caught.value is error
    # The one that failed has cleaned up behind itself.
    assert work.calls == ['connect', 'encrypt', 'attach', 'undo encrypt', 'undo connect']
    assert work.journal.names()[-2:] == ['undo encrypt', 'undo connect']
    assert work.end == [('attach', True)]
    told = failure_of(error)
    assert (told.step, told.done, told.not_done) == ('attach', ('connect', 'encrypt'), ())
    assert (told.undone, told.leftovers) == (('encrypt', 'connect'), ())
    assert list(told.seconds) == ['connect', 'encrypt', 'attach', 'undo encrypt', 'undo connect']
    assert (told.error, told.problem, told.notes) == ('Busy', str(error), ())


def test_what_cannot_be_undone_keeps_its_ground(work: Work) -> None:
    """A volume that is still decrypted is not pulled away from below."""

    def undo() -> None:
        raise busy()

    stuck = work.step('encrypt')._replace(undo=undo)
    with pytest.raises(exception.HypervisorError) as caught:
        work.run(
            work.step('connect'),
            stuck,
            work.step('attach', exception.HypervisorError(action='attach', reason='no')),
        )
    assert work.calls == ['connect', 'encrypt', 'attach']
    assert work.end == [('attach', False)]
    (note,) = caught.value.__notes__
    assert "undoing the step 'encrypt' failed" in note
    assert 'volumedrivers recover' in note
    told = failure_of(caught.value)
    assert (told.undone, told.notes) == ((), (note,))
    assert told.leftovers == (
        "what the step 'connect' made",
        "what the step 'encrypt' made",
    )


@pytest.mark.parametrize('written', [0, 1, 2])
def test_journal_that_cannot_be_written_any_more(work: Work, written: int) -> None:
    """What is on the host is undone, and what the row could not be told is said."""
    work.journal.broken = written
    with pytest.raises(exception.JournalUnusable) as caught:
        work.run(work.step('connect'), work.step('encrypt'), work.step('attach'))
    done = ['connect', 'encrypt'][:written]
    assert work.calls == [*done, *(f'undo {name}' for name in reversed(done))]
    assert len(getattr(caught.value, '__notes__', [])) == written
    assert work.end[-1][1] is True


def interrupted_after(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Press Ctrl-C while the steps of these names are waited for."""
    original = Call.wait

    def wait(self: Call[object], seconds: float | None, *, interruptible: bool = True) -> object:
        result = original(self, seconds, interruptible=interruptible)
        assert not interruptible
        if self.what.startswith(tuple(f'step {name} of' for name in names)):
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(Call, 'wait', wait)


def test_interrupt_ends_the_step_and_undoes_it_too(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted_after(monkeypatch, 'encrypt')
    with pytest.raises(KeyboardInterrupt) as caught:
        work.run(work.step('connect'), work.step('encrypt'), work.step('attach'))
    assert work.calls == ['connect', 'encrypt', 'undo encrypt', 'undo connect']
    assert work.end == [('encrypt', True)]
    told = failure_of(caught.value)
    assert (told.step, told.error, told.leftovers) == ('encrypt', 'KeyboardInterrupt', ())


def test_interrupt_of_what_undoes_is_told(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_after(monkeypatch, 'undo encrypt')
    with pytest.raises(KeyboardInterrupt) as caught:
        work.run(work.step('connect'), work.step('encrypt'), work.step('attach', busy()))
    assert work.calls[-1] == 'undo encrypt'
    assert 'volumedrivers recover' in caught.value.__notes__[0]
    # The row is as it was written last, for recover.
    assert work.journal.names()[-1] == 'undo encrypt'
    assert work.end == []


def test_interrupt_while_the_row_is_written(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def note(**changes: object) -> None:
        if changes['step'] == 'attach':
            raise KeyboardInterrupt
        work.journal.write(**changes)

    monkeypatch.setattr(work, 'note', note)
    with pytest.raises(KeyboardInterrupt):
        work.run(work.step('connect'), work.step('attach'))
    assert work.calls == ['connect', 'undo attach', 'undo connect']


def test_a_late_step_is_left_behind_with_its_locks(work: Work) -> None:
    release = threading.Event()
    late = Step('connect', release.wait, lambda: None, 0.05, ('target t',))
    with work.held, pytest.raises(exception.DeadlineExceeded) as caught:
        work.run(work.step('first'), late, work.step('attach'))
    # Nothing is undone under its hands.
    assert work.calls == ['first']
    assert [name for name, _ in work.end] == ['stopped']
    assert "the step 'connect' is still at it" in caught.value.__notes__[0]
    told = failure_of(caught.value)
    assert (told.step, told.done, told.not_done) == ('connect', ('first',), ('attach',))
    assert told.leftovers == ("what the step 'first' made", "what the step 'connect' made")
    for name in ('volume v', 'target t'):
        with pytest.raises(exception.LockHeld, match='past its deadline'):
            work.locks.acquire((name,), what='recover', seconds=0)
    release.set()
    work.locks.acquire(('volume v', 'target t'), what='recover', seconds=5).release()


def test_a_late_undo_is_left_behind_and_stops_the_others(work: Work) -> None:
    release = threading.Event()
    late = Step('encrypt', lambda: None, release.wait, 0.05)
    with work.held, pytest.raises(exception.Busy) as caught:
        work.run(work.step('connect'), late, work.step('attach', busy()))
    assert 'undo connect' not in work.calls
    assert work.end == [('attach', False)]
    assert 'was left behind' in caught.value.__notes__[0]
    with pytest.raises(exception.LockHeld):
        work.locks.acquire(('volume v',), what='recover', seconds=0)
    release.set()
    work.locks.acquire(('volume v',), what='recover', seconds=5).release()


def test_locks_are_had_during_their_step_only(work: Work) -> None:
    held: list[object] = []

    def look() -> None:
        held.append(work.locks.holder('target t'))

    work.run(Step('connect', look, locks=('target t',)), Step('attach', look))
    assert held[0] is not None
    assert held[1] is None


def test_lock_that_somebody_has(work: Work) -> None:
    with (
        work.locks.acquire(('target t',), what='attach of another', seconds=0),
        pytest.raises(exception.LockHeld, match='attach of another'),
    ):
        work.run(work.step('first'), work.step('connect', locks=('target t',)))
    assert work.calls == ['first', 'undo first']


def test_an_observer_that_fails_stops_nothing(work: Work) -> None:
    def observer(*what: str) -> None:
        raise RuntimeError('no terminal')

    work.context.observer = observer
    work.run(work.step('connect'), work.step('attach'))
    assert work.calls == ['connect', 'attach']


def test_what_only_writes_the_row_is_called_as_it_is(work: Work) -> None:
    threads: list[threading.Thread] = []
    only = Step('record', lambda: threads.append(threading.current_thread()), records=True)
    work.run(work.step('connect', intends=False), only)
    assert threads == [threading.current_thread()]
    assert work.journal.rows == []
