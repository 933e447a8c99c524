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

"""A real GlusterFS server on this host, on an address of its own.

    with GlusterServer(directory) as server:
        subprocess.run(['mount', '-t', 'glusterfs', server.export, mount_point])

Each server has a random address of 127.0.0.0/8, so that several run at once;
GlusterFS refuses 127.0.0.1 itself.
"""

import errno
import os
import pathlib
import random
import socket
import subprocess
import types

from volumedrivers import exception
from volumedrivers.testing import server

PORT = 24007
# The name of a UNIX socket in it has at most 107.
_LONGEST_DIRECTORY = 90

_CONFIGURATION = """\
volume management
    type mgmt/glusterd
    option working-directory {directory}/work
    option run-directory {directory}/run
    option logging-directory {directory}/log
    option glusterd-sockfile {directory}/glusterd.sock
    option transport-type socket
    option transport.address-family inet
    option transport.socket.listen-port {port}
    option transport.socket.bind-address {address}
    option ping-timeout 0
    option event-threads 1
    option max-port 60999
end-volume
"""


class GlusterServer:
    """One glusterd with one volume of one brick; needs root.

    :ivar address: where it listens, such as 127.20.30.40
    :ivar volume: name of the volume
    :ivar export: what mount(8) and Cinder call it, such as 127.20.30.40:/volumes
    :ivar brick: the directory that holds its files
    """

    def __init__(self, directory: str | os.PathLike[str], volume: str = 'volumes') -> None:
        """Nothing is started yet.

        :param directory: empty or absent; all of the server's files but the
            brick's socket, which GlusterFS wants in /var/run/gluster
        """
        self.directory = pathlib.Path(directory).absolute()
        if len(str(self.directory)) > _LONGEST_DIRECTORY:
            raise exception.InvalidOption(
                option='directory of a GlusterFS server',
                found=str(self.directory),
                expected=f'a path of at most {_LONGEST_DIRECTORY} characters',
            )
        self.volume = volume
        self.address = _free_address()
        self.export = f'{self.address}:/{volume}'
        self.brick = self.directory / 'brick'
        self._server: server.Server | None = None
        self._brick_socket: pathlib.Path | None = None

    def start(self) -> None:
        """Start it and its volume; takes about a second and a half.

        :raises ToolMissing: names the Debian package
        :raises Busy, DeadlineExceeded, OperationFailed: it did not come up
        """
        glusterd = server.find_tool('glusterd', 'glusterfs-server')
        for name in ('work', 'run', 'log', 'brick'):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        configuration = self.directory / 'glusterd.vol'
        configuration.write_text(
            _CONFIGURATION.format(directory=self.directory, address=self.address, port=PORT)
        )
        log = self.directory / 'log' / 'glusterd.log'
        log.touch()
        self._server = server.Server(
            [
                glusterd,
                '--no-daemon',
                '-f',
                str(configuration),
                '-l',
                str(log),
                '-p',
                str(self.directory / 'glusterd.pid'),
            ],
            log,
            # It sets geo-replication up by a dozen runs of a Python program.
            {**os.environ, 'PYTHON': '/bin/echo'},
        )
        try:
            self._server.start(self._answers)
            self._run('volume', 'create', self.volume, f'{self.address}:{self.brick}', 'force')
            self._run('volume', 'start', self.volume)
            self._brick_socket = _socket_of(self.brick_pid())
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Detach what is mounted from it and end it; may be called again."""
        for mount_point in self.mounted_at():
            # Lazily: a test that failed may have left a file open.
            subprocess.run(
                ['umount', '--lazy', mount_point], check=False, capture_output=True, timeout=30
            )
        if self._server is None:
            return
        pid = self.brick_pid()
        try:
            self._run('volume', 'stop', self.volume, 'force')
        except exception.VolumeDriversError:
            # Not yet started, or hung: the process is ended below.
            pass
        finally:
            self._server.stop()
            self._server = None
            _end(pid)
            if self._brick_socket is not None:
                self._brick_socket.unlink(missing_ok=True)

    def brick_pid(self) -> int | None:
        """Return the process that serves the files; None: it does not run."""
        for pid_file in (self.directory / 'run' / 'vols' / self.volume).glob('*.pid'):
            text = pid_file.read_text().strip()
            if text and _runs(int(text)):
                return int(text)
        return None

    def mounted_at(self) -> list[str]:
        """Return where this server's volume is mounted on this host."""
        found = []
        with open('/proc/self/mountinfo', encoding='utf-8', errors='surrogateescape') as table:
            for line in table:
                fields = line.split(' ')
                if fields[fields.index('-') + 2] == self.export:
                    found.append(fields[4])
        return found

    def __enter__(self) -> 'GlusterServer':
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self.stop()

    def _answers(self) -> bool:
        try:
            self._run('pool', 'list')
        except exception.OperationFailed:
            return False
        return True

    def _run(self, *arguments: str) -> str:
        gluster = server.find_tool('gluster', 'glusterfs-cli')
        return server.run(
            gluster,
            f'--glusterd-sock={self.directory}/glusterd.sock',
            f'--log-file={self.directory}/log/cli.log',
            '--mode=script',
            *arguments,
        )


def _free_address() -> str:
    """Return an address of 127.0.0.0/8 with nobody on glusterd's port."""
    for _ in range(100):
        address = '127.{}.{}.{}'.format(*(random.randrange(1, 255) for _ in range(3)))  # noqa: S311
        with socket.socket() as probe:
            try:
                probe.bind((address, PORT))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise exception.Busy(what=f'{address}:{PORT}', reason=str(error)) from error
                continue
            return address
    raise exception.Busy(what=f'port {PORT}', reason='in use at a hundred loopback addresses')


def _socket_of(pid: int | None) -> pathlib.Path | None:
    """Return the brick's socket, whose name only its command line tells."""
    if pid is None:
        return None
    argv = pathlib.Path(f'/proc/{pid}/cmdline').read_text(encoding='utf-8').split('\0')
    return pathlib.Path(argv[argv.index('-S') + 1]) if '-S' in argv else None


def _runs(pid: int) -> bool:
    try:
        stat = pathlib.Path(f'/proc/{pid}/stat').read_text(encoding='utf-8')
    except FileNotFoundError:
        return False
    # A zombie that its parent has not asked after has ended.
    return stat.rpartition(')')[2].split()[0] not in ('Z', 'X')


def _end(pid: int | None) -> None:
    """Wait until a brick has ended, and end it if it does not."""
    if pid is None:
        return

    def gone() -> bool:
        return not _runs(pid)

    try:
        server.wait_until(gone, what=f'GlusterFS brick {pid}', timeout=5)
    except exception.DeadlineExceeded:
        os.kill(pid, 9)
        server.wait_until(gone, what=f'GlusterFS brick {pid}', timeout=5)
