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

"""A block device that Cinder's own host has under a name Cinder gives."""

from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.connection_info import LocalData
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.driver import Capability
from volumedrivers.libvirt.driver import VolumeDriver
from volumedrivers.libvirt.volume_devices import identity_of


class LocalVolumeDriver(VolumeDriver):
    """Volumes of driver_volume_type local."""

    API_VERSION = (1, 1)
    CAPABILITIES = frozenset((Capability.MULTIATTACH, Capability.HOST_DEVICE))

    def connect_volume(self, connection_info: ConnectionInfo, attachment: str) -> ConnectedVolume:
        """Look that the device is there; its name is Cinder's and is kept."""
        data = connection_info.data
        if not isinstance(data, LocalData):
            raise exception.InvalidConnectionInfo(
                driver_volume_type=connection_info.driver_volume_type,
                key='data.device_path',
                found='missing',
                expected='the path of a block device of this host',
            )
        path = data.device_path
        if self.context.devices.kernel_path(path) is None:
            raise exception.VolumeDeviceNotFound(
                volume_id=connection_info.volume_id, reason=f'{path} does not exist'
            )
        try:
            identity = identity_of(self.context.devices, path)
        except exception.VolumeNotConnected as e:
            raise exception.VolumeDeviceNotFound(
                volume_id=connection_info.volume_id, reason=f'{path} is no block device'
            ) from e
        return ConnectedVolume(
            driver_volume_type=connection_info.driver_volume_type,
            volume_id=connection_info.volume_id,
            source_type='block',
            path=path,
            identity=identity,
        )

    def disconnect_volume(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        *,
        volume: ConnectedVolume | None = None,
        force: bool = False,
    ) -> None:
        """Do nothing: the device stays where Cinder made it."""

    def plan_connect(self, connection_info: ConnectionInfo, attachment: str) -> tuple[str, ...]:
        """Name the path that is looked at."""
        data = connection_info.data
        path = data.device_path if isinstance(data, LocalData) else 'nothing'
        return (f'device: {path}',)

    def plan_disconnect(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        *,
        volume: ConnectedVolume | None = None,
    ) -> tuple[str, ...]:
        """Say that it stays."""
        return ('nothing: the device stays where Cinder made it',)

    def lock_names(
        self, connection_info: ConnectionInfo, *, volume: ConnectedVolume | None = None
    ) -> tuple[str, ...]:
        """Name the path; it is the volume's alone."""
        data = connection_info.data
        return (f'local {data.device_path}',) if isinstance(data, LocalData) else ()

    def current_identity(
        self, connection_info: ConnectionInfo, volume: ConnectedVolume
    ) -> Identity | None:
        """Ask sysfs what the device is by now."""
        if volume.path is None:
            return None
        try:
            return identity_of(self.context.devices, volume.path)
        except exception.VolumeNotConnected:
            return None
