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

"""The side of the RPC that runs on the host under test.

    python -m tests.lab.rpc.server MODULE ...

Reads one JSON object a line on standard input and answers on standard output.
The modules named are imported once; each *session* is a child that is forked
from there, holds one object, and carries out its calls one after the other.  A
session may be killed in the middle of a call: that is what a crash is here.

    {"id": 1, "session": "s1", "open": "module:Class", "arguments": {...}}
    {"id": 2, "session": "s1", "call": "attach", "arguments": {...}}
    {"session": "s1", "close": true}        the session ends when it has done what it does
    {"session": "s1", "kill": true}         the session ends with SIGKILL
    {"session": "s1", "stacks": true}       its threads' stacks go to its log

answers, what is logged meanwhile, and when a session has ended:

    {"session": "s1", "log": ["..."]}
    {"id": 2, "session": "s1", "result": ...}
    {"id": 2, "session": "s1", "error": {"type": ..., "message": ...}}
    {"session": "s1", "ended": -9}          negative: by this signal
"""

import contextlib
import faulthandler
import gc
import importlib
import os
import selectors
import signal
import socket
import sys
import traceback
import typing

from tests.lab.rpc import messages
from tests.lab.rpc.session import serve


class Server:
    """Forks sessions, and passes lines between them and whoever talks to this process."""

    def __init__(self, reading: int, writing: int) -> None:
        self.reading = reading
        self.writing = writing
        self.selector = selectors.DefaultSelector()
        self.sessions: dict[str, tuple[int, socket.socket]] = {}
        self._rest = b''

    def run(self) -> None:
        """Serve until nobody listens any more; then end every session."""
        self.selector.register(self.reading, selectors.EVENT_READ)
        try:
            while True:
                for key, _ in self.selector.select():
                    if key.data is not None:
                        self._from_session(key.data)
                    elif not self._from_controller():
                        return
        finally:
            for name in list(self.sessions):
                self._kill(name)

    def _from_controller(self) -> bool:
        data = os.read(self.reading, 1 << 16)
        if not data:
            return False
        *lines, self._rest = (self._rest + data).split(b'\n')
        for line in lines:
            self._order(line)
        return True

    def _order(self, line: bytes) -> None:
        order = messages.decode(line)
        name = order['session']
        if 'open' in order:
            self._fork(name)
        if name not in self.sessions:
            self._answer({**order, 'error': {'type': 'Ended', 'message': 'no such session'}})
        elif order.get('kill'):
            os.kill(self.sessions[name][0], signal.SIGKILL)
        elif order.get('stacks'):
            os.kill(self.sessions[name][0], signal.SIGUSR1)
        else:
            # One that has just died is told by its end.
            with contextlib.suppress(OSError):
                if order.get('close'):
                    self.sessions[name][1].shutdown(socket.SHUT_WR)
                else:
                    self.sessions[name][1].sendall(line + b'\n')

    def _fork(self, name: str) -> None:
        mine, its = socket.socketpair()
        gc.freeze()
        pid = os.fork()
        if pid == 0:
            mine.close()
            # Whatever happens to it: the others are not this child's to end.
            code = 1
            try:
                self._forget_others()
                code = serve(its, name)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        its.close()
        self.sessions[name] = (pid, mine)
        self.selector.register(mine, selectors.EVENT_READ, name)

    def _forget_others(self) -> None:
        self.selector.close()
        for _, other in self.sessions.values():
            other.close()
        # Standard output is the RPC's; what a library prints must not be in it.
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, self.reading)
        os.dup2(2, self.writing)

    def _from_session(self, name: str) -> None:
        data = self._receive(name)
        if data:
            # Whole lines only: two sessions may speak at once.
            while not data.endswith(b'\n'):
                more = self._receive(name)
                if not more:
                    break
                data += more
            self._write(data)
        else:
            self._ended(name)

    def _receive(self, name: str) -> bytes:
        try:
            return self.sessions[name][1].recv(1 << 16)
        except ConnectionResetError:
            # It died before it had read all of its orders.
            return b''

    def _kill(self, name: str) -> None:
        os.kill(self.sessions[name][0], signal.SIGKILL)
        self._ended(name)

    def _ended(self, name: str) -> None:
        pid, mine = self.sessions.pop(name)
        self.selector.unregister(mine)
        mine.close()
        _, status = os.waitpid(pid, 0)
        self._answer({'session': name, 'ended': os.waitstatus_to_exitcode(status)})

    def _answer(self, message: dict[str, typing.Any]) -> None:
        self._write(messages.encode(message))

    def _write(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self.writing, data) :]
        except BrokenPipeError:
            # Nobody listens; the end of its orders comes next.
            return


def main(modules: list[str]) -> int:
    faulthandler.enable()
    for name in modules:
        importlib.import_module(name)
    Server(0, 1).run()
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
