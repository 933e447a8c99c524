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

"""The family of volumes that os-brick makes a block device of this host.

What differs between its drivers is which connector they ask and with which
options; the rest, and what os-brick leaves undone, is here.
"""

from collections.abc import Mapping
import os
import platform
import time
import typing

from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import os_brick_link
from volumedrivers.host import requirements
from volumedrivers.host.brick import Brick
from volumedrivers.libvirt import block_leftovers
from volumedrivers.libvirt import disk_answers
from volumedrivers.libvirt import multipath_map
from volumedrivers.libvirt import plan
from volumedrivers.libvirt.asked_paths import Ways
from volumedrivers.libvirt.asked_paths import asked_paths
from volumedrivers.libvirt.asked_paths import report_all
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import Remainder
from volumedrivers.libvirt.device_path import path_of_today
from volumedrivers.libvirt.device_path import used_multipath
from volumedrivers.libvirt.driver import Capability
from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.driver import VolumeDriver
from volumedrivers.libvirt.target_locks import target_locks
from volumedrivers.libvirt.volume_devices import check_identity
from volumedrivers.libvirt.volume_devices import devices_of
from volumedrivers.libvirt.volume_devices import empty_sessions
from volumedrivers.libvirt.volume_devices import identity_of
from volumedrivers.libvirt.volume_devices import links_of
from volumedrivers.libvirt.volume_devices import on_the_ways
from volumedrivers.libvirt.volume_devices import remainders
from volumedrivers.privsep import device_link
from volumedrivers.sizes import check_size

LOG = logging.getLogger(__name__)

# Seconds that udev may keep a removal waiting: it has the device open when a
# guest has just closed it, and os-brick tries again only after 20 seconds.
UDEV_TIME = 5.0


class BlockDeviceDriver(VolumeDriver):
    """A protocol of os-brick.

    A driver names its connector (PROTOCOL) and gives the options it is made
    with; all other methods that do not begin with an underscore may be
    overridden.
    """

    API_VERSION = (1, 1)
    CAPABILITIES = frozenset(
        (
            Capability.EXTEND,
            Capability.FORCE_DISCONNECT,
            Capability.MULTIATTACH,
            Capability.HOST_DEVICE,
        )
    )

    #: os-brick's name of the connector
    PROTOCOL: typing.ClassVar[str]
    #: what must be on this host
    REQUIREMENTS: typing.ClassVar[tuple[requirements.Requirement, ...]] = ()
    #: machines (uname -m) that os-brick has no such connector for
    NOT_ON_MACHINES: typing.ClassVar[frozenset[str]] = frozenset()
    #: whether os-brick removes the kernel's device; elsewhere the storage does
    REMOVES_DEVICE: typing.ClassVar[bool] = False
    #: whether a removal is told the multipath_id that the connection returned
    TELLS_MULTIPATH_ID: typing.ClassVar[bool] = False

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        machine = platform.machine()
        if machine in self.NOT_ON_MACHINES:
            raise exception.VolumeDriverNotSupported(
                driver_volume_type=self.PROTOCOL.lower(),
                reason=f'os-brick has no {self.PROTOCOL} connector for {machine}',
            )

    def requirements(self) -> tuple[requirements.Requirement, ...]:
        """Return what must be on this host, with these options."""
        if self.connector_options().get('use_multipath'):
            return (*self.REQUIREMENTS, requirements.MULTIPATH)
        return self.REQUIREMENTS

    def connector_options(self) -> dict[str, object]:
        """Return what the connector is made with, by the names of its factory."""
        return {}

    def removal_info(self, properties: Mapping[str, object]) -> Mapping[str, object] | None:
        """Return the second argument of os-brick's disconnect_volume.

        os-brick reads the path from it, or else from the properties; those
        always have the path of today, so there is nothing to add.
        """
        return None

    def promised_identity(self, connection_info: ConnectionInfo) -> Identity | None:
        """Return what Cinder says the volume is; None: it does not say."""
        return None

    def dead_portals(self, connection_info: ConnectionInfo) -> Mapping[str | None, str]:
        """Ask the portals whether they answer; return those that do not, and why.

        While os-brick waits for a portal that is down, minutes, it holds the
        lock that all volumes of this host share.

        :returns: reasons by ``host:port``
        :raises EndpointUnreachable: none answers
        """
        return {}

    def portals_to_ask(self, connection_info: ConnectionInfo) -> tuple[str, ...]:
        """Return the portals, as ``host:port``, that are asked before os-brick is."""
        return ()

    def plan_ways(self, connection_info: ConnectionInfo) -> tuple[str, ...]:
        """Say how the connector gets at the volume, for a dry run."""
        return ()

    def plan_clean_up(
        self, connection_info: ConnectionInfo, volume: ConnectedVolume | None
    ) -> tuple[str, ...]:
        """Say what else a removal takes away, for a dry run."""
        return ()

    def leave_out(
        self,
        connection_info: ConnectionInfo,
        properties: dict[str, typing.Any],
        dead: Mapping[str | None, str],
    ) -> None:
        """Take dead portals out of what os-brick is told to connect."""

    def choose_ways(
        self, connection_info: ConnectionInfo, properties: dict[str, typing.Any]
    ) -> Ways:
        """Return the ways to ask for, after those that are dead were left out.

        :param properties: what os-brick is told; may be changed
        :raises EndpointUnreachable: none answers
        """
        dead = self.dead_portals(connection_info)
        if dead:
            self.leave_out(connection_info, properties, dead)
        use_multipath = bool(self.connector_options().get('use_multipath'))
        return Ways(asked_paths(connection_info.data, use_multipath=use_multipath), dead)

    def find(self, connection_info: ConnectionInfo) -> str | None:
        """Look for the volume's device where nobody knows its path any more.

        None where os-brick finds it as well, or where there is none.
        """
        return None

    def clean_up(
        self, connection_info: ConnectionInfo, volume: ConnectedVolume | None, *, force: bool
    ) -> None:
        """Do what this protocol's connector leaves undone after a removal."""

    def connect_volume(self, connection_info: ConnectionInfo, attachment: str) -> ConnectedVolume:
        """Let os-brick find the device; name, identify and count what it found."""
        started = time.monotonic()
        properties = connection_info.to_connector()
        if self.connector_options().get('enforce_multipath'):
            # As an option of the connector os-brick ignores it.
            properties['enforce_multipath'] = True
        # os-brick would take an earlier volume's disk, and the map it is in.
        in_use = on_the_ways(self.context.devices, connection_info)
        disk_answers.refuse_changed(self.context.devices, in_use, connection_info.volume_id)
        ways = self.choose_ways(connection_info, properties)
        if ways.dead:
            LOG.warning(
                'Volume %s is connected without %s',
                connection_info.volume_id,
                ', '.join(f'{portal} ({reason})' for portal, reason in ways.dead.items()),
            )
        if connection_info.encrypted and not os.path.isdir(device_link.FOLDER):
            # os-brick links to what it has found, and may be there before udev.
            device_link.make_folder()
        try:
            brick, of = self._brick(), connection_info
            device_info = multipath_map.connect(
                lambda: brick.connect(of.driver_volume_type, of.volume_id, properties),
                self.context.devices,
                ways,
                self.conf.device_name_timeout,
            )
        except BaseException as e:
            if connection_info.encrypted and isinstance(e.__cause__, TypeError) and not in_use:
                # os-brick has the device, could not make a link to it, and
                # calls its own removal wrongly.
                self._undo(connection_info, {})
            else:
                self._clean_up_after_failure(connection_info)
            raise
        try:
            return self._describe(connection_info, device_info, started, ways)
        except BaseException:
            # What was there before may be a guest's; so its paths stay, too.
            if not in_use:
                self._undo(connection_info, device_info)
            raise

    def disconnect_volume(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        *,
        volume: ConnectedVolume | None = None,
        force: bool = False,
    ) -> None:
        """Remove the device after checking that it still is the volume.

        :raises IdentityMismatch: something else is there now; nothing was done
        """
        devices = self.context.devices
        devices.settle(UDEV_TIME)
        identity = self._require_unchanged(connection_info, volume)
        links = self._links(connection_info, volume)
        properties = self._properties(connection_info, volume)
        brick = self._brick(use_multipath=used_multipath(devices, connection_info, volume))
        self._remove(connection_info, brick, properties, force=force)
        if empty_sessions(devices, connection_info):
            # What os-brick did not get to; it goes by the portals again.
            self._remove(connection_info, brick, properties, force=force)
        self.clean_up(connection_info, volume, force=force)
        if self.REMOVES_DEVICE:
            block_leftovers.check(devices, connection_info, identity)
        for link in links:
            if os.path.lexists(link):
                device_link.remove_link(os.path.basename(link))

    def extend_volume(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        requested_size: int,
        *,
        volume: ConnectedVolume | None = None,
    ) -> int:
        """Let os-brick rescan the device."""
        if Capability.EXTEND not in self.CAPABILITIES:
            return super().extend_volume(
                connection_info, attachment, requested_size, volume=volume
            )
        check_size(requested_size, f'volume {connection_info.volume_id}')
        self._require_unchanged(connection_info, volume)
        brick = self._brick(
            use_multipath=used_multipath(self.context.devices, connection_info, volume)
        )
        size = brick.extend(
            connection_info.driver_volume_type,
            connection_info.volume_id,
            self._properties(connection_info, volume),
        )
        if size is None:
            raise exception.ExtendVolumeFailed(
                volume_id=connection_info.volume_id,
                reason='os-brick could not read the size of the device',
            )
        return size

    def lock_names(
        self, connection_info: ConnectionInfo, *, volume: ConnectedVolume | None = None
    ) -> tuple[str, ...]:
        """Name the targets; a protocol without targets of its own is one."""
        return target_locks(connection_info.data) or (connection_info.driver_volume_type,)

    def current_identity(
        self, connection_info: ConnectionInfo, volume: ConnectedVolume
    ) -> Identity | None:
        """Ask sysfs, and then the disks themselves, what the device is by now."""
        devices = self.context.devices
        if volume.path is None:
            return None
        try:
            known = identity_of(devices, volume.path)
        except exception.VolumeNotConnected:
            return None
        disks = disk_answers.disks_under(devices, volume.path)
        return next((found for _, found, _ in disk_answers.changed(devices, disks)), known)

    def remains(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        *,
        volume: ConnectedVolume | None = None,
    ) -> tuple[Remainder, ...]:
        """Look for devices, maps, os-brick's links and sessions without a disk."""
        return remainders(
            self.context.devices, connection_info, volume, with_devices=self.REMOVES_DEVICE
        )

    def plan_connect(self, connection_info: ConnectionInfo, attachment: str) -> tuple[str, ...]:
        """Name the portals that are asked, the connector, the ways and the devices."""
        return plan.of_connecting(self, connection_info)

    def plan_disconnect(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        *,
        volume: ConnectedVolume | None = None,
    ) -> tuple[str, ...]:
        """Name the maps, devices, links and sessions, as sysfs shows them now."""
        return plan.of_removing(self, connection_info, volume)

    def why_not(self) -> str | None:
        """Name everything that is missing on this host."""
        return requirements.unmet(self.requirements())

    def _require_unchanged(
        self, connection_info: ConnectionInfo, volume: ConnectedVolume | None
    ) -> tuple[str, str] | None:
        """Make sure that what os-brick will touch is the volume; return what it is."""
        devices = self.context.devices
        also = self.find(connection_info)
        identity = check_identity(devices, connection_info, volume, also=also)
        paths = [*devices_of(devices, connection_info, volume), also, volume and volume.path]
        disks = disk_answers.disks_under(devices, *(path for path in paths if path))
        disks += on_the_ways(devices, connection_info)
        disk_answers.refuse_changed(devices, disks, connection_info.volume_id)
        return identity

    def _remove(
        self,
        connection_info: ConnectionInfo,
        brick: Brick,
        properties: dict[str, object],
        *,
        force: bool,
    ) -> None:
        try:
            brick.disconnect(
                connection_info.driver_volume_type,
                connection_info.volume_id,
                properties,
                self.removal_info(properties),
                force=force,
            )
        except exception.VolumeNotConnected:
            LOG.info('Volume %s was not connected', connection_info.volume_id)

    def _links(
        self, connection_info: ConnectionInfo, volume: ConnectedVolume | None
    ) -> tuple[str, ...]:
        """Return os-brick's links, which nothing tells the volume of once it is gone."""
        if not connection_info.encrypted:
            return ()
        devices = self.context.devices
        return links_of(devices, devices_of(devices, connection_info, volume), volume)

    def _brick(self, *, use_multipath: bool = False) -> Brick:
        options = self.connector_options()
        if use_multipath and 'use_multipath' in options:
            # Whatever the option says by now: without it os-brick would take
            # the paths from under the map, or grow them and not the map.
            options['use_multipath'] = True
        return Brick(self.PROTOCOL, self.context.conf, **options)

    def _describe(
        self,
        connection_info: ConnectionInfo,
        device_info: Mapping[str, typing.Any],
        started: float,
        ways: Ways,
    ) -> ConnectedVolume:
        found = device_info.get('path')
        if isinstance(found, bytes):
            found = found.decode()
        if not isinstance(found, str) or not found:
            raise exception.ConnectFailed(
                volume_id=connection_info.volume_id,
                driver_volume_type=connection_info.driver_volume_type,
                reason='os-brick tells no path of the device',
            )
        device = found
        if os_brick_link.is_link(found):
            # It names the kernel's device, which is another one after a reboot.
            device = self.context.devices.kernel_path(found) or found
        path = self.context.devices.stable_path(device, wait=self.conf.device_name_timeout)
        if path is None:
            raise exception.UnstableDevicePath(path=found, volume_id=connection_info.volume_id)
        multipath_id = device_info.get('multipath_id')
        option = self.connector_options().get('use_multipath')
        use_multipath = None if option is None else bool(option)
        try:
            return ConnectedVolume(
                driver_volume_type=connection_info.driver_volume_type,
                volume_id=connection_info.volume_id,
                source_type='block',
                path=path,
                identity=self._identify(connection_info, path),
                multipath_id=multipath_id,
                paths=report_all(self.context.devices, path, ways, self.conf.device_name_timeout),
                seconds=time.monotonic() - started,
                use_multipath=use_multipath,
                device_info=dict(device_info),
            )
        except exception.VolumeNotConnected as e:
            raise exception.VolumeDeviceNotFound(
                volume_id=connection_info.volume_id,
                reason=f'{path} vanished as soon as it was found',
            ) from e

    def _identify(self, connection_info: ConnectionInfo, path: str) -> Identity:
        identity = identity_of(self.context.devices, path)
        promised = self.promised_identity(connection_info)
        if promised is not None and promised.kind == identity.kind and promised != identity:
            raise exception.IdentityMismatch(
                path=path,
                found=str(identity),
                expected=str(promised),
                volume_id=connection_info.volume_id,
            )
        return identity

    def _undo(
        self, connection_info: ConnectionInfo, device_info: Mapping[str, typing.Any]
    ) -> None:
        self.context.devices.settle(UDEV_TIME)
        properties = connection_info.to_connector()
        if device_info.get('path'):
            properties['device_path'] = device_info['path']
        if self.TELLS_MULTIPATH_ID and device_info.get('multipath_id'):
            properties['multipath_id'] = device_info['multipath_id']
        try:
            # Not forced: another guest of this host may use the volume.
            self._brick().disconnect(
                connection_info.driver_volume_type,
                connection_info.volume_id,
                properties,
                self.removal_info(properties),
                force=False,
            )
        except exception.NothingToDo:
            pass
        except exception.VolumeDriversError as e:
            LOG.warning('Volume %s stays connected: %s', connection_info.volume_id, e)
        self._clean_up_after_failure(connection_info)

    def _clean_up_after_failure(self, connection_info: ConnectionInfo) -> None:
        try:
            self.clean_up(connection_info, None, force=False)
        except exception.VolumeDriversError as e:
            LOG.warning('After the failure to connect: %s', e)

    def _properties(
        self, connection_info: ConnectionInfo, volume: ConnectedVolume | None
    ) -> dict[str, object]:
        """What os-brick is told of a connected volume, with today's device path.

        Without ``volume`` it is told what Nova stored in the connection_info.
        """
        properties = connection_info.to_connector()
        if volume is not None and volume.path is not None:
            properties['device_path'] = path_of_today(
                self.context.devices, volume, volume.path, encrypted=connection_info.encrypted
            )
        elif not properties.get('device_path'):
            path = self.find(connection_info)
            if path is not None:
                properties['device_path'] = path
        if self.TELLS_MULTIPATH_ID and volume is not None and volume.multipath_id is not None:
            properties['multipath_id'] = volume.multipath_id
        return properties
