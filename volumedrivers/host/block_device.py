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

"""Block devices of this host: their stable names, identity, size and paths.

Read from sysfs and /dev/disk; no tool's output is parsed.  What sysfs means:
https://www.kernel.org/doc/Documentation/ABI/ (testing/sysfs-block,
testing/sysfs-block-dm, stable/sysfs-block) and systemd's
60-persistent-storage.rules for the names of links.
"""

import os
import re
import time
import typing

from volumedrivers import exception
from volumedrivers.host import block_inventory
from volumedrivers.host import device_identity
from volumedrivers.host.sysfs import listdir
from volumedrivers.host.sysfs import read
from volumedrivers.host.sysfs import read_bytes

# Best first: what names the volume itself, then what names a way to it.  A
# link os-brick+dev+sdb is not among them: it holds a kernel name.
LINKS = (
    ('disk/by-id', 'dm-uuid-mpath-'),
    ('disk/by-id', 'wwn-0x'),
    ('disk/by-id', 'scsi-3'),
    ('disk/by-id', 'nvme-uuid.'),
    ('disk/by-id', 'nvme-eui.'),
    ('disk/by-id', 'emc-vol-'),
    ('storpool-byid', ''),
    ('md', ''),
    ('disk/by-id', 'md-uuid-'),
    ('disk/by-id', 'scsi-'),
    ('disk/by-id', 'nvme-'),
    ('disk/by-id', 'dm-uuid-'),
    ('disk/by-id', 'virtio-'),
    ('disk/by-path', ''),
)

# Of these, how a link begins that names a unit by its NAA identity, which
# scsi_id and multipath write after a 3.
_NAMES_NAA = {
    'dm-uuid-mpath-': 'dm-uuid-mpath-3',
    'wwn-0x': 'wwn-0x',
    'scsi-3': 'scsi-3',
}

# A path of a multipath head; it has no node of its own in /dev.
_NVME_PATH = re.compile(r'nvme\d+c\d+n\d+')
_NVME_HEAD = re.compile(r'nvme\d+n\d+')
_POLL = 0.05  # seconds between two looks at /dev/disk


class DevicePaths(typing.NamedTuple):
    """The kernel's devices behind one block device."""

    names: tuple[str, ...]  # sda, sdb (a multipath map) or nvme0c0n1
    failed: tuple[tuple[str, str], ...]  # (name, state) of those not running


class BlockDevices:
    """What the drivers ask about devices; tests and adapters replace it.

    :param sysfs: where sysfs is mounted
    :param dev: directory of the device nodes
    :param udev: udev's run time directory
    """

    def __init__(self, sysfs: str = '/sys', dev: str = '/dev', udev: str = '/run/udev') -> None:
        self.sysfs = sysfs
        self.dev = dev
        self._block = os.path.join(sysfs, 'block')
        self._dev = dev
        self._udev = udev

    def stable_path(self, path: str, *, wait: float = 5.0) -> str | None:
        """Return the persistent name under /dev/disk (or /dev/storpool-byid, ...).

        ``path`` itself when it is neither a name the kernel gave nor one of a
        way to the device, at whose end another volume may be one day.  Waits
        ``wait`` seconds for udev, where udev runs.  None when there is none.
        """
        if os.path.dirname(path) == os.path.join(self._dev, 'disk/by-path'):
            kernel_path = self.kernel_path(path) or path
        elif self._is_kernel_name(path):
            kernel_path = path
        else:
            return path
        deadline = time.monotonic() + wait
        while True:
            link = self._best_link(os.path.basename(kernel_path))
            # A queue means that better links may follow.
            settled = link is not None and not self._udev_is_busy()
            if settled or not self._udev_runs() or time.monotonic() >= deadline:
                return link
            time.sleep(_POLL)

    def is_changing(self) -> bool:
        """Tell whether udev is at work on some device of this host."""
        return self._udev_runs() and self._udev_is_busy()

    def settle(self, wait: float) -> None:
        """Give udev up to ``wait`` seconds to finish what it is at.

        Meanwhile its rules have devices open, and nobody can remove them.
        """
        deadline = time.monotonic() + wait
        while self.is_changing() and time.monotonic() < deadline:
            time.sleep(_POLL)

    def kernel_path(self, path: str) -> str | None:
        """Return what the kernel calls the device now; None: it is not there."""
        try:
            return os.path.realpath(path, strict=True)
        except FileNotFoundError:
            return None

    def identity(self, path: str) -> tuple[str, str] | None:
        """Return (kind, value), kind one of wwn, nguid, uuid; None: it has none.

        wwn is written as scsi_id and multipath write it: a device and the
        multipath map over it have the same one.

        :raises VolumeNotConnected: there is no such device
        """
        return self.identity_of_name(self._name(path))

    def identity_of_name(self, name: str) -> tuple[str, str] | None:
        """Return the same by the kernel's name; None also where there is no device."""
        return device_identity.of_device(self._block, name) or self._identity_of_link(name)

    def size(self, path: str) -> int:
        """Return the size in bytes as the kernel has it.

        :raises VolumeNotConnected: there is no such device
        """
        name = self._name(path)
        sectors = read(self._block, name, 'size')
        if sectors is None:
            raise exception.VolumeNotConnected(volume_id=None)
        # Always sectors of 512 bytes, whatever the device's block size is.
        return int(sectors) * 512

    def paths(self, path: str) -> DevicePaths:
        """Return the devices under a multipath map or NVMe head; else the device.

        :raises VolumeNotConnected: there is no such device
        """
        names: list[str] = []
        failed: list[tuple[str, str]] = []
        for name in self._leaves(self._name(path)):
            for leaf, state, good in self._states(name):
                names.append(leaf)
                if state is not None and state != good:
                    failed.append((leaf, state))
        return DevicePaths(tuple(names), tuple(failed))

    def by_path(self, ending: str) -> tuple[str, ...]:
        """Return the kernel's names that udev's by-path links with this ending lead to.

        Several: one target may be seen through several adapters.
        """
        folder = os.path.join(self._dev, 'disk/by-path')
        return tuple(
            os.path.basename(os.path.realpath(os.path.join(folder, entry)))
            for entry in listdir(folder)
            if entry.endswith(ending)
        )

    def page_83(self, name: str) -> bytes | None:
        """Return VPD page 0x83 of a SCSI disk that runs, as it was when it was found."""
        if read(self._block, name, 'device', 'state') != 'running':
            return None
        return read_bytes(self._block, name, 'device', 'vpd_pg83')

    def map_uuid(self, name: str) -> str | None:
        """Return the uuid of a device-mapper device; None: it is none."""
        return read(self._block, name, 'dm', 'uuid')

    def holders(self, name: str) -> tuple[str, ...]:
        """Return the device-mapper devices over a device, by the kernel's names."""
        return tuple(
            above for above in listdir(self._block, name, 'holders') if above.startswith('dm-')
        )

    def namespace(
        self, nqn: str, *, uuid: str | None, nguid: str | None, number: int | None
    ) -> str | None:
        """Return the path of an NVMe namespace of a subsystem; None: it is not there.

        The first of the three that is given is what it is known by.
        """
        if uuid is not None:
            attribute, wanted = 'uuid', uuid
        elif nguid is not None:
            attribute, wanted = 'nguid', nguid
        elif number is not None:
            attribute, wanted = 'nsid', str(number)
        else:
            return None
        for name in listdir(self._block):
            # Both a subsystem and a controller tell the name of the subsystem.
            if (
                _NVME_HEAD.fullmatch(name)
                and read(self._block, name, 'device', 'subsysnqn') == nqn
                and (read(self._block, name, attribute) or '').lower() == wanted
            ):
                return os.path.join(self._dev, name)
        return None

    def inventory(self) -> block_inventory.Inventory:
        """Return all block devices of this host, read in one go.

        :raises OSError: sysfs cannot be read
        """
        return block_inventory.take(os.path.dirname(self._block), self._dev)

    def leftovers(self, identity: tuple[str, str]) -> tuple[str, ...]:
        """Return the devices on this host that still have this identity."""
        return tuple(
            os.path.join(self._dev, name)
            for name in listdir(self._block)
            if not _NVME_PATH.fullmatch(name) and self.identity_of_name(name) == identity
        )

    def _is_kernel_name(self, path: str) -> bool:
        # Whoever makes links puts them in a directory below /dev.
        return os.path.dirname(os.path.normpath(path)) == self._dev

    def _name(self, path: str) -> str:
        name = os.path.basename(os.path.realpath(path))
        if not os.path.exists(os.path.join(self._block, name)):
            raise exception.VolumeNotConnected(volume_id=None)
        return name

    def _links(self, directory: str, prefix: str, name: str) -> list[str]:
        folder = os.path.join(self._dev, directory)
        node = os.path.realpath(os.path.join(self._dev, name))
        return [
            path
            for path in (
                os.path.join(folder, entry)
                for entry in listdir(folder)
                if entry.startswith(prefix) and not entry.startswith('os-brick+')
            )
            if os.path.islink(path) and os.path.realpath(path) == node
        ]

    def _best_link(self, name: str) -> str | None:
        for directory, prefix in LINKS:
            links = self._links(directory, prefix, name)
            if links:
                # One that lies makes all others doubtful: udev has not looked
                # at the device since it became another volume.
                return None if self._lies(name, prefix, links[0]) else links[0]
        return None

    def _lies(self, name: str, prefix: str, link: str) -> bool:
        """Tell whether a link names another SCSI unit than the one it leads to."""
        begins = _NAMES_NAA.get(prefix)
        identity = self.identity_of_name(name)
        if begins is None or identity is None or not identity[1].startswith('3'):
            return False
        named = os.path.basename(link).removeprefix(begins).partition('-part')[0]
        return identity[0] == 'wwn' and named != identity[1].removeprefix('3')

    def _identity_of_link(self, name: str) -> tuple[str, str] | None:
        # An md array's uuid is in its superblock; udev has read it.
        if name.startswith('md'):
            for link in self._links('disk/by-id', 'md-uuid-', name):
                return 'uuid', os.path.basename(link).removeprefix('md-uuid-')
        return None

    def _udev_runs(self) -> bool:
        return os.path.exists(os.path.join(self._udev, 'control'))

    def _udev_is_busy(self) -> bool:
        return os.path.exists(os.path.join(self._udev, 'queue'))

    def _leaves(self, name: str) -> list[str]:
        slaves = listdir(self._block, name, 'slaves')
        if not slaves:
            return [name]
        return [leaf for slave in slaves for leaf in self._leaves(slave)]

    def _states(self, name: str) -> list[tuple[str, str | None, str]]:
        """(name, state or None where the kernel tells none, the good state)."""
        if not name.startswith('nvme'):
            return [(name, read(self._block, name, 'device', 'state'), 'running')]
        device = os.path.join(self._block, name, 'device')
        controllers = [entry for entry in listdir(device) if re.fullmatch(r'nvme\d+', entry)]
        if not controllers:  # one controller, without native multipath
            return [(name, read(device, 'state'), 'live')]
        number = name.rsplit('n', 1)[1]
        return [
            (
                next(
                    (
                        entry
                        for entry in listdir(device, controller)
                        if re.fullmatch(rf'nvme\d+c\d+n{number}', entry)
                    ),
                    controller,
                ),
                read(device, controller, 'state'),
                'live',
            )
            for controller in controllers
        ]
