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

"""Where a Ceph cluster is, as Cinder and the host's ceph.conf say; for librbd and krbd."""

import typing

from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.connection_info import RbdData
from volumedrivers.host import ceph_conf
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import NetworkHost

# Of messenger 2 and 1: what a client tries where no port is named.
MONITOR_PORTS = (3300, 6789)


def data_of(connection_info: ConnectionInfo) -> RbdData:
    """Return what Cinder says of the image."""
    data = connection_info.data
    if not isinstance(data, RbdData):
        raise exception.InvalidConnectionInfo(
            driver_volume_type=connection_info.driver_volume_type,
            key='data',
            found=type(data).__name__,
            expected='the description of an RBD image',
        )
    return data


class Cluster(typing.NamedTuple):
    """The cluster of one image.

    :ivar named: the monitors Cinder names
    :ivar configured: those ceph.conf names, where Cinder names none
    :ivar fsid: None when the ceph.conf of this host is another cluster's, or
        there is none
    """

    named: tuple[NetworkHost, ...]
    configured: tuple[NetworkHost, ...]
    fsid: str | None

    @property
    def monitors(self) -> tuple[NetworkHost, ...]:
        """Those to ask."""
        return self.named or self.configured

    def identity(self, name: str) -> Identity:
        """Return fsid/pool[/namespace]/image; without the fsid, the monitors' names.

        :param name: pool[/namespace]/image
        """
        cluster = self.fsid or ','.join(sorted({host.name for host in self.monitors}))
        return Identity('rbd', f'{cluster}/{name}')


def cluster_of(data: RbdData, conf_path: str) -> Cluster:
    """Find the cluster of an image.

    :param conf_path: the ceph.conf to ask what Cinder does not say
    :raises VolumeDriverNotSupported: it is there and cannot be read
    """
    try:
        conf = ceph_conf.read(conf_path)
    except OSError as error:
        raise exception.VolumeDriverNotSupported(
            driver_volume_type='rbd', reason=f'{conf_path} cannot be read: {error.strerror}'
        ) from error
    named = tuple(NetworkHost(portal.host, portal.port or None) for portal in data.monitors)
    same = not named or conf.names_any(frozenset(host.name for host in named))
    return Cluster(
        named,
        () if named else tuple(NetworkHost(*monitor) for monitor in conf.monitors),
        conf.fsid if same else None,
    )
