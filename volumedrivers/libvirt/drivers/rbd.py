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

"""RBD: QEMU opens the image by librbd, or the kernel maps it (rbd_client)."""

from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import ceph_conf
from volumedrivers.host import qemu_modules
from volumedrivers.libvirt import ceph
from volumedrivers.libvirt.client_choice import ClientChoiceDriver
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import NetworkHost
from volumedrivers.libvirt.connected_volume import NetworkSource
from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.driver import VolumeDriver
from volumedrivers.libvirt.kernel_rbd import KernelRbd
from volumedrivers.libvirt.network_source import NetworkSourceDriver

LOG = logging.getLogger(__name__)


class Librbd(NetworkSourceDriver):
    """An image of a Ceph cluster that QEMU opens itself."""

    PROTOCOL = 'rbd'
    DEFAULT_PORTS = ceph.MONITOR_PORTS

    def why_not(self) -> str | None:
        """Look for QEMU's rbd driver."""
        return qemu_modules.why_no_block_driver('rbd')

    def make_source(self, connection_info: ConnectionInfo) -> NetworkSource:
        """Describe the image; Cinder's credentials come before the configuration's."""
        data = ceph.data_of(connection_info)
        username, secret_uuid = self._credentials(connection_info)
        cluster = self._cluster(connection_info)
        hosts = cluster.named
        if not hosts and self.conf.rbd_ceph_conf != ceph_conf.DEFAULT:
            # librbd in QEMU reads the default file only.
            hosts = cluster.configured
        return NetworkSource(
            protocol='rbd',
            name=data.name,
            hosts=hosts,
            auth_username=username,
            secret_type=(data.secret_type or 'ceph') if username is not None else None,
            secret_uuid=secret_uuid,
        )

    def hosts_to_ask(
        self, connection_info: ConnectionInfo, source: NetworkSource
    ) -> tuple[NetworkHost, ...]:
        """Return Cinder's monitors, else those of ceph.conf, which librbd will ask."""
        return self._cluster(connection_info).monitors

    def identify(self, connection_info: ConnectionInfo, source: NetworkSource) -> Identity:
        """Return fsid/pool/image, as far as the host's ceph.conf tells the fsid."""
        return self._cluster(connection_info).identity(source.name)

    def current_identity(
        self, connection_info: ConnectionInfo, volume: ConnectedVolume
    ) -> Identity | None:
        """Tell what the source names; before ceph.conf told the fsid it had another name."""
        if volume.source is None:
            return None
        cluster = self._cluster(connection_info)
        former = cluster._replace(fsid=None).identity(volume.source.name)
        return former if former == volume.identity else cluster.identity(volume.source.name)

    def _cluster(self, connection_info: ConnectionInfo) -> ceph.Cluster:
        return ceph.cluster_of(ceph.data_of(connection_info), self.conf.rbd_ceph_conf)

    def _credentials(self, connection_info: ConnectionInfo) -> tuple[str | None, str | None]:
        """Return (user, UUID of the libvirt secret), both or neither None.

        A user of one side never goes with a secret of the other.
        """
        data = ceph.data_of(connection_info)
        if data.auth_enabled and data.secret_uuid is not None:
            if data.auth_username is None:
                raise exception.InvalidConnectionInfo(
                    driver_volume_type=connection_info.driver_volume_type,
                    key='data.auth_username',
                    found='None',
                    expected='the Ceph user of secret_uuid',
                )
            return data.auth_username, data.secret_uuid
        user, secret_uuid = self.conf.rbd_user, self.conf.rbd_secret_uuid
        if data.auth_enabled:
            if user is None or secret_uuid is None:
                raise exception.InvalidConnectionInfo(
                    driver_volume_type=connection_info.driver_volume_type,
                    key='data.secret_uuid',
                    found='None',
                    expected='the UUID of a libvirt secret; set rbd_secret_uuid in Cinder, or '
                    'rbd_user and rbd_secret_uuid of this host',
                )
            return user, secret_uuid
        if secret_uuid is None:
            return None, None
        if user is None:
            raise exception.InvalidOption(
                option='rbd_user', found='unset', expected='the Ceph user of rbd_secret_uuid'
            )
        LOG.warning(
            'Cinder names no Ceph user for volume %(volume)s; using rbd_user and '
            'rbd_secret_uuid of this host. Set them in Cinder instead.',
            {'volume': connection_info.volume_id},
        )
        return user, secret_uuid


class RbdVolumeDriver(ClientChoiceDriver):
    """Volumes of driver_volume_type rbd; rbd_client says whose client."""

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        self._librbd = Librbd(context)
        self._kernel = KernelRbd(context)

    def client(self, volume: ConnectedVolume | None = None) -> VolumeDriver:
        """Return QEMU's client or the kernel's."""
        if volume is None:
            return self._kernel if self.conf.rbd_client == 'kernel' else self._librbd
        return self._librbd if volume.source_type == 'network' else self._kernel
