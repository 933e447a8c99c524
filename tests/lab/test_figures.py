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

"""What it costs: beside os-brick alone, many at once, and a hundred times."""

from collections.abc import Iterator
import os
import statistics
import time
import typing

import pytest

from tests.lab.hosts.host import Host
from tests.lab.life import Life
from tests.lab.rows import Row

COMPARISON = 'tests.lab.bench.comparison:Comparison'

# os-brick's names of the connectors that can be asked without a guest.
CONNECTORS = {
    'iscsi': 'ISCSI',
    'iser': 'ISER',
    'fibre_channel': 'FIBRE_CHANNEL',
    'nvmeof': 'NVMEOF',
}
ROUNDS = 2
# A hundred of them is a figure of the documentation; a few are in every run.
CYCLES = int(os.environ.get('VOLUMEDRIVERS_LAB_CYCLES', '2'))

# For caches that fill, in KiB; of all else not one may be there more.
ALLOWED = {'memory': 4096}


@pytest.fixture
def life(row: Row, host: Host) -> Iterator[Life]:
    """A volume of its own for each test."""
    with Life(row, host) as begun:
        yield begun


def test_beside_os_brick(life: Life, record_property: typing.Any) -> None:
    """Connect and disconnect by the driver and by os-brick alone, in turns: a figure."""
    protocol = CONNECTORS.get(life.row.protocol)
    if protocol is None:
        pytest.skip('does not apply: no connector of os-brick makes this a device of the host')
    if life.row.options.get('iscsi_client') == 'qemu':
        pytest.skip('does not apply: QEMU connects by itself')
    comparison = life.host.benches().open(COMPARISON, options=life.options)
    try:
        seconds = comparison.call(
            'rounds',
            timeout=600,
            connection_info=life.connection_info,
            count=ROUNDS,
            protocol=protocol,
        )
    finally:
        comparison.end()
    for what in ('connect', 'disconnect'):
        ours, alone = (statistics.median(seconds[name]) for name in (what, f'{what}, os-brick'))
        record_property(f'figure.{what}', round(ours, 3))
        record_property(f'figure.{what}, os-brick alone', round(alone, 3))
        record_property(f'figure.{what}, ratio', round(ours / alone, 3))
    assert life.bench.traces() == []


def test_cycles(life: Life, record_property: typing.Any) -> None:
    """Attached and detached again and again: no session, device, thread or file more."""
    life.attached()
    life.detached()
    before = life.bench.growth()
    began = time.monotonic()
    for _ in range(CYCLES):
        life.attached()
        life.detached()
    record_property('figure.seconds of a cycle', round((time.monotonic() - began) / CYCLES, 2))
    more = life.bench.more_than(before=before)
    record_property(f'figure.KiB more after {CYCLES} cycles', more.get('memory', 0))
    assert {name: many for name, many in more.items() if many > ALLOWED.get(name, 0)} == {}
    assert life.bench.traces() == []
    assert life.storage.seen_by_target(volume_id=life.volume_id) == []
