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

"""A report that is there already, of an earlier run of the same code."""

import dataclasses
import json
import pathlib
import typing

from tests.lab.report import cells
from tests.lab.report import record
from tests.lab.vm import wheel
from tests.lab.vm.cache import content_of
from tests.lab.vm.cache import key_of

_LAB = pathlib.Path(__file__).resolve().parents[1]

# Outcomes that need not be asked for again.
_DONE = (*cells.GOOD, cells.EMPTY)
_FAILED = (cells.FAILED, cells.ERROR)


class NotContinued(Exception):
    """What an earlier run has shown cannot be taken over; says why."""


@dataclasses.dataclass
class Earlier:
    """What an earlier run has shown.

    :ivar done: cells that need not be tried again
    :ivar failed: those that failed, by row and column
    """

    done: list[cells.Cell] = dataclasses.field(default_factory=list)
    failed: dict[tuple[str | None, str], cells.Cell] = dataclasses.field(default_factory=dict)


def state(host: str | None) -> str:
    """Return what tells the code of one run from that of another: package, lab, host.

    :param host: file that describes the host under test
    """
    files = [*wheel.sources(), *_LAB.rglob('*.py')]
    described = '' if host is None else pathlib.Path(host).read_text(encoding='utf-8')
    return key_of([*content_of(files, wheel.PROJECT), described])


def read(directory: pathlib.Path, now: str) -> Earlier:
    """Return what the report in a directory has.

    :param now: the state of this run
    :raises NotContinued: there is no report, or it is of other code
    """
    path = directory / record.MATRIX
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise NotContinued(f'there is no {path} to continue; leave --continue out') from None
    except ValueError as error:
        raise NotContinued(f'{path} cannot be read: {error}') from None
    if found.get('state') != now:
        raise NotContinued(
            f'{path} is of another state of the package, the lab or the host, and shows nothing'
            ' of this one; leave --continue out'
        )
    figures: dict[tuple[str | None, str], dict[str, typing.Any]] = {}
    for figure in found['figures']:
        key = figure['row'], figure['column']
        figures.setdefault(key, {})[figure['name']] = figure['value']
    done = []
    failed = {}
    for cell in found['cells']:
        key = cell['row'], cell['column']
        if cell['outcome'] in _FAILED:
            failed[key] = _cell(directory, cell, {})
        elif cell['outcome'] in _DONE:
            done.append(_cell(directory, cell, figures.get(key, {})))
    return Earlier(done, failed)


def _cell(
    directory: pathlib.Path, cell: dict[str, typing.Any], figures: dict[str, typing.Any]
) -> cells.Cell:
    return cells.Cell(
        row=cell['row'],
        column=cell['column'],
        outcome=cell['outcome'],
        seconds=cell['seconds'],
        preparing=cell['preparing'],
        reason=cell['reason'],
        notes=cell['notes'],
        log=_log(directory, cell),
        figures=figures,
    )


def _log(directory: pathlib.Path, cell: dict[str, typing.Any]) -> list[str]:
    try:
        return (directory / cell['whole_log']).read_text(encoding='utf-8').splitlines()
    except (TypeError, FileNotFoundError):
        return list(cell['log'])
