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

#!/usr/bin/env python3
"""How long it takes to start: the registry's import, and ``volumedrivers --help``.

Medians of several runs, taken in turn so that a busy machine slows all alike,
beside the start of Python itself in the same run.

    python benchmarks/startup.py [--runs N]
"""

import argparse
from collections.abc import Sequence
import json
import pathlib
import statistics
import subprocess
import sys
import time
import typing


class Case(typing.NamedTuple):
    """One thing to start, and how long it may take."""

    name: str
    command: Sequence[str]
    goal: float | None = None  # ms


SCRIPT = str(pathlib.Path(sys.executable).parent / 'volumedrivers')
IMPORT = """\
import time
started = time.perf_counter()
import volumedrivers.libvirt.registry
print((time.perf_counter() - started) * 1000)
"""
CASES = (
    Case('python -c pass', (sys.executable, '-c', 'pass')),
    Case('import volumedrivers.libvirt.registry', (sys.executable, '-c', IMPORT), 60),
    Case('volumedrivers --help', (SCRIPT, '--help'), 250),
    Case('volumedrivers --version', (SCRIPT, '--version')),
    Case('volumedrivers driver list', (SCRIPT, 'driver', 'list')),
)


def measure(case: Case) -> float:
    """Return the milliseconds of one run; an import is timed without Python's own start."""
    started = time.perf_counter()
    done = subprocess.run(case.command, check=True, stdout=subprocess.PIPE, text=True)
    if case.name.startswith('import '):
        return float(done.stdout)
    return (time.perf_counter() - started) * 1000


def main() -> int:
    """Print a table; exit with 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--runs', type=int, default=15)
    parser.add_argument('--json', action='store_true', help='for a machine')
    arguments = parser.parse_args()
    for case in CASES:
        measure(case)  # the first writes byte code and fills caches
    times: dict[str, list[float]] = {case.name: [] for case in CASES}
    for _ in range(arguments.runs):
        for case in CASES:
            times[case.name].append(measure(case))
    medians = {name: statistics.median(values) for name, values in times.items()}
    if arguments.json:
        print(json.dumps({name: round(value, 1) for name, value in medians.items()}))
    else:
        base = medians[CASES[0].name]
        print(f'{"":<40}{"median":>9}{"goal":>9}{"to bare Python":>17}')
        for case in CASES:
            goal = f'{case.goal:.0f} ms' if case.goal else ''
            value = medians[case.name]
            print(f'{case.name:<40}{value:>6.1f} ms{goal:>9}{value / base:>15.1f} x')
    missed = [case.name for case in CASES if case.goal and medians[case.name] > case.goal]
    for name in missed:
        print(f'goal missed: {name}', file=sys.stderr)
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
