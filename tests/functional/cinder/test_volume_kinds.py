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

"""What kind of volume it is: read-only, limited, made from an image."""

from collections.abc import Iterator
import uuid

import pytest

from tests.functional.cinder import looks
from tests.functional.cinder.made_volumes import MadeVolume
from tests.functional.cinder.made_volumes import VolumeMaker
from volumedrivers import exception
from volumedrivers.attachment.block_storage.manager import VolumeManager
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.cinder.block_storage import BlockStorage
from volumedrivers.libvirt.disk import IOTune
from volumedrivers.libvirt.guest import Guest
from volumedrivers.testing.cinder import volume_types
from volumedrivers.testing.cinder.backends import Backend
from volumedrivers.testing.cinder.backends import IscsiBackend
from volumedrivers.testing.cinder.backends import NfsBackend
from volumedrivers.testing.qemu_io import GuestIO

MIB = 2**20
SCSI = DiskRequest(bus='scsi')


@pytest.fixture(autouse=True)
def alone(volume_manager: VolumeManager) -> Iterator[None]:
    """Leave nothing to the next test."""
    yield
    looks.detach_all(volume_manager)


class TestReadOnly:
    def test_asked_for(
        self,
        volume_manager: VolumeManager,
        make_volume: VolumeMaker,
        backend: Backend,
        guest: Guest,
        guest_io: GuestIO,
    ) -> None:
        volume = make_volume(backend)
        volume_manager.attach(guest.name, volume.id, SCSI)
        guest_io.write(volume.alias, 0x11, MIB, 65536)
        volume_manager.detach(guest.name, volume.id)
        done = volume_manager.attach(guest.name, volume.id, SCSI, read_only=True)
        self.require_read_only(volume, guest, guest_io, done.mode)
        volume_manager.detach(guest.name, volume.id)
        done = volume_manager.attach(guest.name, volume.id, SCSI)
        assert done.mode == 'rw'
        guest_io.write(volume.alias, 0x22, MIB, 65536)

    def test_what_cinder_has_so(
        self,
        volume_manager: VolumeManager,
        storage: BlockStorage,
        make_volume: VolumeMaker,
        backend: Backend,
        guest: Guest,
        guest_io: GuestIO,
    ) -> None:
        volume = make_volume(backend)
        volume_manager.attach(guest.name, volume.id, SCSI)
        guest_io.write(volume.alias, 0x11, MIB, 65536)
        volume_manager.detach(guest.name, volume.id)
        storage.proxy.set_volume_readonly(volume.id, True)
        done = volume_manager.attach(guest.name, volume.id, SCSI)
        self.require_read_only(volume, guest, guest_io, done.mode)

    def require_read_only(
        self, volume: MadeVolume, guest: Guest, guest_io: GuestIO, mode: str
    ) -> None:
        assert mode == 'ro'
        (attachment,) = volume.attachments()
        assert attachment.attach_mode == 'ro'
        assert looks.disk(guest, volume).readonly
        guest_io.read(volume.alias, 0x11, MIB, 65536)
        with pytest.raises(exception.HypervisorError, match='qemu-io'):
            guest_io.write(volume.alias, 0x33, MIB, 65536)
        assert volume.holds(0x11, MIB)


class TestLimits:
    def test_those_of_the_type(
        self,
        volume_manager: VolumeManager,
        storage: BlockStorage,
        make_volume: VolumeMaker,
        iscsi: IscsiBackend,
        guest: Guest,
    ) -> None:
        specs = {'read_iops_sec': '300', 'total_bytes_sec': '1048576', 'their_own': '7'}
        volume = self.make(storage, make_volume, iscsi, specs)
        done = volume_manager.attach(guest.name, volume.id, SCSI)
        iotune = looks.disk(guest, volume).iotune
        assert iotune is not None
        assert (iotune.read_iops_sec, iotune.total_bytes_sec) == (300, 1048576)
        # QEMU's, not what libvirt was told.
        found = guest.hypervisor.domain(guest.uuid).blockIoTune(done.target)
        assert (found['read_iops_sec'], found['total_bytes_sec']) == (300, 1048576)

    def test_for_each_gib(
        self,
        volume_manager: VolumeManager,
        storage: BlockStorage,
        make_volume: VolumeMaker,
        iscsi: IscsiBackend,
        guest: Guest,
    ) -> None:
        volume = self.make(storage, make_volume, iscsi, {'total_iops_sec_per_gb': '50'}, size=2)
        done = volume_manager.attach(guest.name, volume.id, SCSI)
        found = guest.hypervisor.domain(guest.uuid).blockIoTune(done.target)
        assert found['total_iops_sec'] == 100

    def test_changed_ones_come_by_refresh(
        self,
        volume_manager: VolumeManager,
        storage: BlockStorage,
        make_volume: VolumeMaker,
        backend: Backend,
        guest: Guest,
    ) -> None:
        volume = self.make(storage, make_volume, backend, {'total_iops_sec': '300'})
        done = volume_manager.attach(guest.name, volume.id, SCSI)
        domain = guest.hypervisor.domain(guest.uuid)
        specs = next(
            one for one in storage.proxy.qos_specs() if one.name == volume.get().volume_type
        )
        storage.proxy.update_qos_spec(specs, total_iops_sec='400', read_bytes_sec='1048576')
        assert domain.blockIoTune(done.target)['total_iops_sec'] == 300
        volume_manager.refresh(guest.name, volume.id)
        found = domain.blockIoTune(done.target)
        assert (found['total_iops_sec'], found['read_bytes_sec']) == (400, 1048576)
        # While Cinder's stay the same, those that somebody has set stay, too.
        volume_manager.context.attachments.set_qos(
            guest.name, volume.id, IOTune(total_iops_sec=500)
        )
        volume_manager.refresh(guest.name, volume.id)
        found = domain.blockIoTune(done.target)
        assert (found['total_iops_sec'], found['read_bytes_sec']) == (500, 0)

    def test_those_of_the_back_end_are_not_the_guests(
        self,
        volume_manager: VolumeManager,
        storage: BlockStorage,
        make_volume: VolumeMaker,
        iscsi: IscsiBackend,
        guest: Guest,
    ) -> None:
        volume = self.make(
            storage, make_volume, iscsi, {'total_iops_sec': '50'}, consumer='back-end'
        )
        volume_manager.attach(guest.name, volume.id, SCSI)
        assert looks.disk(guest, volume).iotune is None

    def make(
        self,
        storage: BlockStorage,
        make_volume: VolumeMaker,
        backend: Backend,
        specs: dict[str, str],
        *,
        size: int = 1,
        consumer: str = 'front-end',
    ) -> MadeVolume:
        name = f'limited-{uuid.uuid4()}'
        volume_types.limited(storage.proxy, name, backend.name, specs, consumer=consumer)
        return make_volume(backend, volume_type=name, size=size)


class TestImage:
    def test_its_bus(
        self,
        volume_manager: VolumeManager,
        storage: BlockStorage,
        make_volume: VolumeMaker,
        nfs: NfsBackend,
        guest: Guest,
    ) -> None:
        volume = make_volume(nfs)
        image = {'hw_disk_bus': 'scsi', 'hw_scsi_model': 'virtio-scsi', 'hw_cdrom_bus': 'sata'}
        volume_types.make_bootable(storage.proxy, volume.id, image)
        done = volume_manager.attach(guest.name, volume.id)
        assert (done.bus, done.target) == ('scsi', 'sda')
        volume_manager.detach(guest.name, volume.id)
        wanted = DiskRequest(bus='', target='sdd')
        assert volume_manager.plan.attach(guest.name, volume.id, wanted).target == 'sdd'
        done = volume_manager.attach(guest.name, volume.id, wanted)
        assert (done.bus, done.target) == ('scsi', 'sdd')
        volume_manager.detach(guest.name, volume.id)
        # What is asked for counts.
        plan = volume_manager.plan.attach(guest.name, volume.id, DiskRequest())
        assert plan.target == 'vda'

    def test_one_that_nothing_boots_from(
        self,
        volume_manager: VolumeManager,
        storage: BlockStorage,
        make_volume: VolumeMaker,
        nfs: NfsBackend,
        guest: Guest,
    ) -> None:
        volume = make_volume(nfs)
        assert volume_manager.plan.attach(guest.name, volume.id).target == 'vda'
        volume_types.make_bootable(storage.proxy, volume.id, {'hw_disk_bus': 'scsi'})
        assert volume_manager.plan.attach(guest.name, volume.id).target == 'sda'
        storage.proxy.set_volume_bootable_status(volume.id, False)
        assert volume_manager.plan.attach(guest.name, volume.id).target == 'vda'

    @pytest.mark.parametrize(
        ('image', 'words'),
        [
            ({'hw_disk_bus': 'lxc'}, "hw_disk_bus of the image .* is 'lxc'"),
            ({'hw_disk_bus': 'scsi', 'hw_scsi_model': 'buslogic'}, "hw_scsi_model .*'buslogic'"),
        ],
    )
    def test_one_that_the_guest_cannot_have(
        self,
        volume_manager: VolumeManager,
        storage: BlockStorage,
        make_volume: VolumeMaker,
        nfs: NfsBackend,
        guest: Guest,
        image: dict[str, str],
        words: str,
    ) -> None:
        volume = make_volume(nfs)
        volume_types.make_bootable(storage.proxy, volume.id, image)
        with pytest.raises(exception.InvalidDiskInfo, match=words) as caught:
            volume_manager.attach(guest.name, volume.id)
        assert 'Name a bus that both have' in str(caught.value)
        assert volume.attachments() == []
        assert volume.status == 'available'
        assert volume_manager.attach(guest.name, volume.id, SCSI).bus == 'scsi'
