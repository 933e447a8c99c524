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

"""Which devices of this host are a volume's: by what it is, or by how it was asked for.

os-brick removes what it finds behind a target's LUN, whatever volume that is
by now: Cinder may have given the number to another one.  So what is there is
compared with what was recorded, before os-brick is called.
"""

from collections.abc import Iterator
import contextlib
import os
import typing

from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.connection_info import IscsiData
from volumedrivers.host import iscsi_session
from volumedrivers.host import os_brick_link
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.libvirt.asked_paths import asked_paths
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import Remainder


@contextlib.contextmanager
def readable(what: str) -> Iterator[None]:
    """Say that the kernel did not answer; nothing counts as gone then.

    :raises HostUnreadable
    """
    try:
        yield
    except OSError as error:
        raise exception.HostUnreadable(what=what, reason=error.strerror or str(error)) from error


def identity_of(devices: BlockDevices, path: str) -> Identity:
    """Return what a block device is now; one that says nothing is its name.

    :raises VolumeNotConnected: there is no such device
    :raises HostUnreadable: the kernel did not say
    """
    with readable(path):
        found = devices.identity(path)
    return Identity('path', path) if found is None else Identity(*found)


def known_identity(volume: ConnectedVolume | None) -> tuple[str, str] | None:
    """Return what a volume was recorded to be, if that is more than a name."""
    if volume is None or volume.identity is None or volume.identity.kind == 'path':
        return None
    return volume.identity.kind, volume.identity.value


def on_the_ways(devices: BlockDevices, connection_info: ConnectionInfo) -> tuple[str, ...]:
    """Return the kernel's names of what is behind the ways that Cinder names.

    :raises HostUnreadable
    """
    data = connection_info.data
    with readable('sysfs'):
        names = [
            name
            for way in asked_paths(data, use_multipath=True)
            if way.link is not None
            for name in devices.by_path(way.link)
        ]
        if isinstance(data, IscsiData):
            units = {(str(way.portal), way.iqn, way.lun) for way in data.targets}
            names += [
                disk
                for session in iscsi_session.sessions(devices.sysfs)
                for lun, disk in session.disks
                if (session.portal, session.target, lun) in units
            ]
    return tuple(dict.fromkeys(names))


def check_identity(
    devices: BlockDevices,
    connection_info: ConnectionInfo,
    volume: ConnectedVolume | None,
    *,
    also: str | None = None,
) -> tuple[str, str] | None:
    """Compare what is under a volume's name, and behind its ways, with the record.

    Without a record the ways are compared with one another, and with the path
    in the connection_info: it may have been another host's.

    :param also: a device that is the volume's by its name, too
    :returns: what the volume is; None: nobody knows, or nothing is there
    :raises IdentityMismatch: something else is there
    :raises HostUnreadable: the kernel did not say
    """
    recorded = known_identity(volume)
    found = dict(_identities(devices, connection_info, volume, also))
    expected = recorded or next((each for each in found.values() if each is not None), None)
    for path, each in found.items():
        # A path that never answered tells nothing, but the name of a volume has to.
        has_to_tell = recorded is not None and volume is not None and path == volume.path
        if each != expected and (each is not None or has_to_tell):
            raise exception.IdentityMismatch(
                path=path,
                found=':'.join(each) if each else 'without identity',
                expected=':'.join(expected) if expected else 'one volume',
                volume_id=connection_info.volume_id,
            )
    return expected


def _identities(
    devices: BlockDevices,
    connection_info: ConnectionInfo,
    volume: ConnectedVolume | None,
    also: str | None,
) -> Iterator[tuple[str, tuple[str, str] | None]]:
    """Yield what is under each name that os-brick may remove, where something is."""
    paths = [volume.path] if known_identity(volume) and volume and volume.path else []
    paths += [also] if also is not None else []
    paths += [os.path.join(devices.dev, name) for name in on_the_ways(devices, connection_info)]
    if paths and volume is None and connection_info.device_path is not None:
        paths.append(connection_info.device_path)
    for path in paths:
        try:
            with readable(path):
                yield path, devices.identity(path)
        except exception.VolumeNotConnected:
            continue


def devices_of(
    devices: BlockDevices, connection_info: ConnectionInfo, volume: ConnectedVolume | None
) -> tuple[str, ...]:
    """Return the devices and maps that are the volume, as paths below /dev.

    By the recorded identity, and what is behind its ways and tells none; without
    a record by the ways, with the maps over them.

    :raises HostUnreadable
    """
    recorded = known_identity(volume)
    with readable('sysfs'):
        names = on_the_ways(devices, connection_info)
        if recorded is not None:
            silent = (name for name in names if devices.identity_of_name(name) is None)
            return (
                *devices.leftovers(recorded),
                *(os.path.join(devices.dev, name) for name in silent),
            )
        maps = dict.fromkeys(above for name in names for above in devices.holders(name))
        return tuple(os.path.join(devices.dev, name) for name in (*names, *maps))


def links_of(
    devices: BlockDevices, paths: typing.Iterable[str], volume: ConnectedVolume | None
) -> tuple[str, ...]:
    """Return os-brick's own links to a volume's devices, and the recorded one.

    :raises HostUnreadable
    """
    names = frozenset(os.path.basename(path) for path in paths)
    with readable('/dev/disk/by-id'):
        links = os_brick_link.links_to(names, devices.dev)
    recorded = str(volume.device_info.get('path') or '') if volume is not None else ''
    if os_brick_link.is_link(recorded) and os.path.lexists(recorded):
        target = os.path.basename(os.path.realpath(recorded))
        # A name of the kernel's may be another volume's device by now.
        if target in names or devices.kernel_path(recorded) is None:
            links = tuple(dict.fromkeys((*links, recorded)))
    return links


def empty_sessions(
    devices: BlockDevices, connection_info: ConnectionInfo
) -> tuple[iscsi_session.Session, ...]:
    """Return the iSCSI sessions of a volume's ways that no disk is behind.

    :raises HostUnreadable
    """
    data = connection_info.data
    if not isinstance(data, IscsiData):
        return ()
    ways = {(str(way.portal), way.iqn) for way in data.targets}
    with readable('/sys/class/iscsi_session'):
        return tuple(
            session
            for session in iscsi_session.sessions(devices.sysfs)
            if session.is_empty and (session.portal, session.target) in ways
        )


def remainders(
    devices: BlockDevices,
    connection_info: ConnectionInfo,
    volume: ConnectedVolume | None,
    *,
    with_devices: bool,
) -> tuple[Remainder, ...]:
    """List devices, maps, links and sessions of a volume.

    :param with_devices: False: the storage takes them back, not this host
    :raises HostUnreadable
    """
    paths = devices_of(devices, connection_info, volume)
    recorded = known_identity(volume)
    detail = ':'.join(recorded) if recorded else 'behind its LUN'
    found = [Remainder(_kind_of(devices, path), path, detail) for path in paths if with_devices]
    found += [Remainder('link', link, _end_of(link)) for link in links_of(devices, paths, volume)]
    found += [
        Remainder('session', f'{session.portal} {session.target}', 'no disk is behind it')
        for session in empty_sessions(devices, connection_info)
    ]
    return tuple(found)


def _kind_of(devices: BlockDevices, path: str) -> str:
    with readable('sysfs'):
        uuid = devices.map_uuid(os.path.basename(path))
    if uuid is None:
        return 'device'
    return 'dm-crypt' if uuid.startswith('CRYPT-') else 'map'


def _end_of(link: str) -> str:
    return f'leads to {os.path.realpath(link)}' if os.path.exists(link) else 'leads nowhere'
