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

"""Which of many combinations are run each time, and which are marked ``long``.

Tests marked so repeat, with other values, what another one shows; CI runs them too.
"""

import collections
from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Sequence
import itertools
import typing

from _pytest.mark.structures import ParameterSet
import pytest

LONG = pytest.mark.long

Case = typing.TypeVar('Case')

# Of the cases that a test goes through by itself; for ``parametrize``.
SOME = 'some'
PARTS = (SOME, pytest.param('others', marks=LONG))


def each_once(
    *columns: Iterable[typing.Any], wanted: Callable[..., bool] = lambda *_: True
) -> list[ParameterSet]:
    """Return all combinations for ``parametrize``; long are all but so many that
    each value of each column occurs.

    :param columns: the values of each argument; those that are equal are the same
    :param wanted: tells of a combination whether there is a test of it
    """
    rows = [one for one in itertools.product(*columns) if wanted(*one)]
    kept = _cover([list(enumerate(row)) for row in rows])
    return [pytest.param(*row, marks=() if one in kept else LONG) for one, row in enumerate(rows)]


def only(short: Iterable[typing.Any], every: Iterable[typing.Any]) -> list[ParameterSet]:
    """Return all values for ``parametrize``; long are those that are not in ``short``."""
    kept = list(short)
    values = list(every)
    unknown = [one for one in kept if one not in values]
    assert not unknown, unknown
    return [pytest.param(one, marks=() if one in kept else LONG) for one in values]


def part_of(
    part: str,
    cases: Callable[[str], Sequence[Case]],
    kind: str,
    kinds: Iterable[str],
    name: Callable[[Case], str] = str,
) -> list[Case]:
    """Return the cases of a kind that one of ``PARTS`` goes through.

    With all kinds together, some are all cases: each with one kind that has it.

    :param cases: of a kind
    :param name: cases of two kinds that are called the same show the same
    """
    shared: dict[str, list[str]] = {}
    for other in kinds:
        for case in cases(other):
            shared.setdefault(name(case), []).append(other)
    burden = collections.Counter(dict.fromkeys(kinds, 0))
    whose = {}
    # First what only few have.
    for called, having in sorted(shared.items(), key=lambda item: len(item[1])):
        whose[called] = min(having, key=lambda other: burden[other])
        burden[whose[called]] += 1
    return [case for case in cases(kind) if (whose[name(case)] == kind) == (part == SOME)]


def _cover(rows: Sequence[Sequence[Hashable]]) -> set[int]:
    """Return the numbers of some rows that have together what is in any; none too often."""
    used = collections.Counter({each: 0 for row in rows for each in row})
    kept: set[int] = set()
    while missing := {each for each, times in used.items() if not times}:

        def worth(number: int, missing: set[Hashable] = missing) -> tuple[int, int]:
            row = rows[number]
            return len(missing.intersection(row)), -sum(used[each] for each in row)

        best = max(range(len(rows)), key=worth)
        kept.add(best)
        used.update(rows[best])
    return kept
