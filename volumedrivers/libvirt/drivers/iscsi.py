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

"""iSCSI, by the kernel's initiator or by QEMU's own."""

from collections.abc import Mapping
from collections.abc import Sequence
import typing

from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.connection_info import IscsiData
from volumedrivers.connection_info import IscsiTarget
from volumedrivers.host import endpoint
from volumedrivers.host import initiator
from volumedrivers.host import iscsi_discovery
from volumedrivers.host import requirements
from volumedrivers.libvirt import iscsi_ways
from volumedrivers.libvirt.asked_paths import GRACE
from volumedrivers.libvirt.asked_paths import Ways
from volumedrivers.libvirt.asked_paths import asked_paths
from volumedrivers.libvirt.client_choice import ClientChoiceDriver
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.driver import VolumeDriver
from volumedrivers.libvirt.iscsi_initiator import IscsiInitiatorDriver
from volumedrivers.libvirt.qemu_iscsi import QemuInitiator

LOG = logging.getLogger(__name__)


class KernelInitiator(IscsiInitiatorDriver):
    """iSCSI through iscsid; the volume is a block device of this host."""

    PROTOCOL = 'ISCSI'
    REQUIREMENTS = (
        requirements.Tool('iscsiadm', 'open-iscsi'),
        requirements.KernelModule('iscsi_tcp'),
    )

    def connector_options(self) -> dict[str, object]:
        """The interface is that of an offload card; default is plain TCP."""
        return {
            'use_multipath': self.conf.volume_use_multipath,
            'device_scan_attempts': self.conf.num_volume_scan_tries,
            'transport': self.conf.iscsi_iface or 'default',
            'enforce_multipath': self.conf.volume_enforce_multipath,
        }

    def why_not(self) -> str | None:
        """Name the way that needs nothing of this host, too."""
        missing = super().why_not()
        return None if missing is None else f'{missing}; or set iscsi_client = qemu'

    def portals_to_ask(self, connection_info: ConnectionInfo) -> tuple[str, ...]:
        """Return all, unless the offload card has a network of its own."""
        data = connection_info.data
        if self.conf.iscsi_iface not in (None, 'default') or not isinstance(data, IscsiData):
            return ()
        return tuple(dict.fromkeys(str(way.portal) for way in data.targets))

    def choose_ways(
        self, connection_info: ConnectionInfo, properties: dict[str, typing.Any]
    ) -> Ways:
        """Ask the portals whether they answer, also those that one of them tells of.

        As this host's initiator; an offload card has a network of its own.
        """
        data = connection_info.data
        use_multipath = self.conf.volume_use_multipath
        asked = asked_paths(data, use_multipath=use_multipath)
        if self.conf.iscsi_iface not in (None, 'default') or not isinstance(data, IscsiData):
            return Ways(asked)
        dead = self._dead(data.targets)
        if iscsi_ways.has_lists(properties):
            iscsi_ways.leave_out(properties, data, dead)
            return Ways(asked, dead)
        found = self._discovered(data) if use_multipath else ()
        if not found:
            return Ways(asked, dead)
        if len(found) > 1:
            dead = self._dead(found)
        # Without lists os-brick would ask for itself, and log in to other targets.
        iscsi_ways.write(properties, [way for way in found if str(way.portal) not in dead])
        return Ways(asked_paths(IscsiData(found), use_multipath=True), dead)

    def _initiator_name(self) -> str:
        try:
            return initiator.initiator_name(None)
        except exception.VolumeDriverNotSupported:
            # Only root may read it.
            return endpoint.PROBE_INITIATOR

    def _dead(self, targets: Sequence[IscsiTarget]) -> Mapping[str | None, str]:
        portals = dict.fromkeys((way.portal.host, way.portal.port) for way in targets)
        result = self.context.endpoints.check(
            'iscsi',
            tuple(portals),
            timeout=self.conf.endpoint_timeout,
            grace=GRACE,
            initiator_name=self._initiator_name(),
        )
        return dict(result.failed)

    def _discovered(self, data: IscsiData) -> tuple[IscsiTarget, ...]:
        """Return the ways that the one portal tells of; none where os-brick has to ask."""
        (target,) = data.targets
        try:
            found = iscsi_discovery.discover(
                target.portal,
                initiator_name=self._initiator_name(),
                seconds=self.conf.endpoint_timeout,
                auth=data.discovery_auth,
            )
        except exception.EndpointUnreachable as e:
            LOG.warning('%s; os-brick looks for other portals itself', e)
            return ()
        return iscsi_ways.chosen(target, found)


class IscsiVolumeDriver(ClientChoiceDriver):
    """Volumes of driver_volume_type iscsi; iscsi_client says whose initiator."""

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        self._kernel = KernelInitiator(context)
        self._qemu = QemuInitiator(context)

    def client(self, volume: ConnectedVolume | None = None) -> VolumeDriver:
        """Return the kernel's initiator or QEMU's."""
        if volume is None:
            return self._qemu if self.conf.iscsi_client == 'qemu' else self._kernel
        return self._qemu if volume.source_type == 'network' else self._kernel
