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

"""Ask an iSCSI target which targets it has, and through which portals.

A discovery session, with CHAP where Cinder gives it for that, then one SendTargets
request (RFC 7143, 6, 11.10 to 11.13, 12.1.3 and appendix C).  Nothing of it stays: no record
of open-iscsi, no session of the kernel.
"""

import base64
import hashlib
import secrets
import socket
import struct
import time
import typing

from volumedrivers import exception
from volumedrivers.protocol_data import Chap
from volumedrivers.protocol_data import Portal

_HEADER = struct.Struct('>BBBB B3s 8s I I I I I 12s')
_LOGIN_RESPONSE, _TEXT_RESPONSE = 0x23, 0x24
_LONGEST = 1 << 20
_SEGMENT = 1 << 15  # bytes of one answer
_NO_TAG = 0xFFFFFFFF
# Stages of a login: to stay in that of security, or to go on from it.
_SECURITY, _TO_OPERATIONAL = 0x00, 0x81
_MD5 = 5  # the algorithm that every target has
DEFAULT_PORT = 3260


class Found(typing.NamedTuple):
    """One way to one target."""

    portal: Portal
    iqn: str


class _Refused(Exception):
    """The target did not answer as the protocol wants; the text is the reason."""


def discover(
    portal: Portal, *, initiator_name: str, seconds: float, auth: Chap | None = None
) -> tuple[Found, ...]:
    """Return all targets that a portal tells of, in its order.

    :param seconds: for all of it; a name that has to be resolved first is
        waited for as long as the resolver takes
    :param auth: for a portal that wants to know who asks
    :raises EndpointUnreachable: it does not answer, or wants to know who asks
    """
    deadline = time.monotonic() + seconds
    try:
        with socket.create_connection(
            (portal.host, portal.port), timeout=_left(deadline)
        ) as connection:
            text = _Conversation(connection, deadline).send_targets(initiator_name, auth)
    except (OSError, _Refused) as error:
        reason = f'no answer within {seconds:g} s' if isinstance(error, TimeoutError) else None
        raise exception.EndpointUnreachable(
            protocol='iscsi', endpoint=str(portal), reason=reason or str(error)
        ) from error
    return parse_targets(text)


def parse_targets(text: str) -> tuple[Found, ...]:
    """Read the answer: ``TargetName=iqn``, each with its ``TargetAddress=host:port,group``."""
    found: list[Found] = []
    iqn = ''
    for line in text.split('\0'):
        key, _, value = line.partition('=')
        if key == 'TargetName':
            iqn = value
        elif key == 'TargetAddress' and iqn:
            way = Found(parse_portal(value), iqn)
            if way not in found:
                found.append(way)
    return tuple(found)


def parse_portal(address: str) -> Portal:
    """Read ``10.0.0.1:3260,1`` or ``[fd00::1]:3260``; port and group may be left out."""
    place = address.partition(',')[0]
    host, _, port = place.rpartition(':')
    if not host or not port.isdigit() or place.endswith(']'):
        host, port = place, str(DEFAULT_PORT)
    return Portal(host.strip('[]').lower(), int(port))


class _Conversation:
    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline
        self._session = b'\x80' + secrets.token_bytes(5) + b'\0\0'
        self._tag = secrets.randbits(31)
        self._heard = 0

    def send_targets(self, initiator_name: str, auth: Chap | None) -> str:
        who = f'InitiatorName={initiator_name}\0SessionType=Discovery\0'
        if auth is None:
            said = self._login(_TO_OPERATIONAL, f'{who}AuthMethod=None\0')
            if said.get('AuthMethod') == 'CHAP':
                raise _Refused('it wants to know who asks')
        else:
            self._authenticate(who, auth)
        # From operational negotiation to the full feature phase.  The kernel's
        # target has nothing to say to who does not tell how much it can take.
        self._login(
            0x87, f'HeaderDigest=None\0DataDigest=None\0MaxRecvDataSegmentLength={_SEGMENT}\0'
        )
        flags, target_tag, text = self._ask(
            0x44, 0x80, 'SendTargets=All\0', _TEXT_RESPONSE, _NO_TAG
        )
        while not flags & 0x80 and len(text) < _LONGEST:
            flags, target_tag, more = self._ask(0x44, 0x80, '', _TEXT_RESPONSE, target_tag)
            if not more and not flags & 0x80:
                raise _Refused('it tells of nothing, again and again')
            text += more
        return text

    def _authenticate(self, who: str, auth: Chap) -> None:
        """Answer the challenge of CHAP (RFC 1994), where there is one."""
        said = self._login(_SECURITY, f'{who}AuthMethod=CHAP,None\0')
        if said.get('AuthMethod') != 'CHAP':
            self._login(_TO_OPERATIONAL, '')
            return
        said = self._login(_SECURITY, f'CHAP_A={_MD5}\0')
        try:
            identifier, challenge = int(said['CHAP_I']), _binary(said['CHAP_C'])
            response = hashlib.md5(
                bytes((identifier,)) + auth.password.reveal().encode() + challenge,
                usedforsecurity=False,
            ).hexdigest()
        except (KeyError, ValueError) as error:
            raise _Refused('it gives no challenge that CHAP knows') from error
        self._login(_TO_OPERATIONAL, f'CHAP_N={auth.username}\0CHAP_R=0x{response}\0')

    def _login(self, flags: int, text: str) -> dict[str, str]:
        """Send one request of the login; return what the target says."""
        answered, _, said = self._ask(0x43, flags, text, _LOGIN_RESPONSE, 0)
        if flags & 0x80 and not answered & 0x80:
            raise _Refused('it wants to know who asks')
        return dict(line.split('=', 1) for line in said.split('\0') if '=' in line)

    def _ask(
        self, opcode: int, flags: int, text: str, expected: int, target_tag: int
    ) -> tuple[int, int, str]:
        """Send a request; return the answer's flags, tag of the target and text."""
        data = text.encode()
        login = expected == _LOGIN_RESPONSE
        # A login has its connection id where a text request has the target's tag.
        self._connection.settimeout(_left(self._deadline))
        self._connection.sendall(
            _HEADER.pack(
                opcode,
                flags,
                0,
                0,
                0,
                len(data).to_bytes(3, 'big'),
                self._session if login else bytes(8),
                self._tag,
                0 if login else target_tag,
                1,  # number of the command; immediate ones do not count
                self._heard,
                0,
                bytes(12),
            )
            + data
            + b'\0' * (-len(data) % 4)
        )
        header = self._receive(48)
        if header[0] & 0x3F != expected:
            raise _Refused('answered, but not as an iSCSI target')
        length = int.from_bytes(header[5:8], 'big') + header[4] * 4
        if length > _LONGEST:
            raise _Refused(f'it announces an answer of {length} bytes')
        body = self._receive(length + -length % 4)[header[4] * 4 : length]
        if login and header[36] != 0:
            raise _Refused(f'it refuses the login (status {header[36]:#04x}{header[37]:02x})')
        self._heard = (int.from_bytes(header[24:28], 'big') + 1) & 0xFFFFFFFF
        return header[1], int.from_bytes(header[20:24], 'big'), body.decode(errors='replace')

    def _receive(self, length: int) -> bytes:
        data = b''
        while len(data) < length:
            self._connection.settimeout(_left(self._deadline))
            part = self._connection.recv(length - len(data))
            if not part:
                raise _Refused('it closed the connection without an answer')
            data += part
        return data


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _binary(text: str) -> bytes:
    """Read a binary value: ``0x`` and hexadecimal, or ``0b`` and base64.

    :raises ValueError: it is neither
    """
    kind, value = text[:2].lower(), text[2:]
    if kind == '0b':
        return base64.b64decode(value, validate=True)
    if kind != '0x':
        raise ValueError(kind)
    return bytes.fromhex(value.zfill(len(value) + len(value) % 2))
