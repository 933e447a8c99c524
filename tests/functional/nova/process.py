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

"""A process with Nova in it, seen from the tests."""

import json
import multiprocessing
import os
import pathlib
import subprocess
import sys
import typing

_ROOT = pathlib.Path(__file__).parents[3]
_SECONDS = 150.0


class NovaFailed(Exception):
    """What was called in the other process has raised.

    :ivar kind: name of the exception's class, with its module
    :ivar trace: traceback of the other process
    """

    def __init__(self, kind: str, text: str, trace: str) -> None:
        super().__init__(f'{kind}: {text}')
        self.kind = kind
        self.trace = trace
        self.add_note(trace)


class NovaProcess:
    """Starts it, calls functions in it, and ends it; a context manager.

    :param room: ``module:class`` of what is made there: a test case of Nova's, of
        which no test is run, only its fixtures
    :param settings: of the room; only what JSON has
    :ivar log: file with what the process writes
    """

    def __init__(
        self, room: str, settings: dict[str, object], log: pathlib.Path, **environment: str
    ) -> None:
        self.log = log
        self._room = room
        self._settings = settings
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> typing.Self:
        self._channel, other = multiprocessing.Pipe()
        with self.log.open('wb') as log, other:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    '-m',
                    'tests.functional.nova.child',
                    self._room,
                    str(other.fileno()),
                    json.dumps(self._settings),
                ],
                cwd=_ROOT,
                env={
                    **os.environ,
                    **self._environment,
                    'OS_NOVA_DISABLE_EVENTLET_PATCHING': 'true',
                },
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._receive('start')
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self._channel.send(None)
            self._receive('end')
        finally:
            self._kill()

    def call(self, path: str, *arguments: object, **named: object) -> typing.Any:
        """Call a method of the room, or of what is reached from it by dots.

        :raises NovaFailed: it has raised
        """
        self._channel.send((path, arguments, named))
        return self._receive(path)

    def _receive(self, what: str) -> typing.Any:
        if not self._channel.poll(_SECONDS):
            raise TimeoutError(f'no answer to {what} in {_SECONDS} s; log:\n{self._end_of_log()}')
        try:
            succeeded, answer = self._channel.recv()
        except EOFError as error:
            raise ConnectionError(f'ended at {what}; log:\n{self._end_of_log()}') from error
        if not succeeded:
            raise NovaFailed(*answer)
        return answer

    def _end_of_log(self) -> str:
        return self.log.read_text(errors='replace')[-4000:]

    def _kill(self) -> None:
        assert self._process is not None
        self._channel.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
