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

"""A real Cinder with real drivers: the life of a volume that is called by its name."""

from collections.abc import Iterator
import contextlib

import pytest

from tests.lab import rows
from tests.lab.cinder_life import GIB
from tests.lab.cinder_life import CinderVolume
from tests.lab.cinder_life import LabCinder
from tests.lab.hosts.host import Host
from tests.lab.report.recorder import failed
from tests.lab.waiting import WaitedInVain
from tests.lab.waiting import wait_until


@pytest.fixture(scope='module')
def cinder(request: pytest.FixtureRequest, host: Host) -> Iterator[LabCinder]:
    """Cinder with the back ends of this run's rows; nothing of it is left afterwards."""
    callspecs = [getattr(item, 'callspec', None) for item in request.session.items]
    found = [spec.params.get('row') for spec in callspecs if spec is not None]
    names = [row.name for row in rows.CINDER_ROWS if row in found]
    before = host.left_behind()
    with LabCinder(host, names) as opened:
        yield opened
    with contextlib.suppress(WaitedInVain):
        # udev takes names away later.
        wait_until(lambda: host.left_behind() == before, 'the host to have nothing of Cinder')
    assert host.left_behind() == before


@pytest.fixture
def volume(
    request: pytest.FixtureRequest, cinder: LabCinder, row: rows.Row
) -> Iterator[CinderVolume]:
    """The row's volume on its way through all tests; a new one after one that failed."""
    yield cinder.volume(row)
    if request.node.stash.get(failed, False):
        cinder.forget()


def test_cinder_create(volume: CinderVolume) -> None:
    """Cinder makes the volume at the back end, and serves it to nobody yet."""
    found = volume.in_cinder()
    assert (found['status'], found['size'], found['attachments']) == ('available', 1, [])
    assert volume.stored_size() == GIB
    assert volume.served() == []


def test_cinder_attach(volume: CinderVolume) -> None:
    """The volume comes into the guest by its name; Cinder has it in use by that guest."""
    result = volume.attached()
    assert (result['volume_id'], result['volume_name']) == (volume.id, volume.name)
    assert result['driver_volume_type'] == volume.row.protocol
    assert not result['degraded']
    assert result['identity'] == volume.stored_identity()
    found = volume.in_cinder()
    assert found['status'] == 'in-use'
    (attachment,) = found['attachments']
    assert (attachment['id'], attachment['status']) == (result['attachment_id'], 'attached')
    assert attachment['instance'] == result['guest_uuid']
    assert volume.id in [disk['volume_id'] for disk in volume.bench.disks()]


def test_cinder_guest_writes(volume: CinderVolume) -> None:
    """What the guest writes is at the back end."""
    volume.attached()
    volume.write(0x5A)
    assert volume.holds(0x5A)


def test_cinder_extend(volume: CinderVolume) -> None:
    """One call extends the volume in Cinder and at the back end, and the guest sees it."""
    volume.attached()
    volume.size += 1
    result = volume.call('extend_volume', name=volume.name, size=volume.size * GIB)
    assert result['size'] == volume.size * GIB
    assert volume.in_cinder()['size'] == volume.size
    assert volume.stored_size() == volume.size * GIB
    assert volume.size_in_guest() == volume.size * GIB


def test_cinder_extended(volume: CinderVolume) -> None:
    """Somebody else extends the volume; Cinder's event brings the new size to the guest."""
    guest = volume.attached()['guest_uuid']
    volume.size += 1
    (event,) = volume.call('grow', volume_id=volume.id, size=volume.size, status='in-use')
    assert (event['name'], event['server_uuid'], event['tag']) == (
        'volume-extended',
        guest,
        volume.id,
    )
    volume.call('extended', event=event)
    assert volume.size_in_guest() == volume.size * GIB


def test_cinder_snapshot_in_use(volume: CinderVolume) -> None:
    """A snapshot of the volume in use has what the guest had written by then."""
    volume.attached()
    volume.write(0x5A)
    snapshot = volume.call('snapshot', volume_id=volume.id, name='in use')
    volume.write(0x33)
    copy = volume.create('from a snapshot in use', snapshot)
    assert volume.holds(0x5A, copy)
    assert volume.holds(0x33)
    volume.delete(copy)
    volume.call('delete_snapshot', snapshot_id=snapshot)


def test_cinder_detach(volume: CinderVolume) -> None:
    """Nothing is left on the host, in Cinder's attachments and at the target."""
    volume.attached()
    result = volume.call('detach_volume', name=volume.name)
    volume.result = None
    assert result['removed_from_guest']
    assert result['leftovers'] == []
    assert volume.call('traces') == []
    assert volume.call('reservations') == []
    found = volume.in_cinder()
    assert (found['status'], found['attachments']) == ('available', [])
    assert volume.served() == []


def test_cinder_extend_available(volume: CinderVolume) -> None:
    """A volume that nobody has is extended; whoever has it next sees that."""
    volume.detached()
    volume.size += 1
    assert volume.call('grow', volume_id=volume.id, size=volume.size, status='available') == []
    assert volume.stored_size() == volume.size * GIB
    volume.attached()
    assert volume.size_in_guest() == volume.size * GIB


def test_cinder_snapshot(volume: CinderVolume) -> None:
    """A volume that is made of a snapshot has what the guest had written."""
    volume.attached()
    volume.write(0x77)
    volume.detached()
    snapshot = volume.call('snapshot', volume_id=volume.id, name='available')
    copy = volume.create('from a snapshot', snapshot)
    assert volume.holds(0x77, copy)
    volume.delete(copy)
    volume.call('delete_snapshot', snapshot_id=snapshot)


def test_cinder_attach_with_snapshot(volume: CinderVolume) -> None:
    """A volume with a snapshot is attached as it is now, and keeps what is written to it."""
    volume.attached()
    volume.write(0x66)
    volume.detached()
    snapshot = volume.call('snapshot', volume_id=volume.id, name='kept')
    result = volume.attached()
    assert result['identity'] == volume.stored_identity()
    assert volume.reads(0x66)
    volume.write(0x44)
    assert volume.holds(0x44)
    volume.detached()
    volume.call('delete_snapshot', snapshot_id=snapshot)
    assert volume.holds(0x44)


def test_cinder_delete(volume: CinderVolume) -> None:
    """Nothing is left of the volume in Cinder and at the back end."""
    volume.detached()
    assert volume.stored() != []
    volume.delete()
    assert volume.call('cinder_contents') == []
    assert volume.stored() == []
