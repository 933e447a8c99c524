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

"""What a person reads."""

import argparse
import io
import typing

import pytest

from volumedrivers.cmd import base
from volumedrivers.cmd import text

ARGUMENTS = argparse.Namespace()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ('value', 'bytes_'),
    [
        ('0', 0),
        ('10737418240', 10737418240),
        ('512K', 512 * 1024),
        ('3M', 3 * 1024**2),
        ('10G', 10 * 1024**3),
        ('10GiB', 10 * 1024**3),
        ('2T', 2 * 1024**4),
        ('1P', 1024**5),
    ],
)
def test_size(value: str, bytes_: int) -> None:
    assert base.size(value) == bytes_


@pytest.mark.parametrize(
    'value',
    ['', 'G', '-1', '1.5G', '10GB', '10g', '1_0', ' 10', '0x10', '10 G', '\u0661', '1E'],
)
def test_no_size(value: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match='10G'):
        base.size(value)


@pytest.mark.parametrize(
    ('name', 'value', 'words'),
    [
        (
            'ip',
            {'was': '192.0.2.1', 'matters_for': ['*']},
            'was 192.0.2.1, matters for every protocol',
        ),
        ('x', None, '-'),
        ('x', [], '-'),
        ('x', {}, '-'),
        ('x', '', '-'),
        ('x', 0, '0'),
        ('x', True, 'yes'),
        ('x', False, 'no'),
        ('hosts', ['a', 'b'], 'a, b'),
        ('size', 10737418240, '10 GiB (10737418240 bytes)'),
        ('requested_size', 1000, '1000 bytes'),
        ('size', 0, '0 bytes'),
        ('seconds', {'connect': 0.25, 'attach': 0.0}, 'connect 0.25 s, attach 0 s'),
        (
            'paths_failed',
            [{'name': 'a', 'reason': 'b'}, {'name': 'c', 'reason': ''}],
            'name a, reason b\nname c',
        ),
        ('multipath', {'was': False, 'is': True}, 'was no, is yes'),
    ],
)
def test_human(name: str, value: typing.Any, words: str) -> None:
    assert text.human(name, value) == words


@pytest.mark.parametrize(
    ('name', 'heading'),
    [
        ('volume_id', 'Volume ID'),
        ('guest', 'Guest'),
        ('guest_uuid', 'Guest UUID'),
        ('ip', 'IP'),
        ('wwpns', 'WWPNs'),
        ('nvme_hostid', 'NVMe host ID'),
    ],
)
def test_label(name: str, heading: str) -> None:
    assert text.label(name) == heading


def test_one_leaves_out_what_is_not_there() -> None:
    out = io.StringIO()
    text.TextFormatter().emit_one(('guest', 'alias', 'hosts'), ('web1', None, []), out, ARGUMENTS)
    assert out.getvalue() == 'Guest  web1\n'


def test_one_with_nothing() -> None:
    out = io.StringIO()
    text.TextFormatter().emit_one((), (), out, ARGUMENTS)
    assert out.getvalue() == 'nothing\n'


def test_list_is_aligned() -> None:
    out = io.StringIO()
    text.TextFormatter().emit_list(
        ('guest', 'volume_id'), [('web1', 'a'), ('database', 'b')], out, ARGUMENTS
    )
    assert out.getvalue() == 'Guest     Volume ID\nweb1      a\ndatabase  b\n'


def test_a_name_is_no_order_to_the_terminal() -> None:
    named = '\x1b[31mred\x9b2J\tü 卷'
    assert text.human('name', named) == '\\x1b[31mred\\x9b2J\\tü 卷'
    assert text.plain(f'one {named}\ntwo') == 'one \\x1b[31mred\\x9b2J\\tü 卷\ntwo'
    assert text.wrap(named, None) == ['\\x1b[31mred\\x9b2J\\tü 卷']


def test_a_name_stays_in_its_line_of_a_list() -> None:
    out = io.StringIO()
    rows = [('two\nlines', 'id-1'), ('one', 'id-2')]
    text.TextFormatter().emit_list(('name', 'id'), rows, out, ARGUMENTS)
    assert out.getvalue() == 'Name        ID\ntwo\\nlines  id-1\none         id-2\n'


def test_list_of_nothing() -> None:
    out = io.StringIO()
    text.TextFormatter().emit_list(('guest',), [], out, ARGUMENTS)
    assert out.getvalue() == ''


def test_last_column_is_wrapped_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('COLUMNS', '40')
    out = Terminal()
    text.TextFormatter().emit_one(('guest', 'reason'), ('web1', 'word ' * 20), out, ARGUMENTS)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 40
    assert all(line.startswith('        word') for line in lines[2:])


def test_nothing_is_wrapped_in_a_pipe() -> None:
    out = io.StringIO()
    text.TextFormatter().emit_one(('reason',), ('word ' * 100,), out, ARGUMENTS)
    assert len(out.getvalue().splitlines()) == 1
