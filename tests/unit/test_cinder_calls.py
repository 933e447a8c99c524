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

"""The page of the calls to Cinder says what is true."""

import ast
import pathlib
import re
import typing

from openstack.block_storage.v3 import _proxy
import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / 'doc/source/cinder_calls.rst'
ROW = re.compile(
    r'^   \* - (?P<call>\w+: \w+)\n'
    r'     - ``(?P<method>\w+)``\n'
    r'     - ``(?P<module>[\w.]+)`` ``(?P<name>[\w.]+)``\n'
    r'     - ``(?P<file>[\w/]+\.py)::(?P<test>\w+)``\n',
    re.MULTILINE,
)
ROWS = list(ROW.finditer(PAGE.read_text()))
# Those that a virt driver has to make, and the two of a volume's size.
CALLS = {
    *(f'attachments: {name}' for name in ('create', 'update', 'complete', 'delete')),
    *(
        f'volumes: {name}'
        for name in (
            'attach',
            'detach',
            'begin_detaching',
            'roll_detaching',
            'reserve',
            'unreserve',
            'initialize_connection',
            'terminate_connection',
            'migrate_volume_completion',
            'extend',
            'complete_extend',
        )
    ),
}


def function(path: pathlib.Path, name: str) -> typing.Any:
    """Return the function of that name, and of that class, if it has one."""
    found: typing.Any = ast.parse(path.read_text())
    for part in name.split('.'):
        (found,) = [one for one in found.body if getattr(one, 'name', None) == part]
    return found


def test_it_names_every_call() -> None:
    assert [row['call'] for row in ROWS] == list(dict.fromkeys(row['call'] for row in ROWS))
    assert {row['call'] for row in ROWS} == CALLS
    assert PAGE.read_text().count('   * - ') == len(ROWS) + 1


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row['call'])
def test_the_call_is_made_there(row: re.Match[str]) -> None:
    assert callable(getattr(_proxy.Proxy, row['method']))
    path = ROOT / f'{row["module"].replace(".", "/")}.py'
    named = {
        one.attr
        for one in ast.walk(function(path, row['name']))
        if isinstance(one, ast.Attribute) and ast.unparse(one.value).rpartition('.')[2] == 'proxy'
    }
    assert row['method'] in named


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row['call'])
def test_the_test_is_there(row: re.Match[str]) -> None:
    function(ROOT / row['file'], row['test'])


def test_the_page_is_linked() -> None:
    assert '   cinder_calls\n' in (ROOT / 'doc/source/index.rst').read_text()
