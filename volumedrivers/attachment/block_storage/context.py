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

"""What the operations on Cinder's volumes work with; given to them, never looked up."""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import typing

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.reservations import Reservations
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.attachment.context import Observer
    from volumedrivers.attachment.manager import AttachmentManager
    from volumedrivers.cinder.block_storage import BlockStorage
    from volumedrivers.host.fair_lock import FairLocks
    from volumedrivers.host.fair_lock import Held

# Seconds that an operation's own work takes besides waiting for Cinder.
_MARGIN = 30.0
# How often a step asks Cinder for something, and then what has come of it.
_REQUESTS = 4


@dataclasses.dataclass(frozen=True)
class StorageContext:
    """Cinder, and the attachments of this host.

    :ivar attachments: guest and host
    :ivar connector: collects what Cinder is told of this host
    """

    storage: 'BlockStorage'
    attachments: 'AttachmentManager'
    reservations: 'Reservations'
    connector: Callable[[], Mapping[str, typing.Any]]

    @property
    def host(self) -> 'AttachmentContext':
        """Drivers, guests, journal and locks of this host."""
        return self.attachments.context

    @property
    def options(self) -> typing.Any:
        """The group [volumedrivers]."""
        return self.host.options

    @property
    def locks(self) -> 'FairLocks':
        """Those of this host."""
        return self.host.locks

    @property
    def observer(self) -> 'Observer':
        """Is told of each step."""
        return self.host.observer

    @property
    def request_timeout(self) -> float:
        """Seconds after which a step that asks Cinder is given up."""
        options = self.options
        tries = int(options.cinder_retries) + 1
        timeout = float(options.cinder_timeout)
        # Nothing is asked again later than that, however often.
        pauses = min((1 << tries) * self.storage.pause, timeout)
        return timeout * max(tries, _REQUESTS) + pauses + _MARGIN

    def lock(
        self, volume_id: str, operation: str, guest: str = '', *, seconds: float | None = None
    ) -> 'Held':
        """Lock Cinder's side of a volume against every other operation of this host.

        It is taken before the lock of the volume itself, never after it.

        :param guest: '': all that have it
        :param seconds: how long to wait; default: option lock_timeout
        :raises LockHeld: names who has it
        """
        return self.locks.acquire(
            (f'reservation {volume_id}',),
            what=f'{operation} of volume {volume_id}' + (f' and guest {guest}' if guest else ''),
            seconds=self.options.lock_timeout if seconds is None else seconds,
        )
