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
"""Where a device is in the machine."""

from volumedrivers.libvirt.xml_document import Document
from volumedrivers.libvirt.xml_document import Integer
from volumedrivers.libvirt.xml_document import OnOff
from volumedrivers.libvirt.xml_document import String


class Address(Document):
    """A device's address in the guest, or an NVMe device's on the host.

    type says which of the others count: drive (controller, bus, target,
    unit), pci (domain, bus, slot, function, multifunction), ccw (cssid,
    ssid, devno), usb (bus, port), virtio-mmio (none).
    """

    TAG = 'address'
    type = String('@type')
    controller = Integer('@controller')
    domain = Integer('@domain')
    bus = Integer('@bus')
    slot = Integer('@slot')
    function = Integer('@function')
    multifunction = OnOff('@multifunction')
    target = Integer('@target')
    unit = Integer('@unit')
    port = String('@port')  # 1.2 is port 2 of the hub in port 1
    cssid = Integer('@cssid')
    ssid = Integer('@ssid')
    devno = Integer('@devno')
    reg = Integer('@reg')  # spapr-vio
