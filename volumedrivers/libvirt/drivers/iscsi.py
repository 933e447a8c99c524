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

"""iSCSI, by the kernel's initiator or by QEMU's own."""

from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import requirements
from volumedrivers.libvirt.block_device import BlockDeviceDriver
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.driver import Capability
from volumedrivers.libvirt.driver import DiskInfo
from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.driver import VolumeDriver
from volumedrivers.libvirt.qemu_iscsi import QemuInitiator


class KernelInitiator(BlockDeviceDriver):
    """iSCSI through iscsid; the volume is a block device of this host."""

    PROTOCOL = 'ISCSI'
    CAPABILITIES = BlockDeviceDriver.CAPABILITIES | {Capability.MULTIPATH}
    DISK_IO = 'native'
    DISK_IO_OPTIONAL = True
    REMOVES_DEVICE = True
    REQUIREMENTS = (
        requirements.Tool('iscsiadm', 'open-iscsi'),
        requirements.KernelModule('iscsi_tcp'),
    )

    def connector_options(self) -> dict[str, object]:
        """The interface is that of an offload card; default is plain TCP."""
        return {
            'use_multipath': self.conf.volume_use_multipath,
            'device_scan_attempts': self.conf.num_volume_scan_tries,
            'transport': self.conf.iscsi_iface or 'default',
            'enforce_multipath': self.conf.volume_enforce_multipath,
        }


class IscsiVolumeDriver(VolumeDriver):
    """Volumes of driver_volume_type iscsi; iscsi_client says whose initiator.

    A volume stays with the initiator that connected it, whatever the option
    says later.
    """

    API_VERSION = (1, 0)

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        self._kernel = KernelInitiator(context)
        self._qemu = QemuInitiator(context)

    def _initiator(self, volume: ConnectedVolume | None = None) -> VolumeDriver:
        if volume is None:
            return self._qemu if self.conf.iscsi_client == 'qemu' else self._kernel
        return self._qemu if volume.source_type == 'network' else self._kernel

    @property
    def CAPABILITIES(self) -> frozenset[Capability]:  # type: ignore[override]
        """What the initiator in use can do."""
        return self._initiator().CAPABILITIES

    def connect_volume(self, connection_info: ConnectionInfo, attachment: str) -> ConnectedVolume:
        """Connect with the initiator that the option names."""
        return self._initiator().connect_volume(connection_info, attachment)

    def disconnect_volume(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        *,
        volume: ConnectedVolume | None = None,
        force: bool = False,
    ) -> None:
        """Disconnect with the initiator that connected."""
        self._initiator(volume).disconnect_volume(
            connection_info, attachment, volume=volume, force=force
        )

    def extend_volume(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        requested_size: int,
        *,
        volume: ConnectedVolume | None = None,
    ) -> int:
        """Let the initiator that connected see the new size."""
        return self._initiator(volume).extend_volume(
            connection_info, attachment, requested_size, volume=volume
        )

    def get_disk(
        self, connection_info: ConnectionInfo, volume: ConnectedVolume, disk_info: DiskInfo
    ) -> Disk:
        """Describe the disk for libvirt."""
        return self._initiator(volume).get_disk(connection_info, volume, disk_info)

    def why_not(self) -> str | None:
        """Look whether the initiator in use can work here."""
        return self._initiator().why_not()
