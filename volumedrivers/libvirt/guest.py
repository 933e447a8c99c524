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

"""One domain: attach, detach and resize its disks, and wait for the guest."""

from volumedrivers.libvirt.disk import Disk


class Guest:
    """A libvirt domain.

    Live and persistent definition are both kept right: what is running is
    changed live, what is defined is changed for the next start.
    """

    @property
    def name(self) -> str:
        raise NotImplementedError

    @property
    def uuid(self) -> str:
        raise NotImplementedError

    def disks(self, *, persistent: bool = False) -> tuple[Disk, ...]:
        """The disks of the live definition (or the persistent one).

        :raises HypervisorUnavailable, HypervisorError: libvirt could not say;
            never an empty answer instead
        """
        raise NotImplementedError

    def free_target(self, bus: str, *, prefix: str | None = None) -> str:
        """Return the first target name of the bus that no disk has (vdb, sdaa)."""
        raise NotImplementedError

    def attach_disk(self, disk: Disk) -> None:
        """Attach, live and persistently as the domain's state asks.

        :raises AttachRefused, HypervisorUnavailable
        """
        raise NotImplementedError

    def detach_disk(self, *, alias: str | None = None, target: str | None = None,
                    attempts: int = 8, timeout: float = 20.0) -> None:
        """Detach and wait until the guest has let go.

        Looks for the alias (``ua-<volume id>``) first, then the target name.

        :param timeout: seconds to wait in each attempt
        :raises DiskNotFound: neither definition has it
        :raises DetachRefused: QEMU says the guest refused
        :raises DetachTimeout
        """
        raise NotImplementedError

    def resize_disk(self, target: str, size: int) -> None:
        """Tell the running guest that its disk has ``size`` bytes.

        :raises InvalidSize: 0, negative or not a whole number
        :raises ShrinkRefused, DiskNotFound, ResizeRefused
        """
        raise NotImplementedError
