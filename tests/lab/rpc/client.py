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

"""The controller's side of the RPC: sessions on the host under test."""

import collections
import itertools
import threading
import time
import typing

from tests.lab.rpc import messages

# What a call may take where nobody says otherwise; TCG is slow.
TIMEOUT = 180.0  # seconds


class RemoteError(Exception):
    """A call raised on the host under test; the data of that error.

    :ivar type: name of its class, such as IdentityMismatch
    :ivar types: of its class and all bases
    :ivar attributes: its public attributes; what is not plain is a str
    """

    def __init__(self, call: str, error: dict[str, typing.Any]) -> None:
        self.call = call
        self.type: str = error['type']
        self.types: list[str] = error.get('types', [self.type])
        self.attributes: dict[str, typing.Any] = error.get('attributes', {})
        self.notes: list[str] = error.get('notes', [])
        self.trace = ''.join(error.get('trace', []))
        self.message: str = error['message']
        super().__init__(
            f'{call}: {self.type}: {self.message}' + ''.join(f'\n  {note}' for note in self.notes)
        )


class RemoteEnded(Exception):
    """The session, or the whole host, ended before the call did.

    :ivar status: exit code of the session; negative: the signal; None: the
        connection to the host was lost
    """

    def __init__(self, call: str, status: int | None) -> None:
        self.call = call
        self.status = status
        super().__init__(f'{call}: the session ended with {status}')


class RemoteLate(Exception):
    """A call did not answer in time; it may still be going on."""


class Stream(typing.Protocol):
    """A process on the host under test, as subprocess.Popen has it."""

    stdin: typing.BinaryIO
    stdout: typing.BinaryIO

    def kill(self) -> None: ...

    def wait(self, timeout: float | None = None) -> int: ...


class Call:
    """A call that is under way."""

    def __init__(self, session: 'Session', number: int, name: str) -> None:
        self.session = session
        self.number = number
        self.name = name
        self.began = time.monotonic()

    def result(self, timeout: float = TIMEOUT) -> typing.Any:
        """Wait for the answer.

        :raises RemoteError, RemoteEnded, RemoteLate
        """
        return self.session.server.answer(self, timeout)


class Session:
    """One object on the host under test; its methods are this one's.

    ``session.attach(guest='linux')`` calls and waits; ``session.begin('attach',
    guest='linux')`` does not wait.
    """

    def __init__(self, server: 'RpcServer', name: str, what: str) -> None:
        self.server = server
        self.name = name
        self.what = what

    def begin(self, call: str, /, **arguments: object) -> Call:
        """Begin a call, and return it."""
        return self.server.begin(self, {'call': call, 'arguments': arguments}, call)

    def call(self, call: str, /, timeout: float = TIMEOUT, **arguments: object) -> typing.Any:
        """Call and wait.

        :raises RemoteError, RemoteEnded, RemoteLate
        """
        return self.begin(call, **arguments).result(timeout)

    def __getattr__(self, name: str) -> typing.Any:
        if name.startswith('_'):
            raise AttributeError(name)

        def call(**arguments: object) -> typing.Any:
            return self.call(name, **arguments)

        return call

    def kill(self) -> None:
        """End it with SIGKILL, in the middle of whatever it does; wait until it has."""
        self.server.send({'session': self.name, 'kill': True})
        self.server.wait_ended(self.name)

    def end(self, timeout: float = 30.0) -> None:
        """Let it finish what it does, and end.

        :param timeout: seconds for that
        """
        if not self.ended:
            self.server.send({'session': self.name, 'close': True})
            self.server.wait_ended(self.name, timeout)

    @property
    def ended(self) -> bool:
        return self.name in self.server.ended


class RpcServer:
    """The server process on the host under test, as this side sees it.

    :param process: ``python -m tests.lab.rpc.server`` over there
    :ivar log: what the sessions have logged, with the name of each; whoever
        wants it takes it away
    """

    def __init__(self, process: Stream) -> None:
        self.process = process
        self.log: collections.deque[tuple[str, str]] = collections.deque(maxlen=20000)
        self.ended: dict[str, int] = {}
        self._answers: dict[int, dict[str, typing.Any]] = {}
        self._waiting: dict[int, str] = {}
        self._lost = False
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def open(self, what: str, /, timeout: float = TIMEOUT, **arguments: object) -> Session:
        """Begin a session.

        :param what: ``module:Class``, made there with the arguments
        :raises RemoteError: it could not be made
        """
        session = Session(self, f's{next(self._numbers)}', what)
        self.begin(session, {'open': what, 'arguments': arguments}, f'open {what}').result(timeout)
        return session

    def begin(self, session: Session, message: dict[str, typing.Any], name: str) -> Call:
        call = Call(session, next(self._numbers), name)
        with self._changed:
            self._waiting[call.number] = session.name
        self.send({'id': call.number, 'session': session.name, **message})
        return call

    def send(self, message: dict[str, typing.Any]) -> None:
        try:
            with self._writing:
                self.process.stdin.write(messages.encode(message))
                self.process.stdin.flush()
        except (OSError, ValueError):
            # The reader notices, and whoever waits hears of it.
            with self._changed:
                self._lost = True
                self._changed.notify_all()

    def answer(self, call: Call, timeout: float) -> typing.Any:
        with self._changed:
            done = self._changed.wait_for(
                lambda: call.number in self._answers or self._is_over(call.session.name), timeout
            )
            answer = self._answers.pop(call.number, None)
            self._waiting.pop(call.number, None)
            status = self.ended.get(call.session.name)
        if answer is None and not done:
            self.send({'session': call.session.name, 'stacks': True})
            raise RemoteLate(f'{call.name}: no answer in {timeout:g} s')
        if answer is None:
            raise RemoteEnded(call.name, status)
        if 'error' in answer:
            raise RemoteError(call.name, answer['error'])
        return answer.get('result')

    def wait_ended(self, session: str, timeout: float = 30.0) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_over(session), timeout):
                raise RemoteLate(f'session {session} does not end')

    def take_log(self) -> list[str]:
        """Return what was logged since this was asked last."""
        with self._changed:
            lines = [f'{session} {line}' for session, line in self.log]
            self.log.clear()
        return lines

    def add_log(self, session: str, line: str) -> None:
        """Add what came by another way."""
        with self._changed:
            self.log.append((session, line))

    def close(self) -> None:
        """End the server and its sessions."""
        try:
            self.process.stdin.close()
            self.process.wait(10)
        except Exception:
            self.process.kill()

    def _is_over(self, session: str) -> bool:
        return self._lost or session in self.ended

    def _read(self) -> None:
        try:
            for line in self.process.stdout:
                self._take(messages.decode(line))
        except (OSError, ValueError):
            # A host whose power was cut ends in the middle of a line.
            pass
        finally:
            with self._changed:
                self._lost = True
                self._changed.notify_all()

    def _take(self, message: dict[str, typing.Any]) -> None:
        with self._changed:
            for line in message.get('log', ()):
                self.log.append((message['session'], line))
            if 'ended' in message:
                self.ended[message['session']] = message['ended']
            elif message.get('id') in self._waiting:
                self._answers[message['id']] = message
            self._changed.notify_all()
