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
from volumedrivers.host import iscsi_session
from volumedrivers.libvirt import iscsi_ways
from volumedrivers.libvirt.block_device import BlockDeviceDriver
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.driver import Capability
from volumedrivers.libvirt.volume_devices import readable


class IscsiInitiatorDriver(BlockDeviceDriver):
    """Sessions of open-iscsi, each with the disks that the target lets it see."""

    CAPABILITIES = BlockDeviceDriver.CAPABILITIES | {Capability.MULTIPATH}
    DISK_IO = 'native'
    DISK_IO_OPTIONAL = True
    REMOVES_DEVICE = True

    def plan_ways(self, connection_info: ConnectionInfo) -> tuple[str, ...]:
        """Name the logins; without multipath the first that has a disk is enough."""
        data = connection_info.data
        if not isinstance(data, IscsiData):
            return ()
        options = self.connector_options()
        with readable('/sys/class/iscsi_session'):
            there = {
                (session.portal, session.target): session.name
                for session in iscsi_session.sessions(self.context.devices.sysfs)
            }
        lines = []
        if options['use_multipath'] and not iscsi_ways.has_lists(connection_info.to_connector()):
            lines.append(f'ask {data.targets[0].portal} for other portals (SendTargets)')
        for index, way in enumerate(data.targets):
            name = there.get((str(way.portal), way.iqn))
            login = f'iscsiadm -m node -T {way.iqn} -p {way.portal} --login'
            if name is not None:
                lines.append(f'{name} of {way.portal} {way.iqn} is there')
            elif index and not options['use_multipath']:
                lines.append(f'if there is no disk yet: {login}')
            else:
                lines.append(login)
        return tuple(lines)

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
