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

"""Wait until a removed device is gone, and remove the map that os-brick leaves."""

from collections.abc import Callable
import time

from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.libvirt.volume_devices import on_the_ways
from volumedrivers.libvirt.volume_devices import readable
from volumedrivers.privsep import multipath

LOG = logging.getLogger(__name__)

# Seconds that the kernel may take to forget a device after its removal.
REMOVAL_TIME = 5.0
_POLL = 0.1


def check(
    devices: BlockDevices, connection_info: ConnectionInfo, identity: tuple[str, str] | None
) -> None:
    """Make sure that a volume's devices are gone.

    :param identity: what it was; None: nobody knows, and its ways are looked at
    :raises LeftoversFound: they are not
    """

    def look() -> tuple[str, ...]:
        if identity is None:
            return on_the_ways(devices, connection_info)
        with readable('sysfs'):
            return devices.leftovers(identity)

    left = _wait_until_gone(look)
    if identity is not None and any('/dm-' in name for name in left):
        # With all paths down os-brick neither flushes nor removes the map.
        _flush_map(identity)
        left = _wait_until_gone(look)
    if left:
        raise exception.LeftoversFound(
            volume_id=connection_info.volume_id, leftovers=', '.join(left)
        )


def _wait_until_gone(look: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
    deadline = time.monotonic() + REMOVAL_TIME
    while True:
        left = look()
        # A map without paths goes no other way than by our hand.
        waits = [name for name in left if '/dm-' not in name]
        if not waits or time.monotonic() >= deadline:
            return left
        time.sleep(_POLL)


def _flush_map(identity: tuple[str, str]) -> None:
    try:
        multipath.flush_map(identity[1])
    except exception.VolumeDriversError as e:
        LOG.warning('Map of %s: %s', ':'.join(identity), e)
