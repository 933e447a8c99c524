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

from collections.abc import Mapping
import typing

from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.connection_info import IscsiData
from volumedrivers.host import endpoint
from volumedrivers.host import initiator
from volumedrivers.host import requirements
from volumedrivers.libvirt.block_device import BlockDeviceDriver
from volumedrivers.libvirt.client_choice import ClientChoiceDriver
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.driver import Capability
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

    def why_not(self) -> str | None:
        """Name the way that needs nothing of this host, too."""
        missing = super().why_not()
        return None if missing is None else f'{missing}; or set iscsi_client = qemu'

    def dead_portals(self, connection_info: ConnectionInfo) -> Mapping[str | None, str]:
        """Ask as this host's initiator; an offload card has a network of its own."""
        data = connection_info.data
        if self.conf.iscsi_iface not in (None, 'default') or not isinstance(data, IscsiData):
            return {}
        try:
            name = initiator.initiator_name(None)
        except exception.VolumeDriverNotSupported:
            # Only root may read it.
            name = endpoint.PROBE_INITIATOR
        portals = dict.fromkeys((way.portal.host, way.portal.port) for way in data.targets)
        result = self.context.endpoints.check(
            'iscsi', tuple(portals), timeout=self.conf.endpoint_timeout, initiator_name=name
        )
        return dict(result.failed)

    def leave_out(
        self,
        connection_info: ConnectionInfo,
        properties: dict[str, typing.Any],
        dead: Mapping[str | None, str],
    ) -> None:
        """Shorten the lists of targets; there are lists, or the one would answer."""
        data = connection_info.data
        if not isinstance(data, IscsiData):
            return
        alive = [index for index, way in enumerate(data.targets) if str(way.portal) not in dead]
        for key in ('target_portals', 'target_iqns', 'target_luns'):
            if isinstance(properties.get(key), list):
                properties[key] = [properties[key][index] for index in alive]


class IscsiVolumeDriver(ClientChoiceDriver):
    """Volumes of driver_volume_type iscsi; iscsi_client says whose initiator."""

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        self._kernel = KernelInitiator(context)
        self._qemu = QemuInitiator(context)

    def client(self, volume: ConnectedVolume | None = None) -> VolumeDriver:
        """Return the kernel's initiator or QEMU's."""
        if volume is None:
            return self._qemu if self.conf.iscsi_client == 'qemu' else self._kernel
        return self._qemu if volume.source_type == 'network' else self._kernel
