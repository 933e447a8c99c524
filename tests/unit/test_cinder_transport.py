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

"""A WSGI application behind a session of requests, without a socket."""

from collections.abc import Iterator
import io
import typing

from keystoneauth1 import session
import pytest

from volumedrivers.testing.cinder.transport import WsgiAdapter


@pytest.fixture
def client() -> Iterator[typing.Any]:
    def application(environment: dict[str, typing.Any], start_response: typing.Any) -> list[bytes]:
        body = environment['wsgi.input'].read()
        assert environment['CONTENT_LENGTH'] == str(len(body))
        start_response('201 Created', [('X-Path', environment['PATH_INFO'])])
        return [environment['REQUEST_METHOD'].encode(), b' ', body]

    made = session.Session().session
    made.mount('http://app.invalid', WsgiAdapter(application))
    yield made
    made.close()


@pytest.mark.parametrize(
    'body',
    [b'a body', 'a body', io.BytesIO(b'a body'), iter([b'a ', b'body'])],
    ids=['bytes', 'text', 'file', 'pieces'],
)
def test_bodies(client: typing.Any, body: object) -> None:
    answer = client.post('http://app.invalid/v3/a%20b', data=body)
    assert answer.content == b'POST a body'
    assert (answer.status_code, answer.reason) == (201, 'Created')
    assert answer.headers['X-Path'] == '/v3/a b'


def test_no_body(client: typing.Any) -> None:
    assert client.get('http://app.invalid/').content == b'GET '
