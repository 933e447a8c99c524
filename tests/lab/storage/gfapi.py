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

"""Renames and removals in GlusterFS by its own client library.

What is done on a brick behind its back, it does not see.
"""

from collections.abc import Iterator
import contextlib
import ctypes
import os

_LIBRARY = 'libgfapi.so.0'


@contextlib.contextmanager
def opened(server: str, port: int, volume: str) -> Iterator['Volume']:
    """Be a client of a volume.

    :param server: where glusterd listens, at a TCP port
    :raises OSError
    """
    library = ctypes.CDLL(_LIBRARY, use_errno=True)
    library.glfs_new.restype = ctypes.c_void_p
    pointer = ctypes.c_void_p(library.glfs_new(volume.encode()))
    if not pointer:
        raise _error(volume)
    try:
        if library.glfs_set_volfile_server(pointer, b'tcp', server.encode(), port) != 0:
            raise _error(server)
        if library.glfs_init(pointer) != 0:
            raise _error(volume)
        yield Volume(library, pointer)
    finally:
        library.glfs_fini(pointer)


class Volume:
    """A volume as its client sees it; paths begin at its root."""

    def __init__(self, library: ctypes.CDLL, pointer: ctypes.c_void_p) -> None:
        self._library = library
        self._pointer = pointer

    def rename(self, old: str, new: str) -> None:
        """Give a file another name."""
        if self._library.glfs_rename(self._pointer, old.encode(), new.encode()) != 0:
            raise _error(old)

    def remove(self, name: str) -> None:
        """Remove a file.

        :raises FileNotFoundError: there is none
        """
        if self._library.glfs_unlink(self._pointer, name.encode()) != 0:
            raise _error(name)


def _error(name: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), name)
