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

"""Typed values at places of an XML element; see xml_document for their use."""

from collections.abc import Iterable
import re
import typing

from lxml import etree

from volumedrivers import exception

if typing.TYPE_CHECKING:
    from volumedrivers.libvirt.xml_document import Document

T = typing.TypeVar('T')

# XML 1.0, section 2.2, production Char: all but these.
_NO_XML = re.compile('[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]')


def inside(element: etree._Element, tags: tuple[str, ...]) -> etree._Element | None:
    """Go down from child to child; None where there is no such child."""
    for tag in tags:
        child = next(element.iterchildren(tag), None)
        if child is None:
            return None
        element = child
    return element


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f'{text[:77]}...'


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
        holder = inside(element, self._parents)
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
