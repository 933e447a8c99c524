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

"""Cinder's NFS driver, on a share of the kernel's nfsd."""

import json
import pathlib
import shutil

from tests.lab.cinder.backend import LabBackend
from tests.lab.storage import image_file
from tests.lab.storage import nfs
from tests.lab.storage import nfsd
from tests.lab.storage.image_volume import settled
from tests.lab.storage.server_process import run
from volumedrivers.host import mount_table
from volumedrivers.host import share


class NfsBackend(LabBackend):
    """Files in a directory of what the kernel's nfsd exports.

    :param base: where Cinder is to mount shares
    """

    name = 'cinder-nfs'

    def __init__(self, base: pathlib.Path) -> None:
        self._server = nfs.NfsBackend()
        self._base = base

    @property
    def files(self) -> pathlib.Path:
        """The directory, as the server itself has it."""
        return self._server.files / 'cinder'

    @property
    def export(self) -> str:
        """What Cinder calls the share."""
        return f'{self._server.export}/{self.files.name}'

    def prepare(self, directory: pathlib.Path) -> dict[str, str]:
        """Make the directory."""
        self.files.mkdir(exist_ok=True)
        self.files.chmod(0o777)
        shares = directory / 'nfs-shares'
        shares.write_text(f'{self.export}\n')
        return {
            'volume_driver': 'cinder.volume.drivers.nfs.NfsDriver',
            'nfs_shares_config': str(shares),
            'nfs_mount_point_base': str(self._base),
            'nfs_mount_options': 'vers=4.2',
            'nas_secure_file_operations': 'false',
            'nas_secure_file_permissions': 'false',
            'nfs_snapshot_support': 'true',
        }

    def image(self, volume_id: str) -> pathlib.Path:
        """Return the file, as the server itself has it."""
        return self.files / f'volume-{volume_id}'

    def read(self, volume_id: str, offset: int, length: int) -> bytes:
        """Read the file that is in use: a snapshot leaves the one before as its base."""
        return image_file.read(self._active(volume_id), self._format(volume_id), offset, length)

    def size(self, volume_id: str) -> int:
        return _virtual_size(self._active(volume_id))

    def identity(self, volume_id: str) -> str:
        active = self._active(volume_id)
        return f'file:{self.export}/{active.name}#{active.stat().st_ino}'

    def served(self, volume_id: str) -> list[str]:
        """Return who has the file open; Cinder itself has the share mounted all the time."""
        inode = self._active(volume_id).stat().st_ino
        return settled(
            lambda: [line for line in nfsd.opened().get(inode, []) if not line.startswith('deleg')]
        )

    def contents(self) -> list[str]:
        return sorted(path.name for path in self.files.iterdir())

    def remove(self) -> None:
        """Unmount it where Cinder has mounted it, and remove what is in it."""
        where = share.mount_point(str(self._base), self.export)
        if mount_table.find(where) is not None:
            run('umount', where)
        shutil.rmtree(self.files, ignore_errors=True)

    def _active(self, volume_id: str) -> pathlib.Path:
        """Return the newest file of a volume: Cinder names it in a file beside it."""
        info = self.files / f'volume-{volume_id}.info'
        if not info.exists():
            return self.image(volume_id)
        return self.files / json.loads(info.read_text())['active']

    def _format(self, volume_id: str) -> str:
        return 'raw' if self._active(volume_id) == self.image(volume_id) else 'qcow2'


def _virtual_size(path: pathlib.Path) -> int:
    said = run('qemu-img', 'info', '--force-share', '--output=json', str(path))
    return int(json.loads(said)['virtual-size'])
