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

"""The commands of tools/lab.sh."""

import argparse
from collections.abc import Iterator
from collections.abc import Sequence
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import typing

from tests.lab.report import cells
from tests.lab.report import record
from tests.lab.vm import build as lab_build
from tests.lab.vm import exec as vm_exec
from tests.lab.vm.cache import Cache
from tests.lab.vm.errors import LabError
from tests.lab.vm.machine import MachineError
from tests.lab.vm.machine import VirtualMachine
from tests.lab.vm.wheel import PROJECT
from volumedrivers import exception

# The exit status of what cannot be had here, as tools/test.sh has it.
UNUSABLE = 3

# pytest's exit status where tests failed, and how many cells are tried again: where more of them
# fail it is not the noise of an emulated machine.
_FAILED = 1
_FEW = 12

# Logs of the daemons in the machine, the newest lines of each.
_LOGS = """\
for log in $(find /var/log -type f -name '*.log' -size +0 | sort); do
    echo "== $log"
    tail -n "$1" "$log"
done
echo "== dmesg"
dmesg | tail -n "$1"
"""


def build(options: argparse.Namespace) -> int:
    """Build what is missing: the image, and the frozen machine."""
    started = time.monotonic()
    lab = lab_build.build()
    print(f'ready     {time.monotonic() - started:6.1f} s  {lab.frozen}')
    return 0


def up(options: argparse.Namespace) -> int:
    """Restore a machine and leave it running."""
    progress = lab_build.Progress()
    directory = _directory()
    try:
        VirtualMachine.running(directory)
    except MachineError:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        print(f'runs already, in {directory}')
        return 0
    lab = lab_build.build(progress)
    machine = lab.machine(directory, lasting=True)
    try:
        progress('restore', machine.restore)
        progress('package', lambda: lab_build.push(machine))
    except BaseException:
        machine.stop()
        raise
    print(f'runs in {directory}; tools/lab.sh shell [COMMAND] runs a command there,')
    print('tools/lab.sh logs shows its logs, tools/lab.sh down ends it')
    return 0


def run(options: argparse.Namespace) -> int:
    """Run the matrix, or the part of it that a pattern names."""
    known = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ('--host', '--lab-report', '--machines'):
        known.add_argument(name)
    for name in ('--short', '--continue', '--again'):
        known.add_argument(name, action='store_true')
    given, rest = known.parse_known_args(options.rest)
    again = given.again
    # Before or behind the pattern, as somebody types them.
    if rest and not rest[0].startswith('-'):
        rest[:1] = ['-k', rest[0]]
    if not (given.host or os.environ.get('VOLUMEDRIVERS_LAB_HOST')):
        lab_build.build()
    sys.stdout.flush()
    os.chdir(PROJECT)
    report = pathlib.Path(given.lab_report or 'lab-report')
    given.again = False
    arguments = [sys.executable, '-m', 'pytest', 'tests/lab', *rest, *_as_words(given)]
    first = [*arguments, f'--junitxml={report / "junit.xml"}']
    if not again:
        os.execv(sys.executable, first)
    status = subprocess.run(first, check=False).returncode
    bad = _bad_cells(report)
    if status == _FAILED and 0 < bad <= _FEW:
        print(f'\n== lab: what failed ({bad}), once more on a new machine', flush=True)
        second = [*arguments, '--continue', f'--junitxml={report / "junit-again.xml"}']
        os.execv(sys.executable, second)
    return status


def _as_words(given: argparse.Namespace) -> Iterator[str]:
    """Yield options as they are typed."""
    for name, value in vars(given).items():
        option = f'--{name.replace("_", "-")}'
        if value is True:
            yield option
        elif value:
            yield f'{option}={value}'


def _bad_cells(report: pathlib.Path) -> int:
    try:
        found = json.loads((report / record.MATRIX).read_text(encoding='utf-8'))['counts']
    except (OSError, ValueError, KeyError):
        return 0
    return sum(found.get(name, 0) for name in cells.BAD)


def shell(options: argparse.Namespace) -> int:
    """Run a command in the running machine, or a shell."""
    machine = VirtualMachine.running(_directory())
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if not options.command:
        command = ['bash', '-l'] if terminal else ['bash', '-s']
    elif len(options.command) == 1:
        command = ['bash', '-c', options.command[0]]
    else:
        command = options.command
    status = vm_exec.execute(machine, command, terminal=terminal)
    return 128 - status if status < 0 else status


def logs(options: argparse.Namespace) -> int:
    """Show the logs of the running machine: QEMU, its console, the daemons."""
    directory = _directory()
    machine = VirtualMachine.running(directory)
    for path in (machine.qemu_log, machine.console):
        print(f'== {path}')
        print(path.read_text(errors='replace'))
    sys.stdout.flush()
    done = machine.run(['sh', '-c', _LOGS, 'logs', str(options.lines)])
    sys.stdout.buffer.write(done.stdout)
    return 0


def down(options: argparse.Namespace) -> int:
    """End the running machine."""
    directory = _directory()
    try:
        VirtualMachine.running(directory).stop()
    except MachineError as error:
        print(error)
    shutil.rmtree(directory, ignore_errors=True)
    return 0


def clean(options: argparse.Namespace) -> int:
    """End the running machine and remove all that was built."""
    down(options)
    cache = Cache()
    kept = cache.clean()
    for name in kept:
        print(f'{cache.root / name} stays: a machine uses it')
    return 0


def _directory() -> pathlib.Path:
    """Return where the machine of ``up`` is."""
    return Cache().root / 'running'


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='tools/lab.sh',
        description='Every protocol on a real kernel with real storage.',
    )
    commands = parser.add_subparsers(required=True, metavar='COMMAND')

    def add(function: typing.Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        said = (function.__doc__ or '').strip()
        added = commands.add_parser(function.__name__, help=said, description=said)
        added.set_defaults(function=function)
        return added

    add(build)
    add(up)
    running = add(run)
    running.usage = 'tools/lab.sh run [PATTERN] [options of pytest]'
    running.add_argument('rest', nargs=argparse.REMAINDER, metavar='PATTERN', help='of rows')
    inside = add(shell)
    inside.add_argument('command', nargs=argparse.REMAINDER, metavar='COMMAND')
    add(logs).add_argument('--lines', type=int, default=40, help='of each daemon (default: 40)')
    add(down)
    add(clean)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status."""
    # Machines are ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    given = list(sys.argv[1:] if arguments is None else arguments)
    # argparse would take options of pytest for its own where no pattern is before them.
    if given[:1] == ['run']:
        options = argparse.Namespace(function=run, rest=given[1:])
        if given[1:] in (['-h'], ['--help']):
            options = _parser().parse_args(given)
    else:
        options = _parser().parse_args(given)
    try:
        return int(options.function(options))
    except (LabError, exception.VolumeDriversError, OSError) as error:
        print(f'The lab: {error}', file=sys.stderr)
        return UNUSABLE


if __name__ == '__main__':
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # A thread that still reads input would keep the process.
    os._exit(status)
