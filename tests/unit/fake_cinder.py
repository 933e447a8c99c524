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

"""A small Cinder, and a small Keystone, that speak their interface on loopback."""

import abc
from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import json
import threading
import typing
import uuid

from volumedrivers.testing.cinder.loopback import LoopbackServer

PROJECT = 'a' * 32
SECRET = 'chap-Secret-0815'
VOLUME = '11111111-1111-1111-1111-111111111111'


@dataclasses.dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: typing.Any

    def __str__(self) -> str:
        return f'{self.method} {self.path}'


@dataclasses.dataclass
class Said:
    """An answer in the place of what would be right.

    :ivar drop: close the connection instead
    """

    status: str = '200 OK'
    body: bytes | dict | None = None
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    drop: bool = False


def fault(status: str, message: str, *, said: str = 'computeFault', **headers: str) -> Said:
    """An error as Cinder writes it."""
    code = int(status.split(maxsplit=1)[0])
    return Said(status, {said: {'code': code, 'message': message}}, headers)


class Application(abc.ABC):
    """Answers, and remembers the requests."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.said: list[tuple[str, Said, int]] = []
        self._lock = threading.Lock()

    def say(self, request: str, said: Said, times: int = 1000) -> None:
        """Answer requests that begin so, that many times."""
        self.said.append((request, said, times))

    def count(self, start: str) -> int:
        return sum(str(one).startswith(start) for one in self.requests)

    def __call__(
        self, environ: dict[str, typing.Any], start_response: typing.Any
    ) -> Iterator[bytes]:
        length = int(environ.get('CONTENT_LENGTH') or 0)
        body = environ['wsgi.input'].read(length) if length else b''
        headers = {
            name[5:].replace('_', '-').lower(): value
            for name, value in environ.items()
            if name.startswith('HTTP_')
        }
        query = environ.get('QUERY_STRING')
        path = environ['PATH_INFO'] + (f'?{query}' if query else '')
        request = Request(
            environ['REQUEST_METHOD'], path, headers, json.loads(body) if body else None
        )
        with self._lock:
            self.requests.append(request)
            said = self._said(request) or self.answer(request)
        if said.drop:
            raise ConnectionAbortedError
        content = said.body
        sent = {'Content-Type': 'application/json', **said.headers}
        if isinstance(content, dict):
            content = json.dumps(content).encode()
        content = content or b''
        sent['Content-Length'] = str(len(content))
        start_response(said.status, list(sent.items()))
        return iter([content])

    def _said(self, request: Request) -> Said | None:
        for index, (start, said, times) in enumerate(self.said):
            if times and str(request).startswith(start):
                self.said[index] = (start, said, times - 1)
                return said
        return None

    @abc.abstractmethod
    def answer(self, request: Request) -> Said:
        """Return what is said to a request that no test has an answer for."""


class FakeCinder(Application):
    """Volumes and attachments, as far as the tests ask for them."""

    def __init__(self, most: str = '3.71', root: str = '') -> None:
        super().__init__()
        self.most = most
        self.url = ''
        self.attachments: dict[str, dict[str, typing.Any]] = {}
        self.volume: dict[str, typing.Any] = {
            'id': VOLUME,
            'name': 'data',
            'status': 'available',
            'size': 1,
            'shared_targets': None,
            'service_uuid': 'c' * 32,
        }

    def versions(self) -> dict[str, typing.Any]:
        return {
            'versions': [
                {
                    'id': 'v3.0',
                    'status': 'CURRENT',
                    'version': self.most,
                    'min_version': '3.0' if self.most else '',
                    'links': [{'rel': 'self', 'href': f'{self.url}/v3/'}],
                }
            ]
        }

    def answer(self, request: Request) -> Said:
        path = request.path.partition('?')[0].removeprefix('/v3').removeprefix(f'/{PROJECT}')
        parts = path.strip('/').split('/')
        if parts == ['']:
            return Said(
                '300 Multiple Choices' if request.path == '/' else '200 OK', self.versions()
            )
        if parts[0] == 'volumes':
            return self.volumes(parts[1:])
        if parts[0] == 'attachments':
            return self.attachment(request, parts[1:])
        return fault('404 Not Found', 'no such page', said='itemNotFound')

    def volumes(self, parts: list[str]) -> Said:
        if parts[:1] in ([], ['detail']):
            return Said(body={'volumes': [self.volume]})
        if parts[0] == VOLUME:
            return Said(body={'volume': self.volume})
        return fault(
            '404 Not Found', f'Volume {parts[0]} could not be found.', said='itemNotFound'
        )

    def attachment(self, request: Request, parts: list[str]) -> Said:
        if request.method == 'POST' and not parts:
            wanted = request.body['attachment']
            made = {
                'id': str(uuid.uuid4()),
                'status': 'reserved',
                'volume_id': wanted['volume_uuid'],
                'instance': wanted.get('instance_uuid'),
                'connection_info': {},
            }
            self.attachments[made['id']] = made
            return Said(body={'attachment': made})
        found = self.attachments.get(parts[0])
        if found is None:
            return fault('404 Not Found', 'no such attachment', said='itemNotFound')
        if request.method == 'DELETE':
            del self.attachments[parts[0]]
            return Said(body={'attachments': []})
        if request.method == 'PUT':
            found['connection_info'] = {
                'driver_volume_type': 'iscsi',
                'auth_password': SECRET,
                'target_portal': '127.0.0.1:3260',
            }
        if request.method == 'POST':
            return Said('204 No Content')
        return Said(body={'attachment': found})


class FakeKeystone(Application):
    """Gives tokens to whoever knows the password of a user, and a catalog.

    :ivar catalog: URL of Cinder by region and interface
    :ivar written: what a token looks like
    """

    def __init__(self, catalog: dict[str, dict[str, str]]) -> None:
        super().__init__()
        self.url = ''
        self.catalog = catalog
        self.passwords = {'nova': 'nova-Password-1', 'service': 'service-Password-2'}
        self.service_type = 'block-storage'
        self.written = 'token-of-{name}'

    def answer(self, request: Request) -> Said:
        if request.path.rstrip('/') in ('', '/v3'):
            version = {
                'id': 'v3.14',
                'status': 'stable',
                'links': [{'rel': 'self', 'href': f'{self.url}/v3/'}],
            }
            if request.path.rstrip('/'):
                return Said(body={'version': version})
            return Said('300 Multiple Choices', {'versions': {'values': [version]}})
        user = request.body['auth']['identity']['password']['user']
        if self.passwords.get(user['name']) != user['password']:
            return Said(
                '401 Unauthorized',
                {
                    'error': {
                        'code': 401,
                        'title': 'Unauthorized',
                        'message': 'The request you have made requires authentication.',
                    }
                },
            )
        return Said(
            '201 Created', self.token(user), {'X-Subject-Token': self.written.format(**user)}
        )

    def token(self, user: dict[str, typing.Any]) -> dict[str, typing.Any]:
        endpoints = [
            {
                'id': uuid.uuid4().hex,
                'region': region,
                'region_id': region,
                'interface': interface,
                'url': url,
            }
            for region, found in self.catalog.items()
            for interface, url in found.items()
        ]
        catalog = [
            {'id': 'x', 'type': self.service_type, 'name': 'cinder', 'endpoints': endpoints}
        ]
        return {
            'token': {
                'methods': ['password'],
                'user': {
                    'id': 'u',
                    'name': user['name'],
                    'domain': {'id': 'd', 'name': 'Default'},
                },
                'project': {
                    'id': PROJECT,
                    'name': 'p',
                    'domain': {'id': 'd', 'name': 'Default'},
                },
                'roles': [{'id': 'r', 'name': user['name']}],
                'catalog': catalog,
                'expires_at': '2100-01-01T00:00:00.000000Z',
                'issued_at': '2020-01-01T00:00:00.000000Z',
            }
        }


@contextlib.contextmanager
def served(application: typing.Any, *, below: str = '') -> Iterator[str]:
    """Serve it on loopback; its URL."""
    called: Callable[..., typing.Any] = application
    if below:

        def called(environ: dict[str, typing.Any], start: typing.Any) -> typing.Any:
            environ['PATH_INFO'] = environ['PATH_INFO'].removeprefix(below) or '/'
            return application(environ, start)

    server = LoopbackServer(called)
    application.url = server.url + below
    try:
        yield application.url
    finally:
        server.stop()
