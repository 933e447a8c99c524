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

"""Links to devices, as root."""

import os
import re

from volumedrivers import exception
from volumedrivers.privsep import context

FOLDER = '/dev/disk/by-id'


@context.privileged
def remove_link(name: str) -> None:
    """Remove a link that os-brick made in /dev/disk/by-id; gone is fine.

    :param name: such as ``os-brick+dev+sdb``, without the directory
    :raises PrivilegedCallRefused: os-brick makes no such link, or it is none
    :raises LeftoversFound
    """
    if not isinstance(name, str) or not re.fullmatch(r'os-brick\+[^/\0]{1,240}', name):
        raise exception.PrivilegedCallRefused(
            function='remove_link', reason=f'{name!r} is no link of os-brick'
        )
    link = os.path.join(FOLDER, name)
    try:
        if not os.path.islink(link) and os.path.lexists(link):
            raise exception.PrivilegedCallRefused(
                function='remove_link', reason=f'{link} is no link'
            )
        os.unlink(link)
    except FileNotFoundError:
        return
    except OSError as error:
        raise exception.LeftoversFound(
            volume_id=None, leftovers=f'{link} ({error.strerror})'
        ) from error


@context.privileged
def make_folder() -> None:
    """Make /dev/disk/by-id, as udev does for the first link there.

    :raises PrivilegedCallRefused: the kernel refuses it
    """
    try:
        os.makedirs(FOLDER, mode=0o755, exist_ok=True)
    except OSError as error:
        raise exception.PrivilegedCallRefused(
            function='make_folder', reason=f'{FOLDER}: {error.strerror}'
        ) from error
