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
import re
import typing

from lxml import etree

from volumedrivers import exception

T = typing.TypeVar('T')
D = typing.TypeVar('D', bound='Document')

# XML 1.0, section 2.2, production Char: all but these.
_NO_XML = re.compile('[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]')


def _inside(element: etree._Element, tags: tuple[str, ...]) -> etree._Element | None:
    for tag in tags:
        child = next(element.iterchildren(tag), None)
        if child is None:
            return None
        element = child
    return element


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f'{text[:77]}...'


class Field(typing.Generic[T]):
    """A typed value at one place of an element; the base of all of them."""

    expected: typing.ClassVar[str] = 'text'

    def __init__(self, path: str, *, secret: bool = False) -> None:
        *parents, leaf = path.split('/')
        self.path = path
        self.secret = secret
        self.name = ''
        self._attribute = leaf[1:] if leaf.startswith('@') else None
        if self._attribute is None and leaf != '.':
            parents.append(leaf)
        self._parents = tuple(parents)

    @property
    def first(self) -> str | None:
        """Tag of the direct child the value is in; None: it is in the element itself."""
        return self._parents[0] if self._parents else None

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @typing.overload
    def __get__(self, document: None, owner: type) -> typing.Self: ...

    @typing.overload
    def __get__(self, document: 'Document', owner: type) -> T | None: ...

    def __get__(self, document: 'Document | None', owner: type) -> typing.Self | T | None:
        if document is None:
            return self
        return self.read(document.element)

    def __set__(self, document: 'Document', value: T | None) -> None:
        self.write(document, value)

    def read(self, element: etree._Element) -> T | None:
        """Return the value; None when it is not there.

        :raises InvalidDocument: it is there, but not of this type
        """
        holder = _inside(element, self._parents)
        if holder is None:
            return None
        if self._attribute is not None:
            text = holder.get(self._attribute)
        elif holder is element:
            text = holder.text
        else:
            text = holder.text or ''
        return None if text is None else self.from_text(text, element)

    def write(self, document: 'Document', value: object) -> None:
        """Set the value; None takes it away.

        :raises InvalidDocument: not of this type, or not one XML can hold
        """
        element = document.element
        if value is None:
            self._remove(element, document.FLAGS)
            return
        text = self.to_text(value, element)
        holder = element
        order = document.ORDER
        for tag in self._parents:
            child = next(holder.iterchildren(tag), None)
            holder = place(holder, etree.Element(tag), order) if child is None else child
            order = {}
        if self._attribute is None:
            # An empty text would be written as two tags, and read as none.
            holder.text = text or None
        else:
            holder.set(self._attribute, text)

    def _remove(self, element: etree._Element, keep: frozenset[str]) -> None:
        holders = [element]
        for tag in self._parents:
            child = next(holders[-1].iterchildren(tag), None)
            if child is None:
                return
            holders.append(child)
        if self._attribute is None:
            holders[-1].text = None
        else:
            holders[-1].attrib.pop(self._attribute, '')
        while len(holders) > 1:
            holder = holders.pop()
            if len(holder) or holder.attrib or holder.text or holder.tag in keep:
                return
            holders[-1].remove(holder)

    def from_text(self, text: str, element: etree._Element) -> T:
        """Read the text found in a document."""
        raise self.invalid(element, text)

    def to_text(self, value: object, element: etree._Element) -> str:
        """Return the text to write, or refuse the value."""
        if not isinstance(value, str):
            raise self.invalid(element, value)
        # isprintable is the cheap test that nearly every value passes.
        if not value.isprintable() and _NO_XML.search(value):
            raise self.invalid(element, value, 'characters that XML 1.0 can hold')
        return value

    def invalid(
        self, element: etree._Element, found: object, expected: str | None = None
    ) -> exception.InvalidDocument:
        """Return the error for a value that is not wanted."""
        return exception.InvalidDocument(
            element=str(element.tag),
            where=self.path,
            found='a secret value' if self.secret else _shown(found),
            expected=expected or self.expected,
        )


class String(Field[str]):
    """Text.

    :param choices: the only words that may be set
    :param secret: never shown in repr and errors
    """

    def __init__(
        self, path: str, *, choices: Iterable[str] | None = None, secret: bool = False
    ) -> None:
        super().__init__(path, secret=secret)
        self.choices = None if choices is None else tuple(choices)

    def from_text(self, text: str, element: etree._Element) -> str:
        """Return it as it is."""
        return text

    def to_text(self, value: object, element: etree._Element) -> str:
        """Return it as it is if it is allowed."""
        if self.choices is not None and value not in self.choices:
            raise self.invalid(element, value, f'one of {", ".join(self.choices)}')
        return super().to_text(value, element)


class Integer(Field[int]):
    """A whole number; decimal, or hexadecimal with 0x as in PCI addresses.

    May be set from a number or from its text; a text is written as given.

    :param minimum: the smallest that may be set
    :param maximum: the largest that may be set
    """

    expected = 'a whole number'

    def __init__(self, path: str, *, minimum: int = 0, maximum: int | None = None) -> None:
        super().__init__(path)
        self.minimum = minimum
        self.maximum = maximum

    def __set__(self, document: 'Document', value: int | str | None) -> None:
        self.write(document, value)

    def from_text(self, text: str, element: etree._Element) -> int:
        """Return the number."""
        # int() would also take underscores, blanks and other scripts' digits, and
        # raises an error of its own for thousands of digits.
        if re.fullmatch(r'[-+]?[0-9]{1,40}', text):
            return int(text)
        if re.fullmatch(r'0[xX][0-9a-fA-F]{1,40}', text):
            return int(text, 16)
        raise self.invalid(element, text)

    def to_text(self, value: object, element: etree._Element) -> str:
        """Return its digits."""
        if isinstance(value, int) and not isinstance(value, bool):
            number, text = value, str(value)
        elif isinstance(value, str):
            number, text = self.from_text(value, element), value
        else:
            raise self.invalid(element, value)
        if number < self.minimum:
            raise self.invalid(element, value, f'at least {self.minimum}')
        if self.maximum is not None and number > self.maximum:
            raise self.invalid(element, value, f'at most {self.maximum}')
        return text


class _Switch(Field[bool]):
    words: typing.ClassVar[tuple[str, str]]

    def from_text(self, text: str, element: etree._Element) -> bool:
        """Return True for the first word, False for the second."""
        if text not in self.words:
            raise self.invalid(element, text)
        return text == self.words[0]

    def to_text(self, value: object, element: etree._Element) -> str:
        """Return the word."""
        if not isinstance(value, bool):
            raise self.invalid(element, value)
        return self.words[0] if value else self.words[1]


class YesNo(_Switch):
    """A bool written yes or no."""

    words = ('yes', 'no')
    expected = 'yes or no'


class OnOff(_Switch):
    """A bool written on or off."""

    words = ('on', 'off')
    expected = 'on or off'


class Flag(Field[bool]):
    """True when the child is there, False when it is not."""

    expected = 'True or False'

    @typing.overload
    def __get__(self, document: None, owner: type) -> typing.Self: ...

    @typing.overload
    def __get__(self, document: 'Document', owner: type) -> bool: ...

    def __get__(self, document: 'Document | None', owner: type) -> typing.Self | bool:
        if document is None:
            return self
        return self.read(document.element)

    def read(self, element: etree._Element) -> bool:
        """Look whether the child is there."""
        return next(element.iterchildren(self.path), None) is not None

    def write(self, document: 'Document', value: object) -> None:
        """Add the child, or remove it with everything in it."""
        if value is not None and not isinstance(value, bool):
            raise self.invalid(document.element, value)
        found = next(document.element.iterchildren(self.path), None)
        if value and found is None:
            place(document.element, etree.Element(self.path), document.ORDER)
        elif not value and found is not None:
            document.element.remove(found)


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
        holder = _inside(element, self._parents)
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
        holder = _inside(element, self._parents[:-1])
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


def place(
    holder: etree._Element, child: etree._Element, order: typing.Mapping[str, int]
) -> etree._Element:
    """Insert a child before those that are declared after it."""
    last = len(order)
    mine = order.get(child.tag, last)
    if not len(holder) or order.get(holder[-1].tag, last) <= mine:
        holder.append(child)
        return child
    # What is not declared stays behind the one it was behind.
    for position, other in enumerate(holder):
        if order.get(other.tag, mine) > mine:
            holder.insert(position, child)
            return child
    holder.append(child)
    return child


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
