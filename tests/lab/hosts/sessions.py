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

"""The processes of the RPC on a host under test, and their sessions."""

from collections.abc import Callable
from collections.abc import Sequence
import threading
import time
import typing

from tests.lab.rpc.client import RpcServer
from tests.lab.rpc.client import Session
from tests.lab.rpc.client import Stream

SERVER = 'tests.lab.rpc.server'
BENCH = 'tests.lab.bench.bench'
PRELOADED = 'tests.lab.bench.preloaded'
STORAGE = 'tests.lab.storage.served'
NOVA = 'tests.lab.nova.preloaded'
ABOUT = 'tests.lab.bench.about:About'

# Python's start and all imports, where everything is emulated.
TIMEOUT = 300.0  # seconds
SETTLED = 10.0  # seconds

Start = Callable[[Sequence[str]], Stream]


class Sessions:
    """Two servers on a host: of benches, and of storage; both begin when they are asked for.

    :param start: starts ``python -m`` with these arguments there
    """

    def __init__(self, start: Start) -> None:
        self._start = start
        self._servers: dict[str, RpcServer] = {}
        self._storage: Session | None = None
        self._watch: Session | None = None
        self._left: list[str] = []

    def begin(self, bench: str, arguments: dict[str, typing.Any], *, storage: bool) -> None:
        """Start both, side by side, and remember what is on the host.

        :param bench: session that can look at the host
        :param storage: False: somebody else's storage is tried
        """
        benches = self.benches()
        if storage:
            self._server('storage', STORAGE)
        self._watch = benches.open(bench, TIMEOUT, **arguments)
        self._watch.call('remember_traces', TIMEOUT)
        if storage:
            self.storage()

    def benches(self) -> RpcServer:
        """Return the server of the benches."""
        return self._server('benches', PRELOADED, BENCH)

    def nova(self) -> RpcServer:
        """Return the server of sessions with Nova's LibvirtDriver."""
        return self._server('nova', NOVA)

    def storage(self) -> Session:
        """Return the session of the storage."""
        if self._storage is None:
            server = self._server('storage', STORAGE)
            self._storage = server.open(f'{STORAGE}:Storage', TIMEOUT)
        return self._storage

    def left_behind(self) -> list[str]:
        """Return the difference to what was on the host in the beginning.

        The storage of the lab is on the host as well, and udev may still be busy
        with what it has deleted.
        """
        end = time.monotonic() + SETTLED
        while True:
            found: list[str] = self._watch.call('traces') if self._watch else []
            if not found or time.monotonic() >= end:
                return found
            time.sleep(0.5)

    def versions(self) -> dict[str, str]:
        """Return the versions of the software there."""
        session = self.benches().open(ABOUT, TIMEOUT)
        try:
            return typing.cast(dict[str, str], session.call('versions'))
        finally:
            session.end()

    def take_log(self) -> list[str]:
        """Return what all sessions have logged since this was asked last."""
        lines, self._left = self._left, []
        for name, server in self._servers.items():
            where = '' if name == 'benches' else f'{name} '
            lines += [f'{where}{line}' for line in server.take_log()]
        return lines

    def end(self) -> None:
        """End them; forget them where the host has gone."""
        for server in self._servers.values():
            server.close()
        self._left = self.take_log()
        self._servers = {}
        self._storage = self._watch = None

    def _server(self, name: str, *modules: str) -> RpcServer:
        if name not in self._servers:
            process = self._start([SERVER, *modules])
            self._servers[name] = RpcServer(process)
            _follow(process, self._servers[name])
        return self._servers[name]


def _follow(process: Stream, server: RpcServer) -> None:
    """Take what a server writes to its standard error into its log."""
    stream = getattr(process, 'stderr', None)
    if stream is None:
        return

    def read() -> None:
        try:
            for line in stream:
                server.add_log('stderr', line.decode(errors='replace').rstrip())
        except (OSError, ValueError):
            # The host has gone.
            return

    threading.Thread(target=read, daemon=True).start()
