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

"""What the page about Nova says of tests, options and weaknesses."""

import pathlib
import re

from tests.unit.test_weaknesses import names_of_tests
from volumedrivers.conf import opts
from volumedrivers.nova import errors

ROOT = pathlib.Path(__file__).parents[3]
PAGE = (ROOT / 'doc/source/nova.rst').read_text(encoding='utf-8')


def test_every_weakness_is_there_once_with_a_test() -> None:
    rows = re.split(r'^   \* - (?=W\d)', PAGE, flags=re.MULTILINE)[1:]
    assert [row.split(maxsplit=1)[0] for row in rows] == [f'W{n}' for n in range(1, 33)]
    for row in rows:
        assert '``tests/' in row, row
        assert re.search(r'^     - (removed|less|told|Nova\'s)$', row, re.MULTILINE), row


def test_tests_exist() -> None:
    named = re.findall(r'``tests/((?:\w+/)+\w+\.py)::([\w:]+)``', PAGE)
    # The others are commands.
    assert len(re.findall(r'``tests/[^`]+::', PAGE)) == len(named)
    for file, name in named:
        assert name in names_of_tests(ROOT / 'tests' / file), f'{file}::{name}'


def test_options_exist() -> None:
    names = {option.name for option in opts.OPTIONS}
    said = set(re.findall(r'``((?:disk|nova|iscsi)_\w+)``', PAGE))
    said |= set(re.findall(r'^   (\w+) = ', PAGE, re.MULTILINE))
    assert said
    assert said <= names


def test_novas_exceptions_are_those_that_are_raised() -> None:
    said = PAGE.partition('Errors are Nova')[2].partition('The text is')[0]
    raised = set(re.findall(r'nova\.(\w+)\(', pathlib.Path(errors.__file__).read_text()))
    raised |= {'NotImplementedError', 'VolumeDeviceNotFound'}
    assert set(re.findall(r'``(\w+)``', said)) == raised
