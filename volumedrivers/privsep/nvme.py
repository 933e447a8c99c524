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

"""NVMe over fabrics, as root."""

import re

from volumedrivers import exception
from volumedrivers.privsep import context

SYSFS = '/sys/class/nvme'


@context.privileged
def delete_controller(name: str) -> None:
    """Disconnect one NVMe controller, for example ``nvme3``; gone is fine.

    The kernel returns when its namespaces are removed.

    :raises PrivilegedCallRefused: that is no name of a controller
    :raises DisconnectFailed
    """
    if not isinstance(name, str) or not re.fullmatch(r'nvme\d{1,6}', name, re.ASCII):
        raise exception.PrivilegedCallRefused(
            function='delete_controller', reason=f'{name!r} is no NVMe controller'
        )
    try:
        with open(f'{SYSFS}/{name}/delete_controller', 'w', encoding='ascii') as attribute:
            attribute.write('1')
    except FileNotFoundError:
        return
    except OSError as error:
        raise exception.DisconnectFailed(
            volume_id=None, driver_volume_type='nvmeof', reason=f'{name}: {error.strerror}'
        ) from error
