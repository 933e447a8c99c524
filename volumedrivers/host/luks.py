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

"""LUKS headers of devices and files: read, and written only where nothing is.

What cannot be read is an error, never a volume without a header: that one
could be formatted.
"""

from collections.abc import Callable
import os
import typing

from volumedrivers import exception
from volumedrivers.host import deadline
from volumedrivers.privsep import blank
from volumedrivers.privsep import crypt
from volumedrivers.privsep.luks_header import Header

__all__ = ['Header', 'contents', 'format_blank', 'read']

T = typing.TypeVar('T')


def read(
    path: str, *, seconds: float, image_format: str = 'raw', volume_id: str | None = None
) -> Header | None:
    """Return the header of a device or file; None: it has none.

    :param seconds: how long the storage may take to answer
    :param image_format: raw or qcow2
    :raises EncryptionFailed: it cannot be read, or the header is damaged
    :raises DeadlineExceeded
    """

    def as_we_are() -> Header | None:
        return crypt.header_of(path, image_format)

    def as_root() -> Header | None:
        fields = crypt.read_header(path, image_format)
        return None if fields is None else Header(*fields)

    return _call(as_we_are, as_root, f'the header of {path}', seconds, volume_id)


def contents(path: str, *, seconds: float, volume_id: str | None = None) -> str | None:
    """Say what is on a device or file; None: it is blank.

    :raises EncryptionFailed: it cannot be read
    :raises DeadlineExceeded
    """

    def as_we_are() -> str | None:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return blank.look(descriptor, crypt.size_of(descriptor))
        finally:
            os.close(descriptor)

    return _call(as_we_are, lambda: crypt.contents(path), path, seconds, volume_id)


def format_blank(
    path: str,
    version: str,
    passphrase: bytes,
    *,
    cipher: str | None,
    key_size: int | None,
    seconds: float,
    volume_id: str | None = None,
) -> None:
    """Give a blank device or file a LUKS header; one that has it is left alone.

    :param version: luks1 or luks2
    :param cipher: as dm-crypt writes it; None: cryptsetup's default
    :param key_size: bits; None: cryptsetup's default
    :raises FormatRefused: there is something on it
    :raises Busy, EncryptionFailed, ToolMissing, DeadlineExceeded
    """
    try:
        crypt.format_blank(path, version, passphrase, cipher, key_size, seconds=seconds)
    except (exception.FormatRefused, exception.EncryptionFailed) as error:
        failure = type(error)(error.details, volume_id=volume_id)
        failure.__cause__ = error.__cause__
    else:
        return
    raise failure


def _call(
    as_we_are: Callable[[], T],
    as_root: Callable[[], T],
    what: str,
    seconds: float,
    volume_id: str | None,
) -> T:
    def read_it() -> T:
        try:
            return as_we_are()
        except PermissionError:
            # A device belongs to root, an image often to QEMU's user.
            return as_root()

    try:
        return deadline.call(read_it, what=what, seconds=seconds)
    except exception.EncryptionFailed as error:
        cause, reason = error.__cause__ or error, error.reason
    except OSError as error:
        cause, reason = error, f'{what} could not be read: {error.strerror}'
    raise exception.EncryptionFailed(volume_id=volume_id, reason=reason) from cause
