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

"""Volume types with more to them than a back end, and volumes that came from an image.

Each function takes the SDK's block storage proxy, which has to be an
administrator's; the embedded Cinder's is.
"""

from collections.abc import Mapping
import typing

if typing.TYPE_CHECKING:
    from openstack.block_storage.v3 import type as types


def plain(proxy: typing.Any, name: str, backend: str | None) -> 'types.Type':
    """Make one of a back end; None: of any, so that a volume can be migrated."""
    extra = {} if backend is None else {'volume_backend_name': backend}
    return proxy.create_type(name=name, extra_specs=extra)


def multiattach(proxy: typing.Any, name: str, backend: str) -> 'types.Type':
    """Make one whose volumes several guests may have."""
    extra = {'volume_backend_name': backend, 'multiattach': '<is> True'}
    return proxy.create_type(name=name, extra_specs=extra)


def encrypted(
    proxy: typing.Any,
    name: str,
    backend: str,
    *,
    provider: str = 'luks',
    cipher: str = 'aes-xts-plain64',
    key_size: int = 256,
) -> 'types.Type':
    """Make one whose volumes the host encrypts; each has a key of its own.

    :param provider: luks, luks2 or plain
    :param key_size: bits
    """
    made = plain(proxy, name, backend)
    proxy.create_type_encryption(
        made,
        provider=provider,
        cipher=cipher,
        key_size=key_size,
        control_location='front-end',
    )
    return made


def limited(
    proxy: typing.Any,
    name: str,
    backend: str,
    specs: Mapping[str, str],
    *,
    consumer: str = 'front-end',
) -> 'types.Type':
    """Make one with QoS specs of the same name.

    :param specs: such as ``{'total_iops_sec': '500'}``
    :param consumer: front-end, back-end or both; only the host sees the first and the last
    """
    made = plain(proxy, name, backend)
    spec = proxy.create_qos_spec(name=name, consumer=consumer, **specs)
    proxy.associate_qos_spec(spec, made.id)
    return made


def make_bootable(proxy: typing.Any, volume: str, metadata: Mapping[str, str]) -> None:
    """Make a volume one as if it had been made from an image.

    :param volume: id
    :param metadata: of the image, such as ``{'hw_disk_bus': 'scsi'}``
    """
    proxy.set_volume_bootable_status(volume, True)
    if metadata:
        proxy.set_volume_image_metadata(volume, **metadata)
