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

"""Many operations at once, by processes that die and by threads that hang."""

from collections.abc import Iterator
import os
import random

import pytest

from tests.functional import load_host
from tests.long import LONG

# Set it to see again what a failure was.
SEED = int(os.environ.get('VOLUMEDRIVERS_TEST_SEED', '0')) or random.SystemRandom().randrange(
    2**32
)


@pytest.fixture(scope='module')
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[load_host.Host]:
    with load_host.Host(tmp_path_factory.mktemp('load')) as started:
        yield started


@pytest.mark.parametrize(
    'kill_every',
    [pytest.param(None, marks=LONG, id='undisturbed'), pytest.param(0.3, id='killed')],
)
def test_two_hundred_operations_of_eight_processes(
    host: load_host.Host, kill_every: float | None
) -> None:
    load = load_host.Load(host, SEED + bool(kill_every), processes=8, operations=200)
    load.run(kill_every=kill_every)
    outcomes = load.outcomes()
    print(f'seed {SEED}: {outcomes}')
    assert not load.failed, f'seed {SEED}'
    assert not load.unexpected(), f'seed {SEED}:\n{load.told()}'
    assert outcomes['attach: done'] > 10, f'seed {SEED}: {outcomes}'
    assert outcomes['detach: done'] > 10, f'seed {SEED}: {outcomes}'
    assert bool(outcomes['killed']) == bool(kill_every), f'seed {SEED}: {outcomes}'
    assert host.recover() == [], f'seed {SEED}'
