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

"""The storage of the lab, as the controller asks for it over the RPC."""

import importlib
import typing
import uuid

from tests.lab.storage import backend
from tests.lab.storage.backends import BACKENDS


def make_backend(name: str) -> backend.Backend:
    """Return a back end by its name."""
    module, _, kind = BACKENDS[name].partition(':')
    made: backend.Backend = getattr(importlib.import_module(module), kind)()
    return made


class Storage:
    """All back ends; volumes are called by their id.

    A session of the RPC: plain data in, plain data out.
    """

    def __init__(self) -> None:
        self._backends: dict[str, backend.Backend] = {}
        self._volumes: dict[str, backend.Volume] = {}
        self._at: dict[str, str] = {}

    def up(self, backend: str) -> None:
        """Bring a back end up."""
        self._backend(backend).up()

    def make_volume(
        self, backend: str, size: int, variant: dict[str, typing.Any]
    ) -> dict[str, typing.Any]:
        """Make a volume; return its id, size, connection_info, identity and secrets."""
        volume_id = str(uuid.uuid4())
        volume = self._backend(backend).make_volume(volume_id, size, **variant)
        self._volumes[volume_id] = volume
        return self._described(volume)

    def find_volume(self, backend: str, volume_id: str) -> dict[str, typing.Any]:
        """Find a volume again, after a power cut; the same answer as make_volume's."""
        volume = self._volumes[volume_id] = self._backend(backend).find_volume(volume_id)
        return self._described(volume)

    def connection_info(self, volume_id: str) -> dict[str, typing.Any]:
        """Return what Cinder would send now."""
        return self._volumes[volume_id].connection_info()

    def read(self, volume_id: str, offset: int, length: int) -> bytes:
        """Read what is stored."""
        return self._volumes[volume_id].read(offset, length)

    def write(self, volume_id: str, offset: int, data: bytes) -> None:
        """Write into what is stored."""
        self._volumes[volume_id].write(offset, data)

    def grow(self, volume_id: str, size: int) -> None:
        """Let a volume grow to so many bytes."""
        self._volumes[volume_id].grow(size)

    def seen_by_target(self, volume_id: str) -> list[str]:
        """Return what the target has of this host for the volume."""
        return self._volumes[volume_id].seen_by_target()

    def withdraw(self, volume_id: str) -> None:
        """Take a volume away while it is in use."""
        self._volumes[volume_id].withdraw()

    def give_back(self, volume_id: str) -> None:
        """Serve a withdrawn volume again."""
        self._volumes[volume_id].give_back()

    def give_place_to(self, volume_id: str, other: str) -> None:
        """Let another volume have a volume's place."""
        self._volumes[volume_id].give_place_to(self._volumes[other])

    def delete(self, volume_id: str) -> None:
        """Delete a volume."""
        volume = self._volumes.pop(volume_id, None)
        if volume is not None:
            volume.delete()

    def faults(self, backend: str) -> list[str]:
        """Return the names of the faults that a back end can have."""
        return list(self._backend(backend).faults)

    def break_(self, backend: str, fault: str, where: dict[str, typing.Any]) -> None:
        """Let something go wrong."""
        self._backend(backend).break_(fault, **where)

    def mend(self, backend: str) -> None:
        """End the faults of a back end."""
        self._backend(backend).mend()

    def _backend(self, name: str) -> backend.Backend:
        if name not in self._backends:
            self._backends[name] = make_backend(name)
        return self._backends[name]

    @staticmethod
    def _described(volume: backend.Volume) -> dict[str, typing.Any]:
        return {
            'volume_id': volume.volume_id,
            'size': volume.size,
            'connection_info': volume.connection_info(),
            'identity': volume.identity(),
            'secrets': volume.secrets(),
        }
