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

"""Fixtures of the matrix: the host under test, its storage, a row and a volume of it."""

from collections.abc import Generator
from collections.abc import Iterator
from collections.abc import Sequence
import functools
import itertools
import os
import pathlib
import signal
import typing

import pytest

from tests.lab import rows
from tests.lab.hosts.checked import DescriptionError
from tests.lab.hosts.host import Host
from tests.lab.hosts.host import HostError
from tests.lab.hosts.observed import ObservedHost
from tests.lab.hosts.observed import why_unreachable
from tests.lab.hosts.open import open_host
from tests.lab.keys import PASSPHRASE
from tests.lab.life import Life
from tests.lab.lives import Lives
from tests.lab.report import cells
from tests.lab.report import plugin
from tests.lab.report.machines import TOGETHER
from tests.lab.report.machines import RowScheduling
from tests.lab.report.matrix_plugin import is_of_lab
from tests.lab.report.recorder import Recorder
from tests.lab.report.recorder import place as place_of

# Emulated, and the first cell of a machine waits until it is up.
TIMEOUT = 1800  # seconds

# The exit status of a run without a host, as tools/lab.sh has it.
NO_HOST = 3

lives = pytest.StashKey[Lives]()


def pytest_addoption(parser: pytest.Parser) -> None:
    plugin.add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    plugin.apply_options(config)
    plugin.apply_machines(config)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: typing.Any) -> RowScheduling | None:
    """Let a row stay on one machine."""
    return RowScheduling(config, log) if config.getoption('lab_machines', 1) > 1 else None


def pytest_configure(config: pytest.Config) -> None:
    plugin.apply_options(config)
    try:
        found = described() or rows.ROWS
    except DescriptionError as error:
        raise pytest.UsageError(str(error)) from None
    recorder = plugin.register(config, [*found, *itertools.chain(*rows.OF_FILES.values())])
    recorder.know([PASSPHRASE])
    config.stash[lives] = Lives(recorder)
    config.addinivalue_line(
        'markers',
        'spoils_guest: its guest cannot have the next device of the same name; the machine is '
        'restored',
    )
    # Its machine ends with the run, however that is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@functools.cache
def described() -> Sequence[rows.Row] | None:
    """Return the rows of the host that was chosen; None: those of the project."""
    return open_host(os.environ.get(plugin.HOST)).rows()


def chosen_rows(file: str = '') -> list[rows.Row]:
    """Return the rows of this run, or those for the tests of a file that has its own."""
    own = rows.OF_FILES.get(file)
    found = described()
    if found is not None:
        return [] if own else list(found)
    return [row for row in own or rows.ROWS if row.short or not os.environ.get(plugin.SHORT)]


def pytest_ignore_collect(collection_path: pathlib.Path) -> bool | None:
    """Leave out a file that this run is not about: none of its rows, or none of its columns."""
    name = collection_path.name
    if not name.startswith('test_') or not is_of_lab(collection_path):
        return None
    if os.environ.get(plugin.SHORT) and name not in rows.SHORT_FILES:
        return True
    return True if name in rows.OF_FILES and not chosen_rows(name) else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let a test that asks for a row run once for each."""
    if 'row' not in metafunc.fixturenames:
        return
    file = pathlib.Path(str(metafunc.module.__file__)).name
    metafunc.parametrize(
        'row',
        [pytest.param(row, id=row.name) for row in chosen_rows(file)],
        scope='module',
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Go through the matrix row by row; then what all rows go through together."""
    shown = config.stash[plugin.shown]
    known = {item for item in items if is_of_lab(item.path) and place_of(item) in shown}
    if known:
        config.hook.pytest_deselected(items=list(known))
        items[:] = [item for item in items if item not in known]
    order = {row.name: place for place, row in enumerate(chosen_rows())}
    files = {name: place for place, name in enumerate(cells.FILES)}

    def place(item: pytest.Item) -> tuple[int, int, int]:
        if not is_of_lab(item.path):
            return 0, 0, 0
        row = _row(item)
        if row is None or item.path.name in TOGETHER:
            return 2, 0, 0
        return 1, order[row.name], files.get(item.path.name, len(files))

    items.sort(key=place)
    for item in items:
        if is_of_lab(item.path) and item.get_closest_marker('timeout') is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Leave a cell empty where what it needs cannot be asked of this storage."""
    __tracebackhide__ = True
    try:
        return (yield)
    except Exception as error:
        _skip_if_unreachable(error)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Leave a cell empty where what it asks cannot be asked of this storage."""
    __tracebackhide__ = True
    try:
        return (yield)
    except Exception as error:
        _skip_if_unreachable(error)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, None, None]:
    """Leave nothing of a cell that failed, or of a row, to those that follow."""
    torn_down = False
    try:
        result = yield
        torn_down = True
    finally:
        if is_of_lab(item.path):
            item.config.stash[lives].after(
                item,
                clean=torn_down,
                row=_row(item),
                next_row=None if nextitem is None else _row(nextitem),
                same_module=nextitem is not None and nextitem.path == item.path,
                # No row can have the host anew while all are on it.
                together=item.path.name in TOGETHER,
            )
    return result


@pytest.fixture(scope='session')
def host(pytestconfig: pytest.Config) -> Iterator[Host]:
    """The host under test."""
    recorder: Recorder = pytestconfig.stash[plugin.recorder]
    observed = ObservedHost(open_host(os.environ.get(plugin.HOST)), recorder)
    try:
        observed.__enter__()
        recorder.use(observed)
    except Exception as error:
        reason = f'there is no host to test: {type(error).__name__}: {error}'
        if hasattr(pytestconfig, 'workerinput'):
            # xdist has no way to end the whole run from here.
            raise HostError(reason) from None
        # Once, and not by every cell.
        pytest.exit(reason, NO_HOST)
    pytestconfig.stash[lives].host = observed
    yield observed
    pytestconfig.stash[lives].host = None
    observed.__exit__(None, None, None)


@pytest.fixture(autouse=True)
def _applies(request: pytest.FixtureRequest) -> None:
    """Leave a cell empty, with the reason, where the column does not apply to the row."""
    if 'row' in request.fixturenames:
        row: rows.Row = request.getfixturevalue('row')
        reason = row.why_not(request.function.__name__.removeprefix('test_'), request.path.name)
        if reason:
            pytest.skip(f'{cells.DOES_NOT_APPLY}{reason}')


@pytest.fixture
def life(request: pytest.FixtureRequest, row: rows.Row, host: Host) -> Life:
    """One volume of the row on its way through all cells of a module."""
    return request.config.stash[lives].of(pathlib.Path(request.path), row)


def _row(item: pytest.Item) -> rows.Row | None:
    callspec = getattr(item, 'callspec', None)
    return None if callspec is None else callspec.params.get('row')


def _skip_if_unreachable(error: BaseException) -> None:
    reason = why_unreachable(error)
    if reason is not None:
        pytest.skip(f'{cells.DOES_NOT_APPLY}{reason}')
