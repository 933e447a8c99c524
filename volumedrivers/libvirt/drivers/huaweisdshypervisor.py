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

"""Huawei FusionStorage, by its own agent."""

import os

from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import requirements
from volumedrivers.libvirt import machines
from volumedrivers.libvirt.block_device import BlockDeviceDriver
from volumedrivers.libvirt.driver import Capability
from volumedrivers.protocol_data import HuaweiSdsData


class HuaweiSdsVolumeDriver(BlockDeviceDriver):
    """Volumes of driver_volume_type huaweisdshypervisor."""

    PROTOCOL = 'HUAWEISDSHYPERVISOR'
    CAPABILITIES = BlockDeviceDriver.CAPABILITIES - {Capability.EXTEND} | {
        Capability.STORAGE_MAPPING
    }
    NOT_ON_MACHINES = machines.S390 | machines.PPC64

    def requirements(self) -> tuple[requirements.Requirement, ...]:
        """The tool is where an environment variable of os-brick says."""
        return (requirements.Tool(_tool(), 'the FusionStorage agent'),)

    def plan_ways(self, connection_info: ConnectionInfo) -> tuple[str, ...]:
        """The tool attaches the volume, and says by which name it is here."""
        data = connection_info.data
        if not isinstance(data, HuaweiSdsData):
            return ()
        return tuple(
            f'{_tool()} -c {method} -v {data.volume_id}' for method in ('attach', 'querydev')
        )


def _tool() -> str:
    return os.environ.get('HUAWEISDSHYPERVISORCLI_PATH') or '/usr/local/bin/sds/sds_cli'
