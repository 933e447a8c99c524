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

"""The bus that the image of a bootable volume asks for."""

import types
import typing

import pytest

from volumedrivers import exception
from volumedrivers.attachment.block_storage import image_metadata
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.libvirt.guest import Guest


class FakeGuest:
    name = 'web1'

    def definitions(self) -> typing.Any:
        return types.SimpleNamespace(scsi_model=lambda: 'virtio-scsi')


GUEST = typing.cast(Guest, FakeGuest())


def volume(bootable: bool = True, **properties: object) -> typing.Any:
    return types.SimpleNamespace(
        id='v1', is_bootable=bootable, volume_image_metadata=properties or None
    )


@pytest.mark.parametrize(
    ('found', 'request_', 'bus'),
    [
        (volume(), None, 'virtio'),
        (volume(hw_disk_bus='sata'), None, 'sata'),
        (volume(hw_disk_bus='SATA'), DiskRequest(bus=''), 'sata'),
        (volume(hw_disk_bus='sata'), DiskRequest(), 'virtio'),
        (volume(hw_disk_bus='sata'), DiskRequest(bus='scsi'), 'scsi'),
        (volume(False, hw_disk_bus='sata'), None, 'virtio'),
        (volume(hw_disk_bus=''), None, 'virtio'),
        (volume(hw_disk_bus='sata'), DiskRequest(bus='', type='cdrom'), 'virtio'),
        (volume(hw_cdrom_bus='sata'), DiskRequest(bus='', type='cdrom'), 'sata'),
        (volume(hw_floppy_bus='fdc'), DiskRequest(bus='', type='floppy'), 'fdc'),
        (volume(hw_disk_bus='scsi'), DiskRequest(bus='', type='lun'), 'scsi'),
        (volume(hw_disk_bus='scsi', hw_scsi_model='virtio-scsi'), None, 'scsi'),
        (volume(hw_disk_bus='sata', hw_scsi_model='lsilogic'), None, 'sata'),
    ],
)
def test_bus(found: typing.Any, request_: DiskRequest | None, bus: str) -> None:
    assert image_metadata.request_for(GUEST, found, request_).bus == bus


def test_the_rest_of_the_request_stays() -> None:
    wanted = DiskRequest(bus='', target='sdc', boot_index=1)
    found = image_metadata.request_for(GUEST, volume(hw_disk_bus='scsi'), wanted)
    assert found == DiskRequest(bus='scsi', target='sdc', boot_index=1)
    assert wanted.bus == ''


@pytest.mark.parametrize(
    ('found', 'words'),
    [
        (volume(hw_disk_bus='lxc'), "hw_disk_bus .* v1 is made from is 'lxc'; expected .*virtio"),
        (volume(hw_disk_bus=7), "hw_disk_bus .* is '7'"),
        (
            volume(hw_disk_bus='scsi', hw_scsi_model='lsilogic'),
            "hw_scsi_model .* is 'lsilogic'; expected virtio-scsi, .* guest web1 is",
        ),
    ],
)
def test_what_the_guest_cannot_have(found: typing.Any, words: str) -> None:
    with pytest.raises(exception.InvalidDiskInfo, match=words) as caught:
        image_metadata.request_for(GUEST, found, None)
    assert str(caught.value).count('Name a bus') == 1
