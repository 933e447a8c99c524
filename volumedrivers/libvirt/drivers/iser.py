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

"""iSCSI over RDMA, by the kernel's initiator."""

from volumedrivers.host import requirements
from volumedrivers.libvirt import machines
from volumedrivers.libvirt.iscsi_initiator import IscsiInitiatorDriver


class IserVolumeDriver(IscsiInitiatorDriver):
    """Volumes of driver_volume_type iser."""

    PROTOCOL = 'ISER'
    NOT_ON_MACHINES = machines.S390
    REQUIREMENTS = (
        requirements.Tool('iscsiadm', 'open-iscsi'),
        requirements.KernelModule('ib_iser'),
    )

    def connector_options(self) -> dict[str, object]:
        """Multipath and attempts have options of their own."""
        return {
            'use_multipath': self.conf.iser_use_multipath,
            'device_scan_attempts': self.conf.num_iser_scan_tries,
            'transport': 'iser',
            'enforce_multipath': self.conf.volume_enforce_multipath,
        }
