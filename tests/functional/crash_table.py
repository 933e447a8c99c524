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

"""What recover did after each crash, for the end of the test run."""

import collections
import typing

from tests.functional import crash_points
from tests.functional.crash_points import Point

_rows: dict[tuple[str, str], dict[str, list[str]]] = collections.defaultdict(
    lambda: collections.defaultdict(list)
)


def add(kind: str, point: Point, done: str) -> None:
    """Note what was done at a point, with a volume of this kind."""
    _rows[point.operation, point.step][kind].append(done)


def export() -> list[list[str]]:
    """Return what was noted, for the process that prints the table."""
    return [
        [operation, step, kind, done]
        for (operation, step), row in _rows.items()
        for kind, all_done in row.items()
        for done in all_done
    ]


def take(noted: list[list[str]]) -> None:
    """Note what another process has exported."""
    for operation, step, kind, done in noted:
        _rows[operation, step][kind].append(done)


def _place(item: tuple[tuple[str, str], object]) -> tuple[int, int]:
    operation, step = item[0]
    return crash_points.OPERATIONS.index(operation), crash_points.STEPS.index(step)


def lines() -> typing.Iterator[str]:
    """Write the table: a line for each step, the number of points for each kind of volume."""
    if not _rows:
        return
    kinds = list(dict.fromkeys(kind for row in _rows.values() for kind in row))
    table = [['operation', 'step', *kinds, 'what was done then']]
    total = 0
    for (operation, step), row in sorted(_rows.items(), key=_place):
        counted = collections.Counter(done for kind in kinds for done in row.get(kind, ()))
        total += counted.total()
        table.append(
            [
                operation,
                step or '-',
                *(str(len(row.get(kind, ()))) for kind in kinds),
                ', '.join(f'{number} {done}' for done, number in counted.items()),
            ]
        )
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        yield '  '.join(cells).rstrip()
    yield f'{total} points at which a process was killed'
