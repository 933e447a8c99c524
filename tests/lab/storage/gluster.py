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

import os
import pathlib
import re

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
    ports = (PORT, f'{BRICKS[0]}-{BRICKS[1]}')

    @property
    def export(self) -> str:
        return f'{ADDRESS}:/{VOLUME}'

    def up(self) -> None:
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
        return brick is not None and self._glusterd.pid() is not None and self._online()

    def kill_daemon(self) -> None:
        self._brick.kill()

    def seen(self, volume: ShareVolume) -> list[str]:
        """Return whether the brick has the file open, and its clients unless it has others."""
        brick = self._brick.pid()
        if brick is None:
            return []
        opened = open_below(brick, self.files)
        lines = ['open by the brick'] * opened.count(volume.path)
        if set(opened) <= {volume.path}:
            status = self._gluster('volume', 'status', VOLUME, 'clients')
            lines += [f'client {address}' for address in clients(status)]
        return lines

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

    def _online(self) -> bool:
        """Say whether glusterd knows the brick's port, which it tells to clients."""
        port = brick_port(self._gluster('volume', 'status', VOLUME))
        return port is not None and listens(port, ADDRESS)

    def _gluster(self, *arguments: str) -> str:
        return run(
            'gluster',
            f'--glusterd-sock={self.state}/glusterd.sock',
            f'--log-file={self.state}/log/cli.log',
            '--mode=script',
            *arguments,
        )


def brick_port(status: str) -> int | None:
    """Return the port of the one brick in ``gluster volume status``; None: it is not online."""
    # A long path is on a line of its own.
    match = re.search(r'^Brick \S+\s+(\d+)\s+\d+\s+Y\s', status, re.MULTILINE)
    return int(match[1]) if match else None


def clients(status: str) -> list[str]:
    """Return the clients in ``gluster volume status VOLUME clients``, as address:port."""
    return re.findall(r'^([0-9a-f.:]+:\d+)\s+\d+\s+\d+\s+\d+\s*$', status, re.MULTILINE)


def open_below(pid: int, directory: pathlib.Path) -> list[pathlib.Path]:
    """Return the files below a directory that a process has open, each as often as it has."""
    found = []
    for entry in pathlib.Path(f'/proc/{pid}/fd').iterdir():
        try:
            path = pathlib.Path(os.readlink(entry))
        except FileNotFoundError:
            # It was just closed.
            continue
        if path.is_file() and path.parent == directory:
            found.append(path)
    return found
