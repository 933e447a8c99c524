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

"""RBD mapped by the kernel, for hosts that need a block device (rbd_client = kernel).

os-brick maps the image.  It takes whatever ``/dev/rbd/<pool>/<image>`` leads
to as the right one, and unmaps by the name of the image alone; an image of the
same name in another pool, namespace or cluster would be used, or taken from
under its guest.  So which device is the volume's is decided here, from what
the kernel says of it, and exactly that device is unmapped.
"""

import os
import pathlib
import time
import typing

from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.connection_info import RbdData
from volumedrivers.host import rbd_conf
from volumedrivers.host import rbd_device
from volumedrivers.host import requirements
from volumedrivers.host.brick import Brick
from volumedrivers.libvirt import ceph
from volumedrivers.libvirt import network_source
from volumedrivers.libvirt import plan
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import PathReport
from volumedrivers.libvirt.connected_volume import Remainder
from volumedrivers.libvirt.driver import Capability
from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.driver import VolumeDriver
from volumedrivers.libvirt.volume_devices import readable
from volumedrivers.privsep import rbd as privileged
from volumedrivers.sizes import check_size

LOG = logging.getLogger(__name__)

_REQUIREMENTS = (requirements.Tool('rbd', 'ceph-common'), requirements.KernelModule('rbd'))
# The kernel's client speaks messenger 1 unless it is told otherwise.
_KERNEL_PORT = 6789
# Seconds the kernel may take to hear of a new size, or to forget a device.
SETTLE_TIME = 5.0
# Seconds that udev's rules may have a device open that a guest has just closed.
BUSY_TIME = 3.0
_POLL = 0.1


class KernelRbd(VolumeDriver):
    """What RbdVolumeDriver does when the kernel is the client."""

    API_VERSION = (1, 1)
    # Two guests of one host would share one device, and the first to leave
    # would find it busy.
    CAPABILITIES = frozenset(
        (Capability.EXTEND, Capability.FORCE_DISCONNECT, Capability.HOST_DEVICE)
    )
    DISK_IO = 'native'
    DISK_IO_OPTIONAL = True

    def __init__(
        self,
        context: DriverContext,
        *,
        sysfs: pathlib.Path = rbd_device.SYSFS,
        dev: pathlib.Path = pathlib.Path('/dev'),
    ) -> None:
        """Take the context; the directories are others in tests only."""
        super().__init__(context)
        self.sysfs = sysfs
        self.dev = dev

    def connect_volume(self, connection_info: ConnectionInfo, attachment: str) -> ConnectedVolume:
        """Map the image and make sure that the right one was mapped.

        :raises VolumeDriverNotSupported: the image is in a namespace
        :raises IdentityMismatch: its name leads to the image of another cluster
        """
        start = time.monotonic()
        data = ceph.data_of(connection_info)
        if data.namespace:
            raise exception.VolumeDriverNotSupported(
                driver_volume_type='rbd',
                reason=f'os-brick cannot map {data.name}, which is in an RBD namespace; set '
                'rbd_client = librbd',
            )
        cluster = self._cluster(data)
        paths = self._ask(cluster)
        before = self._mapped(data)
        self._refuse_strangers(connection_info, data, cluster, before)
        if data.keyring is not None:
            self._begun.note(attachment, self._owner(connection_info, data))
        try:
            info = self._brick().connect(
                connection_info.driver_volume_type,
                connection_info.volume_id,
                self._properties(connection_info, cluster),
            )
        except Exception as error:
            self._remove_key_after(error, connection_info, attachment, data)
            raise
        try:
            device = self._found(connection_info, data, cluster)
            # What is mapped is unmapped by its number; nobody needs the key.
            rbd_device.forget_conf(info)
            if data.keyring is not None:
                self._begun.forget(attachment)
        except BaseException:
            self._undo(connection_info, attachment, data, before, info)
            raise
        info.pop('conf', None)
        return ConnectedVolume(
            driver_volume_type=connection_info.driver_volume_type,
            volume_id=connection_info.volume_id,
            source_type='block',
            path=self._link(data),
            identity=Identity('rbd', device.identity),
            paths=paths,
            seconds=time.monotonic() - start,
            device_info=info,
        )

    def disconnect_volume(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        *,
        volume: ConnectedVolume | None = None,
        force: bool = False,
    ) -> None:
        """Unmap exactly the device of this image of this cluster.

        :raises IdentityMismatch: images of several clusters have the name, and
            nothing says which is meant; none was touched
        """
        data = ceph.data_of(connection_info)
        for device in self._mine(connection_info, data, volume):
            self._unmap(connection_info, device, force=force)
        if volume is not None:
            rbd_device.forget_conf(volume.device_info)
        self._remove_key(connection_info, attachment, data)

    def extend_volume(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        requested_size: int,
        *,
        volume: ConnectedVolume | None = None,
    ) -> int:
        """Wait until the kernel has heard of the new size from the cluster.

        :raises EndpointUnreachable: no monitor answers
        """
        check_size(requested_size, f'volume {connection_info.volume_id}')
        data = ceph.data_of(connection_info)
        self._ask(self._cluster(data))
        mine = self._mine(connection_info, data, volume)
        end = time.monotonic() + SETTLE_TIME
        while mine:
            found = rbd_device.size(mine[0].number, self.sysfs)
            if found is None:
                break
            if found >= requested_size:
                return found
            if time.monotonic() > end:
                raise exception.ExtendVolumeFailed(
                    volume_id=connection_info.volume_id,
                    reason=f'{mine[0].path} still has {found} bytes',
                )
            time.sleep(_POLL)
        raise exception.ExtendVolumeFailed(
            volume_id=connection_info.volume_id, reason=f'{data.name} is not mapped'
        )

    def lock_names(
        self, connection_info: ConnectionInfo, *, volume: ConnectedVolume | None = None
    ) -> tuple[str, ...]:
        """Name the pool, of whatever cluster: udev's names do not tell them apart."""
        return (f'rbd {ceph.data_of(connection_info).pool}',)

    def current_identity(
        self, connection_info: ConnectionInfo, volume: ConnectedVolume
    ) -> Identity | None:
        """Ask the kernel what image the volume's path leads to."""
        if volume.path is None:
            return None
        name = os.path.basename(os.path.realpath(volume.path))
        for device in self._devices():
            if os.path.basename(device.path) == name:
                return Identity('rbd', device.identity)
        return None

    def remains(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        *,
        volume: ConnectedVolume | None = None,
    ) -> tuple[Remainder, ...]:
        """Look for the mappings of exactly this image of this cluster, and for its key."""
        data = ceph.data_of(connection_info)
        found = [
            Remainder('mapping', device.path, f'rbd:{device.identity}')
            for device in self._mine(connection_info, data, volume)
        ]
        if data.keyring is not None:
            left = self._begun.left(attachment, self._owner(connection_info, data))
            found += [Remainder('file', path, 'the key of a Ceph user') for path in left]
        return tuple(found)

    def plan_connect(self, connection_info: ConnectionInfo, attachment: str) -> tuple[str, ...]:
        """Name the monitors that are asked, and the image that is mapped."""
        data = ceph.data_of(connection_info)
        mapped = self._mapped(data)
        lines = [
            f'connect to {network_source.written(host)}' for host in self._cluster(data).monitors
        ]
        lines += [f'{data.name} is mapped as {device.path}' for device in mapped]
        if not mapped:
            lines += [plan.connector('RBD', {'do_local_attach': True}), f'rbd map {data.name}']
        lines.append(f'device: {self._link(data)}')
        return plan.without_secrets(connection_info, lines)

    def plan_disconnect(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        *,
        volume: ConnectedVolume | None = None,
    ) -> tuple[str, ...]:
        """Name the devices that are unmapped."""
        data = ceph.data_of(connection_info)
        lines = [
            f'rbd unmap {device.path} ({device.identity})'
            for device in self._mine(connection_info, data, volume)
        ]
        return tuple(lines) or (f'nothing: {data.name} is not mapped',)

    def _devices(self) -> tuple[rbd_device.RbdDevice, ...]:
        with readable(str(self.sysfs)):
            return rbd_device.devices(self.sysfs)

    def why_not(self) -> str | None:
        """Look for the rbd program and the kernel's module."""
        missing = requirements.unmet(_REQUIREMENTS)
        return None if missing is None else f'{missing}; or set rbd_client = librbd'

    @property
    def _begun(self) -> rbd_conf.Begun:
        return rbd_conf.Begun(self.conf.state_path)

    def _owner(self, connection_info: ConnectionInfo, data: RbdData) -> rbd_conf.Owner:
        cluster = self._cluster(data)
        monitors = ((host.name, str(host.port or _KERNEL_PORT)) for host in cluster.monitors)
        user = connection_info.to_connector().get('auth_username') or self.conf.rbd_user
        return rbd_conf.owner(monitors, None if user is None else str(user))

    def _brick(self) -> Brick:
        return Brick('RBD', self.context.conf, do_local_attach=True)

    def _cluster(self, data: RbdData) -> ceph.Cluster:
        return ceph.cluster_of(data, self.conf.rbd_ceph_conf)

    def _properties(
        self, connection_info: ConnectionInfo, cluster: ceph.Cluster
    ) -> dict[str, object]:
        """Return what os-brick is told; the key it finds in the user's keyring file."""
        properties = connection_info.to_connector()
        # It would make a link for its encryptor, and removes it only where it
        # unmaps itself; that is done here.
        properties.pop('encrypted', None)
        if not properties.get('auth_username') and self.conf.rbd_user:
            properties['auth_username'] = self.conf.rbd_user
        # os-brick writes a port that is None as "None".
        properties['hosts'] = [host.name for host in cluster.monitors]
        properties['ports'] = [str(host.port or _KERNEL_PORT) for host in cluster.monitors]
        return properties

    def _ask(self, cluster: ceph.Cluster) -> PathReport:
        if not cluster.monitors:
            return PathReport()
        answered, failed = network_source.probe_hosts(
            self.context.endpoints,
            'rbd',
            cluster.monitors,
            default_ports=ceph.MONITOR_PORTS,
            timeout=self.conf.endpoint_timeout,
        )
        return PathReport(len(answered) + len(failed), len(answered), failed)

    def _link(self, data: RbdData) -> str:
        """The name ceph-common's udev rules give the device."""
        return str(self.dev / 'rbd' / data.pool / data.image)

    def _mapped(self, data: RbdData) -> tuple[rbd_device.RbdDevice, ...]:
        with readable(str(self.sysfs)):
            return rbd_device.mapped(data.pool, data.namespace, data.image, self.sysfs)

    def _refuse_strangers(
        self,
        connection_info: ConnectionInfo,
        data: RbdData,
        cluster: ceph.Cluster,
        there: typing.Sequence[rbd_device.RbdDevice],
    ) -> None:
        """Refuse where os-brick would take a device of another cluster."""
        for device in there:
            if cluster.fsid is None or device.fsid != cluster.fsid:
                raise exception.IdentityMismatch(
                    path=device.path,
                    found=f'rbd:{device.identity}',
                    expected=str(cluster.identity(data.name)),
                    volume_id=connection_info.volume_id,
                )

    def _found(
        self, connection_info: ConnectionInfo, data: RbdData, cluster: ceph.Cluster
    ) -> rbd_device.RbdDevice:
        """Return the device the persistent name leads to, if it is the image."""
        link = self._link(data)
        target = os.path.basename(os.path.realpath(link))
        for device in self._mapped(data):
            if os.path.basename(device.path) != target:
                continue
            if cluster.fsid is not None and device.fsid != cluster.fsid:
                raise exception.IdentityMismatch(
                    path=link,
                    found=f'rbd:{device.identity}',
                    expected=str(cluster.identity(data.name)),
                    volume_id=connection_info.volume_id,
                )
            return device
        raise exception.UnstableDevicePath(path=link, volume_id=connection_info.volume_id)

    def _undo(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        data: RbdData,
        before: typing.Sequence[rbd_device.RbdDevice],
        info: typing.Mapping[str, object],
    ) -> None:
        """Unmap what was not mapped before; why it was not usable is what is told."""
        try:
            for device in self._mapped(data):
                if device not in before:
                    self._unmap(connection_info, device, force=False)
            rbd_device.forget_conf(info)
            self._remove_key(connection_info, attachment, data)
        except (exception.VolumeDriversError, OSError) as error:
            LOG.warning(
                'Volume %(volume)s stays mapped: %(error)s',
                {'volume': connection_info.volume_id, 'error': error},
            )

    def _remove_key(self, connection_info: ConnectionInfo, attachment: str, data: RbdData) -> None:
        """Remove the file with the key that an interrupted connect left."""
        if data.keyring is not None:
            self._begun.remove(attachment, self._owner(connection_info, data))

    def _remove_key_after(
        self, error: Exception, connection_info: ConnectionInfo, attachment: str, data: RbdData
    ) -> None:
        # os-brick does it itself, unless that is what failed.
        try:
            self._remove_key(connection_info, attachment, data)
        except exception.VolumeDriversError as second:
            error.add_note(f'and a file with the key may be left: {second}')

    def _mine(
        self,
        connection_info: ConnectionInfo,
        data: RbdData,
        volume: ConnectedVolume | None,
    ) -> tuple[rbd_device.RbdDevice, ...]:
        """Return the devices of this image of this cluster."""
        there = self._mapped(data)
        if volume is not None and volume.identity is not None:
            return tuple(device for device in there if device.identity == volume.identity.value)
        fsid = self._cluster(data).fsid
        if fsid is not None:
            return tuple(device for device in there if device.fsid == fsid)
        if len({device.fsid for device in there}) > 1:
            raise exception.IdentityMismatch(
                path=' and '.join(device.path for device in there),
                found=' and '.join(f'rbd:{device.identity}' for device in there),
                expected=str(self._cluster(data).identity(data.name)),
                volume_id=connection_info.volume_id,
            )
        return there

    def _unmap(
        self, connection_info: ConnectionInfo, device: rbd_device.RbdDevice, *, force: bool
    ) -> None:
        end = time.monotonic() + BUSY_TIME
        while True:
            try:
                privileged.unmap(device.number, force=force)
                break
            except exception.Busy:
                if time.monotonic() > end:
                    raise
            time.sleep(_POLL)
        end = time.monotonic() + SETTLE_TIME
        while device in rbd_device.devices(self.sysfs):
            if time.monotonic() > end:
                raise exception.LeftoversFound(
                    volume_id=connection_info.volume_id, leftovers=device.path
                )
            time.sleep(_POLL)
