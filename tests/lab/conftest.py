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

"""Fixtures of the matrix: the host under test, its storage, a row and a volume of it."""

from collections.abc import Iterator
import os

import pytest

from tests.lab import rows
from tests.lab.hosts.host import Host
from tests.lab.hosts.open import open_host
from tests.lab.life import Life


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let a test that asks for a row run once for each; all tests of a row follow each other."""
    if 'row' not in metafunc.fixturenames:
        return
    metafunc.parametrize(
        'row',
        [
            pytest.param(row, id=row.name, marks=pytest.mark.xdist_group(row.name))
            for row in rows.ROWS
            if not os.environ.get('VOLUMEDRIVERS_LAB_SHORT') or row.short
        ],
        scope='module',
    )


@pytest.fixture(scope='session')
def host() -> Iterator[Host]:
    """The host under test."""
    with open_host(os.environ.get('VOLUMEDRIVERS_LAB_HOST')) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _applies(request: pytest.FixtureRequest) -> None:
    """Leave a cell empty, with the reason, where the column does not apply to the row."""
    if 'row' in request.fixturenames:
        row: rows.Row = request.getfixturevalue('row')
        reason = row.why_not(request.function.__name__.removeprefix('test_'))
        if reason:
            pytest.skip(f'does not apply: {reason}')


@pytest.fixture(scope='module')
def life(row: rows.Row, host: Host) -> Iterator[Life]:
    """One volume of the row on its way through all cells of a module."""
    with Life(row, host) as begun:
        yield begun
