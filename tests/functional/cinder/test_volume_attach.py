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

"""A volume of Cinder by its name, into a guest and out again."""

from tests.functional.cinder.made_volumes import VolumeMaker
from volumedrivers.attachment.block_storage.manager import VolumeManager
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.libvirt.guest import Guest
from volumedrivers.testing.cinder.backends import Backend
from volumedrivers.testing.qemu_io import GuestIO

MIB = 2**20


def test_there_and_back(
    volume_manager: VolumeManager,
    make_volume: VolumeMaker,
    backend: Backend,
    guest: Guest,
    guest_io: GuestIO,
) -> None:
    volume = make_volume(backend)
    done = volume_manager.attach(guest.name, volume.name, DiskRequest(bus='scsi'))
    assert done.volume_id == volume.id
    assert list(done.seconds) == [
        'reserve',
        'export',
        'connect',
        'identify',
        'attach',
        'complete',
        'record',
    ]
    assert volume.status == 'in-use'
    (attachment,) = volume.attachments()
    assert (attachment.id, attachment.status) == (done.attachment_id, 'attached')
    assert attachment.instance == guest.uuid
    guest_io.write(volume.alias, 0x5A, MIB, 65536)
    assert volume.holds(0x5A, MIB)
    (row,) = volume_manager.context.reservations.find()
    assert row.is_settled

    gone = volume_manager.detach(guest.name, done.target)
    assert gone.removed_from_guest
    assert list(gone.seconds) == ['begin', 'detach', 'disconnect', 'prove', 'release', 'record']
    assert volume.status == 'available'
    assert volume.attachments() == []
    assert guest.all_disks() == ()
    assert volume_manager.context.reservations.find() == ()
    assert volume_manager.context.host.journal.find() == ()
