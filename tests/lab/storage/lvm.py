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

"""LVM: thin volumes of this host itself, for the driver ``local``."""

import mmap
import os
import pathlib
import typing

from tests.lab.storage import backend
from tests.lab.storage import loop
from tests.lab.storage.cinder_info import connection_info
from tests.lab.storage.configfs import modprobe
from tests.lab.storage.records import Records
from tests.lab.storage.server_process import run
from tests.lab.storage.server_process import succeeds

SIZE = 4 << 30  # bytes of the physical volume, most of them holes
GROUP = 'labvg'
POOL = 'pool'
_BLOCK = 4096


class LvmBackend(backend.Backend):
    """A volume group on a loop device, with one thin pool."""

    name = 'lvm'

    def __init__(self, state: pathlib.Path = backend.STATE) -> None:
        self.state = state / self.name
        self.records = Records(self.state / 'volumes')

    def up(self) -> None:
        modprobe('dm-thin-pool')
        self._image.parent.mkdir(parents=True, exist_ok=True)
        if not self._image.exists():
            with self._image.open('wb') as file:
                file.truncate(SIZE)
        device = str(loop.attach(self._image))
        if not succeeds(*self.command('vgs', GROUP)):
            self.lvm('pvcreate', '-ffy', device)
            self.lvm('vgcreate', GROUP, device)
        if not succeeds(*self.command('lvs', f'{GROUP}/{POOL}')):
            self.lvm('lvcreate', '-qy', '-T', '-l', '90%VG', '-Zn', f'{GROUP}/{POOL}')
        self.lvm('vgchange', '-qay', GROUP)

    def is_up(self) -> bool:
        return loop.find(self._image) is not None and succeeds(
            *self.command('lvs', f'{GROUP}/{POOL}')
        )

    def make_volume(
        self, volume_id: str, size: int, *, encrypted: bool = False, **variant: typing.Any
    ) -> 'LvmVolume':
        """Make a thin volume."""
        if variant:
            raise backend.Unreachable(f'{self.name} has no {", ".join(sorted(variant))}')
        self.records.save(volume_id, {'encrypted': encrypted, 'name': f'volume-{volume_id}'})
        volume = self.find_volume(volume_id)
        self.lvm('lvcreate', '-qy', '-T', f'{GROUP}/{POOL}', '-V', f'{size}b', '-n', volume.name)
        return volume

    def find_volume(self, volume_id: str) -> 'LvmVolume':
        return LvmVolume(self, volume_id)

    def lvm(self, *arguments: str) -> str:
        """Run one of LVM's commands; return what it printed."""
        return run(*self.command(*arguments))

    def command(self, name: str, *arguments: str) -> tuple[str, ...]:
        """Return the command, which looks at the one physical volume only.

        It must not wait for a disk of some target that is dead on purpose.
        """
        return name, '--devices', str(loop.find(self._image)), *arguments

    @property
    def _image(self) -> pathlib.Path:
        return self.state / 'disk.img'


class LvmVolume(backend.Volume):
    """One logical volume.

    :ivar record: name and encrypted
    """

    def __init__(self, group: LvmBackend, volume_id: str) -> None:
        self.group = group
        self.volume_id = volume_id
        self.record = group.records.load(volume_id)

    @property
    def name(self) -> str:
        return typing.cast(str, self.record['name'])

    @property
    def size(self) -> int:  # type: ignore[override]
        return int(self._ask('lv_size', '--units', 'b', '--nosuffix'))

    @property
    def path(self) -> pathlib.Path:
        return pathlib.Path('/dev', GROUP, self.name)

    def connection_info(self) -> dict[str, typing.Any]:
        return connection_info(
            'local',
            self.volume_id,
            {'device_path': f'/dev/{GROUP}/{self.name}'},
            encrypted=self.record['encrypted'],
        )

    def read(self, offset: int, length: int) -> bytes:
        """Read the device past its cache."""
        start = offset // _BLOCK * _BLOCK
        end = -(-(offset + length) // _BLOCK) * _BLOCK
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECT)
        try:
            # Direct I/O wants memory that begins at a page.
            with mmap.mmap(-1, end - start) as memory:
                count = os.preadv(descriptor, [memory], start)
                return memory[offset - start : min(offset - start + length, count)]
        finally:
            os.close(descriptor)

    def write(self, offset: int, data: bytes) -> None:
        with self.path.open('r+b', buffering=0) as device:
            os.pwrite(device.fileno(), data, offset)
            os.fsync(device.fileno())
            # A reader that goes past the cache is not given what is in it.
            os.posix_fadvise(device.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def grow(self, size: int) -> None:
        self.group.lvm('lvextend', '-qy', '-L', f'{size}b', f'{GROUP}/{self.name}')

    def identity(self) -> str:
        group, volume = self._ask('vg_uuid,lv_uuid').split()
        return f'uuid:LVM-{group}{volume}'.replace('-', '').replace('LVM', 'LVM-', 1)

    def seen_by_target(self) -> list[str]:
        """Return how often the device is open; LVM knows no more."""
        count = run('dmsetup', 'info', '-c', '--noheadings', '-o', 'open', str(self.path)).strip()
        return [] if count == '0' else [f'open {count} times']

    def withdraw(self) -> None:
        """Let every read and write of it fail."""
        run('dmsetup', 'wipe_table', str(self.path))

    def give_place_to(self, other: backend.Volume) -> None:
        """Let another volume have this one's name."""
        assert isinstance(other, LvmVolume)
        name = self.name
        self._rename(f'{name}.aside')
        self._save(place=name)
        other._rename(name)

    def give_back(self) -> None:
        """End ``withdraw``, or give it its name back."""
        place = self.record.get('place')
        if place is None:
            self.group.lvm('lvchange', '--refresh', f'{GROUP}/{self.name}')
            return
        for volume_id, record in self.group.records.all().items():
            if record['name'] == place:
                LvmVolume(self.group, volume_id)._rename(f'volume-{volume_id}.aside')
        self._rename(place)
        self._save(place=None)

    def delete(self) -> None:
        # By now another volume may have given it another name, or had its name.
        try:
            self.record = self.group.records.load(self.volume_id)
        except KeyError:
            return
        if succeeds(*self.group.command('lvs', f'{GROUP}/{self.name}')):
            self.group.lvm('lvremove', '-qfy', f'{GROUP}/{self.name}')
        self.group.records.forget(self.volume_id)

    def _ask(self, fields: str, *more: str) -> str:
        return self.group.lvm(
            'lvs', '--noheadings', '-o', fields, *more, f'{GROUP}/{self.name}'
        ).strip()

    def _rename(self, name: str) -> None:
        # Written when it is done: a power cut between the two is no case of the lab.
        self.group.lvm('lvrename', '-qy', GROUP, self.name, name)
        self._save(name=name)

    def _save(self, **changes: typing.Any) -> None:
        self.record.update(changes)
        self.group.records.save(self.volume_id, self.record)
