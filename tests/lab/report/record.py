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

"""The matrix as JSON, and the logs of its cells as files."""

import dataclasses
import json
import pathlib
import re
import typing

from tests.lab.report import cells
from tests.lab.report.commands import Command
from tests.lab.report.commands import commands
from tests.lab.report.commands import shortened

MATRIX = 'matrix.json'

# Lines of a cell; all of them are in its file.
MOST = 60
MOST_OF_BAD = 600
MOST_COMMANDS = 200


def log_path(cell: cells.Cell) -> pathlib.PurePath:
    """Return where the log of a cell is, below the directory of the report."""
    row = 'whole host' if cell.row is None else cell.row
    return pathlib.PurePath('logs', _plain(row), f'{_plain(cell.column)}.log')


def write_logs(directory: pathlib.Path, matrix: cells.Matrix) -> None:
    """Write the log of every cell that has one."""
    for cell in matrix.cells.values():
        if cell.log:
            path = directory / log_path(cell)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text('\n'.join([*cell.log, '']), encoding='utf-8')


def log_lines(cell: cells.Cell) -> list[str]:
    """Return the lines of a cell's log that the report shows."""
    most = MOST_OF_BAD if cell.outcome in cells.BAD else MOST
    return list(shortened(cell.log, most, str(log_path(cell))))


def cell_commands(cell: cells.Cell) -> list[Command]:
    """Return the commands of a cell that the report shows."""
    return commands(cell.log)[:MOST_COMMANDS]


def write(path: pathlib.Path, run: dict[str, typing.Any], matrix: cells.Matrix) -> None:
    """Write the matrix."""
    path.write_text(json.dumps(as_data(run, matrix), indent=1) + '\n', encoding='utf-8')


def as_data(run: dict[str, typing.Any], matrix: cells.Matrix) -> dict[str, typing.Any]:
    """Return the whole matrix as plain data."""
    return {
        **run,
        'counts': matrix.counts(),
        'rows': [dataclasses.asdict(row) for row in matrix.rows],
        'columns': [dataclasses.asdict(column) for column in matrix.columns],
        'whole_host': [dataclasses.asdict(column) for column in matrix.alone],
        'cells': [_cell(cell) for cell in matrix.cells.values()],
        'figures': figures(matrix),
    }


def figures(matrix: cells.Matrix) -> list[dict[str, typing.Any]]:
    """Return what was measured: row, column, name and value."""
    return [
        {'row': cell.row, 'column': cell.column, 'name': name, 'value': value}
        for cell in matrix.cells.values()
        for name, value in cell.figures.items()
    ]


def _cell(cell: cells.Cell) -> dict[str, typing.Any]:
    return {
        'row': cell.row,
        'column': cell.column,
        'outcome': cell.outcome,
        'seconds': round(cell.seconds, 2),
        'preparing': round(cell.preparing, 2),
        'reason': cell.reason,
        'notes': cell.notes,
        'commands': [dataclasses.asdict(command) for command in cell_commands(cell)],
        'log': log_lines(cell),
        'whole_log': str(log_path(cell)) if cell.log else None,
    }


def _plain(name: str) -> str:
    return re.sub(r'[^\w.-]', '_', name)
