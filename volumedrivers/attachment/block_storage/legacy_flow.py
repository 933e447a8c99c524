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

"""Attach a volume by the calls from before Cinder had attachments.

Cinder keeps no connector of such an attachment, and no word of who has
reserved the volume; what tells is the volume's status, and the journal.
"""

from collections.abc import Mapping
import datetime
import typing

from volumedrivers import exception
from volumedrivers.attachment.block_storage.flow import Side
from volumedrivers.attachment.block_storage.flow import StorageFlow
from volumedrivers.cinder import attachments
from volumedrivers.cinder import volumes

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.reservation import Reservation
    from volumedrivers.cinder.block_storage import BlockStorage
    from volumedrivers.connection_info import ConnectionInfo

# Seconds after the beginning of an attach in which Cinder changed a volume that
# this attach has reserved: its clock may be another one, and requests are late.
_AT_ONCE = 300.0
# Where a row stopped that does not say whether Cinder has reserved the volume.
_UNSURE = frozenset(('', 'reserve', 'undo reserve'))
_ATTACHED = frozenset(('in-use', 'detaching'))


class LegacyFlow(StorageFlow):
    """Reserve, initialize and terminate the connection, attach, detach.

    For a volume that is attached once: Cinder cannot tell two attachments apart
    that it has not been told of yet.
    """

    def reserve(self, found: 'Reservation') -> str | None:
        """Keep the volume; there is no id before it is attached."""
        self.storage.tell(self.storage.proxy.reserve_volume, found.volume_id)
        return None

    def export(
        self, found: 'Reservation', volume: typing.Any, connector: Mapping[str, typing.Any]
    ) -> 'ConnectionInfo':
        """Initialize the connection; the back end answers the same again."""
        answer = self.storage.ask(
            self.storage.proxy.init_volume_attachment, found.volume_id, dict(connector)
        )
        return attachments.connection_info(answer, volume, read_only=found.mode == 'ro')

    def complete(self, found: 'Reservation', *, target: str) -> str | None:
        """Let Cinder make its attachment, and look what it is called.

        :raises AttachmentLost: Cinder has made none
        """
        # With an instance the SDK does not send the host.  Asked again, Cinder
        # answers with what it has of this instance, or host, already.
        self.storage.ask(
            self.storage.proxy.attach_volume,
            found.volume_id,
            f'/dev/{target}',
            instance=found.instance,
            host_name=found.host,
        )
        side, attachment_id = self.look(found)
        if side is not Side.ATTACHED:
            raise exception.AttachmentLost(
                guest=found.domain_name,
                volume_id=found.volume_id,
                attachment_id='just made',
                endpoint=found.endpoint,
            )
        return attachment_id

    def release(self, found: 'Reservation') -> None:
        """Terminate the connection, and detach or unreserve.

        :raises Busy: whether this host has reserved the volume is not certain
        """
        side, attachment_id = self.look(found)
        proxy = self.storage.proxy
        if side is Side.NONE:
            return
        if side is not Side.RESERVED:
            # At a volume that is only reserved it also takes that back.
            self.storage.ask(
                proxy.terminate_volume_attachment, found.volume_id, dict(found.connector)
            )
        if side is Side.ATTACHED:
            self.storage.ask(proxy.detach_volume, found.volume_id, attachment_id)
        elif self.look(found)[0] is not Side.NONE:
            self.storage.ask(proxy.unreserve_volume, found.volume_id)

    def look(self, found: 'Reservation') -> tuple[Side, str | None]:
        """Tell it from the volume's status.

        :raises Busy: somebody reserves the volume, this host or another one
        """
        try:
            volume = self.storage.ask(self.storage.proxy.get_volume, found.volume_id)
        except exception.NotInCinder:
            return Side.NONE, None
        attachment_id = attachment_of(self.storage, found, volume)
        if attachment_id is not None:
            return Side.ATTACHED, attachment_id
        if volume.status != 'attaching' or found.attachment_id is not None:
            return Side.NONE, None
        _require_own(found, volume)
        return (Side.EXPORTED if found.connector else Side.RESERVED), None


def attachment_of(storage: 'BlockStorage', found: 'Reservation', volume: typing.Any) -> str | None:
    """Return the id of the attachment that the old calls made for this row's guest."""
    hosts = {
        str(one.get('attachment_id')): one.get('host_name') for one in volume.attachments or ()
    }
    for one in attachments.of_volume(storage, found.volume_id, instance=found.instance):
        if found.attachment_id is not None:
            if one.id == found.attachment_id:
                return str(one.id)
            continue
        # Only an administrator is told of the host.
        host = hosts.get(str(one.id)) or found.host
        if (
            is_legacy(one)
            and one.instance == found.instance
            and str(host).lower() == found.host.lower()
        ):
            return str(one.id)
    return None


def is_legacy(attachment: typing.Any) -> bool:
    """Tell whether the old calls have made an attachment: Cinder has no connection_info of it.

    :param attachment: the SDK's, from a list; to show a single one of them,
        Cinder fails where the back end has files
    """
    return attachment.status == 'attached' and not attachment.connection_info


def require_possible(volume: typing.Any, *, read_only: bool) -> None:
    """Refuse what these calls cannot do.

    :raises InvalidOption
    """
    found = ''
    if volume.is_multiattach:
        found = f'volume {volume.id}, which more than one guest may have'
    elif read_only or volumes.is_read_only(volume):
        found = 'a read-only attachment'
    if found:
        raise exception.InvalidOption(
            option='legacy', found=found, expected='one that may write, to a volume for one guest'
        )


def _require_own(found: 'Reservation', volume: typing.Any) -> None:
    """Refuse a reservation that may be somebody else's: Cinder does not say whose it is.

    :raises Busy
    """
    if found.wanted.get('reserved') or found.step not in _UNSURE:
        return
    since = _seconds(volume.updated_at)
    if since is not None and abs(since - found.began) < _AT_ONCE:
        # It was available when this host asked, and nobody answered.
        return
    volumes.require(volume, ('available',))


def _seconds(stamp: str | None) -> float | None:
    """Return Cinder's time as seconds since the epoch."""
    if not stamp:
        return None
    found = datetime.datetime.fromisoformat(stamp)
    if found.tzinfo is None:
        found = found.replace(tzinfo=datetime.UTC)
    return found.timestamp()
