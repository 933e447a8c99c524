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

"""What can be done about a volume that is reached another way now.

One table for all protocols: what kind of source the guest has, and whether
somebody uses it.  Nothing is changed here.
"""

from collections.abc import Mapping
import enum
import os
import re
import typing

from volumedrivers import exception
from volumedrivers.attachment.work import volume_id_of
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.connection_info import FibreChannelData
from volumedrivers.connection_info import IscsiData
from volumedrivers.connection_info import NvmeData
from volumedrivers.connection_info import RbdData
from volumedrivers.libvirt import changed_ways
from volumedrivers.libvirt.volume_devices import readable

if typing.TYPE_CHECKING:
    from volumedrivers.host.block_device import BlockDevices
    from volumedrivers.libvirt.connected_volume import ConnectedVolume


class Family(enum.StrEnum):
    """What the source of a disk is."""

    NETWORK = 'network'  # QEMU opens it itself
    PATHS = 'paths'  # a device with several paths
    DEVICE = 'device'  # a device with one
    MAPPING = 'mapping'  # of a client that follows the storage by itself
    SHARE = 'share'  # a file


class How(enum.StrEnum):
    """What is done."""

    RECORD = 'record'  # the journal gets it, and the next connection goes by it
    SOURCE = 'source'  # secret and definition; a running guest keeps what it has open
    PATHS = 'paths'  # paths are added and taken away under whoever uses the device
    CONNECT = 'connect'  # the volume is disconnected, connected and defined anew
    REFUSE = 'refuse'


#: by (what it is, whether somebody has it open)
TABLE: typing.Final[Mapping[tuple[Family, bool], How]] = {
    (Family.NETWORK, False): How.SOURCE,
    (Family.NETWORK, True): How.SOURCE,
    (Family.PATHS, False): How.CONNECT,
    (Family.PATHS, True): How.PATHS,
    (Family.DEVICE, False): How.CONNECT,
    (Family.DEVICE, True): How.REFUSE,
    (Family.MAPPING, False): How.CONNECT,
    (Family.MAPPING, True): How.RECORD,
    (Family.SHARE, False): How.CONNECT,
    (Family.SHARE, True): How.REFUSE,
}

#: why, for people
REASONS: typing.Final[Mapping[Family, str]] = {
    Family.DEVICE: 'its device has one path, which cannot be exchanged while it is open',
    Family.SHARE: 'its file is open on a share that is mounted as it was',
}

# What does not say how the volume is reached.
_NOT_THE_WAY = frozenset(
    (
        'access_mode',
        'attachment_id',
        'cacheable',
        'device_path',
        'discard',
        'encrypted',
        'enforce_multipath',
        'logical_block_size',
        'mount_point_base',
        'multipath_id',
        'physical_block_size',
        'qos_specs',
        'target_discovered',
        'volume_id',
    )
)
_NVME_PATH = re.compile(r'nvme\d+c\d+n\d+')


def family(volume: 'ConnectedVolume', info: ConnectionInfo, devices: 'BlockDevices') -> Family:
    """Tell what the source of a connected volume is.

    :raises HostUnreadable
    """
    if volume.source_type == 'network':
        return Family.NETWORK
    if volume.source_type == 'file':
        return Family.SHARE
    if isinstance(info.data, RbdData):
        return Family.MAPPING
    if volume.path is not None and _has_paths(volume.path, info, devices):
        return Family.PATHS
    return Family.DEVICE


def how(kind: Family, old: ConnectionInfo, new: ConnectionInfo, *, in_use: bool) -> How:
    """Tell what is to be done about a volume that is reached another way.

    :param in_use: a guest that runs has it open, or another guest the device
    """
    found = TABLE[kind, in_use]
    if found is How.PATHS and not changed_ways.are_of_one_device(old, new):
        return How.REFUSE
    return found


def changes(old: ConnectionInfo, new: ConnectionInfo) -> tuple[str, ...]:
    """Return which keys say that the volume is reached another way; never their values.

    Secrets cannot be compared: the old ones are not recorded.
    """
    before, now = (
        typing.cast(Mapping[str, typing.Any], info.to_dict()['data']) for info in (old, new)
    )
    return tuple(
        sorted(
            key
            for key in {*before, *now} - _NOT_THE_WAY
            if _plain(before.get(key)) != _plain(now.get(key))
        )
    )


def kept(old: ConnectionInfo, new: ConnectionInfo) -> ConnectionInfo:
    """Return the new connection_info with what a refresh does not change.

    Some callers lose it on the way: that the volume is shared, that it is
    attached read-only, that it is encrypted, and its serial.

    :raises InvalidOption: it is of another volume, or of another protocol
    """
    for what, was, given in (
        ('volume', volume_id_of(old), volume_id_of(new)),
        ('driver_volume_type', old.driver_volume_type, new.driver_volume_type),
    ):
        if was != given:
            raise exception.InvalidOption(
                option='connection_info',
                found=f'that of {what} {given}',
                expected=f'that of {what} {was}; for another one detach and attach it',
            )
    more: dict[str, typing.Any] = {}
    data: dict[str, typing.Any] = {}
    if old.multiattach and not new.multiattach:
        more['multiattach'] = True
    if old.serial is not None and new.serial is None:
        more['serial'] = old.serial
    if old.access_mode == 'ro' and new.access_mode != 'ro':
        data['access_mode'] = 'ro'
    if old.encrypted and not new.encrypted:
        data['encrypted'] = True
    return new.updated(more, data) if more or data else new


def require_same_volume(
    old: ConnectionInfo, new: ConnectionInfo, volume: 'ConnectedVolume'
) -> None:
    """Refuse a source of QEMU's that is named otherwise, before anything is changed.

    Of a device the device itself tells.

    :raises IdentityMismatch
    """
    if volume.source_type != 'network':
        return
    before, now = _names(old), _names(new)
    if before and not before & now:
        raise exception.IdentityMismatch(
            path=str(volume.source.name if volume.source is not None else ''),
            found=', '.join(sorted(now)) or 'nothing',
            expected=', '.join(sorted(before)),
            volume_id=volume.volume_id,
        )


def _names(info: ConnectionInfo) -> frozenset[str]:
    data = info.data
    if isinstance(data, RbdData):
        return frozenset((f'rbd:{data.name}',))
    if isinstance(data, IscsiData):
        return frozenset(f'iscsi:{way.iqn}/{way.lun}' for way in data.targets)
    return frozenset()


def _has_paths(path: str, info: ConnectionInfo, devices: 'BlockDevices') -> bool:
    """Tell whether a device is a map of multipath, or an NVMe head of several paths."""
    if isinstance(info.data, IscsiData | FibreChannelData):
        with readable('sysfs'):
            name = os.path.basename(devices.kernel_path(path) or path)
            return (devices.map_uuid(name) or '').startswith('mpath-')
    if isinstance(info.data, NvmeData):
        try:
            names = devices.paths(path).names
        except exception.VolumeNotConnected:
            return False
        return any(_NVME_PATH.fullmatch(name) for name in names)
    return False


def _plain(value: object) -> object:
    """Compare as JSON would: of tuples and lists, and of a number and its digits."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value
