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

"""HTTP services of stand-ins: strict ones, which answer in JSON."""

import abc
import http.server
import json
import ssl
import sys
import traceback
import typing
import urllib.parse


class Refusal(Exception):
    """What is asked for is refused.

    :ivar status: of HTTP
    :ivar body: for JSON
    """

    def __init__(self, status: int, body: object, **headers: str) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body
        self.headers = headers


class Handler(http.server.BaseHTTPRequestHandler, abc.ABC):
    """One connection; what a service does is in ``respond``."""

    protocol_version = 'HTTP/1.1'
    server_version = 'lab-stand-in'

    @abc.abstractmethod
    def respond(self, method: str, path: str, body: bytes) -> object:
        """Return what is answered, for JSON.

        :raises Refusal
        """

    def do_GET(self) -> None:
        self._serve('GET')

    def do_POST(self) -> None:
        self._serve('POST')

    def do_HEAD(self) -> None:
        self._serve('HEAD')

    def _serve(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        status, headers = 200, {}
        try:
            answer = self.respond(method, urllib.parse.urlsplit(self.path).path, body)
        except Refusal as refusal:
            status, answer, headers = refusal.status, refusal.body, refusal.headers
        except Exception:
            # A fault of the stand-in; it must not look like one of the vendor's answers.
            traceback.print_exc()
            status, answer = 599, {'message': 'the stand-in is broken; see its log'}
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace('_', '-'), value)
        self.end_headers()
        if method != 'HEAD':
            self.wfile.write(data)

    def log_message(self, format: str, *args: typing.Any) -> None:
        """Log what was asked for; headers and bodies have secrets in them."""
        print(self.log_date_time_string(), format % args, file=sys.stderr, flush=True)


def parameters(body: bytes, refuse: typing.Callable[[str], Refusal]) -> dict[str, typing.Any]:
    """Return the JSON object of a body.

    :param refuse: makes the refusal of a sentence
    :raises Refusal
    """
    try:
        found = json.loads(body)
    except ValueError:
        raise refuse('the body is no JSON') from None
    if not isinstance(found, dict):
        raise refuse('the body is no JSON object')
    return found


class Server(http.server.ThreadingHTTPServer):
    """Listens; a client that says nothing keeps no other one waiting.

    :ivar tls: context of HTTPS; None: plain HTTP
    """

    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], handler: type[Handler], tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(address, handler)
        self.tls = tls

    def finish_request(self, request: typing.Any, client_address: typing.Any) -> None:
        """Do the handshake in the connection's own thread."""
        if self.tls is not None:
            request = self.tls.wrap_socket(request, server_side=True)
        super().finish_request(request, client_address)

    def handle_error(self, request: typing.Any, client_address: typing.Any) -> None:
        """Say in one line what a client did to its connection."""
        print(f'{client_address[0]}: {sys.exception()!r}', file=sys.stderr, flush=True)
