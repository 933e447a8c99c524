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

"""Find a volume among the disks of guests."""

import dataclasses
import typing
import uuid

from volumedrivers import exception
from volumedrivers.attachment.results import AttachedVolume
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import NetworkHost
from volumedrivers.libvirt.connected_volume import NetworkSource

if typing.TYPE_CHECKING:
    from volumedrivers.connection_info import ConnectionInfo
    from volumedrivers.host.block_device import BlockDevices
    from volumedrivers.libvirt.disk import Disk
    from volumedrivers.libvirt.guest import Guest
    from volumedrivers.libvirt.guest_definition import Definitions
    from volumedrivers.libvirt.guest_sources import DiskSources
    from volumedrivers.libvirt.hypervisor import Hypervisor

ALIAS_PREFIX = 'ua-'


class GoneGuest:
    """A guest that libvirt says it does not have (any more), by its UUID."""

    def __init__(self, guest_uuid: str) -> None:
        self.name = guest_uuid
        self.uuid = guest_uuid

    def is_running(self) -> bool:
        """It does not."""
        return False

    def wait_until_idle(self) -> None:
        """It has no QEMU."""

    def disks(self, *, persistent: bool = False) -> tuple['Disk', ...]:
        """It has none."""
        return ()

    def all_disks(self) -> tuple['Disk', ...]:
        """It has none."""
        return ()

    def definitions(self) -> 'Definitions':
        """It has none."""
        from volumedrivers.libvirt import guest_definition  # noqa: PLC0415 - loads libvirt

        return guest_definition.Definitions(live=None, persistent=None)


def look_up(hypervisor: 'Hypervisor', guest: str) -> 'Guest':
    """Return a guest to detach from, which may be gone if its UUID is given.

    By a name alone what it left on the host could not be found.

    :raises GuestNotFound: there is none of that name
    """
    try:
        return hypervisor.guest(guest)
    except exception.GuestNotFound:
        try:
            guest_uuid = str(uuid.UUID(guest))
        except ValueError:
            guest_uuid = None
        if guest_uuid is None:
            raise
    return typing.cast('Guest', GoneGuest(guest_uuid))


def volume_id_of(disk: 'Disk | DiskSources') -> str | None:
    """Return the id of the Cinder volume, by the disk's alias or serial."""
    if disk.alias is not None and disk.alias.startswith(ALIAS_PREFIX):
        return disk.alias.removeprefix(ALIAS_PREFIX)
    return disk.serial


def find(guest: 'Guest', volume: str) -> 'Disk | None':
    """Return the guest's disk of a volume id or target name.

    None only when libvirt said that there is none.
    """
    return find_among(guest.all_disks(), volume)


def find_among(disks: tuple['Disk', ...], volume: str) -> 'Disk | None':
    """Return the first of a volume id, or else of a target name."""
    by_id = (disk for disk in disks if volume_id_of(disk) == volume)
    by_target = (disk for disk in disks if target_of(disk) == volume)
    return next(by_id, None) or next(by_target, None)


def find_source(disks: tuple['Disk', ...], source: str) -> 'Disk | None':
    """Return the first with a source as ``source_of`` writes it."""
    return next((disk for disk in disks if source and source_of(disk) == source), None)


def is_complete(guest: 'Guest', volume_id: str) -> bool:
    """Tell whether both definitions of the guest have the volume."""
    return all(
        any(volume_id_of(disk) == volume_id for disk in disks)
        for disks in (guest.disks(), guest.disks(persistent=True))
    )


def request_of(disk: 'Disk', request: DiskRequest) -> DiskRequest:
    """Return the request with the target, bus and unit that the guest's disk has."""
    address = disk.address
    return dataclasses.replace(
        request,
        target=target_of(disk),
        bus=(disk.target.bus if disk.target is not None else None) or request.bus,
        unit=address.unit if address is not None and address.type == 'drive' else None,
    )


def target_of(disk: 'Disk') -> str:
    """Return the disk's target name, such as vdb."""
    return (disk.target.dev if disk.target is not None else None) or ''


def connected_volume(
    disk: 'Disk', connection_info: 'ConnectionInfo', devices: 'BlockDevices'
) -> ConnectedVolume | None:
    """Return what connect_volume answered, as far as the guest's disk tells.

    A driver learns from it by which client and path the volume was connected.
    None when the disk has a device name that may mean another device by now.
    """
    source = None
    path = disk.path
    identity = None
    if disk.type == 'network' and disk.source is not None:
        source = NetworkSource(
            protocol=disk.source.protocol or '',
            name=disk.source.name or '',
            hosts=tuple(NetworkHost(host.name or '', host.port) for host in disk.source.hosts),
        )
        path = None
    elif disk.type == 'block' and path is not None:
        if devices.stable_path(path, wait=0.0) != path:
            return None
        identity = _identity(path, devices)
    if disk.type not in ('block', 'file', 'network') or (path is None and source is None):
        return None
    return ConnectedVolume(
        driver_volume_type=connection_info.driver_volume_type,
        volume_id=connection_info.volume_id,
        source_type=typing.cast(typing.Literal['block', 'file', 'network'], disk.type),
        path=path,
        source=source,
        format=(disk.driver.type if disk.driver is not None else None) or 'raw',
        identity=identity,
    )


def _identity(path: str, devices: 'BlockDevices') -> Identity | None:
    try:
        found = devices.identity(path)
    except exception.VolumeNotConnected:
        return None
    return None if found is None else Identity(*found)


def describe(guest: 'Guest', disk: 'Disk') -> AttachedVolume:
    """Say what a disk is in plain data."""
    return AttachedVolume(
        guest=guest.name,
        guest_uuid=guest.uuid,
        volume_id=volume_id_of(disk),
        bus=disk.target.bus if disk.target is not None else None,
        target=target_of(disk),
        device=disk.device or 'disk',
        source_type=disk.type,
        source=source_of(disk),
        format=disk.driver.type if disk.driver is not None else None,
        hosts=_hosts(disk),
        read_only=bool(disk.readonly),
        alias=disk.alias,
    )


def source_of(disk: 'Disk') -> str:
    """Return the path, or protocol:name, that libvirt was given; '' when empty."""
    source = disk.source
    if source is None:
        return ''
    if source.protocol:
        return f'{source.protocol}:{source.name or ""}'
    return disk.path or ''


def _hosts(disk: 'Disk') -> tuple[str, ...]:
    if disk.source is None:
        return ()
    return tuple(
        f'{host.name}:{host.port}' if host.port else str(host.name or host.socket or '')
        for host in disk.source.hosts or ()
    )
