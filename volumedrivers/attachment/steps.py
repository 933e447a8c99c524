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

"""Do the steps of an operation in order; when one fails, undo them in reverse.

Each step is written into the journal before it is begun, together with what
the steps before it found out; so whoever reads the row after a crash knows what
may have been done.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import time
import typing

from oslo_log import log as logging

from volumedrivers.attachment import failure
from volumedrivers.host.deadline import Call

if typing.TYPE_CHECKING:
    from volumedrivers.host.fair_lock import FairLocks
    from volumedrivers.host.fair_lock import Held


LOG = logging.getLogger(__name__)

# What is told of everything that stays in the journal.
_GO_ON = '"volumedrivers recover" goes on'


class Surroundings(typing.Protocol):
    """Where an operation is at work."""

    @property
    def options(self) -> typing.Any:
        """The group [volumedrivers]."""

    @property
    def locks(self) -> 'FairLocks':
        """Those of this host."""

    @property
    def observer(self) -> Callable[[str, str, str], None]:
        """Is told each step: operation, step, and before, after or failed."""


class Operating(typing.Protocol):
    """What does the steps, and keeps a row of the journal about them."""

    @property
    def context(self) -> Surroundings:
        """Where."""

    @property
    def operation(self) -> str:
        """What it is called."""

    @property
    def what(self) -> str:
        """The same, as it is told to people."""

    @property
    def held(self) -> 'Held | None':
        """The lock of the volume."""

    def note(self, *, step: str) -> None:
        """Write the row before a step."""

    def stopped(self, error: BaseException) -> None:
        """Write down why it did not go on."""

    def failed(self, error: BaseException, step: str, *, undone: bool) -> None:
        """Put the row in the state the failure left things in."""

    def facts(self, left: tuple[str, ...]) -> dict[str, typing.Any]:
        """Return what a Failure says of the volume, besides the steps.

        :param left: what could not be undone
        """


class Step(typing.NamedTuple):
    """One step; doing or undoing it twice does no harm.

    :ivar seconds: how long it may take
    :ivar locks: names of what it must have for itself meanwhile
    :ivar needed: False where the volume has nothing for it to do
    :ivar intends: False where the step writes the row itself before it
        changes anything, or changes nothing that the row does not name already
    :ivar records: True for one that only writes the row: it is called as it is,
        as the journal has a deadline of its own
    :ivar nested: True for one that is an operation of its own: its steps have
        their deadlines, and the observer is told of them instead
    :ivar stays: tells, when it is to be undone, whether it is not: what was done
        after it cannot be undone, and the operation can only go on; it only looks
    :ivar leaves: what is there if it is not undone, as it is told to people
    """

    name: str
    do: Callable[[], None]
    undo: Callable[[], None] | None = None
    seconds: float = 60.0
    locks: tuple[str, ...] = ()
    needed: bool = True
    intends: bool = True
    records: bool = False
    nested: bool = False
    stays: Callable[[], bool] = bool
    leaves: str = ''


class _LeftBehind(Exception):
    """Why a step is not waited for any more, while it may still be at it; see the cause."""


def run(work: 'Operating', steps: Sequence[Step]) -> dict[str, float]:
    """Do the steps; return the seconds each took, by name.

    What a step raises is raised here, after the earlier steps are undone, and
    ``failure.of`` finds in it what was done.  A
    step that raises an Exception has cleaned up behind itself; one that was
    interrupted (Ctrl-C) is ended, and may be half done, so it is undone as
    well.  When one cannot be undone, those before it are not: what is open
    must not lose the ground below it.  The error's notes say so, and the row
    stays for recover.

    A step that is late is left behind: nothing is undone under its hands, the
    locks are kept until it has ended, and the row stays for recover.

    :raises DeadlineExceeded: a step was late
    """
    account = _Account([step for step in steps if step.needed])
    for step in account.steps:
        try:
            with account.timed(step.name):
                if step.intends and not step.records:
                    work.note(step=step.name)
                _do(work, step.name, step, step.do)
        except _LeftBehind as late:
            error = typing.cast(BaseException, late.__cause__)
            error.add_note(f'the step {step.name!r} is still at it; when it has ended, {_GO_ON}')
            work.stopped(error)
            account.tell(error, work, step, [*account.done, step])
            raise error from None
        except BaseException as error:
            interrupted = not isinstance(error, Exception)
            to_undo = [*account.done, step] if interrupted else account.done
            undone = _undo(work, to_undo, error, account)
            work.failed(error, step.name, undone=undone)
            account.tell(error, work, step, to_undo)
            raise
        account.done.append(step)
    return account.seconds


class _Account:
    """What was done and undone, and what it took."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        self.done: list[Step] = []
        self.undone: list[Step] = []
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - started, 3)

    def tell(
        self, error: BaseException, work: 'Operating', failed: Step, to_undo: Sequence[Step]
    ) -> None:
        """Put it into the error of the step that failed."""
        failure.tell(
            error,
            work,
            failed.name,
            done=[step.name for step in self.done],
            undone=[step.name for step in self.undone],
            not_done=[step.name for step in self.steps[len(self.done) + 1 :]],
            kept=[
                step.leaves or f'what the step {step.name!r} made'
                for step in to_undo
                if step.undo is not None and step not in self.undone
            ],
            seconds=self.seconds,
        )


def _do(work: 'Operating', name: str, step: Step, function: Callable[[], None]) -> None:
    with contextlib.ExitStack() as stack:
        held = None
        if step.locks:
            held = stack.enter_context(
                work.context.locks.acquire(
                    step.locks, what=work.what, seconds=work.context.options.lock_timeout
                )
            )
        if step.nested:
            function()
            return
        _tell(work, name, 'before')
        if step.records:
            _write(work, name, function)
            return
        call = Call(function, what=f'step {name} of {work.what}')
        try:
            # Not interruptible: what was begun has to be known to be undone.
            call.wait(step.seconds, interruptible=False)
        except BaseException as error:
            _tell(work, name, 'failed')
            if call.ended.is_set():
                raise
            if held is not None:
                held.release_after(call.ended)
            if work.held is not None:
                work.held.release_after(call.ended)
            raise _LeftBehind from error
        _tell(work, name, 'after')


def _write(work: 'Operating', name: str, function: Callable[[], None]) -> None:
    try:
        function()
    except BaseException:
        _tell(work, name, 'failed')
        raise
    _tell(work, name, 'after')


def _undo(
    work: 'Operating', steps: Sequence[Step], error: BaseException, account: _Account
) -> bool:
    """Undo the steps in reverse; tell whether all of it could be done."""
    try:
        for step in reversed(steps):
            if step.undo is None or step.stays():
                continue
            with account.timed(f'undo {step.name}'):
                if not _undo_one(work, step, step.undo, error):
                    return False
            account.undone.append(step)
    except BaseException as interrupt:
        interrupt.add_note(f'undoing {work.what} was interrupted; {_GO_ON}')
        raise
    return True


def _undo_one(
    work: 'Operating', step: Step, undo: Callable[[], None], error: BaseException
) -> bool:
    name = f'undo {step.name}'
    try:
        work.note(step=name)
    except Exception as problem:
        # The row tells of more than there is: that is what recover expects.
        error.add_note(f'the journal could not be written before {name!r}: {problem}')
    try:
        _do(work, name, step, undo)
    except _LeftBehind as late:
        error.add_note(f'undoing the step {step.name!r} was left behind: {late.__cause__}')
    except Exception as problem:
        error.add_note(f'undoing the step {step.name!r} failed: {problem}; {_GO_ON}')
    else:
        return True
    return False


def _tell(work: 'Operating', name: str, moment: str) -> None:
    try:
        work.context.observer(work.operation, name, moment)
    except Exception:
        # Who only looks on does not stop what has begun.
        LOG.exception('The observer of %s failed', work.what)
