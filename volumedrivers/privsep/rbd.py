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

"""RBD devices of the kernel, and the files os-brick makes to map them, as root."""

import contextlib
import errno
import os
import re
import stat
import tempfile

from volumedrivers import exception
from volumedrivers.privsep import context

SYSFS = '/sys/bus/rbd/remove_single_major'
# What os-brick begins the name of a ceph.conf with a key with.
_CONF = 'brickrbd_'
_LONGEST_CONF = 1 << 16
_USER = re.compile(r'^\s*\[client\.(.+)\]\s*$', re.MULTILINE)


@context.privileged
def unmap(device_number: int, *, force: bool = False) -> None:
    """Unmap /dev/rbd<device_number>; gone is fine.

    The number is what tells two images of the same name apart.

    :param force: also while it is open; what is not written yet is lost
    :raises PrivilegedCallRefused: that is no number of a device
    :raises Busy: it is open
    :raises DisconnectFailed
    """
    if (
        not isinstance(device_number, int)
        or isinstance(device_number, bool)
        or not 0 <= device_number < 1 << 20
    ):
        raise exception.PrivilegedCallRefused(
            function='unmap', reason=f'{device_number!r} is no RBD device'
        )
    try:
        with open(SYSFS, 'w', encoding='ascii') as attribute:
            attribute.write(f'{device_number} force' if force else str(device_number))
    except FileNotFoundError:
        # Without the module, or without the device (ENOENT), nothing is mapped.
        return
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise exception.Busy(what=f'/dev/rbd{device_number}', reason='it is open') from error
        raise exception.DisconnectFailed(
            volume_id=None,
            driver_volume_type='rbd',
            reason=f'/dev/rbd{device_number}: {error.strerror}',
        ) from error


@context.privileged
def confs(mon_host: str, user: str | None) -> list[tuple[str, float]]:
    """Return the files with the key of a Ceph user that os-brick made, oldest first.

    :param mon_host: the monitors, as os-brick writes them
    :returns: path, and when it was written, seconds since the epoch
    :raises HostUnreadable: the temporary directory cannot be listed
    """
    paths = [path for path, _ in candidates()]
    found = [(path, _written(path, mon_host, user)) for path in paths]
    return sorted(
        ((path, when) for path, when in found if when is not None), key=lambda one: one[1]
    )


def candidates() -> tuple[tuple[str, float], ...]:
    """Return root's files that may be such, from their names alone; as any user.

    :returns: path, and when it was written, seconds since the epoch
    :raises HostUnreadable: the temporary directory cannot be listed
    """
    directory = tempfile.gettempdir()
    found = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if not entry.name.startswith(_CONF):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if _is_roots(status):
                        found.append((entry.path, status.st_mtime))
    except OSError as error:
        raise exception.HostUnreadable(
            what=directory, reason=error.strerror or str(error)
        ) from error
    return tuple(found)


@context.privileged
def remove_conf(path: str, mon_host: str, user: str | None) -> None:
    """Remove one of ``confs``; gone is fine.

    :raises PrivilegedCallRefused: it is none of them
    """
    if not os.path.lexists(path):
        return
    directory, name = os.path.split(path)
    if (
        directory != tempfile.gettempdir()
        or not name.startswith(_CONF)
        or _written(path, mon_host, user) is None
    ):
        raise exception.PrivilegedCallRefused(
            function='remove_conf', reason=f'{path} is no file with the key of this connection'
        )
    os.unlink(path)


def _written(path: str, mon_host: str, user: str | None) -> float | None:
    """Return when such a file was written; None: it is something else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None  # a link, or gone
    with open(descriptor, 'rb') as file:
        status = os.fstat(descriptor)
        if not _is_roots(status):
            return None
        text = file.read(_LONGEST_CONF).decode(errors='replace')
    if not text.startswith(f'[global]\nmon_host = {mon_host}\n'):
        return None
    users = _USER.findall(text)
    if user and users and user not in users:
        return None
    return status.st_mtime


def _is_roots(status: os.stat_result) -> bool:
    return (
        stat.S_ISREG(status.st_mode)
        and stat.S_IMODE(status.st_mode) == 0o600
        and status.st_uid == 0
        and status.st_nlink == 1
    )
