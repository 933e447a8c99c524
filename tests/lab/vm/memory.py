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

"""The memory of a machine that is to be frozen, shared with its QEMU."""

import os
import pathlib

_PIECE = 1 << 20
_PAGE = 1 << 16


class Memory:
    """Memory of a given size, in bytes, which QEMU maps by its descriptor."""

    def __init__(self, size: int) -> None:
        self.descriptor = os.memfd_create('lab', os.MFD_CLOEXEC)
        os.ftruncate(self.descriptor, size)
        self._size = size

    @property
    def path(self) -> str:
        """Where a process that has inherited the descriptor finds it."""
        return f'/proc/self/fd/{self.descriptor}'

    def save(self, path: pathlib.Path) -> None:
        """Write it to a file, with holes where it is empty."""
        nothing = bytes(_PAGE)
        with path.open('wb') as file:
            file.truncate(self._size)
            position = 0
            while position < self._size:
                try:
                    position = os.lseek(self.descriptor, position, os.SEEK_DATA)
                except OSError:  # nothing but a hole is left
                    break
                end = os.lseek(self.descriptor, position, os.SEEK_HOLE)
                while position < end:
                    data = os.pread(self.descriptor, min(_PIECE, end - position), position)
                    for start in range(0, len(data), _PAGE):
                        page = data[start : start + _PAGE]
                        if page != nothing[: len(page)]:
                            os.pwrite(file.fileno(), page, position + start)
                    position += len(data)

    def close(self) -> None:
        """Give it back."""
        os.close(self.descriptor)
