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

"""Volumes that are files in a Virtuozzo storage cluster."""

from collections.abc import Mapping
import dataclasses
import os

from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import mount_table
from volumedrivers.host import requirements
from volumedrivers.host.brick import Brick
from volumedrivers.host.file_system import FileSystem
from volumedrivers.host.share import Share
from volumedrivers.host.share import mount_point
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.share_file import ShareFileDriver
from volumedrivers.libvirt.share_file import share_data
from volumedrivers.protocol_data import ShareData

LOG = logging.getLogger(__name__)

PROTOCOL = 'VZSTORAGE'
# What ConnectionInfo.to_dict shows of a password.
_NOT_KNOWN = '***'
# Options of pstorage-mount that other options of the configuration set.
RESERVED = frozenset(('-c', '-l', '-C', '-u', '-g', '-m'))


class VzstorageVolumeDriver(ShareFileDriver):
    """Virtuozzo storage: os-brick's connector mounts it, and we unmount it.

    os-brick never does; so its mount is counted as all others are.
    """

    REQUIREMENTS = (
        requirements.Tool('pstorage-mount', 'Virtuozzo Storage'),
        FileSystem('fuse'),
    )
    DISK_CACHE = 'writeback'

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        reserved = sorted(RESERVED.intersection(self.conf.vzstorage_mount_opts))
        if reserved:
            raise exception.InvalidOption(
                option='[volumedrivers] vzstorage_mount_opts',
                found=f'with {" ".join(reserved)}',
                expected='no option that another one sets: ' + ' '.join(sorted(RESERVED)),
            )

    def make_share(self, connection_info: ConnectionInfo, data: ShareData) -> Share:
        """Describe the cluster; the mount point is the one os-brick computes.

        It depends on the password.  A journal has none, so there the cluster
        is looked for among the mounts.
        """
        share = self._computed(connection_info, data)
        if _is_known(data):
            return share
        return dataclasses.replace(
            share, mount_point=self._where_mounted(share) or share.mount_point
        )

    def mount_share(
        self, connection_info: ConnectionInfo, share: Share, user: str
    ) -> tuple[bool, Mapping[str, object]]:
        """Let os-brick mount it, under the lock of the mount point."""
        properties = connection_info.to_connector()
        properties['options'] = self._options(share_data(connection_info))
        device_info: dict[str, object] = {}

        def mount() -> None:
            device_info.update(
                self._brick().connect(
                    connection_info.driver_volume_type, connection_info.volume_id, properties
                )
            )

        return self.context.shares.acquire(share, user, mount=mount), device_info

    def share_of(self, connection_info: ConnectionInfo, volume: ConnectedVolume | None) -> Share:
        """Find the mount point where its name depends on a password that is not known."""
        data = share_data(connection_info)
        share = self._computed(connection_info, data)
        if _is_known(data):
            return share
        if volume is not None and volume.path is not None:
            place = volume.path.removesuffix(f'/{data.name}')
            return dataclasses.replace(share, mount_point=place)
        # A connection that was interrupted; its mount was claimed first.
        for counted in self.context.shares.users.counted():
            claimed = counted.share
            if claimed is not None and (claimed.source, claimed.fstype) == (
                share.source,
                share.fstype,
            ):
                return dataclasses.replace(share, mount_point=claimed.mount_point)
        return self.make_share(connection_info, data)

    def lock_names(
        self, connection_info: ConnectionInfo, *, volume: ConnectedVolume | None = None
    ) -> tuple[str, ...]:
        """Name the cluster: the mount point depends on the password."""
        return (f'vzstorage {cluster_name(share_data(connection_info))}',)

    def mount_command(self, share: Share) -> str:
        """The connector computes the rest itself."""
        return f'os-brick {PROTOCOL} connector mounts {share.source} at {share.mount_point}'

    def find_file(
        self,
        connection_info: ConnectionInfo,
        share: Share,
        data: ShareData,
        device_info: Mapping[str, object],
    ) -> str:
        """Check the path that os-brick computed: it puts the name there unseen."""
        path = str(device_info['path'])
        return self.context.shares.locate(share, path, volume_id=connection_info.volume_id)

    def disconnect_volume(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        *,
        volume: ConnectedVolume | None = None,
        force: bool = False,
    ) -> None:
        """Tell os-brick, which does nothing today, and let go of the mount."""
        properties = connection_info.to_connector()
        if volume is not None:
            properties['options'] = self._options(share_data(connection_info))
            properties['device_path'] = volume.path
        try:
            self._brick().disconnect(
                connection_info.driver_volume_type,
                connection_info.volume_id,
                properties,
                None,
                force=force,
            )
        except exception.VolumeNotConnected:
            LOG.info('Volume %s was not connected', connection_info.volume_id)
        super().disconnect_volume(connection_info, attachment, volume=volume, force=force)

    def _computed(self, connection_info: ConnectionInfo, data: ShareData) -> Share:
        cluster = cluster_name(data)
        # With the password, if there is one.
        export = str(connection_info.to_connector()['export'])
        sources = (f'vstorage://{cluster}', f'pstorage://{cluster}')
        return Share(
            source=data.export,
            mount_point=mount_point(self.conf.vzstorage_mount_point_base, export),
            fstype='vzstorage',
            mounted_fstypes=('fuse.vstorage', 'fuse.pstorage', 'fuse'),
            mounted_sources=(*sources, *(f'{source}/*' for source in sources)),
        )

    def _where_mounted(self, share: Share) -> str | None:
        """:raises MountFailed: the kernel did not say, or there are several"""
        base = os.path.realpath(self.conf.vzstorage_mount_point_base)
        try:
            table = mount_table.read()
        except OSError as error:
            raise self._lost(share, f'the mount table cannot be read: {error.strerror}') from error
        places = {
            mount.mount_point
            for mount in table
            if os.path.dirname(mount.mount_point) == base and share.matches(mount)
        }
        if len(places) > 1:
            raise self._lost(share, 'it is mounted at ' + ' and '.join(sorted(places)))
        return (
            os.path.join(self.conf.vzstorage_mount_point_base, os.path.basename(places.pop()))
            if places
            else None
        )

    def _lost(self, share: Share, reason: str) -> exception.MountFailed:
        return exception.MountFailed(
            source=share.source,
            mount_point=self.conf.vzstorage_mount_point_base,
            reason=f'{reason}; the password that tells its mount point is not known',
        )

    def _brick(self) -> Brick:
        return Brick(
            PROTOCOL,
            self.context.conf,
            vzstorage_mount_point_base=self.conf.vzstorage_mount_point_base,
        )

    def _options(self, data: ShareData) -> str:
        """Return the command line of pstorage-mount that os-brick splits at blanks."""
        names = {'cluster_name': cluster_name(data)}
        conf = self.conf
        words = ['-u', conf.vzstorage_mount_user, '-g', conf.vzstorage_mount_group]
        words += ['-m', conf.vzstorage_mount_perms, '-l', conf.vzstorage_log_path % names]
        if conf.vzstorage_cache_path:
            words += ['-C', conf.vzstorage_cache_path % names]
        return ' '.join([*words, *conf.vzstorage_mount_opts])


def cluster_name(data: ShareData) -> str:
    """Return the cluster of ``[mds[,mds]:/]cluster``."""
    return data.export.rpartition(':/')[2]


def _is_known(data: ShareData) -> bool:
    """Whether the password, on which the name of the mount point depends, is there."""
    return data.password is None or data.password.reveal() != _NOT_KNOWN
