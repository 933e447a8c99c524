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

"""What the two ways have in common by which Cinder gives a volume, and takes it back."""

import abc
from collections.abc import Mapping
import enum
import typing

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.reservation import Reservation
    from volumedrivers.cinder.block_storage import BlockStorage
    from volumedrivers.connection_info import ConnectionInfo


class Side(enum.StrEnum):
    """What Cinder has of an attachment."""

    NONE = 'none'
    RESERVED = 'reserved'  # nothing is exported
    EXPORTED = 'exported'  # to this host; not complete
    ATTACHED = 'attached'


class StorageFlow(abc.ABC):
    """One of the two ways; what is done twice does no harm."""

    def __init__(self, storage: 'BlockStorage') -> None:
        self.storage = storage

    @abc.abstractmethod
    def reserve(self, found: 'Reservation') -> str | None:
        """Keep the volume for this host; return the attachment's id, where it has one yet.

        :raises CinderUnavailable: and it may be done
        """

    @abc.abstractmethod
    def export(
        self, found: 'Reservation', volume: typing.Any, connector: Mapping[str, typing.Any]
    ) -> 'ConnectionInfo':
        """Let the back end give the volume to this host.

        :param volume: the SDK's
        """

    @abc.abstractmethod
    def complete(self, found: 'Reservation', *, target: str) -> str | None:
        """Tell Cinder that the guest has the volume; return the attachment's id.

        :param target: name of the guest's disk
        """

    @abc.abstractmethod
    def release(self, found: 'Reservation') -> None:
        """Take back all that Cinder has of it, however far it has got.

        :raises ServiceRoleNeeded
        """

    @abc.abstractmethod
    def look(self, found: 'Reservation') -> tuple[Side, str | None]:
        """Return what Cinder has of it, and the attachment's id."""

    def begin_detaching(self, found: 'Reservation') -> None:
        """Let Cinder refuse everybody else, if the volume is in use."""
        self.storage.tell(self.storage.proxy.begin_volume_detaching, found.volume_id)

    def roll_detaching(self, found: 'Reservation') -> None:
        """Let the volume be in use again; nothing if it is not detaching."""
        volume = self.storage.ask(self.storage.proxy.get_volume, found.volume_id)
        if volume.status == 'detaching':
            self.storage.tell(self.storage.proxy.abort_volume_detaching, found.volume_id)
