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

"""Files that hold a disk, raw or qcow2, read and written where they are stored."""

import os
import pathlib
import tempfile

from tests.lab.storage.server_process import CommandFailed
from tests.lab.storage.server_process import run
from tests.lab.waiting import wait_until

_SECTOR = 512


def create(path: pathlib.Path, image_format: str, size: int) -> None:
    """Make an image of so many bytes, as Cinder's drivers for shares do."""
    run('qemu-img', 'create', '-q', '-f', image_format, str(path), str(size))
    # Cinder does so where the service that runs QEMU has no other way.
    path.chmod(0o666)


def grow(path: pathlib.Path, image_format: str, size: int) -> None:
    """Give an image that nobody uses a new size in bytes."""
    run('qemu-img', 'resize', '-q', '-f', image_format, str(path), str(size))


def read(path: pathlib.Path, image_format: str, offset: int, length: int) -> bytes:
    """Read what a guest would read there; QEMU may have the image open."""
    if image_format == 'raw':
        with path.open('rb') as file:
            return os.pread(file.fileno(), length, offset)
    where = f'driver={image_format},file.driver=file,file.filename={path}'
    return read_node(where, offset, length)


def write(path: pathlib.Path, image_format: str, offset: int, data: bytes) -> None:
    """Write what a guest will read there; nobody may have a qcow2 image open."""
    if image_format == 'raw':
        with path.open('r+b') as file:
            os.pwrite(file.fileno(), data, offset)
            os.fsync(file.fileno())
        return
    write_node(f'driver={image_format},file.driver=file,file.filename={path}', offset, data)


def luks_header(passphrase: str) -> bytes:
    """Return what an empty volume of LUKS version 1 begins with, as Cinder would have it."""
    with tempfile.TemporaryDirectory() as directory:
        key, image = pathlib.Path(directory, 'key'), pathlib.Path(directory, 'image')
        key.write_text(passphrase)
        wait_until(lambda: _format_luks(image, key), 'qemu-img to make a LUKS header')
        return image.read_bytes()


def _format_luks(image: pathlib.Path, key: pathlib.Path) -> bool:
    """Format an empty image; False: this time qemu-img could not measure the processor."""
    cipher = 'cipher-alg=aes-256,cipher-mode=xts,ivgen-alg=plain64'
    try:
        run(
            'qemu-img',
            'create',
            '-q',
            '--object',
            f'secret,id=key,file={key}',
            '-f',
            'luks',
            '-o',
            f'key-secret=key,{cipher},iter-time=10',
            str(image),
            str(_SECTOR),
        )
    except CommandFailed as error:
        if 'accurate CPU usage' not in str(error):
            raise
        return False
    return True


def read_node(where: str, offset: int, length: int) -> bytes:
    """Read from what QEMU's --image-opts describes, beside whoever has it open."""
    start = offset // _SECTOR * _SECTOR
    end = -(-(offset + length) // _SECTOR) * _SECTOR
    inner = ','.join(f'file.{option}' for option in where.split(','))
    with tempfile.NamedTemporaryFile() as copy:
        run(
            'qemu-img',
            'convert',
            '--force-share',
            '--image-opts',
            f'driver=raw,offset={start},size={end - start},{inner}',
            '-O',
            'raw',
            copy.name,
        )
        return pathlib.Path(copy.name).read_bytes()[offset - start :][:length]


def write_node(where: str, offset: int, data: bytes) -> None:
    """Write to what QEMU's --image-opts describes."""
    with tempfile.NamedTemporaryFile() as pattern:
        pattern.write(data)
        pattern.flush()
        said = run(
            'qemu-io',
            '--image-opts',
            where,
            '-c',
            f'write -s {pattern.name} {offset} {len(data)}',
            '-c',
            'flush',
        )
    if f'wrote {len(data)}/{len(data)} bytes' not in said:
        raise OSError(f'qemu-io: {said.strip()}')
