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

"""What a block device says it is, whatever it is called today.

SCSI units name themselves in VPD page 0x83 (SPC-4, 7.8.6), NVMe namespaces by
a UUID, an NGUID or an EUI-64, device-mapper devices by the uuid they were made
with.
"""

import re

from volumedrivers.host.sysfs import listdir
from volumedrivers.host.sysfs import read
from volumedrivers.host.sysfs import read_bytes

# Kind of designator in VPD page 0x83 -> the first character of scsi_id's name.
_T10, _EUI, _NAA = 1, 2, 3
_BINARY = 1  # code set of a designator
_DEPTH = 8  # device-mapper devices over one another


def of_device(block: str, name: str, depth: int = _DEPTH) -> tuple[str, str] | None:
    """Return (kind, value) of /sys/block/<name>; None: it says nothing.

    :param block: the directory /sys/block
    """
    dm_uuid = read(block, name, 'dm', 'uuid')
    if dm_uuid is not None:
        return _of_map(block, name, dm_uuid, depth)
    if name.startswith('nvme'):
        return _of_namespace(block, name)
    wwn = _of_unit(block, name)
    if wwn is not None:
        return 'wwn', wwn
    array = read(block, name, 'md', 'uuid')
    return ('uuid', array) if array is not None else None


def _of_map(block: str, name: str, dm_uuid: str, depth: int) -> tuple[str, str] | None:
    if dm_uuid.startswith('mpath-'):
        return 'wwn', dm_uuid.removeprefix('mpath-')
    slaves = listdir(block, name, 'slaves')
    if dm_uuid.startswith('CRYPT-') and len(slaves) == 1 and depth > 0:
        # The decrypted view of a volume is that volume.
        return of_device(block, slaves[0], depth - 1)
    return 'uuid', dm_uuid


def _of_namespace(block: str, name: str) -> tuple[str, str] | None:
    wwid = read(block, name, 'wwid')
    if wwid is not None:
        kind, _, value = wwid.partition('.')
        if kind == 'uuid':
            return 'uuid', value.lower()
        if kind == 'eui':
            return 'nguid', value.lower()
        return 'wwn', wwid
    # Before kernel 4.13 there was no wwid.
    for kind in ('uuid', 'nguid'):
        value = (read(block, name, kind) or '').lower()
        if value.strip('0-'):
            return kind, value if kind == 'uuid' else value.replace('-', '')
    return None


def _of_unit(block: str, name: str) -> str | None:
    wwid = read(block, name, 'device', 'wwid')
    if wwid is not None:
        kind, _, value = wwid.partition('.')
        if kind == 'naa':
            return f'{_NAA}{value.lower()}'
        if kind == 'eui':
            return f'{_EUI}{value.lower()}'
        if kind == 't10':
            return f'{_T10}{_without_blanks(value)}'
        return wwid
    page = read_bytes(block, name, 'device', 'vpd_pg83')
    return of_page_83(page) if page is not None else None


def of_page_83(page: bytes) -> str | None:
    """Return the WWN in VPD page 0x83, as scsi_id writes it; None: there is none."""
    best: tuple[int, str] | None = None
    offset = 4
    while offset + 4 <= len(page):
        code_set, kind, length = page[offset] & 0xF, page[offset + 1], page[offset + 3]
        value = page[offset + 4 : offset + 4 + length]
        offset += 4 + length
        if kind >> 4 & 3 != 0:  # names a port or a target, not the unit
            continue
        rank, text = _designator(kind & 0xF, code_set, value)
        if text and (best is None or rank > best[0]):
            best = rank, text
    return best[1] if best is not None else None


def _designator(kind: int, code_set: int, value: bytes) -> tuple[int, str]:
    """How well it names the unit, and scsi_id's way to write it."""
    if kind == _NAA and code_set == _BINARY and value:
        # NAA 6 has a vendor's extension, which makes it the most telling one.
        return (5 if value[0] >> 4 == 6 else 4), f'{_NAA}{value.hex()}'
    if kind == _EUI and code_set == _BINARY and value:
        return 3, f'{_EUI}{value.hex()}'
    if kind == _T10:
        return 2, f'{_T10}{_without_blanks(value.decode("ascii", "replace"))}'
    return 0, ''


def _without_blanks(text: str) -> str:
    return re.sub(r'\s+', '_', text.strip(' \t\n\0'))
