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

"""Let this package use the directory that the embedded Cinder has bound as an NFS share.

The driver of NFS rightly refuses a mount that is not NFS.  Here, and only for
the one mount point, it takes what is bound there; everything else is as with
NFS: it looks at the mount table, counts users, and checks names and images.
"""

import dataclasses

from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import mount_table
from volumedrivers.host.share import Share
from volumedrivers.libvirt.driver import VolumeDriver
from volumedrivers.libvirt.drivers.nfs import NfsVolumeDriver
from volumedrivers.libvirt.registry import Registry
from volumedrivers.protocol_data import ShareData


class BoundNfsDriver(NfsVolumeDriver):
    """NFS on shares that a directory of this host is bound in the place of."""

    def make_share(self, connection_info: ConnectionInfo, data: ShareData) -> Share:
        """Expect the file system that is bound there, if something is."""
        share = super().make_share(connection_info, data)
        found = mount_table.find(share.mount_point)
        if found is None:
            return share
        return dataclasses.replace(
            share, mounted_fstypes=(found.fstype,), mounted_sources=(found.source,)
        )


class BoundRegistry(Registry):
    """The drivers of this package, but for NFS."""

    def get(self, driver_volume_type: str) -> VolumeDriver:
        """Return the driver; see Registry."""
        if driver_volume_type != 'nfs':
            return super().get(driver_volume_type)
        return BoundNfsDriver(self.context)


def accepted(manager: AttachmentManager) -> AttachmentManager:
    """Return the manager of the same host that takes bound shares for NFS.

    Its option nfs_mount_point_base must be ``NfsBackend.mount_point_base``.
    """
    registry = BoundRegistry(manager.context.registry.context)
    return AttachmentManager(dataclasses.replace(manager.context, registry=registry))
