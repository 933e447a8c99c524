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

"""What an audit looks at in Cinder: asked once for the whole project.

What a list does not show is asked for by its id before it counts as gone: it
may be of another project.
"""

from collections.abc import Callable
from collections.abc import Iterator
import typing

from volumedrivers import exception
from volumedrivers.cinder import attachments

if typing.TYPE_CHECKING:
    from volumedrivers.cinder.block_storage import BlockStorage


class InCinder:
    """Attachments and volumes, as Cinder had them a moment ago.

    :ivar endpoint: Cinder's
    :ivar project: id of the user's; None: the user names none
    :ivar attachments: the SDK's, by id
    :ivar volumes: the SDK's, by id
    """

    def __init__(self, storage: 'BlockStorage') -> None:
        """Ask.

        :raises VolumeDriversError: it cannot be asked
        """
        self._storage = storage
        self.endpoint = storage.endpoint
        self.project = storage.project
        proxy = storage.proxy

        def list_volumes() -> dict[str, typing.Any]:
            return {str(one.id): one for one in proxy.volumes()}

        self.attachments = {str(one.id): one for one in attachments.of_project(storage)}
        self.volumes = storage.ask(list_volumes)

    def attachment(self, attachment_id: str) -> typing.Any:
        """Return the SDK's; None: Cinder says that there is none.

        :raises VolumeDriversError: it cannot be asked
        """
        return self._one(
            self.attachments, attachment_id, self._storage.proxy.get_attachment, again=False
        )

    def attachment_now(self, attachment_id: str) -> typing.Any:
        """Ask once more.

        :raises VolumeDriversError: it cannot be asked
        """
        return self._one(
            self.attachments, attachment_id, self._storage.proxy.get_attachment, again=True
        )

    def volume(self, volume_id: str) -> typing.Any:
        """Return the SDK's; None: Cinder says that there is none.

        :raises VolumeDriversError: it cannot be asked
        """
        return self._one(self.volumes, volume_id, self._storage.proxy.get_volume, again=False)

    def volume_now(self, volume_id: str) -> typing.Any:
        """Ask once more.

        :raises VolumeDriversError: it cannot be asked
        """
        return self._one(self.volumes, volume_id, self._storage.proxy.get_volume, again=True)

    def of_volume(self, volume_id: str) -> Iterator[typing.Any]:
        """Yield the attachments of a volume."""
        for one in self.attachments.values():
            if one.volume_id == volume_id:
                yield one

    def host_of(self, attachment: typing.Any) -> str | None:
        """Return the host that an attachment is of; None: Cinder does not say."""
        volume = self.volumes.get(attachment.volume_id)
        return None if volume is None else attachments.host_of(volume, str(attachment.id))

    def _one(
        self,
        known: dict[str, typing.Any],
        wanted: str,
        ask: Callable[[str], typing.Any],
        *,
        again: bool,
    ) -> typing.Any:
        if wanted in known and not again:
            return known[wanted]
        try:
            found = self._storage.ask(ask, wanted)
        except exception.NotInCinder:
            known.pop(wanted, None)
            return None
        known[wanted] = found
        return found
