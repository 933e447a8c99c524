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

"""Make a Cinder fail: rules for its requests, in front of its application.

For example::

    faults = Faults()
    with EmbeddedCinder(directory, wrap=faults.wrap) as cinder:
        faults.add('POST /attachments', status(500), times=1)
        faults.add('POST /attachments/* os-complete', reset(after=True))
        ...
        assert faults.count('POST /attachments') == 1

A pattern is that of a shell, for what ``str`` of a Request gives.  What is
named ``after`` lets Cinder do first what it was asked for, so that only its
answer is lost; all else keeps the request from Cinder.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import fnmatch
from http import HTTPStatus
import io
import json
import re
import threading
import typing

if typing.TYPE_CHECKING:
    from volumedrivers.testing.cinder.loopback import Application

_BELOW_VERSION = re.compile(r'^/v3(/[0-9a-f]{32})?(?=/|$)')
# What Cinder calls an error in its body; all others are a computeFault.
_NAMES = {
    400: 'badRequest',
    401: 'unauthorized',
    403: 'forbidden',
    404: 'itemNotFound',
    409: 'conflictingRequest',
    413: 'overLimit',
    429: 'overLimit',
    503: 'serviceUnavailable',
}


@dataclasses.dataclass(frozen=True)
class Request:
    """What Cinder was asked.

    :ivar path: below the version, such as ``/attachments/<id>/action``
    :ivar action: the key of an action's body, such as os-complete; else ''
    """

    method: str
    path: str
    action: str = ''

    def __str__(self) -> str:
        return f'{self.method} {self.path} {self.action}'.rstrip()


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a client gets.

    :ivar status: code and words
    """

    status: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Exchange:
    """A request that a fault has met.

    :ivar forward: asks Cinder, and returns its answer
    :ivar wait: waits so many seconds, or until ``Faults.let_go``
    """

    def __init__(
        self, request: Request, forward: Callable[[], Answer], wait: Callable[[float], object]
    ) -> None:
        self.request = request
        self.forward = forward
        self.wait = wait


#: what becomes of a request; it may raise ConnectionError, which the client sees as such
Fault = Callable[[Exchange], Answer]


def answer(
    code: int, body: bytes = b'', *, kind: str = 'application/json', after: bool = False
) -> Fault:
    """Answer that, instead of what Cinder would.

    :param kind: Content-Type of the body
    """
    made = Answer(
        f'{code} {HTTPStatus(code).phrase}',
        (('Content-Type', kind), ('Content-Length', str(len(body)))),
        body,
    )

    def fault(exchange: Exchange) -> Answer:
        if after:
            exchange.forward()
        return made

    return fault


def status(code: int, message: str = 'by a test', *, after: bool = False) -> Fault:
    """Answer an error as Cinder writes it."""
    said = {_NAMES.get(code, 'computeFault'): {'code': code, 'message': message}}
    return answer(code, json.dumps(said).encode(), after=after)


def page(code: int, *, after: bool = False) -> Fault:
    """Answer an error as a proxy writes it: a page of HTML."""
    words = HTTPStatus(code).phrase
    body = f'<html><head><title>{code}</title></head><body><h1>{words}</h1></body></html>'
    return answer(code, body.encode(), kind='text/html', after=after)


def garbage(*, after: bool = False) -> Fault:
    """Answer that all is well, in a body that cannot be read."""
    return answer(200, b'{"attach', after=after)


def empty(*, after: bool = False) -> Fault:
    """Answer that all is well, in a body that says nothing."""
    return answer(200, b'{}', after=after)


def truncated() -> Fault:
    """End Cinder's answer in its middle."""

    def fault(exchange: Exchange) -> Answer:
        found = exchange.forward()
        return dataclasses.replace(found, body=found.body[: len(found.body) // 2])

    return fault


def changed(change: Callable[[dict[str, typing.Any]], object]) -> Fault:
    """Let a function change the answer of Cinder in place, if it is one that went well."""

    def fault(exchange: Exchange) -> Answer:
        found = exchange.forward()
        if not found.status.startswith('2'):
            return found
        said = json.loads(found.body)
        change(said)
        body = json.dumps(said).encode()
        kept = [pair for pair in found.headers if pair[0].lower() != 'content-length']
        return Answer(found.status, (*kept, ('Content-Length', str(len(body)))), body)

    return fault


def refused() -> Fault:
    """Accept no connection; only without a socket: else stop the server."""

    def fault(exchange: Exchange) -> Answer:
        raise ConnectionRefusedError(111, 'Connection refused')

    return fault


def reset(*, after: bool = False) -> Fault:
    """Close the connection without an answer."""

    def fault(exchange: Exchange) -> Answer:
        if after:
            exchange.forward()
        raise ConnectionResetError(104, 'Connection reset by peer')

    return fault


def slow(seconds: float = 30.0, *, after: bool = False) -> Fault:
    """Let Cinder have the request that much later, or the client its answer.

    A client that has gone away meanwhile does not keep the request from Cinder.
    """

    def fault(exchange: Exchange) -> Answer:
        if after:
            found = exchange.forward()
            exchange.wait(seconds)
            return found
        exchange.wait(seconds)
        return exchange.forward()

    return fault


class _Rule:
    def __init__(self, pattern: str, fault: Fault, times: int | None, skip: int) -> None:
        self.pattern = pattern
        self.fault = fault
        self.times = times
        self.skip = skip

    def meets(self, request: Request) -> bool:
        if self.times == 0 or not fnmatch.fnmatchcase(str(request), self.pattern):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


class Faults:
    """Rules, and what was asked; a WSGI application, once it is in front of one."""

    def __init__(self) -> None:
        self._application: Application | None = None
        self._lock = threading.Condition()
        self._rules: list[_Rule] = []
        self._seen: list[Request] = []
        self._under_way = 0
        self._aside = 0
        self._go = threading.Event()

    def wrap(self, application: 'Application') -> 'Application':
        """Stand in front of that application: EmbeddedCinder's argument ``wrap``."""
        self._application = application
        return self

    def add(self, pattern: str, fault: Fault, *, times: int | None = None, skip: int = 0) -> None:
        """Let requests fail; of several rules that one applies that was added first.

        :param pattern: such as ``DELETE /attachments/*``
        :param times: how often; None: for ever
        :param skip: how many of them are let through before
        """
        with self._lock:
            self._rules.append(_Rule(pattern, fault, times, skip))

    def clear(self) -> None:
        """Forget the rules, and what was asked; let go what waits."""
        self.let_go()
        with self._lock:
            self._rules.clear()
            self._seen.clear()

    def seen(self, pattern: str = '*') -> list[Request]:
        """Return what was asked, in the order it was."""
        with self._lock:
            return [one for one in self._seen if fnmatch.fnmatchcase(str(one), pattern)]

    def count(self, pattern: str) -> int:
        """Return how often that was asked."""
        return len(self.seen(pattern))

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Let everything through meanwhile, as if the rules were not there, and unseen."""
        with self._lock:
            self._aside += 1
        try:
            yield
        finally:
            with self._lock:
                self._aside -= 1

    def let_go(self) -> None:
        """Let no request wait any longer that waits now."""
        go, self._go = self._go, threading.Event()
        go.set()

    def wait_seen(self, pattern: str, seconds: float = 30.0) -> None:
        """Wait until that is asked, if it has not been.

        :raises TimeoutError
        """
        with self._lock:
            if not self._lock.wait_for(lambda: self.count(pattern), seconds):
                raise TimeoutError(f'nobody asked {pattern}')

    def wait_idle(self, seconds: float = 30.0) -> None:
        """Wait until no request is under way.

        :raises TimeoutError
        """
        with self._lock:
            if not self._lock.wait_for(lambda: not self._under_way, seconds):
                raise TimeoutError(f'{self._under_way} requests are under way')

    def __call__(
        self, environment: dict[str, typing.Any], start_response: Callable[..., typing.Any]
    ) -> Iterable[bytes]:
        """Answer a request."""
        request = _request(environment)
        with self._lock:
            self._under_way += 1
            fault = None
            if not self._aside:
                self._seen.append(request)
                self._lock.notify_all()
                fault = next((one.fault for one in self._rules if one.meets(request)), None)
            go = self._go
        try:
            exchange = Exchange(request, lambda: self._forward(environment), go.wait)
            found = exchange.forward() if fault is None else fault(exchange)
        finally:
            with self._lock:
                self._under_way -= 1
                self._lock.notify_all()
        start_response(found.status, list(found.headers))
        return [found.body]

    def _forward(self, environment: dict[str, typing.Any]) -> Answer:
        assert self._application is not None  # noqa: S101 - wrap was called
        begun: dict[str, typing.Any] = {}
        body: list[bytes] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], exc_info: object = None
        ) -> Callable[[bytes], None]:
            begun.update(status=status, headers=tuple(headers))
            return body.append

        with _closed(self._application(environment, start_response)) as chunks:
            body.extend(chunks)
        return Answer(begun['status'], begun['headers'], b''.join(body))


@contextlib.contextmanager
def _closed(chunks: Iterable[bytes]) -> Iterator[Iterable[bytes]]:
    """As WSGI has it: what is returned may have to be closed."""
    try:
        yield chunks
    finally:
        close = getattr(chunks, 'close', None)
        if close is not None:
            close()


def _request(environment: dict[str, typing.Any]) -> Request:
    """Read what is asked; the application reads the body once more."""
    length = int(environment.get('CONTENT_LENGTH') or 0)
    body = environment['wsgi.input'].read(length) if length else b''
    environment['wsgi.input'] = io.BytesIO(body)
    path = _BELOW_VERSION.sub('', environment.get('PATH_INFO', '')) or '/'
    action = ''
    if path.endswith('/action'):
        with contextlib.suppress(ValueError):
            said = json.loads(body)
            if isinstance(said, Mapping):
                action = next(iter(said), '')
    return Request(environment['REQUEST_METHOD'], path, action)
