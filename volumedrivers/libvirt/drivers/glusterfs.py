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

"""Volumes that are files in GlusterFS: mounted here, or opened by QEMU itself."""

import re

from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import qemu_modules
from volumedrivers.host import requirements
from volumedrivers.host.file_system import FileSystem
from volumedrivers.host.share import Share
from volumedrivers.host.share import mount_point
from volumedrivers.libvirt.client_choice import ClientChoiceDriver
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import NetworkHost
from volumedrivers.libvirt.connected_volume import NetworkSource
from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.driver import VolumeDriver
from volumedrivers.libvirt.network_source import NetworkSourceDriver
from volumedrivers.libvirt.share_file import ShareFileDriver
from volumedrivers.libvirt.share_file import share_data
from volumedrivers.protocol_data import ShareData

# Where glusterd tells a client what a volume consists of.
PORT = 24007
# host[,host]:[/]volume[/directory]; an IPv6 address in brackets.
_EXPORT = re.compile(
    r'(?P<hosts>(?:\[[^\]]+\]|[^,:/\s]+)(?:,(?:\[[^\]]+\]|[^,:/\s]+))*):/?'
    r'(?P<volume>[^/\s]+)(?P<directory>(?:/[^/\s]+)*)/?'
)


class MountedGlusterfs(ShareFileDriver):
    """GlusterFS through its FUSE client."""

    REQUIREMENTS = (
        requirements.Tool('mount.glusterfs', 'glusterfs-client'),
        FileSystem('fuse'),
    )

    def make_share(self, connection_info: ConnectionInfo, data: ShareData) -> Share:
        """Describe the volume of the GlusterFS cluster."""
        parse_export(connection_info, data)
        return Share(
            source=data.export,
            mount_point=mount_point(self.conf.glusterfs_mount_point_base, data.export),
            fstype='glusterfs',
            mounted_fstypes=('fuse.glusterfs',),
            options=data.options,
        )


class GlusterfsInQemu(NetworkSourceDriver):
    """GlusterFS through QEMU's own client: nothing is mounted, no root is needed."""

    PROTOCOL = 'gluster'

    def make_source(self, connection_info: ConnectionInfo) -> NetworkSource:
        """Name the hosts, the volume and the file in it.

        :raises UnsafeImage: it is no raw file; QEMU would open what its
            header names, and here nobody can look at that first
        """
        data = share_data(connection_info)
        hosts, path = parse_export(connection_info, data)
        if data.format not in (None, 'raw'):
            raise exception.UnsafeImage(
                path=f'gluster://{hosts[0]}/{path}/{data.name}',
                reason=f'QEMU would open a {data.format} file that cannot be inspected before; '
                f'set glusterfs_client = fuse',
            )
        return NetworkSource(
            protocol='gluster',
            name=f'{path}/{data.name}',
            hosts=tuple(NetworkHost(host, PORT) for host in hosts),
        )

    def identify(self, connection_info: ConnectionInfo, source: NetworkSource) -> Identity:
        """The file by its name in the cluster."""
        data = share_data(connection_info)
        _, path = parse_export(connection_info, data)
        if source.name != f'{path}/{data.name}':
            return Identity('file', source.name)
        return Identity('file', f'{data.export}/{data.name}')

    def why_not(self) -> str | None:
        """Name everything that is missing on this host."""
        return qemu_modules.why_no_block_driver('gluster')


class GlusterfsVolumeDriver(ClientChoiceDriver):
    """Volumes of driver_volume_type glusterfs; glusterfs_client says whose client."""

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        self._mounted = MountedGlusterfs(context)
        self._in_qemu = GlusterfsInQemu(context)

    def client(self, volume: ConnectedVolume | None = None) -> VolumeDriver:
        """Return the FUSE client or QEMU's."""
        if volume is None:
            return self._in_qemu if self.conf.glusterfs_client == 'qemu' else self._mounted
        return self._in_qemu if volume.source_type == 'network' else self._mounted


def parse_export(connection_info: ConnectionInfo, data: ShareData) -> tuple[tuple[str, ...], str]:
    """Return the hosts, and the volume with the directory in it if there is one.

    :raises InvalidConnectionInfo: it is no export of GlusterFS
    """
    match = _EXPORT.fullmatch(data.export)
    if match is None:
        raise exception.InvalidConnectionInfo(
            driver_volume_type=connection_info.driver_volume_type,
            key='data.export',
            found=repr(data.export),
            expected='host[,host]:/volume',
        )
    hosts = re.findall(r'\[([^\]]+)\]|([^,]+)', match['hosts'])
    return (
        tuple(bracketed or plain for bracketed, plain in hosts),
        match['volume'] + match['directory'],
    )
