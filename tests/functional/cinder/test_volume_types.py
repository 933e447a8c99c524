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

"""Volume types with more to them than a back end, from Cinder down to the guest."""

import pathlib
import typing

from oslo_config import cfg
import pytest

from tests.functional.cinder.made_volumes import VolumeMaker
from volumedrivers.attachment.block_storage.manager import VolumeManager
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.cinder import volumes
from volumedrivers.cinder.block_storage import BlockStorage
from volumedrivers.libvirt.guest import Guest
from volumedrivers.testing.cinder import keys
from volumedrivers.testing.cinder import volume_types
from volumedrivers.testing.cinder.backends import Backend
from volumedrivers.testing.cinder.backends import IscsiBackend
from volumedrivers.testing.cinder.embedded import EmbeddedCinder
from volumedrivers.testing.qemu_io import GuestIO

MIB = 2**20
SCSI = DiskRequest(bus='scsi')


@pytest.fixture
def key_files(cinder: EmbeddedCinder, conf: cfg.ConfigOpts) -> pathlib.Path:
    """The keys that Cinder makes, which this host reads."""
    directory = cinder.directory / 'keys'
    keys.configure(conf, directory)
    return directory


def test_encrypted(
    key_files: pathlib.Path,
    admin: typing.Any,
    storage: BlockStorage,
    volume_manager: VolumeManager,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    guest: Guest,
    guest_io: GuestIO,
) -> None:
    made = volume_types.encrypted(admin, 'secret', iscsi.name, key_size=512)
    volume = make_volume(iscsi, volume_type=made.name)
    said = volumes.encryption(storage, volume.id)
    assert said['control_location'] == 'front-end'
    assert (said['provider'], said['cipher'], said['key_size']) == ('luks', 'aes-xts-plain64', 512)
    key = key_files / f'{said["encryption_key_id"]}.symmetric'
    assert (len(key.read_bytes()), key.stat().st_mode & 0o777) == (64, 0o600)

    volume_manager.attach(guest.name, volume.name, SCSI, allow_format=True)
    guest_io.write(volume.alias, 0x5A, MIB, 65536)
    assert bytes([0x5A]) * 512 not in volume.image.read_bytes()[: 64 * MIB]
    volume_manager.detach(guest.name, volume.id)
    volume_manager.attach(guest.name, volume.name, SCSI)
    guest_io.read(volume.alias, 0x5A, MIB, 65536)
    volume_manager.detach(guest.name, volume.id)
    volume.delete()
    assert not key.exists()


def test_another_type_has_no_encryption(
    storage: BlockStorage, make_volume: VolumeMaker, backend: Backend
) -> None:
    said = volumes.encryption(storage, make_volume(backend).id)
    assert said.get('encryption_key_id') is None


def test_multiattach(admin: typing.Any, make_volume: VolumeMaker, iscsi: IscsiBackend) -> None:
    made = volume_types.multiattach(admin, 'for many', iscsi.name)
    volume = make_volume(iscsi, volume_type=made.name)
    assert volume.get().is_multiattach
    for number in range(2):
        connector = {'host': f'host{number}', 'initiator': f'iqn.2020-01.test:{number}'}
        attachment = admin.create_attachment(volume.id, connector=connector)
        admin.complete_attachment(attachment)
    assert [one.status for one in volume.attachments()] == ['attached', 'attached']


@pytest.mark.parametrize('consumer', ['front-end', 'both'])
def test_limits(
    admin: typing.Any,
    volume_manager: VolumeManager,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    guest: Guest,
    consumer: str,
) -> None:
    limits = {'total_iops_sec': '500'}
    made = volume_types.limited(admin, 'slow', iscsi.name, limits, consumer=consumer)
    volume = make_volume(iscsi, volume_type=made.name)
    volume_manager.attach(guest.name, volume.name, SCSI)
    (disk,) = guest.disks()
    assert disk.iotune is not None
    assert disk.iotune.total_iops_sec == 500
    volume_manager.detach(guest.name, volume.id)


def test_bootable(admin: typing.Any, make_volume: VolumeMaker, iscsi: IscsiBackend) -> None:
    volume = make_volume(iscsi)
    assert not volume.get().is_bootable
    metadata = {'hw_disk_bus': 'scsi', 'hw_scsi_model': 'virtio-scsi'}
    volume_types.make_bootable(admin, volume.id, metadata)
    found: typing.Any = volume.get()
    assert found.is_bootable
    assert found.volume_image_metadata == metadata
