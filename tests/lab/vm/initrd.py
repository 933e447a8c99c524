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

"""The first file system of the virtual machine, which finds the real one."""

import gzip
import pathlib
import stat
import typing

from tests.lab.vm import modules
from tests.lab.vm import programs

MODULES = ('virtio_pci', 'virtio_blk', 'crc32c_generic', 'ext4')

# Where the kernel's own devtmpfs is not yet mounted, /dev/console has to be there.
SCRIPT = """\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in $(/bin/busybox cat /modules/order); do
    /bin/busybox insmod /modules/$module || echo "no module $module"
done
tries=0
until /bin/busybox mount -t ext4 -o noatime /dev/vda /root 2>/dev/null; do
    tries=$((tries + 1))
    if [ $tries -gt 500 ]; then
        echo "no root file system on /dev/vda"
        /bin/busybox poweroff -f
    fi
    /bin/busybox usleep 20000
done
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/lab-init
"""


class Archive:
    """Writes the kernel's cpio format, which needs no root for device nodes."""

    def __init__(self, file: typing.BinaryIO) -> None:
        self._file = file
        self._number = 0

    def directory(self, name: str) -> None:
        """Add a directory; its parents must be there."""
        self._entry(name, stat.S_IFDIR | 0o755)

    def file(self, name: str, content: bytes, mode: int = 0o644) -> None:
        """Add a regular file."""
        self._entry(name, stat.S_IFREG | mode, content)

    def character_device(self, name: str, major: int, minor: int) -> None:
        """Add a device node."""
        self._entry(name, stat.S_IFCHR | 0o600, device=(major, minor))

    def end(self) -> None:
        """Write the last record."""
        self._entry('TRAILER!!!', 0)

    def _entry(
        self, name: str, mode: int, content: bytes = b'', device: tuple[int, int] = (0, 0)
    ) -> None:
        self._number += 1
        path = name.encode() + b'\0'
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = (
            self._number,
            mode,
            0,
            0,
            links,
            0,
            len(content),
            0,
            0,
            *device,
            len(path),
            0,
        )
        header = b'070701' + b''.join(b'%08X' % field for field in fields)
        self._file.write(_padded(header + path))
        self._file.write(_padded(content))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def make(path: pathlib.Path, tree: pathlib.Path) -> None:
    """Write the initrd.

    :param path: of the file to write
    :param tree: lib/modules/VERSION of its kernel
    :raises modules.ModuleMissing
    :raises programs.ProgramMissing
    """
    busybox = pathlib.Path(programs.find('busybox', 'busybox-static'))
    files = modules.needed(tree, MODULES)
    with gzip.open(path, 'wb', compresslevel=1) as output:
        archive = Archive(typing.cast(typing.BinaryIO, output))
        for name in ('bin', 'dev', 'modules', 'root'):
            archive.directory(name)
        archive.character_device('dev/console', 5, 1)
        archive.file('init', SCRIPT.encode(), 0o755)
        archive.file('bin/busybox', busybox.read_bytes(), 0o755)
        archive.file('modules/order', ''.join(f'{file.name}\n' for file in files).encode())
        for file in files:
            archive.file(f'modules/{file.name}', file.read_bytes())
        archive.end()
