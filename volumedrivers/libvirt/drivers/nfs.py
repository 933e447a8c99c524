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

"""Volumes that are files on an NFS export."""

from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import requirements
from volumedrivers.host.file_system import FileSystem
from volumedrivers.host.share import Share
from volumedrivers.host.share import mount_point
from volumedrivers.libvirt.share_file import ShareFileDriver
from volumedrivers.protocol_data import ShareData


class NfsVolumeDriver(ShareFileDriver):
    """NFS of any version, with the kernel's client."""

    REQUIREMENTS = (requirements.Tool('mount.nfs', 'nfs-common'), FileSystem('nfs'))
    DISK_IO = 'native'
    DISK_IO_OPTIONAL = True

    def make_share(self, connection_info: ConnectionInfo, data: ShareData) -> Share:
        """Cinder's mount options come after the configuration's, and win."""
        options = (self.conf.nfs_mount_options,) if self.conf.nfs_mount_options else ()
        return Share(
            source=data.export,
            mount_point=mount_point(self.conf.nfs_mount_point_base, data.export),
            fstype='nfs',
            mounted_fstypes=('nfs', 'nfs4'),
            options=options + data.options,
        )
