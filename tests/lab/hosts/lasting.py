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

"""The storage and the benches of a host, whatever happens to the host meanwhile.

A host whose power was cut, or that was restored, has new sessions.  What is here
asks the host for those of now at each call, so the tests need not.
"""

from collections.abc import Callable
import typing

from tests.lab.hosts.host import Host
from tests.lab.rpc.client import TIMEOUT
from tests.lab.rpc.client import RpcServer
from tests.lab.rpc.client import Session
from tests.lab.storage.backend import Unreachable

Volume = dict[str, typing.Any]


class LastingStorage:
    """The storage of a host, as ``tests.lab.storage.served.Storage``.

    :param seen: called with each volume that the storage has described
    """

    def __init__(self, host: Host, seen: Callable[[Volume], None]) -> None:
        self._host = host
        self._seen = seen

    def make_volume(self, **arguments: object) -> Volume:
        """As Storage."""
        return self._described('make_volume', arguments)

    def find_volume(self, **arguments: object) -> Volume:
        """As Storage."""
        return self._described('find_volume', arguments)

    def call(self, call: str, /, timeout: float = TIMEOUT, **arguments: object) -> typing.Any:
        """Call by name, with so many seconds."""
        if call in ('make_volume', 'find_volume'):
            return self._described(call, arguments)
        return self._host.storage().call(call, timeout, **arguments)

    def __getattr__(self, name: str) -> typing.Any:
        if name.startswith('_'):
            raise AttributeError(name)
        return getattr(self._host.storage(), name)

    def _described(self, call: str, arguments: dict[str, typing.Any]) -> Volume:
        volume: Volume = self._host.storage().call(call, **arguments)
        self._seen(volume)
        return volume


class LastingBenches:
    """Where sessions of the bench are opened on a host."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def open(self, what: str, /, timeout: float = TIMEOUT, **arguments: object) -> Session:
        """Begin a session, as RpcServer.

        :raises Unreachable: it is to die, and the host does not allow that
        """
        reason = self._host.can('crash')
        if reason and (arguments.get('die') or arguments.get('hang')):
            raise Unreachable(reason)
        server = self._host.benches()
        session = server.open(
            what, timeout=timeout, **self._host.bench_arguments(what), **arguments
        )
        if reason:
            _refuse_to_kill(session, reason)
        return session

    def __getattr__(self, name: str) -> typing.Any:
        if name.startswith('_'):
            raise AttributeError(name)
        return getattr(self._host.benches(), name)


def lasting(
    host: Host, seen: Callable[[Volume], None] = lambda volume: None
) -> tuple[Session, RpcServer]:
    """Return storage and benches; to the tests they are what they stand for."""
    return (
        typing.cast(Session, LastingStorage(host, seen)),
        typing.cast(RpcServer, LastingBenches(host)),
    )


def _refuse_to_kill(session: Session, reason: str) -> None:
    def kill() -> None:
        raise Unreachable(reason)

    session.kill = kill  # type: ignore[method-assign]
