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

"""Volumes that are files in IBM Storage Scale (GPFS), mounted by its own service."""

import os
import time

from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import requirements
from volumedrivers.host.file_system import FileSystem
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.driver import Capability
from volumedrivers.libvirt.driver import VolumeDriver
from volumedrivers.libvirt.share_file import grown
from volumedrivers.protocol_data import LocalData


class GpfsVolumeDriver(VolumeDriver):
    """A file whose path Cinder names; nothing is mounted or unmounted.

    The file has to lie on a GPFS file system: with that unmounted, a file of
    the same name could lie below its mount point.
    """

    API_VERSION = (1, 1)
    CAPABILITIES = frozenset(
        (
            Capability.EXTEND,
            Capability.MULTIATTACH,
            Capability.UNPRIVILEGED,
        )
    )
    REQUIREMENTS = (FileSystem('gpfs', 'install IBM Storage Scale and run "mmstartup"'),)

    def connect_volume(self, connection_info: ConnectionInfo, attachment: str) -> ConnectedVolume:
        """Look at the file."""
        started = time.monotonic()
        data = connection_info.data
        if not isinstance(data, LocalData) or not os.path.isabs(data.device_path):
            raise exception.InvalidConnectionInfo(
                driver_volume_type=connection_info.driver_volume_type,
                key='data.device_path',
                found='something else',
                expected='an absolute path',
            )
        path = data.device_path
        volume_id = connection_info.volume_id
        source = self.context.shares.source_of(path, ('gpfs',), volume_id=volume_id)
        image = self.context.shares.inspect(
            path, 'raw', root=os.path.dirname(path), volume_id=volume_id
        )
        return ConnectedVolume(
            driver_volume_type=connection_info.driver_volume_type,
            volume_id=volume_id,
            source_type='file',
            path=path,
            identity=Identity('file', f'{source}#{image.inode}'),
            seconds=time.monotonic() - started,
        )

    def disconnect_volume(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        *,
        volume: ConnectedVolume | None = None,
        force: bool = False,
    ) -> None:
        """Do nothing: nothing was done."""

    def plan_connect(self, connection_info: ConnectionInfo, attachment: str) -> tuple[str, ...]:
        """Name the path that is looked at."""
        data = connection_info.data
        path = data.device_path if isinstance(data, LocalData) else 'nothing'
        return (f'look at {path}, which has to lie on a file system of type gpfs',)

    def plan_disconnect(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        *,
        volume: ConnectedVolume | None = None,
    ) -> tuple[str, ...]:
        """Say that it stays."""
        return ('nothing: the file stays where it is',)

    def lock_names(
        self, connection_info: ConnectionInfo, *, volume: ConnectedVolume | None = None
    ) -> tuple[str, ...]:
        """Name the path; it is the volume's alone."""
        data = connection_info.data
        return (f'gpfs {data.device_path}',) if isinstance(data, LocalData) else ()

    def current_identity(
        self, connection_info: ConnectionInfo, volume: ConnectedVolume
    ) -> Identity | None:
        """Look at the file again, with the deadline of shares."""
        if volume.path is None:
            return None
        inode = self.context.shares.inode(volume.path)
        if inode is None:
            return None
        source = self.context.shares.source_of(
            volume.path, ('gpfs',), volume_id=connection_info.volume_id
        )
        return Identity('file', f'{source}#{inode}')

    def extend_volume(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        requested_size: int,
        *,
        volume: ConnectedVolume | None = None,
    ) -> int:
        """Return the requested size: QEMU grows the file when the disk is resized."""
        return grown(connection_info, 'raw', requested_size)

    def why_not(self) -> str | None:
        """Name everything that is missing on this host."""
        return requirements.unmet(self.REQUIREMENTS)
