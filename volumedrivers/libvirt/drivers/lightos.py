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

"""Lightbits: NVMe/TCP through its discovery client."""

from collections.abc import Mapping

from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.connection_info import LightOSData
from volumedrivers.connection_info import NvmePortal
from volumedrivers.host import requirements
from volumedrivers.libvirt import machines
from volumedrivers.libvirt.block_device import BlockDeviceDriver
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.driver import Capability
from volumedrivers.privsep import discovery_file

# Seconds that nodes get to answer once one has: the discovery client connects them all the
# same, so nothing is lost but the reason why a path is missing.
_GRACE = 0.5


class LightOSVolumeDriver(BlockDeviceDriver):
    """Volumes of driver_volume_type lightos."""

    PROTOCOL = 'LIGHTOS'
    # The discovery client's files outlive a reboot, and it connects again what they name.
    CAPABILITIES = BlockDeviceDriver.CAPABILITIES | {
        Capability.MULTIPATH,
        Capability.STORAGE_MAPPING,
    }
    NOT_ON_MACHINES = machines.S390 | machines.PPC64
    REQUIREMENTS = (
        requirements.Directory(
            '/etc/discovery-client',
            'the discovery client is not installed; it comes with LightOS, '
            'and "systemctl start discovery-client" starts it',
        ),
        requirements.KernelModule('nvme_tcp'),
    )

    def connector_options(self) -> dict[str, object]:
        """Its multipath is the kernel's own, and always used."""
        return {'device_scan_attempts': self.conf.num_nvme_discover_tries}

    def dead_portals(self, connection_info: ConnectionInfo) -> Mapping[str | None, str]:
        """Ask the nodes; the discovery client copes with those that are down itself."""
        ways = _ways_to_ask(connection_info)
        if not ways:
            return {}
        portals = dict.fromkeys((way.portal.host, way.portal.port) for way in ways)
        result = self.context.endpoints.check(
            'nvme', tuple(portals), timeout=self.conf.endpoint_timeout, grace=_GRACE
        )
        return dict(result.failed)

    def portals_to_ask(self, connection_info: ConnectionInfo) -> tuple[str, ...]:
        """Return those of dead_portals."""
        return tuple(dict.fromkeys(str(way.portal) for way in _ways_to_ask(connection_info)))

    def connect_volume(self, connection_info: ConnectionInfo, attachment: str) -> ConnectedVolume:
        """Let os-brick tell the discovery client, also where a power cut emptied its file."""
        data = connection_info.data
        if isinstance(data, LightOSData):
            written = str(connection_info.to_connector()['uuid'])
            discovery_file.remove_unless_named(written, data.subsystem_nqn)
        return super().connect_volume(connection_info, attachment)

    def plan_ways(self, connection_info: ConnectionInfo) -> tuple[str, ...]:
        """The discovery client connects what it is told of."""
        data = connection_info.data
        if not isinstance(data, LightOSData):
            return ()
        return (f'tell the discovery client of {data.uuid} in {data.subsystem_nqn}',)

    def promised_identity(self, connection_info: ConnectionInfo) -> Identity | None:
        """The namespace's UUID."""
        data = connection_info.data
        return Identity('uuid', data.uuid) if isinstance(data, LightOSData) else None


def _ways_to_ask(connection_info: ConnectionInfo) -> tuple[NvmePortal, ...]:
    data = connection_info.data
    if not isinstance(data, LightOSData):
        return ()
    return data.portals if all(way.transport == 'tcp' for way in data.portals) else ()
