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
"""libvirt's ``<domainsnapshot>`` document.

Format: https://libvirt.org/formatsnapshot.html
"""

from volumedrivers.libvirt.disk_source import Source
from volumedrivers.libvirt.disk_tuning import MetadataCache
from volumedrivers.libvirt.xml_document import Child
from volumedrivers.libvirt.xml_document import Children
from volumedrivers.libvirt.xml_document import Document
from volumedrivers.libvirt.xml_document import String


class SnapshotDriver(Document):
    """Format of the new image."""

    TAG = 'driver'
    type = String('@type')
    metadata_cache = Child('metadata_cache', lambda: MetadataCache)


class SnapshotDisk(Document):
    """What happens to one disk; name is its target, such as vda.

    With snapshot external, source is the new image the guest writes to.
    """

    TAG = 'disk'
    name = String('@name')
    snapshot = String('@snapshot', choices=('no', 'internal', 'external', 'manual'))
    type = String('@type', choices=('file', 'block', 'network'))

    driver = Child('driver', lambda: SnapshotDriver)
    source = Child('source', lambda: Source)


class Snapshot(Document):
    """A snapshot of a domain; a disk that is not named is taken as libvirt likes."""

    TAG = 'domainsnapshot'
    name = String('name')
    description = String('description')
    memory = String('memory/@snapshot', choices=('no', 'internal', 'external'))
    memory_file = String('memory/@file')
    disks = Children('disks/disk', lambda: SnapshotDisk)
