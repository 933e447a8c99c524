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

"""Stand-in of the PowerFlex client's driver, scini: its /dev/scini and two ioctls.

    python -m tests.lab.standins.scini

The numbers and forms of the ioctls are those of os-brick's
``privileged/scaleio.py`` and of Dell's own Go library (dell/goscaleio,
``drv_cfg.go``): ``_IO('a', 14)`` answers a return code of 8 bytes and the
client's GUID of 16; ``_IO('a', 10)`` lets the client ask for its volumes again.
"""

import uuid

from tests.lab.standins import powerflex
from tests.lab.standins.character_device import CharacterDevice
from tests.lab.standins.character_device import Ioctl

QUERY_GUID = 0x610E  # _IO('a', 14)
RESCAN = 0x610A  # _IO('a', 10)


def query_guid(_: bytes) -> bytes:
    """Return code and GUID."""
    code = powerflex.RC_SUCCESS.to_bytes(8, 'little')
    return code + uuid.UUID(powerflex.SDC_GUID).bytes


def rescan(_: bytes) -> bytes:
    """Look for volumes; return the code of 8 bytes."""
    powerflex.rescan()
    return powerflex.RC_SUCCESS.to_bytes(8, 'little')


IOCTLS = {QUERY_GUID: Ioctl(24, query_guid), RESCAN: Ioctl(8, rescan)}


if __name__ == '__main__':
    CharacterDevice('scini', IOCTLS).serve()
