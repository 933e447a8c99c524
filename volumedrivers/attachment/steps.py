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

"""Do steps in order; when one fails, undo the earlier ones in reverse."""

from collections.abc import Callable
from collections.abc import Sequence
import time
import typing


class Step(typing.NamedTuple):
    """One step; doing or undoing it twice does no harm."""

    name: str
    do: Callable[[], None]
    undo: Callable[[], None] | None = None


def run(steps: Sequence[Step]) -> dict[str, float]:
    """Do the steps; return the seconds each took, by name.

    What a step raises is raised here, after the earlier steps are undone; an
    undo that fails adds a note to it and does not stop the others.  A step
    that raises an Exception has cleaned up behind itself; one that was
    interrupted (Ctrl-C) may be half done, so it is undone as well.
    """
    seconds: dict[str, float] = {}
    for position, step in enumerate(steps):
        started = time.monotonic()
        try:
            step.do()
        except BaseException as error:
            interrupted = not isinstance(error, Exception)
            _undo(steps[: position + 1] if interrupted else steps[:position], error)
            raise
        seconds[step.name] = round(time.monotonic() - started, 3)
    return seconds


def _undo(steps: Sequence[Step], error: BaseException) -> None:
    for step in reversed(steps):
        if step.undo is None:
            continue
        try:
            step.undo()
        except Exception as failure:
            error.add_note(f'undoing the step {step.name!r} failed: {failure}')
