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

"""Nova's own unit tests of volumes come out as without us, but for what is meant."""

import re

import pytest

from tests.functional.nova import unit_table
from tests.long import LONG

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize('mode', ['registered', 'replaced'])
def test_those_that_ask_for_a_volume_driver(mode: str) -> None:
    done = unit_table.run(mode)
    table = '\n'.join(done.lines())
    assert done.failed.keys() == done.meant.keys(), table
    if mode == 'registered':
        # Otherwise another selection of Nova's tests is the one that matters.
        assert done.readers == set(unit_table.EXPECTED['readers'])
        assert set(done.outcomes) == done.readers
    else:
        assert sum(word == 'passed' for word, _ in done.outcomes.values()) > 30, table


@LONG
def test_what_differs_is_only_due_to_us() -> None:
    """Nova's own drivers pass where ours are meant to fail."""
    done = unit_table.run('without')
    assert done.failed == {}, '\n'.join(done.lines())
    assert done.readers == set(unit_table.EXPECTED['readers'])


def test_each_difference_says_why() -> None:
    for found in unit_table.EXPECTED['differences'].values():
        for test, why in found.items():
            assert re.fullmatch(r'nova\.tests\.unit\.[\w.]+', test)
            assert why.endswith('.')
