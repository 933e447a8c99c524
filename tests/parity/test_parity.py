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

"""The drivers do what Nova's do, on every recorded case.

What the cases hold and how they are compared: SCHEMA.md and compare.py.
"""

import collections
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).parent
# compare.py and what it imports are scripts beside this module.
sys.path.insert(0, str(HERE))

import adapter  # noqa: E402
import compare  # noqa: E402

REQUIRED = ('xml', 'os_brick')


def _cases():
    cases = collections.defaultdict(list)
    for case in compare.load(HERE / 'cases.jsonl'):
        cases[str(case['driver'])].append(case)
    return dict(cases)


CASES = _cases()


@pytest.mark.parametrize('driver', sorted(CASES))
def test_driver_does_what_novas_does(driver):
    outcomes = compare.compare(CASES[driver], adapter)

    differences = {
        f'{outcome.name} [{category}]': outcome.status[category]
        for outcome in outcomes
        for category in REQUIRED
        if outcome.status.get(category)
    }
    assert not differences
    if driver not in ('cephfs', '(remotefs)'):
        assert sum(1 for outcome in outcomes if outcome.skipped) <= len(outcomes) // 20


def test_rules_are_few_and_have_reasons():
    assert 0 < len(adapter.RULES) <= 10
    assert all('Nova' in reason or 'spelled' in reason for reason in adapter.RULES.values())


def test_rule_that_is_not_in_the_table_cannot_be_applied():
    with pytest.raises(KeyError):
        adapter.apply('something else')


def test_comparer_sees_a_difference():
    case = next(case for case in CASES['iscsi'] if case['name'] == 'iscsi/disk/scsi-disk-unit0')
    other = {
        **case,
        'results': [
            {**result, 'xml': result['xml'].replace('native', 'threads')}
            if result.get('xml')
            else result
            for result in case['results']
        ],
    }

    assert compare.run_case(other, adapter).status['xml'] == [
        "step 2 get_xml: /disk/driver/@io: want 'threads', got 'native'"
    ]
