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

"""The lab's report: what is in the matrix, in JSON, on the page and in the terminal."""

import io
import json
import pathlib
import types
import typing

from lxml import html
import pytest
from rich.console import Console

from tests.lab.report import cells
from tests.lab.report import earlier
from tests.lab.report import machines
from tests.lab.report import page
from tests.lab.report import record
from tests.lab.report.commands import Command
from tests.lab.report.commands import commands
from tests.lab.report.commands import shortened
from tests.lab.report.matrix_plugin import MatrixPlugin
from tests.lab.report.recorder import Recorder
from tests.lab.report.recorder import failed
from tests.lab.report.recorder import place
from tests.lab.report.screen import LiveScreen
from tests.lab.report.screen import Screen
from tests.lab.report.secrets import Secrets
from tests.lab.rows import Row

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
LAB = REPOSITORY / 'tests' / 'lab'
SECRET = 'hunter2hunter2'
HEADINGS = (
    cells.Heading('iscsi', 'iscsi'),
    cells.Heading('iscsi-chap', 'iscsi', None, '2 paths'),
    cells.Heading('scaleio', 'scaleio', 'a gateway & an ioctl'),
)
RAN = (
    's1 2026-01-01 00:00:00,000 DEBUG oslo_concurrency.processutils Running cmd (subprocess): '
    'iscsiadm -m node',
    's1 2026-01-01 00:00:01,000 DEBUG oslo_concurrency.processutils CMD "iscsiadm -m node" '
    'returned: 21 in 0.125s',
    's1 2026-01-01 00:00:01,000 DEBUG oslo_concurrency.processutils Running cmd (subprocess): '
    'multipath -f <x>',
)


class FakeHost:
    name = 'a machine'

    def __init__(self) -> None:
        self.log: list[str] = []

    def about(self) -> dict[str, str]:
        return {'kernel': '6.1'}

    def take_log(self) -> list[str]:
        taken, self.log = self.log, []
        return taken


class FakeItem:
    """Of a pytest.Item what the recorder asks for."""

    def __init__(self, column: str, row: str | None = None, others: str = '') -> None:
        self.originalname = f'test_{column}'
        self.path = LAB / 'test_life.py'
        self.stash = pytest.Stash()
        parameters = '-'.join(part for part in (row, others) if part)
        self.name = f'{self.originalname}[{parameters}]' if parameters else self.originalname
        self.nodeid = f'tests/lab/test_life.py::{self.name}'
        if parameters:
            params = {} if row is None else {'row': Row(row, 'iscsi', 'iscsi')}
            self.callspec = types.SimpleNamespace(params=params, id=parameters)


class Run:
    """A run of pytest, without pytest."""

    def __init__(
        self,
        directory: pathlib.Path | None = None,
        state: str = 'state',
        found: earlier.Earlier | None = None,
    ) -> None:
        self.lines: list[str] = []
        self.host = FakeHost()
        self.recorder = Recorder()
        self.recorder.know([SECRET])
        self.recorder.use(typing.cast(typing.Any, self.host))
        self.plugin = MatrixPlugin(
            directory, HEADINGS, lambda: Screen(self.lines.append), state, found
        )
        self.plugin.pytest_sessionstart()

    def report(
        self,
        item: FakeItem,
        when: str = 'call',
        outcome: str = 'passed',
        longrepr: typing.Any = None,
        log: typing.Sequence[str] = (),
        properties: typing.Sequence[tuple[str, object]] = (),
    ) -> pytest.TestReport:
        """Go through one phase of a test as a worker of xdist would."""
        self.host.log += log
        report = pytest.TestReport(
            item.nodeid,
            ('tests/lab/test_life.py', 1, item.name),
            {},
            typing.cast(typing.Any, outcome),
            longrepr,
            typing.cast(typing.Any, when),
            [('Captured log', f'said {SECRET}')],
            1.5,
            user_properties=list(properties),
        )
        wrapper = self.recorder.pytest_runtest_makereport(typing.cast(typing.Any, item))
        next(wrapper)
        with pytest.raises(StopIteration) as stopped:
            wrapper.send(report)
        made: pytest.TestReport = stopped.value.value
        # What of it is plain gets from a worker to the controller.
        sent = json.loads(json.dumps(made._to_json()))
        arrived = typing.cast(pytest.TestReport, pytest.TestReport._from_json(sent))
        self.plugin.pytest_runtest_logreport(arrived)
        return arrived

    def whole(self, item: FakeItem, **call: typing.Any) -> cells.Cell:
        """Go through all phases; return the cell."""
        self.plugin.pytest_runtest_logstart(item.nodeid)
        self.report(item, 'setup')
        self.report(item, **call)
        self.report(item, 'teardown')
        return self.plugin.matrix.cell(*place(typing.cast(typing.Any, item)))


def test_passed() -> None:
    run = Run()
    cell = run.whole(FakeItem('attach', 'iscsi-chap'), log=RAN)
    assert (cell.row, cell.column, cell.outcome) == ('iscsi-chap', 'attach', cells.PASSED)
    assert (cell.seconds, cell.preparing) == (1.5, 3.0)
    assert cell.log == list(RAN)
    assert run.lines == ['iscsi-chap  attach  passed  1.5 s']
    assert run.plugin.run['hosts'] == ['a machine']
    assert run.plugin.run['versions'] == {'kernel': '6.1'}


def test_secret_in_the_log_fails_the_cell_and_is_shown_to_nobody() -> None:
    run = Run()
    item = FakeItem('attach', 'iscsi')
    cell = run.whole(item, log=[f's1 login with {SECRET}', 's1 done'])
    assert cell.outcome == cells.FAILED
    assert cell.reason == 'secret in the log:\ns1 login with ***'
    assert cell.log == ['s1 login with ***', 's1 done']
    assert item.stash[failed]


def test_secret_in_base64_and_in_the_reason() -> None:
    run = Run()
    secrets = Secrets()
    secrets.know(['', 'ab?~', 'ab?~cd'])
    assert secrets.are_in('YWI/fg==')
    assert not secrets.are_in('')
    assert secrets.masked('x ab?~cd y ab?~ z YWI/fg') == 'x *** y *** z ***'
    report = run.report(FakeItem('attach', 'iscsi'), outcome='failed', longrepr=f'E {SECRET} is')
    assert report.longreprtext == 'E *** is'
    assert [tuple(each) for each in report.sections] == [('Captured log', 'said ***')]


def test_secret_in_the_log_of_a_test_that_is_skipped() -> None:
    run = Run()
    cell = run.whole(
        FakeItem('attach', 'iscsi'),
        outcome='skipped',
        longrepr=('file', 1, 'Skipped: does not apply: no'),
        log=[SECRET],
    )
    assert cell.outcome == cells.FAILED


def test_empty_cell_says_why_and_is_no_line() -> None:
    run = Run()
    cell = run.whole(
        FakeItem('extend', 'iscsi'),
        outcome='skipped',
        longrepr=('file', 1, f'Skipped: does not apply: {SECRET} is fixed'),
    )
    assert (cell.outcome, cell.reason) == (cells.EMPTY, '*** is fixed')
    assert run.lines == []


def test_any_other_skip_is_bad() -> None:
    run = Run()
    cell = run.whole(
        FakeItem('extend', 'iscsi'), outcome='skipped', longrepr=('file', 1, 'Skipped: later')
    )
    assert (cell.outcome, cell.reason) == (cells.SKIPPED, 'later')
    assert cells.SKIPPED in cells.BAD


def test_error_when_it_is_cleared_away() -> None:
    run = Run()
    item = FakeItem('attach', 'iscsi')
    run.report(item, 'setup')
    run.report(item)
    run.recorder.note('the machine was restored after this cell')
    run.report(item, 'teardown', 'failed', 'left behind')
    cell = run.plugin.matrix.cell('iscsi', 'attach')
    assert (cell.outcome, cell.reason) == (cells.ERROR, 'left behind')
    assert run.lines == [
        'iscsi  attach  error  1.5 s',
        '    left behind',
        '    the machine was restored after this cell',
    ]


def test_passed_in_part() -> None:
    run = Run()
    item = FakeItem('detach', 'iscsi')
    run.report(item, 'setup')
    run.recorder.not_asked('what the target has')
    run.recorder.not_asked('what the target has')
    run.report(item)
    run.report(item, 'teardown')
    cell = run.plugin.matrix.cell('iscsi', 'detach')
    assert (cell.outcome, cell.reason) == (cells.IN_PART, 'not asked: what the target has')


def test_crashed_worker() -> None:
    run = Run()
    nodeid = 'tests/lab/test_life.py::test_attach[iscsi-chap]'
    run.plugin.pytest_xdist_node_collection_finished([nodeid, nodeid.replace('attach', 'detach')])
    run.plugin.pytest_runtest_logreport(
        pytest.TestReport(
            nodeid,
            ('x', 1, 'x'),
            {},
            'failed',
            "worker 'gw0' crashed",
            typing.cast(typing.Any, '???'),
        )
    )
    assert run.plugin.matrix.cell('iscsi-chap', 'attach').outcome == cells.ERROR
    assert run.plugin.matrix.counts() == {cells.ERROR: 1, cells.NOT_RUN: 1}
    assert cells.NOT_RUN in cells.BAD


def test_rows_stay_on_one_machine() -> None:
    assert machines.scope('tests/lab/test_life.py::test_attach[iscsi-chap]') == 'iscsi-chap'
    assert machines.scope('tests/lab/test_crash.py::test_crash_in_detach[iscsi-chap]') == (
        'iscsi-chap'
    )
    for file in ('tests/lab/test_reboot.py', 'tests/lab/test_load.py'):
        assert machines.scope(f'{file}::test_many') == file
    assert machines.scope('tests/lab/test_reboot.py::test_reboot[iscsi-chap]') == (
        'tests/lab/test_reboot.py'
    )


def test_places() -> None:
    assert place(typing.cast(typing.Any, FakeItem('many'))) == (None, 'many')
    item = FakeItem('many', 'iscsi-chap', 'slow')
    assert place(typing.cast(typing.Any, item)) == ('iscsi-chap', 'many[slow]')
    item = FakeItem('many', None, 'slow')
    assert place(typing.cast(typing.Any, item)) == (None, 'many[slow]')
    matrix = cells.Matrix([], HEADINGS)
    assert matrix.split('iscsi-chap') == ('iscsi-chap', '')
    assert matrix.split('iscsi-chap-slow') == ('iscsi-chap', 'slow')
    assert matrix.split('slow-iscsi') == ('iscsi', 'slow')
    assert matrix.split('slow') == (None, 'slow')


def test_columns_are_all_tests_of_the_lab_and_say_what_they_mean() -> None:
    columns = cells.read_columns(LAB)
    names = [column.name for column in columns]
    assert names.index('attach') < names.index('detach') < names.index('crash_after_connect')
    assert len(set(names)) == len(names)
    for column in columns:
        assert column.says.endswith('.') or len(column.says) > 20, column
    assert {*cells.FILES} <= {path.name for path in LAB.glob('test_*.py')}


def test_commands() -> None:
    assert commands(RAN) == [
        Command('iscsiadm -m node', '21', 0.125),
        Command('multipath -f <x>', None, None),
    ]


def test_shortened() -> None:
    lines = [str(number) for number in range(100)]
    found = list(shortened(lines, 9, 'there'))
    assert found[:3] == ['0', '1', '2']
    assert found[3] == '... 91 lines are left out here; all are in there'
    assert found[4:] == ['94', '95', '96', '97', '98', '99']
    assert list(shortened(lines, 100, 'there')) == lines


@pytest.fixture
def written(tmp_path: pathlib.Path) -> pathlib.Path:
    run = Run(tmp_path)
    run.whole(FakeItem('attach', 'scaleio'), log=RAN, properties=[('figure.connect', 1.25)])
    run.whole(
        FakeItem('attach', 'iscsi'),
        outcome='failed',
        longrepr='assert \x1b[31m1\x1b[0m == \x002 <script>',
        log=[f'line {number}' for number in range(1000)],
    )
    run.whole(
        FakeItem('detach', 'iscsi'), outcome='skipped', longrepr=('f', 1, 'does not apply: so')
    )
    run.whole(FakeItem('sixteen_at_once'), properties=[('other', 1), ('figure.at once', '2 s')])
    run.plugin.pytest_sessionfinish()
    return tmp_path


def test_json(written: pathlib.Path) -> None:
    found = json.loads((written / 'matrix.json').read_text())
    assert found['hosts'] == ['a machine']
    assert found['versions'] == {'kernel': '6.1'}
    assert found['counts'] == {'passed': 2, 'failed': 1, 'does not apply': 1}
    assert [row['name'] for row in found['rows']] == ['iscsi', 'scaleio']
    assert found['rows'][1]['stand_in'] == 'a gateway & an ioctl'
    assert [column['name'] for column in found['columns']] == ['attach', 'detach']
    assert found['columns'][0]['says']
    cell = found['cells'][0]
    assert cell['commands'][0] == {'command': 'iscsiadm -m node', 'code': '21', 'seconds': 0.125}
    assert cell['whole_log'] == 'logs/scaleio/attach.log'
    assert found['figures'] == [
        {'row': 'scaleio', 'column': 'attach', 'name': 'connect', 'value': 1.25},
        {'row': None, 'column': 'sixteen_at_once', 'name': 'at once', 'value': '2 s'},
    ]
    assert len(found['cells'][1]['log']) == record.MOST_OF_BAD + 1
    assert len((written / 'logs/iscsi/attach.log').read_text().splitlines()) == 1000


def test_report_is_continued(written: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """What is bad in it is tried again; all else is in the next report as it was."""
    before = json.loads((written / 'matrix.json').read_text())
    found = earlier.read(written, 'state')
    bad = [cell for cell in before['cells'] if cell['outcome'] in cells.BAD]
    assert bad
    assert {(cell.row, cell.column) for cell in found.done} == {
        (cell['row'], cell['column']) for cell in before['cells'] if cell not in bad
    }
    run = Run(tmp_path / 'next', found=found)
    run.plugin.pytest_sessionfinish()
    after = json.loads((tmp_path / 'next' / 'matrix.json').read_text())
    assert after['cells'] == [cell for cell in before['cells'] if cell not in bad]
    assert after['figures'] == before['figures']
    assert set(found.failed) == {(cell['row'], cell['column']) for cell in bad}
    for cell in after['cells']:
        if cell['whole_log']:
            log = pathlib.Path(cell['whole_log'])
            assert (tmp_path / 'next' / log).read_text() == (written / log).read_text()


def test_cell_that_passes_the_second_time(written: pathlib.Path, tmp_path: pathlib.Path) -> None:
    found = earlier.read(written, 'state')
    run = Run(tmp_path / 'next', found=found)
    ((row, column),) = found.failed
    item = FakeItem(column, row)
    for when in ('setup', 'call', 'teardown'):
        run.report(item, when)
    cell = run.plugin.matrix.cells[row, column]
    first = found.failed[row, column]
    assert (cell.outcome, cell.reason) == (cells.AGAIN, first.reason)
    assert cell.log == [*first.log, '== the second time']
    run.plugin.pytest_sessionfinish()
    assert (row, column) in {
        (cell.row, cell.column) for cell in earlier.read(tmp_path / 'next', 'state').done
    }
    assert 'passed the second time' in (tmp_path / 'next' / 'matrix.html').read_text()


def test_report_of_other_code_is_not_continued(
    written: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(earlier.NotContinued, match='another state of the package'):
        earlier.read(written, 'another')
    with pytest.raises(earlier.NotContinued, match=r'there is no .*matrix\.json'):
        earlier.read(tmp_path / 'nowhere', 'state')
    (written / 'matrix.json').write_text('{')
    with pytest.raises(earlier.NotContinued, match='cannot be read'):
        earlier.read(written, 'state')


def test_state_is_the_code() -> None:
    here = pathlib.Path(__file__)
    assert earlier.state(None) == earlier.state(None)
    assert earlier.state(str(here)) != earlier.state(None)


def test_page(written: pathlib.Path) -> None:
    text = (written / 'matrix.html').read_text()
    root = html.document_fromstring(text)
    table = root.xpath('//table[contains(@class, "matrix")]')[0]
    assert table.xpath('./thead/tr/th/span/text()') == ['attach', 'detach']
    first, second = table.xpath('./tbody/tr')
    assert first.xpath('./th/text()') == ['iscsi']
    assert 'stand-in: a gateway & an ioctl' in second.xpath('./th')[0].text_content()
    # Words, not colours alone.
    summaries = [cell.text_content() for cell in table.xpath('.//td/details/summary')]
    assert summaries == ['failed1.5 s', 'does not apply', 'passed1.5 s']
    assert second.xpath('./td')[1].text_content() == 'not chosen'
    bad = first.xpath('./td')[0].text_content()
    assert 'assert 1 == 2 <script>' in bad
    assert 'iscsiadm -m node' in second.xpath('./td')[0].text_content()
    assert 'so' in first.xpath('./td')[1].text_content()
    figures = root.xpath('//table[@class="figures"]')[0]
    assert [row.text_content() for row in figures.xpath('./tbody/tr')] == [
        'scaleio1.25',
        'whole host2 s',
    ]
    assert 'a machine' in root.xpath('//table[@class="facts"]')[0].text_content()
    assert '1 of 3 cells that apply are not as they have to be' in text


def test_page_needs_nothing_but_itself(written: pathlib.Path) -> None:
    root = html.document_fromstring((written / 'matrix.html').read_text())
    assert root.xpath('//script | //link | //img | //iframe') == []
    assert 'url(' not in root.xpath('//style')[0].text
    # Only the logs beside it.
    for address in root.xpath('//@href | //@src'):
        assert (written / address).exists()


def test_page_of_a_host_that_could_not_be_had() -> None:
    matrix = cells.Matrix([], HEADINGS)
    matrix.cell('iscsi', 'attach').take(cells.ERROR, 'no machine')
    text = page.page({'hosts': [], 'versions': {}}, matrix).text_content()
    assert 'none could be had' in text
    assert 'no machine' in text


def test_summary_has_a_line_for_each_row() -> None:
    run = Run()
    run.whole(FakeItem('attach', 'iscsi'))
    run.whole(FakeItem('attach', 'scaleio'), outcome='failed', longrepr='no')
    assert list(run.plugin._screen.summary(run.plugin.run)) == [
        'iscsi    1 passed  4 s',
        'scaleio  1 failed  4 s  (stand-in: a gateway & an ioctl)',
        'host: a machine',
    ]


def test_live_matrix() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    screen = LiveScreen(console)
    matrix = cells.Matrix(cells.read_columns(LAB), HEADINGS)
    screen.begin(matrix)
    first, second = matrix.cell('iscsi', 'attach'), matrix.cell('iscsi', 'detach')
    matrix.cell('scaleio', 'attach').take(cells.FAILED, 'no')
    screen.begun(first)
    first.take(cells.PASSED, '')
    screen.done(first)
    screen.begun(second)
    with console.capture() as drawn:
        console.print(screen.table())
    lines = [line.split() for line in drawn.get().splitlines()]
    assert ['iscsi', 'ok', '>>'] in lines
    assert ['scaleio', '*', 'NO'] in lines
    assert any('1 attach' in ' '.join(line) for line in lines)
    screen.end()
