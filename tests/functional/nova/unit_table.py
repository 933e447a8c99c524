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

"""Nova's own unit tests of volumes, with Nova's volume drivers and with ours.

``python -m tests.functional.nova.unit_table`` prints a table of what passed, what
failed, and why that is meant; with ``--all`` of all tests that have to do with
volumes, without our drivers and with them, else of those that can tell the
difference.  It ends with 1 where something else came out than ``unit_tests.json``
says.
"""

import argparse
import collections
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import typing

_ROOT = pathlib.Path(__file__).parents[3]
_SECONDS = 3600
EXPECTED: dict[str, typing.Any] = json.loads(
    pathlib.Path(__file__).with_name('unit_tests.json').read_text()
)
MODES = {
    'without': "Nova's own volume drivers",
    'registered': "ours in Nova's table",
    'replaced': "ours in the place of Nova's classes, disks only",
}


@dataclasses.dataclass(frozen=True)
class Run:
    """What came out.

    :ivar outcomes: by the test's id: what became of it, and why
    :ivar readers: the tests that looked into Nova's table of volume drivers
    """

    mode: str
    outcomes: dict[str, tuple[str, str]]
    readers: frozenset[str]

    @property
    def failed(self) -> dict[str, str]:
        return {test: why for test, (word, why) in self.outcomes.items() if word == 'failed'}

    @property
    def meant(self) -> dict[str, str]:
        """The tests that are to fail, of those that were run, with the reason."""
        found: dict[str, str] = EXPECTED['differences'][self.mode]
        return {test: why for test, why in found.items() if test in self.outcomes}

    def lines(self) -> list[str]:
        """Return the rows of the table."""
        words = collections.Counter(word for word, _ in self.outcomes.values())
        counts = ', '.join(f'{number} {word}' for word, number in sorted(words.items()))
        lines = [f'{MODES[self.mode]}: {len(self.outcomes)} tests: {counts}']
        for test, why in sorted({**self.failed, **self.meant}.items()):
            if test not in self.failed:
                lines.append(f'  passed, and was not to: {test}')
            elif test in self.meant:
                lines.append(f'  meant: {test}\n    {self.meant[test]}')
            else:
                lines.append(f'  NOT MEANT: {test}\n    {why}')
        return lines


def run(mode: str, *, every: bool = False) -> Run:
    """Run the tests in a process of their own.

    :param mode: of ``MODES``
    :param every: also those that do not look for a volume driver
    """
    options = {
        'without': [],
        'registered': ['--register'],
        'replaced': ['--register', '--replace', f'--only={EXPECTED["replaced"]["only"]}'],
    }[mode]
    tests = EXPECTED['modules' if every else 'readers']
    if mode == 'replaced':
        tests = EXPECTED['replaced']['modules']
    with tempfile.TemporaryDirectory() as directory:
        file = pathlib.Path(directory) / 'outcomes.json'
        done = subprocess.run(
            [
                *(sys.executable, '-W', 'ignore', '-m', 'tests.functional.nova.unit_run'),
                *(*options, str(file), *tests),
            ],
            cwd=_ROOT,
            env={**os.environ, 'OS_NOVA_DISABLE_EVENTLET_PATCHING': 'true'},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        if not file.exists():
            raise AssertionError(f"Nova's tests were not run:\n{done.stdout[-4000:]}")
        found = json.loads(file.read_text())
    return Run(
        mode,
        {test: (word, why) for test, (word, why) in found['outcomes'].items()},
        frozenset(found['readers']),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--all', action='store_true', help='all tests, also without our drivers')
    every = parser.parse_args().all
    status = 0
    for mode in MODES if every else ('registered', 'replaced'):
        done = run(mode, every=every)
        print('\n'.join(done.lines()), flush=True)
        status |= done.failed.keys() != done.meant.keys()
    return status


if __name__ == '__main__':
    sys.exit(main())
