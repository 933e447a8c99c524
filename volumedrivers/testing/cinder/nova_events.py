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

"""As much of Nova as Cinder calls, on loopback: what it is told goes to functions of a test.

Cinder tells Nova that a volume has been extended, asks it to move a guest to
another volume, and asks it whether it knows of an attachment that somebody
wants to take away.  For example::

    nova = FakeNova()
    nova.on_event = lambda event: manager.extended(event)
    with EmbeddedCinder(directory, options=nova.options) as cinder:
        ...
        nova.wait_idle()
        assert nova.failures == []
    nova.stop()
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from concurrent import futures
import json
import re
import threading
import typing

from volumedrivers.testing.cinder import loopback
from volumedrivers.testing.cinder import settings

#: such as ``{'name': 'volume-extended', 'server_uuid': ..., 'tag': <volume id>}``
Event = Mapping[str, str]
_Headers = dict[str, str]
_Answer = tuple[int, object, _Headers]

_COMPUTE = 'v2.1'
_IDENTITY = 'identity/v3'
_VERSION = '2.96'


class FakeNova:
    """Answers Cinder at once, and does what it was asked for in a thread, as Nova does.

    :ivar url: without a slash at the end
    :ivar on_event: is called with each event
    :ivar on_swap: is called with server, old and new volume, where a guest is
        to go over to another one
    :ivar events: those that came, in their order
    :ivar swaps: likewise
    :ivar attachments: what Nova knows of: the attachment's id in Cinder by
        server and volume
    :ivar failures: what the functions have raised
    """

    def __init__(
        self,
        on_event: Callable[[Event], object] | None = None,
        on_swap: Callable[[str, str, str], object] | None = None,
    ) -> None:
        """Serve from now on."""
        self.on_event = on_event
        self.on_swap = on_swap
        self.events: list[Event] = []
        self.swaps: list[tuple[str, str, str]] = []
        self.attachments: dict[tuple[str, str], str] = {}
        self.failures: list[BaseException] = []
        self._lock = threading.Lock()
        self._pool = futures.ThreadPoolExecutor(8, thread_name_prefix='nova')
        self._under_way: list[futures.Future[object]] = []
        self._served = loopback.LoopbackServer(self)
        self.url = self._served.url

    @property
    def options(self) -> settings.Sections:
        """What Cinder's configuration needs to find it."""
        return {
            'nova': {
                'auth_type': 'none',
                'endpoint': f'{self.url}/{_COMPUTE}',
                'token_auth_url': f'{self.url}/{_IDENTITY}',
            }
        }

    def reset(self) -> None:
        """Wait until nothing is under way, and forget what was seen and said."""
        self.wait_idle()
        self.on_event = self.on_swap = None
        for each in (self.events, self.swaps, self.attachments, self.failures):
            each.clear()

    def wait_idle(self, seconds: float = 30.0) -> None:
        """Wait until all that came is done.

        :raises TimeoutError
        """
        with self._lock:
            waiting, self._under_way = self._under_way, []
        for each in waiting:
            error = each.exception(seconds)
            if error is not None:
                self.failures.append(error)

    def stop(self) -> None:
        """Serve no more; what is under way comes to its end."""
        self._served.stop()
        self._pool.shutdown()

    def __call__(
        self, environment: dict[str, typing.Any], start_response: Callable[..., typing.Any]
    ) -> Iterable[bytes]:
        """Answer a request."""
        method, path = environment['REQUEST_METHOD'], environment['PATH_INFO'].strip('/')
        body = environment['wsgi.input'].read()
        said = json.loads(body) if body else {}
        code, answer, headers = self._answer(method, path, said)
        headers['Content-Type'] = 'application/json'
        start_response(f'{code} {"OK" if code < 300 else "Failed"}', list(headers.items()))
        return [b'' if answer is None else json.dumps(answer).encode()]

    def _answer(self, method: str, path: str, said: dict[str, typing.Any]) -> _Answer:
        if method == 'GET' and path in {'', _COMPUTE, _IDENTITY}:
            return 200, _versions(self.url, path), {}
        if (method, path) == ('POST', f'{_IDENTITY}/auth/tokens'):
            return 201, _token(self.url), {'X-Subject-Token': 'a-token'}
        if (method, path) == ('POST', f'{_COMPUTE}/os-server-external-events'):
            return self._take_events(said['events'])
        found = re.fullmatch(
            rf'{_COMPUTE}/servers/(?P<server>[^/]+)/os-volume_attachments/(?P<volume>[^/]+)', path
        )
        if found and method == 'GET':
            return self._show(found['server'], found['volume'])
        if found and method == 'PUT':
            new = said['volumeAttachment']['volumeId']
            return self._swap(found['server'], found['volume'], new)
        return 404, {'itemNotFound': {'code': 404, 'message': f'{method} {path}'}}, {}

    def _take_events(self, events: list[dict[str, str]]) -> _Answer:
        answers = []
        for event in events:
            self.events.append(event)
            answers.append({**event, 'code': 200, 'status': 'completed'})
            self._do(self.on_event, event)
        return 200, {'events': answers}, {}

    def _swap(self, server: str, old: str, new: str) -> _Answer:
        self.swaps.append((server, old, new))
        self._do(self.on_swap, server, old, new)
        return 202, None, {}

    def _show(self, server: str, volume: str) -> _Answer:
        attachment = self.attachments.get((server, volume))
        if attachment is None:
            return 404, {'itemNotFound': {'code': 404, 'message': 'not attached'}}, {}
        shown = {'serverId': server, 'volumeId': volume, 'attachment_id': attachment}
        return 200, {'volumeAttachment': shown}, {}

    def _do(self, function: Callable[..., object] | None, *arguments: object) -> None:
        if function is not None:
            with self._lock:
                self._under_way.append(self._pool.submit(function, *arguments))


def _versions(url: str, path: str) -> object:
    version = {
        'id': 'v3.14' if path == _IDENTITY else 'v2.1',
        'status': 'CURRENT' if path == _COMPUTE else 'stable',
        'version': _VERSION,
        'min_version': '2.1',
        'links': [{'rel': 'self', 'href': f'{url}/{path or _COMPUTE}/'}],
    }
    return {'version': version} if path else {'versions': [version]}


def _token(url: str) -> object:
    """A token of the least kind, with this Nova in its catalog."""
    endpoint = {'interface': 'public', 'url': f'{url}/{_COMPUTE}', 'region_id': 'r', 'id': 'e'}
    return {
        'token': {
            'methods': ['token'],
            'issued_at': '2020-01-01T00:00:00.000000Z',
            'expires_at': '2099-01-01T00:00:00.000000Z',
            'user': {'id': 'u', 'name': 'u', 'domain': {'id': 'd', 'name': 'd'}},
            'catalog': [{'type': 'compute', 'id': 'c', 'name': 'nova', 'endpoints': [endpoint]}],
        }
    }
