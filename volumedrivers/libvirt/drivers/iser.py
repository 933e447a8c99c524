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

"""iSCSI over RDMA, by the kernel's initiator."""

from collections.abc import Mapping
import typing

from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.connection_info import IscsiData
from volumedrivers.host import requirements
from volumedrivers.libvirt import iscsi_ways
from volumedrivers.libvirt import machines
from volumedrivers.libvirt.asked_paths import GRACE
from volumedrivers.libvirt.iscsi_initiator import IscsiInitiatorDriver


class IserVolumeDriver(IscsiInitiatorDriver):
    """Volumes of driver_volume_type iser."""

    PROTOCOL = 'ISER'
    NOT_ON_MACHINES = machines.S390
    REQUIREMENTS = (
        requirements.Tool('iscsiadm', 'open-iscsi'),
        requirements.KernelModule('ib_iser'),
    )

    def connector_options(self) -> dict[str, object]:
        """Multipath and attempts have options of their own."""
        return {
            'use_multipath': self.conf.iser_use_multipath,
            'device_scan_attempts': self.conf.num_iser_scan_tries,
            'transport': 'iser',
            'enforce_multipath': self.conf.volume_enforce_multipath,
        }

    def dead_portals(self, connection_info: ConnectionInfo) -> Mapping[str | None, str]:
        """Ask the portals that Cinder names, by RDMA."""
        data = connection_info.data
        if not isinstance(data, IscsiData):
            return {}
        portals = dict.fromkeys((way.portal.host, way.portal.port) for way in data.targets)
        result = self.context.endpoints.check(
            'rdma', tuple(portals), timeout=self.conf.endpoint_timeout, grace=GRACE
        )
        return dict(result.failed)

    def portals_to_ask(self, connection_info: ConnectionInfo) -> tuple[str, ...]:
        """Return those of dead_portals."""
        data = connection_info.data
        if not isinstance(data, IscsiData):
            return ()
        return tuple(dict.fromkeys(str(way.portal) for way in data.targets))

    def leave_out(
        self,
        connection_info: ConnectionInfo,
        properties: dict[str, typing.Any],
        dead: Mapping[str | None, str],
    ) -> None:
        """Shorten the lists; there is one portal in them, or the one would answer."""
        data = connection_info.data
        if isinstance(data, IscsiData) and iscsi_ways.has_lists(properties):
            iscsi_ways.leave_out(properties, data, dead)
