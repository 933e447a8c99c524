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

"""Declare an XML element once; parse and build it with the same class."""

import typing

from lxml import etree


class Document:
    """An XML element with typed attributes and children."""

    @classmethod
    def parse(cls, xml: str | bytes | etree._Element) -> typing.Self:
        """Read the element.

        :raises InvalidDocument: not well-formed, another element, an
            impossible value
        """
        raise NotImplementedError

    def build(self) -> etree._Element:
        """Return a new element.

        :raises InvalidDocument: a value that XML or libvirt cannot take
        """
        raise NotImplementedError

    def to_xml(self) -> str:
        """Return the element as text, indented."""
        raise NotImplementedError
