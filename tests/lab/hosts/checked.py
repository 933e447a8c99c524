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

"""A YAML file whose every key is asked for; what is wrong is told by file and key."""

from collections.abc import Iterator
from collections.abc import Sequence
import pathlib
import re
import typing

import yaml

_SIZE = re.compile(r'(?P<number>[0-9]+) (?P<unit>[KMGT]iB)')
_UNITS = {'KiB': 1 << 10, 'MiB': 1 << 20, 'GiB': 1 << 30, 'TiB': 1 << 40}
_WORDS = {str: 'a text', int: 'a whole number', bool: 'true or false', dict: 'a mapping'}

_NEEDED: typing.Any = object()


class DescriptionError(Exception):
    """A file that describes a host is not as it has to be.

    :ivar path: of the file
    :ivar key: such as ``rows[0].volumes[1].size``; empty: the whole file
    :ivar problem: what is wrong
    """

    def __init__(self, path: pathlib.Path, key: str, problem: str) -> None:
        self.path = path
        self.key = key
        self.problem = problem
        super().__init__(f'{path}: {key}: {problem}' if key else f'{path}: {problem}')


class Section:
    """A mapping of the file; keys that nobody has taken are wrong in the end.

    :param key: where it is
    """

    def __init__(self, path: pathlib.Path, key: str, content: typing.Any) -> None:
        self.path = path
        self.key = key
        if not isinstance(content, dict):
            raise DescriptionError(path, key, f'is {_said(content)}, not a mapping')
        self._content = content
        self._taken: set[str] = set()

    def wrong(self, key: str, problem: str) -> DescriptionError:
        """Return the error of a key here."""
        return DescriptionError(self.path, self._place(key), problem)

    def take(self, key: str, kind: type, default: typing.Any = _NEEDED) -> typing.Any:
        """Return the value of a key.

        :raises DescriptionError: it is not of this kind, or missing without a default
        """
        self._taken.add(key)
        if key not in self._content:
            if default is _NEEDED:
                raise self.wrong(key, f'is missing; it has to be {_WORDS[kind]}')
            return default
        value = self._content[key]
        # True is a number to Python, and to nobody else.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.wrong(key, f'is {_said(value)}, not {_WORDS[kind]}')
        return value

    def choice(self, key: str, allowed: Sequence[str]) -> str:
        """Return one of these; the first if the key is missing."""
        value: str = self.take(key, str, allowed[0])
        if value not in allowed:
            raise self.wrong(key, f'{value!r} is none of: {", ".join(allowed)}')
        return value

    def strings(self, key: str, *, needed: bool = False) -> tuple[str, ...]:
        """Return a list of texts; an empty one if the key is missing."""
        self._taken.add(key)
        value = self._content.get(key, [])
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self.wrong(key, 'has to be a list of texts')
        if needed and not value:
            raise self.wrong(key, 'is missing; it has to be a list of texts')
        return tuple(value)

    def size(self, key: str) -> int:
        """Return a number of bytes, which may be written as ``10 GiB``."""
        self._taken.add(key)
        value = self._content.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
        match = _SIZE.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise self.wrong(key, f'is {_said(value)}, not bytes nor a size such as "10 GiB"')
        return int(match['number']) * _UNITS[match['unit']]

    def section(self, key: str, *, needed: bool = True) -> typing.Any:
        """Return the section of a key; None if it is missing and not needed."""
        self._taken.add(key)
        if key not in self._content and not needed:
            return None
        if key not in self._content:
            raise self.wrong(key, 'is missing')
        return Section(self.path, self._place(key), self._content[key])

    def sections(self, key: str, *, needed: bool = True) -> 'Iterator[Section]':
        """Return the sections of a list."""
        self._taken.add(key)
        value = self._content.get(key, [])
        if not isinstance(value, list) or (needed and not value):
            raise self.wrong(key, f'is {_said(self._content.get(key))}, not a list of mappings')
        return (
            Section(self.path, f'{self._place(key)}[{place}]', each)
            for place, each in enumerate(value)
        )

    def names(self) -> list[str]:
        """Return all keys."""
        return [str(key) for key in self._content]

    def finish(self) -> None:
        """:raises DescriptionError: a key was never asked for"""
        for key in self._content:
            if key not in self._taken:
                known = ', '.join(sorted(self._taken))
                raise self.wrong(str(key), f'is not known here; known are {known}')

    def _place(self, key: str) -> str:
        return f'{self.key}.{key}' if self.key else key


def read_yaml(path: pathlib.Path) -> Section:
    """Read a file with one mapping in it.

    :raises DescriptionError
    """
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError) as error:
        raise DescriptionError(path, '', f'cannot be read: {error}') from error
    except yaml.MarkedYAMLError as error:
        # Only where it is: the line itself may hold a secret.
        mark = error.problem_mark
        where = f' in line {mark.line + 1}' if mark else ''
        raise DescriptionError(path, '', f'is no YAML{where}: {error.problem}') from None
    except yaml.YAMLError:
        raise DescriptionError(path, '', 'is no YAML') from None
    return Section(path, '', content)


def _said(value: object) -> str:
    """Return what a value is, and never the value of something that may be a secret."""
    if value is None:
        return 'nothing'
    return {str: 'a text', list: 'a list', dict: 'a mapping'}.get(type(value), repr(value))
