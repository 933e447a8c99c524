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

"""Where a process that has to do with Cinder is killed: by itself, or while Cinder answers."""

import dataclasses
import typing

from tests.functional import crash_points
from tests.functional.crash_points import FINISHED
from tests.functional.crash_points import NOTHING
from tests.functional.crash_points import TRANSACTION
from tests.functional.crash_points import UNDONE

_ROWS = 'volumedrivers.attachment.block_storage.reservations:Reservations.'
_COMPLETE = 'volumedrivers.attachment.block_storage.attach:AttachVolume.complete'

ATTACH, DETACH, RECOVER = 'volume attach', 'volume detach', 'volume recover'
REFRESH = 'volume refresh'

RESERVE = 'POST /attachments'
EXPORT = 'PUT /attachments/*'
COMPLETE = 'POST /attachments/* os-complete'
BEGIN = 'POST /volumes/* os-begin_detaching'
ROLL = 'POST /volumes/* os-roll_detaching'
RELEASE = 'DELETE /attachments/*'


@dataclasses.dataclass(frozen=True)
class Point(crash_points.Point):
    """One moment of one operation.

    :ivar request: kills when Cinder is asked that
    :ivar moment: before: Cinder never gets it; late: Cinder does it when the
        process is dead; after: Cinder has done it and the answer is lost
    """

    request: str = ''
    moment: str = ''


def attach_points() -> tuple[Point, ...]:
    """Return the points of an attach."""
    at = _of(ATTACH)
    return (
        at.written('reserve', 'nothing written', 'before', 0, NOTHING),
        at.written('reserve', 'written', 'after', 0, UNDONE),
        *at.asked('reserve', RESERVE, UNDONE, UNDONE, UNDONE),
        at.step('reserve', 'after', UNDONE),
        at.written('export', 'not written', 'before', 1, UNDONE),
        at.written('export', 'written', 'after', 1, UNDONE),
        at.written('export', 'connector written', 'after', 0, UNDONE, step='export'),
        *at.asked('export', EXPORT, UNDONE, UNDONE, UNDONE),
        at.step('export', 'after', UNDONE),
        at.written('attach', 'not written', 'before', 2, UNDONE),
        at.written('attach', 'written', 'after', 2, UNDONE),
        at.inner('attach', 'connect', 'before', UNDONE),
        at.inner('attach', 'connect', 'after', UNDONE),
        at.inner('attach', 'attach', 'before', UNDONE),
        at.inner('attach', 'attach', 'after', FINISHED),
        at.inner('attach', 'record', 'after', FINISHED),
        at.written('complete', 'not written', 'before', 3, FINISHED),
        at.written('complete', 'written', 'after', 3, FINISHED),
        *at.asked('complete', COMPLETE, FINISHED, FINISHED, FINISHED),
        at.step('complete', 'after', FINISHED),
        at.transaction('record', FINISHED),
        at.step('record', 'after', NOTHING),
    )


def undo_points() -> tuple[Point, ...]:
    """Return the points of an attach whose step complete fails."""
    at = _of(ATTACH, fail=_COMPLETE)
    return (
        at.inner('detach', 'detach', 'after', UNDONE),
        at.inner('detach', 'record', 'after', UNDONE),
        at.step('undo reserve', 'before', UNDONE),
        *at.asked('undo reserve', RELEASE, UNDONE, UNDONE, UNDONE),
        at.step('undo reserve', 'after', UNDONE),
        at.hook('undo reserve', 'row gone', _ROWS + 'remove', 'after', NOTHING),
    )


def detach_points() -> tuple[Point, ...]:
    """Return the points of a detach."""
    at = _of(DETACH)
    return (
        at.written('begin', 'not written', 'before', 0, NOTHING),
        at.written('begin', 'written', 'after', 0, UNDONE),
        *at.asked('begin', BEGIN, UNDONE, UNDONE, UNDONE),
        at.step('begin', 'after', UNDONE),
        at.written('detach', 'written', 'after', 1, UNDONE),
        at.inner('detach', 'detach', 'before', FINISHED),
        at.inner('detach', 'detach', 'after', FINISHED),
        at.inner('detach', 'disconnect', 'after', FINISHED),
        at.inner('detach', 'prove', 'after', FINISHED),
        at.inner('detach', 'record', 'after', FINISHED),
        at.written('release', 'written', 'after', 2, FINISHED),
        *at.asked('release', RELEASE, FINISHED, FINISHED, FINISHED),
        at.step('release', 'after', FINISHED),
        at.transaction('record', FINISHED),
        at.hook('record', 'row gone', _ROWS + 'remove', 'after', NOTHING, step='record'),
    )


def refresh_points(*, by_qemu: bool) -> tuple[Point, ...]:
    """Return the points of a refresh.

    :param by_qemu: of a volume that QEMU opens itself, with a password
    """
    at = _of(REFRESH)
    inner = ('connect', 'verify', 'define') if by_qemu else ()
    return (
        at.written('export', 'nothing written', 'before', 0, NOTHING),
        at.written('export', 'written', 'after', 0, UNDONE),
        *at.asked('export', EXPORT, UNDONE, UNDONE, UNDONE),
        at.step('export', 'after', UNDONE),
        at.written('complete', 'written', 'after', 2, UNDONE),
        *at.asked('complete', COMPLETE, UNDONE, UNDONE, UNDONE),
        at.step('complete', 'after', UNDONE),
        *(
            at.inner('refresh', step, moment, UNDONE)
            for step in inner
            for moment in ('before', 'after')
        ),
        at.inner('refresh', 'record', 'before', UNDONE),
        at.inner('refresh', 'record', 'after', UNDONE),
        at.transaction('record', UNDONE),
        at.step('record', 'after', NOTHING),
    )


def recover_points() -> tuple[tuple[Point, Point], ...]:
    """Return where a recover is killed itself, and what it is to settle."""
    at = _of(RECOVER)
    exported = _one(attach_points(), 'export', 'after answer')
    attached = _one(attach_points(), 'attach', 'attach after')
    begun = _one(detach_points(), 'begin', 'after answer')
    gone = _one(detach_points(), 'detach', 'record after')
    put, remove = _ROWS + 'put', _ROWS + 'remove'
    return (
        *((exported, point) for point in at.asked('', RELEASE, UNDONE, UNDONE, UNDONE)),
        (exported, at.hook('', 'row not removed', remove, 'before', UNDONE)),
        (exported, at.hook('', 'row removed', remove, 'after', NOTHING)),
        *((attached, point) for point in at.asked('', COMPLETE, FINISHED, FINISHED, FINISHED)),
        (attached, at.hook('', 'not settled', put, 'before', FINISHED)),
        (attached, at.hook('', 'settled', put, 'after', NOTHING)),
        *((begun, point) for point in at.asked('', ROLL, UNDONE, UNDONE, UNDONE)),
        (begun, at.hook('', 'settled', put, 'after', NOTHING)),
        *((gone, point) for point in at.asked('', RELEASE, FINISHED, FINISHED, FINISHED)),
    )


@dataclasses.dataclass(frozen=True)
class _of:
    operation: str
    fail: str | None = None

    def _point(
        self, step: str, label: str, kill: dict[str, object], expected: str, **more: str
    ) -> Point:
        return Point(self.operation, step, label, kill, expected, self.fail, **more)

    def step(self, step: str, moment: str, expected: str) -> Point:
        """At the border of a step of the operation itself."""
        kill = {'step': step, 'moment': moment, 'operation': self.operation}
        return self._point(step, moment, kill, expected)

    def inner(self, operation: str, step: str, moment: str, expected: str) -> Point:
        """At the border of a step of what guest and host do."""
        kill = {'step': step, 'moment': moment, 'operation': operation}
        return self._point(operation, f'{step} {moment}', kill, expected)

    def asked(self, step: str, request: str, *expected: str) -> tuple[Point, ...]:
        """While Cinder is asked."""
        return tuple(
            self._point(step, f'{moment} answer', {}, done, request=request, moment=moment)
            for moment, done in zip(('before', 'late', 'after'), expected, strict=True)
        )

    def hook(
        self, name: str, label: str, hook: str, moment: str, expected: str, *, step: str = ''
    ) -> Point:
        """Where a function is called."""
        return self._point(name, label, {'step': step, 'hook': hook, 'moment': moment}, expected)

    def written(
        self, name: str, label: str, moment: str, times: int, expected: str, *, step: str = ''
    ) -> Point:
        """Where a row is written between two steps, that many times before."""
        kill = {'step': step, 'hook': _ROWS + 'put', 'moment': moment, 'times': times}
        return self._point(name, label, kill, expected)

    def transaction(self, step: str, expected: str) -> Point:
        """Where what is written last has not been committed."""
        kill: dict[str, object] = {'step': step, 'hook': TRANSACTION}
        return self._point(step, 'not committed', {**kill, 'operation': self.operation}, expected)


def _one(points: typing.Iterable[Point], step: str, label: str) -> Point:
    (found,) = [point for point in points if (point.step, point.label) == (step, label)]
    return found
