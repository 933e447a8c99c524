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

"""What would be done on this host, one action a line, for ``--dry-run``."""

from collections.abc import Iterable
from collections.abc import Mapping
import os
import typing

from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.connection_info import IscsiData
from volumedrivers.connection_info import ProtocolData
from volumedrivers.host import iscsi_session
from volumedrivers.host import os_brick_link
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.libvirt.asked_paths import asked_paths
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.device_path import used_multipath
from volumedrivers.libvirt.volume_devices import check_identity
from volumedrivers.libvirt.volume_devices import devices_of
from volumedrivers.libvirt.volume_devices import links_of
from volumedrivers.libvirt.volume_devices import readable

if typing.TYPE_CHECKING:
    from volumedrivers.libvirt.block_device import BlockDeviceDriver

_CONCEALED = '***'


def without_secrets(connection_info: ConnectionInfo, lines: Iterable[str]) -> tuple[str, ...]:
    """Return lines in which no secret of the connection is."""
    secrets = sorted(connection_info.secrets(), key=len, reverse=True)
    shown = []
    for each in lines:
        line = each
        for secret in secrets:
            line = line.replace(secret, _CONCEALED)
        shown.append(line)
    return tuple(shown)


def connector(protocol: str, options: Mapping[str, object]) -> str:
    """Say which connector of os-brick is made, and how."""
    made = ', '.join(f'{name}={value}' for name, value in sorted(options.items()))
    return f'os-brick {protocol} connector' + (f': {made}' if made else '')


def of_connecting(driver: 'BlockDeviceDriver', connection_info: ConnectionInfo) -> tuple[str, ...]:
    """Say what a driver of block devices would do to connect a volume."""
    devices = driver.context.devices
    lines = [
        *(f'connect to {portal}' for portal in driver.portals_to_ask(connection_info)),
        connector(driver.PROTOCOL, driver.connector_options()),
        *driver.plan_ways(connection_info),
        *devices_to_come(devices, connection_info.data),
    ]
    if connection_info.encrypted:
        lines.append(f'link to the device: {os_brick_link.link_of("/dev/...", devices.dev)}')
    return without_secrets(connection_info, lines)


def of_removing(
    driver: 'BlockDeviceDriver',
    connection_info: ConnectionInfo,
    volume: ConnectedVolume | None,
) -> tuple[str, ...]:
    """Say what it would do to take the volume off this host.

    :raises IdentityMismatch: the removal would be refused
    """
    devices = driver.context.devices
    lines = [
        *removal(devices, connection_info, volume),
        *driver.plan_clean_up(connection_info, volume),
    ]
    path = volume.path if volume is not None else driver.find(connection_info)
    is_there = path is not None and devices.kernel_path(path) is not None
    if not lines and not driver.REMOVES_DEVICE and is_there:
        lines = [f'device: {path} goes when the storage takes it back']
    if not lines:
        return (f'nothing: volume {connection_info.volume_id} is not on this host',)
    options = driver.connector_options()
    if 'use_multipath' in options and used_multipath(devices, connection_info, volume):
        options['use_multipath'] = True
    return without_secrets(connection_info, [connector(driver.PROTOCOL, options), *lines])


def devices_to_come(devices: BlockDevices, data: ProtocolData) -> tuple[str, ...]:
    """Name the devices that udev will name, or has."""
    lines = []
    for way in asked_paths(data, use_multipath=True):
        if way.link is None:
            continue
        with readable('/dev/disk/by-path'):
            names = devices.by_path(way.link)
        path = os.path.join(devices.dev, 'disk/by-path', f'{_any(way.link)}{way.link}')
        lines.append(f'device: {path}' + (f' is there: {" ".join(names)}' if names else ''))
    return tuple(lines)


def removal(
    devices: BlockDevices,
    connection_info: ConnectionInfo,
    volume: ConnectedVolume | None,
) -> tuple[str, ...]:
    """Say which maps, disks, sessions and links would be removed.

    :raises IdentityMismatch: the removal would be refused
    """
    check_identity(devices, connection_info, volume)
    paths = devices_of(devices, connection_info, volume)
    names = [os.path.basename(path) for path in paths]
    lines = []
    with readable('sysfs'):
        for name in names:
            uuid = devices.map_uuid(name)
            if uuid is not None and uuid.startswith('mpath-'):
                lines.append(f'multipath -f {uuid.removeprefix("mpath-")} ({name})')
    disks = [name for name in names if name.startswith('sd')]
    if disks:
        lines.append(f'delete SCSI devices {" ".join(disks)}')
    lines += [
        f'remove link {link}'
        for link in links_of(devices, paths, volume)
        if connection_info.encrypted
    ]
    return (*lines, *_logouts(devices, connection_info.data, frozenset(disks)))


def _logouts(devices: BlockDevices, data: ProtocolData, disks: frozenset[str]) -> tuple[str, ...]:
    if not isinstance(data, IscsiData):
        return ()
    asked = {(str(way.portal), way.iqn) for way in data.targets}
    lines = []
    with readable('/sys/class/iscsi_session'):
        for session in iscsi_session.sessions(devices.sysfs):
            name = f'{session.portal} {session.target}'
            there = {disk for _, disk in session.disks}
            if not there & disks and ((session.portal, session.target) not in asked or there):
                continue
            others = sorted(lun for lun, disk in session.disks if disk not in disks)
            if others:
                lines.append(
                    f'session stays: {name} has other LUNs ({", ".join(map(str, others))})'
                )
            else:
                lines.append(f'iscsiadm -m node -T {session.target} -p {session.portal} --logout')
    return tuple(lines)


def _any(link: str) -> str:
    """What stands for the adapter in a name of which only the end is known."""
    return '*' if link.startswith('-') else ''
