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

"""Nova's own LibvirtDriver, with the drivers of this package in the place of its own.

What nova-compute does with a volume, on a real kernel with real paths.
"""

from collections.abc import Iterator
import contextlib
import typing

import pytest

from tests.lab import rows
from tests.lab.hosts.host import Host
from tests.lab.life import SIZE
from tests.lab.nova_life import LENGTH
from tests.lab.nova_life import LabNova
from tests.lab.nova_life import NovaVolume
from tests.lab.nova_life import for_nova
from tests.lab.waiting import WaitedInVain
from tests.lab.waiting import wait_until

# What storage lets a host in by.
NAMES = {'iscsi': ('initiator',), 'nvmeof': ('nqn', 'nvme_native_multipath')}

_OWN = 'nova.virt.libvirt.volume.'


@pytest.fixture(scope='module')
def root(host: Host) -> Iterator[dict[str, typing.Any]]:
    """What a server boots from: connection_info of a device of the host itself."""
    made = host.storage().make_volume(backend='lvm', size=SIZE, variant={})
    yield for_nova(made)
    host.storage().delete(volume_id=made['volume_id'])


@pytest.fixture(scope='module')
def nova(host: Host, root: dict[str, typing.Any]) -> Iterator[LabNova]:
    """Nova with one server for all rows; nothing of it is left afterwards."""
    before = host.left_behind()
    with LabNova(host, root) as opened:
        yield opened
    with contextlib.suppress(WaitedInVain):
        # udev takes names away later.
        wait_until(lambda: host.left_behind() == before, 'the host to have nothing of Nova')
    assert host.left_behind() == before


@pytest.fixture
def volume(nova: LabNova, row: rows.Row) -> Iterator[NovaVolume]:
    """A volume of the row that is not attached yet."""
    nova.use('ours')
    with NovaVolume(nova, row) as made:
        yield made


def test_nova_connector(nova: LabNova, row: rows.Row) -> None:
    """What Nova tells Cinder about the host is what the kernel says."""
    told = nova.call('connector')
    facts = nova.bench.facts()
    assert told['multipath']
    assert {name: told[name] for name in NAMES[row.protocol]} == {
        name: facts[name] for name in NAMES[row.protocol]
    }


def test_nova_life(volume: NovaVolume, row: rows.Row) -> None:
    """Nova attaches, extends and detaches; our drivers do it, by every path."""
    volume.attach()
    assert not volume.nova.used(row.protocol).startswith(_OWN)
    assert volume.in_guest()
    (record,) = volume.rows()
    assert (record['manager'], record['operation']) == ('nova', None)
    assert volume.paths() == row.paths
    assert volume.nova.bench.audit() == []
    volume.write(0x5A)
    assert volume.is_stored(0x5A)

    volume.grow(2 * SIZE)
    assert volume.size_in_guest() == 2 * SIZE
    volume.write(0x77, 2 * SIZE - LENGTH)
    assert volume.is_stored(0x77, 2 * SIZE - LENGTH)

    volume.detach()
    assert not volume.in_guest()
    assert volume.seen_by_target() == []
    assert volume.nova.bench.traces() == []


def test_nova_hard_reboot(volume: NovaVolume, row: rows.Row) -> None:
    """The guest is made anew, with its volume by every path."""
    volume.attach()
    volume.write(0x5A)
    volume.nova.call('hard_reboot')
    assert volume.in_guest()
    assert volume.paths() == row.paths
    assert volume.reads(0x5A)
    assert [record['manager'] for record in volume.rows()] == ['nova']
    volume.detach()
    assert volume.nova.bench.traces() == []


def test_nova_swap(volume: NovaVolume, nova: LabNova, row: rows.Row) -> None:
    """Nova copies the volume to another one, and nothing is left of the first."""
    with NovaVolume(nova, row) as other:
        volume.attach()
        volume.write(0x5A)
        nova.call('swap', volume_id=volume.id, new=other.connection_info)
        assert (volume.rows(), volume.seen_by_target()) == ([], [])
        assert [record['manager'] for record in other.rows()] == ['nova']
        assert other.paths() == row.paths
        assert other.is_stored(0x5A)
        other.detach()
        assert nova.bench.traces() == []


def test_nova_switch(volume: NovaVolume, row: rows.Row) -> None:
    """What Nova's own drivers attached, ours extend and detach."""
    volume.nova.use('nova')
    volume.attach()
    assert volume.nova.used(row.protocol).startswith(_OWN)
    assert volume.rows() == []
    volume.nova.use('ours')
    volume.grow(2 * SIZE)
    assert volume.size_in_guest() == 2 * SIZE
    volume.detach()
    assert volume.seen_by_target() == []
    assert volume.nova.bench.traces() == []


def test_nova_switch_back(volume: NovaVolume) -> None:
    """What ours attached, Nova's own drivers extend and detach; the journal is told later."""
    volume.attach()
    volume.nova.use('nova')
    volume.grow(2 * SIZE)
    assert volume.size_in_guest() == 2 * SIZE
    volume.detach()
    assert volume.seen_by_target() == []
    found = {(finding['volume_id'], finding['kind']) for finding in volume.nova.bench.audit()}
    assert found == {(volume.id, 'not-in-guest'), (volume.id, 'device-gone')}
    volume.forgotten()
    assert volume.nova.bench.audit() == []
    assert volume.nova.bench.traces() == []
