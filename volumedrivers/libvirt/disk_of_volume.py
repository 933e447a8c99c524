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

"""The ``<disk>`` of a connected volume; equal to Nova's unless an option says more.

The one place where Cinder's wishes (QoS, read-only, discard, block sizes,
sharing), the options and what the guest shall see come together.
"""

import typing

from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import NetworkSource
from volumedrivers.libvirt.disk import Address
from volumedrivers.libvirt.disk import Auth
from volumedrivers.libvirt.disk import AuthSecret
from volumedrivers.libvirt.disk import BlockIO
from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.disk import Driver
from volumedrivers.libvirt.disk import Encryption
from volumedrivers.libvirt.disk import EncryptionSecret
from volumedrivers.libvirt.disk import Host
from volumedrivers.libvirt.disk import IOTune
from volumedrivers.libvirt.disk import Source
from volumedrivers.libvirt.disk import Target

if typing.TYPE_CHECKING:
    from volumedrivers.libvirt.driver import DiskInfo

BUSES = frozenset(('fdc', 'ide', 'nvme', 'sata', 'scsi', 'sd', 'uml', 'usb', 'virtio', 'xen'))
DEVICES = frozenset(('disk', 'cdrom', 'floppy', 'lun'))
CACHE_MODES = frozenset(('default', 'none', 'writethrough', 'writeback', 'directsync', 'unsafe'))
# With other modes the page cache is used, which Linux' native AIO blocks on.
DIRECT_CACHE_MODES = frozenset(('none', 'directsync'))
QEMU_VIRT_TYPES = frozenset(('kvm', 'qemu'))

_LIMITS = tuple(
    f'{what}_{unit}_sec' for unit in ('bytes', 'iops') for what in ('total', 'read', 'write')
)
# The keys of qos_specs that become <iotune> elements of the same name.
QOS_KEYS = frozenset((*_LIMITS, *(f'{limit}_max' for limit in _LIMITS), 'size_iops_sec'))
# And those that only do if disk_qos_bursts is set.
QOS_BURST_KEYS = tuple(f'{limit}_max_length' for limit in _LIMITS)


def alias_of_volume(volume_id: str) -> str:
    """Return the name libvirt knows the volume's disk by, whatever its target is."""
    return f'ua-{volume_id}'


def disk_of_volume(
    conf: typing.Any,
    connection_info: ConnectionInfo,
    volume: ConnectedVolume,
    disk_info: 'DiskInfo',
    *,
    io: str | None = None,
    cache: str = 'none',
) -> Disk:
    """Describe a connected volume for libvirt.  Pure: no I/O.

    :param conf: the options of group [volumedrivers]
    :param io: the driver's I/O mode: native, threads, io_uring or None
    :param cache: the driver's cache mode; disk_cachemodes overrides it
    :raises InvalidDiskInfo: a bus, device or number that no disk can have
    :raises InvalidConnectionInfo: a QoS limit that is not a whole number
    :raises InvalidDocument: a value that XML cannot hold
    """
    _check(disk_info)
    cache = _cache_mode(conf, connection_info, volume, cache)
    # In the order of libvirt's own documents; what is not set costs nothing.
    disk = Disk(
        type=volume.source_type,
        device=disk_info.type,
        driver=_driver(conf, connection_info, volume, disk_info, io=io, cache=cache),
    )
    if volume.source is not None and volume.source.auth_username is not None:
        disk.auth = _auth(volume.source)
    disk.source = _source(volume)
    disk.target = Target(dev=disk_info.dev, bus=disk_info.bus)
    _tell_of_volume(conf, disk, connection_info)
    if disk_info.type != 'lun':
        # A passed-through unit answers for itself; libvirt refuses both.
        _tell_of_unit(disk, connection_info)
    if disk_info.boot_index is not None:
        disk.boot_order = disk_info.boot_index
    if disk_info.bus == 'scsi' and disk_info.unit is not None:
        disk.address = Address(type='drive', controller=0, unit=disk_info.unit)
    if disk_info.encryption is not None:
        disk.encryption = Encryption(
            format=disk_info.encryption.format,
            engine=disk_info.encryption.engine,
            secrets=[EncryptionSecret(type='passphrase', uuid=disk_info.encryption.secret_uuid)],
        )
    return disk


def _driver(
    conf: typing.Any,
    connection_info: ConnectionInfo,
    volume: ConnectedVolume,
    disk_info: 'DiskInfo',
    *,
    io: str | None,
    cache: str,
) -> Driver:
    driver = Driver(type=volume.format, cache=cache)
    qemu = conf.virt_type in QEMU_VIRT_TYPES
    if qemu:
        driver.name = 'qemu'
    io = _io_mode(conf, volume, io, cache, qemu)
    if io is not None:
        driver.io = io
    if connection_info.discard:
        driver.discard = 'unmap'
    if qemu:
        _options_beyond_nova(conf, driver, disk_info)
    return driver


def _tell_of_volume(conf: typing.Any, disk: Disk, connection_info: ConnectionInfo) -> None:
    if connection_info.qos_specs:
        disk.iotune = iotune(conf, connection_info)
    if connection_info.access_mode == 'ro':
        disk.readonly = True
    if connection_info.multiattach:
        disk.shareable = True
    if connection_info.volume_id is not None:
        disk.alias = alias_of_volume(connection_info.volume_id)


def _tell_of_unit(disk: Disk, connection_info: ConnectionInfo) -> None:
    if connection_info.serial is not None:
        disk.serial = connection_info.serial
    logical = connection_info.logical_block_size
    physical = connection_info.physical_block_size
    if logical is not None or physical is not None:
        disk.blockio = BlockIO(logical_block_size=logical, physical_block_size=physical)


def _check(disk_info: 'DiskInfo') -> None:
    def refuse(key: str, expected: str) -> typing.NoReturn:
        raise exception.InvalidDiskInfo(
            key=key, found=repr(getattr(disk_info, key)), expected=expected
        )

    if disk_info.bus not in BUSES:
        refuse('bus', 'one of ' + ', '.join(sorted(BUSES)))
    if disk_info.type not in DEVICES:
        refuse('type', 'one of ' + ', '.join(sorted(DEVICES)))
    if not isinstance(disk_info.dev, str) or not disk_info.dev:
        refuse('dev', 'a target name, such as vdb')
    for key, least in (('unit', 0), ('boot_index', 1)):
        value = getattr(disk_info, key)
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int) or value < least
        ):
            refuse(key, f'a whole number from {least}')


def _cache_mode(
    conf: typing.Any, connection_info: ConnectionInfo, volume: ConnectedVolume, cache: str
) -> str:
    if connection_info.multiattach:
        # Two hosts that cache one volume would each see their own.
        return 'none'
    for entry in conf.disk_cachemodes:
        source_type, _, mode = entry.partition('=')
        if source_type == volume.source_type and mode in CACHE_MODES:
            cache = mode
    return cache


def _io_mode(
    conf: typing.Any, volume: ConnectedVolume, io: str | None, cache: str, qemu: bool
) -> str | None:
    # QEMU does the I/O of a network source in its own client.
    if qemu and volume.source_type != 'network' and conf.disk_io_mode:
        io = conf.disk_io_mode
    if io == 'native' and cache not in DIRECT_CACHE_MODES:
        return 'threads'
    return io


def _source(volume: ConnectedVolume) -> Source:
    if volume.source is None:
        return (
            Source(dev=volume.path) if volume.source_type == 'block' else Source(file=volume.path)
        )
    return Source(
        protocol=volume.source.protocol,
        name=volume.source.name,
        hosts=[Host(name=host.name, port=host.port) for host in volume.source.hosts],
        initiator_iqn=volume.source.initiator_iqn,
    )


def _auth(source: NetworkSource) -> Auth:
    return Auth(
        username=source.auth_username,
        secret=AuthSecret(type=source.secret_type, uuid=source.secret_uuid),
    )


def iotune(conf: typing.Any, connection_info: ConnectionInfo) -> IOTune | None:
    """Return the limits of Cinder's qos_specs; None: there are none.

    :param conf: the options of group [volumedrivers]
    :raises InvalidConnectionInfo: a limit that is not a whole number
    """
    qos = connection_info.qos_specs
    limits: dict[str, typing.Any] = {
        key: _limit(connection_info, key) for key in qos if key in QOS_KEYS
    }
    if conf.disk_qos_bursts:
        # A length without its maximum says nothing, and libvirt refuses it.
        limits.update(
            {
                key: _limit(connection_info, key)
                for key in QOS_BURST_KEYS
                if key in qos and key.removesuffix('_length') in limits
            }
        )
        if limits and 'group_name' in qos:
            limits['group_name'] = qos['group_name']
    return IOTune(**limits) if limits else None


def _limit(connection_info: ConnectionInfo, key: str) -> int:
    value = connection_info.qos_specs[key]
    try:
        limit = int(value)
    except (TypeError, ValueError):
        limit = -1
    if limit < 0:
        raise exception.InvalidConnectionInfo(
            driver_volume_type=connection_info.driver_volume_type,
            key=f'data.qos_specs.{key}',
            found=repr(value),
            expected='a whole number from 0',
        )
    return limit


def _options_beyond_nova(conf: typing.Any, driver: Driver, disk_info: 'DiskInfo') -> None:
    if disk_info.type in ('disk', 'lun') and conf.disk_error_policy:
        driver.error_policy = conf.disk_error_policy
    if disk_info.type == 'disk' and conf.disk_detect_zeroes:
        driver.detect_zeroes = conf.disk_detect_zeroes
    # Queues and IOThreads of scsi disks belong to their controller.
    if disk_info.type == 'disk' and disk_info.bus == 'virtio':
        if conf.disk_queues:
            driver.queues = conf.disk_queues
        if conf.disk_iothread:
            driver.iothread = conf.disk_iothread
