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

"""LIO, the kernel's SCSI target: what is below /sys/kernel/config/target.

Back stores are iblock over a loop device: a plain file keeps the size that it
had when the store was made.
"""

import os
import pathlib
import re

from tests.lab.storage import loop
from tests.lab.storage.configfs import link
from tests.lab.storage.configfs import modprobe
from tests.lab.storage.configfs import read
from tests.lab.storage.configfs import remove
from tests.lab.storage.configfs import write

ROOT = pathlib.Path('/sys/kernel/config/target')
# The kernel's own, and the fixed part of every name that LIO gives a unit.
_COMPANY = '001405'
_NAA_DIGITS = 32
# Where LIO keeps reservations over a restart; it complains without.
_STATE = pathlib.Path('/etc/target')


def up(*modules: str) -> None:
    """Load LIO and the modules of a fabric."""
    _STATE.mkdir(parents=True, exist_ok=True)
    modprobe('target_core_mod', 'target_core_iblock', 'loop', 'sd_mod', *modules)


def naa(serial: str) -> str:
    """Return the NAA designator that LIO makes of a unit's serial number, in hexadecimal.

    NAA 6, the company, then the serial's hexadecimal digits as far as there is
    room (SPC-4, 7.8.6.6.5).
    """
    digits = re.sub('[^0-9a-f]', '', serial.lower())
    return f'6{_COMPANY}{digits}'.ljust(_NAA_DIGITS, '0')[:_NAA_DIGITS]


class BackStore:
    """A block device that LIO can serve, whatever the fabric.

    :param name: one of its own, of the volume's id
    :param image: the file behind it
    """

    def __init__(self, name: str, image: pathlib.Path) -> None:
        self.name = name
        self.image = image
        self.path = ROOT / 'core/iblock_0' / name

    def up(self, serial: str) -> None:
        """Serve the file under this serial number; twice is fine."""
        device = loop.attach(self.image)
        # Of the two the first is a host bus adapter to LIO, which stays.
        self.path.parent.mkdir(exist_ok=True)
        self.path.mkdir(exist_ok=True)
        if read(self.path / 'enable') == '1':
            return
        write(self.path / 'control', f'udev_path={device}')
        write(self.path / 'wwn/vpd_unit_serial', serial)
        write(self.path / 'enable', 1)

    def down(self) -> None:
        """Serve it no more; once more is fine."""
        remove(self.path)
        loop.detach(self.image)

    def reservations(self) -> list[str]:
        """Return who has reserved the unit, or may."""
        found = []
        for name in ('res_holder', 'res_pr_registered_i_pts'):
            text = read(self.path / 'pr' / name) or ''
            lines = [line for line in text.splitlines() if 'iqn.' in line or '20:00:' in line]
            found += [f'{self.name} {name}: {line.strip()}' for line in lines]
        return found


class PortalGroup:
    """A target portal group: its units, and who may have which of them.

    :param path: such as ROOT/iscsi/<iqn>/tpgt_1
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def up(self) -> None:
        """Make it; twice is fine."""
        # A fabric's directory asks for its module and stays.
        self.path.parent.parent.mkdir(exist_ok=True)
        self.path.parent.mkdir(exist_ok=True)
        self.path.mkdir(exist_ok=True)

    def allow(self, initiator: str) -> pathlib.Path:
        """Let an initiator log in; return its directory."""
        access = self.path / 'acls' / initiator
        access.mkdir(exist_ok=True)
        return access

    def add(self, number: int, store: BackStore) -> None:
        """Give the group a unit, which nobody may see yet; twice is fine."""
        unit = self.path / 'lun' / f'lun_{number}'
        unit.mkdir(exist_ok=True)
        if not any(entry.is_symlink() for entry in unit.iterdir()):
            link(unit / store.name, store.path)

    def shown(self, initiator: str, lun: int) -> int | None:
        """Return the unit that an initiator has under a LUN; None: nothing."""
        place = self.path / 'acls' / initiator / f'lun_{lun}'
        for entry in place.iterdir() if place.is_dir() else ():
            if entry.is_symlink():
                return int(pathlib.PurePath(os.readlink(entry)).name.removeprefix('lun_'))
        return None

    def show(self, initiator: str, lun: int, number: int | None) -> None:
        """Let an initiator have a unit under a LUN, in place of what it has there.

        :param number: of the unit; None: nothing
        """
        if self.shown(initiator, lun) == number:
            return
        place = self.path / 'acls' / initiator / f'lun_{lun}'
        remove(place)
        if number is not None:
            place.mkdir()
            link(place / 'unit', self.path / 'lun' / f'lun_{number}')

    def drop(self, number: int) -> None:
        """Take a unit from the group, and from whoever has it; once more is fine."""
        for initiator in self.initiators():
            for place in (self.path / 'acls' / initiator).glob('lun_*'):
                lun = int(place.name.removeprefix('lun_'))
                if self.shown(initiator, lun) == number:
                    remove(place)
        remove(self.path / 'lun' / f'lun_{number}')

    def initiators(self) -> list[str]:
        """Return who may log in."""
        acls = self.path / 'acls'
        return sorted(entry.name for entry in acls.iterdir()) if acls.is_dir() else []

    def is_empty(self) -> bool:
        """Say whether there is no unit."""
        units = self.path / 'lun'
        return not units.is_dir() or not any(units.iterdir())

    def down(self) -> None:
        """Remove it with everything in it; once more is fine."""
        for initiator in self.initiators():
            access = self.path / 'acls' / initiator
            for place in access.glob('lun_*'):
                remove(place)
            remove(access)
        for kind in ('lun', 'np'):
            where = self.path / kind
            for entry in list(where.iterdir()) if where.is_dir() else ():
                remove(entry)
        remove(self.path)
        remove(self.path.parent)
