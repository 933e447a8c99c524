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

"""RBD devices of the kernel, as root."""

import errno

from volumedrivers import exception
from volumedrivers.privsep import context

SYSFS = '/sys/bus/rbd/remove_single_major'


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
