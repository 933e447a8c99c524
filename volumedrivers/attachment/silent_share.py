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

"""Tell whether a guest cannot let go of a disk because of the share that it lies on."""

import typing

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment import host_side
from volumedrivers.host import share_health

if typing.TYPE_CHECKING:
    from volumedrivers.libvirt.disk import Disk

# Seconds that a share has to answer, after all that the guest had.
_LONGEST = 3.0


def explain(
    error: exception.DetachTimeout, disk: 'Disk', seconds: float
) -> exception.DetachTimeout:
    """Return an error that names the share, if it does not answer; else the same one.

    QEMU closes a file only when what it has written has got there.

    :param seconds: how long a step on a share may take
    """
    path = guest_disks.source_of(disk)
    if not path.startswith('/'):
        return error
    try:
        mount = host_side.mount_of(path)
    except OSError:
        return error  # it was only to be explained
    if mount is None:
        return error
    place = mount.mount_point
    answer = share_health.ask({place: ()}, min(seconds, _LONGEST))[place]
    if not answer.problem:
        return error
    return exception.DetachTimeout(
        guest=error.guest,
        disk=error.disk,
        attempts=error.attempts,
        seconds=error.seconds,
        reason=f'it lies on {mount.source} at {place}: {answer.problem}',
    )
