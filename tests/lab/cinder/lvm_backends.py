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

"""Cinder's LVM driver: logical volumes, served by LIO over iSCSI or by nvmet over TCP."""

import pathlib
import typing

from tests.lab.cinder.backend import LabBackend
from tests.lab.cinder.volume_group import NAME as GROUP
from tests.lab.cinder.volume_group import VolumeGroup
from tests.lab.storage import connections
from tests.lab.storage import lio
from tests.lab.storage import nvmet_config
from tests.lab.storage.backend import NETWORKS
from tests.lab.storage.configfs import modprobe
from tests.lab.storage.configfs import read
from tests.lab.storage.configfs import remove
from tests.lab.storage.image_volume import settled
from tests.lab.storage.iscsi import FABRIC

IQN_PREFIX = 'iqn.2026-01.org.volumedrivers.lab.cinder:'
NVME_PREFIX = '2026-01.org.volumedrivers.lab.cinder'
NVME_PORT = 4420
# Of nvmet's ports; those of the lab's own volumes have higher ones.
NVME_PORT_ID = 20
# rtslib keeps what it has set up here, passwords too.
SAVED_TARGETS = pathlib.Path('/etc/target/saveconfig.json')


class LvmBackend(LabBackend):
    """Logical volumes."""

    helper: typing.ClassVar[str]

    def __init__(self, group: VolumeGroup) -> None:
        self.group = group

    def prepare(self, directory: pathlib.Path) -> dict[str, str]:
        """Return the driver's options; the group is there."""
        return {
            'volume_driver': 'cinder.volume.drivers.lvm.LVMVolumeDriver',
            'volume_group': GROUP,
            'lvm_type': 'thin',
            'lvm_conf_file': str(self.group.configuration),
            'target_helper': self.helper,
            'target_ip_address': NETWORKS[0],
        }

    def image(self, volume_id: str) -> pathlib.Path:
        """Return the device."""
        return self.group.path(f'volume-{volume_id}')

    def read(self, volume_id: str, offset: int, length: int) -> bytes:
        return self.group.read(f'volume-{volume_id}', offset, length)

    def size(self, volume_id: str) -> int:
        return self.group.size(f'volume-{volume_id}')

    def contents(self) -> list[str]:
        return self.group.volumes()


class LioBackend(LvmBackend):
    """iSCSI by LIO, a target for each volume, with CHAP."""

    name = 'cinder-lvm-iscsi'
    helper = 'lioadm'

    def prepare(self, directory: pathlib.Path) -> dict[str, str]:
        """Load LIO, and forget targets of before."""
        lio.up('iscsi_target_mod')
        FABRIC.mkdir(exist_ok=True)
        self.remove()
        return {
            **super().prepare(directory),
            'target_protocol': 'iscsi',
            'target_prefix': IQN_PREFIX,
        }

    def identity(self, volume_id: str) -> str:
        """Return the name that LIO makes of the unit's serial number."""
        (store,) = self._stores(volume_id)
        serial = (read(store / 'wwn/vpd_unit_serial') or '').partition(': ')[2]
        return f'wwn:3{lio.naa(serial)}'

    def served(self, volume_id: str) -> list[str]:
        group = self._group(volume_id)
        if not group.path.is_dir():
            return [f'unit {store.name}' for store in self._stores(volume_id)]
        return [f'target for {name}' for name in group.initiators() or ['nobody']]

    def remove(self) -> None:
        """Remove what Cinder has served."""
        for target in FABRIC.glob(f'{IQN_PREFIX}*'):
            lio.PortalGroup(target / 'tpgt_1').down()
        for store in lio.ROOT.glob(f'core/iblock_*/{IQN_PREFIX}*'):
            remove(store)
        SAVED_TARGETS.unlink(missing_ok=True)

    def _group(self, volume_id: str) -> lio.PortalGroup:
        return lio.PortalGroup(FABRIC / f'{IQN_PREFIX}volume-{volume_id}' / 'tpgt_1')

    def _stores(self, volume_id: str) -> list[pathlib.Path]:
        return list(lio.ROOT.glob(f'core/iblock_*/{IQN_PREFIX}volume-{volume_id}'))


class NvmetBackend(LvmBackend):
    """NVMe/TCP by nvmet, a subsystem for each volume."""

    name = 'cinder-lvm-nvme'
    helper = 'nvmet'

    def prepare(self, directory: pathlib.Path) -> dict[str, str]:
        """Load nvmet, and forget subsystems of before."""
        modprobe('nvmet', 'nvmet-tcp', 'nvme-core', 'nvme-tcp')
        self.remove()
        return {
            **super().prepare(directory),
            'target_protocol': 'nvmet_tcp',
            'target_prefix': NVME_PREFIX,
            'target_port': str(NVME_PORT),
            'nvmet_port_id': str(NVME_PORT_ID),
            'nvmeof_conn_info_version': '2',
        }

    def identity(self, volume_id: str) -> str:
        """Return the UUID that the target has."""
        (place,) = (self._subsystem(volume_id).path / 'namespaces').iterdir()
        return f'uuid:{read(place / "device_uuid")}'

    def served(self, volume_id: str) -> list[str]:
        subsystem = self._subsystem(volume_id)
        found = [f'namespace {number}' for number in subsystem.namespaces()]
        if subsystem.path.is_dir() and not found:
            found = ['a subsystem without a namespace']
        # While it is served there may be connections.
        return found or settled(lambda: connections.tcp(NVME_PORT))

    def remove(self) -> None:
        """Remove what Cinder has served; it never removes a port."""
        nvmet_config.Port(NVME_PORT_ID).down()
        for path in nvmet_config.ROOT.glob(f'subsystems/nqn.{NVME_PREFIX}-*'):
            nvmet_config.Subsystem(path.name).down()

    def _subsystem(self, volume_id: str) -> nvmet_config.Subsystem:
        return nvmet_config.Subsystem(f'nqn.{NVME_PREFIX}-{volume_id}')
