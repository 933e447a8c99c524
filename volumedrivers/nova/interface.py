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

"""Compare Nova with the one these drivers were written for, and name what differs."""

from collections.abc import Iterator
import inspect
import re
import typing

from nova import version
import nova.conf
import nova.monkey_patch
from nova.virt.libvirt import config
from nova.virt.libvirt import driver as libvirt_driver
from nova.virt.libvirt.volume import fs
from nova.virt.libvirt.volume import volume

from volumedrivers import exception
from volumedrivers.nova import options

# How Nova calls a volume driver, and what calls it.
_SIGNATURES: tuple[tuple[type, str, str], ...] = (
    (volume.LibvirtBaseVolumeDriver, '__init__', '(self, host, is_block_dev)'),
    (volume.LibvirtBaseVolumeDriver, 'connect_volume', '(self, connection_info, instance)'),
    (
        volume.LibvirtBaseVolumeDriver,
        'disconnect_volume',
        '(self, connection_info, instance, force=False)',
    ),
    (
        volume.LibvirtBaseVolumeDriver,
        'extend_volume',
        '(self, connection_info, instance, requested_size)',
    ),
    (volume.LibvirtBaseVolumeDriver, 'get_config', '(self, connection_info, disk_info)'),
    (fs.LibvirtMountedFileSystemVolumeDriver, '__init__', '(self, host, fstype)'),
    (libvirt_driver.LibvirtDriver, '_get_volume_driver', '(self, connection_info)'),
    (
        libvirt_driver.LibvirtDriver,
        '_connect_volume',
        '(self, context, connection_info, instance, encryption=None)',
    ),
    (
        libvirt_driver.LibvirtDriver,
        '_disconnect_volume',
        '(self, context, connection_info, instance, encryption=None, destroy_secrets=True, '
        'force=False)',
    ),
    (
        libvirt_driver.LibvirtDriver,
        '_should_disconnect_target',
        '(self, context, instance, multiattach, vol_driver, volume_id)',
    ),
    (
        libvirt_driver.LibvirtDriver,
        '_extend_volume',
        '(self, connection_info, instance, requested_size)',
    ),
    (libvirt_driver.LibvirtDriver, '_get_volume_config', '(self, connection_info, disk_info)'),
    (libvirt_driver.LibvirtDriver, '_set_cache_mode', '(self, conf)'),
    (libvirt_driver.LibvirtDriver, '_uri', '()'),
)
# What some releases have: they say whose volume it is, for a guest whose memory is encrypted.
_ALSO = {'_get_volume_config': '(self, instance, connection_info, disk_info)'}
# What is set on Nova's objects.
_ATTRIBUTES: tuple[tuple[typing.Callable[[], object], tuple[str, ...]], ...] = (
    (
        config.LibvirtConfigGuestDisk,
        (
            'alias',
            'auth_secret_type',
            'auth_secret_uuid',
            'auth_username',
            'boot_order',
            'device_addr',
            'disk_total_bytes_sec',
            'driver_cache',
            'driver_discard',
            'driver_format',
            'driver_io',
            'driver_name',
            'format_dom',
            'logical_block_size',
            'physical_block_size',
            'readonly',
            'serial',
            'shareable',
            'source_device',
            'source_hosts',
            'source_name',
            'source_path',
            'source_ports',
            'source_protocol',
            'source_type',
            'target_bus',
            'target_dev',
            'volume_encryption',
        ),
    ),
    (config.LibvirtConfigGuestDiskEncryption, ('format', 'secret')),
    (config.LibvirtConfigGuestDiskEncryptionSecret, ('type', 'uuid')),
    (config.LibvirtConfigGuestDeviceAddressDrive, ('controller', 'unit')),
)


def check() -> None:
    """Refuse a Nova that is not known.

    :raises NovaUnknown: names everything that differs
    """
    found = tuple(differences())
    if found:
        raise exception.NovaUnknown(version=version_of_nova(), differences='; '.join(found))


def version_of_nova() -> str:
    """Return what Nova calls itself."""
    return str(version.version_string())


def differences() -> Iterator[str]:
    """Yield what differs from the Nova that these drivers were written for."""
    yield from _of_registry()
    for owner, name, expected in _SIGNATURES:
        method = getattr(owner, name, None)
        where = f'{owner.__module__}.{owner.__name__}.{name}'
        if method is None:
            yield f'{where} is missing; expected {name}{expected}'
            continue
        found = _shown(inspect.signature(method))
        if found not in (expected, _ALSO.get(name)):
            yield f'{where}{found} is not {name}{expected}'
    for make, names in _ATTRIBUTES:
        made = make()
        missing = [name for name in names if not hasattr(made, name)]
        if missing:
            yield f'{type(made).__name__} has no attribute {", ".join(missing)}'
    yield from _of_counting()
    yield from _of_options()
    if nova.monkey_patch.is_patched():
        yield (
            'it runs on eventlet, in whose threads no call has a deadline; expected native '
            'threads ([DEFAULT] concurrency_backend = threading; before Nova 34 '
            'OS_NOVA_DISABLE_EVENTLET_PATCHING=true in the environment)'
        )


def _of_registry() -> Iterator[str]:
    registry = getattr(libvirt_driver, 'VOLUME_DRIVERS', None)
    if not isinstance(registry, dict) or not all(
        isinstance(name, str) and isinstance(path, str) for name, path in registry.items()
    ):
        yield (
            'nova.virt.libvirt.driver.VOLUME_DRIVERS is no table of dotted names by '
            'driver_volume_type'
        )


class _Mounted(fs.LibvirtMountedFileSystemVolumeDriver):  # type: ignore[misc]
    """What Nova should leave the counting to."""

    def __init__(self) -> None:
        """Nothing of it is asked but its class."""

    def _get_mount_point_base(self) -> str:
        return ''

    def _mount_options(self, connection_info: object) -> list[str]:
        return []


def _of_counting() -> Iterator[str]:
    """Ask Nova's own function, with nothing at hand from which it could count."""
    decide = getattr(libvirt_driver.LibvirtDriver, '_should_disconnect_target', None)
    try:
        leaves_it = decide is not None and decide(None, None, None, True, _Mounted(), 'volume')
    except (AttributeError, TypeError):
        leaves_it = False
    if leaves_it is not True:
        yield (
            'LibvirtDriver._should_disconnect_target does not leave it to a driver of mounted '
            'file systems who still uses a volume'
        )


def _of_options() -> Iterator[str]:
    groups = (
        ('libvirt', nova.conf.CONF.libvirt, (*options.OF_LIBVIRT, 'connection_uri')),
        ('DEFAULT', nova.conf.CONF, (*options.OF_DEFAULT, 'state_path')),
    )
    for group, values, names in groups:
        missing = [name for name in names if name not in values]
        if missing:
            yield f'group [{group}] has no option {", ".join(missing)}'


def _shown(signature: inspect.Signature) -> str:
    plain = signature.replace(
        parameters=[
            parameter.replace(annotation=inspect.Parameter.empty)
            for parameter in signature.parameters.values()
        ],
        return_annotation=inspect.Signature.empty,
    )
    return re.sub(r'\s+', ' ', str(plain))
