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

"""What LightOS's discovery client was told of a volume, as root."""

import os
import re

from volumedrivers import exception
from volumedrivers.privsep import context
from volumedrivers.privsep import trusted


@context.privileged
def remove_unless_named(uuid: str, subsystem_nqn: str) -> None:
    """Remove the file of a volume that does not name its subsystem; gone is fine.

    os-brick makes the file without fsync, so it may be empty after the power
    failed, and it leaves alone the one that it finds.

    :param uuid: of the volume, as Cinder writes it; the file is called after it
    :raises PrivilegedCallRefused: that is no UUID
    :raises ConnectFailed: the file cannot be read or removed
    """
    if not isinstance(uuid, str) or not re.fullmatch(r'[0-9A-Za-z:{}-]{32,64}', uuid):
        raise exception.PrivilegedCallRefused(
            function='remove_unless_named', reason=f'{uuid!r} is no UUID'
        )
    path = os.path.join(trusted.discovery_folder(), f'{uuid}.conf')
    try:
        with open(path, 'rb') as told:
            words = told.read().split()
        if str(subsystem_nqn).encode() not in words:
            os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise exception.ConnectFailed(
            volume_id=None, driver_volume_type='lightos', reason=f'{path}: {error.strerror}'
        ) from error
