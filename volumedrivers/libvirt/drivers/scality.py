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

"""Volumes that are files on a Scality scale-out file system."""

from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import requirements
from volumedrivers.host.file_system import FileSystem
from volumedrivers.host.share import Share
from volumedrivers.host.share import mount_point
from volumedrivers.libvirt.share_file import ShareFileDriver
from volumedrivers.protocol_data import ShareData

# Where its client looks for what to mount, unless it is told otherwise.
DEFAULT_CONFIG = '/etc/sfused.conf'


class ScalityVolumeDriver(ShareFileDriver):
    """Scality SOFS.

    A host has one such file system, which its configuration file names; the
    export is a directory in it.
    """

    REQUIREMENTS = (
        requirements.Tool('mount.sofs', 'the Scality sfused client'),
        FileSystem('fuse'),
    )

    def make_share(self, connection_info: ConnectionInfo, data: ShareData) -> Share:
        """The client takes its options from its configuration, not from Cinder."""
        config = self.conf.scality_sofs_config or DEFAULT_CONFIG
        return Share(
            source=config,
            mount_point=mount_point(self.conf.scality_mount_point_base, config),
            fstype='sofs',
            mounted_fstypes=('fuse', 'fuse.sofs', 'sofs'),
            mounted_sources=('*fuse', 'sofs*', config),
        )

    def file_name(self, connection_info: ConnectionInfo, data: ShareData) -> str:
        """Return where Cinder's driver puts it: it spreads volumes over directories."""
        named = connection_info.to_connector().get('sofs_path')
        if isinstance(named, str) and named:
            return named
        return f'{data.export.strip("/")}/00/{data.name}'
