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

"""Volumes for guest tests: raw and qcow2 files, and NBD."""

import abc
import pathlib
import subprocess
import typing

from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.disk import Driver
from volumedrivers.libvirt.disk import Host
from volumedrivers.libvirt.disk import Source
from volumedrivers.libvirt.disk import Target
from volumedrivers.testing.libvirtd import find_program
from volumedrivers.testing.nbd import NbdServer

SIZE = 8 * 2**20


def run(program: str, *arguments: str) -> str:
    return subprocess.run(
        [find_program(program, 'qemu-utils'), *arguments],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
    ).stdout


def make_luks(path: pathlib.Path, size: int, passphrase: str) -> None:
    """Make an encrypted file of that many bytes, of which the header takes the first."""
    with path.open('wb') as image:
        image.truncate(size)
    subprocess.run(
        [
            find_program('cryptsetup', 'cryptsetup-bin'),
            *('luksFormat', '--batch-mode', '--type', 'luks1'),
            *('--pbkdf-force-iterations', '1000', '--key-file', '-', str(path)),
        ],
        input=passphrase.encode(),
        check=True,
        capture_output=True,
        timeout=30,
    )


class Volume(abc.ABC):
    """A volume with a pattern in its first 64 KiB, seen from the storage's side."""

    FORMAT = 'raw'

    def __init__(self, directory: pathlib.Path, size: int = SIZE) -> None:
        self.path = directory / f'volume.{self.FORMAT}'
        run('qemu-img', 'create', '-q', '-f', self.FORMAT, str(self.path), str(size))
        self.write(0x11, 0)

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:  # noqa: B027 - a file has nothing to stop
        """Stop the server."""

    @property
    @abc.abstractmethod
    def source(self) -> Source: ...

    def disk(self, bus: str, dev: str, volume_id: str = 'volume') -> Disk:
        return Disk(
            type='file' if self.source.file else 'network',
            device='disk',
            driver=Driver(name='qemu', type=self.FORMAT, cache='writeback'),
            source=self.source,
            target=Target(dev=dev, bus=bus),
            serial=volume_id,
            alias=f'ua-{volume_id}',
        )

    def write(self, pattern: int, offset: int) -> None:
        self._io(f'write -P {pattern:#x} {offset} 64k')

    def holds(self, pattern: int, offset: int) -> bool:
        """Tell whether the 64 KiB there are of this value; no guest may have it open."""
        said = self._io(f'read -P {pattern:#x} {offset} 64k')
        assert 'read 65536/65536' in said, said
        return 'verification failed' not in said

    def _io(self, command: str) -> str:
        # qemu-io's return code for a pattern that differs is 1 as well.
        return subprocess.run(
            ['qemu-io', '-f', self.FORMAT, '-c', command, str(self.path)],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30,
        ).stdout


class RawVolume(Volume):
    @property
    def source(self) -> Source:
        return Source(file=str(self.path))


class Qcow2Volume(RawVolume):
    FORMAT = 'qcow2'


class NbdVolume(Volume):
    UNIX = False

    def __init__(self, directory: pathlib.Path, size: int = SIZE) -> None:
        super().__init__(directory, size)
        self.server = NbdServer(directory, image=self.path, unix=self.UNIX)

    def __enter__(self) -> typing.Self:
        self.server.start()
        return self

    def stop(self) -> None:
        self.server.stop()

    @property
    def source(self) -> Source:
        if self.UNIX:
            host = Host(transport='unix', socket=str(self.server.socket))
        else:
            host = Host(name='127.0.0.1', port=self.server.port)
        return Source(protocol='nbd', name=self.server.export or None, hosts=[host])


class NbdUnixVolume(NbdVolume):
    UNIX = True


KINDS: dict[str, type[Volume]] = {
    'raw': RawVolume,
    'qcow2': Qcow2Volume,
    'nbd': NbdVolume,
    'nbd-unix': NbdUnixVolume,
}
