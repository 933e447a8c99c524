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
"""libvirt's ``<disk>`` document, parsed and built by the same class.

Format: https://libvirt.org/formatdomain.html#hard-drives-floppy-disks-cdroms
"""

from volumedrivers.libvirt.disk_address import Address
from volumedrivers.libvirt.disk_source import Auth
from volumedrivers.libvirt.disk_source import AuthSecret
from volumedrivers.libvirt.disk_source import Encryption
from volumedrivers.libvirt.disk_source import EncryptionSecret
from volumedrivers.libvirt.disk_source import Host
from volumedrivers.libvirt.disk_source import Reservations
from volumedrivers.libvirt.disk_source import Slice
from volumedrivers.libvirt.disk_source import Source
from volumedrivers.libvirt.disk_tuning import BlockIO
from volumedrivers.libvirt.disk_tuning import Driver
from volumedrivers.libvirt.disk_tuning import IOTune
from volumedrivers.libvirt.disk_tuning import MetadataCache
from volumedrivers.libvirt.xml_document import Child
from volumedrivers.libvirt.xml_document import Document
from volumedrivers.libvirt.xml_document import Flag
from volumedrivers.libvirt.xml_document import Integer
from volumedrivers.libvirt.xml_document import OnOff
from volumedrivers.libvirt.xml_document import String
from volumedrivers.libvirt.xml_document import YesNo

__all__ = [
    'Address',
    'Auth',
    'AuthSecret',
    'BackingStore',
    'BlockIO',
    'Disk',
    'Driver',
    'Encryption',
    'EncryptionSecret',
    'Format',
    'Geometry',
    'Host',
    'IOTune',
    'MetadataCache',
    'Mirror',
    'Reservations',
    'Slice',
    'Source',
    'Target',
]

TYPES = ('file', 'block', 'dir', 'network', 'volume', 'nvme', 'vhostuser', 'vhostvdpa')


class Target(Document):
    """How the guest sees the disk; dev is only a hint to it."""

    TAG = 'target'
    dev = String('@dev')
    bus = String('@bus')
    tray = String('@tray', choices=('open', 'closed'))
    removable = OnOff('@removable')
    rotation_rate = Integer('@rotation_rate', minimum=1, maximum=65534)  # per minute


class Geometry(Document):
    """Cylinders, heads and sectors, for guests that ask the BIOS."""

    TAG = 'geometry'
    cyls = Integer('@cyls')
    heads = Integer('@heads')
    secs = Integer('@secs')
    trans = String('@trans', choices=('auto', 'none', 'lba'))


class Format(Document):
    """Image format of a backing store or a mirror."""

    TAG = 'format'
    type = String('@type')
    metadata_cache = Child('metadata_cache', lambda: MetadataCache)


class BackingStore(Document):
    """The image below another one; an empty one ends the chain."""

    TAG = 'backingStore'
    type = String('@type', choices=TYPES)
    index = Integer('@index', minimum=1)
    format = Child('format', lambda: Format)
    source = Child('source', lambda: Source)
    backing_store: Child['BackingStore'] = Child('backingStore', lambda: BackingStore)


class Mirror(Document):
    """Where a running block job copies the disk to."""

    TAG = 'mirror'
    type = String('@type', choices=TYPES)
    file = String('@file')  # the older form, beside source
    file_format = String('@format')
    job = String('@job', choices=('copy', 'active-commit'))
    ready = String('@ready', choices=('yes', 'abort', 'pivot'))
    format = Child('format', lambda: Format)
    source = Child('source', lambda: Source)
    backing_store = Child('backingStore', lambda: BackingStore)


class Disk(Document):
    """One ``<disk>`` of a domain.

    auth and encryption are found here as well as in the source; libvirt reads
    both places.  type vhostvdpa is known since libvirt 9.8.
    """

    TAG = 'disk'
    type = String('@type', choices=TYPES)
    device = String('@device', choices=('disk', 'cdrom', 'floppy', 'lun'))
    model = String('@model', choices=('virtio', 'virtio-transitional', 'virtio-non-transitional'))
    rawio = YesNo('@rawio')
    sgio = String('@sgio', choices=('filtered', 'unfiltered'))
    snapshot = String('@snapshot', choices=('no', 'internal', 'external', 'manual'))

    driver = Child('driver', lambda: Driver)
    auth = Child('auth', lambda: Auth)
    source = Child('source', lambda: Source)
    backing_store = Child('backingStore', lambda: BackingStore)
    backend_domain = String('backenddomain/@name')  # Xen
    geometry = Child('geometry', lambda: Geometry)
    blockio = Child('blockio', lambda: BlockIO)
    mirror = Child('mirror', lambda: Mirror)
    target = Child('target', lambda: Target)
    iotune = Child('iotune', lambda: IOTune)
    readonly = Flag('readonly')
    shareable = Flag('shareable')
    transient = Flag('transient')
    share_backing = YesNo('transient/@shareBacking')
    serial = String('serial')
    wwn = String('wwn')
    vendor = String('vendor')
    product = String('product')
    encryption = Child('encryption', lambda: Encryption)
    boot_order = Integer('boot/@order', minimum=1)
    boot_loadparm = String('boot/@loadparm')  # s390
    alias = String('alias/@name')
    acpi_index = Integer('acpi/@index')
    address = Child('address', lambda: Address)

    @property
    def path(self) -> str | None:
        """The file, device or name that the source points at."""
        source = self.source
        if source is None:
            return None
        return source.file or source.dev or source.name or source.dir or source.path
