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

"""A host under test with somebody who looks on: the report."""

from collections.abc import Sequence
import typing

from tests.lab.hosts.host import Host
from tests.lab.rows import Row
from tests.lab.rpc.client import TIMEOUT
from tests.lab.rpc.client import RemoteError
from tests.lab.rpc.client import RpcServer
from tests.lab.rpc.client import Session
from tests.lab.storage.backend import Unreachable

Volume = dict[str, typing.Any]


class Observer(typing.Protocol):
    """Who looks on."""

    def know(self, secrets: Sequence[str]) -> None:
        """Hear of the secrets of a volume."""

    def not_asked(self, reason: str) -> None:
        """Hear of something that a test asked for beside all else, and that nobody can tell."""


class ObservedHost(Host):
    """A host, and its storage and benches as they are now, whatever happens to it.

    After a power cut the sessions are new ones; what ``storage`` and
    ``benches`` return stays the same, and asks for those of now at each call.
    """

    def __init__(self, host: Host, observer: Observer) -> None:
        self.host = host
        self._storage = typing.cast(Session, ObservedStorage(host, observer))
        self._benches = typing.cast(RpcServer, ObservedBenches(host))

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.host.name

    def __enter__(self) -> typing.Self:
        self.host.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.host.__exit__(*exc)

    def storage(self) -> Session:
        return self._storage

    def benches(self) -> RpcServer:
        return self._benches

    def nova(self) -> RpcServer:
        return self.host.nova()

    def rows(self) -> Sequence[Row] | None:
        return self.host.rows()

    def session(self, what: str) -> tuple[str, dict[str, typing.Any]]:
        return self.host.session(what)

    def can(self, what: str) -> str | None:
        return self.host.can(what)

    def power_cut(self, backends: Sequence[str] = ()) -> None:
        self.host.power_cut(backends)

    def set_link(self, name: str, up: bool) -> None:
        self.host.set_link(name, up)

    def restore(self) -> None:
        self.host.restore()

    def left_behind(self) -> list[str]:
        return self.host.left_behind()

    def about(self) -> dict[str, str]:
        return self.host.about()

    def take_log(self) -> list[str]:
        return self.host.take_log()


class ObservedStorage:
    """The storage of a host, as ``tests.lab.storage.served.Storage``."""

    def __init__(self, host: Host, observer: Observer) -> None:
        self._host = host
        self._observer = observer

    def call(self, call: str, /, timeout: float = TIMEOUT, **arguments: object) -> typing.Any:
        """Call by name, with so many seconds."""
        answer = self._host.storage().call(call, timeout=timeout, **arguments)
        if call in ('make_volume', 'find_volume'):
            self._observer.know(answer['secrets'])
        return answer

    def seen_by_target(self, **arguments: object) -> list[str]:
        """As Storage; nothing, and a word to the observer, where nobody can tell."""
        try:
            return typing.cast(list[str], self.call('seen_by_target', **arguments))
        except (Unreachable, RemoteError) as error:
            reason = why_unreachable(error)
            if reason is None:
                raise
            self._observer.not_asked(f'what the target has of the host: {reason}')
            return []

    def __getattr__(self, name: str) -> typing.Any:
        if name.startswith('_'):
            raise AttributeError(name)

        def call(**arguments: object) -> typing.Any:
            return self.call(name, **arguments)

        return call


class ObservedBenches:
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
        here, more = self._host.session(what)
        session = self._host.benches().open(here, timeout, **more, **arguments)
        if reason:
            _refuse_to_kill(session, reason)
        return session

    def __getattr__(self, name: str) -> typing.Any:
        if name.startswith('_'):
            raise AttributeError(name)
        return getattr(self._host.benches(), name)


def why_unreachable(error: BaseException) -> str | None:
    """Return why something cannot be asked of this storage; None: the error is another one."""
    if isinstance(error, Unreachable):
        return str(error)
    if isinstance(error, RemoteError) and Unreachable.__name__ in error.types:
        return error.message
    return None


def _refuse_to_kill(session: Session, reason: str) -> None:
    def kill() -> None:
        raise Unreachable(reason)

    session.kill = kill  # type: ignore[method-assign]
