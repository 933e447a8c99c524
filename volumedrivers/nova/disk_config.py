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

"""Nova's object of a guest's disk, filled from this package's document.

Nova's driver goes on to set attributes of the object, cache mode and others,
and formats it; so its attributes count.  What Nova's class has no attribute
for, such as queues or an I/O thread, is added when it is formatted.
"""

import copy
import typing

from lxml import etree
from nova.virt.libvirt import config

from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.disk import Encryption
from volumedrivers.libvirt.disk import IOTune

# What Nova's class formats itself: attributes by element, and children.
_OWN_ATTRIBUTES = {
    'disk': frozenset(('type', 'device')),
    'driver': frozenset(('name', 'type', 'cache', 'discard', 'io')),
    'source': frozenset(('file', 'dev', 'dir', 'protocol', 'name')),
    'target': frozenset(('dev', 'bus')),
    'encryption': frozenset(('format',)),
    'blockio': frozenset(('logical_block_size', 'physical_block_size')),
}
_LIMITS = tuple(
    name for name in IOTune.FIELDS if name != 'group_name' and not name.endswith('_length')
)
_OWN_CHILDREN = {
    'disk': frozenset(
        (
            'address',
            'alias',
            'auth',
            'blockio',
            'boot',
            'driver',
            'encryption',
            'iotune',
            'readonly',
            'serial',
            'shareable',
            'source',
            'target',
        )
    ),
    'source': frozenset(('host',)),
    'iotune': frozenset(_LIMITS),
    'encryption': frozenset(('secret',)),
}


class GuestDisk(config.LibvirtConfigGuestDisk):  # type: ignore[misc]
    """A disk whose document may say more than Nova's attributes can."""

    def __init__(self, document: Disk) -> None:
        super().__init__()
        self.document = document

    def format_dom(self) -> typing.Any:
        """Return Nova's element, with what only the document says."""
        element = super().format_dom()
        _add(element, etree.fromstring(self.document.to_xml()))
        return element


def make(document: Disk, serial: str | None) -> GuestDisk:
    """Return Nova's object for a document.

    :param serial: as Cinder gave it; Nova reads it also of a disk that shows
        none to the guest
    """
    disk = GuestDisk(document)
    disk.source_type = document.type
    disk.source_device = document.device
    disk.serial = serial
    disk.alias = document.alias
    disk.readonly = bool(document.readonly)
    disk.shareable = bool(document.shareable)
    disk.boot_order = None if document.boot_order is None else str(document.boot_order)
    _fill_driver(disk, document)
    _fill_source(disk, document)
    if document.target is not None:
        disk.target_dev = document.target.dev
        disk.target_bus = document.target.bus
    if document.blockio is not None:
        disk.logical_block_size = _text(document.blockio.logical_block_size)
        disk.physical_block_size = _text(document.blockio.physical_block_size)
    if document.iotune is not None:
        for name in _LIMITS:
            setattr(disk, f'disk_{name}', getattr(document.iotune, name))
    if document.address is not None:
        disk.device_addr = config.LibvirtConfigGuestDeviceAddressDrive()
        disk.device_addr.controller = document.address.controller
        disk.device_addr.unit = document.address.unit
    if document.encryption is not None:
        disk.volume_encryption = _encryption(document.encryption)
    return disk


def _fill_driver(disk: GuestDisk, document: Disk) -> None:
    driver = document.driver
    if driver is None:
        return
    disk.driver_name = driver.name
    disk.driver_format = driver.type
    disk.driver_cache = driver.cache
    disk.driver_discard = driver.discard
    disk.driver_io = driver.io


def _fill_source(disk: GuestDisk, document: Disk) -> None:
    source = document.source
    if source is None:
        return
    disk.source_path = source.file or source.dev
    disk.source_protocol = source.protocol
    disk.source_name = source.name
    disk.source_hosts = [host.name for host in source.hosts]
    disk.source_ports = [_text(host.port) for host in source.hosts]
    auth = document.auth
    if auth is not None and auth.secret is not None:
        disk.auth_username = auth.username
        disk.auth_secret_type = auth.secret.type
        disk.auth_secret_uuid = auth.secret.uuid


def _encryption(encryption: Encryption) -> typing.Any:
    made = config.LibvirtConfigGuestDiskEncryption()
    made.format = encryption.format
    made.secret = config.LibvirtConfigGuestDiskEncryptionSecret()
    made.secret.type = encryption.secrets[0].type
    made.secret.uuid = encryption.secrets[0].uuid
    return made


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _add(element: typing.Any, ours: typing.Any) -> None:
    """Add to Nova's element what its class does not format."""
    tag = str(element.tag)
    for name, value in ours.attrib.items():
        if name not in _OWN_ATTRIBUTES.get(tag, ()) and element.get(name) is None:
            element.set(name, value)
    for child in ours:
        if child.tag not in _OWN_CHILDREN.get(tag, ()):
            element.append(copy.deepcopy(child))
            continue
        same = element.find(child.tag)
        if same is not None and child.tag in (*_OWN_ATTRIBUTES, *_OWN_CHILDREN):
            _add(same, child)
