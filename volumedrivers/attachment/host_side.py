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

"""What is behind a guest's disk on this host: device, paths, portals, mount.

Looks at sysfs and at tables of the kernel only, never at a device or a file,
so that it cannot hang on dead storage.
"""

import typing

from volumedrivers import exception
from volumedrivers.attachment.results import HostPath
from volumedrivers.attachment.results import HostSide
from volumedrivers.host import device_route
from volumedrivers.host import mount_table

if typing.TYPE_CHECKING:
    from volumedrivers.host.block_device import BlockDevices


def look(source_type: str | None, source: str, devices: 'BlockDevices') -> HostSide | None:
    """Return the host side of a disk; None when it has none (QEMU opens it itself)."""
    if source_type == 'block':
        return _block(source, devices)
    if source_type == 'file':
        return HostSide(mount=_mount_of(source))
    return None


def _block(path: str, devices: 'BlockDevices') -> HostSide:
    try:
        size = devices.size(path)
        identity = devices.identity(path)
        paths = devices.paths(path)
        device = devices.kernel_path(path)
    except exception.VolumeNotConnected:
        return HostSide(problem=f'there is no device {path} on this host')
    failed = dict(paths.failed)
    found = []
    for name in paths.names:
        route = device_route.find(name)
        found.append(
            HostPath(
                name=name,
                state=failed.get(name, 'running'),
                transport=route.transport,
                portal=route.portal,
                target=route.target,
            )
        )
    return HostSide(
        device=device,
        size=size,
        identity=None if identity is None else ':'.join(identity),
        paths=tuple(found),
    )


def mount_of(path: str) -> mount_table.Mount | None:
    """Return what is mounted where a file is, by its name; None for the root file system."""
    holding = [
        mount
        for mount in mount_table.read()
        if path.startswith(mount.mount_point.rstrip('/') + '/') and mount.mount_point != '/'
    ]
    if not holding:
        return None
    # The longest holds the file; of several at one place the last is on top.
    longest = max(len(mount.mount_point) for mount in holding)
    return [mount for mount in holding if len(mount.mount_point) == longest][-1]


def _mount_of(path: str) -> str | None:
    mount = mount_of(path)
    return None if mount is None else f'{mount.source} ({mount.fstype}) at {mount.mount_point}'
