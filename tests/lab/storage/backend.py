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

"""What the lab's storage can do: the interface of every back end and its volumes.

A back end is real storage on the machine that this runs on.  ``up`` brings it
up from whatever state it finds: nothing yet, up already, or a machine whose
power was cut; volumes that were made before a power cut are served again as
they were.  The state that this needs is in files below ``STATE``, written
before the thing they describe.
"""

import abc
import pathlib
import typing

STATE = pathlib.Path('/srv/lab')

# Addresses of the two storage networks; both ends are in the one machine.
NETWORKS = ('10.10.1.1', '10.10.2.1')
NETWORKS6 = ('fd00:10:10:1::1', 'fd00:10:10:2::1')

MIB = 1 << 20


class Unreachable(Exception):
    """This back end cannot be asked for that; the sentence says why."""


class Volume(abc.ABC):
    """A volume that a back end has made.

    :ivar volume_id: a UUID, as Cinder would give it
    :ivar size: bytes
    """

    volume_id: str
    size: int

    @abc.abstractmethod
    def connection_info(self) -> dict[str, typing.Any]:
        """Return what Cinder would send to this host; a new dict at each call."""

    @abc.abstractmethod
    def read(self, offset: int, length: int) -> bytes:
        """Read what is stored, past the initiator and its caches."""

    @abc.abstractmethod
    def write(self, offset: int, data: bytes) -> None:
        """Write into what is stored, past the initiator."""

    @abc.abstractmethod
    def grow(self, size: int) -> None:
        """Let the volume have a new size in bytes, and the target tell whoever asks."""

    @abc.abstractmethod
    def identity(self) -> str:
        """Return the volume's name of its own as the host has to find it.

        In the form in which ``ConnectedVolume.identity`` is printed, made from
        what the back end knows and not from what the host has found.
        """

    @abc.abstractmethod
    def seen_by_target(self) -> list[str]:
        """Return what the target has of this host for this volume now, one line each.

        Sessions, controllers, logins, watchers, open files; empty: nothing.
        """

    @abc.abstractmethod
    def delete(self) -> None:
        """Stop serving it, and forget it; once more is fine."""

    def secrets(self) -> list[str]:
        """Return the secrets in connection_info, which must appear nowhere."""
        return []

    # What only some can do.

    def withdraw(self) -> None:
        """Take the volume away while the host uses it, as when a LUN is unmapped."""
        raise Unreachable(f'{type(self).__name__} cannot be taken away')

    def give_back(self) -> None:
        """Serve it again after ``withdraw``."""
        raise Unreachable(f'{type(self).__name__} cannot be taken away')

    def give_place_to(self, other: 'Volume') -> None:
        """Let another volume have this one's place: the same LUN, namespace or name."""
        raise Unreachable(f'{type(self).__name__} has no place that another one can have')


class Backend(abc.ABC):
    """Storage that serves volumes over one protocol.

    :cvar name: by which rows call it
    :cvar faults: names of what ``break_`` can do
    """

    name: typing.ClassVar[str]
    faults: typing.ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def up(self) -> None:
        """Serve; everything that was served before the last power cut as well."""

    @abc.abstractmethod
    def is_up(self) -> bool:
        """Say whether it serves now."""

    @abc.abstractmethod
    def make_volume(self, volume_id: str, size: int, **variant: typing.Any) -> Volume:
        """Make a volume and serve it to this host.

        :param size: bytes
        :param variant: what the row wants, such as ``portals=2, chap=True``
        """

    @abc.abstractmethod
    def find_volume(self, volume_id: str) -> Volume:
        """Return a volume that was made before, by this process or another.

        :raises KeyError: there is none
        """

    def break_(self, fault: str, **where: typing.Any) -> None:
        """Let something go wrong until ``mend``.

        :param fault: one of ``faults``: ``portal drops`` (packets vanish),
            ``portal refuses``, ``portal down``, ``server hangs``,
            ``daemon killed``
        :param where: which portal (0, 1) or daemon
        """
        raise Unreachable(f'{self.name} does not know how to {fault}')

    def mend(self) -> None:
        """End every fault, and wait until the storage serves again."""
        if self.faults:
            raise Unreachable(f'{self.name} does not know how to end a fault')
