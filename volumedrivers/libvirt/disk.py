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

from volumedrivers.libvirt.xml_document import Document


class Disk(Document):
    """One ``<disk>`` of a domain.

    Attributes are declared one line each (see xml_document); the nested parts
    are documents of their own: driver, source (with hosts, auth, encryption,
    reservations, slices, reconnect, initiator), target, iotune, blockio,
    address, alias, encryption, backing_store, mirror.
    """
