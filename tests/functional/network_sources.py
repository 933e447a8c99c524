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

"""What the tests of volumes that QEMU opens itself have in common."""

import pathlib

from oslo_config import cfg

from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.context import make_context
from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.driver import DiskInfo
from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.driver import VolumeDriver
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.libvirt.registry import Registry

ATTACHMENT = 'attachment-1'


def context(hypervisor: Hypervisor, state: pathlib.Path, **options: object) -> DriverContext:
    """Return real services with these options."""
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([])
    conf.set_override('state_path', str(state), opts.GROUP.name)
    for name, value in options.items():
        conf.set_override(name, value, opts.GROUP.name)
    return make_context(conf, hypervisor.secrets)


class Attached:
    """A volume brought to a guest, step by step, as a caller of the package does it."""

    def __init__(
        self, driver_context: DriverContext, raw: dict[str, object], guest: Guest
    ) -> None:
        self.info = ConnectionInfo.parse(raw)
        self.driver: VolumeDriver = Registry(driver_context).get(self.info.driver_volume_type)
        self.guest = guest
        self.alias = f'ua-{self.info.volume_id}'
        self.volume: ConnectedVolume | None = None
        self.target: str | None = None

    def attach(self, bus: str) -> Disk:
        self.volume = self.driver.connect_volume(self.info, ATTACHMENT)
        self.target = self.guest.free_target(bus)
        disk = self.driver.get_disk(self.info, self.volume, DiskInfo(bus, self.target))
        self.guest.attach_disk(disk)
        return disk

    def extend(self, size: int) -> None:
        assert self.target is not None
        seen = self.driver.extend_volume(self.info, ATTACHMENT, size, volume=self.volume)
        assert seen == size
        self.guest.resize_disk(self.target, seen)

    def detach(self) -> None:
        self.guest.detach_disk(alias=self.alias, target=self.target, attempts=3, timeout=5)
        self.disconnect()

    def disconnect(self) -> None:
        self.driver.disconnect_volume(self.info, ATTACHMENT, volume=self.volume)

    def size_in_qemu(self) -> int:
        """What QEMU says that the guest sees."""
        with self.guest.hypervisor.translated('ask the size of a disk'):
            domain = self.guest.hypervisor.domain(self.guest.uuid)
            return int(domain.blockInfo(self.target)[0])
