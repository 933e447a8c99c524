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

"""The volume driver that Nova's libvirt driver is given: Nova's interface, this package's work.

What is done beneath it is journaled, locked, and bound to the identity of the
volume.  Counting who uses a volume on this host is done beneath it, too, by
journal and libvirt; so Nova is told not to count itself, from Cinder's data:
it asks whether a driver is one of its drivers for mounted file systems, and
this one is, for all protocols.
"""

from collections.abc import Mapping
from collections.abc import MutableMapping
import typing

from nova.virt.libvirt.volume import fs
from oslo_log import log as logging

from volumedrivers.attachment.host_volume import HostGuest
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.driver import Capability
from volumedrivers.libvirt.driver import DiskEncryption
from volumedrivers.libvirt.driver import DiskInfo
from volumedrivers.nova import disk_config
from volumedrivers.nova import errors
from volumedrivers.nova import services
from volumedrivers.nova import stored_volume

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.host_manager import HostVolume
    from volumedrivers.libvirt.driver import VolumeDriver

LOG = logging.getLogger(__name__)


class NovaVolumeDriver(fs.LibvirtMountedFileSystemVolumeDriver):  # type: ignore[misc]
    """The driver of one driver_volume_type; Nova makes one a process.

    Nova hands a connection_info over as a dictionary, reads from it what
    connecting found, and stores that with the server.  So at this border alone
    it is changed in place: ``device_path`` and ``multipath_id`` are written into
    its data as Nova's own drivers write them, and Nova's own drivers can go on
    from there.

    Every method raises what Nova's callers catch; this package's error, which
    says what to do, is its cause.
    """

    #: the volumes that it is for
    driver_volume_type: typing.ClassVar[str] = ''

    def __init__(self, host: typing.Any) -> None:
        """Load the driver.

        :param host: Nova's connection to libvirt, as its drivers get it
        :raises nova.exception.VolumeDriverNotFound: nobody registered it
        :raises nova.exception.VolumeDriverNotSupported: it cannot work here
        """
        super().__init__(host, self.driver_volume_type)
        with errors.translated(loading=True):
            self._services = services.get()
            self._driver: VolumeDriver = self._services.registry.get(self.driver_volume_type)
            reason = self._services.registry.why_not(self.driver_volume_type)
        self.is_block_dev = Capability.HOST_DEVICE in self._driver.CAPABILITIES
        if reason is not None:
            LOG.warning(
                'Volumes of type %(type)s cannot be connected on this host: %(reason)s',
                {'type': self.driver_volume_type, 'reason': reason},
            )

    def connect_volume(
        self, connection_info: MutableMapping[str, typing.Any], instance: typing.Any
    ) -> None:
        """Bring the volume to this host, or see that it is there, and write down where.

        :param connection_info: is changed, see above
        """
        with errors.translated():
            info = self._parse(connection_info)
            found = self._services.manager.connect(info, _guest(instance))
        self._tell(connection_info, info, found)

    def disconnect_volume(
        self,
        connection_info: Mapping[str, typing.Any],
        instance: typing.Any,
        force: bool = False,
    ) -> None:
        """Take the volume off this host, unless another guest here has it."""
        with errors.translated():
            self._services.manager.disconnect(
                self._parse(connection_info), _guest(instance), force=force
            )

    def extend_volume(
        self,
        connection_info: Mapping[str, typing.Any],
        instance: typing.Any,
        requested_size: int,
    ) -> int:
        """Let this host see the new size; Nova resizes the guest's disk.

        :param requested_size: bytes
        :returns: the bytes this host sees
        """
        with errors.translated():
            return self._services.manager.extend(
                self._parse(connection_info), _guest(instance), requested_size
            )

    def get_config(
        self, connection_info: Mapping[str, typing.Any], disk_info: Mapping[str, typing.Any]
    ) -> disk_config.GuestDisk:
        """Describe the disk, from the connection_info alone.

        While a guest migrates, its host describes the disk as it is on the
        other one.
        """
        with errors.translated():
            info = self._parse(connection_info)
            volume = stored_volume.volume_of(self._driver, info)
            disk = self._driver.get_disk(info, volume, self._disk_info(info, disk_info))
        return disk_config.make(disk, info.serial)

    def _get_mount_point_base(self) -> str:
        raise NotImplementedError('this package computes its mount points itself')

    def _mount_options(self, connection_info: Mapping[str, typing.Any]) -> list[str]:
        raise NotImplementedError('this package mounts shares itself')

    def _parse(self, connection_info: Mapping[str, typing.Any]) -> ConnectionInfo:
        return ConnectionInfo.parse(connection_info)

    def _tell(
        self,
        connection_info: MutableMapping[str, typing.Any],
        info: ConnectionInfo,
        found: 'HostVolume',
    ) -> None:
        data = connection_info['data']
        data.pop(stored_volume.SOURCE, None)
        data.update(stored_volume.results(self._driver, info, found.volume, found.path))
        if found.path is None:
            # Of another client, that has made a device of it.
            data.pop(stored_volume.PATH, None)

    def _disk_info(self, info: ConnectionInfo, disk_info: Mapping[str, typing.Any]) -> DiskInfo:
        unit = disk_info.get('unit')
        return DiskInfo(
            bus=disk_info['bus'],
            dev=disk_info['dev'],
            type=disk_info['type'],
            unit=None if unit is None else int(unit),
            encryption=self._encryption(info),
        )

    def _encryption(self, info: ConnectionInfo) -> DiskEncryption | None:
        """Return what QEMU decrypts with: the secret that Nova has made for the volume."""
        if info.volume_id is None:
            return None
        uuid = self._services.secrets.find('volume', info.volume_id)
        return None if uuid is None else DiskEncryption(uuid)


def _guest(instance: typing.Any) -> HostGuest:
    return HostGuest(uuid=str(instance.uuid), name=str(getattr(instance, 'name', instance.uuid)))


def make_class(driver_volume_type: str, name: str, module: str) -> type[NovaVolumeDriver]:
    """Return the class for one driver_volume_type."""
    attributes = {'driver_volume_type': driver_volume_type, '__module__': module}
    return typing.cast(type[NovaVolumeDriver], type(name, (NovaVolumeDriver,), attributes))
