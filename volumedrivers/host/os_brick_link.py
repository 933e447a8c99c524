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

"""The links that os-brick makes to the devices of encrypted volumes.

``/dev/disk/by-id/os-brick+dev+sdb`` leads to /dev/sdb until os-brick's
encryptor lets it lead to the decrypted view, so its name tells the device.
"""

import os

from volumedrivers.host.sysfs import listdir

PREFIX = 'os-brick'
_FOLDER = 'disk/by-id'


def is_link(path: str) -> bool:
    """Tell whether a path is that of such a link, wherever it leads."""
    return os.path.basename(path).startswith(f'{PREFIX}+')


def link_of(path: str, dev: str) -> str:
    """Return the link that os-brick makes to a device.

    :param path: what its connector found
    :param dev: directory of the device nodes
    """
    return os.path.join(dev, _FOLDER, PREFIX + path.replace('/', '+'))


def links_to(names: frozenset[str], dev: str) -> tuple[str, ...]:
    """Return the links that lead to devices, or were made for them.

    :param names: kernel's names, such as sdb
    :raises OSError: the directory cannot be read
    """
    folder = os.path.join(dev, _FOLDER)
    return tuple(
        os.path.join(folder, entry)
        for entry in listdir(folder)
        if is_link(entry)
        and (_named(entry, dev) in names or os.path.basename(_target(folder, entry)) in names)
    )


def _named(entry: str, dev: str) -> str:
    """The device in the name of a link; '' where the name is not the kernel's."""
    directory, name = os.path.split(entry.removeprefix(PREFIX).replace('+', '/'))
    return name if directory == dev else ''


def _target(folder: str, entry: str) -> str:
    return os.path.realpath(os.path.join(folder, entry))
