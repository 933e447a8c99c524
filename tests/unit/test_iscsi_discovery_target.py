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

"""Discovery as Linux's own target (LIO) answers it, which goes on where tgt ends."""

import base64
from collections.abc import Iterator
import contextlib
import hashlib
import socket
import threading

import pytest

from volumedrivers import exception
from volumedrivers.host import iscsi_discovery
from volumedrivers.protocol_data import Chap
from volumedrivers.protocol_data import Portal
from volumedrivers.protocol_data import Secret

IQN = 'iqn.2026-01.test:t1'
TEXT = f'TargetName={IQN}\0TargetAddress=127.0.0.1:3260,1\0TargetAddress=127.0.0.2:3260,1\0'


def _request(connection: socket.socket) -> tuple[bytes, bytes]:
    header = connection.recv(48, socket.MSG_WAITALL)
    length = int.from_bytes(header[5:8], 'big')
    return header, connection.recv(length + -length % 4, socket.MSG_WAITALL)[:length]


def _answer(connection: socket.socket, asked: bytes, code: int, flags: int, text: bytes) -> None:
    header = bytearray(48)
    header[0], header[1], header[5:8] = code, flags, len(text).to_bytes(3, 'big')
    header[16:20], header[20:24] = asked[16:20], (1).to_bytes(4, 'big')
    connection.sendall(bytes(header) + text + b'\0' * (-len(text) % 4))


def _serve(listener: socket.socket, part: int | None) -> None:
    """Answer in parts of as many bytes as the initiator can take; None: of none."""
    with contextlib.suppress(OSError):
        connection = listener.accept()[0]
        with connection:
            segment, rest = 0, TEXT.encode()
            while True:
                asked, said = _request(connection)
                if not asked:
                    return
                if asked[0] & 0x3F == 0x03:
                    if b'MaxRecvDataSegmentLength=' in said and part is not None:
                        segment = part
                    _answer(connection, asked, 0x23, asked[1], b'')
                    continue
                now, rest = rest[:segment], rest[segment:]
                _answer(connection, asked, 0x24, 0x40 if rest else 0x80, now)


@contextlib.contextmanager
def _target(part: int | None) -> Iterator[Portal]:
    with socket.create_server(('127.0.0.1', 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener, part), daemon=True)
        thread.start()
        yield Portal('127.0.0.1', listener.getsockname()[1])


@pytest.mark.parametrize('part', [8192, 40])
def test_a_target_that_wants_to_know_how_much_it_may_send(part: int) -> None:
    with _target(part) as portal:
        found = iscsi_discovery.discover(portal, initiator_name='iqn.2026-01.test:i', seconds=10)
    assert found == (
        iscsi_discovery.Found(Portal('127.0.0.1', 3260), IQN),
        iscsi_discovery.Found(Portal('127.0.0.2', 3260), IQN),
    )


def test_a_target_that_says_nothing_for_ever_is_not_listened_to_for_long() -> None:
    with (
        _target(None) as portal,
        pytest.raises(exception.EndpointUnreachable, match='tells of nothing'),
    ):
        iscsi_discovery.discover(portal, initiator_name='iqn.2026-01.test:i', seconds=10)


CHALLENGE = bytes(range(16))
PASSWORD = 'secret-of-discovery'


def _serve_chap(listener: socket.socket, challenge: str) -> None:
    """Want CHAP, as LIO does with enforce_discovery_auth."""
    right = hashlib.md5(b'\x07' + PASSWORD.encode() + CHALLENGE).hexdigest()
    with contextlib.suppress(OSError):
        connection = listener.accept()[0]
        with connection:
            while True:
                asked, said = _request(connection)
                if not asked:
                    return
                words = said.split(b'\0')
                if asked[0] & 0x3F != 0x03:
                    _answer(connection, asked, 0x24, 0x80, TEXT.encode())
                elif b'AuthMethod=None' in words:
                    _answer(connection, asked, 0x23, 0x00, b'AuthMethod=CHAP\0')
                elif b'AuthMethod=CHAP,None' in words:
                    assert asked[1] == 0x00
                    _answer(connection, asked, 0x23, 0x00, b'AuthMethod=CHAP\0')
                elif b'CHAP_A=5' in words:
                    text = f'CHAP_A=5\0CHAP_I=7\0CHAP_C={challenge}\0'
                    _answer(connection, asked, 0x23, 0x00, text.encode())
                elif asked[1] == 0x81:
                    assert b'CHAP_N=user' in words
                    if f'CHAP_R=0x{right}'.encode() not in words:
                        return
                    _answer(connection, asked, 0x23, 0x81, b'')
                else:
                    _answer(connection, asked, 0x23, asked[1], b'')


@contextlib.contextmanager
def _chap_target(challenge: str) -> Iterator[Portal]:
    with socket.create_server(('127.0.0.1', 0)) as listener:
        thread = threading.Thread(target=_serve_chap, args=(listener, challenge), daemon=True)
        thread.start()
        yield Portal('127.0.0.1', listener.getsockname()[1])


def _discover(portal: Portal, password: str | None) -> tuple[iscsi_discovery.Found, ...]:
    auth = None if password is None else Chap('user', Secret(password))
    return iscsi_discovery.discover(
        portal, initiator_name='iqn.2026-01.test:i', seconds=10, auth=auth
    )


@pytest.mark.parametrize(
    'challenge', [f'0x{CHALLENGE.hex()}', '0b' + base64.b64encode(CHALLENGE).decode()]
)
def test_a_target_that_wants_chap_gets_the_right_answer(challenge: str) -> None:
    with _chap_target(challenge) as portal:
        assert len(_discover(portal, PASSWORD)) == 2


@pytest.mark.parametrize('password', [None, 'wrong'])
def test_who_cannot_say_who_it_is_finds_nothing(password: str | None) -> None:
    with (
        _chap_target(f'0x{CHALLENGE.hex()}') as portal,
        pytest.raises(exception.EndpointUnreachable) as caught,
    ):
        _discover(portal, password)
    assert 'wrong' not in str(caught.value)


def test_a_challenge_that_is_none_is_refused() -> None:
    with (
        _chap_target('what?') as portal,
        pytest.raises(exception.EndpointUnreachable, match='no challenge'),
    ):
        _discover(portal, PASSWORD)


def test_a_target_that_wants_no_password_is_asked_without() -> None:
    with _target(8192) as portal:
        assert len(_discover(portal, PASSWORD)) == 2
