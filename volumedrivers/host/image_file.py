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

"""Look into an image file before a guest gets it.

A file on a share is written by a guest, by Cinder and by whoever else mounts
the share.  What is declared to be qcow2 must be qcow2, and neither its backing
files nor anything else it names may lead out of the share: QEMU would open it
with the rights of the hypervisor.

A file that is declared raw is not looked into.  The guest may have written
anything there, a qcow2 header as well; the XML says raw, so QEMU never looks
for a format either, and what the header names is never opened.

An encrypted volume is another matter.  Cinder's drivers for shares make its
file as qcow2 and call it raw; what begins the file cannot be a guest's, of
which only ciphertext gets there.
"""

from collections.abc import Callable
import dataclasses
import os
import stat
import struct
import typing

from volumedrivers import exception
from volumedrivers.host import deadline

# Enough for any chain of snapshots; ends a chain that leads back to itself.
MAX_DEPTH = 64

# What QEMU calls a format where oslo.utils calls it otherwise.
_INSPECTORS = {
    'qcow2': 'qcow2',
    'qed': 'qed',
    'vdi': 'vdi',
    'vhd': 'vhd',
    'vhdx': 'vhdx',
    'vmdk': 'vmdk',
    'vpc': 'vhd',
}
# Formats without a name of another file, known by how they begin.
_PLAIN = {
    'parallels': (b'WithoutFreeSpace', b'WithouFreSpacExt'),
    'ploop': (b'WithoutFreeSpace', b'WithouFreSpacExt'),
}
# (offset, bytes): what makes a file look like an image that is not raw.
_MAGIC = (
    (0, b'QFI\xfb', 'qcow2'),
    (0, b'QED\0', 'qed'),
    (0, b'KDMV', 'vmdk'),
    (0, b'COWD', 'vmdk'),
    (0, b'# Disk DescriptorFile', 'vmdk'),
    (0, b'conectix', 'vhd'),
    (0, b'vhdxfile', 'vhdx'),
    (0, b'WithoutFreeSpace', 'parallels'),
    (0, b'WithouFreSpacExt', 'parallels'),
    (64, b'\x7f\x10\xda\xbe', 'vdi'),
)

# qcow2: https://qemu.readthedocs.io/en/latest/interop/qcow2.html
_QCOW2 = struct.Struct('>4sIQIIQ')
_QCOW2_LUKS = 2
_QCOW2_BACKING_FORMAT = 0xE2792ACA
_QCOW2_MAX_NAME = 1023


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """A file that may be given to a guest.

    :ivar format: raw, qcow2, ...; what the XML must say
    :ivar size: bytes of the file; of a raw one also what the guest sees
    :ivar inode: its number on the share
    :ivar backing: the files below it, next one first, as full paths
    """

    path: str
    format: str
    size: int
    inode: int
    backing: tuple[str, ...] = ()


def inspect(
    path: str,
    declared: str | None,
    *,
    root: str,
    seconds: float,
    volume_id: str | None = None,
    encrypted: bool = False,
) -> ImageFile:
    """Check that a file is the image it is declared to be.

    :param declared: the format Cinder named; None: it named none, and then
        only a file that looks like no other format is taken, as raw
    :param root: directory that no backing file may lead out of
    :param seconds: how long the share may take to answer
    :param volume_id: for the messages only
    :param encrypted: Cinder says that the volume is; then what is declared raw
        may be a qcow2 that is encrypted, and nothing else
    :raises UnsafeImage: the file is something else, or names files outside
    :raises VolumeDeviceNotFound: there is no such file
    :raises MountFailed: reading it failed
    :raises DeadlineExceeded: the share does not answer
    """

    def look() -> ImageFile:
        try:
            real = os.path.realpath(root, strict=True)
            kind = declared
            if encrypted and declared == 'raw' and _with_file(path, _is_encrypted_qcow2):
                kind = 'qcow2'
            found = _look(path, kind, real, ())
        except FileNotFoundError as error:
            raise exception.VolumeDeviceNotFound(
                volume_id=volume_id, reason=f'{error.filename} does not exist'
            ) from error
        except PermissionError as error:
            raise _unsafe(path, f'it cannot be inspected: {error.strerror}') from error
        except OSError as error:
            raise exception.MountFailed(
                source=path, mount_point=root, reason=f'it cannot be read: {error.strerror}'
            ) from error
        if kind != declared and found.backing:
            # Cinder calls one that has a snapshot qcow2.
            raise _unsafe(path, 'it is declared raw and has a backing file')
        return found

    return deadline.call(look, what=f'image {path}', seconds=seconds)


def _look(path: str, declared: str | None, root: str, above: tuple[str, ...]) -> ImageFile:
    if len(above) > MAX_DEPTH:
        raise _unsafe(above[0], f'its backing files are more than {MAX_DEPTH}')
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise _unsafe(path, 'it is no regular file')
    kind = declared or 'raw'
    backing: tuple[str, ...] = ()
    if declared is None:
        looks = _with_file(path, _guess)
        if looks is not None:
            raise _unsafe(path, f'no format is declared, and it looks like {looks}')
    elif declared == 'raw':
        pass
    elif declared in _PLAIN:
        if not _with_file(path, lambda file: file.read(16)).startswith(_PLAIN[declared]):
            raise _unsafe(path, f'it is declared {declared} and is not')
    elif declared in _INSPECTORS:
        _check_format(path, declared)
        if declared == 'qcow2':
            backing = _backing_of_qcow2(path, root, above)
    else:
        raise _unsafe(path, f'its format {declared!r} cannot be checked')
    return ImageFile(path, kind, found.st_size, found.st_ino, backing)


def _check_format(path: str, declared: str) -> None:
    from oslo_utils.imageutils import format_inspector  # noqa: PLC0415 - slow to import

    kind = format_inspector.get_inspector(_INSPECTORS[declared])
    if kind is None:
        raise _unsafe(path, f'oslo.utils has no inspector of {declared}')
    try:
        inspector = kind.from_file(path)
        if declared == 'qcow2':
            # Its backing file is looked at here; oslo.utils refuses them all.
            # Version 2 has neither data files nor features, and oslo.utils
            # would take what else is there for some.
            if _with_file(path, lambda file: file.read(8))[4:] == b'\0\0\0\2':
                return
            qcow2 = typing.cast('format_inspector.QcowInspector', inspector)
            qcow2.check_data_file()
            qcow2.check_unknown_features()
        else:
            inspector.safety_check()
    except format_inspector.ImageFormatError as error:
        raise _unsafe(path, f'it is declared {declared} and is not ({error})') from error
    except format_inspector.SafetyCheckFailed as error:
        reasons = '; '.join(str(failure) for failure in error.failures.values())
        raise _unsafe(path, reasons or str(error)) from error
    except format_inspector.SafetyViolation as error:
        raise _unsafe(path, str(error)) from error


def _backing_of_qcow2(path: str, root: str, above: tuple[str, ...]) -> tuple[str, ...]:
    name, form = _with_file(path, lambda file: _read_qcow2(path, file))
    if name is None:
        return ()
    # As QEMU decides: a colon before the first slash names a protocol.
    if ':' in name.split('/', 1)[0] or name.startswith('/') or '\0' in name:
        raise _unsafe(path, f'its backing file is {name!r}; only one on the share is accepted')
    below = os.path.join(os.path.dirname(path), name)
    resolved = os.path.realpath(below, strict=True)
    if os.path.commonpath((root, resolved)) != root:
        raise _unsafe(path, f'its backing file {name!r} leads out of the share to {resolved}')
    return (below, *_look(below, form, root, (*above, path)).backing)


def _read_qcow2(path: str, file: typing.BinaryIO) -> tuple[str | None, str | None]:
    """Return the name and format of the backing file a qcow2 header names."""
    head = file.read(512)
    if len(head) < 104:
        head = head.ljust(104, b'\0')
    magic, version, offset, length, cluster_bits, _ = _QCOW2.unpack_from(head)
    if magic != b'QFI\xfb' or version not in (2, 3) or not 9 <= cluster_bits <= 21:
        raise _unsafe(path, 'its qcow2 header is damaged')
    if offset == 0:
        return None, None
    cluster = 1 << cluster_bits
    if not 0 < length <= _QCOW2_MAX_NAME or offset + length > cluster:
        raise _unsafe(path, 'its qcow2 header names a backing file outside of itself')
    file.seek(0)
    head = file.read(cluster)
    name = head[offset : offset + length]
    position = struct.unpack_from('>I', head, 100)[0] if version == 3 else 72
    form = None
    while position + 8 <= min(offset, len(head)):
        kind, size = struct.unpack_from('>II', head, position)
        if kind == 0:
            break
        if kind == _QCOW2_BACKING_FORMAT:
            form = head[position + 8 : position + 8 + size].decode('ascii', 'replace')
        position += 8 + (size + 7) // 8 * 8
    return os.fsdecode(name), form


def _is_encrypted_qcow2(file: typing.BinaryIO) -> bool:
    head = file.read(36)
    return (
        len(head) == 36
        and head.startswith(b'QFI\xfb')
        and struct.unpack_from('>I', head, 32)[0] == _QCOW2_LUKS
    )


def _guess(file: typing.BinaryIO) -> str | None:
    head = file.read(512)
    for offset, magic, name in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return name
    return None


T = typing.TypeVar('T')


def _with_file(path: str, read: Callable[[typing.BinaryIO], T]) -> T:
    # Not blocking: between stat and open it may have become a FIFO.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, 'rb') as file:
        return read(file)


def _unsafe(path: str, reason: str) -> exception.UnsafeImage:
    return exception.UnsafeImage(path=path, reason=reason)
