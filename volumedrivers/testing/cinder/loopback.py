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

"""Serve a WSGI application on a port of 127.0.0.1."""

from collections.abc import Callable
from collections.abc import Iterable
import contextlib
from http import HTTPStatus
import http.server
import io
import socket
import socketserver
import sys
import threading
import typing
import urllib.parse

Application = Callable[[dict[str, typing.Any], Callable[..., typing.Any]], Iterable[bytes]]
_IDLE = 60.0


class LoopbackServer:
    """HTTP/1.1, a thread for each connection; chunked bodies are taken, and given whole.

    An application that raises ConnectionError closes the connection without an answer.

    :ivar url: without a slash at the end
    """

    def __init__(self, application: Application, port: int = 0) -> None:
        """Serve from now on.

        :param port: 0: one that is free
        """
        self._server = _Server(('127.0.0.1', port), _Handler)
        self._server.application = application
        self.url = f'http://127.0.0.1:{self._server.server_address[1]}'
        self._is_open = True
        self._thread = threading.Thread(target=self._serve, daemon=True, name='wsgi')
        self._thread.start()

    def _serve(self) -> None:
        while self._is_open:
            self._server.handle_request()

    def stop(self) -> None:
        """Accept nothing more, close what is open, and give the port back."""
        self._is_open = False
        with contextlib.suppress(OSError):  # it was stopped before
            # Whoever waits for a client is told that none will come.
            self._server.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.server_close()
        self._server.close_connections()


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128
    application: Application

    def __init__(self, *args: typing.Any) -> None:
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(*args)

    def process_request(self, request: typing.Any, client_address: typing.Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: typing.Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """End those that clients keep for later; their threads end then."""
        with self._lock:
            for each in self._connections:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    # Head and body are one small packet each; the second must not wait.
    disable_nagle_algorithm = True
    timeout = _IDLE
    server: _Server

    def log_message(self, *args: object) -> None:
        """Whoever is served has its own log."""

    def answer(self) -> None:
        """Let the application answer this request."""
        try:
            body = self._body()
        except ValueError:
            self.close_connection = True
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        begun: list[typing.Any] = []
        chunks: list[bytes] = []

        def start_response(
            status: str, headers: list[tuple[str, str]], exc_info: object = None
        ) -> Callable[[bytes], None]:
            begun[:] = [status, headers]
            return chunks.append

        try:
            answer = self.server.application(self._environment(body), start_response)
            try:
                chunks.extend(answer)
            finally:
                close = getattr(answer, 'close', None)
                if close is not None:
                    close()
        except ConnectionError:
            self.close_connection = True
            return
        status, headers = begun
        self._send(status, headers, b''.join(chunks))

    do_DELETE = do_GET = do_HEAD = do_OPTIONS = do_PATCH = do_POST = do_PUT = answer

    def _send(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        code, _, reason = status.partition(' ')
        self.send_response_only(int(code), reason)
        self.send_header('Date', self.date_time_string())
        length = None
        for name, value in headers:
            if name.lower() == 'content-length':
                length = int(value)
            self.send_header(name, value)
        bare = int(code) in {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
        if length is None and not bare:
            self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        if self.command != 'HEAD' and not bare:
            self.wfile.write(body)
            # Less than was promised: the client sees it by the end.
            self.close_connection |= length not in {None, len(body)}

    def _body(self) -> bytes:
        """:raises ValueError: it is not HTTP"""
        if 'chunked' in self.headers.get('Transfer-Encoding', '').lower():
            return b''.join(iter(self._chunk, b''))
        length = int(self.headers.get('Content-Length') or 0)
        if length < 0:
            raise ValueError
        return self.rfile.read(length)

    def _chunk(self) -> bytes:
        length = int(self.rfile.readline(1024).split(b';')[0], 16)
        data = self.rfile.read(length) if length > 0 else b''
        # Behind a chunk; behind the last of them there may be headers.
        while self.rfile.readline(65536).strip() and not data:
            pass
        return data

    def _environment(self, body: bytes) -> dict[str, typing.Any]:
        path, _, query = self.path.partition('?')
        environment: dict[str, typing.Any] = {
            'REQUEST_METHOD': self.command,
            'SCRIPT_NAME': '',
            'PATH_INFO': urllib.parse.unquote_to_bytes(path).decode('latin-1'),
            'QUERY_STRING': query,
            'SERVER_NAME': '127.0.0.1',
            'SERVER_PORT': str(self.server.server_address[1]),
            'SERVER_PROTOCOL': self.request_version,
            'REMOTE_ADDR': str(self.client_address[0]),
            'CONTENT_LENGTH': str(len(body)),
            'wsgi.version': (1, 0),
            'wsgi.url_scheme': 'http',
            'wsgi.input': io.BytesIO(body),
            'wsgi.errors': sys.stderr,
            'wsgi.multithread': True,
            'wsgi.multiprocess': False,
            'wsgi.run_once': False,
        }
        for name, value in self.headers.items():
            key = name.upper().replace('-', '_')
            if key == 'CONTENT_TYPE':
                environment[key] = value
            elif key not in {'CONTENT_LENGTH', 'TRANSFER_ENCODING'}:
                environment[f'HTTP_{key}'] = value
        return environment
