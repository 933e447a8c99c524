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

"""Results as a person likes to read them: aligned columns, wrapped at the terminal."""

import argparse
from collections.abc import Iterable
from collections.abc import Sequence
import shutil
import textwrap
import typing

from cliff import columns
from cliff.formatters import base

_GAP = 2
_NARROWEST = 20
_UNITS = ('bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB')

# Words that are not simply capitalised.
_SPELLINGS = {
    'gib': 'GiB',
    'guid': 'GUID',
    'hostid': 'host ID',
    'id': 'ID',
    'ip': 'IP',
    'ips': 'IPs',
    'nqn': 'NQN',
    'nvme': 'NVMe',
    'os': 'OS',
    'qos': 'QoS',
    'sdc': 'SDC',
    'uuid': 'UUID',
    'wwnns': 'WWNNs',
    'wwpns': 'WWPNs',
}


def plain(text: str) -> str:
    """Return text of others without what a terminal would obey; lines stay.

    A volume's name is its owner's, and may hold anything.
    """
    return ''.join(one if one == '\n' or one.isprintable() else _shown(one) for one in text)


def _shown(one: str) -> str:
    """Return a character as Python would write it."""
    return one.encode('unicode_escape', 'backslashreplace').decode()


def human(name: str, value: typing.Any) -> str:
    """Return a value of the field ``name`` in words."""
    if value is None or value in ('', [], {}):
        return '-'
    if isinstance(value, bool):
        words = 'yes' if value else 'no'
    elif isinstance(value, list | tuple):
        separator = '\n' if any(isinstance(item, dict) for item in value) else ', '
        if name == 'capabilities':
            separator = ' '  # all of them fit into a line of 80 columns
        words = separator.join(human(name, item) for item in value)
    elif isinstance(value, dict):
        words = _mapping(name, value)
    elif name == 'matters_for' and value == '*':
        words = 'every protocol'
    elif isinstance(value, float):
        words = f'{value:g} s' if 'seconds' in name else f'{value:g}'
    elif isinstance(value, int) and name.endswith(('size', 'size_before')):
        words = human_size(value)
    else:
        words = plain(str(value))
    return words


def _mapping(name: str, values: dict[str, typing.Any]) -> str:
    given = {key: value for key, value in values.items() if value not in (None, '', [], {})}
    if 'seconds' in name:
        return ', '.join(f'{key} {human(name, value)}' for key, value in given.items())
    return ', '.join(
        f'{key.replace("_", " ")} {human(key, value)}' for key, value in given.items()
    )


def human_size(size: int) -> str:
    """Return a size in the largest unit that keeps it whole, with its bytes."""
    number, unit = size, 0
    while number and number % 1024 == 0 and unit < len(_UNITS) - 1:
        number, unit = number // 1024, unit + 1
    return f'{number} {_UNITS[unit]}' if unit == 0 else f'{number} {_UNITS[unit]} ({size} bytes)'


def label(name: str) -> str:
    """Return the heading of a field: ``volume_id`` is "Volume ID"."""
    words = [_SPELLINGS.get(word, word) for word in name.split('_')]
    return ' '.join([words[0][:1].upper() + words[0][1:], *words[1:]])


def wrap(text: str, width: int | None, *, indent: int = 0) -> list[str]:
    """Return the text in lines; ``width`` None leaves long lines as they are."""
    lines: list[str] = []
    for line in plain(text).splitlines() or ['']:
        if width is None:
            lines.append(line)
        else:
            lines += textwrap.wrap(
                line,
                max(width - indent, _NARROWEST),
                break_long_words=True,
                break_on_hyphens=False,
            ) or ['']
    return lines


def terminal_width(stream: typing.TextIO) -> int | None:
    """Return the columns of the terminal; None when the stream is none."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


class Value(columns.FormattableColumn[typing.Any]):
    """A list or mapping: plain data for a machine, words for a person."""

    def __init__(self, name: str, value: typing.Any) -> None:
        super().__init__(value)
        self._name = name

    def human_readable(self) -> str:
        """Return it in words."""
        return human(self._name, self._value)


class TextFormatter(base.ListFormatter, base.SingleFormatter):
    """cliff's formatter ``text``."""

    def add_argument_group(self, parser: argparse.ArgumentParser) -> None:
        """Nothing to choose."""

    def emit_one(
        self,
        column_names: Sequence[str],
        data: Sequence[typing.Any],
        stdout: typing.TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Print a line for each field that has a value."""
        rows = [
            (label(name), _words(name, value))
            for name, value in zip(column_names, data, strict=True)
        ]
        rows = [row for row in rows if row[1] != '-']
        if rows:
            _print_rows(rows, stdout)
        else:
            stdout.write('nothing\n')

    def emit_list(
        self,
        column_names: Sequence[str],
        data: Iterable[Sequence[typing.Any]],
        stdout: typing.TextIO,
        parsed_args: argparse.Namespace,
    ) -> None:
        """Print a heading, and a line for each row; nothing when there is none."""
        rows = [
            tuple(_words(name, value) for name, value in zip(column_names, row, strict=True))
            for row in data
        ]
        rows = [(*(cell.replace('\n', '\\n') for cell in row[:-1]), row[-1]) for row in rows]
        if rows:
            _print_rows([tuple(label(name) for name in column_names), *rows], stdout)


def _words(name: str, value: typing.Any) -> str:
    if isinstance(value, columns.FormattableColumn):
        return value.human_readable()
    return human(name, value)


def _print_rows(rows: Sequence[Sequence[str]], stdout: typing.TextIO) -> None:
    """Print rows in columns; the last one has the rest of the terminal."""
    widths = [max(len(row[index]) for row in rows) + _GAP for index in range(len(rows[0]) - 1)]
    indent = sum(widths)
    width = terminal_width(stdout)
    for row in rows:
        first, *others = wrap(row[-1], width, indent=indent)
        head = ''.join(cell.ljust(size) for cell, size in zip(row[:-1], widths, strict=True))
        stdout.write(f'{head}{first}'.rstrip() + '\n')
        stdout.writelines(f'{" " * indent}{line}\n' for line in others)
