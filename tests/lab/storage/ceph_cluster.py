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

"""A Ceph cluster that outlives whoever started it, and the machine's power."""

from collections.abc import Iterator
import contextlib
import pathlib
import shutil
import typing

from tests.lab.storage.server_process import ServerProcess
from tests.lab.storage.server_process import listens
from tests.lab.waiting import wait_until
from volumedrivers import exception
from volumedrivers.host import ceph_conf
from volumedrivers.testing import ceph

DAEMONS = {'mon': 'a', 'osd': '0'}
# Seconds until the storage's own client gives up; a cluster that hangs is never asked.
CLIENT_TIMEOUT = 60
YEARS = 5 * 365 * 24 * 3600  # seconds

SETTINGS = {
    'bluestore_block_size': str(4 << 30),
    'bluestore_fsck_on_mkfs': 'false',
    # little memory for a machine that has little
    'osd_memory_target': str(896 << 20),
    'bluestore_cache_autotune': 'false',
    'bluestore_cache_size': str(64 << 20),
    # A frozen machine wakes up days later; keys that are that old still count.
    'auth_service_ticket_ttl': str(YEARS),
    'auth_mon_ticket_ttl': str(YEARS),
}


class LabCluster(ceph.CephCluster):
    """One monitor and one OSD that run in the background."""

    timeout: typing.ClassVar[float] = 400

    def __init__(self, directory: pathlib.Path, address: str) -> None:
        super().__init__(
            directory,
            address=address,
            objectstore='bluestore',
            settings={**SETTINGS, 'pid_file': f'{directory}/$name.pid'},
        )
        self._made = directory / 'made'
        if self._made.exists():
            self.fsid = ceph_conf.read(str(self.conf)).fsid or self.fsid

    @property
    def key_text(self) -> str:
        """The user's key as it is written in a keyring."""
        for line in self.keyring.read_text().splitlines():
            name, _, value = line.partition('=')
            if name.strip() == 'key':
                return value.strip()
        raise ValueError(f'no key in {self.keyring}')

    def up(self) -> None:
        """Make it where there is none, start what does not run, wait until it serves."""
        if not self._made.exists():
            for kind in DAEMONS:
                self.kill(kind)
            shutil.rmtree(self.directory, ignore_errors=True)
            self.start()
            self._made.touch()
        for kind, name in DAEMONS.items():
            self._serve(f'ceph-{kind}', name)
        wait_until(self._serves, 'the pool to answer', timeout=300)

    def is_up(self) -> bool:
        """Say whether both daemons run, and the monitor takes connections."""
        return all(self._daemon(kind).pid() is not None for kind in DAEMONS) and listens(
            ceph.PORTS[0], self.address
        )

    def kill(self, kind: str) -> None:
        """End a daemon with SIGKILL.

        :param kind: mon or osd
        """
        self._daemon(kind).kill()

    def stop(self) -> None:
        """Leave them running: the next process finds them."""

    @contextlib.contextmanager
    def pool_opened(self) -> Iterator[typing.Any]:
        """Open the pool as the administrator: librados' ioctx.

        The commands of ceph-common take seconds to start where all is emulated.
        """
        # Debian's own module, which is where Ceph is.
        import rados

        timeout = str(CLIENT_TIMEOUT)
        limits = {'client_mount_timeout': timeout, 'rados_osd_op_timeout': timeout}
        with (
            rados.Rados(conffile=str(self.conf), name='client.admin', conf=limits) as client,
            client.open_ioctx(self.pool) as ioctx,
        ):
            yield ioctx

    @contextlib.contextmanager
    def image_opened(self, name: str, *, read_only: bool = False) -> Iterator[typing.Any]:
        """Open an image beside whoever has it open: librbd's Image.

        :param read_only: to look at it without being one of its watchers
        """
        import rbd

        with self.pool_opened() as ioctx, rbd.Image(ioctx, name, read_only=read_only) as image:
            yield image

    def create_image(self, name: str, size: int) -> None:
        """Make an image of ``size`` bytes, with layering only, which every client knows."""
        import rbd

        with self.pool_opened() as ioctx:
            rbd.RBD().create(ioctx, name, size, old_format=False, features=1)

    def resize(self, name: str, size: int) -> None:
        """Make the image ``size`` bytes long."""
        with self.image_opened(name) as image:
            image.resize(size)

    def remove(self, name: str) -> None:
        """Remove an image that nobody uses; there may be none."""
        import rbd

        with self.pool_opened() as ioctx, contextlib.suppress(rbd.ImageNotFound):
            rbd.RBD().remove(ioctx, name)

    def watching(self, name: str) -> list[str]:
        """Return the addresses of the clients that have an image open; none: no such image."""
        import rbd

        try:
            with self.image_opened(name, read_only=True) as image:
                return [watcher['addr'] for watcher in image.watchers_list()]
        except rbd.ImageNotFound:
            return []

    def _serve(self, program: str, name: str) -> None:
        daemon = self._daemon(pathlib.Path(program).name.removeprefix('ceph-'))
        daemon.start(program, '-i', name, '-c', str(self.conf), '--cluster', 'ceph')

    def _daemon(self, kind: str) -> ServerProcess:
        pid_file = self.directory / f'{kind}.{DAEMONS[kind]}.pid'
        return ServerProcess(f'ceph-{kind}', pid_file)

    def _serves(self) -> bool:
        try:
            self.rbd('ls', self.pool)
        except exception.VolumeDriversError:
            return False
        return True
