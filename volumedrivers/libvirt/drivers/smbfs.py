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

"""Volumes that are files on an SMB share."""

from collections.abc import Mapping
import re

from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers import mount_options
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.connection_values import Unfit
from volumedrivers.host import requirements
from volumedrivers.host.file_system import FileSystem
from volumedrivers.host.share import Share
from volumedrivers.host.share import mount_point
from volumedrivers.libvirt.share_file import ShareFileDriver
from volumedrivers.protocol_data import ShareData

LOG = logging.getLogger(__name__)

# mount.cifs takes many names for these.
_USER = frozenset(('user', 'username'))
_PASSWORD = frozenset(('pass', 'password'))
_DOMAIN = frozenset(('dom', 'domain', 'workgroup'))
# The client then sends no locks of ranges of bytes; two names for one option.
_NO_LOCKS = frozenset(('nobrl', 'nolock'))
_OPTION = re.compile(r'(?P<name>[^=]+)(?:=(?P<value>.*))?', re.DOTALL)


class SmbfsVolumeDriver(ShareFileDriver):
    """SMB, with the kernel's CIFS client; a password never is an argument."""

    REQUIREMENTS = (requirements.Tool('mount.cifs', 'cifs-utils'), FileSystem('cifs'))
    DISK_CACHE = 'writeback'

    def mount_share(
        self, connection_info: ConnectionInfo, share: Share, user: str
    ) -> tuple[bool, Mapping[str, object]]:
        """Mount it; warn where the guest cannot write the first sector of a raw volume.

        QEMU takes shared locks on some bytes of an image (100 to 203), so that
        no other QEMU writes to it.  A lock of SMB is not a matter of agreement:
        the server then refuses all writes there, QEMU's own too.
        """
        if _NO_LOCKS.isdisjoint(share.options):
            LOG.warning(
                'Share %s is mounted without the option nobrl: where its server enforces locks, '
                'as SMB says, volume %s cannot be written at its beginning; add nobrl to '
                'smbfs_mount_options',
                share.source,
                connection_info.volume_id,
            )
        return super().mount_share(connection_info, share, user)

    def make_share(self, connection_info: ConnectionInfo, data: ShareData) -> Share:
        """The configuration's mount options come after Cinder's, and win.

        :raises InvalidOption: smbfs_mount_options is malformed
        """
        configured = self._configured()
        secret = data.secret_options.reveal().split(',') if data.secret_options else []
        options, credentials = _sort(
            [
                *data.options,
                *secret,
                *configured.public,
                *configured.secret,
            ]
        )
        return Share(
            source=data.export,
            mount_point=mount_point(self.conf.smbfs_mount_point_base, data.export),
            fstype='cifs',
            mounted_fstypes=('cifs', 'smb3'),
            options=tuple(options),
            credentials=credentials,
        )

    def _configured(self) -> mount_options.Options:
        try:
            return mount_options.split_options(self.conf.smbfs_mount_options or '')
        except Unfit as unfit:
            raise exception.InvalidOption(
                option='[volumedrivers] smbfs_mount_options',
                found='something else',
                expected=unfit.expected,
            ) from unfit


def _sort(given: list[str]) -> tuple[list[str], dict[str, str]]:
    """Part options from credentials.

    Who mounts is a credential only together with a password: without one it
    is an option, so that the mount table shows it.  A user's domain is cut
    off, as Cinder's SMB driver writes it where the server knows it anyway.
    """
    options: list[str] = []
    user, password, domain = 'guest', None, None
    for option in given:
        match = _OPTION.fullmatch(option)
        name, value = (match['name'], match['value'] or '') if match else (option, '')
        if name in _USER:
            # user=name%password is one of mount.cifs' ways; the password may
            # have a backslash in it.
            user, _, together = value.partition('%')
            user = user.rpartition('\\')[2]
            password = together or password
        elif name in _PASSWORD:
            password = value
        elif name in _DOMAIN:
            domain = value
        else:
            options.append(option)
    if password:
        credentials = {'username': user, 'password': password}
        return options, credentials | ({'domain': domain} if domain else {})
    return [f'username={user}', *([f'domain={domain}'] if domain else []), *options], {}
