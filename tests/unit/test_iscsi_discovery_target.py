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

from collections.abc import Iterator
import contextlib
import socket
import threading

import pytest

from volumedrivers import exception
from volumedrivers.host import iscsi_discovery
from volumedrivers.protocol_data import Portal

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
