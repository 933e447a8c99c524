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

"""What the back ends that serve files have in common: a volume is a file in a directory."""

import abc
import os
import pathlib
import time
import typing

from tests.lab.storage import backend
from tests.lab.storage import image_file
from tests.lab.storage import packet_filter
from tests.lab.storage.cinder_info import connection_info
from tests.lab.storage.records import Records
from tests.lab.storage.records import sync_directory

ADDRESS = backend.NETWORKS[0]


class ShareBackend(backend.Backend):
    """A server of files; all its volumes are on one share.

    :cvar protocol: driver_volume_type
    :cvar ports: of TCP, at which the server is reached
    :cvar names_kept: seconds that a client believes what a name has led to
    """

    protocol: typing.ClassVar[str]
    ports: typing.ClassVar[tuple[int | str, ...]]
    names_kept: typing.ClassVar[float] = 0.0
    faults = ('portal drops', 'portal refuses', 'server hangs', 'daemon killed')

    def __init__(self, state: pathlib.Path = backend.STATE) -> None:
        self.state = state / self.name
        self.records = Records(self.state / 'volumes')

    @property
    def files(self) -> pathlib.Path:
        """The directory that is shared, as the server itself has it."""
        return self.state / 'files'

    @property
    @abc.abstractmethod
    def export(self) -> str:
        """What Cinder calls the share."""

    @abc.abstractmethod
    def seen(self, volume: 'ShareVolume') -> list[str]:
        """Return what the server has of this host for a volume."""

    @abc.abstractmethod
    def kill_daemon(self) -> None:
        """End what serves, without a word to its clients."""

    def make_file(self, volume: 'ShareVolume', size: int) -> None:
        """Make the file of a new volume."""
        image_file.create(volume.path, volume.record['format'], size)

    def rename_file(self, old: str, new: str) -> None:
        """Give a file another name."""
        os.rename(self.files / old, self.files / new)
        sync_directory(self.files)

    def remove_file(self, name: str) -> None:
        """Remove a file; there may be none."""
        (self.files / name).unlink(missing_ok=True)
        sync_directory(self.files)

    def file_identity(self, volume: 'ShareVolume') -> str:
        """Return the file's name on the share, with what a client has to see as its inode."""
        return f'{self.export}/{volume.record["name"]}#{volume.path.stat().st_ino}'

    def mount_options(self, volume: 'ShareVolume') -> str | None:
        """Return the mount options that Cinder sends with a volume."""
        options: str | None = volume.record['options']
        return options

    def secrets(self) -> list[str]:
        """Return the secrets in the mount options."""
        return []

    def make_volume(
        self,
        volume_id: str,
        size: int,
        *,
        format: str = 'raw',
        options: str | None = None,
        client: str = '',
        encrypted: bool = False,
        **variant: typing.Any,
    ) -> 'ShareVolume':
        """Make a file on the share.

        :param format: raw or qcow2
        :param options: mount options, as Cinder has them of its configuration
        :param client: qemu, where the host has a choice and takes this one
        """
        if variant:
            raise backend.Unreachable(f'{self.name} has no {", ".join(sorted(variant))}')
        record = {
            'name': f'volume-{volume_id}',
            'format': format,
            'options': options,
            'client': client,
            'encrypted': encrypted,
            'size': size,
        }
        self.records.save(volume_id, record)
        volume = ShareVolume(self, volume_id)
        self.make_file(volume, size)
        sync_directory(self.files)
        return volume

    def find_volume(self, volume_id: str) -> 'ShareVolume':
        return ShareVolume(self, volume_id)

    def break_(self, fault: str, **where: typing.Any) -> None:
        if fault in ('portal drops', 'server hangs'):
            packet_filter.drop(self.name, [ADDRESS], self.ports)
        elif fault == 'portal refuses':
            packet_filter.refuse(self.name, [ADDRESS], self.ports)
        elif fault == 'daemon killed':
            self.kill_daemon()
        else:
            super().break_(fault, **where)

    def mend(self) -> None:
        packet_filter.clear(self.name)
        self.up()


class ShareVolume(backend.Volume):
    """One file.

    :ivar record: name, format, options, client, encrypted, size
    """

    def __init__(self, server: ShareBackend, volume_id: str) -> None:
        self.server = server
        self.volume_id = volume_id
        self.record = server.records.load(volume_id)

    @property
    def size(self) -> int:  # type: ignore[override]
        return typing.cast(int, self.record['size'])

    @property
    def path(self) -> pathlib.Path:
        """The file, as the server itself has it."""
        return self.server.files / self.record['name']

    def connection_info(self) -> dict[str, typing.Any]:
        data = {
            'export': self.server.export,
            'name': self.record['name'],
            'options': self.server.mount_options(self),
            'format': self.record['format'],
        }
        return connection_info(
            self.server.protocol, self.volume_id, data, encrypted=self.record['encrypted']
        )

    def secrets(self) -> list[str]:
        return self.server.secrets()

    def read(self, offset: int, length: int) -> bytes:
        return image_file.read(self.path, self.record['format'], offset, length)

    def write(self, offset: int, data: bytes) -> None:
        image_file.write(self.path, self.record['format'], offset, data)

    def grow(self, size: int) -> None:
        """Grow the file, unless a guest has it: then its QEMU does.

        Cinder's drivers for shares refuse to, or leave it to the host.
        """
        if not self.server.seen(self):
            image_file.grow(self.path, self.record['format'], size)
        self._save(size=size)

    def identity(self) -> str:
        return f'file:{self.server.file_identity(self)}'

    def seen_by_target(self) -> list[str]:
        return self.server.seen(self)

    def give_place_to(self, other: backend.Volume) -> None:
        """Let another file have this one's name, as after a restore gone wrong."""
        assert isinstance(other, ShareVolume)
        name = self.record['name']
        self._rename(f'{name}.aside')
        self._save(place=name)
        other._rename(name)

    def give_back(self) -> None:
        """Give this file its name back; whoever has it now is set aside."""
        place = self.record.get('place')
        if place is None:
            raise backend.Unreachable('a file cannot be taken away from its share alone')
        for volume_id, record in self.server.records.all().items():
            if record['name'] == place:
                ShareVolume(self.server, volume_id)._rename(f'volume-{volume_id}.aside')
        self._rename(place)
        self._save(place=None)

    def delete(self) -> None:
        # By now another volume may have given it another name, or had its name.
        try:
            self.record = self.server.records.load(self.volume_id)
        except KeyError:
            return
        self.server.remove_file(self.record['name'])
        self.server.records.forget(self.volume_id)

    def _rename(self, name: str) -> None:
        before = self.record['name']
        self._save(name=name)
        self.server.rename_file(before, name)
        # No condition says when a client has forgotten.
        time.sleep(self.server.names_kept)

    def _save(self, **changes: typing.Any) -> None:
        self.record.update(changes)
        self.server.records.save(self.volume_id, self.record)
