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

"""Encrypted devices, as root: headers, formatting, names and sizes."""

from collections.abc import Iterator
import contextlib
import errno
import fcntl
import os
import re
import stat
import time

from volumedrivers import exception
from volumedrivers.privsep import blank
from volumedrivers.privsep import commands
from volumedrivers.privsep import context
from volumedrivers.privsep import luks_header

LINKS = '/dev/volumedrivers'
MAPPER = '/dev/mapper'
PREFIX = 'crypt-'
_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.-]{0,99}', re.ASCII)
_CIPHER = re.compile(r'[A-Za-z0-9][A-Za-z0-9_:().,-]{0,127}', re.ASCII)
_TYPES = ('luks1', 'luks2')
_POLL = 0.05
_LOCK_SECONDS = 30.0
_RESIZE_SECONDS = 60.0
_SECTOR = 512


@context.privileged
def read_header(path: str, image_format: str) -> tuple[str, int, int, str] | None:
    """Return the fields of a luks_header.Header; None: there is none.

    :param image_format: raw or qcow2
    :raises PrivilegedCallRefused: that is neither a block device nor a file
    :raises EncryptionFailed: it cannot be read, or makes no sense
    """
    found = header_of(path, image_format)
    return None if found is None else (*found,)


@context.privileged
def contents(path: str) -> str | None:
    """Say what is on a device or file; None: it is blank.

    :raises PrivilegedCallRefused, EncryptionFailed
    """
    with _opened(path, os.O_RDONLY) as descriptor, _readable(path):
        return blank.look(descriptor, size_of(descriptor))


def header_of(path: str, image_format: str) -> luks_header.Header | None:
    """Do what ``read_header`` does, with the rights of the caller."""
    parse = luks_header.parse_qcow2 if image_format == 'qcow2' else luks_header.parse
    with _opened(path, os.O_RDONLY) as descriptor, _readable(path):
        return parse(lambda offset, length: os.pread(descriptor, length, offset))


def size_of(descriptor: int) -> int:
    """Return the bytes of an open device or file."""
    return os.lseek(descriptor, 0, os.SEEK_END)


@context.privileged
def format_blank(
    path: str,
    version: str,
    passphrase: bytes,
    cipher: str | None,
    key_size: int | None,
    *,
    seconds: float,
) -> None:
    """Give a device or file a LUKS header, if it is blank; one that has it is left alone.

    What was left of a formatting that was interrupted, a header that nobody
    can open and nothing behind it, counts as blank.  It is looked at under a
    lock that udev heeds and that a cryptsetup left behind holds as long as it
    is at work.

    :param version: luks1 or luks2
    :param key_size: bits
    :raises PrivilegedCallRefused
    :raises FormatRefused: it is not blank
    :raises Busy: somebody holds the lock
    :raises EncryptionFailed, ToolMissing, DeadlineExceeded
    """
    command = _format_command(version, passphrase, cipher, key_size)
    with _opened(path, os.O_RDWR) as device, _readable(path):
        _lock(device, path)
        found = luks_header.parse(lambda offset, length: os.pread(device, length, offset))
        if found is not None and found.key_slots > 0:
            if found.kind != version:
                raise _not_formatted(path, version, f'it has a {found.kind} header')
            return
        what = blank.look(device, size_of(device)) if found is None else _behind(device, found)
        if what is not None:
            raise _not_formatted(path, version, what)
        with _in_memory(passphrase) as key:
            result = _run(
                [*command, f'--key-file=/proc/self/fd/{key}', '--', f'/proc/self/fd/{device}'],
                what=f'cryptsetup, to format {path}',
                seconds=seconds,
                keep=(key, device),
            )
        if result.code != 0:
            raise exception.EncryptionFailed(
                volume_id=None, reason=f'{path} could not be formatted: {result.output}'
            )
        os.fsync(device)


@context.privileged
def make_link(name: str, device: str) -> str:
    """Make /dev/volumedrivers/<name> lead to a device; return that path.

    :param device: an absolute path below /dev
    :raises PrivilegedCallRefused, EncryptionFailed
    """
    _check_name('make_link', name)
    if not isinstance(device, str) or not os.path.normpath(device).startswith('/dev/'):
        raise _refused('make_link', f'{device!r} is not below /dev')
    path = os.path.join(LINKS, name)
    made = f'{path}.{os.getpid()}'
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(LINKS, 0o755)
        _check_folder('make_link')
        with contextlib.suppress(FileNotFoundError):
            os.unlink(made)
        os.symlink(os.path.normpath(device), made)
        os.replace(made, path)
    except OSError as error:
        raise exception.EncryptionFailed(
            volume_id=name, reason=f'{path} could not be made: {error.strerror}'
        ) from error
    return path


@context.privileged
def remove_link(name: str) -> bool:
    """Remove /dev/volumedrivers/<name>; False: there was none.

    :raises PrivilegedCallRefused, EncryptionFailed
    """
    _check_name('remove_link', name)
    try:
        _check_folder('remove_link')
        os.unlink(os.path.join(LINKS, name))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise exception.EncryptionFailed(
            volume_id=name, reason=f'{LINKS}/{name} could not be removed: {error.strerror}'
        ) from error
    return True


@context.privileged
def resize(name: str, passphrase: bytes | None) -> None:
    """Let /dev/mapper/crypt-<name> be as big as the device below it.

    :param passphrase: LUKS2 asks for it; None: it is not given one
    :raises PrivilegedCallRefused, EncryptionFailed, ToolMissing, DeadlineExceeded
    """
    _check_name('resize', name)
    command = ['cryptsetup', '--batch-mode', 'resize']
    keep: tuple[int, ...] = ()
    with contextlib.ExitStack() as stack:
        if passphrase is not None:
            key = stack.enter_context(_in_memory(passphrase))
            command.append(f'--key-file=/proc/self/fd/{key}')
            keep = (key,)
        result = _run(
            [*command, '--', f'{PREFIX}{name}'],
            what=f'cryptsetup, to resize volume {name}',
            seconds=_RESIZE_SECONDS,
            keep=keep,
        )
    if result.code != 0:
        raise exception.EncryptionFailed(
            volume_id=name, reason=f'it could not be resized: {result.output}'
        )


def _run(
    command: list[str], *, what: str, seconds: float, keep: tuple[int, ...]
) -> commands.Result:
    try:
        return commands.run(command, what=what, timeout=seconds, keep=keep)
    except exception.ToolMissing as error:
        raise exception.ToolMissing(tool='cryptsetup', package='cryptsetup-bin') from error


def _format_command(
    version: str, passphrase: bytes, cipher: str | None, key_size: int | None
) -> list[str]:
    if version not in _TYPES:
        raise _refused('format_blank', f'{version!r} is no type of header')
    if not isinstance(passphrase, bytes) or not passphrase:
        raise _refused('format_blank', 'the passphrase is empty')
    command = ['cryptsetup', '--batch-mode', 'luksFormat', '--type', version]
    if cipher is not None:
        if not isinstance(cipher, str) or not _CIPHER.fullmatch(cipher):
            raise _refused('format_blank', f'{cipher!r} is no cipher')
        command += ['--cipher', cipher]
    if key_size is not None:
        if type(key_size) is not int or not 0 < key_size <= 4096 or key_size % 8:
            raise _refused('format_blank', f'{key_size!r} is no size of a key')
        command += ['--key-size', str(key_size)]
    return command


def _behind(device: int, header: luks_header.Header) -> str | None:
    """Say what is behind a header that nobody can open."""
    size = size_of(device)
    end = max(0, size - blank.END)
    for begin in (header.payload_offset, end):
        data = os.pread(device, blank.END, begin) if 0 < begin < size else b''
        if data.strip(b'\0'):
            return f'it has a {header.kind} header without a key, and data behind it'
    if not 0 < header.payload_offset < size:
        return f'it has a {header.kind} header without a key'
    return None


@contextlib.contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    """Open a block device or regular file, without waiting for anything."""
    if not isinstance(path, str) or not os.path.isabs(path) or '\0' in path:
        raise _refused('open', f'{path!r} is no absolute path')
    try:
        # A FIFO, or a CD drive without a disc, would keep the caller waiting.
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except PermissionError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISBLK(mode) and not stat.S_ISREG(mode):
            raise _refused('open', f'{path} is neither a block device nor a file')
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _readable(path: str) -> Iterator[None]:
    try:
        yield
    except luks_header.DamagedHeader as error:
        raise exception.EncryptionFailed(volume_id=None, reason=f'{path}: {error}') from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: OSError) -> exception.EncryptionFailed:
    return exception.EncryptionFailed(
        volume_id=None, reason=f'{path} could not be read: {error.strerror}'
    )


@contextlib.contextmanager
def _in_memory(secret: bytes) -> Iterator[int]:
    """Hold a secret in a file that is in no file system; gone afterwards."""
    descriptor = os.memfd_create('key', os.MFD_CLOEXEC)
    try:
        os.write(descriptor, secret)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.pwrite(descriptor, bytes(len(secret)), 0)
        os.close(descriptor)


def _lock(device: int, path: str) -> None:
    end = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(device, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN):
                raise
            if time.monotonic() >= end:
                raise exception.Busy(
                    what=path, reason=f'somebody has locked it for {_LOCK_SECONDS:g} s'
                ) from error
            time.sleep(_POLL)
        else:
            return


def _check_name(function: str, name: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _refused(function, f'{name!r} is no volume id')


def _check_folder(function: str) -> None:
    found = os.lstat(LINKS)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0:
        raise _refused(function, f'{LINKS} is no directory of root')


def _not_formatted(path: str, version: str, reason: str) -> exception.FormatRefused:
    return exception.FormatRefused(volume_id=None, path=path, provider=version, reason=reason)


def _refused(function: str, reason: str) -> exception.PrivilegedCallRefused:
    return exception.PrivilegedCallRefused(function=function, reason=reason)
