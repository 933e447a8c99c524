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

"""Ask an address whether somebody takes RDMA connections there.

A connection is asked for, and given up as soon as there is an answer.  Neither
a queue pair nor anything of the storage's protocol is needed for that: who
listens accepts or refuses, and both are answers.  Spoken with the kernel's
connection manager (include/uapi/rdma/rdma_user_cm.h), which lets every user.
"""

import ctypes
import errno
import os
import select
import socket
import struct
import time

DEVICE = '/dev/infiniband/rdma_cm'

_CREATE_ID, _RESOLVE_ROUTE, _CONNECT, _GET_EVENT, _RESOLVE_ADDR = 0, 4, 6, 12, 21
_TCP_SPACE, _RELIABLE = 0x106, 2  # port space, type of queue pair
_UID = 1  # the kernel tells nothing of a connection that has 0
_ADDRESS = 128  # bytes of a struct sockaddr_storage
_EVENT = 336  # bytes of a struct rdma_ucm_event_resp

_ADDR_RESOLVED, _ADDR_ERROR, _ROUTE_RESOLVED = 0, 1, 2
_CONNECT_RESPONSE, _REJECTED, _ESTABLISHED = 5, 8, 9
_NOBODY_LISTENS = 8  # reason of a rejection: invalid service ID

# Part of the time after which the request is taken for lost.
_FIRST_TRY = 0.25

# As queue pair any number will do, since there is none: retries 0, valid 1.
_PARAMETERS = struct.pack('=II256s8B', 1, 0, b'', 0, 0, 1, 1, 0, 0, 0, 1)


class CannotAsk(Exception):
    """This host has no way to ask; nothing is known of the address."""


def converse(endpoint: tuple[str, int], deadline: float) -> None:
    """Ask; return if somebody listens.

    :param endpoint: host name or address, and port
    :param deadline: of time.monotonic()
    :raises CannotAsk: no RDMA here, or no permission to use it
    :raises OSError: nobody listens, or the address is not reached by RDMA
    :raises TimeoutError: there is no answer
    """
    family, _, _, _, address = socket.getaddrinfo(*endpoint, type=socket.SOCK_STREAM)[0]
    packed = _packed(family, address)
    began = time.monotonic()
    try:
        _connect(packed, min(deadline, began + (deadline - began) * _FIRST_TRY))
    except TimeoutError:
        # The other side loses a request while it asks for this host's hardware
        # address, and the kernel asks for the second time after four seconds.
        _connect(packed, deadline)


def _connect(address: bytes, deadline: float) -> None:
    try:
        descriptor = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise CannotAsk(f'{DEVICE}: {error.strerror}') from error
    # What was begun is given up when it is closed.
    try:
        _ask(descriptor, address, deadline)
    finally:
        os.close(descriptor)


def _ask(descriptor: int, address: bytes, deadline: float) -> None:
    with _Unable():
        number = _created(descriptor)
    milliseconds = max(1, int(1000 * (deadline - time.monotonic())))
    _write(
        descriptor,
        _RESOLVE_ADDR,
        struct.pack('=IIHHI', number, milliseconds, 0, len(address), 0)
        + bytes(_ADDRESS)
        + address.ljust(_ADDRESS, b'\0'),
    )
    _expect(descriptor, _ADDR_RESOLVED, deadline)
    _write(descriptor, _RESOLVE_ROUTE, struct.pack('=II', number, milliseconds))
    _expect(descriptor, _ROUTE_RESOLVED, deadline)
    with _Unable():
        # iWARP wants a queue pair for this.
        _write(descriptor, _CONNECT, _PARAMETERS + struct.pack('=II', number, 0) + bytes(8))
    event, status = _event(descriptor, deadline)
    if event in (_CONNECT_RESPONSE, _ESTABLISHED):
        return
    if event == _REJECTED and status != _NOBODY_LISTENS:
        return
    code = errno.ECONNREFUSED if event == _REJECTED else errno.EHOSTUNREACH
    raise OSError(code, os.strerror(code))


class _Unable:
    """Turns an error of a call into CannotAsk."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise CannotAsk(error.strerror) from error


def _created(descriptor: int) -> int:
    answer = ctypes.create_string_buffer(4)
    _write(
        descriptor,
        _CREATE_ID,
        struct.pack('=QQHB5x', _UID, ctypes.addressof(answer), _TCP_SPACE, _RELIABLE),
        len(answer),
    )
    (number,) = struct.unpack('=I', answer.raw)
    return int(number)


def _expect(descriptor: int, event: int, deadline: float) -> None:
    found, status = _event(descriptor, deadline)
    if found == event:
        return
    # What a resolution fails with is an error number of the kernel.
    code = -status if found == _ADDR_ERROR and status < 0 else errno.EHOSTUNREACH
    if code == errno.ETIMEDOUT:
        raise TimeoutError
    if code == errno.ENODEV:
        raise OSError(code, 'no RDMA device leads there')
    raise OSError(code, os.strerror(code))


def _event(descriptor: int, deadline: float) -> tuple[int, int]:
    """Wait for what the kernel has to tell; return its kind and status."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(max(0, 1000 * (deadline - time.monotonic()))):
        raise TimeoutError
    answer = ctypes.create_string_buffer(_EVENT)
    _write(descriptor, _GET_EVENT, struct.pack('=Q', ctypes.addressof(answer)), len(answer))
    event, status = struct.unpack_from('=Ii', answer.raw, 12)
    return event, status


def _write(descriptor: int, command: int, body: bytes, answer: int = 0) -> None:
    os.write(descriptor, struct.pack('=IHH', command, len(body), answer) + body)


def _packed(family: int, address: tuple[object, ...]) -> bytes:
    """Return a struct sockaddr_in or sockaddr_in6."""
    host, port, *more = address
    number = socket.inet_pton(family, str(host).partition('%')[0])
    head = struct.pack('=H', family) + struct.pack('>H', port)
    if family == socket.AF_INET:
        return head + number + bytes(8)
    flow, scope = more
    return head + struct.pack('>I', flow) + number + struct.pack('=I', scope)
