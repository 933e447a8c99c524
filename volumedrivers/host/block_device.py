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

Read from sysfs and /dev/disk; no tool's output is parsed.
"""

import typing


class DevicePaths(typing.NamedTuple):
    """The kernel's devices behind one block device."""

    names: tuple[str, ...]           # sda, sdb (a multipath map) or nvme0c0n1
    failed: tuple[tuple[str, str], ...]  # (name, state) of those not running


class BlockDevices:
    """What the drivers ask about devices; tests and adapters replace it."""

    def stable_path(self, path: str, *, wait: float = 5.0) -> str | None:
        """Return the persistent name under /dev/disk (or /dev/storpool-byid, ...).

        ``path`` itself when it is one already.  Waits ``wait`` seconds for
        udev.  None when there is none.
        """
        raise NotImplementedError

    def identity(self, path: str) -> tuple[str, str] | None:
        """Return (kind, value), kind one of wwn, nguid, uuid; None: it has none."""
        raise NotImplementedError

    def size(self, path: str) -> int:
        """Return the size in bytes as the kernel has it.

        :raises VolumeNotConnected: there is no such device
        """
        raise NotImplementedError

    def paths(self, path: str) -> DevicePaths:
        """Return the devices under a multipath map or NVMe head; else the device."""
        raise NotImplementedError

    def leftovers(self, identity: tuple[str, str]) -> tuple[str, ...]:
        """Return the devices on this host that still have this identity."""
        raise NotImplementedError


