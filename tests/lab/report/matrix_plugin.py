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

"""Put the matrix together, in the process that has the terminal."""

from collections.abc import Callable
from collections.abc import Iterable
import datetime
import pathlib
import re
import time
import typing

import pytest

from tests.lab.report import cells
from tests.lab.report import earlier
from tests.lab.report import page
from tests.lab.report import record
from tests.lab.report.recorder import outcome
from tests.lab.report.recorder import place
from tests.lab.report.screen import Screen

FIGURE = 'figure.'
_NODE = re.compile(r'::test_(?P<function>\w+)(?:\[(?P<parameters>.*)\])?$')
_LAB = pathlib.Path(__file__).resolve().parents[1]


class MatrixPlugin:
    """A pytest plug-in; it writes ``matrix.json``, ``matrix.html`` and the logs.

    :param directory: for these files; None: none are written
    :param headings: of all rows there are
    :param make_screen: called when the run begins, and pytest has its terminal
    :param state: of the code that is tested
    :param before: what an earlier run has shown
    """

    def __init__(
        self,
        directory: pathlib.Path | None,
        headings: Iterable[cells.Heading],
        make_screen: Callable[[], Screen],
        state: str = '',
        before: earlier.Earlier | None = None,
    ) -> None:
        self.directory = directory
        self.matrix = cells.Matrix(cells.read_columns(_LAB), headings)
        self.run: dict[str, typing.Any] = {'state': state, 'hosts': [], 'versions': {}}
        self._before = before or earlier.Earlier()
        for cell in self._before.done:
            self.matrix.cells[cell.row, cell.column] = cell
        self._make_screen = make_screen
        self._screen: Screen
        self._began = time.monotonic()

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self) -> None:
        self._began = time.monotonic()
        self.run['started'] = datetime.datetime.now().astimezone().isoformat(timespec='seconds')
        self._screen = self._make_screen()
        self._screen.begin(self.matrix)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            if is_of_lab(item.path):
                self.matrix.cell(*place(item))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        for nodeid in ids:
            if is_of_lab(pathlib.Path(nodeid.partition('::')[0])):
                self.matrix.cell(*self._place(nodeid))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if is_of_lab(pathlib.Path(nodeid.partition('::')[0])):
            self._screen.begun(self.matrix.cell(*self._place(nodeid)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not is_of_lab(pathlib.Path(report.nodeid.partition('::')[0])):
            return
        lab: dict[str, typing.Any] = getattr(report, 'lab', {})
        where = (lab['row'], lab['column']) if lab else self._place(report.nodeid)
        cell = self.matrix.cell(*where)
        self._note_host(lab.get('host'))
        became, reason = outcome(report)
        if became == cells.PASSED and report.when != 'call':
            # It says nothing yet, or not any more.
            reason = ''
        else:
            in_part = lab.get('in_part', [])
            if became == cells.PASSED and in_part:
                became, reason = cells.IN_PART, 'not asked: ' + '; '.join(in_part)
            cell.take(became, reason)
        if report.when == 'call':
            cell.seconds += report.duration
        else:
            cell.preparing += report.duration
        cell.log += lab.get('log', [])
        cell.notes += lab.get('notes', [])
        if report.when == 'call':
            cell.figures |= {
                name.removeprefix(FIGURE): value
                for name, value in report.user_properties
                if name.startswith(FIGURE)
            }
        if report.when not in ('setup', 'call'):
            first = self._before.failed.get((cell.row, cell.column))
            if first is not None and cell.outcome in cells.GOOD:
                cell.outcome, cell.reason = cells.AGAIN, first.reason
                cell.log = [*first.log, '== the second time', *cell.log]
            self._screen.done(cell)

    def pytest_report_teststatus(self, report: object) -> tuple[str, str, str] | None:
        """Leave it to the matrix to say what became of a test."""
        if not isinstance(report, pytest.TestReport) or not hasattr(report, 'lab'):
            return None
        if report.when != 'call' and report.passed:
            return '', '', ''
        if report.failed:
            return ('failed' if report.when == 'call' else 'error'), '', ''
        return ('skipped' if report.skipped else 'passed'), '', ''

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self._screen.end()
        self.run['seconds'] = round(time.monotonic() - self._began, 1)
        if self.directory is not None and self.matrix.cells:
            self.directory.mkdir(parents=True, exist_ok=True)
            record.write_logs(self.directory, self.matrix)
            record.write(self.directory / record.MATRIX, self.run, self.matrix)
            page.write(self.directory / 'matrix.html', self.run, self.matrix)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.matrix.cells:
            return
        terminalreporter.section('matrix')
        for line in self._screen.summary(self.run):
            terminalreporter.write_line(line)
        if self.directory is not None:
            terminalreporter.write_line(f'report: {self.directory / "matrix.html"}')

    def _place(self, nodeid: str) -> tuple[str | None, str]:
        match = _NODE.search(nodeid)
        if match is None:
            return None, nodeid
        if match['parameters'] is None:
            return None, match['function']
        row, rest = self.matrix.split(match['parameters'])
        return row, f'{match["function"]}[{rest}]' if rest else match['function']

    def _note_host(self, about: dict[str, typing.Any] | None) -> None:
        if about and about['name'] not in self.run['hosts']:
            self.run['hosts'].append(about['name'])
            self.run['versions'] |= about['versions']


def is_of_lab(path: pathlib.Path) -> bool:
    """Say whether a file, absolute or below the repository, is one of the lab's tests."""
    return (_LAB.parents[1] / path).is_relative_to(_LAB)
