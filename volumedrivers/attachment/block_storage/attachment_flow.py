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

"""Attach a volume by the calls for attachments, as Cinder has them since microversion 3.27."""

from collections.abc import Mapping
import typing

from volumedrivers import exception
from volumedrivers.attachment.block_storage.flow import Side
from volumedrivers.attachment.block_storage.flow import StorageFlow
from volumedrivers.cinder import attachments

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.reservation import Reservation
    from volumedrivers.connection_info import ConnectionInfo


class AttachmentFlow(StorageFlow):
    """Attachments: create, update, complete, delete (microversion 3.44)."""

    def reserve(self, found: 'Reservation') -> str | None:
        self.storage.require('3.44', 'attaching a volume')
        if found.mode != 'rw':
            self.storage.require('3.54', 'a read-only attachment')
        given: dict[str, typing.Any] = {}
        if found.instance is not None:
            given['instance'] = found.instance
        if found.mode != 'rw':
            given['mode'] = found.mode
        asked = self.storage.proxy.create_attachment
        try:
            made = self.storage.tell(asked, found.volume_id, **given)
        except exception.CinderError as error:
            if error.status is None:
                raise self._unreadable(found) from error
            raise
        if not made.id:
            raise self._unreadable(found)
        return str(made.id)

    def export(
        self, found: 'Reservation', volume: typing.Any, connector: Mapping[str, typing.Any]
    ) -> 'ConnectionInfo':
        told = {**connector, 'mode': found.mode}
        updated = self.storage.ask(
            self.storage.proxy.update_attachment, found.attachment_id, connector=told
        )
        return attachments.connection_info(
            updated.connection_info or {}, volume, read_only=found.mode == 'ro'
        )

    def complete(self, found: 'Reservation', *, target: str) -> str | None:
        try:
            self.storage.ask(self.storage.proxy.complete_attachment, found.attachment_id)
        except exception.CinderError:
            # Asked again after an answer that was lost.
            if self.look(found)[0] is not Side.ATTACHED:
                raise
        return found.attachment_id

    def release(self, found: 'Reservation') -> None:
        for attachment_id in self._ids(found):
            try:
                attachments.delete(self.storage, attachment_id, instance=found.instance)
            except exception.NotInCinder:
                continue

    def look(self, found: 'Reservation') -> tuple[Side, str | None]:
        for attachment_id in self._ids(found):
            try:
                attachment = self.storage.ask(self.storage.proxy.get_attachment, attachment_id)
            except exception.NotInCinder:
                continue
            if attachment.status == 'attached':
                return Side.ATTACHED, attachment_id
            # Cinder does not show the connector.
            if attachments.is_reserved(attachment):
                return Side.RESERVED, attachment_id
            return Side.EXPORTED, attachment_id
        return Side.NONE, None

    def _unreadable(self, found: 'Reservation') -> exception.CinderUnavailable:
        """Return what an answer means that says nothing of an attachment, nor of an error."""
        return exception.CinderUnavailable(
            endpoint=found.endpoint,
            action='create attachment',
            reason='its answer is not that of Cinder',
            answered=True,
        )

    def _ids(self, found: 'Reservation') -> tuple[str, ...]:
        """Return the attachment's id; where the answer was lost, of those it may be.

        Those are only reserved: to export one its id is needed.
        """
        if found.attachment_id is not None:
            return (found.attachment_id,)
        before = found.wanted.get('others', ())
        return tuple(
            str(one.id)
            for one in attachments.of_volume(
                self.storage, found.volume_id, instance=found.instance
            )
            if one.id not in before
            and one.instance == found.instance
            and attachments.is_reserved(one)
        )
