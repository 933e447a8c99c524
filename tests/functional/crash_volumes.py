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

"""Volumes of the crash tests, seen from Cinder's side and from the storage's."""

import abc
import pathlib
import subprocess
import typing

from tests.functional.volumes import make_luks
from tests.functional.volumes import run
from volumedrivers.testing.libvirtd import find_program
from volumedrivers.testing.tgt import IscsiTarget

if typing.TYPE_CHECKING:
    from tests.functional.crash_host import Host

MIB = 2**20
SIZE = 8 * MIB
BLOCK = 65536
PASSPHRASE = 'a-passphrase-of-the-tests'
CHAP_PASSWORD = 'a-password-14'
KEY_ID = 'key-1'


class Volume(abc.ABC):
    """A volume with a pattern in its first block, and how it is seen from the storage.

    :ivar name: of the kind, for the table
    :ivar secrets: how many libvirt secrets it has while it is attached
    :ivar mounts: how many mounts
    """

    name: str
    secrets = 0
    mounts = 0
    can_grow = True
    encryption: dict[str, object] | None = None

    def __init__(self, host: 'Host', number: int) -> None:
        self.host = host
        self.id = f'c1b2d3e4-0000-4aaa-8bbb-{number:012x}'
        self.size = SIZE

    @property
    @abc.abstractmethod
    def info(self) -> dict[str, object]:
        """What Cinder says."""

    @abc.abstractmethod
    def image(self) -> str:
        """Return what qemu-io opens, while no guest has it open."""

    def write(self, pattern: int, block: int) -> None:
        self._qemu_io(f'write -P {pattern:#x} {block * BLOCK} {BLOCK}')

    def holds(self, pattern: int, block: int) -> bool:
        said = self._qemu_io(f'read -P {pattern:#x} {block * BLOCK} {BLOCK}')
        assert f'read {BLOCK}/{BLOCK}' in said, said
        return 'verification failed' not in said

    def grow(self, size: int) -> None:
        """Let the storage have more; QEMU does it for files."""
        self.size = size

    def sessions(self) -> int:
        """Return how many log-ins the storage sees."""
        return 0

    def close(self) -> None:  # noqa: B027 - a file on a server has nothing
        """Take the storage away."""

    def to_dict(self) -> dict[str, object]:
        # By its UUID also a guest that is gone.
        return {'info': self.info, 'guest': self.host.guest.uuid, 'encryption': self.encryption}

    def _qemu_io(self, command: str) -> str:
        # Its code is 1 as well for a pattern that differs.
        return subprocess.run(
            [
                'qemu-io',
                '--object',
                f'secret,id=key,data={PASSPHRASE}',
                '--image-opts',
                '-c',
                command,
                self.image(),
            ],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30,
        ).stdout


class ShareVolume(Volume):
    """A file on a GlusterFS that is mounted here."""

    name = 'raw'
    format = 'raw'
    mounts = 1
    create: tuple[str, ...] = ()

    def __init__(self, host: 'Host', number: int) -> None:
        super().__init__(host, number)
        # Through the servers, or GlusterFS would not know the file.
        place = host.server.directory / 'cinder'
        place.mkdir(exist_ok=True)
        run_root('mount', '-t', 'glusterfs', host.server.export, str(place))
        try:
            self._create(place / self.id)
        finally:
            run_root('umount', str(place))
        self.write(0x11, 0)

    def _create(self, path: pathlib.Path) -> None:
        run('qemu-img', 'create', '-q', '-f', self.format, str(path), str(SIZE))

    @property
    def info(self) -> dict[str, object]:
        return {
            'driver_volume_type': 'glusterfs',
            'serial': self.id,
            'data': {
                'export': self.host.server.export,
                'name': self.id,
                'format': self.format,
                'volume_id': self.id,
                'encrypted': self.encryption is not None,
            },
        }

    def image(self) -> str:
        return f'driver={self.format},file.filename={self.host.server.brick / self.id}'


class Qcow2Volume(ShareVolume):
    name = format = 'qcow2'


class EncryptedVolume(ShareVolume):
    """LUKS in a raw file, which QEMU decrypts."""

    name = 'luks'
    secrets = 1
    encryption: typing.ClassVar[dict[str, object]] = {
        'provider': 'luks',
        'encryption_key_id': KEY_ID,
        'cipher': 'aes-xts-plain64',
        'key_size': 256,
        'control_location': 'front-end',
    }

    def _create(self, path: pathlib.Path) -> None:
        make_luks(path, SIZE + 4 * MIB, PASSPHRASE)
        self.size = path.stat().st_size

    def image(self) -> str:
        path = self.host.server.brick / self.id
        return f'driver=luks,key-secret=key,file.filename={path}'


class IscsiVolume(Volume):
    """A LUN that QEMU logs in to, with CHAP."""

    name = 'iscsi'
    secrets = 1

    def __init__(self, host: 'Host', number: int) -> None:
        super().__init__(host, number)
        self.target = IscsiTarget(
            host.directory / f'target{number}',
            size=SIZE,
            iqn=f'iqn.2020-01.org.volumedrivers:target{number}',
            chap=('user', CHAP_PASSWORD),
        )
        self.target.start()
        self.write(0x11, 0)

    @property
    def info(self) -> dict[str, object]:
        return self.target.connection_info(self.id)

    def image(self) -> str:
        return f'driver=raw,file.filename={self.target.image}'

    def grow(self, size: int) -> None:
        super().grow(size)
        self.target.grow(size)

    def sessions(self) -> int:
        return self.target.sessions()

    def close(self) -> None:
        self.target.stop()


class LocalVolume(Volume):
    """A block device that stays on this host."""

    name = 'block'
    can_grow = False

    def __init__(self, host: 'Host', number: int) -> None:
        super().__init__(host, number)
        self.path = host.directory / f'local{number}'
        with self.path.open('wb') as image:
            image.truncate(SIZE)
        losetup = find_program('losetup', 'mount')
        self.device = run(losetup, '--find', '--show', str(self.path)).strip()
        self.write(0x11, 0)

    @property
    def info(self) -> dict[str, object]:
        return {
            'driver_volume_type': 'local',
            'serial': self.id,
            'data': {'device_path': self.device, 'volume_id': self.id},
        }

    def image(self) -> str:
        return f'driver=raw,file.driver=host_device,file.filename={self.device}'

    def close(self) -> None:
        run_root('losetup', '--detach', self.device)


KINDS: dict[str, type[Volume]] = {
    kind.name: kind
    for kind in (ShareVolume, Qcow2Volume, EncryptedVolume, IscsiVolume, LocalVolume)
}


def run_root(program: str, *arguments: str) -> None:
    subprocess.run([program, *arguments], check=True, capture_output=True, timeout=60)
