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

"""What an operation did that failed, as data: what a result is to one that did not."""

from collections.abc import Sequence
import dataclasses
import typing

from volumedrivers.attachment.results import Result
from volumedrivers.libvirt.connected_volume import FailedPath

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.steps import Operating

_ATTRIBUTE = 'failure'


@dataclasses.dataclass(frozen=True)
class Failure(Result):
    """An operation that stopped at a step; ``of`` finds it in the error.

    :ivar step: that failed, was late, or was interrupted
    :ivar done: the steps before it
    :ivar undone: those that were undone again
    :ivar not_done: the steps after it
    :ivar leftovers: what was made and is still there, as far as it is known
    :ivar record: what the journal has of it now: attached (as before),
        unfinished (recover goes on), none, or unknown
    :ivar error: the class of the error
    :ivar notes: what else went wrong, such as an undo
    :ivar seconds: what each step took, those that failed and were undone, too
    :ivar within: of the operation that the step was, where it was one
    """

    operation: str
    guest: str
    guest_uuid: str
    volume_id: str
    driver_volume_type: str
    target: str | None
    step: str
    done: tuple[str, ...]
    undone: tuple[str, ...]
    not_done: tuple[str, ...]
    leftovers: tuple[str, ...]
    record: typing.Literal['attached', 'unfinished', 'none', 'unknown']
    error: str
    problem: str
    notes: tuple[str, ...]
    identity: str | None
    paths_asked: int | None
    paths_found: int | None
    paths_failed: tuple[FailedPath, ...]
    degraded: bool | None
    seconds: dict[str, float]
    within: 'Failure | None' = None


def of(error: BaseException) -> Failure | None:
    """Return what the operation did before the error; None: no step was begun."""
    return typing.cast('Failure | None', getattr(error, _ATTRIBUTE, None))


def tell(
    error: BaseException,
    work: 'Operating',
    step: str,
    *,
    done: Sequence[str],
    undone: Sequence[str],
    not_done: Sequence[str],
    kept: Sequence[str],
    seconds: dict[str, float],
) -> None:
    """Put what was done into the error; to be called when the row is written.

    :param kept: what is there of steps that should have been undone and were not
    """
    failure = Failure(
        operation=str(work.operation),
        step=step,
        done=tuple(done),
        undone=tuple(undone),
        not_done=tuple(not_done),
        error=type(error).__name__,
        problem=str(error) or type(error).__name__,
        notes=tuple(getattr(error, '__notes__', ())),
        seconds=seconds,
        within=of(error),
        **work.facts(tuple(kept)),
    )
    # Also into what Python raises, such as KeyboardInterrupt.
    setattr(error, _ATTRIBUTE, failure)
