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

"""iSER: iSCSI over RDMA, which here is in software (RoCE v2) on the storage networks."""

import pathlib
import typing

from tests.lab.storage import iscsi
from tests.lab.storage import networks
from tests.lab.storage import packet_filter
from tests.lab.storage.configfs import modprobe
from tests.lab.storage.configfs import read
from tests.lab.storage.configfs import write

# What all RDMA traffic of RoCE v2 is sent to, whoever it is for.
ROCE_PORT = 4791  # UDP


class IserVolume(iscsi.IscsiVolume):
    """A volume whose portals speak RDMA."""

    PROTOCOL = 'iser'
    PORT = 3261

    def listen(self, place: pathlib.Path) -> None:
        """Make a portal of the group that takes RDMA."""
        super().listen(place)
        if read(place / 'iser') != '1':
            write(place / 'iser', 1)


class IserBackend(iscsi.IscsiBackend):
    """LIO with RDMA portals."""

    name = 'iser'
    faults = ('portal drops', 'portal down', 'daemon killed')
    VOLUME: typing.ClassVar[type[iscsi.IscsiVolume]] = IserVolume

    def network_up(self) -> None:
        """Bring up the RDMA devices and both ends' modules."""
        networks.rdma_up()
        modprobe('ib_isert', 'ib_iser')

    def is_up(self) -> bool:
        """Look for the RDMA devices too."""
        return networks.rdma_is_up() and super().is_up()

    def drop(self, addresses: list[str]) -> None:
        """Let RDMA packets vanish, those of NVMe too."""
        packet_filter.drop(self.name, addresses, [ROCE_PORT], protocol='udp')
