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

"""Run commands for the controller, in the virtual machine.

Standard library alone, in one process with a thread for each command.  It
keeps nothing between commands, so a machine that was frozen and restored
answers at once.  A command whose client goes away is ended with its process
group.

    python3 -m tests.lab.vm.agent PORT [TOKEN_FILE]
"""

import contextlib
import errno
import fcntl
import hmac
import json
import os
import pathlib
import pty
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import typing

from tests.lab.vm import frames

# Printed when commands can come.
READY = 'the agent listens'

# Bytes kept for somebody who does not take them; then the other side waits.
_MOST_KEPT = 1 << 20

# Seconds between asking a command to end, whose client has gone, and ending it.
_GRACE = 3.0

# Seconds for a client to close after it has been told the end.
_LINGER = 30.0


def _taken(file: typing.IO[bytes] | None) -> int:
    assert file is not None
    descriptor = os.dup(file.fileno())
    file.close()
    return descriptor


class _Command:
    """A command that runs, and the pipes (or terminal) it talks through."""

    def __init__(self, request: dict[str, typing.Any]) -> None:
        arguments = [os.fsencode(argument) for argument in request['argv']]
        environment = {**os.environ, **request.get('env', {})}
        directory = request.get('cwd') or '/'
        self.streams: dict[int, bytes] = {}
        self.input: int | None
        self._terminal: int | None = None
        terminal = request.get('terminal')
        if terminal:
            self._terminal, theirs = pty.openpty()
            self.resize(terminal['rows'], terminal['columns'])
            try:
                # setsid becomes the leader and takes the terminal, then runs the command.
                self.process = subprocess.Popen(
                    [b'setsid', b'--ctty', *arguments],
                    cwd=directory,
                    env=environment,
                    stdin=theirs,
                    stdout=theirs,
                    stderr=theirs,
                )
            except OSError:
                os.close(self._terminal)
                raise
            finally:
                os.close(theirs)
            self.streams = {self._terminal: frames.OUTPUT}
            self.input = os.dup(self._terminal)
        else:
            self.process = subprocess.Popen(
                arguments,
                cwd=directory,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            # Descriptors of our own: each is closed when it is of no more use.
            self.input = _taken(self.process.stdin)
            self.streams = {
                _taken(self.process.stdout): frames.OUTPUT,
                _taken(self.process.stderr): frames.ERROR_OUTPUT,
            }
        for descriptor in (self.input, *self.streams):
            os.set_blocking(descriptor, False)
        self.end = os.pidfd_open(self.process.pid)

    def resize(self, rows: int, columns: int) -> None:
        if self._terminal is not None:
            size = struct.pack('HHHH', rows, columns, 0, 0)
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def read(self, descriptor: int) -> bytes | None:
        """Return what is there; nothing at the end, None where nothing is there yet."""
        try:
            return os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno == errno.EIO:  # the terminal's other side is closed
                return b''
            raise

    def close_stream(self, descriptor: int) -> None:
        os.close(descriptor)
        del self.streams[descriptor]

    def end_input(self) -> None:
        """Let the command see the end of its input; a terminal has none but a key."""
        if self._terminal is None:
            self.close_input()

    def close_input(self) -> None:
        if self.input is not None:
            os.close(self.input)
            self.input = None

    def close(self) -> None:
        self.close_input()
        for descriptor in list(self.streams):
            self.close_stream(descriptor)
        os.close(self.end)

    def abandon(self) -> None:
        """End the process group, whose client has gone."""
        self.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_GRACE)
        # What is left of the group, the command itself or its children.
        self.signal(signal.SIGKILL)
        self.process.wait()


class _Relay:
    """Carries bytes between one client and its command until that ends."""

    def __init__(
        self, connection: socket.socket, unpacker: frames.Unpacker, command: _Command
    ) -> None:
        self._connection = connection
        self._unpacker = unpacker
        self._command = command
        self._to_client = bytearray()
        self._to_command = bytearray()
        self._input_ended = False

    def run(self) -> None:
        """:raises OSError: the client has gone"""
        self._connection.setblocking(False)
        while True:
            self._feed()
            self._send()
            ready = self._wait()
            number = self._connection.fileno()
            if ready.get(number, 0) & ~select.POLLOUT:
                self._receive()
            for descriptor in [entry for entry in self._command.streams if entry in ready]:
                self._take(descriptor)
            if self._command.end in ready:
                break
        # All it wrote is in the pipes; a daemon it left behind may hold them open.
        for descriptor in list(self._command.streams):
            while descriptor in self._command.streams and self._take(descriptor):
                pass
        status = self._command.process.wait()
        self._to_client += frames.pack(frames.EXIT, str(status).encode())
        self._connection.settimeout(_LINGER)
        self._connection.sendall(self._to_client)

    def _wait(self) -> dict[int, int]:
        poll = select.poll()
        events = 0
        if len(self._to_command) < _MOST_KEPT:
            events |= select.POLLIN
        if self._to_client:
            events |= select.POLLOUT
        poll.register(self._connection, events)
        if self._command.input is not None and self._to_command:
            poll.register(self._command.input, select.POLLOUT)
        if len(self._to_client) < _MOST_KEPT:
            for descriptor in self._command.streams:
                poll.register(descriptor, select.POLLIN)
        poll.register(self._command.end, select.POLLIN)
        return dict(poll.poll())

    def _receive(self) -> None:
        try:
            data = self._connection.recv(1 << 16)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionAbortedError('the client has gone')
        self.obey(self._unpacker.feed(data))

    def obey(self, received: list[tuple[bytes, bytes]]) -> None:
        """Do what frames of the client say."""
        for kind, payload in received:
            if kind == frames.INPUT:
                if payload:
                    self._to_command += payload
                else:
                    self._input_ended = True
            elif kind == frames.SIGNAL:
                self._command.signal(int(payload))
            elif kind == frames.WINDOW:
                rows, columns = payload.split()
                self._command.resize(int(rows), int(columns))

    def _feed(self) -> None:
        command = self._command
        if command.input is None:
            self._to_command.clear()
            return
        try:
            while self._to_command:
                del self._to_command[: os.write(command.input, self._to_command)]
        except BlockingIOError:
            return
        except OSError:
            # It reads no more, which is its own affair.
            self._to_command.clear()
            command.close_input()
        if self._input_ended:
            command.end_input()

    def _take(self, descriptor: int) -> bool:
        data = self._command.read(descriptor)
        if data is None:
            return False
        if not data:
            self._command.close_stream(descriptor)
            return False
        self._to_client += frames.pack(self._command.streams[descriptor], data)
        return True

    def _send(self) -> None:
        try:
            while self._to_client:
                del self._to_client[: self._connection.send(self._to_client)]
        except BlockingIOError:
            return


class Agent:
    """Listens for commands.

    :param token: file with what a client has to know; None: anybody may
    """

    def __init__(self, listener: socket.socket, token: pathlib.Path | None = None) -> None:
        self._listener = listener
        self._token = token

    def serve(self) -> typing.NoReturn:
        """Run commands for ever."""
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        # The client has gone, or was none of ours.
        with contextlib.suppress(OSError, frames.BadFrame), connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._answer(connection)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(_LINGER)
            # Closed with input unread, the connection would be reset and the
            # client would lose the last of the output.
            while connection.recv(1 << 16):
                pass

    def _answer(self, connection: socket.socket) -> None:
        unpacker = frames.Unpacker()
        received = frames.receive(connection, unpacker)
        if not received:
            return
        (kind, payload), *early = received
        if kind != frames.REQUEST:
            raise frames.BadFrame(f'{kind!r} in the place of a request')
        request = json.loads(payload)
        if not self._admitted(request):
            # No more is said to somebody who may not ask.
            connection.sendall(_failure(errno.EPERM, 'wrong token'))
            return
        if 'set_clock' in request:
            time.clock_settime(time.CLOCK_REALTIME, request['set_clock'])
        if 'argv' not in request:
            connection.sendall(frames.pack(frames.EXIT, b'0'))
            return
        try:
            command = _Command(request)
        except OSError as error:
            connection.sendall(_failure(error.errno, error.strerror or str(error)))
            return
        relay = _Relay(connection, unpacker, command)
        try:
            relay.obey(early)  # came along with the request
            relay.run()
        except BaseException:
            command.abandon()
            raise
        finally:
            command.close()

    def _admitted(self, request: dict[str, typing.Any]) -> bool:
        if self._token is None:
            return True
        # Read each time: a restored machine belongs to another controller.
        wanted = self._token.read_bytes().strip()
        return hmac.compare_digest(wanted, str(request.get('token', '')).encode())


def _failure(number: int | None, reason: str) -> bytes:
    return frames.pack_json(frames.FAILURE, {'errno': number, 'reason': reason})


def main() -> typing.NoReturn:
    token = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
    listener = socket.create_server(('', int(sys.argv[1])), backlog=64)
    print(READY, flush=True)
    Agent(listener, token).serve()


if __name__ == '__main__':
    main()
