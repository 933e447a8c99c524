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

"""From the host's properties to the proof that nothing is left: the life of one volume."""

import pytest

from tests.lab.life import MIB
from tests.lab.life import Life
from tests.lab.rpc.client import RemoteError

# What storage lets a host in by.
NAMES = {
    'iscsi': ('initiator',),
    'iser': ('initiator',),
    'fibre_channel': ('wwpns',),
    'nvmeof': ('nqn', 'nvme_native_multipath'),
    'lightos': ('nqn',),
}


def test_connector_properties(life: Life) -> None:
    """What Cinder is told about the host is what the kernel says."""
    told = life.bench.connector_properties(multipath=life.row.paths > 1)
    facts = life.bench.facts()
    assert told['multipath'] == (life.row.paths > 1)
    for name in ('host', *NAMES.get(life.row.protocol, ())):
        found = told[name]
        assert (sorted(found) if isinstance(found, list) else found) == facts[name], name


def test_attach(life: Life) -> None:
    """The volume is connected by every path, and the guest has the disk."""
    result = life.attached()
    assert result['driver_volume_type'] == life.row.protocol
    assert (result['paths_asked'], result['paths_found']) == (life.row.paths, life.row.paths)
    assert not result['degraded']
    assert life.volume_id in [disk['volume_id'] for disk in life.bench.disks()]


def test_identity(life: Life) -> None:
    """The host has found out by itself which volume it is; the back end says the same."""
    assert life.attached()['identity'] == life.volume['identity']


def test_guest_writes(life: Life) -> None:
    """What the guest writes is at the back end."""
    life.attached()
    life.bench.write(volume_id=life.volume_id, byte=0x5A, offset=MIB, length=MIB // 4)
    assert life.is_stored(0x5A, offset=MIB, length=MIB // 4)


def test_extend(life: Life) -> None:
    """The volume grows while the guest has it, and the guest sees the new size."""
    life.attached()
    header = life.header
    life.storage.grow(volume_id=life.volume_id, size=2 * life.size)
    life.bench.extend(volume_id=life.volume_id, size=2 * life.size)
    assert life.bench.size(volume_id=life.volume_id) == 2 * life.size - header


def test_attach_again(life: Life) -> None:
    """A volume that is attached is not attached once more, and goes on as it was."""
    life.attached()
    with pytest.raises(RemoteError) as caught:
        life.bench.attach(**life.attach_arguments())
    assert caught.value.type == 'AlreadyAttached'
    life.bench.write(volume_id=life.volume_id, byte=0x33, offset=0, length=4096)
    assert life.is_stored(0x33, offset=0, length=4096)


def test_detach(life: Life) -> None:
    """The guest lets go, the host has nothing of it left, and neither has the target."""
    life.attached()
    result = life.bench.detach(volume_id=life.volume_id)
    life.result = None
    assert result['leftovers'] == []
    assert life.bench.traces() == []
    assert life.storage.seen_by_target(volume_id=life.volume_id) == []


def test_detach_again(life: Life) -> None:
    """A second detach finds nothing to do, and says so."""
    life.detached()
    # The disk is gone before QEMU has closed what was behind it; Gluster takes long.
    life.bench.wait_until_idle()
    again = life.bench.detach(volume_id=life.volume_id, connection_info=life.connection_info)
    assert not again['removed_from_guest']
    with pytest.raises(RemoteError) as caught:
        life.bench.detach(volume_id=life.volume_id)
    assert caught.value.type == 'NotRecorded'
    assert life.bench.traces() == []
