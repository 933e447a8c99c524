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

"""The kernel's protocol for file systems and character devices in user space (linux/fuse.h)."""

import dataclasses
import os
import struct
import typing

HEADER = struct.Struct('=IIQQIIII')
ANSWER = struct.Struct('=IiQ')

LOOKUP = 1
FORGET = 2
GETATTR = 3
SETATTR = 4
READLINK = 5
SYMLINK = 6
MKDIR = 9
UNLINK = 10
RMDIR = 11
RENAME = 12
OPEN = 14
READ = 15
WRITE = 16
STATFS = 17
RELEASE = 18
FSYNC = 20
FLUSH = 25
INIT = 26
OPENDIR = 27
READDIR = 28
RELEASEDIR = 29
FSYNCDIR = 30
ACCESS = 34
CREATE = 35
INTERRUPT = 36
DESTROY = 38
IOCTL = 39
BATCH_FORGET = 42
FALLOCATE = 43
RENAME2 = 45
CUSE_INIT = 4096

# To these nobody expects an answer.
SILENT = frozenset((FORGET, BATCH_FORGET, INTERRUPT))


@dataclasses.dataclass(frozen=True)
class Request:
    """What the kernel asks.

    :ivar code: which of the operations above
    :ivar node: the file's number
    :ivar body: what the operation needs
    """

    code: int
    unique: int
    node: int
    uid: int
    gid: int
    pid: int
    body: bytes

    @classmethod
    def parse(cls, message: bytes) -> typing.Self:
        """Read one message of /dev/fuse or /dev/cuse.

        :raises ValueError: it is cut short
        """
        length, code, unique, node, uid, gid, pid, _ = HEADER.unpack_from(message)
        if length != len(message):
            raise ValueError(f'a message of {len(message)} bytes says that it has {length}')
        return cls(code, unique, node, uid, gid, pid, message[HEADER.size :])

    def fields(self, form: struct.Struct) -> tuple[typing.Any, ...]:
        """Return the beginning of the body as numbers."""
        return form.unpack_from(self.body)

    def names(self, offset: int = 0) -> list[bytes]:
        """Return the names in the body, each of which a zero ends."""
        return self.body[offset:].split(b'\0')[:-1]


def answer(request: Request, body: bytes = b'', error: int = 0) -> bytes:
    """Return the message that answers a request.

    :param error: errno; 0: it succeeded
    """
    return ANSWER.pack(ANSWER.size + len(body), -error, request.unique) + body


def send(descriptor: int, message: bytes) -> None:
    """Answer; the one who asked may have been killed by now."""
    try:
        os.write(descriptor, message)
    except FileNotFoundError:
        return
