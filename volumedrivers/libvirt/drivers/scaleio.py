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

"""Dell PowerFlex, once called ScaleIO."""

import os

from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import requirements
from volumedrivers.libvirt import machines
from volumedrivers.libvirt.block_device import BlockDeviceDriver
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.driver import Capability
from volumedrivers.protocol_data import ScaleIOData


class ScaleIOVolumeDriver(BlockDeviceDriver):
    """Volumes of driver_volume_type scaleio."""

    PROTOCOL = 'SCALEIO'
    DISK_IO = 'native'
    CAPABILITIES = BlockDeviceDriver.CAPABILITIES | {Capability.STORAGE_MAPPING}
    NOT_ON_MACHINES = machines.S390 | machines.PPC64
    REQUIREMENTS = (
        requirements.Tool('/opt/emc/scaleio/sdc/bin/drv_cfg', 'the PowerFlex SDC package'),
        requirements.KernelModule('scini', 'the PowerFlex SDC package'),
    )

    def connector_options(self) -> dict[str, object]:
        """Attempts to find the device."""
        return {'device_scan_attempts': self.conf.num_volume_scan_tries}

    def extend_volume(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        requested_size: int,
        *,
        volume: ConnectedVolume | None = None,
    ) -> int:
        """Let os-brick rescan; it has to know the id, which only connecting asks for by name."""
        data = connection_info.data
        if isinstance(data, ScaleIOData) and data.scaleio_volume_id is None and volume is not None:
            # /dev/disk/by-id/emc-vol-SYSTEM-VOLUME
            name = os.path.basename(volume.path or '')
            if name.startswith('emc-vol-'):
                found = {'scaleIO_volume_id': name.rpartition('-')[2]}
                connection_info = connection_info.updated({}, found)
        return super().extend_volume(connection_info, attachment, requested_size, volume=volume)

    def plan_ways(self, connection_info: ConnectionInfo) -> tuple[str, ...]:
        """The gateway maps the volume, unless the back end has done that."""
        data = connection_info.data
        if not isinstance(data, ScaleIOData):
            return ()
        volume = data.scaleio_volume_id
        return (
            f'let the gateway map volume {volume or data.volume_name} unless the back end has',
            f'device: /dev/disk/by-id/emc-vol-*{volume or ""}',
        )
