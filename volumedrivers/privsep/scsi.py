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

import re

from volumedrivers import exception
from volumedrivers.privsep import context

SYSFS = '/sys/block'


@context.privileged
def delete_device(name: str) -> None:
    """Make the kernel forget one SCSI disk, for example ``sdc``; gone is fine.

    Nothing is flushed; that is the caller's to have done.

    :raises PrivilegedCallRefused: that is no name of a SCSI disk
    :raises DisconnectFailed
    """
    if not isinstance(name, str) or not re.fullmatch(r'sd[a-z]{1,8}', name):
        raise exception.PrivilegedCallRefused(
            function='delete_device', reason=f'{name!r} is no SCSI disk'
        )
    try:
        with open(f'{SYSFS}/{name}/device/delete', 'w', encoding='ascii') as attribute:
            attribute.write('1')
    except FileNotFoundError:
        return
    except OSError as error:
        raise exception.DisconnectFailed(
            volume_id=None, driver_volume_type='scsi', reason=f'{name}: {error.strerror}'
        ) from error
