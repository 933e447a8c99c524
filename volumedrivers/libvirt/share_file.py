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

"""The family of volumes that are files on a share.

What differs between its drivers is what the share is and how it is mounted.
"""

import abc
from collections.abc import Mapping
import time
import typing

from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import requirements
from volumedrivers.host.share import Share
from volumedrivers.libvirt import plan
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import Remainder
from volumedrivers.libvirt.connected_volume import check_recorded
from volumedrivers.libvirt.driver import Capability
from volumedrivers.libvirt.driver import VolumeDriver
from volumedrivers.protocol_data import ShareData
from volumedrivers.sizes import check_size

# What QEMU can grow while a guest uses it.
GROWABLE_FORMATS = frozenset(('raw', 'qcow2'))


class ShareFileDriver(VolumeDriver):
    """A protocol whose volumes are files on a share that is mounted here.

    A driver says what the share is (``make_share``); the methods that do not
    begin with an underscore may be overridden.
    """

    API_VERSION = (1, 1)
    CAPABILITIES = frozenset(
        (
            Capability.EXTEND,
            Capability.FORCE_DISCONNECT,
            Capability.MULTIATTACH,
        )
    )

    #: what must be on this host
    REQUIREMENTS: typing.ClassVar[tuple[requirements.Requirement, ...]] = ()

    @abc.abstractmethod
    def make_share(self, connection_info: ConnectionInfo, data: ShareData) -> Share:
        """Describe the share and where it is mounted.

        :raises InvalidConnectionInfo: no share is called that
        """

    def share_of(self, connection_info: ConnectionInfo, volume: ConnectedVolume | None) -> Share:
        """Describe the share of a volume that was connected, or begun to be.

        The connection_info may be without its secrets by now.
        """
        return self.make_share(connection_info, share_data(connection_info))

    def file_name(self, connection_info: ConnectionInfo, data: ShareData) -> str:
        """Return the name of the volume's file on the share."""
        return data.name

    def connect_volume(self, connection_info: ConnectionInfo, attachment: str) -> ConnectedVolume:
        """Mount the share if nobody has, and look at the file.

        :raises PathOutsideShare, UnsafeImage, WrongMount: the file was not opened
        """
        started = time.monotonic()
        data = share_data(connection_info)
        share = self.make_share(connection_info, data)
        user = self._user(connection_info, attachment)
        new, device_info = self.mount_share(connection_info, share, user)
        try:
            path = self.find_file(connection_info, share, data, device_info)
            image = self.context.shares.inspect(
                path,
                data.format,
                root=share.mount_point,
                volume_id=connection_info.volume_id,
                encrypted=connection_info.encrypted,
            )
        except BaseException as error:
            # A guest that had it before keeps it.
            if new:
                self._take_back(share, user, error)
            raise
        return ConnectedVolume(
            driver_volume_type=connection_info.driver_volume_type,
            volume_id=connection_info.volume_id,
            source_type='file',
            path=path,
            format=image.format,
            identity=Identity('file', f'{data.export}/{data.name}#{image.inode}'),
            seconds=time.monotonic() - started,
            device_info=device_info,
        )

    def mount_share(
        self, connection_info: ConnectionInfo, share: Share, user: str
    ) -> tuple[bool, Mapping[str, object]]:
        """Mount the share unless it is mounted.

        :returns: whether the user is a new one, and what os-brick said if it
            was asked
        """
        return self.context.shares.acquire(share, user), {}

    def find_file(
        self,
        connection_info: ConnectionInfo,
        share: Share,
        data: ShareData,
        device_info: Mapping[str, object],
    ) -> str:
        """Return the path of the volume's file, which lies on the share."""
        name = self.file_name(connection_info, data)
        return self.context.shares.resolve(share, name, volume_id=connection_info.volume_id)

    def disconnect_volume(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        *,
        volume: ConnectedVolume | None = None,
        force: bool = False,
    ) -> None:
        """Let go of the share; the last of its users unmounts it.

        :param force: take the mount out of the directory tree even if it is
            busy or its server does not answer
        """
        share = self.share_of(connection_info, volume)
        self.context.shares.release(share, self._user(connection_info, attachment), force=force)

    def extend_volume(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        requested_size: int,
        *,
        volume: ConnectedVolume | None = None,
    ) -> int:
        """Return the requested size: QEMU grows the file when the disk is resized.

        While it does and nobody answers, the whole guest stands still; so the
        server is asked first.

        :raises ExtendVolumeNotSupported: QEMU cannot grow this image format
        :raises IdentityMismatch: there is another file under the name
        :raises MountFailed, DeadlineExceeded: the share does not answer
        """
        data = share_data(connection_info)
        image_format = volume.format if volume is not None else data.format or 'raw'
        size = grown(connection_info, image_format, requested_size)
        if volume is not None:
            self.context.shares.ask(self.share_of(connection_info, volume))
            check_recorded(volume, self.current_identity(connection_info, volume))
        return size

    def lock_names(
        self, connection_info: ConnectionInfo, *, volume: ConnectedVolume | None = None
    ) -> tuple[str, ...]:
        """Name the mount point."""
        share = self.make_share(connection_info, share_data(connection_info))
        return (f'mount {share.mount_point}',)

    def current_identity(
        self, connection_info: ConnectionInfo, volume: ConnectedVolume
    ) -> Identity | None:
        """Look at the mount and at the file, with the deadline of shares.

        The file of another share, mounted at the same place, is another file.
        """
        if volume.path is None:
            return None
        data = share_data(connection_info)
        share = self.share_of(connection_info, volume)
        mount = self.context.shares.mount_of(share)
        if mount is None:
            return None
        inode = self.context.shares.inode(volume.path)
        if inode is None:
            return None
        source = data.export if share.matches(mount) else f'{mount.source} ({mount.fstype})'
        recorded = '' if volume.identity is None else volume.identity.value
        if recorded.startswith(f'{source}/') and recorded.endswith(f'#{inode}'):
            # The same file, whatever a snapshot lets it be called by now.
            return volume.identity
        return Identity('file', f'{source}/{data.name}#{inode}')

    def remains(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        *,
        volume: ConnectedVolume | None = None,
    ) -> tuple[Remainder, ...]:
        """Tell whether the attachment is counted, and of a mount that nobody uses.

        One that was not mounted here is nobody's to unmount.
        """
        share = self.share_of(connection_info, volume)
        place = share.mount_point
        users = self.context.shares.users.users(place)
        if self._user(connection_info, attachment) in users:
            return (Remainder('mount', place, 'this attachment is counted as a user'),)
        if users or self.context.shares.users.claimed(place) is None:
            return ()
        if self.context.shares.mount_of(share) is None:
            return (Remainder('mount', place, 'the mount was begun'),)
        if self.context.shares.elsewhere(share, attachment):
            return ()  # a guest has something else there
        return (Remainder('mount', place, 'nobody uses it'),)

    def plan_connect(self, connection_info: ConnectionInfo, attachment: str) -> tuple[str, ...]:
        """Say whether the share is mounted, and how it would be."""
        data = share_data(connection_info)
        share = self.make_share(connection_info, data)
        mount = self.context.shares.mount_of(share)
        place = share.mount_point
        if mount is None:
            lines = [f'make directory {place}', self.mount_command(share)]
        elif share.matches(mount):
            lines = [f'already mounted: {share.source} at {place}']
        else:
            lines = [f'refused: {place} holds {mount.source} ({mount.fstype})']
        lines.append(f'inspect {place}/{self.file_name(connection_info, data)}')
        return plan.without_secrets(connection_info, lines)

    def mount_command(self, share: Share) -> str:
        """Say what mounts the share, for a dry run; credentials are not in it."""
        options = list(share.options)
        if share.credentials:
            options.append('credentials=***')
        words = ['-o', ','.join(options)] if options else []
        return ' '.join(['mount', '-t', share.fstype, *words, share.source, share.mount_point])

    def plan_disconnect(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        *,
        volume: ConnectedVolume | None = None,
    ) -> tuple[str, ...]:
        """Say whether it would be unmounted, or who else uses it."""
        share = self.share_of(connection_info, volume)
        place = share.mount_point
        users = self.context.shares.users
        user = self._user(connection_info, attachment)
        others = users.users(place) - {user}
        if others:
            lines = [f'stays mounted: {place} is used by {", ".join(sorted(others))}']
        elif self.context.shares.mount_of(share) is None:
            lines = [f'nothing: {share.source} is not mounted']
        elif users.claimed(place) is None:
            lines = [f'stays mounted: {place} was mounted by somebody else']
        else:
            guests = ', '.join(sorted(self.context.shares.elsewhere(share, user)))
            # One of them may be the guest that has this volume still.
            but = f', unless {guests} has something else on it' if guests else ''
            lines = [f'unmount {place}{but}', f'remove directory {place}']
        return plan.without_secrets(connection_info, lines)

    def why_not(self) -> str | None:
        """Name everything that is missing on this host."""
        return requirements.unmet(self.REQUIREMENTS)

    def _user(self, connection_info: ConnectionInfo, attachment: str) -> str:
        # By volume, not by file: a snapshot changes the name of the file.
        name = connection_info.volume_id or share_data(connection_info).name
        return f'{attachment}/{name}'

    def _take_back(self, share: Share, user: str, error: BaseException) -> None:
        try:
            self.context.shares.release(share, user)
        except exception.VolumeDriversError as second:
            error.add_note(f'and letting go of the share failed: {second}')


def share_data(connection_info: ConnectionInfo) -> ShareData:
    """Return the connection_info's data, which is that of a file on a share.

    A driver_volume_type of a vendor is read by the keys of nfs.
    """
    data = connection_info.data
    if data is None:
        data = connection_info.data_as('nfs')
    if not isinstance(data, ShareData):
        raise exception.InvalidConnectionInfo(
            driver_volume_type=connection_info.driver_volume_type,
            key='data',
            found=type(data).__name__,
            expected='a file on a share',
        )
    return data


def grown(connection_info: ConnectionInfo, image_format: str, requested_size: int) -> int:
    """Return a requested size in bytes, if QEMU can grow an image of the format.

    :raises InvalidSize: no size of a volume
    :raises ExtendVolumeNotSupported: QEMU cannot grow it
    """
    size = check_size(requested_size, f'volume {connection_info.volume_id}')
    if image_format not in GROWABLE_FORMATS:
        raise exception.ExtendVolumeNotSupported(
            driver_volume_type=f'{connection_info.driver_volume_type} ({image_format})'
        )
    return size
