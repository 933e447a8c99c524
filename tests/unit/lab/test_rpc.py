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

"""The RPC of the lab, between two processes of this machine."""

from collections.abc import Iterator
import os
import pathlib
import subprocess
import sys
import typing

import pytest

from tests.lab.rpc import messages
from tests.lab.rpc.client import RemoteEnded
from tests.lab.rpc.client import RemoteError
from tests.lab.rpc.client import RemoteLate
from tests.lab.rpc.client import RpcServer
from tests.lab.rpc.client import Session
from tests.lab.rpc.client import Stream
from tests.lab.waiting import wait_until

SERVED = 'tests.unit.lab.rpc_served'
REPOSITORY = pathlib.Path(__file__).resolve().parents[3]


@pytest.fixture(scope='module')
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, '-m', 'tests.lab.rpc.server', SERVED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=REPOSITORY,
    ) as started:
        yield started
        started.kill()


@pytest.fixture(scope='module')
def server(process: subprocess.Popen[bytes]) -> RpcServer:
    return RpcServer(typing.cast(Stream, process))


@pytest.fixture
def session(server: RpcServer) -> Iterator[Session]:
    opened = server.open(f'{SERVED}:Served', name='one')
    yield opened
    opened.end()


def test_calls_keep_their_object(session: Session) -> None:
    assert session.echo(a=1) == {'name': 'one', 'calls': 1, 'a': 1}
    assert session.call('echo', b=[None, 2.5])['calls'] == 2


def test_bytes_go_both_ways(session: Session) -> None:
    data = bytes(range(256))
    assert session.echo(data=data, parts=[{'x': data}]) == {
        'name': 'one',
        'calls': 1,
        'data': data,
        'parts': [{'x': data}],
    }


def test_a_megabyte(session: Session) -> None:
    data = os.urandom(1 << 20)
    assert session.echo(data=data)['data'] == data


def test_error_with_its_data(session: Session) -> None:
    with pytest.raises(RemoteError) as caught:
        session.refuse()
    error = caught.value
    assert (error.call, error.type, error.message) == ('refuse', 'Refused', '/dev/sdz is refused')
    assert error.types[:2] == ['Refused', 'ValueError']
    assert error.attributes == {'device': '/dev/sdz', 'paths': "['a']"}
    assert error.notes == ['a note']
    assert 'rpc_served.py' in error.trace
    # The session goes on.
    assert session.echo()['calls'] == 1


def test_session_that_cannot_be_made(server: RpcServer) -> None:
    with pytest.raises(RemoteError) as caught:
        server.open(f'{SERVED}:Served', name='impossible')
    assert caught.value.type == 'Refused'


@pytest.mark.parametrize('name', ['_private', 'not_there'])
def test_what_is_not_public(session: Session, name: str) -> None:
    with pytest.raises(RemoteError) as caught:
        session.call(name)
    assert caught.value.type == 'AttributeError'


def test_two_sessions_at_once(server: RpcServer, session: Session) -> None:
    other = server.open(f'{SERVED}:Served', name='two')
    hanging = other.begin('hang')
    assert session.echo()['name'] == 'one'
    other.kill()
    with pytest.raises(RemoteEnded) as caught:
        hanging.result(10)
    assert caught.value.status == -9
    assert other.ended
    assert not session.ended


def test_killed_session_has_said_what_it_logged(server: RpcServer) -> None:
    doomed = server.open(f'{SERVED}:Served', name='doomed')
    server.take_log()
    hanging = doomed.begin('hang')
    log: list[str] = []

    def has_said() -> bool:
        log.extend(server.take_log())
        return any('about to hang' in line for line in log)

    wait_until(has_said, 'the session to log', timeout=10)
    doomed.kill()
    with pytest.raises(RemoteEnded):
        hanging.result(10)
    assert any(line.startswith(f'{doomed.name} ') for line in log)


def test_exit_code_of_a_session(server: RpcServer) -> None:
    leaving = server.open(f'{SERVED}:Served', name='leaving')
    with pytest.raises(RemoteEnded) as caught:
        leaving.leave(code=7)
    assert caught.value.status == 7


def test_late_answer(server: RpcServer) -> None:
    late = server.open(f'{SERVED}:Served', name='late')
    with pytest.raises(RemoteLate, match=r'hang: no answer in 0\.2 s'):
        late.call('hang', timeout=0.2)
    assert not late.ended
    late.kill()


def test_what_is_printed_is_not_in_the_answers(server: RpcServer, session: Session) -> None:
    server.take_log()
    session.say(text='said')
    assert session.echo()['calls'] == 1
    assert [line for line in server.take_log() if line.endswith(' said')]


def test_killed_with_orders_that_it_has_not_read(server: RpcServer, session: Session) -> None:
    doomed = server.open(f'{SERVED}:Served', name='doomed')
    calls = [doomed.begin('hang'), *(doomed.begin('echo', data=b'x' * 9999) for _ in range(9))]
    doomed.kill()
    for call in calls:
        with pytest.raises(RemoteEnded) as caught:
            call.result(10)
        assert caught.value.status == -9
    with pytest.raises((RemoteEnded, RemoteError)):
        doomed.echo()
    assert session.echo()['calls'] == 1


def test_lost_host() -> None:
    process = subprocess.Popen(
        [sys.executable, '-m', 'tests.lab.rpc.server', SERVED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
    )
    server = RpcServer(typing.cast(Stream, process))
    session = server.open(f'{SERVED}:Served', name='lost')
    hanging = session.begin('hang')
    process.kill()
    with pytest.raises(RemoteEnded) as caught:
        hanging.result(10)
    assert caught.value.status is None
    with pytest.raises(RemoteEnded):
        session.echo()
    server.close()
    process.wait(10)


def test_server_ends_its_sessions(tmp_path: pathlib.Path) -> None:
    process = subprocess.Popen(
        [sys.executable, '-m', 'tests.lab.rpc.server', SERVED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
    )
    server = RpcServer(typing.cast(Stream, process))
    session = server.open(f'{SERVED}:Served', name='left')
    session.begin('hang')
    children = pathlib.Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()
    assert len(children) == 1
    server.close()
    assert process.returncode == 0
    assert not pathlib.Path(f'/proc/{children[0]}').exists()


def test_messages_of_plain_data() -> None:
    line = messages.encode({'a': {2, 1}, 'b': pathlib.Path('/dev/sda'), 'c': b'\x00'})
    assert line.endswith(b'\n')
    assert messages.decode(line) == {'a': [1, 2], 'b': '/dev/sda', 'c': b'\x00'}
