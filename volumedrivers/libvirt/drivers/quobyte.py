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

"""Volumes that are files on a Quobyte volume."""

from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import requirements
from volumedrivers.host.file_system import FileSystem
from volumedrivers.host.share import Share
from volumedrivers.host.share import mount_point
from volumedrivers.libvirt.share_file import ShareFileDriver
from volumedrivers.protocol_data import ShareData


class QuobyteVolumeDriver(ShareFileDriver):
    """Quobyte, with its own client, in a systemd scope where systemd runs."""

    REQUIREMENTS = (
        requirements.Tool('mount.quobyte', 'the Quobyte client'),
        FileSystem('fuse'),
    )
    DISK_IO = 'native'

    def make_share(self, connection_info: ConnectionInfo, data: ShareData) -> Share:
        """The client takes its options from quobyte_client_cfg, not from Cinder."""
        source = data.export.removeprefix('quobyte://')
        return Share(
            source=source,
            mount_point=mount_point(self.conf.quobyte_mount_point_base, source),
            fstype='quobyte',
            mounted_fstypes=('fuse.quobyte', 'fuse'),
            # It shows its registry, or the volume.
            mounted_sources=('quobyte@*',),
            # A client that has lost its volume shows another size.
            root_size=0,
        )
