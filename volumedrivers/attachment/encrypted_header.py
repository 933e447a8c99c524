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

"""Look at the header of an encrypted volume, wherever the volume is."""

import typing

from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.attachment.volume_encryption import VolumeEncryption
from volumedrivers.host import luks
from volumedrivers.libvirt import network_header
from volumedrivers.libvirt.connected_volume import ConnectedVolume

if typing.TYPE_CHECKING:
    from volumedrivers.connection_info import ConnectionInfo
    from volumedrivers.libvirt.hypervisor import Hypervisor

LOG = logging.getLogger(__name__)

# What a network source may take: it was asked a moment ago whether it answers.
_NETWORK_SECONDS = 20.0


class Look(typing.NamedTuple):
    """What was found.

    :ivar known: False: it may be read by QEMU, but not from here; then QEMU
        is who refuses a volume without a header
    :ivar header: None although it is known: there is none
    :ivar why: it is not known
    """

    known: bool
    header: luks.Header | None = None
    why: str = ''

    @property
    def usable(self) -> bool:
        """Whether there may be a key that opens the volume."""
        return not self.known or (self.header is not None and self.header.key_slots != 0)

    @property
    def payload_offset(self) -> int:
        """Bytes of the volume that are not the guest's; 0 where that is not known."""
        return 0 if self.header is None else self.header.payload_offset


def look(
    hypervisor: 'Hypervisor', info: 'ConnectionInfo', volume: ConnectedVolume, *, seconds: float
) -> Look:
    """Read the header of a connected volume.

    :raises EncryptionFailed: of a device or file it could not be read, or it
        makes no sense: that is not the same as no header
    :raises DeadlineExceeded
    """
    if volume.source is not None:
        return _of_network(hypervisor, info, volume, min(seconds, _NETWORK_SECONDS))
    if volume.path is None or volume.format not in ('raw', 'qcow2'):
        return Look(known=False, why=f'no header is read from {volume.format}')
    try:
        header = luks.read(
            volume.path,
            seconds=seconds,
            image_format=volume.format,
            volume_id=volume.volume_id,
        )
    except exception.EncryptionFailed as error:
        # A share may let QEMU's user in and nobody else, root included.
        if volume.source_type != 'file' or not isinstance(error.__cause__, PermissionError):
            raise
        LOG.warning('%s; QEMU may be allowed to', error)
        return Look(known=False, why=error.reason)
    return Look(known=True, header=header)


def _of_network(
    hypervisor: 'Hypervisor', info: 'ConnectionInfo', volume: ConnectedVolume, seconds: float
) -> Look:
    assert volume.source is not None  # noqa: S101
    try:
        header = network_header.read(hypervisor, info, volume.source, seconds=seconds)
    except (network_header.Unreadable, exception.ToolMissing) as error:
        LOG.warning('The header of volume %s is not known here: %s', volume.volume_id, error)
        return Look(known=False, why=str(error))
    return Look(known=True, header=header)


def provider_of(
    volume_id: str,
    encryption: VolumeEncryption | None,
    found: Look,
) -> str:
    """Return luks, luks2 or plain: what the volume is, rather than what it is said to be.

    :raises EncryptionFailed: it is said to be plain, and has a header
    """
    said = 'luks' if encryption is None else encryption.provider
    if found.header is None:
        return said
    is_one = 'luks2' if found.header.kind == 'luks2' else 'luks'
    if said == 'plain':
        # Decrypted without its header it would look empty.
        raise exception.EncryptionFailed(
            volume_id=volume_id,
            reason=f'Cinder says that it is encrypted with plain, but it has a '
            f'{found.header.kind} header; retype it',
        )
    if said != is_one:
        LOG.warning(
            'Cinder says that volume %s is encrypted with %s; it has a %s header, which counts',
            volume_id,
            said,
            found.header.kind,
        )
    return is_one
