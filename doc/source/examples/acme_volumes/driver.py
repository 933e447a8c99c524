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

"""Volumes of Acme, which os-brick finds on this host."""

from volumedrivers.host import requirements
from volumedrivers.libvirt.block_device import BlockDeviceDriver


class AcmeVolumeDriver(BlockDeviceDriver):
    """Volumes of driver_volume_type acme."""

    API_VERSION = (1, 0)
    PROTOCOL = 'LOCAL'
    DISK_IO = 'native'
    REQUIREMENTS = (requirements.Tool('blockdev', 'util-linux'),)

    def connector_options(self) -> dict[str, object]:
        """Attempts to find the device."""
        return {'device_scan_attempts': self.conf.num_volume_scan_tries}
