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

"""Call a WSGI application from an SDK's session, without a socket."""

from collections.abc import Callable
import io
import sys
import typing
import urllib.parse

from keystoneauth1 import exceptions
from keystoneauth1 import session as keystoneauth
import urllib3

from volumedrivers.testing.cinder.loopback import Application


class WsgiAdapter(keystoneauth.TCPKeepAliveAdapter):  # type: ignore[misc]
    """What a session of requests sends through, without a socket."""

    def __init__(self, application: Application) -> None:
        super().__init__()
        self.application = application

    def send(self, request: typing.Any, *args: object, **kwargs: object) -> typing.Any:
        """Call the application in this thread; time limits do not apply.

        :raises ConnectFailure: as a session does whose connection breaks, where
            the application raises ConnectionError
        """
        answered: dict[str, typing.Any] = {}
        chunks: list[bytes] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], exc_info: object = None
        ) -> Callable[[bytes], None]:
            answered.update(status=status, headers=headers)
            return chunks.append

        try:
            body = self.application(_environment(request), start_response)
        except ConnectionError as error:
            raise exceptions.ConnectFailure(
                f'Unable to establish connection to {request.url}: {error!r}'
            ) from error
        try:
            chunks.extend(body)
        finally:
            close = getattr(body, 'close', None)
            if close is not None:
                close()
        code, _, reason = answered['status'].partition(' ')
        raw = urllib3.HTTPResponse(
            body=io.BytesIO(b''.join(chunks)),
            headers=answered['headers'],
            status=int(code),
            reason=reason,
            preload_content=False,
            decode_content=False,
        )
        return self.build_response(request, raw)


def _environment(request: typing.Any) -> dict[str, typing.Any]:
    address = urllib.parse.urlsplit(str(request.url))
    body = _body(request.body)
    environment: dict[str, typing.Any] = {
        'REQUEST_METHOD': request.method,
        'SCRIPT_NAME': '',
        'PATH_INFO': urllib.parse.unquote_to_bytes(address.path or '/').decode('latin-1'),
        'QUERY_STRING': address.query,
        'SERVER_NAME': address.hostname or 'localhost',
        'SERVER_PORT': str(address.port or 80),
        'SERVER_PROTOCOL': 'HTTP/1.1',
        'REMOTE_ADDR': '127.0.0.1',
        'CONTENT_LENGTH': str(len(body)),
        'HTTP_HOST': address.netloc,
        'wsgi.version': (1, 0),
        'wsgi.url_scheme': address.scheme,
        'wsgi.input': io.BytesIO(body),
        'wsgi.errors': sys.stderr,
        'wsgi.multithread': True,
        'wsgi.multiprocess': False,
        'wsgi.run_once': False,
    }
    for name, value in request.headers.items():
        text = value.decode('latin-1') if isinstance(value, bytes) else value
        key = name.upper().replace('-', '_')
        if key == 'CONTENT_TYPE':
            environment[key] = text
        elif key != 'CONTENT_LENGTH':
            environment[f'HTTP_{key}'] = text
    return environment


def _body(given: typing.Any) -> bytes:
    """Return all of it: text, a file, or pieces that would be sent as chunks."""
    if isinstance(given, str):
        return given.encode()
    if hasattr(given, 'read'):
        return typing.cast(bytes, given.read())
    return given if isinstance(given, bytes) else b''.join(given or ())
