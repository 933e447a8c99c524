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

"""What os-brick is told of a volume that it connected some time ago."""

import os

from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import os_brick_link
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.volume_devices import on_the_ways
from volumedrivers.libvirt.volume_devices import readable


def path_of_today(
    devices: BlockDevices, volume: ConnectedVolume, path: str, *, encrypted: bool
) -> str:
    """Return what os-brick would return if it connected the volume now.

    A record that was made again from a guest's disk has no device_info.
    """
    returned = str(volume.device_info.get('path') or '')
    if not encrypted and (returned == path or not _is_link_of_udev(path)):
        return path
    # os-brick gave a name of the kernel: it gets the one of today, which
    # is another one after a reboot.
    device = devices.kernel_path(path)
    if device is None:
        return returned if os_brick_link.is_link(returned) else path
    if encrypted:
        # os-brick made a link of its own to what it found, and removes it.
        for found in (device, path):
            link = os_brick_link.link_of(found, os.path.dirname(device))
            if devices.kernel_path(link) is not None:
                return link
    return device if _is_link_of_udev(path) and returned != path else path


def used_multipath(
    devices: BlockDevices, connection_info: ConnectionInfo, volume: ConnectedVolume | None
) -> bool:
    """Whether a volume was connected as a map of device-mapper's multipath.

    Without a record: whether there is a map over what is behind its ways.
    """
    if volume is None:
        names = on_the_ways(devices, connection_info)
        with readable('sysfs'):
            return any(devices.holders(name) for name in names)
    if volume.use_multipath is None and volume.path is not None:
        return os.path.basename(volume.path).startswith('dm-uuid-mpath-')
    return bool(volume.use_multipath)


def _is_link_of_udev(path: str) -> bool:
    # os-brick itself names devices in other directories, such as /dev/md.
    return '/disk/by-' in path and not os_brick_link.is_link(path)
