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

"""Storage of somebody who has named its volumes; most of it cannot be asked anything."""

from collections.abc import Callable
from collections.abc import Mapping
import copy
import subprocess
import typing

from tests.lab.hosts.cinder_volumes import CinderVolumes
from tests.lab.hosts.description import Description
from tests.lab.hosts.description import Storage
from tests.lab.hosts.description import Volume
from tests.lab.rows import Row
from tests.lab.rpc.client import TIMEOUT
from tests.lab.rpc.client import Session
from tests.lab.storage.backend import Unreachable

MIB = 1 << 20
# Up to this size the whole volume is looked at before it is written to.
SMALL = 256 * MIB
STEP = 8 * MIB
PLACES = 256
COMMAND_TIMEOUT = 600.0  # seconds


class VolumeHoldsData(Exception):
    """A volume has something in it, and nobody said that it may be overwritten."""


class CommandFailed(Exception):
    """A command of the description did not do what it is for."""


class Described(dict[str, typing.Any]):
    """What the storage says of a volume; asking for what nobody knows is an error of its own."""

    def __getitem__(self, key: str) -> typing.Any:
        if key == 'identity' and super().__getitem__(key) is None:
            raise Unreachable('the description does not say the identity of the volume')
        return super().__getitem__(key)


class NamedStorage:
    """As ``tests.lab.storage.served.Storage``, here on the controller.

    :param open_bench: returns a session of the bench for a row
    :raises Unreachable: by every call that asks what nobody can tell
    """

    def __init__(self, description: Description, open_bench: Callable[[Row], Session]) -> None:
        self._description = description
        self._open_bench = open_bench
        self._rows = {row.name: row for row in description.rows}
        self._cinder: dict[str, CinderVolumes] = {}
        self._used: dict[str, tuple[str, Volume]] = {}
        self._ours: set[str] = set()
        self._sizes: dict[str, int] = {}
        self._broken: set[tuple[str, str]] = set()
        self._refused: dict[str, str] = {}

    def call(self, call: str, /, timeout: float = TIMEOUT, **arguments: object) -> typing.Any:
        """Call by name, as a session is called."""
        if call.startswith('_'):
            raise AttributeError(call)
        return getattr(self, call)(**arguments)

    def close(self) -> None:
        """Mend what is broken, and take away what was made."""
        for row, _ in list(self._broken):
            self.mend(row)
        for volumes in self._cinder.values():
            volumes.close()

    def up(self, backend: str) -> None:
        """It is somebody's, and up or not."""

    def make_volume(
        self, backend: str, size: int, variant: Mapping[str, typing.Any]
    ) -> dict[str, typing.Any]:
        """Return a volume of the row that nobody uses; Cinder makes one.

        :param backend: name of the row
        :param size: bytes at least
        :raises VolumeHoldsData
        """
        if self._storage(backend).cinder is not None:
            volume = self._cinder_of(backend).make(size)
        else:
            volume = self._free(backend, size)
            if not volume.may_be_overwritten and volume.volume_id not in self._ours:
                self._require_empty(self._rows[backend], volume)
            self._ours.add(volume.volume_id)
        self._used[volume.volume_id] = (backend, volume)
        return self._described(volume)

    def find_volume(self, backend: str, volume_id: str) -> dict[str, typing.Any]:
        """Return a volume that is in use already."""
        return self._described(self._volume(volume_id))

    def connection_info(self, volume_id: str) -> dict[str, typing.Any]:
        """Return what Cinder has said."""
        return copy.deepcopy(dict(self._volume(volume_id).connection_info))

    def read(self, volume_id: str, offset: int, length: int) -> bytes:
        """Read what is stored, where the description names a file that shows it."""
        with self._image(volume_id).open('rb') as image:
            image.seek(offset)
            return image.read(length)

    def write(self, volume_id: str, offset: int, data: bytes) -> None:
        """Write into that file."""
        with self._image(volume_id).open('r+b') as image:
            image.seek(offset)
            image.write(data)

    def grow(self, volume_id: str, size: int) -> None:
        """Let the volume grow, by Cinder or by the command of the description."""
        row, _ = self._used[volume_id]
        if self._storage(row).cinder is not None:
            self._cinder_of(row).grow(volume_id, size)
        else:
            self._command(row, 'grow', volume_id=volume_id, size=size)
        self._sizes[volume_id] = size

    def seen_by_target(self, volume_id: str) -> list[str]:
        """Return the lines that the command of the description prints."""
        row, _ = self._used[volume_id]
        return self._command(row, 'seen by target', volume_id=volume_id).splitlines()

    def withdraw(self, volume_id: str) -> None:
        """Nobody's volume is taken away."""
        raise Unreachable('the volumes of a description are not taken away')

    def give_back(self, volume_id: str) -> None:
        """None was taken away."""

    def give_place_to(self, volume_id: str, other: str) -> None:
        """Nobody's volume is moved."""
        raise Unreachable('the volumes of a description stay where they are')

    def delete(self, volume_id: str) -> None:
        """Let go of a volume; Cinder deletes the one that it made."""
        row, _ = self._used.pop(volume_id, (None, None))
        if row is not None and self._storage(row).cinder is not None:
            self._cinder_of(row).delete(volume_id)

    def faults(self, backend: str) -> list[str]:
        """Return the faults for which there is a command."""
        names = self._storage(backend).commands
        return [name.removeprefix('break ') for name in names if name.startswith('break ')]

    def break_(self, backend: str, fault: str, where: Mapping[str, typing.Any]) -> None:
        """Run the command that lets something go wrong."""
        self._broken.add((backend, fault))
        self._command(backend, f'break {fault}', **where)

    def mend(self, backend: str) -> None:
        """Run the commands that end what is wrong."""
        for row, fault in sorted(self._broken):
            if row == backend:
                self._command(backend, f'mend {fault}')
                self._broken.discard((row, fault))

    def _storage(self, row: str) -> Storage:
        return self._description.storages[row]

    def _cinder_of(self, row: str) -> CinderVolumes:
        if row not in self._cinder:
            cinder = self._storage(row).cinder
            assert cinder is not None
            self._cinder[row] = CinderVolumes(
                cinder, lambda: self._connector_properties(self._rows[row])
            )
        return self._cinder[row]

    def _connector_properties(self, row: Row) -> dict[str, typing.Any]:
        bench = self._open_bench(row)
        try:
            multipath = bool(row.options.get('volume_use_multipath', False))
            return typing.cast(
                dict[str, typing.Any], bench.call('connector_properties', multipath=multipath)
            )
        finally:
            bench.end()

    def _free(self, row: str, size: int) -> Volume:
        named = self._storage(row).volumes
        for volume in named:
            if volume.volume_id not in self._used and volume.size >= size:
                return volume
        raise Unreachable(
            f'it needs one volume more of {size // MIB} MiB; the description names {len(named)} '
            f'in row {row}'
        )

    def _volume(self, volume_id: str) -> Volume:
        return self._used[volume_id][1]

    def _image(self, volume_id: str) -> typing.Any:
        image = self._volume(volume_id).image
        if image is None:
            raise Unreachable('what this storage holds can be read by no other way')
        return image

    def _described(self, volume: Volume) -> dict[str, typing.Any]:
        return Described(
            volume_id=volume.volume_id,
            size=self._sizes.get(volume.volume_id, volume.size),
            connection_info=copy.deepcopy(dict(volume.connection_info)),
            identity=volume.identity,
            secrets=[*self._description.secrets, *volume.secrets],
        )

    def _command(self, row: str, name: str, **values: object) -> str:
        command = self._storage(row).commands.get(name)
        if command is None:
            raise Unreachable(f'the description has no command for: {name}')
        argv = [_filled(part, values) for part in command]
        done = subprocess.run(
            argv, check=False, capture_output=True, text=True, timeout=COMMAND_TIMEOUT
        )
        if done.returncode:
            raise CommandFailed(
                f'{name} of row {row}: {argv[0]} ended with {done.returncode}: {done.stderr}'
            )
        return done.stdout

    def _require_empty(self, row: Row, volume: Volume) -> None:
        """Look at a volume by a guest, and refuse it unless zeros are all there is."""
        if volume.volume_id not in self._refused:
            where = self._find_data(row, volume)
            if where is None:
                return
            self._refused[volume.volume_id] = (
                f'{self._description.path}: row {row.name}: volume {volume.volume_id} holds data '
                f'in the {where[1]} bytes from {where[0]}; if it may be lost, say '
                'may_be_overwritten: true'
            )
        raise VolumeHoldsData(self._refused[volume.volume_id])

    def _find_data(self, row: Row, volume: Volume) -> tuple[int, int] | None:
        bench = self._open_bench(row)
        attached = {'volume_id': volume.volume_id, 'guest': 'second'}
        try:
            bench.call(
                'attach', guest='second', bus='scsi', connection_info=dict(volume.connection_info)
            )
            try:
                for offset, length in places(volume.size):
                    if not bench.call('reads', byte=0, offset=offset, length=length, **attached):
                        return offset, length
            finally:
                bench.call('detach', **attached)
        finally:
            bench.end()
        return None


def places(size: int) -> list[tuple[int, int]]:
    """Return where to look at a volume of so many bytes, as offsets and lengths.

    A small one is looked at as a whole, of a large one both ends and many
    places between.
    """
    if size <= SMALL:
        return [(offset, min(STEP, size - offset)) for offset in range(0, size, STEP)]
    distance = size // PLACES // STEP * STEP or STEP
    between = [(offset, 64 << 10) for offset in range(STEP, size - STEP, distance)]
    return [(0, STEP), *between, (size - STEP, STEP)]


def _filled(text: str, values: Mapping[str, object]) -> str:
    for name, value in values.items():
        text = text.replace(f'{{{name}}}', str(value))
    return text
