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

"""GlusterFS: glusterd and one volume of one brick."""

import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile

from tests.lab.storage import backend
from tests.lab.storage import gfapi
from tests.lab.storage import networks
from tests.lab.storage import service_connections
from tests.lab.storage.configfs import modprobe
from tests.lab.storage.server_process import CommandFailed
from tests.lab.storage.server_process import ServerProcess
from tests.lab.storage.server_process import listens
from tests.lab.storage.server_process import run
from tests.lab.storage.share import ADDRESS
from tests.lab.storage.share import ShareBackend
from tests.lab.storage.share import ShareVolume
from tests.lab.waiting import wait_until

VOLUME = 'volumes'
PORT = 24007
BRICKS = (49152, 49251)  # ports of bricks, first and last

CONFIGURATION = """\
volume management
    type mgmt/glusterd
    option working-directory {state}/work
    option run-directory {state}/run
    option logging-directory {state}/log
    option glusterd-sockfile {state}/glusterd.sock
    option transport-type socket
    option transport.address-family inet
    option transport.socket.listen-port {port}
    option transport.socket.bind-address {address}
    option base-port {bricks[0]}
    option max-port {bricks[1]}
    option event-threads 1
end-volume
"""


class GlusterBackend(ShareBackend):
    """One glusterd, one brick, which are one another's only peers."""

    name = 'gluster'
    protocol = 'glusterfs'
    names_kept = 1.5  # its clients' entry-timeout is 1 s
    ports = (PORT, f'{BRICKS[0]}-{BRICKS[1]}')

    def __init__(self, state: pathlib.Path = backend.STATE) -> None:
        super().__init__(state)
        self._before = 0

    @property
    def export(self) -> str:
        return f'{ADDRESS}:/{VOLUME}'

    def up(self) -> None:
        networks.up()
        modprobe('fuse')
        self.files.mkdir(parents=True, exist_ok=True)
        self._start_glusterd()
        if VOLUME not in self._gluster('volume', 'list').split():
            brick = f'{ADDRESS}:{self.files}'
            self._gluster('volume', 'create', VOLUME, brick, 'force')
        if 'Status: Started' not in self._gluster('volume', 'info', VOLUME):
            self._gluster('volume', 'start', VOLUME)
        elif self._brick.pid() is None:
            self._gluster('volume', 'start', VOLUME, 'force')
        wait_until(self.is_up, 'the brick to serve', timeout=400)

    def is_up(self) -> bool:
        brick = self._brick.pid()
        return (
            brick is not None
            and self._glusterd.pid() is not None
            and listens(PORT, ADDRESS)
            and listens(brick_port(brick), ADDRESS)
        )

    def kill_daemon(self) -> None:
        self._before = self._clients()
        self._brick.kill()

    def mend(self) -> None:
        """Wait for the clients as well: until they are back, what they are told fails."""
        super().mend()
        before, self._before = self._before, 0
        wait_until(lambda: self._clients() >= before, 'the clients of the brick to be back')

    def make_file(self, volume: ShareVolume, size: int) -> None:
        """Make it by a client: the brick has more of a file than its bytes."""
        with tempfile.NamedTemporaryFile(dir=self.state) as image:
            run('qemu-img', 'create', '-q', '-f', volume.record['format'], image.name, str(size))
            _as_client('make', image.name, volume.record['name'])
        volume.path.chmod(0o666)

    def rename_file(self, old: str, new: str) -> None:
        _as_client('rename', old, new)

    def remove_file(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            _as_client('remove', name)

    def file_identity(self, volume: ShareVolume) -> str:
        """Return the name; QEMU's own client does not tell the inode, which is of the gfid."""
        name = f'{self.export}/{volume.record["name"]}'
        if volume.record['client'] == 'qemu':
            return name
        return f'{name}#{inode(os.getxattr(volume.path, "trusted.gfid"))}'

    def seen(self, volume: ShareVolume) -> list[str]:
        """Return whether the brick has the file open, and its clients unless it has others."""
        brick = self._brick.pid()
        if brick is None:
            return []
        opened = self._opened(brick)
        mine = volume.path.stat().st_ino
        lines = ['open by the brick'] * opened.count(mine)
        if set(opened) <= {mine}:
            lines += service_connections.tcp(brick_port(brick))
        return lines

    def _clients(self) -> int:
        """Return how many connections and open files of clients the brick has."""
        brick = self._brick.pid()
        if brick is None:
            return 0
        peers = service_connections.tcp(brick_port(brick))
        return len(peers) + len(self._opened(brick))

    def _opened(self, brick: int) -> list[int]:
        """Return the inodes of the files that the brick has open for its clients."""
        files = {path.stat().st_ino for path in self.files.iterdir() if path.is_file()}
        return [each for each in open_on(brick, self.files.stat().st_dev) if each in files]

    @property
    def _glusterd(self) -> ServerProcess:
        return ServerProcess('glusterd', self.state / 'glusterd.pid')

    @property
    def _brick(self) -> ServerProcess:
        brick = f'{ADDRESS}{str(self.files).replace("/", "-")}.pid'
        return ServerProcess('glusterfsd', self.state / 'run' / 'vols' / VOLUME / brick)

    def _start_glusterd(self) -> None:
        for directory in ('work', 'run', 'log'):
            (self.state / directory).mkdir(exist_ok=True)
        configuration = self.state / 'glusterd.vol'
        configuration.write_text(
            CONFIGURATION.format(state=self.state, address=ADDRESS, port=PORT, bricks=BRICKS)
        )
        self._glusterd.start(
            # It sets geo-replication up by a dozen runs of a Python program.
            'env',
            'PYTHON=/bin/echo',
            'glusterd',
            '-f',
            str(configuration),
            '-l',
            str(self.state / 'log' / 'glusterd.log'),
            '-p',
            str(self._glusterd.pid_file),
        )
        wait_until(self._answers, 'glusterd to answer', timeout=400)

    def _answers(self) -> bool:
        try:
            self._gluster('pool', 'list')
        except CommandFailed:
            return False
        return True

    def _gluster(self, *arguments: str) -> str:
        return run(
            'gluster',
            f'--glusterd-sock={self.state}/glusterd.sock',
            f'--log-file={self.state}/log/cli.log',
            '--mode=script',
            *arguments,
        )


def brick_port(pid: int) -> int:
    """Return the port of a brick, which its command line tells."""
    argv = pathlib.Path(f'/proc/{pid}/cmdline').read_text().split('\0')
    return int(argv[argv.index('--brick-port') + 1])


def inode(gfid: bytes) -> int:
    """Return the inode that GlusterFS' clients show for a file, from its 16 bytes of name."""
    return int.from_bytes(gfid[8:], 'big')


def open_on(pid: int, device: int) -> list[int]:
    """Return the inodes of a device that a process has open, each as often as it has."""
    found = []
    for entry in pathlib.Path(f'/proc/{pid}/fd').iterdir():
        try:
            file = entry.stat()
        except FileNotFoundError:
            # It was just closed.
            continue
        if file.st_dev == device:
            found.append(file.st_ino)
    return found


def _as_client(verb: str, *names: str) -> None:
    """Do something by the client library.

    :raises FileNotFoundError: there is no such file
    :raises OSError: it went wrong; says how
    """
    place = ADDRESS, str(PORT), VOLUME
    done = subprocess.run(
        [sys.executable, '-m', gfapi.__name__, *place, verb, *names],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == gfapi.NO_FILE:
        raise FileNotFoundError(done.stderr)
    if done.returncode:
        raise OSError(f'{verb} {" ".join(names)}: {done.stderr}')
