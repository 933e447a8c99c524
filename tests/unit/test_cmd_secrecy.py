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

"""Nothing secret is printed or logged, however it is spelt."""

import json
import logging
from xml.sax import saxutils

import pytest

from volumedrivers.cmd import secrecy

SECRET = 'p"a<s&s\'w/o+rd\\'


@pytest.fixture
def mask() -> secrecy.Mask:
    made = secrecy.Mask()
    made.add([SECRET, 'abc', 'keyring=='])
    return made


@pytest.mark.parametrize(
    'text',
    [
        SECRET,
        json.dumps({'password': SECRET}),
        repr({'password': SECRET}),
        f'<auth password={saxutils.quoteattr(SECRET)}/>',
        f'<value>{saxutils.escape(SECRET)}</value>',
        'password=p%22a%3Cs%26s%27w%2Fo%2Brd%5C',
        'cCJhPHMmcyd3L28rcmRc',
    ],
)
def test_spellings(mask: secrecy.Mask, text: str) -> None:
    masked = mask.text(text)
    assert '***' in masked
    assert 'w/o+rd' not in masked
    assert 'rdmRc' not in masked


def test_a_short_secret_is_hidden_where_it_stands_alone(mask: secrecy.Mask) -> None:
    assert mask.text('password abc.') == 'password ***.'
    assert mask.text('abcdef') == 'abcdef'


def test_a_secret_that_begins_another() -> None:
    mask = secrecy.Mask()
    mask.add(['longsecret', 'longsecretandmore'])
    assert mask.text('x longsecretandmore y') == 'x *** y'


def test_nothing_to_hide() -> None:
    mask = secrecy.Mask()
    mask.add(['', *[]])
    assert mask.text('as it is') == 'as it is'


def test_data(mask: secrecy.Mask) -> None:
    data = {'reason': [SECRET, {'keyring==': 'keyring==', 'size': 3, 'none': None}]}
    assert mask.data(data) == {'reason': ['***', {'keyring==': '***', 'size': 3, 'none': None}]}


def test_log_lines_and_tracebacks(mask: secrecy.Mask) -> None:
    formatter = secrecy.MaskingFormatter(mask, '%(message)s')
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        record = logging.LogRecord(
            'x', logging.ERROR, __file__, 1, 'said %s', (SECRET,), (ValueError, error, None)
        )
    assert formatter.format(record) == 'said ***\nValueError: ***'
