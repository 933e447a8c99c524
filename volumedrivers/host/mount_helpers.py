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

"""Mounts that are still being made, by processes that nobody waits for any more.

Whoever calls mount(8) may be killed, or give up.  The helper goes on, and its
mount appears on a directory that has been taken for free meanwhile.
"""

import contextlib
import os
import time

from volumedrivers import exception
from volumedrivers.host import mount_table

_POLL = 0.02  # seconds


def helpers(mount_point: str, proc: str = '/proc') -> tuple[int, ...]:
    """Return the processes that have a mount point for an argument.

    Those are mount(8), its helper, and the client of a mount in user space.

    :raises OSError: the processes cannot be listed
    """
    wanted = os.fsencode(mount_point)
    found = []
    for name in os.listdir(proc):
        if not name.isdecimal() or int(name) == os.getpid():
            continue
        with contextlib.suppress(OSError), open(f'{proc}/{name}/cmdline', 'rb') as file:
            if wanted in file.read().split(b'\0'):
                found.append(int(name))
    return tuple(sorted(found))


def wait_until_made(mount_point: str, seconds: float) -> None:
    """Wait until something is mounted there, or nobody is about to do it.

    :raises DeadlineExceeded: names who still tries
    :raises HostUnreadable: the kernel did not say
    """
    end = time.monotonic() + seconds
    while True:
        try:
            at_work = () if mount_table.find(mount_point) else helpers(mount_point)
        except OSError as error:
            raise exception.HostUnreadable(
                what=f'what is mounted at {mount_point}', reason=error.strerror or str(error)
            ) from error
        if not at_work:
            return
        if time.monotonic() > end:
            names = ', '.join(map(str, at_work))
            raise exception.DeadlineExceeded(
                what=f'a mount at {mount_point} that was begun before (process {names})',
                seconds=seconds,
            )
        time.sleep(_POLL)
