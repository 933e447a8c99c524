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

"""What the image of a bootable volume says of the disk that it is to be.

An image's properties stay with the volume that was made from it; the operating
system in it may have drivers for one bus only.
"""

import dataclasses
import typing

from volumedrivers import exception
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.libvirt import target_names

if typing.TYPE_CHECKING:
    from volumedrivers.libvirt.guest import Guest

#: of a DiskRequest that leaves the bus to the image
ANY_BUS = ''
_DEFAULT = DiskRequest().bus
_PROPERTIES = {'disk': 'hw_disk_bus', 'lun': 'hw_disk_bus'}
_SCSI_MODEL = 'hw_scsi_model'
_OTHERWISE = 'Name a bus that both have, or change the property of the volume in Cinder'


def request_for(guest: 'Guest', volume: typing.Any, request: DiskRequest | None) -> DiskRequest:
    """Return the request with a bus: the one asked for, the image's, or virtio.

    :param volume: the SDK's
    :param request: None, or one with the bus ``ANY_BUS``: the image says which
    :raises InvalidDiskInfo: its disk cannot be on that bus, or not in this guest
    """
    wanted = request or DiskRequest(bus=ANY_BUS)
    if wanted.bus != ANY_BUS:
        return wanted
    properties = _of_image(volume)
    name = _PROPERTIES.get(wanted.type, f'hw_{wanted.type}_bus')
    bus = str(properties.get(name) or '').lower()
    if not bus:
        return dataclasses.replace(wanted, bus=_DEFAULT)
    _require_bus(volume, name, bus)
    if bus == 'scsi':
        _require_model(guest, volume, str(properties.get(_SCSI_MODEL) or '').lower())
    return dataclasses.replace(wanted, bus=bus)


def _of_image(volume: typing.Any) -> dict[str, typing.Any]:
    """Return the properties; of a volume that nothing boots from, none count."""
    return dict(volume.volume_image_metadata or {}) if volume.is_bootable else {}


def _require_bus(volume: typing.Any, name: str, bus: str) -> None:
    try:
        target_names.prefix(bus)
    except exception.InvalidDiskInfo as error:
        raise exception.InvalidDiskInfo(
            key=f'{name} of the image that volume {volume.id} is made from',
            found=repr(bus),
            expected=f'{error.expected}. {_OTHERWISE}',
        ) from error


def _require_model(guest: 'Guest', volume: typing.Any, model: str) -> None:
    found = guest.definitions().scsi_model()
    if model and model != found:
        raise exception.InvalidDiskInfo(
            key=f'{_SCSI_MODEL} of the image that volume {volume.id} is made from',
            found=repr(model),
            expected=f'{found}, which the SCSI controller of guest {guest.name} is. {_OTHERWISE}',
        )
