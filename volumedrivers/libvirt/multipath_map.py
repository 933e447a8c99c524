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

"""See that a volume with several ways comes as a multipath map, however many have come.

Where one way is down or late, os-brick may hand out the disk of the other one.
A guest that is given that can never have a second way: a map is another device.
"""

from collections.abc import Callable
from collections.abc import Mapping
import os
import time
import typing

from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.libvirt.asked_paths import Ways
from volumedrivers.privsep import multipath

LOG = logging.getLogger(__name__)

_POLL = 0.1

DeviceInfo = Mapping[str, typing.Any]


def connect(
    ask: Callable[[], DeviceInfo], devices: BlockDevices, ways: Ways, seconds: float
) -> DeviceInfo:
    """Let os-brick connect; where it finds a disk alone, make the map and ask it again.

    :param ask: lets os-brick connect
    :param ways: the volume's; a map is needed where there are several
    :param seconds: what the map may take to appear
    :returns: os-brick's last answer
    """
    found = ask()
    disk = _disk(devices, found) if len(ways.asked) > 1 else None
    if disk is None:
        return found
    if _is_in_map(devices, disk) or _make_map(devices, disk, seconds):
        return ask()
    return found


def _make_map(devices: BlockDevices, disk: str, seconds: float) -> bool:
    known = devices.identity_of_name(disk)
    if known is None or known[0] != 'wwn':
        return False
    LOG.info('The only path that os-brick found is %s; multipathd is told to take it', disk)
    try:
        multipath.make_map(known[1], disk)
    except exception.VolumeDriversError as error:
        LOG.warning('%s goes on without a multipath map: %s', disk, error)
        return False
    deadline = time.monotonic() + seconds
    while not _is_in_map(devices, disk):
        if time.monotonic() >= deadline:
            LOG.warning('%s goes on without a multipath map: none has appeared', disk)
            return False
        time.sleep(_POLL)
    return True


def _disk(devices: BlockDevices, found: DeviceInfo) -> str | None:
    """Return the SCSI disk that os-brick hands out; None: it is something else."""
    path = found.get('path')
    if isinstance(path, bytes):
        path = path.decode()
    real = devices.kernel_path(path) if isinstance(path, str) and path else None
    name = os.path.basename(real or '')
    return name if name.startswith('sd') else None


def _is_in_map(devices: BlockDevices, disk: str) -> bool:
    return any(
        (devices.map_uuid(name) or '').startswith('mpath-') for name in devices.holders(disk)
    )
