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

"""Every error is explained, and has the exit code that is documented."""

import inspect
import pathlib
import re
import typing

import pytest

from volumedrivers import exception
from volumedrivers.cmd import commands
from volumedrivers.cmd import errors
from volumedrivers.cmd import secrecy

CLASSES = sorted(
    (
        value
        for value in vars(exception).values()
        if inspect.isclass(value) and issubclass(value, exception.VolumeDriversError)
    ),
    key=lambda cls: cls.__name__,
)
DOCUMENTED = {
    int(match[1]) for match in re.finditer(r'^ +(\d+) ', errors.EXIT_CODES, re.MULTILINE)
}


def make(cls: type[exception.VolumeDriversError]) -> exception.VolumeDriversError:
    return cls(
        {
            name: 7 if name in ('seconds', 'found', 'asked') else f'<{name}>'
            for name in cls._required
        }
    )


@pytest.mark.parametrize('cls', CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_is_explained(cls: type[exception.VolumeDriversError]) -> None:
    error = make(cls)
    lines = errors.explain(error, secrecy.Mask()).splitlines()
    assert lines[0] == f'Error: {error}'
    assert errors.exit_code(error) == cls.exit_code
    assert cls.exit_code in DOCUMENTED
    # Either its own sentence says what to do, or a line of advice does.
    advised = any(line.startswith('  what to do ') for line in lines)
    assert advised or re.search(r'[;"]', cls.template), cls.template


def test_documented_codes_are_those_there_are() -> None:
    codes = {cls.exit_code for cls in CLASSES}
    codes |= {errors.OK, errors.INTERRUPTED, errors.UNEXPECTED, errors.DISAGREEMENT}
    assert codes == DOCUMENTED


def test_the_documentation_has_every_command() -> None:
    text = (pathlib.Path(__file__).parents[2] / 'doc' / 'source' / 'shell.rst').read_text()
    named = set(re.findall(r'``(?:volumedrivers )?(\w+(?: \w+)?)', text))
    named |= set(re.findall(r'# volumedrivers (\w+)', text))
    names = {command.name for command in commands.COMMANDS} - {'help', 'complete'}
    assert {
        name for name in names if not any(f'{one} '.startswith(f'{name} ') for one in named)
    } == set()


def test_the_documentation_has_the_same_codes() -> None:
    page = pathlib.Path(__file__).parents[2] / 'doc' / 'source' / 'shell.rst'
    told = {int(code) for code in re.findall(r'^(\d+) {2,}', page.read_text(), re.MULTILINE)}
    assert told == DOCUMENTED


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def test_causes_are_one_line_each() -> None:
    third = OSError(5, 'Input/output\nerror')
    second = raised(RuntimeError('os-brick says no'), third)
    first = raised(exception.FlushFailed(volume_id='v', reason='it failed'), second)
    lines = errors.explain(first, secrecy.Mask()).splitlines()
    assert lines[1] == '  caused by  RuntimeError: os-brick says no'
    assert lines[2] == '  caused by  OSError: [Errno 5] Input/output error'


def test_a_cause_that_says_the_same_is_left_out() -> None:
    error = raised(
        exception.ConnectFailed(volume_id='v', driver_volume_type='x', reason='no such target'),
        ValueError('no such target'),
    )
    assert 'caused by' not in errors.explain(error, secrecy.Mask())


def test_notes_are_shown() -> None:
    error = exception.Busy(what='x', reason='y')
    error.add_note('undoing the step failed')
    assert '  moreover   undoing the step failed' in errors.explain(error, secrecy.Mask())


def test_unexpected_error_asks_for_a_report() -> None:
    error = raised(KeyError('lun'))
    said = errors.explain(error, secrecy.Mask())
    assert said.startswith("Error: unexpected KeyError: 'lun' (")
    assert 'report' in said
    assert errors.exit_code(error) == 70


def test_interrupt() -> None:
    assert errors.explain(KeyboardInterrupt(), secrecy.Mask()) == 'Interrupted.'
    assert errors.exit_code(KeyboardInterrupt()) == 130


def test_secrets_are_masked_everywhere() -> None:
    mask = secrecy.Mask()
    mask.add(['top-secret-value'])
    error = raised(
        exception.Busy(what='top-secret-value', reason='x'), ValueError('top-secret-value')
    )
    error.add_note('top-secret-value')
    said = errors.explain(error, mask, debug=True)
    assert 'top-secret-value' not in said
    assert 'Traceback' in said
    assert said.count('***') >= 3


def test_lines_are_broken_for_a_terminal() -> None:
    error = exception.Busy(what='word ' * 40, reason='none')
    lines = errors.explain(error, secrecy.Mask(), width=60).splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[1].startswith('       word')


def test_debug_shows_the_traceback_only_when_asked() -> None:
    error = raised(exception.Busy(what='x', reason='y'))
    assert 'Traceback' not in errors.explain(error, secrecy.Mask())
    assert 'Traceback' in errors.explain(error, secrecy.Mask(), debug=True)


def test_advice_is_of_classes_that_exist() -> None:
    advice: dict[typing.Any, str] = errors._ADVICE
    assert set(advice) <= set(CLASSES)
