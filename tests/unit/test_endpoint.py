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

"""Endpoints that answer, that refuse, that are silent and that are something else."""

import contextlib
import socket
import struct
import threading
import time

import pytest

from volumedrivers import exception
from volumedrivers.host import endpoint

# Says only that nothing hangs: ten times the longest timeout used here.
FAR_TOO_LONG = 20.0


@contextlib.contextmanager
def listener(answer=None, *, host='127.0.0.1', close=False, reads=0):
    """Serve one connection; ``answer`` is bytes, or makes them of what was read."""
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    seen = []
    stop = threading.Event()

    def serve(server):
        with contextlib.suppress(OSError):
            connection, _ = server.accept()
            with connection:
                if reads:
                    seen.append(connection.recv(reads))
                reply = answer(seen[0]) if callable(answer) else answer
                if reply:
                    connection.sendall(reply)
                if not close:
                    stop.wait(FAR_TOO_LONG)

    with socket.create_server((host, 0), family=family) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        try:
            yield (host, server.getsockname()[1]), seen
        finally:
            stop.set()
            # Wakes an accept() that nobody came to.
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
    thread.join(FAR_TOO_LONG)
    assert not thread.is_alive()


def check(protocol, *endpoints, timeout=2.0, **options):
    start = time.monotonic()
    try:
        return endpoint.Probe().check(protocol, endpoints, timeout=timeout, **options)
    finally:
        assert time.monotonic() - start < FAR_TOO_LONG


def refused_port():
    with socket.create_server(('127.0.0.1', 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize(
    ('protocol', 'banner'),
    [
        ('rbd', b'ceph v2\n\x10\0' + bytes(16)),
        ('rbd', b'ceph v027' + bytes(272)),
        ('nbd', b'NBDMAGICIHAVEOPT'),
    ],
)
def test_server_that_speaks_first(protocol, banner):
    with listener(banner) as (where, _):
        result = check(protocol, where)
    assert result == ((f'127.0.0.1:{where[1]}',), ())


def login_response(request, opcode=0x23, status=b'\0\0'):
    return bytes([opcode, 0x87]) + bytes(14) + request[16:20] + bytes(16) + status + bytes(10)


@pytest.mark.parametrize(
    'status',
    [b'\0\0', b'\2\1', b'\1\1', b'\3\1'],
    ids=['success', 'authentication', 'moved', 'out-of-resources'],
)
def test_iscsi_login_of_any_status_is_an_answer(status):
    with listener(lambda sent: login_response(sent, status=status), reads=4096) as (where, _):
        assert check('iscsi', where).failed == ()


def test_iscsi_login_request_is_what_the_rfc_says():
    with listener(login_response, reads=4096) as (where, seen):
        check('iscsi', where, initiator_name='iqn.2020-01.example:me')
    request = seen[0]
    opcode, flags = request[0], request[1]
    assert opcode == 0x43
    assert flags == 0x81
    assert request[4] == 0
    length = int.from_bytes(request[5:8], 'big')
    text = request[48 : 48 + length]
    assert len(request) == 48 + length + -length % 4
    assert dict(pair.split('=') for pair in text.decode().split('\0') if pair) == {
        'InitiatorName': 'iqn.2020-01.example:me',
        'SessionType': 'Discovery',
        'AuthMethod': 'None,CHAP',
    }
    assert request[14:16] == b'\0\0'  # a new session


@pytest.mark.parametrize(
    ('answer', 'answers'),
    [
        (bytes((1, 0, 128, 0, 128, 0, 0, 0)) + bytes(120), True),
        # C2HTermReq: it does not like what it was told
        (bytes((3, 0, 24, 0, 24, 0, 0, 0)) + bytes(16), False),
    ],
)
def test_nvme_controller_initializes_the_connection(answer, answers):
    with listener(answer, reads=128) as (where, seen):
        if answers:
            assert check('nvme', where).failed == ()
        else:
            with pytest.raises(exception.EndpointUnreachable, match='not as an NVMe/TCP'):
                check('nvme', where)
    # ICReq: type 0, header and PDU of 128 bytes, format version 0
    assert seen[0] == bytes((0, 0, 128, 0, 128, 0, 0, 0)) + bytes(120)


def test_gluster_rpc_reply_is_an_answer():
    def reply(call):
        mark, xid, kind, version = struct.unpack('>4I', call[:16])
        assert mark == 0x80000000 | (len(call) - 4)
        assert (kind, version) == (0, 2)
        # accepted, but the program is not available
        return struct.pack('>7I', 0x80000018, xid, 1, 0, 0, 0, 1)

    with listener(reply, reads=4096) as (where, _):
        assert check('gluster', where).failed == ()


@pytest.mark.parametrize(
    ('protocol', 'peer'),
    [
        ('rbd', 'a Ceph monitor'),
        ('iscsi', 'an iSCSI target'),
        ('nbd', 'an NBD server'),
        ('gluster', 'a GlusterFS server'),
    ],
)
class TestNotAnswering:
    def test_silent(self, protocol, peer):
        with listener(None) as (where, _), pytest.raises(exception.EndpointUnreachable) as caught:
            check(protocol, where, timeout=0.3)
        assert caught.value.reason == 'no answer within 0.3 s'
        assert caught.value.endpoint == f'127.0.0.1:{where[1]}'
        assert caught.value.protocol == protocol

    def test_refused(self, protocol, peer):
        with pytest.raises(exception.EndpointUnreachable) as caught:
            check(protocol, ('127.0.0.1', refused_port()))
        assert caught.value.reason == 'connection refused'

    def test_something_else(self, protocol, peer):
        web = b'HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
        with listener(web) as (where, _), pytest.raises(exception.EndpointUnreachable) as caught:
            check(protocol, where)
        assert caught.value.reason == f'answered, but not as {peer}'

    def test_a_few_bytes_and_the_end(self, protocol, peer):
        with (
            listener(b'220', close=True, reads=4096 * (protocol in ('iscsi', 'gluster'))) as (
                where,
                _,
            ),
            pytest.raises(exception.EndpointUnreachable) as caught,
        ):
            check(protocol, where)
        assert caught.value.reason == f'answered, but not as {peer}'

    def test_a_few_bytes_and_silence(self, protocol, peer):
        with (
            listener(b'cep') as (where, _),
            pytest.raises(exception.EndpointUnreachable, match=r'no answer within 0\.3 s'),
        ):
            check(protocol, where, timeout=0.3)

    def test_closed_at_once(self, protocol, peer):
        with (
            listener(None, close=True, reads=4096 * (protocol in ('iscsi', 'gluster'))) as (
                where,
                _,
            ),
            pytest.raises(exception.EndpointUnreachable) as caught,
        ):
            check(protocol, where)
        assert caught.value.reason == 'it closed the connection without an answer'


def test_answer_to_another_question_is_none():
    with (
        listener(lambda sent: login_response(bytes(48)), reads=4096) as (where, _),
        pytest.raises(exception.EndpointUnreachable, match='not as an iSCSI target'),
    ):
        check('iscsi', where)


def test_ipv6():
    with listener(b'ceph v2\n', host='::1') as (where, _):
        result = check('rbd', where)
    assert result.answered == (f'[::1]:{where[1]}',)


def test_host_name():
    with listener(b'ceph v2\n') as (where, _):
        result = check('rbd', ('localhost', where[1]))
    assert result.answered == (f'localhost:{where[1]}',)


def test_second_address_of_a_name_is_tried(monkeypatch):
    with listener(b'ceph v2\n') as (where, _):
        port = where[1]
        monkeypatch.setattr(
            socket,
            'getaddrinfo',
            lambda *args, **more: [
                (socket.AF_INET6, socket.SOCK_STREAM, 6, '', ('::1', port, 0, 0)),
                (socket.AF_INET, socket.SOCK_STREAM, 6, '', ('127.0.0.1', port)),
            ],
        )
        assert check('rbd', ('storage.example', port)).failed == ()


def test_some_of_several_answer():
    with listener(b'ceph v2\n') as (good, _), listener(None) as (silent, _):
        dead = ('127.0.0.1', refused_port())
        result = check('rbd', silent, good, dead, timeout=0.3)
    assert result.answered == (f'127.0.0.1:{good[1]}',)
    assert result.failed == (
        (f'127.0.0.1:{silent[1]}', 'no answer within 0.3 s'),
        (f'127.0.0.1:{dead[1]}', 'connection refused'),
    )


def test_others_are_not_waited_for_long_once_one_has_answered():
    with listener(b'ceph v2\n') as (good, _), listener(None) as (silent, _):
        start = time.monotonic()
        result = endpoint.Probe().check('rbd', [silent, good], timeout=60, grace=0.2)
        assert time.monotonic() - start < 30
    assert result.answered == (f'127.0.0.1:{good[1]}',)
    assert [name for name, _ in result.failed] == [f'127.0.0.1:{silent[1]}']
    assert result.failed[0][1].startswith('no answer within 0.')


def test_one_deadline_for_all():
    """Twenty silent endpoints together cost the timeout once, not twenty times."""
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(listener(None))[0] for _ in range(20)]
        start = time.monotonic()
        with pytest.raises(exception.EndpointUnreachable, match=r'no answer within 0\.5 s'):
            endpoint.Probe().check('nbd', silent, timeout=0.5)
        assert time.monotonic() - start < 20 * 0.5


def test_reasons_that_differ_are_all_told():
    with listener(None) as (silent, _), pytest.raises(exception.EndpointUnreachable) as caught:
        check('rbd', silent, ('127.0.0.1', refused_port()), timeout=0.3)
    assert f'127.0.0.1:{silent[1]}: no answer within 0.3 s' in str(caught.value)
    assert 'connection refused' in str(caught.value)


def test_name_that_nobody_knows(monkeypatch):
    def unknown(*args, **more):
        raise socket.gaierror(socket.EAI_NONAME, 'Name or service not known')

    monkeypatch.setattr(socket, 'getaddrinfo', unknown)
    with pytest.raises(exception.EndpointUnreachable, match='name cannot be resolved'):
        check('rbd', ('mon.example', 6789))


def test_name_server_that_hangs(monkeypatch):
    release = threading.Event()

    def hang(*args, **more):
        release.wait(FAR_TOO_LONG)
        raise socket.gaierror(socket.EAI_AGAIN, 'Temporary failure')

    monkeypatch.setattr(socket, 'getaddrinfo', hang)
    try:
        with pytest.raises(exception.EndpointUnreachable, match=r'no answer within 0\.2 s'):
            check('rbd', ('mon.example', 6789), timeout=0.2)
    finally:
        release.set()


@pytest.mark.parametrize('host', ['a' * 70, 'a..b', 'a\0b'])
def test_text_that_is_no_host(host):
    with pytest.raises(exception.EndpointUnreachable, match=r'not an address|cannot be resolved'):
        check('rbd', (host, 6789))


def test_no_endpoint_at_all():
    with pytest.raises(exception.EndpointUnreachable, match='there is none'):
        check('rbd')


def test_unknown_protocol():
    with pytest.raises(exception.InvalidOption, match='gluster or iscsi or nbd or nvme or rbd'):
        check('sheepdog', ('127.0.0.1', 7000))
