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

"""All block devices of this host, read in one go.

Only sysfs and links are read, so it cannot hang on dead storage.
"""

import dataclasses
import os
import re

from volumedrivers.host import device_identity
from volumedrivers.host import os_brick_link
from volumedrivers.host.sysfs import listdir
from volumedrivers.host.sysfs import read

# Memory, files and drives of this host alone; a path of an NVMe head.
_NEVER = re.compile(r'(loop|ram|zram|sr|fd|nbd)\d+|nvme\d+c\d+n\d+')
_ENCRYPTED = 'CRYPT-'
# Of this package; see privsep/crypt.py.
_LINKS = 'volumedrivers'


@dataclasses.dataclass(frozen=True)
class Device:
    """A block device.

    :ivar name: the kernel's, such as sdb or dm-3
    :ivar identity: (kind, value) as BlockDevices.identity has it
    :ivar below: the devices that it is made of
    :ivar mapped_name: what device-mapper calls it
    :ivar decrypts: whether it is the decrypted view of another device
    """

    name: str
    identity: tuple[str, str] | None
    below: tuple[str, ...] = ()
    mapped_name: str | None = None
    decrypts: bool = False


@dataclasses.dataclass(frozen=True)
class Link:
    """A link for an encrypted volume.

    :ivar device: the kernel's name of what it leads to; None: it leads nowhere
    :ivar is_ours: False: any program that uses os-brick may have made it
    """

    path: str
    device: str | None
    is_ours: bool


@dataclasses.dataclass(frozen=True)
class Inventory:
    """What sysfs and /dev say.

    :ivar dev: directory of the device nodes
    :ivar devices: by the kernel's name
    :ivar targets: names of the targets of all iSCSI sessions and NVMe
        controllers
    """

    dev: str
    devices: dict[str, Device]
    links: tuple[Link, ...]
    targets: frozenset[str]

    def kernel_name(self, path: str) -> str | None:
        """Return what the kernel calls a device; None: the path is not one of a device.

        Nothing outside the directory of device nodes is looked at.
        """
        if not path.startswith(self.dev + os.sep):
            return None
        return os.path.basename(os.path.realpath(path))

    def with_identity(self) -> dict[tuple[str, str], tuple[Device, ...]]:
        """Return the devices by identity, without decrypted views."""
        found: dict[tuple[str, str], tuple[Device, ...]] = {}
        for device in self.devices.values():
            if device.identity is not None and not device.decrypts:
                found[device.identity] = (*found.get(device.identity, ()), device)
        return found


def take(sysfs: str = '/sys', dev: str = '/dev') -> Inventory:
    """Look at everything once.

    :raises OSError: sysfs cannot be read
    """
    block = os.path.join(sysfs, 'block')
    return Inventory(
        dev=dev,
        devices={
            name: _device(block, name) for name in os.listdir(block) if not _NEVER.fullmatch(name)
        },
        links=tuple(_links(dev)),
        targets=frozenset(_targets(os.path.join(sysfs, 'class'))),
    )


def _device(block: str, name: str) -> Device:
    uuid = read(block, name, 'dm', 'uuid') if name.startswith('dm-') else None
    return Device(
        name=name,
        identity=device_identity.of_device(block, name),
        below=tuple(listdir(block, name, 'slaves')),
        mapped_name=read(block, name, 'dm', 'name') if uuid is not None else None,
        decrypts=uuid is not None and uuid.startswith(_ENCRYPTED),
    )


def _links(dev: str) -> list[Link]:
    found = []
    for folder, is_ours in (('disk/by-id', False), (_LINKS, True)):
        directory = os.path.join(dev, folder)
        for entry in listdir(directory):
            path = os.path.join(directory, entry)
            if is_ours or os_brick_link.is_link(path):
                there = os.path.exists(path)
                name = os.path.basename(os.path.realpath(path)) if there else None
                found.append(Link(path, name, is_ours))
    return found


def _targets(classes: str) -> list[str]:
    found = []
    for kind, attribute in (('iscsi_session', 'targetname'), ('nvme', 'subsysnqn')):
        for name in listdir(classes, kind):
            target = read(classes, kind, name, attribute)
            if target is not None:
                found.append(target)
    return found
