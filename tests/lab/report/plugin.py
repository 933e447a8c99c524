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

"""Take the report into a run of pytest."""

from collections.abc import Sequence
import functools
import os
import pathlib

import pytest
from rich.console import Console

from tests.lab.report import cells
from tests.lab.report import earlier
from tests.lab.report.matrix_plugin import MatrixPlugin
from tests.lab.report.matrix_plugin import is_of_lab
from tests.lab.report.recorder import Recorder
from tests.lab.report.screen import LiveScreen
from tests.lab.report.screen import Screen
from tests.lab.rows import Row

HOST = 'VOLUMEDRIVERS_LAB_HOST'
SHORT = 'VOLUMEDRIVERS_LAB_SHORT'

recorder = pytest.StashKey[Recorder]()
shown = pytest.StashKey[frozenset[tuple[str | None, str]]]()


def add_options(parser: pytest.Parser) -> None:
    """Add the options of ``tools/lab.sh run``."""
    group = parser.getgroup('lab')
    group.addoption(
        '--host',
        metavar='FILE',
        dest='lab_host',
        help='describes the host and the volumes to be tested; default: the virtual machine',
    )
    group.addoption(
        '--short',
        action='store_true',
        dest='lab_short',
        help='only the rows of the short matrix, which has every protocol once',
    )
    group.addoption(
        '--continue',
        action='store_true',
        dest='lab_continue',
        help='what is in the report already, of the same code, is not tried again',
    )
    group.addoption(
        '--again',
        action='store_true',
        help='of tools/lab.sh: up to 12 cells that fail are tried once more on a new machine, and'
        ' the report says so',
    )
    group.addoption(
        '--machines',
        type=int,
        default=1,
        metavar='NUMBER',
        dest='lab_machines',
        help='so many virtual machines, which share the rows',
    )
    group.addoption(
        '--lab-report',
        metavar='DIRECTORY',
        default='lab-report',
        help='where matrix.html, matrix.json and the logs of the lab are written',
    )


def apply_options(config: pytest.Config) -> None:
    """Let the processes of this run know the options."""
    if config.getoption('lab_host', None):
        os.environ[HOST] = str(pathlib.Path(config.option.lab_host).absolute())
    if config.getoption('lab_short', False):
        os.environ[SHORT] = '1'


def apply_machines(config: pytest.Config) -> None:
    """Have as many processes of pytest as machines; a row stays in one of them.

    :raises pytest.UsageError: a host that is described is one
    """
    if config.getoption('lab_machines', 1) > 1 and not hasattr(config, 'workerinput'):
        if os.environ.get(HOST):
            raise pytest.UsageError('--machines is for virtual machines, and not with --host')
        config.option.numprocesses = config.option.lab_machines


def register(config: pytest.Config, rows: Sequence[Row]) -> Recorder:
    """Let the run record what its tests do, and put the matrix together of that."""
    made = Recorder()
    state = earlier.state(os.environ.get(HOST))
    found = _earlier(config, state)
    config.stash[shown] = frozenset((cell.row, cell.column) for cell in found.done)
    config.stash[recorder] = made
    config.pluginmanager.register(made, 'lab-recorder')
    if not hasattr(config, 'workerinput') and not config.option.collectonly:
        # Without the option the tests of the lab are a part of some larger run.
        directory = _directory(config)
        config.pluginmanager.register(
            MatrixPlugin(
                directory,
                [heading(row) for row in rows],
                functools.partial(make_screen, config),
                state,
                found,
            ),
            'lab-matrix',
        )
    return made


def _directory(config: pytest.Config) -> pathlib.Path | None:
    directory = config.getoption('lab_report', None)
    return None if directory is None else pathlib.Path(directory).absolute()


def _earlier(config: pytest.Config, state: str) -> earlier.Earlier:
    """Return what need not be tried again, and what failed."""
    directory = _directory(config)
    if directory is None or not config.getoption('lab_continue', False):
        return earlier.Earlier()
    try:
        return earlier.read(directory, state)
    except earlier.NotContinued as error:
        raise pytest.UsageError(str(error)) from None


def heading(row: Row) -> cells.Heading:
    """Return what the report says of a row."""
    details = [f'{row.paths} paths'] if row.paths > 1 else []
    if row.encryption:
        details.append(row.encryption)
    return cells.Heading(row.name, row.protocol, row.stand_in, ', '.join(details))


def make_screen(config: pytest.Config) -> Screen:
    """Return what draws the matrix in a terminal, or prints lines where there is none."""
    terminal = config.pluginmanager.get_plugin('terminalreporter')
    if terminal is None:
        return Screen(lambda line: None)
    if all(is_of_lab(pathlib.Path(name.partition('::')[0]).absolute()) for name in config.args):
        # Dots and file names between the lines of the matrix say nothing more,
        # and the reasons of all empty cells are in the report.
        terminal.showfspath = False
        terminal._show_progress_info = False
        config.option.reportchars = config.option.reportchars.replace('a', 'fE')
    console = Console(file=terminal._tw._file)
    if console.is_terminal and terminal.verbosity >= 0:
        return LiveScreen(console)
    return Screen(terminal.write_line)
