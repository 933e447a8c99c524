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

"""Which of several machines has which tests: a row stays on one of them."""

import pathlib
import re

from xdist.scheduler import LoadScopeScheduling

# Files whose tests share one event, which all rows go through together.
TOGETHER = frozenset(('test_cinder.py', 'test_nova.py', 'test_reboot.py'))

_ROW = re.compile(r'\[([^\]]+)\]$')


class RowScheduling(LoadScopeScheduling):
    """Gives a machine the tests of one row, or of a file whose rows go together."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)


def scope(nodeid: str) -> str:
    """Return what the tests that have to be on one machine have in common."""
    file = nodeid.partition('::')[0]
    row = _ROW.search(nodeid)
    if row is None or pathlib.PurePath(file).name in TOGETHER:
        return file
    return row[1]
