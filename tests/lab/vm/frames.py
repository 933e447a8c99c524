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

"""Frames between the agent in the virtual machine and whoever wants something run.

One TCP connection is one command.  The client sends a REQUEST (JSON) and then
input; the agent answers with what the command writes, as it comes, and ends
with one EXIT or FAILURE.  A frame is its kind (one byte), its length (four
bytes, big endian) and that many bytes.
"""

import json
import socket
import struct
import typing

REQUEST = b'r'
INPUT = b'i'  # an empty one is the end of input
SIGNAL = b's'  # decimal number, to the command's process group
WINDOW = b'w'  # "rows columns" of the terminal
OUTPUT = b'o'
ERROR_OUTPUT = b'e'
EXIT = b'x'  # decimal exit status; negative: the signal that ended it
FAILURE = b'f'  # JSON: errno, reason

LONGEST = 1 << 20

_HEADER = struct.Struct('>cI')


class BadFrame(Exception):
    """The other side does not speak this protocol."""


def pack(kind: bytes, payload: bytes = b'') -> bytes:
    """Return a frame as bytes; what is too long for one becomes several."""
    if len(payload) <= LONGEST:
        return _HEADER.pack(kind, len(payload)) + payload
    parts = (payload[start : start + LONGEST] for start in range(0, len(payload), LONGEST))
    return b''.join(_HEADER.pack(kind, len(part)) + part for part in parts)


def pack_json(kind: bytes, value: typing.Any) -> bytes:
    """Return a frame that carries a JSON value."""
    return pack(kind, json.dumps(value).encode())


class Unpacker:
    """Makes frames of the bytes that arrive, however they are cut."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Return the frames that are complete now, as pairs of kind and payload.

        :raises BadFrame
        """
        self._rest += data
        frames = []
        position = 0
        while len(self._rest) - position >= _HEADER.size:
            kind, length = _HEADER.unpack_from(self._rest, position)
            if length > LONGEST:
                raise BadFrame(f'a frame of kind {kind!r} with {length} bytes')
            end = position + _HEADER.size + length
            if len(self._rest) < end:
                break
            frames.append((kind, bytes(self._rest[position + _HEADER.size : end])))
            position = end
        del self._rest[:position]
        return frames


def receive(connection: socket.socket, unpacker: Unpacker) -> list[tuple[bytes, bytes]]:
    """Return at least one frame, or none at the end of the connection.

    :raises BadFrame
    """
    while True:
        data = connection.recv(1 << 16)
        if not data:
            return []
        frames = unpacker.feed(data)
        if frames:
            return frames
