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

"""Embedded Cinder's server on a port of loopback."""

from collections.abc import Iterator
import http.client
import json
import socket
import typing

import pytest

from volumedrivers.testing.cinder.loopback import LoopbackServer


class Seen:
    """An application that answers what it was asked."""

    def __init__(self) -> None:
        self.closed = 0

    def __call__(
        self, environment: dict[str, typing.Any], start_response: typing.Any
    ) -> 'typing.Any':
        if environment['PATH_INFO'] == '/gone':
            raise ConnectionResetError
        said = {name: value for name, value in environment.items() if not name.startswith('wsgi.')}
        said['body'] = environment['wsgi.input'].read().decode()
        self.answer = [json.dumps(said).encode()]
        length = {'/short': [('Content-Length', '10000')]}
        start_response('200 OK', length.get(environment['PATH_INFO'], []))
        return self

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.answer)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def server(seen: Seen) -> Iterator[LoopbackServer]:
    started = LoopbackServer(seen)
    yield started
    started.stop()


@pytest.fixture
def client(server: LoopbackServer) -> Iterator[http.client.HTTPConnection]:
    host, port = server.url.removeprefix('http://').split(':')
    assert host == '127.0.0.1'
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    yield connection
    connection.close()


def ask(client: http.client.HTTPConnection, *args: typing.Any, **more: typing.Any) -> typing.Any:
    client.request(*args, **more)
    return json.load(client.getresponse())


def test_environment(client: http.client.HTTPConnection, seen: Seen) -> None:
    said = ask(client, 'PUT', '/v3/a%20b?c=d', b'{}', headers={'X-One': '1'})
    assert said['REQUEST_METHOD'] == 'PUT'
    assert (said['PATH_INFO'], said['QUERY_STRING']) == ('/v3/a b', 'c=d')
    assert (said['HTTP_X_ONE'], said['CONTENT_LENGTH'], said['body']) == ('1', '2', '{}')
    assert said['SERVER_PORT'] == str(client.port)
    assert seen.closed == 1


def test_connection_is_kept(client: http.client.HTTPConnection) -> None:
    ask(client, 'GET', '/')
    kept = client.sock
    assert ask(client, 'POST', '/', b'x')['body'] == 'x'
    assert client.sock is kept is not None


def test_chunks_are_put_together(client: http.client.HTTPConnection) -> None:
    said = ask(client, 'POST', '/', iter([b'first ', b'x' * 70000, b' last']), encode_chunked=True)
    assert said['body'] == 'first ' + 'x' * 70000 + ' last'
    assert said['CONTENT_LENGTH'] == str(len(said['body']))
    assert ask(client, 'GET', '/')['body'] == ''


@pytest.mark.parametrize(
    'head', [b'Transfer-Encoding: chunked\r\n\r\nno number\r\n', b'Content-Length: -1\r\n\r\n']
)
def test_not_http(client: http.client.HTTPConnection, head: bytes) -> None:
    with socket.create_connection((client.host, client.port), timeout=10) as raw:
        raw.sendall(b'POST / HTTP/1.1\r\nHost: x\r\n' + head)
        assert raw.makefile('rb').read().startswith(b'HTTP/1.1 400 ')


def test_head_has_no_body(client: http.client.HTTPConnection) -> None:
    client.request('HEAD', '/')
    answer = client.getresponse()
    assert int(answer.headers['Content-Length']) > 0
    assert answer.read() == b''
    assert ask(client, 'GET', '/')['REQUEST_METHOD'] == 'GET'


def test_application_that_gives_no_answer(client: http.client.HTTPConnection) -> None:
    client.request('GET', '/gone')
    with pytest.raises(http.client.RemoteDisconnected):
        client.getresponse()


def test_less_than_was_promised(client: http.client.HTTPConnection) -> None:
    client.request('GET', '/short')
    with pytest.raises(http.client.IncompleteRead):
        client.getresponse().read()


def test_stopped_with_a_connection_kept(
    server: LoopbackServer, client: http.client.HTTPConnection, seen: Seen
) -> None:
    ask(client, 'GET', '/')
    server.stop()
    assert client.sock is not None
    assert client.sock.recv(1) == b''
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((client.host, client.port), timeout=10)
    again = LoopbackServer(seen, client.port)
    assert again.url.endswith(f':{client.port}')
    client.close()
    assert ask(client, 'GET', '/')['REQUEST_METHOD'] == 'GET'
    again.stop()
