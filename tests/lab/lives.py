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

"""The volumes of the rows on their way through the tests, and the host after each of them."""

import pathlib
import typing

import pytest

from tests.lab.hosts.host import Host
from tests.lab.life import Life
from tests.lab.report.recorder import Recorder
from tests.lab.report.recorder import failed
from tests.lab.rows import Row

# After so many cells of a row the host is not restored for each that fails.
PATIENCE = 3


class Lives:
    """Begins the life of a row's volume at its first test in a module and ends it at the last.

    A test that fails may leave anything behind.  Where the host can be had as it
    was in the beginning, it is restored then, and the next test has a new
    volume; so it is after a row that has left something on the host.

    :ivar host: once there is one
    """

    def __init__(self, recorder: Recorder) -> None:
        self.host: Host | None = None
        self._recorder = recorder
        self._key: tuple[pathlib.Path, str] | None = None
        self._life: Life | None = None
        self._failures = 0

    def of(self, module: pathlib.Path, row: Row) -> Life:
        """Return the life of a row's volume in a module."""
        assert self.host is not None
        if self._life is None or self._key != (module, row.name):
            self._end()
            begun = Life(row, self.host)
            begun.__enter__()
            self._key, self._life = (module, row.name), begun
        return self._life

    def after(
        self,
        item: pytest.Item,
        *,
        clean: bool,
        row: Row | None,
        next_row: Row | None,
        same_module: bool,
        together: bool,
    ) -> None:
        """Clear away after a test what the next one must not find.

        :param clean: the test's own fixtures are gone without an error
        :param together: the test belongs to what all rows go through at once
        """
        if self.host is None:
            return
        last = row is None or next_row is None or next_row.name != row.name
        if item.stash.get(failed, False) or not clean:
            self._failures += 1
            if not together and (last or self._failures <= PATIENCE):
                self._restore(f'after this cell, which failed ({self._failures} of the row)')
        elif _spoils_guest(item, row):
            self._restore('after this cell, as its guest cannot have any device again')
        if last or not same_module:
            self._end()
        if last:
            self._failures = 0
            if not together:
                self._look(row)

    def _look(self, row: Row | None) -> None:
        assert self.host is not None
        left = self.host.left_behind()
        if left:
            what = 'this test' if row is None else f'row {row.name}'
            self._recorder.note(f'left on the host after {what}: ' + '; '.join(left))
            self._restore(f'after {what}')

    def _restore(self, when: str) -> None:
        assert self.host is not None
        if self.host.can('restore') is not None:
            return
        # With the machine goes whatever the volume has left on it.
        self._life = None
        self.host.restore()
        self._recorder.note(f'the machine was restored {when}')

    def _end(self) -> None:
        ended: typing.Any = self._life
        self._life = None
        if ended is not None:
            ended.__exit__(None, None, None)


def _spoils_guest(item: pytest.Item, row: Row | None) -> bool:
    """Say whether a test was tried after which libvirt refuses devices to its guest."""
    if row is None or item.get_closest_marker('spoils_guest') is None:
        return False
    return row.why_not(item.name.partition('[')[0].removeprefix('test_'), item.path.name) is None
