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

"""Let this package attach what the embedded Cinder has on its NFS back end.

There is no NFS server: where the share belongs, the back end's directory is
bound.  Only the mount command is another one, and what the mount table shows
then; mount points, users, names and images are looked after as with NFS.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import os
import pathlib

from oslo_config import cfg

from volumedrivers import exception
from volumedrivers.attachment import manager as attachments
from volumedrivers.attachment.context import AttachmentContext
from volumedrivers.attachment.context import Observer
from volumedrivers.attachment.keys import Keys
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import mount_table
from volumedrivers.host.share import Share
from volumedrivers.host.shares import ShareMounts
from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.driver import VolumeDriver
from volumedrivers.libvirt.drivers.nfs import NfsVolumeDriver
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.libvirt.registry import Registry
from volumedrivers.protocol_data import ShareData
from volumedrivers.testing import server

#: directories of this host, by the name of the share
Exports = Mapping[str, pathlib.Path]


class BindMounter:
    """Mounts a share of NFS by binding the directory that it stands for."""

    def __init__(self, exports: Exports) -> None:
        self.exports = exports

    def mount(
        self,
        fstype: str,
        source: str,
        mount_point: str,
        options: Sequence[str] = (),
        credentials: Mapping[str, str] | None = None,
        *,
        timeout: float = 60,
    ) -> None:
        """Bind it; options have no meaning.

        :raises MountFailed: there is no such share
        """
        if source not in self.exports:
            raise exception.MountFailed(
                source=source, mount_point=mount_point, reason='it is not exported'
            )
        server.run('mount', '--bind', str(self.exports[source]), mount_point, timeout=timeout)

    def unmount(self, mount_point: str, lazy: bool = False, *, timeout: float = 60) -> None:
        """Unmount it.

        :raises Busy: somebody uses it
        """
        if mount_table.find(mount_point) is None:
            return
        try:
            server.run('umount', *(['--lazy'] if lazy else []), mount_point, timeout=timeout)
        except exception.OperationFailed as error:
            raise exception.Busy(what=mount_point, reason='umount refused') from error

    def make_mount_point(self, path: str) -> None:
        """Make the directory."""
        os.makedirs(path, exist_ok=True)

    def remove_mount_point(self, path: str) -> None:
        """Remove the directory; it may be gone."""
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(path)


class BoundNfsDriver(NfsVolumeDriver):
    """NFS, where directories of this host are bound in the place of shares."""

    def __init__(self, context: DriverContext, exports: Exports) -> None:
        super().__init__(context)
        self.exports = exports

    def make_share(self, connection_info: ConnectionInfo, data: ShareData) -> Share:
        """Expect the file system that the directory is on."""
        share = super().make_share(connection_info, data)
        if data.export not in self.exports:
            return share
        found = mount_table.holding(str(self.exports[data.export]))
        return dataclasses.replace(
            share, mounted_fstypes=(found.fstype,), mounted_sources=(found.source,)
        )


class BoundRegistry(Registry):
    """The drivers of this package, but for NFS."""

    def __init__(self, context: DriverContext, exports: Exports) -> None:
        super().__init__(context)
        self.exports = exports

    def get(self, driver_volume_type: str) -> VolumeDriver:
        """Return the driver; see Registry."""
        if driver_volume_type != 'nfs':
            return super().get(driver_volume_type)
        return BoundNfsDriver(self.context, self.exports)


def make_manager(
    conf: cfg.ConfigOpts,
    hypervisor: Hypervisor,
    exports: Exports,
    *,
    keys: Keys | None = None,
    observer: Observer | None = None,
) -> AttachmentManager:
    """Return the manager of this host, which binds these directories for NFS.

    :param exports: ``NfsBackend.export`` and ``NfsBackend.files``, resolved
    """
    made = attachments.make_manager(conf, hypervisor, keys=keys, observer=observer)
    return AttachmentManager(bind(made.context, conf, exports))


def bind(context: AttachmentContext, conf: cfg.ConfigOpts, exports: Exports) -> AttachmentContext:
    """Return what a manager works with, so that it binds these directories for NFS."""
    drivers = context.registry.context
    shares = ShareMounts(conf, mounter=BindMounter(exports), elsewhere=drivers.shares._elsewhere)
    bound = dataclasses.replace(drivers, shares=shares)
    return dataclasses.replace(context, registry=BoundRegistry(bound, exports))
