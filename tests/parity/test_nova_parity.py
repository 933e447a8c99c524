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

"""What nova-compute gets of these drivers is what it gets of its own, on every case.

Once beside what Nova did when the cases were recorded, and once beside what the
Nova that is installed does with the same case now.
"""

import collections
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).parent
# compare.py and what it imports are scripts beside this module.
sys.path.insert(0, str(HERE))

import compare  # noqa: E402
import nova_adapter  # noqa: E402
import novas_own  # noqa: E402
import replay  # noqa: E402

REQUIRED = ('xml', 'os_brick', 'result')
# Not volumes: shares that are mounted for guests, and files that are copied.
OTHER = ('cephfs', '(remotefs)')


def _cases():
    cases = collections.defaultdict(list)
    for case in compare.load(HERE / 'cases.jsonl'):
        if str(case['driver']) not in OTHER:
            cases[str(case['driver'])].append(case)
    return dict(cases)


CASES = _cases()


def differing(outcomes):
    return {
        f'{outcome.name} [{category}]': outcome.status[category]
        for outcome in outcomes
        for category in REQUIRED
        if outcome.status.get(category)
    }


@pytest.mark.parametrize('driver', sorted(CASES))
def test_adapter_does_what_nova_did_and_what_the_installed_nova_does(driver, monkeypatch):
    compared = 0
    recorded, installed = [], []
    run = replay.replay
    for case in CASES[driver]:
        if nova_adapter.SKIP(case):
            recorded.append(compare.run_case(case, nova_adapter))
            continue
        ours = run(case, nova_adapter)
        novas = run(case, novas_own)
        # What this package did is compared twice, and need be done only once.
        with monkeypatch.context() as patch:
            patch.setattr(compare.replay_mod, 'replay', lambda case, adapter, ours=ours: ours)
            recorded.append(compare.run_case(case, nova_adapter))
            installed.append(compare.run_case({**case, **novas}, nova_adapter))
        compared += any(category in installed[-1].status for category in REQUIRED)

    assert not differing(recorded)
    assert not differing(installed)
    assert sum(1 for outcome in recorded if outcome.skipped) <= max(2, len(recorded) // 20)
    # Of the others Nova makes no XML and asks os-brick nothing: it refuses them.
    assert compared >= len(CASES[driver]) // 2 or driver in ('aoe', 'cifs')


def test_installed_nova_does_what_nova_did():
    """Or the test above would compare with a Nova in the wrong surroundings."""
    cases = [case for cases in CASES.values() for case in cases]
    outcomes = compare.compare(cases, novas_own)
    assert not differing(outcomes)
    assert sum('xml' in outcome.status for outcome in outcomes) > 600


def test_disk_is_novas_own_object():
    """Nova sets attributes on it, and formats it."""
    from nova.virt.libvirt import config

    case = next(case for case in CASES['iscsi'] if case['name'] == 'iscsi/disk/scsi-disk-unit0')
    seen = []

    class Looking:
        def __getattr__(self, name):
            return getattr(nova_adapter, name)

        def get_xml(self, driver, connection_info, disk_info):
            seen.append(driver.get_config(connection_info, disk_info))
            return nova_adapter.get_xml(driver, connection_info, disk_info)

    assert compare.run_case(case, Looking()).status['xml'] == []
    assert [isinstance(disk, config.LibvirtConfigGuestDisk) for disk in seen] == [True]
    disk = seen[0]
    disk.driver_cache = 'writethrough'
    disk.source_path = '/dev/mapper/other'
    assert 'cache="writethrough"' in disk.to_xml()
    assert '/dev/mapper/other' in disk.to_xml()


def test_rules_are_few_and_have_reasons():
    assert 0 < len(nova_adapter.RULES) <= 4
    assert all('Nova' in reason and 'here' in reason for reason in nova_adapter.RULES.values())


def test_rule_that_is_not_in_the_table_cannot_be_applied():
    with pytest.raises(KeyError):
        nova_adapter.apply('something else')
