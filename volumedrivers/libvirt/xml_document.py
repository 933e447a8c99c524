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

"""Declare an XML element once; parse and build it with the same class.

For example::

    class Target(Document):
        TAG = 'target'
        dev = String('@dev')
        removable = OnOff('@removable')

    Target(dev='vda').to_xml()                    # <target dev="vda"/>
    Target.parse('<target dev="vda"/>').dev       # 'vda'

A document holds its element and its declared fields are views of it.  So what
a class does not declare is not lost: it is there, in its place, when a parsed
document is built again.  A field that is not there reads as None.

Where a field is in the element is written as a short path: ``@dev`` is an
attribute, ``serial`` the text of a child, ``.`` the element's own text and
``alias/@name`` an attribute of a child.  New children are placed in the order
in which the fields are declared.

A value is checked when it is set: type, range, choices, and whether XML can
hold it.  What is parsed is checked for type only: a word that is not among
the choices is one that a newer libvirt knows, and is kept.
"""

from collections.abc import Callable
from collections.abc import Iterable
import copy
import typing

from lxml import etree

from volumedrivers import exception
from volumedrivers.libvirt.xml_field import Field
from volumedrivers.libvirt.xml_field import Flag
from volumedrivers.libvirt.xml_field import Integer
from volumedrivers.libvirt.xml_field import OnOff
from volumedrivers.libvirt.xml_field import String
from volumedrivers.libvirt.xml_field import YesNo
from volumedrivers.libvirt.xml_field import inside
from volumedrivers.libvirt.xml_field import place

__all__ = [
    'Child',
    'Children',
    'Document',
    'Field',
    'Flag',
    'Integer',
    'OnOff',
    'String',
    'YesNo',
]

T = typing.TypeVar('T')
D = typing.TypeVar('D', bound='Document')


class _Part(Field[T], typing.Generic[T, D]):
    def __init__(self, path: str, kind: Callable[[], type[D]]) -> None:
        super().__init__(path)
        self._kind = kind

    @property
    def kind(self) -> type[D]:
        """The class of the part."""
        return self._kind()

    def _own(self, part: object, element: etree._Element) -> etree._Element:
        kind = self._kind()
        if not isinstance(part, kind):
            raise self.invalid(element, part, kind.__name__)
        own = part.element
        # A part of another document stays there; this one gets a copy.
        return own if own.getparent() is None else copy.deepcopy(own)


class Child(_Part[D, D]):
    """A part that is a document of its own.

    :param kind: a function that returns its class, so that a class can be
        named before it is made
    """

    def read(self, element: etree._Element) -> D | None:
        """Return the part as a view: changing it changes this document."""
        holder = inside(element, self._parents)
        return None if holder is None else self._kind().view(holder)

    def write(self, document: 'Document', value: object) -> None:
        """Put the part in, in place of the one that was there."""
        element = document.element
        new = None if value is None else self._own(value, element)
        old = next(element.iterchildren(self.path), None)
        if new is None:
            if old is not None:
                element.remove(old)
        elif old is None:
            place(element, new, document.ORDER)
        elif old is not new:
            element.replace(old, new)


class Children(_Part[tuple[D, ...], D]):
    """All children of one tag, in their order; empty when there is none.

    ``slices/slice`` puts them in an element of their own.
    """

    @typing.overload
    def __get__(self, document: None, owner: type) -> typing.Self: ...

    @typing.overload
    def __get__(self, document: 'Document', owner: type) -> tuple[D, ...]: ...

    def __get__(self, document: 'Document | None', owner: type) -> typing.Self | tuple[D, ...]:
        if document is None:
            return self
        return self.read(document.element)

    def __set__(self, document: 'Document', value: Iterable[D] | None) -> None:
        self.write(document, value)

    def read(self, element: etree._Element) -> tuple[D, ...]:
        """Return them as views: changing one changes this document."""
        holder = inside(element, self._parents[:-1])
        if holder is None:
            return ()
        kind, tag = self._kind(), self._parents[-1]
        return tuple(kind.view(child) for child in holder.iterchildren(tag))

    def write(self, document: 'Document', value: object) -> None:
        """Replace all of them."""
        element = document.element
        if value is None:
            value = ()
        if isinstance(value, str | bytes | Document) or not isinstance(value, Iterable):
            raise self.invalid(element, value, 'a list')
        new: list[etree._Element] = []
        for part in value:
            own = self._own(part, element)
            new.append(copy.deepcopy(own) if any(own is other for other in new) else own)
        *parents, tag = self._parents
        holder, order = element, document.ORDER
        for parent in parents:
            child = next(holder.iterchildren(parent), None)
            if child is None:
                if not new:
                    return
                child = place(holder, etree.Element(parent), order)
            holder, order = child, {}
        for old in list(holder.iterchildren(tag)):
            holder.remove(old)
        for own in new:
            place(holder, own, order)
        if not new and parents and not len(holder) and not holder.attrib:
            element.remove(holder)


class Document:
    """An XML element with typed attributes and children.

    Made from keyword arguments, one a declared field; a name that is not
    declared is a TypeError.  Equal when both elements say the same, whatever
    the order of differently named children.

    :ivar element: the element itself, for what no field is declared
    """

    TAG: typing.ClassVar[str] = ''
    FIELDS: typing.ClassVar[typing.Mapping[str, Field[typing.Any]]] = {}
    ORDER: typing.ClassVar[typing.Mapping[str, int]] = {}
    FLAGS: typing.ClassVar[frozenset[str]] = frozenset()

    element: etree._Element

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        fields = dict(cls.FIELDS)
        fields.update(
            (name, field) for name, field in vars(cls).items() if isinstance(field, Field)
        )
        cls.FIELDS = fields
        tags = dict.fromkeys(field.first for field in fields.values() if field.first)
        cls.ORDER = {tag: position for position, tag in enumerate(tags)}
        cls.FLAGS = frozenset(f.path for f in fields.values() if isinstance(f, Flag))

    def __init__(self, **given: object) -> None:
        self.element = etree.Element(self.TAG)
        for name, field in self.FIELDS.items():
            if name in given:
                field.write(self, given.pop(name))
        if given:
            raise TypeError(f'{type(self).__name__} has no field {", ".join(sorted(given))}')

    def __setattr__(self, name: str, value: object) -> None:
        # Without this a misspelt field would be set and never written.
        if name != 'element' and not hasattr(type(self), name):
            raise AttributeError(f'{type(self).__name__} has no field {name}')
        super().__setattr__(name, value)

    @classmethod
    def view(cls, element: etree._Element) -> typing.Self:
        """Return a document that is this very element, unchecked."""
        document = cls.__new__(cls)
        document.element = element
        return document

    @classmethod
    def parse(cls, xml: str | bytes | etree._Element) -> typing.Self:
        """Read the element.

        :raises InvalidDocument: not well-formed, another element, a value
            that is not of its type, a document type declaration
        """
        element = copy.deepcopy(xml) if isinstance(xml, etree._Element) else cls._read(xml)
        if element.tag != cls.TAG:
            raise exception.InvalidDocument(
                element=cls.TAG, where='.', found=f'<{element.tag}>', expected=f'<{cls.TAG}>'
            )
        _tidy(element)
        cls.check(element)
        return cls.view(element)

    @classmethod
    def _read(cls, xml: str | bytes) -> etree._Element:
        # A parser a call: they are cheap, and threads need not wait for one.
        parser = etree.XMLParser(
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            dtd_validation=False,
            huge_tree=False,
            remove_comments=True,
            remove_pis=True,
        )
        try:
            element = etree.fromstring(xml, parser)
        except (etree.XMLSyntaxError, ValueError) as error:
            raise exception.InvalidDocument(
                element=cls.TAG,
                where='.',
                found=f'not XML ({error})',
                expected='a well-formed element',
            ) from error
        tree: typing.Any = element.getroottree()
        if tree.docinfo.doctype:
            raise exception.InvalidDocument(
                element=cls.TAG, where='.', found='a document type declaration', expected='none'
            )
        return element

    @classmethod
    def check(cls, element: etree._Element) -> None:
        """Read every declared field once.

        :raises InvalidDocument: a value is not of its type
        """
        for field in cls.FIELDS.values():
            value = field.read(element)
            if isinstance(value, Document):
                value.check(value.element)
            elif isinstance(value, tuple):
                for part in value:
                    part.check(part.element)

    def build(self) -> etree._Element:
        """Return a new element, which has no parent and may be changed."""
        return copy.deepcopy(self.element)

    def to_xml(self) -> str:
        """Return the element as text, indented."""
        text: str = etree.tostring(
            self.element, encoding='unicode', pretty_print=True, with_tail=False
        )
        return text.rstrip('\n')

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return _content(self.element) == _content(other.element)

    # Documents can be changed.
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        given = []
        for name, field in self.FIELDS.items():
            value = field.read(self.element)
            absent = value is None or value == () or (isinstance(field, Flag) and not value)
            if not absent:
                given.append(f'{name}={"***" if field.secret else repr(value)}')
        return f'{type(self).__name__}({", ".join(given)})'

    def __copy__(self) -> typing.Self:
        return self.view(self.build())

    def __deepcopy__(self, memo: object) -> typing.Self:
        return self.view(self.build())

    def __reduce__(self) -> tuple[object, ...]:
        return type(self).parse, (etree.tostring(self.element, with_tail=False),)


def _tidy(element: etree._Element) -> None:
    """Take out comments and the blanks between elements."""
    etree.strip_tags(element, etree.Comment, etree.ProcessingInstruction)
    element.tail = None
    for node in element.iter():
        if not isinstance(node.tag, str):
            raise exception.InvalidDocument(
                element=str(element.tag), where='.', found='an entity', expected='text'
            )
        if len(node):
            if node.text is not None and not node.text.strip():
                node.text = None
            for child in node:
                if child.tail is not None and not child.tail.strip():
                    child.tail = None


def _content(element: etree._Element) -> tuple[object, ...]:
    parts: dict[str, list[object]] = {}
    for child in element:
        parts.setdefault(child.tag, []).append(_content(child))
    attributes = dict(element.items())
    return (element.tag, attributes, element.text or '', parts)
