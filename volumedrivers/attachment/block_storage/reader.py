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

"""Look into what this host has in Cinder, and write nothing."""

import dataclasses
import os
import typing

from volumedrivers.attachment.inventory import JournalReader
from volumedrivers.attachment.manager import AttachmentManager

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.context import StorageContext
    from volumedrivers.attachment.block_storage.reservation import Reservation
    from volumedrivers.attachment.block_storage.reservations import Reservations


class ReservationReader:
    """Looks into a journal that it does not make, as JournalReader does.

    Its methods raise what those of Reservations do.
    """

    def __init__(self, reservations: 'Reservations') -> None:
        self._reservations = reservations

    @property
    def path(self) -> str:
        """The file."""
        return self._reservations.path

    def get(self, key: str) -> 'Reservation | None':
        """As Reservations.get."""
        return self._reservations.get(key) if self._is_there() else None

    def find(
        self, *, volume_id: str | None = None, domain_uuid: str | None = None
    ) -> tuple['Reservation', ...]:
        """As Reservations.find."""
        if not self._is_there():
            return ()
        return self._reservations.find(volume_id=volume_id, domain_uuid=domain_uuid)

    def _is_there(self) -> bool:
        # A volume that nobody has attached needs no journal yet.
        return os.path.lexists(self.path)


def only_look(context: 'StorageContext') -> 'StorageContext':
    """Return the same, with a journal that is neither made nor written."""
    host = context.host
    journal = typing.cast(typing.Any, JournalReader(host.journal))
    return dataclasses.replace(
        context,
        attachments=AttachmentManager(dataclasses.replace(host, journal=journal)),
        reservations=typing.cast(typing.Any, ReservationReader(context.reservations)),
    )
