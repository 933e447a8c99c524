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

"""NFS, served by the kernel: versions 3 and 4.2."""

import pathlib

from tests.lab.storage import loop
from tests.lab.storage import networks
from tests.lab.storage import nfsd
from tests.lab.storage.configfs import modprobe
from tests.lab.storage.records import sync_directory
from tests.lab.storage.server_process import CommandFailed
from tests.lab.storage.server_process import launch
from tests.lab.storage.server_process import listens
from tests.lab.storage.server_process import run
from tests.lab.storage.share import ADDRESS
from tests.lab.storage.share import ShareBackend
from tests.lab.storage.share import ShareVolume
from tests.lab.waiting import wait_until

SIZE = 4 << 30  # bytes of the file system, most of them holes
EXPORTS = pathlib.Path('/etc/exports.d/lab.exports')
OPTIONS = 'rw,sync,no_root_squash,insecure,fsid=1,no_subtree_check'
THREADS = 8
_PIPES = pathlib.Path('/run/rpc_pipefs')
_STATE = pathlib.Path('/var/lib/nfs')


class NfsBackend(ShareBackend):
    """The kernel's nfsd with one export, an ext4 of its own."""

    name = 'nfs'
    protocol = 'nfs'
    ports = (nfsd.PORT,)
    names_kept = 1.5  # where the share is mounted with acdirmax=1

    @property
    def export(self) -> str:
        return f'{ADDRESS}:{self.files}'

    def up(self) -> None:
        networks.up()
        fresh = not nfsd.was_started()
        self._mount()
        self._serve()
        if fresh:
            # No client can have anything to reclaim.
            nfsd.end_grace()
        wait_until(self.is_up, 'nfsd to serve', timeout=400)

    def is_up(self) -> bool:
        return nfsd.threads() > 0 and 'mountd' in _registered() and listens(nfsd.PORT, ADDRESS)

    def kill_daemon(self) -> None:
        run('rpc.nfsd', '0')

    def seen(self, volume: ShareVolume) -> list[str]:
        """Return who has the file open, and the clients if nobody has any other file.

        The share is mounted once for all volumes.
        """
        file = volume.path.stat()
        opened = nfsd.opened()
        locked = nfsd.locked(pathlib.Path('/proc/locks').read_text(), file.st_dev)
        lines = opened.get(file.st_ino, []) + locked.get(file.st_ino, [])
        if {*opened, *locked} <= {file.st_ino}:
            lines += nfsd.clients()
        return lines

    def _mount(self) -> None:
        """Mount the file system that is exported; make it first where there is none."""
        if self.files.is_mount():
            return
        image = self.state / 'disk.img'
        if not image.exists():
            self.state.mkdir(parents=True, exist_ok=True)
            new = image.with_suffix('.new')
            new.unlink(missing_ok=True)
            run('mkfs.ext4', '-q', str(new), f'{SIZE >> 10}k')
            new.rename(image)
            sync_directory(self.state)
        self.files.mkdir(exist_ok=True)
        run('mount', '-t', 'ext4', str(loop.attach(image)), str(self.files))
        self.files.chmod(0o777)

    def _serve(self) -> None:
        modprobe('nfsd', 'nfs', 'lockd')
        nfsd.mount(pathlib.Path('/proc/fs/nfsd'), 'nfsd')
        nfsd.mount(_PIPES, 'rpc_pipefs')
        EXPORTS.parent.mkdir(exist_ok=True)
        EXPORTS.write_text(f'{self.files} *({OPTIONS})\n')
        for directory in ('sm', 'sm.bak'):
            (_STATE / directory).mkdir(exist_ok=True)
        if 'portmapper' not in _registered():
            pathlib.Path('/run/rpcbind').mkdir(exist_ok=True)
            launch('rpcbind', '-w')
        wait_until(lambda: 'portmapper' in _registered(), 'rpcbind to answer')
        if 'status' not in _registered():
            launch('rpc.statd')
        nfsd.set_times()
        run('exportfs', '-r')
        if 'mountd' not in _registered():
            launch('rpc.mountd')
        if nfsd.threads() == 0:
            run('rpc.nfsd', str(THREADS))


def _registered() -> set[str]:
    """Return the names of the RPC programs of this host; none: rpcbind does not answer."""
    try:
        answer = run('rpcinfo', '-s', '127.0.0.1')
    except CommandFailed:
        return set()
    return set(nfsd.programs(answer))
