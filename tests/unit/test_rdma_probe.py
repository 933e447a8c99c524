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

"""Asking by RDMA, where the kernel's connection manager is played by a class."""

import ctypes
import errno
import itertools
import os
import socket
import struct
import time

import pytest

from volumedrivers import exception
from volumedrivers.host import endpoint
from volumedrivers.host import rdma_probe

PORTAL = ('10.10.1.1', 4420)
CREATE_ID, RESOLVE_ROUTE, CONNECT, GET_EVENT, RESOLVE_ADDR = 0, 4, 6, 12, 21
RESOLVED, ADDRESS_ERROR, ROUTE_RESOLVED, ROUTE_ERROR = 0, 1, 2, 3
RESPONSE, UNREACHABLE, REJECTED, ESTABLISHED = 5, 7, 8, 9


class Kernel:
    """Takes the commands and has an answer to each, by include/uapi/rdma/rdma_user_cm.h."""

    def __init__(self):
        self.answers = {
            RESOLVE_ADDR: (RESOLVED, 0),
            RESOLVE_ROUTE: (ROUTE_RESOLVED, 0),
            CONNECT: (RESPONSE, 0),
        }
        self.refuses = {}
        self.asked = []
        self.opened = []
        self.closed = []
        self._events = []

    def open(self, path, flags):
        assert path == '/dev/infiniband/rdma_cm'
        if 'open' in self.refuses:
            raise OSError(self.refuses['open'], os.strerror(self.refuses['open']))
        self.opened.append(os.eventfd(0, os.EFD_SEMAPHORE))
        return self.opened[-1]

    def write(self, descriptor, data):
        command, length, room = struct.unpack_from('=IHH', data)
        body = data[8:]
        assert len(body) == length
        self.asked.append((command, body))
        if command in self.refuses:
            raise OSError(self.refuses[command], os.strerror(self.refuses[command]))
        if command == CREATE_ID:
            uid, where, space, kind = struct.unpack_from('=QQHB', body)
            assert (uid, space, kind, room) == (1, 0x106, 2, 4)
            ctypes.memmove(where, struct.pack('=I', 77), 4)
        elif command == GET_EVENT:
            os.eventfd_read(descriptor)
            (where,) = struct.unpack('=Q', body)
            assert room == 336
            event = struct.pack('=QIIi', 1, 77, *self._events.pop(0))
            ctypes.memmove(where, event, len(event))
        elif self.answers[command] is not None:
            self._events.append(self.answers[command])
            os.eventfd_write(descriptor, 1)

    def close(self, descriptor):
        self.closed.append(descriptor)
        os.close(descriptor)


@pytest.fixture
def kernel(monkeypatch):
    kernel = Kernel()

    class System:
        O_RDWR, O_NONBLOCK, O_CLOEXEC = os.O_RDWR, os.O_NONBLOCK, os.O_CLOEXEC
        open, write, close = kernel.open, kernel.write, kernel.close
        strerror = os.strerror

    monkeypatch.setattr(rdma_probe, 'os', System)
    yield kernel
    assert kernel.closed == kernel.opened


def ask(portal=PORTAL, seconds=5.0):
    rdma_probe.converse(portal, time.monotonic() + seconds)


@pytest.mark.parametrize('answer', [(RESPONSE, 0), (ESTABLISHED, 0), (REJECTED, 28)])
def test_who_accepts_or_declines_is_there(kernel, answer):
    kernel.answers[CONNECT] = answer
    ask()
    assert [command for command, _ in kernel.asked if command != GET_EVENT] == [
        CREATE_ID,
        RESOLVE_ADDR,
        RESOLVE_ROUTE,
        CONNECT,
    ]


def test_the_address_is_the_one_that_was_asked_for(kernel):
    ask()
    ask(('fd00:10:10:1::1', 4420))
    four, six = (body for command, body in kernel.asked if command == RESOLVE_ADDR)
    number, _, none, size, _ = struct.unpack_from('=IIHHI', four)
    assert (number, none, size) == (77, 0, 16)
    where = four[16 + 128 :]
    assert struct.unpack_from('=H', where) == (socket.AF_INET,)
    assert where[2:8] == struct.pack('>H', 4420) + socket.inet_aton('10.10.1.1')
    assert struct.unpack_from('=IIHHI', six)[3] == 28
    assert six[16 + 128 + 8 :][:16] == socket.inet_pton(socket.AF_INET6, 'fd00:10:10:1::1')


def test_the_connection_asks_for_nothing_but_an_answer(kernel):
    ask()
    (body,) = (body for command, body in kernel.asked if command == CONNECT)
    assert len(body) == 288
    assert body[271] == 1  # the parameters are valid
    assert struct.unpack_from('=I', body, 272) == (77,)


@pytest.mark.parametrize(
    ('command', 'answer', 'code'),
    [
        (CONNECT, (REJECTED, 8), errno.ECONNREFUSED),
        (CONNECT, (UNREACHABLE, -errno.ETIMEDOUT), errno.EHOSTUNREACH),
        (RESOLVE_ADDR, (ADDRESS_ERROR, -errno.ENODEV), errno.ENODEV),
        (RESOLVE_ADDR, (ADDRESS_ERROR, -errno.EHOSTUNREACH), errno.EHOSTUNREACH),
        (RESOLVE_ROUTE, (ROUTE_ERROR, -errno.EINVAL), errno.EHOSTUNREACH),
    ],
)
def test_who_is_not_there(kernel, command, answer, code):
    kernel.answers[command] = answer
    with pytest.raises(OSError, match=f'Errno {code}'):
        ask()


@pytest.mark.parametrize('command', [RESOLVE_ADDR, RESOLVE_ROUTE, CONNECT])
def test_who_says_nothing(kernel, command):
    kernel.answers[command] = None
    with pytest.raises(TimeoutError):
        ask(seconds=0.1)


def test_an_address_that_nobody_has_is_silence(kernel):
    kernel.answers[RESOLVE_ADDR] = (ADDRESS_ERROR, -errno.ETIMEDOUT)
    with pytest.raises(TimeoutError):
        ask()


@pytest.mark.parametrize(
    ('what', 'code'),
    [
        ('open', errno.ENOENT),
        ('open', errno.EACCES),
        (CREATE_ID, errno.ENOSYS),
        (CONNECT, errno.EINVAL),
    ],
)
def test_a_host_that_cannot_ask(kernel, what, code):
    kernel.refuses[what] = code
    with pytest.raises(rdma_probe.CannotAsk):
        ask()


def test_who_cannot_be_asked_is_taken_for_alive(kernel):
    kernel.refuses['open'] = errno.ENOENT
    result = endpoint.Probe().check('rdma', [PORTAL, ('10.10.2.1', 4420)], timeout=5)
    assert result.answered == ('10.10.1.1:4420', '10.10.2.1:4420')


def test_no_route_at_all_is_a_reason(kernel):
    kernel.refuses[RESOLVE_ADDR] = errno.ENETUNREACH
    with pytest.raises(exception.EndpointUnreachable, match='network is unreachable'):
        endpoint.Probe().check('rdma', [PORTAL], timeout=5)


def test_a_request_that_was_lost_is_made_again(kernel):
    answers = itertools.chain([None], itertools.repeat((RESPONSE, 0)))

    class Answers(dict):
        def __getitem__(self, command):
            return next(answers) if command == CONNECT else super().__getitem__(command)

    kernel.answers = Answers(kernel.answers)
    ask(seconds=0.4)
    assert len(kernel.opened) == 2
