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

"""The books of the StorPool stand-in: volumes, and which this host has attached."""

import pathlib
import typing

from tests.lab.standins.client_device import ClientDevice
from tests.lab.storage import backend
from tests.lab.storage.image_volume import image_path
from tests.lab.storage.records import Records

DIRECTORY = backend.STATE / 'standins' / 'storpool'
VOLUMES = Records(DIRECTORY / 'volumes')

ADDRESS = '127.0.0.1'
PORT = 81
TOKEN = '1570832746918234567'
CLIENT = 7
PREFIX = 'lab'

# The API's own place; os-brick has it in its code.
CONF = pathlib.Path('/etc/storpool.conf')
DEV = pathlib.Path('/dev/storpool')


def name_of(volume_id: str) -> str:
    """Return what os-brick and Cinder's driver call a volume."""
    return f'{PREFIX}--volume-{volume_id}'


def device(volume: dict[str, typing.Any], volume_id: str) -> ClientDevice:
    """Return the device that storpool_block makes of a volume."""
    names = (f'storpool/{volume["name"]}', f'storpool-byid/{volume["global_id"]}')
    return ClientDevice(image_path(VOLUMES, volume_id), names)


def find(name: str) -> tuple[str, dict[str, typing.Any]] | None:
    """Return a volume's UUID and record by its name, or by ``~`` and its global id."""
    for volume_id, record in VOLUMES.all().items():
        if name in (record['name'], f'~{record["global_id"]}'):
            return volume_id, record
    return None


def set_attached(volume_id: str, rights: str | None, *, force: bool = False) -> None:
    """Attach a volume to this host, or detach it; wait until the host has seen it.

    :param rights: rw or ro; None: detach
    :raises InUse: it is open here
    """
    record = VOLUMES.load(volume_id)
    found = device(record, volume_id)
    if rights is None:
        found.disappear(force=force)
        VOLUMES.save(volume_id, {**record, 'rights': None})
    else:
        VOLUMES.save(volume_id, {**record, 'rights': rights})
        found.appear(read_only=rights == 'ro')
