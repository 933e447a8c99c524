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

"""A character device whose ioctls a process answers: CUSE, spoken straight to /dev/cuse.

There is no library for it in Debian's Python, and libfuse needs a C program.
The device's ioctls have no sizes in their numbers (they are made with _IO), so
the device is an unrestricted one: it tells the kernel which bytes at the
caller's pointer it wants to see and which it will write.
"""

from collections.abc import Mapping
import errno
import os
import pathlib
import struct
import typing

from tests.lab.standins import fuse_wire

CUSE = pathlib.Path('/dev/cuse')

_VERSION = (7, 31)
_UNRESTRICTED = 1 << 0  # of CUSE_INIT
_RETRY = 1 << 2  # of an ioctl's answer
_MOST = 1 << 16  # bytes of one read or write
_INIT = struct.Struct('=IIIIIIII10I')
_OPENED = struct.Struct('=QII')
_IOCTL = struct.Struct('=QIIQII')
_DONE = struct.Struct('=iIII')
_PIECE = struct.Struct('=QQ')


class Ioctl(typing.NamedTuple):
    """What one ioctl of the device does.

    :ivar size: bytes at the caller's pointer, read and written
    :ivar act: given those bytes, returns as many
    :raises OSError: ``act`` may, and the caller gets its errno
    """

    size: int
    act: typing.Callable[[bytes], bytes]


class CharacterDevice:
    """/dev/NAME, which exists while this process does.

    :ivar ioctls: by number; every other one is refused with ENOTTY
    """

    def __init__(self, name: str, ioctls: Mapping[int, Ioctl]) -> None:
        self.name = name
        self.ioctls = ioctls

    def serve(self) -> None:
        """Answer for ever."""
        device = os.open(CUSE, os.O_RDWR | os.O_CLOEXEC)
        while True:
            request = fuse_wire.Request.parse(os.read(device, _MOST + 4096))
            if request.code == fuse_wire.INTERRUPT:
                continue
            fuse_wire.send(device, self.answer(request))

    def answer(self, request: fuse_wire.Request) -> bytes:
        """Return the answer to one request."""
        if request.code == fuse_wire.CUSE_INIT:
            settings = _INIT.pack(*_VERSION, 0, _UNRESTRICTED, _MOST, _MOST, 0, 0, *[0] * 10)
            return fuse_wire.answer(request, settings + f'DEVNAME={self.name}\0'.encode())
        if request.code == fuse_wire.OPEN:
            return fuse_wire.answer(request, _OPENED.pack(0, 0, 0))
        if request.code == fuse_wire.IOCTL:
            return self._ioctl(request)
        if request.code in (fuse_wire.RELEASE, fuse_wire.FLUSH):
            return fuse_wire.answer(request)
        return fuse_wire.answer(request, error=errno.ENOSYS)

    def _ioctl(self, request: fuse_wire.Request) -> bytes:
        _, _, number, pointer, seen, _ = request.fields(_IOCTL)
        found = self.ioctls.get(number)
        if found is None:
            return fuse_wire.answer(request, error=errno.ENOTTY)
        if not seen:
            piece = _PIECE.pack(pointer, found.size)
            return fuse_wire.answer(request, _DONE.pack(0, _RETRY, 1, 1) + piece + piece)
        try:
            result = found.act(request.body[_IOCTL.size :][: found.size])
        except OSError as error:
            return fuse_wire.answer(request, error=error.errno or errno.EIO)
        return fuse_wire.answer(request, _DONE.pack(0, 0, 0, 0) + result)
