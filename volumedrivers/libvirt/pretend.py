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

"""Guess what a connected volume would be, without connecting: to look at its XML."""

from collections.abc import Sequence
import os
import typing

from oslo_config import cfg

from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import endpoint
from volumedrivers.host import share
from volumedrivers.libvirt import context
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.driver import Capability
from volumedrivers.libvirt.driver import VolumeDriver
from volumedrivers.libvirt.registry import Registry
from volumedrivers.libvirt.share_file import ShareFileDriver
from volumedrivers.protocol_data import IscsiData
from volumedrivers.protocol_data import LocalData
from volumedrivers.protocol_data import RbdData
from volumedrivers.protocol_data import ShareData

#: stands for a device that only connecting can name
UNKNOWN_DEVICE = '/dev/disk/by-id/unknown'
#: stands for a secret that only connecting would make
UNKNOWN_SECRET = '00000000-0000-0000-0000-000000000000'  # noqa: S105


class _Probe(endpoint.Probe):
    """Lets every endpoint answer."""

    def check(
        self,
        protocol: str,
        endpoints: Sequence[tuple[str, int]],
        *,
        timeout: float,
        **options: object,
    ) -> endpoint.ProbeResult:
        return endpoint.ProbeResult(tuple(f'{host}:{port}' for host, port in endpoints), ())


class _Secrets:
    """Has every secret, under one UUID."""

    def ensure(
        self, usage_type: str, usage_id: str, value: bytes, *, ephemeral: bool = True
    ) -> str:
        return UNKNOWN_SECRET

    def find(self, usage_type: str, usage_id: str) -> str | None:
        return UNKNOWN_SECRET

    def delete(self, usage_type: str, usage_id: str) -> bool:
        return False


def make_registry(conf: cfg.ConfigOpts) -> Registry:
    """Return drivers that ask no storage and no libvirt."""
    real = context.make_context(conf, secrets=_Secrets())
    return Registry(
        type(real)(
            conf=conf,
            devices=real.devices,
            shares=real.shares,
            endpoints=_Probe(),
            secrets=_Secrets(),
        )
    )


def volume(
    driver: VolumeDriver,
    connection_info: ConnectionInfo,
    options: typing.Any,
    path: str | None = None,
) -> ConnectedVolume:
    """Return the volume as it would be once it is connected.

    :param driver: of make_registry
    :param options: those of group [volumedrivers]
    :param path: of the device or file; without it a file's is worked out, and
        a device's is UNKNOWN_DEVICE
    :raises InvalidOption: a path for a volume that QEMU opens over the network
    """
    data = connection_info.data
    if path is None and isinstance(data, LocalData):
        path = data.device_path
    if isinstance(data, ShareData) and not _is_opened_by_qemu(connection_info, options):
        return _volume(
            connection_info,
            'file',
            path or _file(driver, connection_info, options),
            data.format or 'raw',
        )
    if isinstance(data, IscsiData | RbdData | ShareData) and (
        Capability.HOST_DEVICE not in driver.CAPABILITIES
    ):
        if path is not None:
            raise exception.InvalidOption(
                option='path', found=path, expected='none: QEMU opens this volume itself'
            )
        return driver.connect_volume(connection_info, 'pretended')
    source_type = 'block' if Capability.HOST_DEVICE in driver.CAPABILITIES else 'file'
    return _volume(connection_info, source_type, path or UNKNOWN_DEVICE, 'raw')


def _volume(
    connection_info: ConnectionInfo, source_type: typing.Any, path: str, image_format: str
) -> ConnectedVolume:
    return ConnectedVolume(
        driver_volume_type=connection_info.driver_volume_type,
        volume_id=connection_info.volume_id,
        source_type=source_type,
        path=path,
        format=image_format,
    )


def _is_opened_by_qemu(connection_info: ConnectionInfo, options: typing.Any) -> bool:
    return connection_info.driver_volume_type == 'glusterfs' and options.glusterfs_client == 'qemu'


def _file(driver: VolumeDriver, connection_info: ConnectionInfo, options: typing.Any) -> str:
    data = connection_info.data
    if not isinstance(data, ShareData):
        raise TypeError(type(data).__name__)
    if isinstance(driver, ShareFileDriver):
        directory = driver.make_share(connection_info, data).mount_point
        return os.path.join(directory, driver.file_name(connection_info, data))
    base = options[f'{connection_info.driver_volume_type}_mount_point_base']
    return os.path.join(share.mount_point(base, data.export), data.name)
