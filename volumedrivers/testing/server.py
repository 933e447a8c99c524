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

"""Start a storage server for a test, wait until it serves, stop it by its pid."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import pathlib
import random
import shutil
import socket
import subprocess
import time
import typing

from volumedrivers import exception


def find_tool(tool: str, package: str) -> str:
    """Return the path of a program.

    :raises ToolMissing: names the Debian package that has it
    """
    path = shutil.which(tool, path='/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin')
    if path is None:
        raise exception.ToolMissing(tool=tool, package=package)
    return path


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on.

    It is below the range the kernel takes ports for outgoing connections
    from, so that none of those gets it before the server is up.
    """
    for _ in range(100):
        port = random.randrange(20000, 32000)  # noqa: S311
        with socket.socket() as probe:
            try:
                probe.bind(('127.0.0.1', port))
            except OSError:
                continue
            return port
    raise exception.Busy(what='127.0.0.1', reason='no free port between 20000 and 32000')


def free_address(*ports: int) -> str:
    """Return an address of 127.0.0.0/8 where nobody listens on these ports.

    For servers whose clients expect the usual ports.
    """
    for _ in range(100):
        address = '127.{}.{}.{}'.format(*(random.randrange(1, 255) for _ in range(3)))  # noqa: S311
        if not any(listens(port, address) for port in ports):
            return address
    raise exception.Busy(what='127.0.0.0/8', reason=f'no address with free ports {ports}')


def run(*argv: str, env: Mapping[str, str] | None = None, timeout: float = 30) -> str:
    """Run a program; return what it printed.

    :raises OperationFailed: it failed; the message is in the cause
    :raises DeadlineExceeded: it took longer than ``timeout`` seconds
    """
    try:
        done = subprocess.run(
            argv,
            env=env,
            timeout=timeout,
            text=True,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
    except subprocess.TimeoutExpired as error:
        raise exception.DeadlineExceeded(what=argv[0], seconds=timeout) from error
    except subprocess.CalledProcessError as error:
        error.add_note(error.stderr.strip())
        raise exception.OperationFailed() from error
    return done.stdout


class Server:
    """One server process in the foreground, a child of this one."""

    def __init__(
        self, argv: Sequence[str], log: pathlib.Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.argv = tuple(argv)
        self.log = log
        self.env = env
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; the server was started."""
        if self._process is None:
            raise exception.Busy(what=self.argv[0], reason='it was not started')
        return self._process.pid

    def start(self, ready: Callable[[], bool], *, timeout: float = 20) -> None:
        """Start it and wait until ``ready`` says True.

        :raises Busy: it ended instead; the end of its log is in the message
        :raises DeadlineExceeded: it was not ready in ``timeout`` seconds
        """
        with self.log.open('ab') as log:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.env,
                start_new_session=True,
            )
        try:
            wait_until(lambda: self._alive() and ready(), what=self.argv[0], timeout=timeout)
        except BaseException:
            self.stop()
            raise

    def _alive(self) -> typing.Literal[True]:
        if self._process is None or self._process.poll() is not None:
            end = self.log.read_text(errors='replace')[-2000:].strip()
            raise exception.Busy(what=self.argv[0], reason=f'it ended at once: {end}')
        return True

    def stop(self, timeout: float = 5) -> None:
        """Ask it to end, and end it after ``timeout`` seconds; may be called again."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(ready: Callable[[], bool], *, what: str, timeout: float) -> None:
    """Ask ``ready`` again and again.

    :raises DeadlineExceeded: it did not say True in ``timeout`` seconds
    """
    end = time.monotonic() + timeout
    while not ready():
        if time.monotonic() > end:
            raise exception.DeadlineExceeded(what=what, seconds=timeout)
        time.sleep(0.02)


def listens(port: int, host: str = '127.0.0.1') -> bool:
    """Tell whether somebody accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0
