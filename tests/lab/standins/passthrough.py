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

"""A file system in user space that shows a directory: what vendors' clients are replaced by.

Its type in the mount table, its source and what its root looks like are the
vendor's; the files lie in a directory of this machine.  It speaks to /dev/fuse
itself, for Debian's Python has no library for it.  Nothing is kept in caches
here, and little in the kernel's, so that what the storage does is seen.
"""

import dataclasses
import errno
import os
import pathlib
import stat
import struct
import typing

from tests.lab.standins import fuse_wire
from tests.lab.standins.fuse_wire import Request

FUSE = pathlib.Path('/dev/fuse')

_ROOT = 1
_VERSION = (7, 31)
# Of INIT: asynchronous reads, big writes, caches end when a file has changed, large requests.
_FLAGS = 1 << 0 | 1 << 5 | 1 << 12 | 1 << 22
_MOST = 1 << 17  # bytes of one read or write
_PAGE = 4096

_INIT_IN = struct.Struct('=IIII')
_INIT_OUT = struct.Struct('=IIIIHHIIHHI7I')
_ATTRIBUTES = struct.Struct('=QQQQQQIIIIIIIIII')
_ENTRY = struct.Struct('=QQQQII')
_ATTR_OUT = struct.Struct('=QII')
_SETATTR = struct.Struct('=IIQQQQQQIIIIIIII')
_FH = struct.Struct('=Q')
_TWO = struct.Struct('=II')
_FOUR = struct.Struct('=IIII')
_OPENED = struct.Struct('=QII')
_IO = struct.Struct('=QQIIQII')
_STATFS = struct.Struct('=QQQQQIIII6I')
_RENAME2 = struct.Struct('=QII')
_FALLOCATE = struct.Struct('=QQQII')
_DIRENT = struct.Struct('=QQII')
_FORGET = struct.Struct('=QQ')

# Of SETATTR, which of its fields are meant.
_MODE, _UID, _GID, _SIZE, _ATIME, _MTIME = (1 << bit for bit in range(6))
_ATIME_NOW, _MTIME_NOW = 1 << 7, 1 << 8


@dataclasses.dataclass(frozen=True)
class Look:
    """What a vendor's client makes of files, apart from their contents.

    :ivar root_size: what stat(2) says of the root; None: as it is
    :ivar owner: uid and gid of everything; None: as it is
    :ivar mode: access bits of everything; None: as they are
    """

    root_size: int | None = None
    owner: tuple[int, int] | None = None
    mode: int | None = None


class Tree:
    """A directory, as the kernel asks for it.

    :ivar open_files: paths below the directory that are open, by their handle
    """

    def __init__(self, directory: pathlib.Path, look: Look) -> None:
        self.directory = str(directory)
        self.look = look
        self.open_files: dict[int, str] = {}
        self.changed: typing.Callable[[], None] = lambda: None
        self._paths: dict[int, str] = {_ROOT: ''}
        self._nodes: dict[str, int] = {'': _ROOT}
        self._next = _ROOT + 1
        self._handles: dict[int, int] = {}
        self._listings: dict[int, list[tuple[str, os.stat_result]]] = {}
        self._next_handle = 1

    def answer(self, request: Request) -> bytes | None:
        """Do what is asked; None: nobody expects an answer."""
        act = _ACTS.get(request.code)
        if act is None:
            return fuse_wire.answer(request, error=errno.ENOSYS)
        try:
            body = act(self, request)
        except OSError as error:
            return fuse_wire.answer(request, error=error.errno or errno.EIO)
        return None if request.code in fuse_wire.SILENT else fuse_wire.answer(request, body)

    # What there is.

    def _init(self, request: Request) -> bytes:
        major, _, readahead, flags = request.fields(_INIT_IN)
        if major != _VERSION[0]:
            raise OSError(errno.EPROTO, 'the kernel speaks another protocol')
        return _INIT_OUT.pack(
            *(*_VERSION, readahead, flags & _FLAGS, 16, 12, _MOST, 1),
            *(_MOST // _PAGE, 0, 0, *[0] * 7),
        )

    def _lookup(self, request: Request) -> bytes:
        return self._entry(self._child(request.node, request.names()[0]))

    def _forget(self, request: Request) -> bytes:
        # The table of numbers stays: a lab's share has few files.
        return b''

    def _getattr(self, request: Request) -> bytes:
        return _ATTR_OUT.pack(0, 0, 0) + self._attributes(self._path(request))

    def _setattr(self, request: Request) -> bytes:
        valid, _, _, size, _, atime, mtime, _, *rest = request.fields(_SETATTR)
        atime_part, mtime_part, _, mode, _, uid, gid, _ = rest
        path, place = self._path(request), self._place(self._path(request))
        if valid & (_UID | _GID | _MODE):
            if self.look.owner is not None:
                raise PermissionError(errno.EPERM, 'the mount says whose the files are')
            if valid & (_UID | _GID):
                os.chown(place, uid if valid & _UID else -1, gid if valid & _GID else -1)
            if valid & _MODE:
                os.chmod(place, stat.S_IMODE(mode))
        if valid & _SIZE:
            os.truncate(place, size)
        if valid & (_ATIME | _MTIME):
            found = os.stat(place)
            times = [found.st_atime_ns, found.st_mtime_ns]
            if valid & _ATIME and not valid & _ATIME_NOW:
                times[0] = atime * 10**9 + atime_part
            if valid & _MTIME and not valid & _MTIME_NOW:
                times[1] = mtime * 10**9 + mtime_part
            now = valid & (_ATIME_NOW | _MTIME_NOW)
            os.utime(place, None) if now else os.utime(place, ns=(times[0], times[1]))
        return _ATTR_OUT.pack(0, 0, 0) + self._attributes(path)

    def _readlink(self, request: Request) -> bytes:
        return os.readlink(os.fsencode(self._place(self._path(request))))

    def _statfs(self, request: Request) -> bytes:
        found = os.statvfs(self.directory)
        return _STATFS.pack(
            *(found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree),
            *(found.f_bsize, found.f_namemax, found.f_frsize, 0, *[0] * 6),
        )

    # Names.

    def _mkdir(self, request: Request) -> bytes:
        mode, umask = request.fields(_TWO)
        path = self._child(request.node, request.names(_TWO.size)[0])
        os.mkdir(self._place(path), stat.S_IMODE(mode) & ~umask)
        return self._entry(path)

    def _symlink(self, request: Request) -> bytes:
        name, target = request.names()
        path = self._child(request.node, name)
        os.symlink(target, os.fsencode(self._place(path)))
        return self._entry(path)

    def _unlink(self, request: Request) -> bytes:
        path = self._child(request.node, request.names()[0])
        os.unlink(self._place(path))
        self._forget_path(path)
        return b''

    def _rmdir(self, request: Request) -> bytes:
        path = self._child(request.node, request.names()[0])
        os.rmdir(self._place(path))
        self._forget_path(path)
        return b''

    def _rename(self, request: Request) -> bytes:
        (directory,) = request.fields(_FH)
        return self._renamed(request, directory, request.names(_FH.size))

    def _rename2(self, request: Request) -> bytes:
        directory, flags, _ = request.fields(_RENAME2)
        if flags:
            raise OSError(errno.EINVAL, 'no such rename')
        return self._renamed(request, directory, request.names(_RENAME2.size))

    def _renamed(self, request: Request, directory: int, names: list[bytes]) -> bytes:
        old, new = self._child(request.node, names[0]), self._child(directory, names[1])
        os.rename(self._place(old), self._place(new))
        self._forget_path(new)
        for path in [each for each in self._nodes if each == old or each.startswith(f'{old}/')]:
            node = self._nodes.pop(path)
            moved = new + path.removeprefix(old)
            self._nodes[moved], self._paths[node] = node, moved
        return b''

    def _access(self, request: Request) -> bytes:
        # The kernel itself checks where the mount has default_permissions.
        os.stat(self._place(self._path(request)))
        return b''

    # Contents.

    def _open(self, request: Request) -> bytes:
        flags, _ = request.fields(_TWO)
        path = self._path(request)
        return self._opened(path, os.open(self._place(path), _plain(flags)))

    def _create(self, request: Request) -> bytes:
        flags, mode, umask, _ = request.fields(_FOUR)
        path = self._child(request.node, request.names(_FOUR.size)[0])
        bits = stat.S_IMODE(mode) & ~umask
        descriptor = os.open(self._place(path), _plain(flags) | os.O_CREAT, bits)
        return self._entry(path) + self._opened(path, descriptor)

    def _read(self, request: Request) -> bytes:
        handle, offset, size, *_ = request.fields(_IO)
        return os.pread(self._handles[handle], size, offset)

    def _write(self, request: Request) -> bytes:
        handle, offset, size, *_ = request.fields(_IO)
        data = request.body[_IO.size :][:size]
        return _TWO.pack(os.pwrite(self._handles[handle], data, offset), 0)

    def _flush(self, request: Request) -> bytes:
        return b''

    def _fsync(self, request: Request) -> bytes:
        (handle,) = request.fields(_FH)
        os.fsync(self._handles[handle])
        return b''

    def _fallocate(self, request: Request) -> bytes:
        handle, offset, length, mode, _ = request.fields(_FALLOCATE)
        if mode:
            raise OSError(errno.EOPNOTSUPP, 'no such fallocate')
        os.posix_fallocate(self._handles[handle], offset, length)
        return b''

    def _release(self, request: Request) -> bytes:
        (handle,) = request.fields(_FH)
        os.close(self._handles.pop(handle))
        del self.open_files[handle]
        self.changed()
        return b''

    def _opendir(self, request: Request) -> bytes:
        place = self._place(self._path(request))
        listing = [(name, os.lstat(os.path.join(place, name))) for name in os.listdir(place)]
        own = os.stat(place)
        handle = self._next_handle
        self._next_handle += 1
        self._listings[handle] = [('.', own), ('..', own), *listing]
        return _OPENED.pack(handle, 0, 0)

    def _readdir(self, request: Request) -> bytes:
        handle, offset, size, *_ = request.fields(_IO)
        found = b''
        for number, (name, status) in enumerate(self._listings[handle][offset:], offset + 1):
            encoded = os.fsencode(name)
            kind = stat.S_IFMT(status.st_mode) >> 12
            entry = _DIRENT.pack(status.st_ino, number, len(encoded), kind) + encoded
            entry += bytes(-len(entry) % 8)
            if len(found) + len(entry) > size:
                break
            found += entry
        return found

    def _releasedir(self, request: Request) -> bytes:
        (handle,) = request.fields(_FH)
        del self._listings[handle]
        return b''

    def _nothing(self, request: Request) -> bytes:
        return b''

    # Numbers, paths, attributes.

    def _path(self, request: Request) -> str:
        try:
            return self._paths[request.node]
        except KeyError:
            raise OSError(errno.ESTALE, 'no such file any more') from None

    def _child(self, node: int, name: bytes) -> str:
        directory = self._paths.get(node)
        if directory is None:
            raise OSError(errno.ESTALE, 'no such directory any more')
        return f'{directory}/{os.fsdecode(name)}'.lstrip('/')

    def _place(self, path: str) -> str:
        return os.path.join(self.directory, path) if path else self.directory

    def _forget_path(self, path: str) -> None:
        node = self._nodes.pop(path, None)
        if node is not None:
            del self._paths[node]

    def _entry(self, path: str) -> bytes:
        attributes = self._attributes(path)
        node = self._nodes.get(path)
        if node is None:
            node, self._next = self._next, self._next + 1
            self._nodes[path], self._paths[node] = node, path
        return _ENTRY.pack(node, 1, 0, 0, 0, 0) + attributes

    def _opened(self, path: str, descriptor: int) -> bytes:
        handle = self._next_handle
        self._next_handle += 1
        self._handles[handle] = descriptor
        self.open_files[handle] = path
        self.changed()
        return _OPENED.pack(handle, 0, 0)

    def _attributes(self, path: str) -> bytes:
        found = os.lstat(self._place(path))
        size, mode = found.st_size, found.st_mode
        uid, gid = self.look.owner or (found.st_uid, found.st_gid)
        if not path and self.look.root_size is not None:
            size = self.look.root_size
        if self.look.mode is not None and not stat.S_ISLNK(mode):
            mode = stat.S_IFMT(mode) | self.look.mode
        times = [found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns]
        return _ATTRIBUTES.pack(
            *(found.st_ino, size, found.st_blocks),
            *(each // 10**9 for each in times),
            *(each % 10**9 for each in times),
            *(mode, found.st_nlink, uid, gid, 0, _PAGE, 0),
        )


def _plain(flags: int) -> int:
    # Whole blocks at aligned addresses are for the kernel, not for here.
    return flags & ~(os.O_DIRECT | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW) | os.O_CLOEXEC


_ACTS: dict[int, typing.Callable[[Tree, Request], bytes]] = {
    fuse_wire.INIT: Tree._init,
    fuse_wire.LOOKUP: Tree._lookup,
    fuse_wire.FORGET: Tree._forget,
    fuse_wire.BATCH_FORGET: Tree._forget,
    fuse_wire.INTERRUPT: Tree._nothing,
    fuse_wire.DESTROY: Tree._nothing,
    fuse_wire.GETATTR: Tree._getattr,
    fuse_wire.SETATTR: Tree._setattr,
    fuse_wire.READLINK: Tree._readlink,
    fuse_wire.STATFS: Tree._statfs,
    fuse_wire.MKDIR: Tree._mkdir,
    fuse_wire.SYMLINK: Tree._symlink,
    fuse_wire.UNLINK: Tree._unlink,
    fuse_wire.RMDIR: Tree._rmdir,
    fuse_wire.RENAME: Tree._rename,
    fuse_wire.RENAME2: Tree._rename2,
    fuse_wire.ACCESS: Tree._access,
    fuse_wire.OPEN: Tree._open,
    fuse_wire.CREATE: Tree._create,
    fuse_wire.READ: Tree._read,
    fuse_wire.WRITE: Tree._write,
    fuse_wire.FLUSH: Tree._flush,
    fuse_wire.FSYNC: Tree._fsync,
    fuse_wire.FSYNCDIR: Tree._nothing,
    fuse_wire.FALLOCATE: Tree._fallocate,
    fuse_wire.RELEASE: Tree._release,
    fuse_wire.OPENDIR: Tree._opendir,
    fuse_wire.READDIR: Tree._readdir,
    fuse_wire.RELEASEDIR: Tree._releasedir,
}
