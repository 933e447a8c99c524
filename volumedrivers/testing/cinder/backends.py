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

"""What the embedded Cinder keeps its volumes on, and how its configuration says so.

Nothing of Cinder is imported here.
"""

import abc
import contextlib
import dataclasses
import os
import pathlib
import shutil
import typing

from volumedrivers import exception
from volumedrivers.host import mount_table
from volumedrivers.host import share
from volumedrivers.testing import server

_EXPORT = '127.0.0.1:/export'


class Backend(abc.ABC):
    """One back end of Cinder; there is a volume type of the same name.

    :ivar name: of the group in cinder.conf, of the back end and of the type
    """

    name: str

    @abc.abstractmethod
    def prepare(self, directory: pathlib.Path) -> dict[str, str]:
        """Make what the driver needs below a directory; return its options."""

    @abc.abstractmethod
    def image(self, volume_id: str) -> pathlib.Path:
        """Return the file of a volume that has no snapshot."""

    def remove(self) -> None:  # noqa: B027 - not every one makes something
        """Take back what ``prepare`` made outside the directory; may be called again."""

    def search_path(self) -> pathlib.Path | None:
        """Return a directory of programs that the driver looks for when it starts."""
        return None


@dataclasses.dataclass
class NfsBackend(Backend):
    """Cinder's own NfsDriver on a directory that is bound where the share belongs.

    No NFS is involved: Cinder only looks whether something is mounted at the
    mount point of the share, and so does whoever uses the same base.  See
    ``bound_share`` for this package.

    :ivar qcow2: the files are qcow2, not raw
    :ivar export: what the share is called; it must differ between back ends
    :ivar files: the directory with the volumes' files, once prepared
    :ivar mount_point_base: to be given to option nfs_mount_point_base of the
        host that the volumes are attached to
    """

    name: str = 'nfs'
    qcow2: bool = False
    export: str = _EXPORT
    files: pathlib.Path = dataclasses.field(init=False)
    mount_point_base: pathlib.Path = dataclasses.field(init=False)
    _programs: pathlib.Path | None = dataclasses.field(init=False, default=None)
    _mounted: bool = dataclasses.field(init=False, default=False)

    @property
    def mount_point(self) -> str:
        """Where the directory is bound."""
        return share.mount_point(str(self.mount_point_base), self.export)

    def prepare(self, directory: pathlib.Path) -> dict[str, str]:
        """Bind the directory; it takes root."""
        own = directory / self.name
        self.files = self.directory_of_files(own)
        self.mount_point_base = own / 'mnt'
        for each in (self.files, pathlib.Path(self.mount_point)):
            each.mkdir(parents=True, exist_ok=True)
        # QEMU of another user opens the files.
        self.files.chmod(0o755)
        if shutil.which('mount.nfs') is None:
            self._programs = own / 'bin'
            self._programs.mkdir(exist_ok=True)
            program = self._programs / 'mount.nfs'
            program.write_text('#!/bin/sh\nexit 0\n')
            program.chmod(0o755)
        if mount_table.find(self.mount_point) is None:
            server.run(
                server.find_tool('mount', 'mount'), '--bind', str(self.files), self.mount_point
            )
        self._mounted = True
        shares = own / 'shares'
        shares.write_text(self.export + '\n')
        return {
            'volume_driver': 'cinder.volume.drivers.nfs.NfsDriver',
            'nfs_shares_config': str(shares),
            'nfs_mount_point_base': str(self.mount_point_base),
            'nas_secure_file_operations': 'false',
            'nas_secure_file_permissions': 'false',
            'nfs_snapshot_support': 'true',
            'nfs_qcow2_volumes': str(self.qcow2).lower(),
        }

    def directory_of_files(self, own: pathlib.Path) -> pathlib.Path:
        """Return what is bound where the share belongs.

        :param own: directory of this back end
        """
        return own / 'export'

    def image(self, volume_id: str) -> pathlib.Path:
        """Return the file on the share."""
        return self.files / f'volume-{volume_id}'

    def search_path(self) -> pathlib.Path | None:
        """NfsDriver runs mount.nfs once, only to see whether there is one."""
        return self._programs

    def remove(self) -> None:
        """Unmount it; the files stay."""
        if not self._mounted:
            return
        with contextlib.suppress(exception.OperationFailed):
            server.run('umount', self.mount_point)
        if mount_table.find(self.mount_point) is not None:
            server.run('umount', '--lazy', self.mount_point)
        self._mounted = False


@dataclasses.dataclass
class IscsiBackend(Backend):
    """Real iSCSI targets of tgtd on loopback, one for each volume that is exported.

    :ivar files: the directory that has a directory for each volume
    """

    name: str = 'iscsi'
    files: pathlib.Path = dataclasses.field(init=False)

    def prepare(self, directory: pathlib.Path) -> dict[str, str]:
        self.files = directory / self.name
        self.files.mkdir(parents=True, exist_ok=True)
        return {
            'volume_driver': 'volumedrivers.testing.cinder.tgt_driver.TgtDriver',
            'tgt_directory': str(self.files),
        }

    def image(self, volume_id: str) -> pathlib.Path:
        """Return the file behind a volume."""
        return self.files / f'volume-{volume_id}' / 'lun.img'


@contextlib.contextmanager
def searched(backends: typing.Sequence[Backend]) -> typing.Iterator[None]:
    """Let this process find the programs of the back ends meanwhile."""
    before = os.environ.get('PATH', os.defpath)
    own = [str(path) for path in (backend.search_path() for backend in backends) if path]
    os.environ['PATH'] = os.pathsep.join([*own, before])
    try:
        yield
    finally:
        os.environ['PATH'] = before
