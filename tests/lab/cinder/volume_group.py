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

"""A volume group for Cinder's LVM driver, on a loop device of its own."""

import pathlib

from tests.lab.storage import image_file
from tests.lab.storage import loop
from tests.lab.storage.configfs import modprobe
from tests.lab.storage.server_process import run
from tests.lab.storage.server_process import succeeds

NAME = 'labcinder'
SIZE = 16 << 30  # bytes of the physical volume, most of them holes

# Cinder's commands look at this one physical volume only: what a target serves
# comes back as a disk of this host, and may be dead on purpose.
CONFIGURATION = """\
devices {{
  filter = [ "a|^{device}$|", "r|.*|" ]
  global_filter = [ "a|^{device}$|", "r|.*|" ]
  use_devicesfile = 0
}}
backup {{
  backup = 0
  archive = 0
}}
"""


class VolumeGroup:
    """The group, with the thin pool that the driver expects.

    :param directory: for the file behind it, and LVM's configuration
    :ivar configuration: lvm.conf for who works with it
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory
        self.configuration = directory / 'lvm' / 'lvm.conf'

    @property
    def pool(self) -> str:
        """The name that Cinder gives a pool."""
        return f'{NAME}-pool'

    def make(self) -> None:
        """Make it anew."""
        self.remove()
        modprobe('dm-thin-pool')
        self.configuration.parent.mkdir(parents=True, exist_ok=True)
        with self._image.open('wb') as file:
            file.truncate(SIZE)
        device = str(loop.attach(self._image))
        self.configuration.write_text(CONFIGURATION.format(device=device))
        self._lvm('pvcreate', '-ffy', device)
        self._lvm('vgcreate', NAME, device)
        self._lvm('lvcreate', '-qy', '-T', '-l', '90%VG', '-Zn', f'{NAME}/{self.pool}')

    def remove(self) -> None:
        """Remove it with all that is in it; once more is fine."""
        if loop.find(self._image) is not None:
            if succeeds(*self._command('vgs', NAME)):
                self._lvm('vgremove', '-ffy', NAME)
            loop.detach(self._image)
        self._image.unlink(missing_ok=True)

    def volumes(self) -> list[str]:
        """Return the names of all logical volumes but the pool."""
        found = self._lvm('lvs', '--noheadings', '-o', 'lv_name', NAME).split()
        return sorted(name for name in found if name != self.pool)

    def path(self, name: str) -> pathlib.Path:
        """Return the device of a logical volume."""
        return pathlib.Path('/dev', NAME, name)

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Read a logical volume past the page cache, which a target does not go through."""
        where = f'driver=host_device,filename={self.path(name)},cache.direct=on'
        return image_file.read_node(where, offset, length)

    def size(self, name: str) -> int:
        """Return the size in bytes."""
        found = self._lvm(
            'lvs', '--noheadings', '-o', 'lv_size', '--units', 'b', '--nosuffix', f'{NAME}/{name}'
        )
        return int(found)

    def _lvm(self, *arguments: str) -> str:
        return run(*self._command(*arguments))

    def _command(self, name: str, *arguments: str) -> tuple[str, ...]:
        return name, '--devices', str(loop.find(self._image)), *arguments

    @property
    def _image(self) -> pathlib.Path:
        return self._directory / 'volume-group.img'
