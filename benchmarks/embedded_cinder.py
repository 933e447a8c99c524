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
"""How long the embedded Cinder takes to start: first, and again.

Each row is a median over several processes.  ``first`` is the time from the
import of this package's module until a volume can be created, with all that
Cinder imports; the others are in a process that has done it before.

    python benchmarks/embedded_cinder.py [--processes N] [--json]

It takes root: the NFS back end binds a directory.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import typing

GOAL = 6000  # ms, until it is ready


def main() -> int:
    """Print a table; exit with 1 if a start takes too long."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--processes', type=int, default=5)
    parser.add_argument('--json', action='store_true', help='for a machine')
    parser.add_argument('--one', type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(_measure(arguments.one)))
        return 0
    runs = [_in_a_process() for _ in range(arguments.processes)]
    medians = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    if arguments.json:
        print(json.dumps({name: round(value, 1) for name, value in medians.items()}))
    else:
        for name, value in medians.items():
            slowest = max(run[name] for run in runs)
            print(f'{name:34} {value:8.0f} ms   slowest {slowest:6.0f} ms')
    slow = [name for name, value in medians.items() if 'start' in name and value > GOAL]
    for name in slow:
        print(f'{name} takes more than {GOAL} ms', file=sys.stderr)
    return bool(slow)


def _in_a_process() -> dict[str, float]:
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, __file__, '--one', directory]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return typing.cast(dict[str, float], json.loads(said))


def _measure(directory: pathlib.Path) -> dict[str, float]:
    """Return milliseconds by what was done."""
    began = time.perf_counter()
    from volumedrivers.testing.cinder.embedded import EmbeddedCinder  # noqa: PLC0415

    times: dict[str, float] = {}

    def timed(name: str, function: typing.Callable[[], object]) -> None:
        nonlocal began
        function()
        now = time.perf_counter()
        times[name] = (now - began) * 1000
        began = time.perf_counter()

    first = EmbeddedCinder(directory / 'first', serve=True)
    timed('first start', first.start)
    proxy: typing.Any = first.connection.block_storage
    for name in first.volume_types:
        began = time.perf_counter()
        timed(f'create a volume of {name}', lambda name=name: _create(proxy, name))
    began = time.perf_counter()
    timed('list volumes in this process', lambda: list(proxy.volumes()))
    timed('stop', first.stop)
    timed('start again, same directory', first.start)
    timed('stop again', first.stop)
    second = EmbeddedCinder(directory / 'second')
    began = time.perf_counter()
    timed('start another, fresh directory', second.start)
    second.stop()
    return times


def _create(proxy: typing.Any, kind: str) -> None:
    made = proxy.create_volume(name='one', size=1, volume_type=kind)
    proxy.wait_for_status(made, 'available', interval=0.01, wait=20)


if __name__ == '__main__':
    sys.exit(main())
