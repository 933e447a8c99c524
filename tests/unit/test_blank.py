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

"""What counts as blank, and how what is not blank is called."""

import errno
import os
import pathlib
import subprocess

import pytest

from volumedrivers.privsep import blank
from volumedrivers.testing.libvirtd import find_program

MIB = 2**20
SIZE = 64 * MIB


@pytest.fixture
def image(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / 'image'
    with path.open('wb') as file:
        file.truncate(SIZE)
    return path


def look(path: pathlib.Path) -> str | None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return blank.look(descriptor, path.stat().st_size)
    finally:
        os.close(descriptor)


def put(path: pathlib.Path, data: bytes, offset: int) -> None:
    with path.open('r+b') as file:
        file.seek(offset)
        file.write(data)


def test_hole_is_blank(image: pathlib.Path) -> None:
    assert look(image) is None


def test_zeros_are_blank(image: pathlib.Path) -> None:
    put(image, bytes(SIZE), 0)
    assert look(image) is None


def test_huge_hole_is_blank_at_once(image: pathlib.Path) -> None:
    os.truncate(image, 8 << 40)
    assert look(image) is None


def test_tiny_and_empty(image: pathlib.Path) -> None:
    os.truncate(image, 512)
    assert look(image) is None
    put(image, b'x', 511)
    assert look(image) == 'there is data on it, first at byte 511'
    os.truncate(image, 0)
    assert look(image) is None


@pytest.mark.parametrize(
    'offset',
    [0, 1, 4095, MIB, 16 * MIB - 1, SIZE - MIB, SIZE - 1],
    ids=str,
)
def test_a_byte_is_found_where_a_header_would_be(image: pathlib.Path, offset: int) -> None:
    put(image, b'\1', offset)
    assert look(image) == f'there is data on it, first at byte {offset}'


def test_data_in_the_middle_is_found(image: pathlib.Path) -> None:
    put(image, b'\1' * MIB, 30 * MIB)
    assert 'there is data on it' in str(look(image))


def test_what_cannot_be_read_is_not_blank(image: pathlib.Path) -> None:
    descriptor = os.open(image, os.O_RDONLY)
    try:
        os.truncate(image, SIZE // 2)
        put(image, bytes(8), SIZE // 2 - 8)
        with pytest.raises(OSError, match='before its size'):
            # As of a device that became shorter.
            blank.look(descriptor, SIZE)
    finally:
        os.close(descriptor)


def test_data_between_the_samples_of_a_sparse_file_is_found(image: pathlib.Path) -> None:
    os.truncate(image, 1 << 40)
    put(image, b'\1' * 4096, (500 << 30) + 12345 * 4096)
    assert 'there is data on it' in str(look(image))


@pytest.mark.parametrize('code', [errno.EINVAL, errno.EOPNOTSUPP])
def test_device_that_knows_no_holes(
    image: pathlib.Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(descriptor: int, position: int, how: int) -> int:
        raise OSError(code, 'no')

    monkeypatch.setattr(os, 'lseek', fail)
    assert look(image) is None
    put(image, b'\1', SIZE - 1)
    assert look(image) is not None


def test_hole_is_not_believed(image: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(image, b'\1', 16 * MIB - 1)
    monkeypatch.setattr(blank, '_extents', lambda descriptor, size: iter(()))
    assert look(image) is not None


@pytest.mark.parametrize(
    ('command', 'package', 'expected'),
    [
        (('mkfs.ext4', '-q', '-F'), 'e2fsprogs', 'an ext2/3/4 file system is on it'),
        (('mkswap', '-q'), 'util-linux', 'swap space is on it'),
    ],
)
def test_real_file_systems(
    image: pathlib.Path, command: tuple[str, ...], package: str, expected: str
) -> None:
    program, *arguments = command
    subprocess.run(
        [find_program(program, package), *arguments, str(image)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert look(image) == expected


@pytest.mark.parametrize(
    ('offset', 'magic', 'expected'),
    [
        (512, b'EFI PART', 'a GPT partition table'),
        (510, b'\x55\xaa', 'a partition table or boot sector'),
        (512, b'LABELONE', 'an LVM physical volume'),
        (0, b'XFSB', 'an XFS file system'),
        (0x10040, b'_BHRfS_M', 'a Btrfs file system'),
        (0x20000 + 3 * 1024, b'\x0c\xb1\xba\x00\x00\x00\x00\x00', 'a member of a ZFS pool'),
        (4096, b'\xfc\x4e\x2b\xa9', 'a member of an md array'),
        (3, b'-FVE-FS-', 'a BitLocker volume'),
        (0, b'QFI\xfb', 'a qcow2 image'),
    ],
)
def test_signatures(image: pathlib.Path, offset: int, magic: bytes, expected: str) -> None:
    put(image, magic, offset)
    assert look(image) == f'{expected} is on it'
