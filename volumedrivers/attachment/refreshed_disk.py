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

"""The disk that a guest's definition gets when its volume is reached another way.

Pure.  What the guest sees stays: target, address, alias, boot order, limits,
serial, and whether the disk is shared or read-only.
"""

import copy
import dataclasses
import typing

from volumedrivers.attachment import guest_disks
from volumedrivers.libvirt import guest_definition
from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.driver import DiskEncryption
from volumedrivers.libvirt.driver import DiskInfo

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.record import Record
    from volumedrivers.connection_info import ConnectionInfo
    from volumedrivers.libvirt.connected_volume import ConnectedVolume
    from volumedrivers.libvirt.driver import VolumeDriver

# Children of a disk that say where its data is, and how it is opened.
_WHERE = ('source', 'auth')


def refreshed(
    driver: 'VolumeDriver',
    connection_info: 'ConnectionInfo',
    volume: 'ConnectedVolume',
    record: 'Record',
    disk: Disk,
) -> Disk:
    """Return a copy of a disk that has its data where the volume is now.

    :param volume: as it is connected now
    :param disk: as the definition has it
    """
    opened = record.opened
    encryption = None
    if opened is not None and opened.path is not None:
        volume = dataclasses.replace(volume, path=opened.path)
    elif opened is not None and opened.secret_uuid is not None:
        encryption = DiskEncryption(opened.secret_uuid, opened.provider, opened.engine)
    target = disk.target
    fresh = driver.get_disk(
        connection_info,
        volume,
        DiskInfo(
            bus=(target.bus if target is not None else None) or record.disk.get('bus') or 'virtio',
            dev=(target.dev if target is not None else None) or '',
            type=disk.device or 'disk',
            encryption=encryption,
        ),
    )
    return _with_source(disk, fresh)


def says_the_same(one: Disk, other: Disk) -> bool:
    """Tell whether libvirt opens the same data, in the same place, with the same secret."""
    return guest_definition.same_source(one, other) and _auth_of(one) == _auth_of(other)


def written(disk: Disk) -> str:
    """Say where the data of a disk is; nothing of it is secret."""
    source = disk.source
    hosts = ', '.join(
        f'{host.name}:{host.port}' if host.port else str(host.name or host.socket or '')
        for host in (() if source is None else source.hosts)
    )
    return guest_disks.source_of(disk) + (f' at {hosts}' if hosts else '')


def _with_source(disk: Disk, fresh: Disk) -> Disk:
    element = copy.deepcopy(disk.element)
    new = copy.deepcopy(fresh.element)
    element.set('type', new.get('type') or 'file')
    old_source = element.find('source')
    place = 0 if old_source is None else element.index(old_source)
    kept = [] if old_source is None else _kept_of_source(old_source, new.find('source'))
    for name in _WHERE:
        for child in element.findall(name):
            element.remove(child)
    for name in reversed(_WHERE):
        given = new.find(name)
        if given is not None:
            element.insert(min(place, len(element)), given)
    source = element.find('source')
    if source is not None:
        source.extend(kept)
    return Disk.parse(element)


def _kept_of_source(old: typing.Any, new: typing.Any) -> list[typing.Any]:
    """Return what somebody has set in a source that does not say where the data is."""
    given = set() if new is None else {child.tag for child in new}
    return [
        copy.deepcopy(child)
        for child in old
        if child.tag not in given and child.tag in {'encryption', 'reservations', 'seclabel'}
    ]


def _auth_of(disk: Disk) -> tuple[object, ...] | None:
    auth = disk.auth
    if auth is None and disk.source is not None:
        auth = disk.source.auth
    if auth is None:
        return None
    secret = auth.secret
    return auth.username, secret and (secret.type, secret.uuid, secret.usage)
