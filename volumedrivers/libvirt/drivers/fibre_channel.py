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

"""Fibre Channel."""

from collections.abc import Mapping
import os
import platform

from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.connection_info import FibreChannelData
from volumedrivers.host import requirements
from volumedrivers.host.brick import Brick
from volumedrivers.libvirt import machines
from volumedrivers.libvirt.block_device import BlockDeviceDriver
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.driver import Capability
from volumedrivers.libvirt.volume_devices import devices_of
from volumedrivers.privsep import scsi

LOG = logging.getLogger(__name__)


class FibreChannelVolumeDriver(BlockDeviceDriver):
    """Volumes of driver_volume_type fibre_channel."""

    PROTOCOL = 'FIBRE_CHANNEL'
    CAPABILITIES = BlockDeviceDriver.CAPABILITIES | {Capability.MULTIPATH}
    DISK_IO = 'native'
    DISK_IO_OPTIONAL = True
    REMOVES_DEVICE = True
    TELLS_MULTIPATH_ID = True
    REQUIREMENTS = (
        requirements.Directory(
            '/sys/class/fc_host',
            'there is no Fibre Channel adapter; '
            'load its driver ("modprobe qla2xxx" or "modprobe lpfc") and check the cabling',
        ),
    )

    def connector_options(self) -> dict[str, object]:
        """A removal needs the same multipath option as the connection had."""
        return {
            'use_multipath': self.conf.volume_use_multipath,
            'device_scan_attempts': self.conf.num_volume_scan_tries,
            'enforce_multipath': self.conf.volume_enforce_multipath,
        }

    def plan_ways(self, connection_info: ConnectionInfo) -> tuple[str, ...]:
        """Name the ports that are scanned."""
        data = connection_info.data
        if not isinstance(data, FibreChannelData):
            return ()
        return tuple(
            f'scan for LUN {lun} of target port {wwpn}'
            for wwpn, lun in zip(data.wwpns, data.luns, strict=True)
        )

    def removal_info(self, properties: Mapping[str, object]) -> Mapping[str, object] | None:
        """The properties again: this connector expects multipath_id here."""
        return properties

    def _remove(
        self,
        connection_info: ConnectionInfo,
        brick: Brick,
        properties: dict[str, object],
        *,
        force: bool,
    ) -> None:
        try:
            super()._remove(connection_info, brick, properties, force=force)
        except exception.DisconnectFailed as error:
            if not force:
                raise
            # It asks each path for its WWN; what the storage has withdrawn has no answer.
            LOG.warning('%s; what is left of it is removed', error)

    def clean_up(
        self, connection_info: ConnectionInfo, volume: ConnectedVolume | None, *, force: bool
    ) -> None:
        """Remove the paths on which os-brick has given up; a map without any goes later."""
        if not force:
            return
        for path in devices_of(self.context.devices, connection_info, volume):
            name = os.path.basename(path)
            if name.startswith('sd'):
                scsi.delete_device(name)

    def why_not(self) -> str | None:
        """Know also that os-brick's connectors of two machines do not work."""
        machine = platform.machine()
        if machine in machines.S390 | machines.PPC64:
            return (
                f'os-brick 7 cannot connect Fibre Channel on {machine}: its connector was '
                'not kept up with the one of other machines and fails with an error'
            )
        return super().why_not()
