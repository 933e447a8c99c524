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

"""Run a command through the agent of a virtual machine, as subprocess does here."""

from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import io
import json
import os
import select
import signal as signals
import socket
import subprocess
import threading
import time
import typing

from tests.lab.vm import frames
from tests.lab.vm.errors import LabError

# Bytes kept of a stream that nobody reads while the other one is read.
_MOST_KEPT = 64 << 20

# The status of a command whose machine has gone, as ssh has it.
LOST = 255

Address = tuple[str, int]


class AgentError(LabError):
    """The agent does not answer, or not as it should."""


class AgentLost(AgentError):
    """The connection ended before the command did."""


def _request(address: Address, request: Mapping[str, typing.Any], timeout: float) -> socket.socket:
    try:
        connection = socket.create_connection(address, timeout=timeout)
    except OSError as error:
        raise AgentError(f'agent at {address[0]}:{address[1]}: {error}') from error
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(frames.pack_json(frames.REQUEST, request))
    except OSError as error:
        connection.close()
        raise AgentError(f'agent at {address[0]}:{address[1]}: {error}') from error
    return connection


def ask(
    address: Address, token: str, *, set_clock: float | None = None, timeout: float = 10.0
) -> None:
    """See that the agent answers, and set the machine's clock if wanted.

    :param set_clock: seconds since 1970
    :param timeout: seconds
    :raises AgentError
    """
    request: dict[str, typing.Any] = {'token': token}
    if set_clock is not None:
        request['set_clock'] = set_clock
    with _request(address, request, timeout) as connection:
        try:
            answer = frames.receive(connection, frames.Unpacker())
        except (OSError, frames.BadFrame) as error:
            raise AgentError(f'agent at {address[0]}:{address[1]}: {error}') from error
    if not answer:
        raise AgentError(f'agent at {address[0]}:{address[1]}: closed the connection')
    kind, payload = answer[0]
    if kind != frames.EXIT:
        raise AgentError(f'agent at {address[0]}:{address[1]}: {payload.decode()}')


class _Input(io.RawIOBase):
    """Sends what is written as frames."""

    def __init__(self, process: 'RemoteProcess') -> None:
        self._process = process

    def writable(self) -> bool:
        return True

    def write(self, data: typing.Any) -> int:
        payload = bytes(data)
        if payload:
            self._process.send(frames.INPUT, payload)
        return len(payload)

    def close(self) -> None:
        if not self.closed:
            with contextlib.suppress(OSError):
                self._process.send(frames.INPUT)
        super().close()


class _Outlet:
    """The end of a pipe into which one stream of the command is poured."""

    def __init__(self) -> None:
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self.reader = os.fdopen(reader, 'rb')
        self._kept = bytearray()
        self._open = True
        self._reader_gone = False

    def fileno(self) -> int:
        return self._writer

    @property
    def kept(self) -> int:
        return len(self._kept)

    def pour(self, data: bytes = b'') -> None:
        """Write what can be written now and keep the rest."""
        if self._reader_gone:
            return
        self._kept += data
        try:
            while self._kept:
                del self._kept[: os.write(self._writer, self._kept)]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._reader_gone = True
            self._kept.clear()

    def close(self) -> None:
        if self._open:
            self._open = False
            os.close(self._writer)


class RemoteProcess:
    """A command that runs in a virtual machine; of subprocess.Popen what is used.

    :param argv: program and arguments
    :param env: variables beside those the agent has
    :param terminal: rows, columns: give it a terminal; then all output is stdout
    :param timeout: seconds for the agent to take the connection
    :ivar stdin: binary, buffered: flush it
    :ivar lost: the machine or the connection went away before the command ended
    :raises AgentError
    """

    def __init__(
        self,
        address: Address,
        token: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        terminal: tuple[int, int] | None = None,
        timeout: float = 30.0,
    ) -> None:
        self.args = list(argv)
        self.returncode: int | None = None
        self.lost = False
        request: dict[str, typing.Any] = {'token': token, 'argv': self.args}
        request['env'] = dict(env or {})
        request['cwd'] = cwd
        if terminal:
            request['terminal'] = dict(zip(('rows', 'columns'), terminal, strict=True))
        self._connection = _request(address, request, timeout)
        self._connection.settimeout(None)
        self._sending = threading.Lock()
        self._ended = threading.Event()
        self._failure: dict[str, typing.Any] | None = None
        self._outlets = {frames.OUTPUT: _Outlet(), frames.ERROR_OUTPUT: _Outlet()}
        self.stdin: typing.BinaryIO = io.BufferedWriter(_Input(self))
        self.stdout: typing.BinaryIO = self._outlets[frames.OUTPUT].reader
        self.stderr: typing.BinaryIO = self._outlets[frames.ERROR_OUTPUT].reader
        self._pump_thread = threading.Thread(target=self._pump, daemon=True)
        self._pump_thread.start()

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def send(self, kind: bytes, payload: bytes = b'') -> None:
        """Send a frame.

        :raises BrokenPipeError: the command has ended or the machine has gone
        """
        with self._sending:
            if self._ended.is_set():
                raise BrokenPipeError('the command has ended')
            try:
                self._connection.sendall(frames.pack(kind, payload))
            except OSError as error:
                raise BrokenPipeError(f'the machine has gone: {error}') from error

    def poll(self) -> int | None:
        """Return the exit status, None while it runs."""
        if self._ended.is_set():
            self._raise_failure()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status; negative: ended by that signal; 255 also: lost.

        :raises subprocess.TimeoutExpired
        :raises OSError: it could not be started, as subprocess.Popen has it
        """
        if not self._ended.wait(timeout):
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        self._raise_failure()
        assert self.returncode is not None
        return self.returncode

    def communicate(self, input: bytes = b'', timeout: float | None = None) -> tuple[bytes, bytes]:
        """Send input, read all output and wait.

        :raises subprocess.TimeoutExpired
        """
        outputs: dict[str, bytes] = {}

        def read(name: str, stream: typing.BinaryIO) -> None:
            outputs[name] = stream.read()

        def feed() -> None:
            with contextlib.suppress(OSError):
                self.stdin.write(input)
                self.stdin.close()

        threads = [
            threading.Thread(target=read, args=('stdout', self.stdout), daemon=True),
            threading.Thread(target=read, args=('stderr', self.stderr), daemon=True),
            threading.Thread(target=feed, daemon=True),
        ]
        for thread in threads:
            thread.start()
        self.wait(timeout)
        for thread in threads:
            thread.join()
        return outputs['stdout'], outputs['stderr']

    def send_signal(self, number: int) -> None:
        """Send a signal to the command's process group."""
        with contextlib.suppress(BrokenPipeError):
            self.send(frames.SIGNAL, str(int(number)).encode())

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signals.SIGTERM)

    def kill(self) -> None:
        """End it and its process group."""
        self.send_signal(signals.SIGKILL)

    def resize(self, rows: int, columns: int) -> None:
        """Tell the size of the terminal."""
        with contextlib.suppress(BrokenPipeError):
            self.send(frames.WINDOW, f'{rows} {columns}'.encode())

    def close(self) -> None:
        """Let go; a command that still runs is ended by the agent."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._pump_thread.join()
        for stream in (self.stdin, self.stdout, self.stderr):
            with contextlib.suppress(OSError):
                stream.close()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            number = self._failure['errno'] or 0
            raise OSError(number, self._failure['reason'], self.args[0])

    def _pump(self) -> None:
        unpacker = frames.Unpacker()
        try:
            while not self._take(unpacker):
                pass
        except (OSError, frames.BadFrame):
            self.lost = True
        if self.lost:
            self.returncode = LOST
        self._ended.set()
        self._connection.close()
        # Whoever reads late still gets all of it.
        waiting = [outlet for outlet in self._outlets.values() if not self._finish(outlet)]
        while waiting:
            select.select([], waiting, [])
            waiting = [outlet for outlet in waiting if not self._finish(outlet)]

    def _finish(self, outlet: _Outlet) -> bool:
        outlet.pour()
        if outlet.kept:
            return False
        outlet.close()
        return True

    def _take(self, unpacker: frames.Unpacker) -> bool:
        """Return whether that was the end."""
        blocked = [outlet for outlet in self._outlets.values() if outlet.kept]
        reading = [] if any(outlet.kept > _MOST_KEPT for outlet in blocked) else [self._connection]
        readable, writable, _ = select.select(reading, blocked, [])
        for outlet in writable:
            outlet.pour()
        if not readable:
            return False
        data = self._connection.recv(1 << 16)
        if not data:
            self.lost = True
            return True
        for kind, payload in unpacker.feed(data):
            if kind == frames.EXIT:
                self.returncode = int(payload)
                return True
            if kind == frames.FAILURE:
                self._failure = json.loads(payload)
                return True
            self._outlets[kind].pour(payload)
        return False


def run(
    address: Address,
    token: str,
    argv: Sequence[str],
    *,
    input: bytes = b'',
    timeout: float | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end.

    :param timeout: seconds
    :raises AgentError: AgentLost where the machine went away meanwhile
    :raises subprocess.TimeoutExpired: it has been ended
    """
    with RemoteProcess(address, token, argv, env=env, cwd=cwd) as process:
        started = time.monotonic()
        try:
            output, error_output = process.communicate(input, timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        if process.lost:
            took = time.monotonic() - started
            raise AgentLost(f'{argv[0]}: the machine went away after {took:.1f} s')
        return subprocess.CompletedProcess(process.args, process.wait(), output, error_output)
