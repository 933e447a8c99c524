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

"""Ask a storage endpoint whether it answers its protocol, with a deadline.

QEMU opens a network source while the whole guest stands still, and libvirt
has no timeout for it; an endpoint that accepts a connection and then stays
silent freezes the guest.  So each endpoint has to say something first.

What is said, and what has to come back:

rbd
    A Ceph monitor speaks first: ``ceph v2`` (messenger 2) or ``ceph v027``
    (https://docs.ceph.com/en/latest/dev/msgr2/, .../dev/network-protocol/).
iscsi
    A Login request of a discovery session; any Login response will do, also
    one that refuses (RFC 7143, 11.12 and 11.13).
nbd
    The server speaks first: ``NBDMAGIC`` (the NBD project's doc/proto.md).
nvme
    An ICReq PDU, which opens an NVMe/TCP connection (NVM Express TCP Transport
    Specification, 3.6.2.2); an ICResp PDU has to follow.
rdma
    The question for a connection, of iSER and NVMe/RDMA; see ``rdma_probe``.  A
    host that cannot ask takes it that the endpoint answers.
gluster
    An RPC call (RFC 5531, with record marking) of the program that lists the
    server's programs; any RPC reply will do.
"""

from collections.abc import Callable
from collections.abc import Sequence
import functools
import logging
import queue
import secrets
import socket
import struct
import threading
import time
import typing

from volumedrivers import exception
from volumedrivers.host import rdma_probe

LOG = logging.getLogger(__name__)

_RDMA = 'rdma'
# Who asks, where the caller does not say; a target lets anybody discover, or
# refuses, and both are answers.
PROBE_INITIATOR = 'iqn.2020-01.org.volumedrivers:probe'


class ProbeResult(typing.NamedTuple):
    """What came of asking.

    An endpoint is written ``host:port``, with brackets around an IPv6 address.
    """

    answered: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]  # (endpoint, reason)


class Handshake(typing.NamedTuple):
    """How one protocol is asked.

    :ivar peer: what the other side should be, with its article
    :ivar greeting: makes what is sent first from the options of ``check``
    :ivar length: bytes to wait for
    :ivar recognise: given these bytes and what was sent: is it the protocol?
    """

    peer: str
    greeting: Callable[[str], bytes]
    length: int
    recognise: Callable[[bytes, bytes], bool]


def _nothing(_: str) -> bytes:
    return b''


def _iscsi_login(initiator_name: str) -> bytes:
    """Build a Login request that wants to discover targets."""
    text = (
        f'InitiatorName={initiator_name}\0SessionType=Discovery\0AuthMethod=None,CHAP\0'
    ).encode()
    header = struct.pack(
        '>BBBBB3s6sHIHHII16x',
        0x43,  # immediate Login request
        0x81,  # transit from security to operational negotiation
        0,  # highest version
        0,  # lowest version
        0,  # no additional header
        len(text).to_bytes(3, 'big'),
        b'\x80' + secrets.token_bytes(5),  # initiator session id: a random one
        0,  # a new session
        secrets.randbits(32),  # task tag, echoed
        0,  # connection id
        0,
        1,  # command number
        0,
    )
    return header + text + b'\0' * (-len(text) % 4)


def _is_iscsi_login(answer: bytes, sent: bytes) -> bool:
    return answer[0] & 0x3F == 0x23 and answer[16:20] == sent[16:20]


def _nvme_initialize(_: str) -> bytes:
    # Type 0, no flags, header and PDU of 128 bytes, then version 0 and defaults.
    return struct.pack('<4BI', 0, 0, 128, 0, 128) + bytes(120)


def _gluster_dump(_: str) -> bytes:
    """Build an RPC call: GLUSTER_DUMP, version 1, procedure 1, no credentials."""
    call = struct.pack('>10I', secrets.randbits(32), 0, 2, 123451501, 1, 1, 0, 0, 0, 0)
    # The argument, an unsigned hyper, is not looked at.
    call += bytes(8)
    return struct.pack('>I', 0x80000000 | len(call)) + call


def _is_rpc_reply(answer: bytes, sent: bytes) -> bool:
    # A record mark, then the same transaction id and "this is a reply".
    return answer[4:8] == sent[4:8] and answer[8:12] == b'\0\0\0\1'


HANDSHAKES: dict[str, Handshake] = {
    'rbd': Handshake(
        'a Ceph monitor', _nothing, 8, lambda answer, _: answer in (b'ceph v2\n', b'ceph v02')
    ),
    'iscsi': Handshake('an iSCSI target', _iscsi_login, 48, _is_iscsi_login),
    'nvme': Handshake(
        'an NVMe/TCP controller',
        _nvme_initialize,
        8,
        lambda answer, _: answer == struct.pack('<4BI', 1, 0, 128, 0, 128),
    ),
    'nbd': Handshake('an NBD server', _nothing, 8, lambda answer, _: answer == b'NBDMAGIC'),
    'gluster': Handshake('a GlusterFS server', _gluster_dump, 12, _is_rpc_reply),
}


class _NoAnswer(Exception):
    """An endpoint did not say what it should; the text is the reason."""


class Probe:
    """What the drivers ask about endpoints; tests and adapters replace it."""

    def check(
        self,
        protocol: str,
        endpoints: Sequence[tuple[str, int]],
        *,
        timeout: float,
        grace: float | None = None,
        initiator_name: str = PROBE_INITIATOR,
    ) -> ProbeResult:
        """Probe all endpoints at once.

        :param protocol: rbd, iscsi, nvme, rdma, gluster or nbd: decides what is said
        :param endpoints: (host name or address, port) of each
        :param timeout: seconds for all of them together, names and all
        :param grace: seconds that the others get once one has answered; None:
            as long as the first
        :param initiator_name: who asks an iSCSI target
        :raises EndpointUnreachable: none answered
        :raises InvalidOption: the protocol is none of those
        """
        converse = _conversation(protocol, initiator_name)
        start = time.monotonic()
        end = deadline = start + timeout
        reasons: dict[int, str | None] = {}
        answers: queue.SimpleQueue[tuple[int, str | None]] = queue.SimpleQueue()
        for index, endpoint in enumerate(endpoints):
            # A thread each: looking up a name has no timeout of its own.  One
            # that hangs is left behind and ends by itself.
            threading.Thread(
                target=_ask,
                name=f'probe {protocol} {_written(endpoint)}',
                daemon=True,
                args=(converse, endpoint, deadline, functools.partial(_put, answers, index)),
            ).start()
        while len(reasons) < len(endpoints):
            try:
                index, reason = answers.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
            reasons[index] = reason
            if reason is None and grace is not None:
                end = min(end, time.monotonic() + grace)
        waited = timeout if end == deadline else round(end - start, 1)
        late = f'no answer within {waited:g} s'
        outcome = [
            (_written(endpoint), reasons.get(index, late))
            for index, endpoint in enumerate(endpoints)
        ]
        result = ProbeResult(
            tuple(name for name, reason in outcome if reason is None),
            tuple((name, reason or late) for name, reason in outcome if reason is not None),
        )
        if not result.answered:
            raise exception.EndpointUnreachable(
                protocol=protocol,
                endpoint=', '.join(name for name, _ in outcome) or '(none)',
                reason=_summary(result.failed),
            )
        return result


def _written(endpoint: tuple[str, int]) -> str:
    host, port = endpoint
    return f'[{host}]:{port}' if ':' in host else f'{host}:{port}'


def _summary(failed: Sequence[tuple[str, str]]) -> str:
    if len({reason for _, reason in failed}) == 1:
        return failed[0][1]
    return '; '.join(f'{name}: {reason}' for name, reason in failed) or 'there is none'


def _put(
    answers: 'queue.SimpleQueue[tuple[int, str | None]]', index: int, reason: str | None
) -> None:
    answers.put((index, reason))


def _conversation(protocol: str, initiator_name: str) -> Callable[[tuple[str, int], float], None]:
    """Return what asks an endpoint of a protocol until a deadline."""
    if protocol == _RDMA:
        return rdma_probe.converse
    handshake = HANDSHAKES.get(protocol)
    if handshake is None:
        raise exception.InvalidOption(
            option='protocol',
            found=repr(protocol),
            expected=' or '.join(sorted((*HANDSHAKES, _RDMA))),
        )
    return functools.partial(_converse, handshake, handshake.greeting(initiator_name))


def _ask(
    converse: Callable[[tuple[str, int], float], None],
    endpoint: tuple[str, int],
    deadline: float,
    report: Callable[[str | None], None],
) -> None:
    """Ask one endpoint; report None, or why it does not answer."""
    reason: str | None = None
    try:
        converse(endpoint, deadline)
    except _NoAnswer as error:
        reason = str(error)
    except rdma_probe.CannotAsk as error:
        LOG.debug('%s is taken for alive: %s', _written(endpoint), error)
    except TimeoutError:
        return  # the one who waits says so, at the same moment for all
    except socket.gaierror as error:
        reason = f'the name cannot be resolved: {error.strerror}'
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
    except (ValueError, OverflowError) as error:
        # A host name or a port that the resolver cannot even take.
        reason = f'not an address: {error}'
    report(reason)


def _converse(
    handshake: Handshake, sent: bytes, endpoint: tuple[str, int], deadline: float
) -> None:
    with _connect(endpoint, deadline) as connection:
        if sent:
            connection.settimeout(_left(deadline))
            connection.sendall(sent)
        answer = b''
        while len(answer) < handshake.length:
            connection.settimeout(_left(deadline))
            part = connection.recv(handshake.length - len(answer))
            if not part:
                if answer:
                    break
                raise _NoAnswer('it closed the connection without an answer')
            answer += part
        if len(answer) < handshake.length or not handshake.recognise(answer, sent):
            raise _NoAnswer(f'answered, but not as {handshake.peer}')


def _connect(endpoint: tuple[str, int], deadline: float) -> socket.socket:
    """Connect to the first address of a name that accepts.

    The time is shared out, so that one dead address does not use all of it.
    """
    addresses = socket.getaddrinfo(*endpoint, type=socket.SOCK_STREAM)
    for index, (family, kind, number, _, address) in enumerate(addresses):
        connection = socket.socket(family, kind, number)
        try:
            connection.settimeout(_left(deadline) / (len(addresses) - index))
            connection.connect(address)
        except OSError:
            connection.close()
            if index + 1 == len(addresses):
                raise
        else:
            return connection
    raise _NoAnswer('the name has no address')


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
