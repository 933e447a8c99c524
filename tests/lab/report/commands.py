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

"""The commands that ran on the host under test, found in what was logged there."""

from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import re

# As oslo.concurrency logs them.
_BEGAN = re.compile(r'Running cmd \([a-z]+\): (?P<command>.*)$', re.DOTALL)
_ENDED = re.compile(
    r'CMD "(?P<command>.*)" returned: (?P<code>-?\w+) in (?P<seconds>[0-9.]+)s', re.DOTALL
)


@dataclasses.dataclass(frozen=True)
class Command:
    """One of them.

    :ivar code: exit code; None: it did not end while that was logged
    """

    command: str
    code: str | None
    seconds: float | None


def commands(lines: Iterable[str]) -> list[Command]:
    """Return the commands in the order in which they ended; then those that did not."""
    ended = []
    begun: list[str] = []
    for line in lines:
        match = _ENDED.search(line)
        if match:
            ended.append(Command(match['command'], match['code'], float(match['seconds'])))
            if match['command'] in begun:
                begun.remove(match['command'])
            continue
        match = _BEGAN.search(line)
        if match:
            begun.append(match['command'])
    return [*ended, *(Command(command, None, None) for command in begun)]


def shortened(lines: list[str], most: int, where: str) -> Iterator[str]:
    """Return at most so many lines, and a word about those in the middle that are missing.

    :param where: all of them are
    """
    if len(lines) <= most:
        yield from lines
        return
    first = most // 3
    yield from lines[:first]
    yield f'... {len(lines) - most} lines are left out here; all are in {where}'
    yield from lines[len(lines) - (most - first) :]
