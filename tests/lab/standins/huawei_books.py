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

"""The books of the FusionStorage stand-in: volumes, and which this host has attached."""

import typing

from tests.lab.standins.client_device import ClientDevice
from tests.lab.storage import backend
from tests.lab.storage.image_volume import image_path
from tests.lab.storage.records import Records

VOLUMES = Records(backend.STATE / 'standins' / 'huaweisds' / 'volumes')


def device(volume: dict[str, typing.Any], volume_id: str) -> ClientDevice:
    """Return the device that the host's agent makes of a volume."""
    return ClientDevice(image_path(VOLUMES, volume_id), (f'huaweisds/{volume["name"]}',))


def find(name: str) -> tuple[str, dict[str, typing.Any]] | None:
    """Return a volume's UUID and record by the name that the command line has."""
    for volume_id, record in VOLUMES.all().items():
        if record['name'] == name:
            return volume_id, record
    return None
