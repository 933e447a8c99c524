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

"""The matrix in the terminal while it fills."""

from collections.abc import Iterator
import typing

from rich import console as rich_console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tests.lab.report import cells

# Two characters and a colour for each outcome.
MARKS = {
    cells.PASSED: ('ok', 'green'),
    cells.IN_PART: ('ok', 'cyan'),
    cells.AGAIN: ('2.', 'yellow'),
    cells.FAILED: ('NO', 'bold white on red'),
    cells.ERROR: ('ER', 'bold white on red'),
    cells.EMPTY: ('--', 'dim'),
    cells.SKIPPED: ('sk', 'bold yellow'),
    cells.NOT_RUN: (' .', 'dim'),
}
RUNNING = ('>>', 'bold blue')
_REASON_LINES = 6


class Screen:
    """Prints one line for each cell that is done, and a summary in the end.

    :param write: writes a line
    """

    def __init__(self, write: typing.Callable[[str], object]) -> None:
        self._write = write
        self.matrix: cells.Matrix
        self._rows: dict[str | None, list[cells.Cell]] = {}

    def begin(self, matrix: cells.Matrix) -> None:
        """Show this matrix from now on."""
        self.matrix = matrix

    def begun(self, cell: cells.Cell) -> None:
        """Note that a test has begun."""

    def done(self, cell: cells.Cell) -> None:
        """Show what became of a test; an empty cell is told with its row only."""
        if cell.outcome != cells.EMPTY:
            self._write(line(cell))
        if cell.outcome in cells.BAD:
            for text in cell.reason.splitlines()[:_REASON_LINES]:
                self._write(f'    {text}')
        for note in cell.notes:
            self._write(f'    {note}')

    def end(self) -> None:
        """Show nothing more."""

    def summary(self, run: dict[str, typing.Any]) -> Iterator[str]:
        """Return what there is to say in the end: a line for each row, and for the run."""
        width = max((len(row.name) for row in self.matrix.rows), default=0)
        for row in self.matrix.rows:
            mine = [cell for cell in self.matrix.cells.values() if cell.row == row.name]
            seconds = sum(cell.seconds + cell.preparing for cell in mine)
            stand_in = f'  (stand-in: {row.stand_in})' if row.stand_in else ''
            yield f'{row.name:{width}}  {_counted(mine)}  {seconds:.0f} s{stand_in}'
        alone = [cell for cell in self.matrix.cells.values() if cell.row is None]
        if alone:
            yield f'{"whole host":{width}}  {_counted(alone)}'
        for host in run['hosts']:
            yield f'host: {host}'


def line(cell: cells.Cell) -> str:
    """Return a cell as one line."""
    row = 'whole host' if cell.row is None else cell.row
    return f'{row}  {cell.column}  {cell.outcome}  {cell.seconds:.1f} s'


class LiveScreen(Screen):
    """Draws the matrix again and again, as far as it fits on the screen."""

    def __init__(self, console: rich_console.Console) -> None:
        super().__init__(console.print)
        self._running: set[tuple[str | None, str]] = set()
        self._console = console
        self._live: Live

    def begin(self, matrix: cells.Matrix) -> None:
        super().begin(matrix)
        self._live = Live(console=self._console, refresh_per_second=2, get_renderable=self.table)
        self._live.start()

    def begun(self, cell: cells.Cell) -> None:
        self._running.add((cell.row, cell.column))

    def done(self, cell: cells.Cell) -> None:
        self._running.discard((cell.row, cell.column))
        if cell.outcome in cells.BAD or cell.notes:
            super().done(cell)

    def end(self) -> None:
        self._running.clear()
        self._live.stop()

    def table(self) -> Table:
        """Return the matrix; columns have numbers, which the lines below explain."""
        columns = self.matrix.columns
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column('')
        for number, _ in enumerate(columns, 1):
            table.add_column(str(number), width=2, no_wrap=True)
        for row in self.matrix.rows:
            marks = [self._mark(row.name, column.name) for column in columns]
            table.add_row(row.name + (' *' if row.stand_in else ''), *marks)
        numbers = '  '.join(f'{number} {column.name}' for number, column in enumerate(columns, 1))
        counts = ', '.join(f'{many} {name}' for name, many in self.matrix.counts().items())
        table.caption = f'{numbers}\n{counts}   (* a stand-in for hardware)'
        table.caption_justify = 'left'
        return table

    def _mark(self, row: str, column: str) -> Text:
        cell = self.matrix.cells.get((row, column))
        if cell is None:
            return Text('')
        if (row, column) in self._running:
            return Text(*RUNNING)
        return Text(*MARKS[cell.outcome])


def _counted(found: list[cells.Cell]) -> str:
    outcomes = [cell.outcome for cell in found]
    return ', '.join(
        f'{outcomes.count(name)} {name}' for name in cells.OUTCOMES if name in outcomes
    )
