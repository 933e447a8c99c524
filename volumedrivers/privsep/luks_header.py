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

"""Read LUKS headers.  Pure: reads what it is given, changes nothing.

LUKS1: https://gitlab.com/cryptsetup/cryptsetup/-/wikis/LUKS-standard/on-disk-format.pdf
LUKS2: https://gitlab.com/cryptsetup/LUKS2-docs
qcow2: https://qemu.readthedocs.io/en/latest/interop/qcow2.html
"""

from collections.abc import Callable
import json
import struct
import typing

Read = Callable[[int, int], bytes]

MAGIC = b'LUKS\xba\xbe'
# What librbd writes into a clone of an image that is encrypted too.
LAYERED_MAGIC = b'RBDL\xba\xbe'
SECOND_MAGIC = b'SKUL\xba\xbe'
QCOW2_MAGIC = b'QFI\xfb'

_LUKS1 = struct.Struct('>6sH32s32s32sII20s32sI40s')
_SLOTS_OF_LUKS1 = 208
_SLOT = struct.Struct('>I44x')
_ENABLED = 0x00AC71F3
_SLOT_COUNT = 8
_LUKS2 = struct.Struct('>6sHQ')
_UUID = slice(168, 208)
_LUKS2_BINARY = 4096
# Where the second header is, which begins where the first one ends.
SIZES_OF_LUKS2 = tuple(0x4000 << shift for shift in range(9))
_QCOW2_CRYPT_METHOD = 32
_QCOW2_METHODS = {0: None, 1: 'qcow2-aes', 2: 'qcow2-luks'}
_SECTOR = 512


class DamagedHeader(ValueError):
    """There is a header, and it cannot be made out; says what is wrong with it."""


class Header(typing.NamedTuple):
    """What a volume's header says.

    :ivar kind: luks1, luks2, or qcow2-luks: LUKS within a qcow2 image
    :ivar payload_offset: bytes before the data; 0 for qcow2-luks, whose
        size is that of the data
    :ivar key_slots: how many are in use; 0: nobody can open it, such as
        while it is being formatted.  -1: not looked at.
    """

    kind: str
    payload_offset: int
    key_slots: int
    uuid: str = ''


def parse(read: Read) -> Header | None:
    """Return the LUKS header of a device or raw image; None: there is none.

    :param read: returns length bytes at offset, or less at the end
    :raises DamagedHeader
    """
    start = read(0, 4096)
    if start.startswith((MAGIC, LAYERED_MAGIC)):
        version = int.from_bytes(start[6:8], 'big')
        if version == 1:
            return _luks1(start)
        if version == 2:
            return _luks2(start, read)
        raise DamagedHeader(f'its LUKS header has the unknown version {version}')
    for offset in SIZES_OF_LUKS2:
        if read(offset, len(SECOND_MAGIC)) == SECOND_MAGIC:
            raise DamagedHeader(
                f'its LUKS2 header is gone, but the copy at {offset} is there; '
                '"cryptsetup repair" restores it'
            )
    return None


def parse_qcow2(read: Read) -> Header | None:
    """Return what a qcow2 image says of its encryption; None: it is not encrypted.

    :raises DamagedHeader
    """
    start = read(0, 104)
    if len(start) < 72 or not start.startswith(QCOW2_MAGIC):
        raise DamagedHeader('it is no qcow2 image')
    method = int.from_bytes(start[_QCOW2_CRYPT_METHOD : _QCOW2_CRYPT_METHOD + 4], 'big')
    if method not in _QCOW2_METHODS:
        raise DamagedHeader(f'its qcow2 header names the unknown encryption {method}')
    kind = _QCOW2_METHODS[method]
    return None if kind is None else Header(kind, 0, -1)


def _luks1(start: bytes) -> Header:
    if len(start) < _SLOTS_OF_LUKS1 + _SLOT_COUNT * _SLOT.size:
        raise DamagedHeader('its LUKS1 header is cut short')
    fields = _LUKS1.unpack_from(start)
    slots = sum(
        _SLOT.unpack_from(start, _SLOTS_OF_LUKS1 + number * _SLOT.size)[0] == _ENABLED
        for number in range(_SLOT_COUNT)
    )
    return Header('luks1', fields[5] * _SECTOR, slots, _text(fields[10]))


def _luks2(start: bytes, read: Read) -> Header:
    size = _LUKS2.unpack_from(start)[2]
    if size not in SIZES_OF_LUKS2:
        raise DamagedHeader(f'its LUKS2 header says that it has {size} bytes')
    area = read(_LUKS2_BINARY, size - _LUKS2_BINARY)
    try:
        metadata = json.loads(area.split(b'\0', 1)[0])
        offsets = [
            int(segment['offset'])
            for segment in metadata['segments'].values()
            if segment['type'] == 'crypt'
        ]
        slots = len(metadata['keyslots'])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedHeader('its LUKS2 header cannot be read') from error
    if not offsets:
        raise DamagedHeader('its LUKS2 header names no encrypted data')
    return Header('luks2', min(offsets), slots, _text(start[_UUID]))


def _text(field: bytes) -> str:
    return field.split(b'\0', 1)[0].decode('ascii', 'replace')
