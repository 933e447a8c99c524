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

"""The books of the PowerFlex stand-in: volumes, who has them mapped, and the host's client.

The gateway and the client of this host are processes; the back end that the
tests talk to is another one.  What they know of each other is in files.
"""

import pathlib
import typing

from tests.lab.standins.client_device import ClientDevice
from tests.lab.storage import backend
from tests.lab.storage.image_volume import image_path
from tests.lab.storage.records import Records

DIRECTORY = backend.STATE / 'standins' / 'scaleio'
VOLUMES = Records(DIRECTORY / 'volumes')
CERTIFICATE = DIRECTORY / 'gateway.pem'
KEY = DIRECTORY / 'gateway.key'

SYSTEM = '3f0c9a7d1b2e4f60'
SDC_GUID = '6d1f5c3e-9b47-4f2a-8e60-7c1d2b3a4f50'
# What drv_cfg counts as success, in the first of the answer's bytes.
RC_SUCCESS = 65

ADDRESS = '127.0.0.1'
PORT = 4443
USER = 'lab'
PASSWORD = 'Lab-PowerFlex-42'
CONFIG_GROUP = 'lab-powerflex'

# os-brick has the names of these places in its code.
CONNECTOR_CONF = pathlib.Path('/opt/emc/scaleio/openstack/connector.conf')
DRV_CFG = '/opt/emc/scaleio/sdc/bin/drv_cfg'


def device(volume: dict[str, typing.Any], volume_id: str) -> ClientDevice:
    """Return the device that the host's client makes of a volume."""
    name = f'disk/by-id/emc-vol-{SYSTEM}-{volume["scaleio_id"]}'
    return ClientDevice(image_path(VOLUMES, volume_id), (name,))


def find(scaleio_id: str) -> tuple[str, dict[str, typing.Any]] | None:
    """Return a volume's UUID and record by the id that PowerFlex gave it."""
    for volume_id, record in VOLUMES.all().items():
        if record['scaleio_id'] == scaleio_id:
            return volume_id, record
    return None


def set_mapped(volume_id: str, mapped: bool) -> None:
    """Map a volume to this host, or unmap it, and let its client make the device or end it.

    PowerFlex unmaps a volume that is open; who has it open gets errors.
    """
    record = VOLUMES.load(volume_id)
    if mapped:
        VOLUMES.save(volume_id, {**record, 'mapped': True})
        device(record, volume_id).appear()
    else:
        VOLUMES.save(volume_id, {**record, 'mapped': False, 'limits': {}})
        device(record, volume_id).disappear(force=True)


def rescan() -> None:
    """Let the host's client see how large its volumes are."""
    for volume_id, record in VOLUMES.all().items():
        if record['mapped']:
            device(record, volume_id).notice_size()
