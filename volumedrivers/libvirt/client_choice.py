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

"""The base of drivers with a choice of clients, such as the kernel's or QEMU's own."""

import abc

from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import Remainder
from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.driver import Capability
from volumedrivers.libvirt.driver import DiskInfo
from volumedrivers.libvirt.driver import VolumeDriver


class ClientChoiceDriver(VolumeDriver):
    """Hands every call to the client an option names.

    A volume stays with the client that connected it, whatever the option says
    later.
    """

    API_VERSION = (1, 1)

    @abc.abstractmethod
    def client(self, volume: ConnectedVolume | None = None) -> VolumeDriver:
        """Return the driver of one client.

        :param volume: what was connected; None: what the option says now
        """

    @property
    def CAPABILITIES(self) -> frozenset[Capability]:  # type: ignore[override]
        """What the client that the option names can do."""
        return self.client().CAPABILITIES

    def connect_volume(self, connection_info: ConnectionInfo, attachment: str) -> ConnectedVolume:
        """Connect with the client that the option names."""
        return self.client().connect_volume(connection_info, attachment)

    def disconnect_volume(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        *,
        volume: ConnectedVolume | None = None,
        force: bool = False,
    ) -> None:
        """Disconnect with the client that connected."""
        self.client(volume).disconnect_volume(
            connection_info, attachment, volume=volume, force=force
        )

    def extend_volume(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        requested_size: int,
        *,
        volume: ConnectedVolume | None = None,
    ) -> int:
        """Let the client that connected see the new size."""
        return self.client(volume).extend_volume(
            connection_info, attachment, requested_size, volume=volume
        )

    def get_disk(
        self, connection_info: ConnectionInfo, volume: ConnectedVolume, disk_info: DiskInfo
    ) -> Disk:
        """Describe the disk for libvirt."""
        return self.client(volume).get_disk(connection_info, volume, disk_info)

    def lock_names(
        self, connection_info: ConnectionInfo, *, volume: ConnectedVolume | None = None
    ) -> tuple[str, ...]:
        """Ask the client that connected, or else the one that the option names."""
        return self.client(volume).lock_names(connection_info, volume=volume)

    def current_identity(
        self, connection_info: ConnectionInfo, volume: ConnectedVolume
    ) -> Identity | None:
        """Ask the client that connected."""
        return self.client(volume).current_identity(connection_info, volume)

    def remains(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        *,
        volume: ConnectedVolume | None = None,
    ) -> tuple[Remainder, ...]:
        """Ask the client that connected, or else the one that the option names."""
        return self.client(volume).remains(connection_info, attachment, volume=volume)

    def plan_connect(self, connection_info: ConnectionInfo, attachment: str) -> tuple[str, ...]:
        """Ask the client that the option names."""
        return self.client().plan_connect(connection_info, attachment)

    def plan_disconnect(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        *,
        volume: ConnectedVolume | None = None,
    ) -> tuple[str, ...]:
        """Ask the client that connected."""
        return self.client(volume).plan_disconnect(connection_info, attachment, volume=volume)

    def why_not(self) -> str | None:
        """Look whether the client that the option names can work here."""
        return self.client().why_not()
