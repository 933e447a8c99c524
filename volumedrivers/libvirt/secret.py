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
"""libvirt's ``<secret>`` document; the value itself is never in it.

Format: https://libvirt.org/formatsecret.html
"""

import typing

from volumedrivers.libvirt.xml_document import Child
from volumedrivers.libvirt.xml_document import Document
from volumedrivers.libvirt.xml_document import String
from volumedrivers.libvirt.xml_document import YesNo

# Which element holds the id of a usage, by its type.
_ID_FIELDS: typing.Final = {
    'volume': 'volume',
    'ceph': 'name',
    'iscsi': 'target',
    'tls': 'name',
    'vtpm': 'name',
}


class Usage(Document):
    """What the secret is for; the element with its id depends on the type."""

    TAG = 'usage'
    type = String('@type', choices=tuple(_ID_FIELDS))
    volume = String('volume')
    name = String('name')
    target = String('target')

    @classmethod
    def of(cls, usage_type: str, usage_id: str) -> typing.Self:
        """Return the usage of a type, its id in the element that type has.

        :param usage_type: volume, ceph, iscsi, tls or vtpm
        :param usage_id: what libvirt finds the secret by, beside its UUID
        :raises InvalidDocument: no such type
        """
        usage = cls(type=usage_type)
        setattr(usage, _ID_FIELDS[usage_type], usage_id)
        return usage

    @property
    def id(self) -> str | None:
        """What libvirt finds the secret by, beside its UUID."""
        return self.volume or self.name or self.target


class Secret(Document):
    """A secret as libvirt defines it; ephemeral ones are not written to disk."""

    TAG = 'secret'
    ephemeral = YesNo('@ephemeral')
    private = YesNo('@private')

    uuid = String('uuid')
    description = String('description')
    usage = Child('usage', lambda: Usage)
