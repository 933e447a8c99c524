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

"""Files of GlusterFS made, renamed and removed by its own client library.

    python -m tests.lab.storage.gfapi SERVER PORT VOLUME make LOCAL-FILE NAME
    python -m tests.lab.storage.gfapi SERVER PORT VOLUME rename OLD NEW
    python -m tests.lab.storage.gfapi SERVER PORT VOLUME remove NAME

What is done on a brick behind its back, it does not see.  A process of its own for
each, because the library takes ten seconds to let go of a volume, and a process
that ends need not wait for it.
"""

from collections.abc import Iterator
import ctypes
import errno
import os
import sys

_LIBRARY = 'libgfapi.so.0'
_CHUNK = 1 << 20  # bytes

# The exit status where there is no such file.
NO_FILE = 2


class Volume:
    """A volume as its client sees it; paths begin at its root.

    :param server: where glusterd listens, at a TCP port
    :raises OSError
    """

    def __init__(self, server: str, port: int, volume: str) -> None:
        self._library = ctypes.CDLL(_LIBRARY, use_errno=True)
        for name in ('glfs_new', 'glfs_creat'):
            getattr(self._library, name).restype = ctypes.c_void_p
        self._library.glfs_lseek.restype = ctypes.c_int64
        self._library.glfs_write.restype = ctypes.c_ssize_t
        self._pointer = ctypes.c_void_p(self._library.glfs_new(volume.encode()))
        if not self._pointer:
            raise _error(volume)
        if self._library.glfs_set_volfile_server(self._pointer, b'tcp', server.encode(), port):
            raise _error(server)
        if self._library.glfs_init(self._pointer):
            raise _error(volume)

    def make(self, local: str, name: str) -> None:
        """Make a file like a local one; holes stay holes."""
        made = self._library.glfs_creat(
            self._pointer, name.encode(), os.O_RDWR | os.O_EXCL, ctypes.c_uint(0o666)
        )
        if not made:
            raise _error(name)
        file = ctypes.c_void_p(made)
        with open(local, 'rb') as source:
            for start, data in _contents(source.fileno()):
                if self._library.glfs_lseek(file, ctypes.c_int64(start), os.SEEK_SET) != start:
                    raise _error(name)
                written = self._library.glfs_write(file, data, ctypes.c_size_t(len(data)), 0)
                if written != len(data):
                    raise _error(name)
        if self._library.glfs_close(file):
            raise _error(name)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name."""
        if self._library.glfs_rename(self._pointer, old.encode(), new.encode()):
            raise _error(old)

    def remove(self, name: str) -> None:
        """Remove a file.

        :raises FileNotFoundError: there is none
        """
        if self._library.glfs_unlink(self._pointer, name.encode()):
            raise _error(name)


def _contents(source: int) -> Iterator[tuple[int, bytes]]:
    """Yield what a file holds outside its holes, and its last byte: where, and what."""
    size = os.fstat(source).st_size
    place = 0
    while place < size:
        try:
            place = os.lseek(source, place, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        data = os.pread(source, min(_CHUNK, os.lseek(source, place, os.SEEK_HOLE) - place), place)
        yield place, data
        place += len(data)
    if size:
        yield size - 1, os.pread(source, 1, size - 1)


def _error(name: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), name)


def main(server: str, port: str, volume: str, verb: str, *names: str) -> int:
    """Do one thing; return the exit status."""
    try:
        getattr(Volume(server, int(port), volume), verb)(*names)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return NO_FILE
    return 0


if __name__ == '__main__':
    status = main(*sys.argv[1:])
    sys.stderr.flush()
    # Past the library's own end.
    os._exit(status)
