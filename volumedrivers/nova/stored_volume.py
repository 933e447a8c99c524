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

"""What of a connected volume is in the connection_info that Nova stores with a server.

What Nova's own drivers leave there is enough for all volumes that have a path
on the host, or that Cinder describes wholly.  Of a network source that has
more to it, such as a secret made for it, the rest is in a key of its own.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import typing

from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.block_device import BlockDeviceDriver
from volumedrivers.libvirt.client_choice import ClientChoiceDriver
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import NetworkHost
from volumedrivers.libvirt.connected_volume import NetworkSource
from volumedrivers.libvirt.driver import Capability
from volumedrivers.libvirt.share_file import ShareFileDriver
from volumedrivers.libvirt.share_file import share_data

if typing.TYPE_CHECKING:
    from volumedrivers.libvirt.driver import VolumeDriver

PATH = 'device_path'
MULTIPATH_ID = 'multipath_id'
#: this package's own key
SOURCE = 'volumedrivers_source'


def results(
    driver: 'VolumeDriver', info: ConnectionInfo, volume: ConnectedVolume, path: str | None
) -> Mapping[str, object]:
    """Return what to write into the data of a connection_info.

    :param path: what the guest's disk shall name; None: a network source
    """
    found: dict[str, object] = {}
    if path is not None:
        found[PATH] = path
    client = _client(driver, volume)
    tells_map = isinstance(client, BlockDeviceDriver) and client.TELLS_MULTIPATH_ID
    if tells_map and volume.multipath_id is not None:
        found[MULTIPATH_ID] = volume.multipath_id
    if volume.source is not None and volume.source != _derived(client, info):
        found[SOURCE] = dataclasses.asdict(volume.source)
    return found


def volume_of(driver: 'VolumeDriver', info: ConnectionInfo) -> ConnectedVolume:
    """Return a connected volume, as far as its disk needs it; no I/O.

    :raises VolumeNotConnected: nothing says where it is
    """
    stored = info.unknown.get(SOURCE)
    if isinstance(stored, Mapping):
        return _network(info, _read(stored))
    if info.device_path is not None:
        return _local(driver, info, info.device_path)
    client = _client(driver, None)
    if isinstance(client, ShareFileDriver):
        # Nova's own driver for Quobyte tells no path.
        share = client.share_of(info, None)
        name = client.file_name(info, share_data(info))
        return _local(driver, info, f'{share.mount_point}/{name}')
    source = _derived(client, info)
    if source is None:
        raise exception.VolumeNotConnected(volume_id=info.volume_id)
    return _network(info, source)


def _client(driver: 'VolumeDriver', volume: ConnectedVolume | None) -> 'VolumeDriver':
    return driver.client(volume) if isinstance(driver, ClientChoiceDriver) else driver


def _derived(client: 'VolumeDriver', info: ConnectionInfo) -> NetworkSource | None:
    """Return what Cinder's description alone makes of a source.

    A driver of network sources need not derive from this package's.
    """
    make: Callable[[ConnectionInfo], NetworkSource] | None = getattr(client, 'make_source', None)
    return None if make is None else make(info)


def _network(info: ConnectionInfo, source: NetworkSource) -> ConnectedVolume:
    return ConnectedVolume(
        driver_volume_type=info.driver_volume_type,
        volume_id=info.volume_id,
        source_type='network',
        source=source,
    )


def _local(driver: 'VolumeDriver', info: ConnectionInfo, path: str) -> ConnectedVolume:
    is_file = _is_file(driver, path)
    declared = getattr(info.data, 'format', None)
    return ConnectedVolume(
        driver_volume_type=info.driver_volume_type,
        volume_id=info.volume_id,
        source_type='file' if is_file else 'block',
        path=path,
        format=(declared if is_file else None) or 'raw',
    )


def _is_file(driver: 'VolumeDriver', path: str) -> bool:
    if isinstance(driver, ClientChoiceDriver):
        # Which client it was, the option may not say any more.
        return not path.startswith('/dev/')
    return Capability.HOST_DEVICE not in driver.CAPABILITIES


def _read(stored: Mapping[str, typing.Any]) -> NetworkSource:
    values = dict(stored)
    values['hosts'] = tuple(NetworkHost(**host) for host in values.get('hosts', ()))
    return NetworkSource(**values)
