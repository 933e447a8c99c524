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

"""Note what each test did on the host, in the process that runs the test."""

from collections.abc import Generator
from collections.abc import Sequence
import typing

import pytest

from tests.lab.hosts.host import Host
from tests.lab.report import cells
from tests.lab.report.secrets import Secrets

failed = pytest.StashKey[bool]()


class Recorder:
    """A pytest plug-in: adds to each report of a test what the matrix needs, as ``lab``.

    :ivar host: once there is one
    :ivar secrets: that were made so far
    """

    def __init__(self) -> None:
        self.host: Host | None = None
        self.secrets = Secrets()
        self._notes: list[str] = []
        self._partly: list[str] = []
        self._about: dict[str, typing.Any] | None = None

    def use(self, host: Host) -> None:
        """Note from now on what comes from a host that has begun."""
        self.host = host
        self._about = {'name': host.name, 'versions': host.about()}

    def know(self, secrets: Sequence[str]) -> None:
        """Hear of secrets, which must not be in any log from now on."""
        self.secrets.know(secrets)

    def note(self, text: str) -> None:
        """Say something in the cell of the test that runs now."""
        self._notes.append(text)

    def not_asked(self, reason: str) -> None:
        """Say that a part of what this test asks could not be asked."""
        if reason not in self._partly:
            self._partly.append(reason)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        log = self.host.take_log() if self.host else []
        if any(self.secrets.are_in(line) for line in log):
            report.outcome = 'failed'
            lines = '\n'.join(line for line in log if self.secrets.are_in(line))
            before = f'{report.longreprtext}\n' if report.longrepr else ''
            report.longrepr = f'{before}secret in the log:\n{lines}'
        if report.failed:
            item.stash[failed] = True
        self._mask(report)
        row, column = place(item)
        report.lab = {  # type: ignore[attr-defined]
            'row': row,
            'column': column,
            'log': [self.secrets.masked(line) for line in log],
            'notes': [self.secrets.masked(note) for note in self._notes],
            'in_part': [self.secrets.masked(reason) for reason in self._partly],
            'host': self._about,
        }
        self._notes, self._partly, self._about = [], [], None
        return report

    def _mask(self, report: pytest.TestReport) -> None:
        report.sections = [(name, self.secrets.masked(text)) for name, text in report.sections]
        if isinstance(report.longrepr, tuple):
            path, line, reason = report.longrepr
            report.longrepr = (path, line, self.secrets.masked(reason))
        elif report.longrepr is not None and self.secrets.are_in(report.longreprtext):
            report.longrepr = self.secrets.masked(report.longreprtext)
        report.user_properties = [
            (name, self.secrets.masked(value) if isinstance(value, str) else value)
            for name, value in report.user_properties
        ]


def place(item: pytest.Item) -> tuple[str | None, str]:
    """Return the names of row and column of a test."""
    function = getattr(item, 'originalname', None) or item.name
    column = function.removeprefix('test_')
    callspec = getattr(item, 'callspec', None)
    if callspec is None:
        return None, column
    row = callspec.params.get('row')
    others = [text for text in callspec.id.split('-') if text] if row is None else []
    if row is not None and callspec.id != row.name:
        rest = callspec.id.removeprefix(f'{row.name}-').removesuffix(f'-{row.name}')
        others = [rest]
    if others:
        column = f'{column}[{"-".join(others)}]'
    return (None if row is None else row.name), column


def outcome(report: pytest.TestReport) -> tuple[str, str]:
    """Return the outcome of a report in the words of the matrix, and the reason."""
    if report.skipped:
        where = report.longrepr
        reason = str(where[2] if isinstance(where, tuple | list) else where)
        reason = reason.removeprefix('Skipped: ')
        if reason.startswith(cells.DOES_NOT_APPLY):
            return cells.EMPTY, reason.removeprefix(cells.DOES_NOT_APPLY)
        return cells.SKIPPED, reason
    if report.failed:
        # First the sentence; then how it came to that.
        crash = getattr(report.longrepr, 'reprcrash', None)
        sentence = f'{crash.message}\n\n' if crash else ''
        reason = f'{sentence}{report.longreprtext}'
        return (cells.FAILED if report.when == 'call' else cells.ERROR), reason
    return cells.PASSED, ''
