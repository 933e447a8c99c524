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

"""What iSCSI and iSER by the kernel's initiator have in common."""

from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.connection_info import IscsiData
from volumedrivers.libvirt import iscsi_ways
from volumedrivers.libvirt.block_device import BlockDeviceDriver
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.driver import Capability


class IscsiInitiatorDriver(BlockDeviceDriver):
    """Sessions of open-iscsi, each with the disks that the target lets it see."""

    CAPABILITIES = BlockDeviceDriver.CAPABILITIES | {Capability.MULTIPATH}
    DISK_IO = 'native'
    DISK_IO_OPTIONAL = True
    REMOVES_DEVICE = True

    def _properties(
        self, connection_info: ConnectionInfo, volume: ConnectedVolume | None
    ) -> dict[str, object]:
        """Name the portals that os-brick found by itself, as it would not find them again.

        It asks open-iscsi's records for them, where other targets of the
        portal are as well, and removes their units of the same number.
        """
        properties = super()._properties(connection_info, volume)
        data = connection_info.data
        # With an addressing mode the kernel's LUNs are not those of Cinder.
        if (
            isinstance(data, IscsiData)
            and not iscsi_ways.has_lists(properties)
            and not properties.get('addressing_mode')
        ):
            ways = iscsi_ways.connected(self.context.devices, data, volume)
            if ways:
                iscsi_ways.write(properties, ways)
        return properties
