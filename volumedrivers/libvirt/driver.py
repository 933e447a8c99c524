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

"""The contract of a volume driver.

A driver is a class registered under its driver_volume_type in the stevedore
namespace ``volumedrivers.libvirt``.  It is made once a process, shared by
threads, and keeps no state of any volume: what it knows of a connected volume
is in the ConnectedVolume it returned.

Most drivers derive from one of three families: ``block_device``,
``share_file`` and ``network_source``.
"""

import abc
import dataclasses
import enum
import typing

from volumedrivers import exception

# Only the contract is loaded with this module: the registry lists drivers
# without oslo.config, lxml or os-brick.
if typing.TYPE_CHECKING:
    from oslo_config import cfg

    from volumedrivers.connection_info import ConnectionInfo
    from volumedrivers.host import block_device
    from volumedrivers.host import endpoint
    from volumedrivers.host import shares
    from volumedrivers.libvirt.connected_volume import ConnectedVolume
    from volumedrivers.libvirt.connected_volume import Identity
    from volumedrivers.libvirt.connected_volume import Remainder
    from volumedrivers.libvirt.disk import Disk

# What this package calls: a driver whose API_VERSION has another major
# number, or a higher minor number, is refused when it is loaded.
API_VERSION = (1, 1)


class Capability(enum.Enum):
    """What a driver can do beyond connecting and disconnecting."""

    EXTEND = 'extend'  # grow while connected
    MULTIPATH = 'multipath'
    FORCE_DISCONNECT = 'force'  # remove without flushing
    MULTIATTACH = 'multiattach'
    HOST_DEVICE = 'host-device'  # the volume is a block device of this host
    UNPRIVILEGED = 'unprivileged'  # needs no root on this host
    # disconnecting tells the storage that this host is done, which a reboot does not
    STORAGE_MAPPING = 'storage-mapping'


class Secrets(typing.Protocol):
    """The libvirt secrets a network source refers to."""

    def ensure(
        self, usage_type: str, usage_id: str, value: bytes, *, ephemeral: bool = True
    ) -> str:
        """Define the secret, or set its value if there is one; return its UUID."""

    def find(self, usage_type: str, usage_id: str) -> str | None:
        """Return the UUID; None only when libvirt said there is none.

        :raises HypervisorUnavailable, HypervisorError: libvirt could not say
        """

    def delete(self, usage_type: str, usage_id: str) -> bool:
        """Undefine the secret; False when there was none."""


@dataclasses.dataclass(frozen=True)
class DriverContext:
    """What a driver works with; given to it, never looked up."""

    conf: 'cfg.ConfigOpts'
    devices: 'block_device.BlockDevices'
    shares: 'shares.ShareMounts'
    endpoints: 'endpoint.Probe'
    secrets: Secrets | None = None


@dataclasses.dataclass(frozen=True)
class DiskEncryption:
    """LUKS that QEMU opens, with a libvirt secret as passphrase.

    :ivar format: luks; luks2 where the engine is librbd
    :ivar engine: qemu or librbd; None is libvirt's default, qemu
    """

    secret_uuid: str
    format: str = 'luks'
    engine: str | None = None


@dataclasses.dataclass(frozen=True)
class DiskInfo:
    """The disk as the guest shall see it.

    :ivar bus: virtio, scsi, sata, usb, ide, fdc
    :ivar dev: name of the target, such as vdb; a hint to the guest
    :ivar type: disk, cdrom, floppy or lun
    :ivar unit: unit on SCSI controller 0; None lets libvirt choose
    :ivar boot_index: 1 is first; None: not booted from
    :ivar encryption: set when the guest's QEMU decrypts
    """

    bus: str
    dev: str
    type: str = 'disk'
    unit: int | None = None
    boot_index: int | None = None
    encryption: DiskEncryption | None = None


class VolumeDriver(abc.ABC):
    """One protocol.  Every method may be called again after any failure."""

    #: the contract it was written for, (major, minor)
    API_VERSION: typing.ClassVar[tuple[int, int]]
    #: what it can do
    CAPABILITIES: typing.ClassVar[frozenset[Capability]] = frozenset()
    #: I/O mode of its disks: native, threads, io_uring; None lets QEMU choose
    DISK_IO: typing.ClassVar[str | None] = None
    #: whether use_default_aio_mode_for_volumes drops DISK_IO
    DISK_IO_OPTIONAL: typing.ClassVar[bool] = False
    #: cache mode of its disks where disk_cachemodes says nothing
    DISK_CACHE: typing.ClassVar[str] = 'none'

    def __init__(self, context: DriverContext) -> None:
        self.context = context

    @property
    def conf(self) -> typing.Any:
        """The options of group [volumedrivers], read when they are used."""
        return self.context.conf.volumedrivers

    @abc.abstractmethod
    def connect_volume(
        self, connection_info: 'ConnectionInfo', attachment: str
    ) -> 'ConnectedVolume':
        """Bring the volume to this host.

        :param attachment: names this use of the volume; two guests that use
            one volume, or one share, have two of them
        :raises VolumeDeviceNotFound, EndpointUnreachable, ConnectFailed,
            MountFailed, DataAtRisk, MisconfiguredHost: nothing is left behind
        """

    @abc.abstractmethod
    def disconnect_volume(
        self,
        connection_info: 'ConnectionInfo',
        attachment: str,
        *,
        volume: 'ConnectedVolume | None' = None,
        force: bool = False,
    ) -> None:
        """Take the volume off this host; a volume that is not there is success.

        :param volume: what connect_volume returned, where the caller has it
        :param force: remove even if flushing fails; unwritten data is lost
        :raises FlushFailed: not forced, and nothing was removed
        :raises Busy: somebody has the device open; nothing was removed
        :raises DisconnectFailed, LeftoversFound, MountFailed
        """

    def extend_volume(
        self,
        connection_info: 'ConnectionInfo',
        attachment: str,
        requested_size: int,
        *,
        volume: 'ConnectedVolume | None' = None,
    ) -> int:
        """Let this host see that the volume has grown.

        :param requested_size: bytes
        :returns: the size in bytes this host sees now
        :raises ExtendVolumeNotSupported: the default, for a driver without
            Capability.EXTEND
        :raises InvalidSize, ExtendVolumeFailed
        """
        raise exception.ExtendVolumeNotSupported(
            driver_volume_type=connection_info.driver_volume_type
        )

    def get_disk(
        self, connection_info: 'ConnectionInfo', volume: 'ConnectedVolume', disk_info: DiskInfo
    ) -> 'Disk':
        """Describe the disk for libvirt.  Pure: no I/O.

        What most drivers need differs only in DISK_IO and DISK_CACHE.

        :raises InvalidDiskInfo
        """
        from volumedrivers.libvirt.disk_of_volume import disk_of_volume  # noqa: PLC0415

        conf = self.conf
        io = self.DISK_IO
        if self.DISK_IO_OPTIONAL and conf.use_default_aio_mode_for_volumes:
            io = None
        return disk_of_volume(
            conf, connection_info, volume, disk_info, io=io, cache=self.DISK_CACHE
        )

    def lock_names(
        self,
        connection_info: 'ConnectionInfo',
        *,
        volume: 'ConnectedVolume | None' = None,
    ) -> tuple[str, ...]:
        """Name what no two operations of this host may work on at once.

        A target and its portal, a subsystem, a pool, a share; none for a volume
        that only QEMU opens.  By default all volumes of the protocol are one.
        A connection_info without its secrets gives the same names.  (API 1.1)

        :param volume: what connect_volume returned, where the caller has it
        :returns: in the order in which they are to be locked; none is secret
        """
        return (connection_info.driver_volume_type,)

    def current_identity(
        self, connection_info: 'ConnectionInfo', volume: 'ConnectedVolume'
    ) -> 'Identity | None':
        """Read what is under the volume's path now, whatever was recorded.

        What has no identity of its own is what it was: the recorded one.
        (API 1.1)

        :returns: None if nothing is there
        :raises VolumeDriversError: it could not be read
        """
        return volume.identity

    def remains(
        self,
        connection_info: 'ConnectionInfo',
        attachment: str,
        *,
        volume: 'ConnectedVolume | None' = None,
    ) -> 'tuple[Remainder, ...]':
        """Look for what is on this host of a volume, changing nothing.

        By identity, not by name: devices, map, controller, mapping, session
        without a LUN, mount without a user, secret, link.  (API 1.1)

        :raises VolumeDriversError: it could not be looked for
        """
        return ()

    def plan_connect(self, connection_info: 'ConnectionInfo', attachment: str) -> tuple[str, ...]:
        """Say what connect_volume would do, one action a line, without secrets.

        Looks at this host, changes nothing.  (API 1.1)
        """
        return (f'connect a volume of type {connection_info.driver_volume_type}',)

    def plan_disconnect(
        self,
        connection_info: 'ConnectionInfo',
        attachment: str,
        *,
        volume: 'ConnectedVolume | None' = None,
    ) -> tuple[str, ...]:
        """Say what disconnect_volume would do, as plan_connect does (API 1.1)."""
        return (f'disconnect a volume of type {connection_info.driver_volume_type}',)

    def why_not(self) -> str | None:
        """Say in an operator's words why this driver cannot work on this host.

        None: nothing speaks against it.  Looks at the host, changes nothing.
        """
        return None
