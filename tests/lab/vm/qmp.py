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

"""A client of QEMU's machine protocol (QMP): commands and their answers."""

import contextlib
import json
import os
import pathlib
import socket
import threading
import time
import typing

from tests.lab.vm.errors import LabError


class QmpError(LabError):
    """QEMU refused a command or does not answer."""


class QmpClient:
    """A connection to the monitor; a context manager.

    :param path: of the Unix socket; may be longer than a socket's address
    :param timeout: seconds that any answer may take
    :raises QmpError
    """

    def __init__(self, path: pathlib.Path, *, timeout: float = 60.0) -> None:
        self._lock = threading.Lock()
        self._rest = b''
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.settimeout(timeout)
        try:
            directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                # An address holds 108 bytes, this path always fits.
                self._connection.connect(f'/proc/self/fd/{directory}/{path.name}')
            finally:
                os.close(directory)
            greeting = self._receive()
            if 'QMP' not in greeting:
                raise QmpError(f'{path}: no monitor: {greeting}')
            self.execute('qmp_capabilities')
        except OSError as error:
            self._connection.close()
            raise QmpError(f'{path}: {error}') from error
        except QmpError:
            self._connection.close()
            raise

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; QEMU goes on."""
        self._connection.close()

    def execute(
        self,
        command: str,
        arguments: dict[str, typing.Any] | None = None,
        *,
        descriptor: int | None = None,
    ) -> typing.Any:
        """Run a command and return its answer.

        :param descriptor: file that goes along to QEMU (for ``getfd``)
        :raises QmpError
        """
        request = {'execute': command, 'arguments': arguments or {}}
        data = json.dumps(request).encode() + b'\n'
        with self._lock:
            try:
                if descriptor is None:
                    self._connection.sendall(data)
                else:
                    socket.send_fds(self._connection, [data], [descriptor])
                while True:
                    answer = self._receive()
                    if 'return' in answer:
                        return answer['return']
                    if 'error' in answer:
                        raise QmpError(f'{command}: {answer["error"].get("desc", answer)}')
                    # Anything else is an event, which nobody here waits for.
            except OSError as error:
                raise QmpError(f'{command}: {error or type(error).__name__}') from error

    def _receive(self) -> dict[str, typing.Any]:
        while b'\n' not in self._rest:
            data = self._connection.recv(1 << 16)
            if not data:
                raise QmpError('QEMU closed its monitor')
            self._rest += data
        line, _, self._rest = self._rest.partition(b'\n')
        value: dict[str, typing.Any] = json.loads(line)
        return value


def connect(
    path: pathlib.Path, alive: typing.Callable[[], bool], *, timeout: float = 30.0
) -> QmpClient:
    """Connect to a QEMU that is starting.

    :param alive: whether QEMU still runs
    :param timeout: seconds
    :raises QmpError
    """
    deadline = time.monotonic() + timeout
    while True:
        with contextlib.suppress(QmpError):
            return QmpClient(path)
        if not alive():
            raise QmpError('QEMU ended')
        if time.monotonic() > deadline:
            raise QmpError(f'{path}: no monitor within {timeout:g} s')
        time.sleep(0.02)
