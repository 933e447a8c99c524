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

"""SCSI devices, as root."""

import ctypes
import errno
import fcntl
import os
import re

from volumedrivers import exception
from volumedrivers.privsep import context

SYSFS = '/sys/block'
DEV = '/dev'

_SG_IO = 0x2285
_FROM_DEVICE = -3
_PAGE_83_LENGTH = 1024
# What a device answers that knows no SCSI, or does not answer.
_NO_ANSWER = frozenset((errno.ENOTTY, errno.EINVAL, errno.ENXIO, errno.ENODEV, errno.ENOENT))


class _Request(ctypes.Structure):
    """struct sg_io_hdr of <scsi/sg.h>."""

    _fields_ = (
        ('interface_id', ctypes.c_int),
        ('dxfer_direction', ctypes.c_int),
        ('cmd_len', ctypes.c_ubyte),
        ('mx_sb_len', ctypes.c_ubyte),
        ('iovec_count', ctypes.c_ushort),
        ('dxfer_len', ctypes.c_uint),
        ('dxferp', ctypes.c_void_p),
        ('cmdp', ctypes.c_void_p),
        ('sbp', ctypes.c_void_p),
        ('timeout', ctypes.c_uint),
        ('flags', ctypes.c_uint),
        ('pack_id', ctypes.c_int),
        ('usr_ptr', ctypes.c_void_p),
        ('status', ctypes.c_ubyte),
        ('masked_status', ctypes.c_ubyte),
        ('msg_status', ctypes.c_ubyte),
        ('sb_len_wr', ctypes.c_ubyte),
        ('host_status', ctypes.c_ushort),
        ('driver_status', ctypes.c_ushort),
        ('resid', ctypes.c_int),
        ('duration', ctypes.c_uint),
        ('info', ctypes.c_uint),
    )


@context.privileged
def delete_device(name: str) -> None:
    """Make the kernel forget one SCSI disk, for example ``sdc``; gone is fine.

    Nothing is flushed; that is the caller's to have done.

    :raises PrivilegedCallRefused: that is no name of a SCSI disk
    :raises DisconnectFailed
    """
    _check(name, 'delete_device')
    try:
        with open(f'{SYSFS}/{name}/device/delete', 'w', encoding='ascii') as attribute:
            attribute.write('1')
    except FileNotFoundError:
        return
    except OSError as error:
        raise exception.DisconnectFailed(
            volume_id=None, driver_volume_type='scsi', reason=f'{name}: {error.strerror}'
        ) from error


@context.privileged
def read_page_83(name: str, *, timeout: float = 30.0) -> bytes | None:
    """Ask one SCSI disk what it is now; None: it does not answer.

    sysfs has what it was when the kernel found it.

    :param timeout: seconds, after which the kernel resets the path, with all
        that others have asked on it; so the caller has a deadline of its own
    :returns: VPD page 0x83
    :raises PrivilegedCallRefused: that is no name of a SCSI disk
    """
    _check(name, 'read_page_83')
    page = ctypes.create_string_buffer(_PAGE_83_LENGTH)
    # INQUIRY, with the bit that asks for a page of vital product data.
    command = ctypes.create_string_buffer(
        bytes((0x12, 0x01, 0x83, _PAGE_83_LENGTH >> 8, _PAGE_83_LENGTH & 0xFF, 0)), 6
    )
    sense = ctypes.create_string_buffer(32)
    request = _Request(
        interface_id=ord('S'),
        dxfer_direction=_FROM_DEVICE,
        cmd_len=len(command),
        mx_sb_len=len(sense),
        dxfer_len=len(page),
        dxferp=ctypes.addressof(page),
        cmdp=ctypes.addressof(command),
        sbp=ctypes.addressof(sense),
        timeout=int(timeout * 1000),
    )
    try:
        device = os.open(os.path.join(DEV, name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(device, _SG_IO, request)
        finally:
            os.close(device)
    except OSError as error:
        if error.errno in _NO_ANSWER:
            return None
        raise exception.HostUnreadable(
            what=f'VPD page of {name}', reason=error.strerror or str(error)
        ) from error
    failed = request.status or request.host_status or request.driver_status
    # The first bits say that there is nothing behind this LUN.
    if failed or page.raw[0] >> 5 or page.raw[1] != 0x83:
        return None
    return page.raw[: 4 + int.from_bytes(page.raw[2:4], 'big')]


def _check(name: object, function: str) -> None:
    if not isinstance(name, str) or not re.fullmatch(r'sd[a-z]{1,8}', name):
        raise exception.PrivilegedCallRefused(
            function=function, reason=f'{name!r} is no SCSI disk'
        )
