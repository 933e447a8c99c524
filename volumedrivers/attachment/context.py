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

"""What the operations work with; given to them, never looked up."""

from collections.abc import Callable
import dataclasses
import socket
import typing

from volumedrivers.attachment import users
from volumedrivers.host import boot

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.encryption import Encryptor
    from volumedrivers.attachment.journal import Journal
    from volumedrivers.connection_info import ConnectionInfo
    from volumedrivers.host.fair_lock import FairLocks
    from volumedrivers.host.fair_lock import Held
    from volumedrivers.libvirt.driver import VolumeDriver
    from volumedrivers.libvirt.hypervisor import Hypervisor
    from volumedrivers.libvirt.registry import Registry

#: is told each step: operation, step, and before, after or failed
Observer = Callable[[str, str, str], None]


def _nobody(operation: str, step: str, moment: str) -> None:
    """Nobody observes."""


@dataclasses.dataclass(frozen=True)
class AttachmentContext:
    """Drivers, guests, journal and locks of this host.

    :ivar options: the group [volumedrivers]
    :ivar observer: is told of each step, in the thread of the caller
    """

    options: typing.Any
    registry: 'Registry'
    hypervisor: 'Hypervisor'
    journal: 'Journal'
    locks: 'FairLocks'
    encryptor: 'Encryptor'
    observer: Observer = _nobody

    @property
    def host(self) -> str:
        """What Cinder calls this host."""
        return str(self.options.host or socket.gethostname())

    @property
    def boot_id(self) -> str:
        """The kernel's id of this boot."""
        return boot.current()

    def driver(self, connection_info: 'ConnectionInfo') -> 'VolumeDriver':
        """Return the driver of a volume.

        :raises VolumeDriverNotFound, PluginRefused, PluginConflict
        """
        return self.registry.get(connection_info.driver_volume_type)

    def users(self) -> 'users.Users':
        """Return who uses what on this host."""
        return users.Users(self.journal, self.hypervisor)

    def volume_lock(self, volume_id: str) -> str:
        """Return the name of the lock that an operation has all the time."""
        return f'volume {volume_id}'

    def lock_volume(
        self, volume_id: str, operation: str, guest: str, *, seconds: float | None = None
    ) -> 'Held':
        """Lock a volume against every other operation of this host.

        :param seconds: how long to wait; default: option lock_timeout
        :raises LockHeld: names who has it
        """
        return self.locks.acquire(
            (self.volume_lock(volume_id),),
            what=f'{operation} of volume {volume_id} and guest {guest}',
            seconds=self.options.lock_timeout if seconds is None else seconds,
        )
