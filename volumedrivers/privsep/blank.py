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

"""Tell whether a device or file is blank, and what is on it if not.

Blank is what reads as zeros wherever a header, a file system or somebody's
data would be: the beginning, the end, samples spread over the rest, and of a
sparse file the beginning of whatever is no hole.
Anything else is somebody's, whether or not it has a name here.
"""

from collections.abc import Iterator
import errno
import itertools
import os
import typing

BEGINNING = 16 << 20
END = 1 << 20
SAMPLES = 256
SAMPLE = 64 << 10
_CHUNK = 1 << 20

# (offset, bytes, name), as in file(1) and blkid(8).
_SIGNATURES: typing.Final = (
    (0, b'LUKS\xba\xbe', 'a LUKS header'),
    (0, b'QFI\xfb', 'a qcow2 image'),
    (512, b'EFI PART', 'a GPT partition table'),
    (4096, b'EFI PART', 'a GPT partition table'),
    (0, b'XFSB', 'an XFS file system'),
    (0x438, b'\x53\xef', 'an ext2/3/4 file system'),
    (0x10040, b'_BHRfS_M', 'a Btrfs file system'),
    (0, b'LABELONE', 'an LVM physical volume'),
    (512, b'LABELONE', 'an LVM physical volume'),
    (1024, b'LABELONE', 'an LVM physical volume'),
    (1536, b'LABELONE', 'an LVM physical volume'),
    (4096, b'\xfc\x4e\x2b\xa9', 'a member of an md array'),
    (0, b'\xfc\x4e\x2b\xa9', 'a member of an md array'),
    (4086, b'SWAPSPACE2', 'swap space'),
    (4086, b'SWAP-SPACE', 'swap space'),
    (3, b'NTFS    ', 'an NTFS file system'),
    (3, b'-FVE-FS-', 'a BitLocker volume'),
    (3, b'EXFAT   ', 'an exFAT file system'),
    (54, b'FAT1', 'a FAT file system'),
    (82, b'FAT32', 'a FAT file system'),
    (32769, b'CD001', 'an ISO 9660 file system'),
    (0, b'bluestore block device', 'a Ceph OSD'),
    (4120, b'\xc6\x85\x73\xf6', 'a bcache device'),
    (0x10034, b'ReIsEr', 'a ReiserFS file system'),
    (0x400, b'\x10\x20\xf5\xf2', 'an F2FS file system'),
    (0x100000, b'\x0d\xd0\x01\xc0', 'a VMFS volume'),
    (510, b'\x55\xaa', 'a partition table or boot sector'),
)
_ZFS_UBERBLOCKS = (b'\x0c\xb1\xba\x00\x00\x00\x00\x00', b'\x00\x00\x00\x00\x00\xba\xb1\x0c')
_ZFS_AREA = (0x20000, 0x20000)


def look(descriptor: int, size: int) -> str | None:
    """Say what is on a device or file; None: nothing, it is blank.

    :param descriptor: open for reading
    :param size: its bytes
    :raises OSError: it could not be read; then nobody knows
    """
    used = _first_used(descriptor, size)
    if used is None:
        return None
    known = _known(descriptor)
    return f'{known} is on it' if known else f'there is data on it, first at byte {used}'


def _first_used(descriptor: int, size: int) -> int | None:
    """Return where a byte was found that is no zero."""
    regions = [(0, min(BEGINNING, size)), (max(0, size - END), size)]
    middle = size - BEGINNING - END
    if middle > 0:
        count = min(SAMPLES, -(-middle // SAMPLE))
        for number in range(count):
            begin = BEGINNING + middle * number // count
            regions.append((begin, min(begin + SAMPLE, size)))
    for begin, end in itertools.chain(regions, _extents(descriptor, size)):
        used = _used_within(descriptor, begin, end)
        if used is not None:
            return used
    return None


def _used_within(descriptor: int, begin: int, end: int) -> int | None:
    position = begin
    while position < end:
        data = os.pread(descriptor, min(_CHUNK, end - position), position)
        if not data:
            raise OSError(errno.EIO, f'it ends at byte {position}, before its size')
        rest = data.lstrip(b'\0')
        if rest:
            return position + len(data) - len(rest)
        position += len(data)
    return None


def _extents(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Find the beginnings of what a file system says is data.

    Further places to look at; that the rest is a hole is not believed.
    """
    position = 0
    for _ in range(SAMPLES):
        try:
            begin = os.lseek(descriptor, position, os.SEEK_DATA)
            position = os.lseek(descriptor, begin, os.SEEK_HOLE)
        except OSError as error:
            # No more data, or devices and file systems that cannot tell.
            if error.errno in (errno.ENXIO, errno.EINVAL, errno.EOPNOTSUPP):
                return
            raise
        if begin >= size:
            return
        yield begin, min(begin + SAMPLE, position, size)


def _known(descriptor: int) -> str | None:
    for offset, magic, name in _SIGNATURES:
        if os.pread(descriptor, len(magic), offset) == magic:
            return name
    # ZFS has a ring of uberblocks, any of which may be the first in use.
    area = os.pread(descriptor, _ZFS_AREA[1], _ZFS_AREA[0])
    if any(area[at : at + 8] in _ZFS_UBERBLOCKS for at in range(0, len(area), 1024)):
        return 'a member of a ZFS pool'
    return None
