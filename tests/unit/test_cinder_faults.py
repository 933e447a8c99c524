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

"""What can be put in front of a Cinder to make it fail."""

import http.client
import json
import threading
import typing

from keystoneauth1 import exceptions
from keystoneauth1 import session
import pytest

from volumedrivers.testing.cinder import faults as cinder_faults
from volumedrivers.testing.cinder.faults import Faults
from volumedrivers.testing.cinder.faults import Request
from volumedrivers.testing.cinder.loopback import LoopbackServer
from volumedrivers.testing.cinder.transport import WsgiAdapter

_URL = 'http://cinder.test'
_PROJECT = 'a' * 32


class Cinder:
    """Stands for one: writes down the bodies it gets, and says how many there were."""

    def __init__(self) -> None:
        self.done: list[bytes] = []
        self.closed = 0

    def __call__(
        self, environment: dict[str, typing.Any], start_response: typing.Any
    ) -> typing.Any:
        body = environment['wsgi.input'].read(int(environment['CONTENT_LENGTH']))
        self.done.append(body)
        said = json.dumps({'number': len(self.done)}).encode()
        start_response(
            '200 OK' if body != b'refuse' else '400 Bad Request',
            [('Content-Type', 'application/json'), ('Content-Length', str(len(said)))],
        )
        return Chunks(self, said)


class Chunks:
    def __init__(self, cinder: Cinder, body: bytes) -> None:
        self.cinder = cinder
        self.body = body

    def __iter__(self) -> typing.Iterator[bytes]:
        yield self.body[:3]
        yield self.body[3:]

    def close(self) -> None:
        self.cinder.closed += 1


@pytest.fixture
def cinder() -> Cinder:
    return Cinder()


@pytest.fixture
def faults(cinder: Cinder) -> Faults:
    made = Faults()
    assert made.wrap(cinder) is made
    return made


@pytest.fixture
def client(faults: Faults) -> typing.Iterator[session.Session]:
    made = session.Session()
    made.session.mount(_URL, WsgiAdapter(faults))
    yield made
    made.session.close()


def ask(
    client: session.Session, path: str = '/attachments', method: str = 'POST', **more: typing.Any
) -> typing.Any:
    more.setdefault('json', {'attachment': {}})
    return client.request(f'{_URL}/v3{path}', method, raise_exc=False, **more)


def test_without_a_rule_cinder_answers(
    client: session.Session, faults: Faults, cinder: Cinder
) -> None:
    assert ask(client).json() == {'number': 1}
    assert cinder.done == [b'{"attachment": {}}']
    assert cinder.closed == 1
    assert faults.seen() == [Request('POST', '/attachments')]


@pytest.mark.parametrize(
    ('path', 'body', 'expected'),
    [
        ('/volumes/1/action', {'os-begin_detaching': None}, 'POST /volumes/1/action os-begin_det'),
        (f'/{_PROJECT}/volumes/1', {'volume': {}}, 'POST /volumes/1'),
        ('/volumes/detail?name=a', {}, 'POST /volumes/detail'),
        ('/volumes/1/action', [], 'POST /volumes/1/action'),
        ('', {}, 'POST /'),
        ('/', {}, 'POST /'),
    ],
)
def test_what_a_request_is_called(
    client: session.Session, faults: Faults, path: str, body: typing.Any, expected: str
) -> None:
    ask(client, path, json=body)
    (seen,) = faults.seen()
    assert str(seen).startswith(expected)
    assert len(str(seen)) - len(expected) in (0, len('aching'))


def test_action_that_is_no_json(client: session.Session, faults: Faults) -> None:
    ask(client, '/volumes/1/action', json=None, data=b'{')
    assert [one.action for one in faults.seen()] == ['']


def test_first_rule_that_applies_so_many_times(
    client: session.Session, faults: Faults, cinder: Cinder
) -> None:
    faults.add('POST /attachments', cinder_faults.status(500), times=2, skip=1)
    faults.add('* /attachments', cinder_faults.status(409), times=1)
    faults.add('DELETE *', cinder_faults.status(404))
    answers = [ask(client).status_code for _ in range(5)]
    # The one that was skipped was for the second rule.
    assert answers == [409, 500, 500, 200, 200]
    assert [ask(client, '/attachments/1', 'DELETE').status_code for _ in range(2)] == [404, 404]
    assert faults.count('POST *') == 5
    assert len(cinder.done) == 2
    faults.clear()
    assert faults.seen() == []
    assert ask(client, '/attachments/1', 'DELETE').status_code == 200


def test_aside(client: session.Session, faults: Faults) -> None:
    faults.add('*', cinder_faults.status(500), times=1)
    with faults.aside(), faults.aside():
        assert ask(client).status_code == 200
    assert faults.seen() == []
    assert ask(client).status_code == 500


@pytest.mark.parametrize('after', [False, True])
@pytest.mark.parametrize(
    ('make', 'code', 'kind', 'body'),
    [
        (
            lambda after: cinder_faults.status(404, 'not here', after=after),
            404,
            'application/json',
            b'{"itemNotFound": {"code": 404, "message": "not here"}}',
        ),
        (
            lambda after: cinder_faults.status(500, after=after),
            500,
            'application/json',
            b'{"computeFault": {"code": 500, "message": "by a test"}}',
        ),
        (
            lambda after: cinder_faults.page(502, after=after),
            502,
            'text/html',
            b'<html><head><title>502</title></head><body><h1>Bad Gateway</h1></body></html>',
        ),
        (
            lambda after: cinder_faults.garbage(after=after),
            200,
            'application/json',
            b'{"attach',
        ),
        (lambda after: cinder_faults.empty(after=after), 200, 'application/json', b'{}'),
    ],
    ids=['404', '500', 'page', 'garbage', 'empty'],
)
def test_another_answer(
    client: session.Session,
    faults: Faults,
    cinder: Cinder,
    make: typing.Callable[[bool], cinder_faults.Fault],
    code: int,
    kind: str,
    body: bytes,
    after: bool,
) -> None:
    faults.add('*', make(after))
    found = ask(client)
    assert (found.status_code, found.headers['Content-Type'], found.content) == (code, kind, body)
    assert len(cinder.done) == after


def test_truncated(client: session.Session, faults: Faults, cinder: Cinder) -> None:
    faults.add('*', cinder_faults.truncated())
    with pytest.raises(exceptions.UnknownConnectionError, match='IncompleteRead'):
        ask(client)
    assert len(cinder.done) == 1


def test_changed(client: session.Session, faults: Faults) -> None:
    faults.add('*', cinder_faults.changed(lambda said: said.update(more=list(range(99)))))
    assert ask(client).json() == {'number': 1, 'more': list(range(99))}
    assert ask(client, json=None, data=b'refuse').json() == {'number': 2}


@pytest.mark.parametrize(
    ('fault', 'said', 'done'),
    [
        (cinder_faults.refused(), 'Connection refused', 0),
        (cinder_faults.reset(), 'Connection reset by peer', 0),
        (cinder_faults.reset(after=True), 'Connection reset by peer', 1),
    ],
    ids=['refused', 'reset', 'reset after'],
)
def test_no_answer(
    client: session.Session,
    faults: Faults,
    cinder: Cinder,
    fault: cinder_faults.Fault,
    said: str,
    done: int,
) -> None:
    faults.add('*', fault)
    with pytest.raises(exceptions.ConnectFailure, match=said):
        ask(client)
    assert len(cinder.done) == done
    faults.wait_idle(0.1)


@pytest.mark.parametrize('after', [False, True])
def test_slow(client: session.Session, faults: Faults, cinder: Cinder, after: bool) -> None:
    faults.add('*', cinder_faults.slow(after=after), times=1)
    answers: list[typing.Any] = []
    late = threading.Thread(target=lambda: answers.append(ask(client).json()))
    late.start()
    faults.wait_seen('POST *')
    with pytest.raises(TimeoutError, match='nobody asked DELETE'):
        faults.wait_seen('DELETE *', 0.01)
    with pytest.raises(TimeoutError, match='1 requests'):
        faults.wait_idle(0.1)
    # The others are not held up.
    assert ask(client).json() == {'number': 1 + after}
    assert len(cinder.done) == 1 + after
    assert answers == []
    faults.let_go()
    late.join(30)
    faults.wait_idle(0.1)
    assert answers == [{'number': 2 - after}]


def test_slow_comes_to_its_end_by_itself(
    client: session.Session, faults: Faults, cinder: Cinder
) -> None:
    faults.add('*', cinder_faults.slow(0.01))
    assert ask(client).json() == {'number': 1}


def test_over_a_socket(faults: Faults, cinder: Cinder) -> None:
    server = LoopbackServer(faults)
    try:
        client = session.Session()
        address = f'{server.url}/v3/attachments'
        assert client.post(address, json={}).json() == {'number': 1}
        faults.add('*', cinder_faults.reset(after=True), times=1)
        with pytest.raises(exceptions.ConnectFailure, match='without response'):
            client.post(address, json={})
        assert len(cinder.done) == 2
        faults.add('*', cinder_faults.truncated(), times=1)
        with pytest.raises(exceptions.ConnectionError):
            client.post(address, json={})
        faults.add('*', cinder_faults.slow())
        connection = http.client.HTTPConnection('127.0.0.1', int(server.url.rsplit(':')[-1]), 0.1)
        connection.request('POST', '/v3/attachments', b'late')
        with pytest.raises(TimeoutError):
            connection.getresponse()
        connection.close()
        # The client is gone; Cinder does it all the same.
        assert len(cinder.done) == 3
        faults.let_go()
        faults.wait_idle()
        assert cinder.done[-1] == b'late'
    finally:
        server.stop()
    with pytest.raises(exceptions.ConnectFailure, match='refused'):
        client.post(address, json={})
    client.session.close()
