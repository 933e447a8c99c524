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

"""What the stand-ins have in common whose volumes are files that a client shows.

What is stored lies in a directory of this machine; the client is a process
that is there while its file system is mounted.
"""

import json
import pathlib
import signal
import typing

from tests.lab.standins.fuse_mount import SESSIONS
from tests.lab.storage import backend
from tests.lab.storage import cinder_info
from tests.lab.storage import image_file
from tests.lab.storage.image_volume import settled
from tests.lab.storage.records import Records
from tests.lab.storage.records import sync_directory
from tests.lab.storage.server_process import comm
from tests.lab.storage.server_process import send


class SharedFileVolume(backend.Volume):
    """A file of a share; the guest's QEMU sees it through the vendor's client."""

    def __init__(self, share: 'SharedFileBackend', volume_id: str) -> None:
        self.share = share
        self.volume_id = volume_id
        self.record = share.records.load(volume_id)

    @property
    def size(self) -> int:  # type: ignore[override]
        return self.file.stat().st_size

    @property
    def name(self) -> str:
        """As Cinder calls the file."""
        return f'volume-{self.volume_id}'

    @property
    def file(self) -> pathlib.Path:
        """Where it is stored."""
        return self.share.place_of(self.name)

    def connection_info(self) -> dict[str, typing.Any]:
        data = self.share.data(self)
        return cinder_info.connection_info(self.share.protocol, self.volume_id, data)

    def read(self, offset: int, length: int) -> bytes:
        return image_file.read(self.file, 'raw', offset, length)

    def write(self, offset: int, data: bytes) -> None:
        image_file.write(self.file, 'raw', offset, data)

    def grow(self, size: int) -> None:
        """Do nothing: QEMU lets the file grow, and Cinder only notes the new size."""

    def identity(self) -> str:
        return f'file:{self.share.export}/{self.name}#{self.file.stat().st_ino}'

    def seen_by_target(self) -> list[str]:
        return settled(lambda: self.share.sessions(self.name))

    def secrets(self) -> list[str]:
        return list(self.share.passwords)

    def withdraw(self) -> None:
        """Take the file away, as whoever deletes it in the storage does."""
        if self.file.exists():
            self.file.rename(self._aside)

    def give_back(self) -> None:
        if self._aside.exists():
            self._aside.replace(self.file)

    def give_place_to(self, other: backend.Volume) -> None:
        """Let another volume's file have this one's name."""
        if not isinstance(other, SharedFileVolume):
            raise backend.Unreachable('another kind of volume cannot have its place')
        self.withdraw()
        # A second name of the same file, so the other one can be read by its own.
        self.file.hardlink_to(other.file)

    def delete(self) -> None:
        for path in (self.file, self._aside):
            path.unlink(missing_ok=True)
        self.share.records.forget(self.volume_id)

    @property
    def _aside(self) -> pathlib.Path:
        return self.file.with_name(f'{self.file.name}.aside')


class SharedFileBackend(backend.Backend):
    """A share of a vendor's, and its client on this host.

    :cvar protocol: driver_volume_type
    :cvar export: what Cinder calls the share, as identities have it
    :cvar passwords: which must appear nowhere
    """

    protocol: typing.ClassVar[str]
    export: typing.ClassVar[str]
    passwords: typing.ClassVar[tuple[str, ...]] = ()
    faults = ('server hangs',)

    @property
    def records(self) -> Records:
        return Records(backend.STATE / 'standins' / self.name / 'records')

    @property
    def directory(self) -> pathlib.Path:
        """What the client shows."""
        return share_directory(self.name)

    def place_of(self, name: str) -> pathlib.Path:
        """Return where a volume's file is stored."""
        return self.directory / name

    def data(self, volume: SharedFileVolume) -> dict[str, typing.Any]:
        """Return what the volume driver of Cinder says of a volume."""
        return {'export': self.export, 'name': volume.name, 'format': 'raw'}

    def make_volume(self, volume_id: str, size: int) -> SharedFileVolume:
        self.records.save(volume_id, {})
        volume = SharedFileVolume(self, volume_id)
        volume.file.parent.mkdir(parents=True, exist_ok=True)
        with volume.file.open('wb') as file:
            file.truncate(size)
        volume.file.chmod(0o666)
        sync_directory(volume.file.parent)
        return volume

    def find_volume(self, volume_id: str) -> SharedFileVolume:
        return SharedFileVolume(self, volume_id)

    def sessions(self, name: str) -> list[str]:
        """Return the clients that have the share, and whether a file is open there."""
        found = []
        for pid, session in self._clients().items():
            found.append(f'client {pid} has the share at {session["mount_point"]}')
            if any(pathlib.PurePath(path).name == name for path in session['open']):
                found.append(f'client {pid} has {name} open')
        return found

    def break_(self, fault: str, **where: typing.Any) -> None:
        if fault not in self.faults:
            raise backend.Unreachable(f'{self.name} does not know how to {fault}')
        for pid in self._clients():
            send(pid, signal.SIGSTOP)

    def mend(self) -> None:
        for pid in self._clients():
            send(pid, signal.SIGCONT)

    def _clients(self) -> dict[int, dict[str, typing.Any]]:
        found = {}
        for path in (SESSIONS / self.name).glob('*.json'):
            pid = int(path.stem)
            if comm(pid) is None:
                # It was killed.
                path.unlink(missing_ok=True)
            else:
                found[pid] = json.loads(path.read_text())
        return found


def share_directory(name: str) -> pathlib.Path:
    """Return where a back end keeps its files."""
    return backend.STATE / 'standins' / name / 'share'
