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

"""The matrix as data: rows, columns, and what became of each cell."""

import ast
from collections.abc import Iterable
import dataclasses
import pathlib
import typing

PASSED = 'passed'
IN_PART = 'passed in part'
AGAIN = 'passed the second time'
FAILED = 'failed'
ERROR = 'error'
EMPTY = 'does not apply'
SKIPPED = 'skipped'
NOT_RUN = 'not run'

# What the report says of each, and for which a run fails.
OUTCOMES = {
    PASSED: 'it was tried, and is as it has to be',
    IN_PART: 'so is all that could be asked; the reason says what could not',
    AGAIN: 'it failed, as the reason says, and was right when it was tried again on a new machine',
    FAILED: 'it was tried, and is not as it has to be',
    ERROR: 'it could not be tried, or what was tried left something behind',
    EMPTY: 'there is no such thing with this row; the reason says why',
    SKIPPED: 'it was not tried; the reason says why',
    NOT_RUN: 'the run ended before it',
}
GOOD = (PASSED, IN_PART, AGAIN)
BAD = (FAILED, ERROR, SKIPPED, NOT_RUN)

# The order of the columns; files that are not named here come after these.
FILES = (
    'test_life.py',
    'test_sharing.py',
    'test_crash.py',
    'test_faults.py',
    'test_reboot.py',
    'test_cinder.py',
    'test_nova.py',
    'test_figures.py',
)

# How a reason begins that tells why a cell is empty.
DOES_NOT_APPLY = 'does not apply: '

_WORST_FIRST = (ERROR, FAILED, SKIPPED, EMPTY, AGAIN, IN_PART, PASSED, NOT_RUN)


@dataclasses.dataclass
class Cell:
    """One test.

    :ivar row: name of the row; None: a test of the whole host
    :ivar column: name of the test function, without ``test_``
    :ivar seconds: of the test itself, without what had to be prepared
    :ivar preparing: seconds of that
    :ivar reason: why it failed, or is empty
    :ivar notes: what else has to be known
    :ivar log: what the sessions on the host have logged meanwhile
    :ivar figures: measured by it, by name
    """

    row: str | None
    column: str
    outcome: str = NOT_RUN
    seconds: float = 0.0
    preparing: float = 0.0
    reason: str = ''
    notes: list[str] = dataclasses.field(default_factory=list)
    log: list[str] = dataclasses.field(default_factory=list)
    figures: dict[str, typing.Any] = dataclasses.field(default_factory=dict)

    def take(self, outcome: str, reason: str) -> None:
        """Note the outcome of one part of the test; the worst of all counts."""
        if _WORST_FIRST.index(outcome) < _WORST_FIRST.index(self.outcome):
            self.outcome = outcome
        if reason:
            self.reason = f'{self.reason}\n\n{reason}' if self.reason else reason


@dataclasses.dataclass(frozen=True)
class Column:
    """A test function; ``says`` is the first line of its documentation."""

    name: str
    says: str
    file: str


@dataclasses.dataclass(frozen=True)
class Heading:
    """What the report says of a row."""

    name: str
    protocol: str
    stand_in: str | None = None
    detail: str = ''


class Matrix:
    """Every cell of a run, those to come included.

    :param columns: all there are, in order
    :param headings: of all rows there are, in order
    """

    def __init__(self, columns: Iterable[Column], headings: Iterable[Heading]) -> None:
        self._columns = {column.name: column for column in columns}
        self._headings = {heading.name: heading for heading in headings}
        self.cells: dict[tuple[str | None, str], Cell] = {}

    def cell(self, row: str | None, column: str) -> Cell:
        """Return a cell, a new one if it is not known."""
        key = row, column
        if key not in self.cells:
            self.cells[key] = Cell(row, column)
        return self.cells[key]

    @property
    def rows(self) -> list[Heading]:
        """Those that have a cell, in order."""
        used = dict.fromkeys(row for row, _ in self.cells if row is not None)
        known = [self._headings[name] for name in self._headings if name in used]
        return known + [Heading(name, '') for name in used if name not in self._headings]

    @property
    def columns(self) -> list[Column]:
        """Those that have a cell in a row, in order."""
        return self._used_columns(row is not None for row, _ in self.cells)

    @property
    def alone(self) -> list[Column]:
        """The tests of the whole host."""
        return self._used_columns(row is None for row, _ in self.cells)

    def counts(self) -> dict[str, int]:
        """Return how many cells have which outcome; those with none are left out."""
        found = [cell.outcome for cell in self.cells.values()]
        return {name: found.count(name) for name in OUTCOMES if name in found}

    def split(self, parameters: str) -> tuple[str | None, str]:
        """Return the row in a test's parameters, and the others."""
        for name in sorted(self._headings, key=len, reverse=True):
            if parameters == name:
                return name, ''
            if parameters.startswith(f'{name}-'):
                return name, parameters.removeprefix(f'{name}-')
            if parameters.endswith(f'-{name}'):
                return name, parameters.removesuffix(f'-{name}')
        return None, parameters

    def _used_columns(self, wanted: Iterable[bool]) -> list[Column]:
        used = dict.fromkeys(
            column for (_, column), is_wanted in zip(self.cells, wanted, strict=True) if is_wanted
        )
        order = {name: place for place, name in enumerate(self._columns)}

        def place(name: str) -> tuple[int, str]:
            return order.get(name.partition('[')[0], len(order)), name

        return [self._column(name) for name in sorted(used, key=place)]

    def _column(self, name: str) -> Column:
        function, _, rest = name.partition('[')
        known = self._columns.get(function)
        if known is None:
            return Column(name, '', '')
        return dataclasses.replace(known, name=name) if rest else known


def read_columns(directory: pathlib.Path) -> list[Column]:
    """Return the test functions of a directory, in the order of files and lines."""
    order = {name: place for place, name in enumerate(FILES)}
    paths = sorted(directory.glob('test_*.py'))
    paths.sort(key=lambda path: order.get(path.name, len(order)))
    found = []
    for path in paths:
        for node in ast.parse(path.read_text(encoding='utf-8')).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith('test_'):
                says = (ast.get_docstring(node) or '').partition('\n')[0]
                found.append(Column(node.name.removeprefix('test_'), says, path.name))
    return found
