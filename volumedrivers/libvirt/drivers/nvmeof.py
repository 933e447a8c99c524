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

"""NVMe over Fabrics: TCP, RDMA and Fibre Channel."""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import os
import typing

from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.connection_info import NvmeData
from volumedrivers.connection_info import NvmePortal
from volumedrivers.connection_info import NvmeTarget
from volumedrivers.host import brick
from volumedrivers.host import nvme_controller
from volumedrivers.host import requirements
from volumedrivers.libvirt import machines
from volumedrivers.libvirt.asked_paths import GRACE
from volumedrivers.libvirt.block_device import BlockDeviceDriver
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import FailedPath
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import Remainder
from volumedrivers.libvirt.driver import Capability
from volumedrivers.libvirt.volume_devices import known_identity
from volumedrivers.libvirt.volume_devices import readable
from volumedrivers.privsep import nvme

# How a portal of each transport is asked whether it answers.
_ASKED_AS = {'tcp': 'nvme', 'rdma': 'rdma'}


class NvmeofVolumeDriver(BlockDeviceDriver):
    """Volumes of driver_volume_type nvmeof, also called nvme."""

    PROTOCOL = 'NVME'
    CAPABILITIES = BlockDeviceDriver.CAPABILITIES | {Capability.MULTIPATH}
    NOT_ON_MACHINES = machines.S390 | machines.PPC64
    REQUIREMENTS = (
        requirements.Tool('nvme', 'nvme-cli'),
        requirements.KernelModule('nvme_fabrics'),
    )

    def connector_options(self) -> dict[str, object]:
        """os-brick 7 does not read the number of attempts it is given here."""
        return {
            'use_multipath': self.conf.volume_use_multipath,
            'device_scan_attempts': self.conf.num_nvme_discover_tries,
            'enforce_multipath': self.conf.volume_enforce_multipath,
        }

    def requirements(self) -> tuple[requirements.Requirement, ...]:
        """Multipath is the kernel's own here; no tool is needed."""
        return self.REQUIREMENTS

    def promised_identity(self, connection_info: ConnectionInfo) -> Identity | None:
        """Of a volume that is one namespace: its UUID or NGUID."""
        data = connection_info.data
        if not isinstance(data, NvmeData) or len(data.targets) != 1 or data.alias is not None:
            # With an alias the volume may be the RAID device over the namespace.
            return None
        target = data.targets[0]
        if target.vol_uuid is not None:
            return Identity('uuid', target.vol_uuid)
        if target.nguid is not None:
            return Identity('nguid', target.nguid.replace('-', ''))
        return None

    def connect_volume(self, connection_info: ConnectionInfo, attachment: str) -> ConnectedVolume:
        """Name also the portals that could not be asked before and are not connected."""
        volume = super().connect_volume(connection_info, attachment)
        data = connection_info.data
        if not volume.degraded or volume.paths.failed or not isinstance(data, NvmeData):
            return volume
        failed = tuple(
            FailedPath(str(way.portal), 'os-brick has not connected it')
            for target in data.targets
            for way in target.portals
            if not self._controllers(target, (way,))
        )
        return dataclasses.replace(volume, paths=dataclasses.replace(volume.paths, failed=failed))

    def dead_portals(self, connection_info: ConnectionInfo) -> Mapping[str | None, str]:
        """Ask where all portals are TCP, or all RDMA; Fibre Channel cannot be asked."""
        ways = _ways_to_ask(connection_info)
        if not ways:
            return {}
        portals = dict.fromkeys((way.portal.host, way.portal.port) for way in ways)
        result = self.context.endpoints.check(
            _ASKED_AS[ways[0].transport],
            tuple(portals),
            timeout=self.conf.endpoint_timeout,
            grace=GRACE,
        )
        return dict(result.failed)

    def portals_to_ask(self, connection_info: ConnectionInfo) -> tuple[str, ...]:
        """Return those of dead_portals."""
        return tuple(dict.fromkeys(str(way.portal) for way in _ways_to_ask(connection_info)))

    def plan_ways(self, connection_info: ConnectionInfo) -> tuple[str, ...]:
        """Name the controllers that are connected, or are already."""
        data = connection_info.data
        if not isinstance(data, NvmeData):
            return ()
        lines = []
        for target in data.targets:
            for way in target.portals:
                there = self._controllers(target, (way,))
                host, port = way.portal.host, way.portal.port
                lines.append(
                    f'controller {" ".join(sorted(there))} of {way.portal} {target.nqn} is there'
                    if there
                    else f'nvme connect -t {way.transport} -a {host} -s {port} -n {target.nqn}'
                )
        return tuple(lines)

    def plan_clean_up(
        self, connection_info: ConnectionInfo, volume: ConnectedVolume | None
    ) -> tuple[str, ...]:
        """Name the controllers that go, and those that others need."""
        data = connection_info.data
        if not isinstance(data, NvmeData):
            return ()
        mine = frozenset(self._namespaces(connection_info, volume))
        lines = []
        for target in data.targets:
            for name, seen in sorted(self._controllers(target, target.portals).items()):
                others = sorted(seen - mine)
                lines.append(
                    f'controller stays: {name} has other namespaces ({", ".join(others)})'
                    if others
                    else f'delete controller {name} ({target.nqn})'
                )
        return tuple(lines)

    def leave_out(
        self,
        connection_info: ConnectionInfo,
        properties: dict[str, typing.Any],
        dead: Mapping[str | None, str],
    ) -> None:
        """Shorten the list of portals; there is one, or the one would answer."""
        data = connection_info.data
        if isinstance(data, NvmeData) and isinstance(properties.get('portals'), list):
            properties['portals'] = [
                properties['portals'][index]
                for index, way in enumerate(data.targets[0].portals)
                if str(way.portal) not in dead
            ]

    def find(self, connection_info: ConnectionInfo) -> str | None:
        """Look for the namespace: os-brick's own search never finds any.

        A removal that is told no path would leave the volume connected.
        """
        data = connection_info.data
        if not isinstance(data, NvmeData) or len(data.targets) != 1 or data.alias is not None:
            return None
        target = data.targets[0]
        return self.context.devices.namespace(
            target.nqn, uuid=target.vol_uuid, nguid=target.nguid, number=target.ns_id
        )

    def remains(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        *,
        volume: ConnectedVolume | None = None,
    ) -> tuple[Remainder, ...]:
        """Look also for the namespace, and controllers that lead to no other.

        A namespace whose controllers lead to other volumes as well stays until
        the storage takes it back.
        """
        found = super().remains(connection_info, attachment, volume=volume)
        data = connection_info.data
        if not isinstance(data, NvmeData):
            return found
        mine = frozenset(self._namespaces(connection_info, volume))
        through = {
            name: namespaces
            for target in data.targets
            for name, namespaces in self._controllers(target, target.portals).items()
        }
        ours = frozenset(name for name, seen in through.items() if seen <= mine)
        stays = {each for name, seen in through.items() if name not in ours for each in seen}
        return (
            *found,
            *(Remainder('controller', name, data.targets[0].nqn) for name in sorted(ours)),
            *(
                Remainder('namespace', os.path.join(self.context.devices.dev, name))
                for name in sorted(mine - stays)
            ),
        )

    def _controllers(
        self, target: NvmeTarget, ways: Sequence[NvmePortal]
    ) -> Mapping[str, frozenset[str]]:
        with readable('/sys/class/nvme'):
            return nvme_controller.controllers(
                target.nqn, _addresses(ways), sysfs=self.context.devices.sysfs
            )

    def _namespaces(
        self, connection_info: ConnectionInfo, volume: ConnectedVolume | None
    ) -> tuple[str, ...]:
        with readable('/sys/block'):
            recorded = known_identity(volume)
            if recorded is not None:
                paths = self.context.devices.leftovers(recorded)
            else:
                found = self.find(connection_info)
                paths = () if found is None else (found,)
        return tuple(os.path.basename(path) for path in paths)

    def clean_up(
        self, connection_info: ConnectionInfo, volume: ConnectedVolume | None, *, force: bool
    ) -> None:
        """Delete the controllers that os-brick leaves when the device is gone already.

        They would try to reconnect for ever.  Only those of this volume's
        portals, and only if no namespace of another volume is behind them.
        """
        data = connection_info.data
        sysfs = self.context.devices.sysfs
        if not isinstance(data, NvmeData) or not _idle_controllers(data, sysfs):
            return

        def delete() -> None:
            # Asked again: a volume may have come through one in the meantime.
            for name in _idle_controllers(data, sysfs):
                try:
                    nvme.delete_controller(name)
                except exception.VolumeDriversError as e:
                    raise exception.LeftoversFound(
                        volume_id=connection_info.volume_id, leftovers=f'NVMe controller {name}'
                    ) from e

        brick.under_connect_lock(delete)


def _ways_to_ask(connection_info: ConnectionInfo) -> tuple[NvmePortal, ...]:
    data = connection_info.data
    if not isinstance(data, NvmeData) or len(data.targets) != 1:
        # A replicated volume has its own rules how many it can do without.
        return ()
    ways = data.targets[0].portals
    transports = {way.transport for way in ways}
    return ways if len(transports) == 1 and transports <= set(_ASKED_AS) else ()


def _addresses(ways: Sequence[NvmePortal]) -> frozenset[tuple[str, str]]:
    return frozenset((way.portal.host, str(way.portal.port)) for way in ways)


def _idle_controllers(data: NvmeData, sysfs: str) -> tuple[str, ...]:
    return tuple(
        name
        for target in data.targets
        for name in nvme_controller.idle_controllers(
            target.nqn, _addresses(target.portals), sysfs=sysfs
        )
    )
