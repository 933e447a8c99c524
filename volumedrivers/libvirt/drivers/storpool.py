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

"""StorPool."""

from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import requirements
from volumedrivers.libvirt import machines
from volumedrivers.libvirt.block_device import BlockDeviceDriver
from volumedrivers.libvirt.driver import Capability
from volumedrivers.protocol_data import StorPoolData

# os-brick's default.
_PREFIX = 'os'


class StorPoolVolumeDriver(BlockDeviceDriver):
    """Volumes of driver_volume_type storpool."""

    PROTOCOL = 'STORPOOL'
    DISK_IO = 'native'
    CAPABILITIES = BlockDeviceDriver.CAPABILITIES | {Capability.STORAGE_MAPPING}
    NOT_ON_MACHINES = machines.S390 | machines.PPC64
    REQUIREMENTS = (
        requirements.Directory(
            '/dev/storpool',
            'the storpool_block service does not run; '
            'run "systemctl start storpool_block" (it comes with StorPool)',
        ),
    )

    def find(self, connection_info: ConnectionInfo) -> str | None:
        """Name the volume's device as StorPool's client would, be it there or not.

        os-brick's removal wants a path where nothing was recorded, too, and
        takes no more than the volume's name from it.
        """
        from os_brick import exception as brick_exception  # noqa: PLC0415 - slow
        from os_brick.initiator import storpool_utils  # noqa: PLC0415

        data = connection_info.data
        if not isinstance(data, StorPoolData):
            return None
        try:
            settings = storpool_utils.get_conf()
        except brick_exception.BrickException:
            # Its connector cannot do anything either, and says why.
            return None
        prefix = settings.get('SP_OPENSTACK_VOLUME_PREFIX', _PREFIX)
        name = storpool_utils.os_to_sp_volume_name(prefix, data.volume)
        return str(storpool_utils.DEV_STORPOOL / name)

    def plan_ways(self, connection_info: ConnectionInfo) -> tuple[str, ...]:
        """Its API assigns the volume, and answers by which name it is here."""
        data = connection_info.data
        if not isinstance(data, StorPoolData):
            return ()
        return (
            f'let the StorPool API assign volume {data.volume} to this host',
            'device: /dev/storpool-byid/*',
        )
