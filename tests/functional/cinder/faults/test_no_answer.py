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

"""Cinder fails in each step of attaching and detaching; nothing is lost, and nothing is left."""

from collections.abc import Callable

import pytest

from tests.functional.cinder.faults import agreement
from tests.functional.cinder.faults.agreement import Bench
from tests.functional.cinder.made_volumes import MadeVolume
from tests.long import each_once
from volumedrivers import exception
from volumedrivers.testing.cinder import faults as make

# What Cinder is asked for in each step.
ATTACH = {
    'find': 'GET /volumes/*',
    'reserve': 'POST /attachments',
    'export': 'PUT /attachments/*',
    'complete': 'POST /attachments/* os-complete',
}
DETACH = {
    'find': 'GET /volumes/*',
    'begin': 'POST /volumes/* os-begin_detaching',
    'release': 'DELETE /attachments/*',
}
# What may be done twice is asked four times before it is given up.
ASKED = {'find': 4, 'reserve': 1, 'export': 4, 'complete': 4, 'begin': 1, 'release': 4}

# No answer, or one that says nothing of what was done.
SILENT: dict[str, Callable[[], make.Fault]] = {
    'refused': make.refused,
    'reset': make.reset,
    'reset after': lambda: make.reset(after=True),
    '500': lambda: make.status(500),
    '500 after': lambda: make.status(500, after=True),
    '503 of a proxy': lambda: make.page(503),
    '504 of a proxy after': lambda: make.page(504, after=True),
}
# These change what Cinder has: here the call is given again when all is well.
AFTER = [name for name in SILENT if name.endswith('after')]
CERTAIN = ['refused', '500', '500 after']
ONCE = ['500', 'reset after']


@pytest.mark.parametrize(
    ('step', 'fault'),
    each_once(ATTACH, SILENT, wanted=lambda step, fault: step != 'find' or fault in CERTAIN),
)
def test_attach_and_cinder_never_answers(
    bench: Bench, volume: MadeVolume, step: str, fault: str
) -> None:
    before = bench.state(volume.id)
    bench.faults.clear()
    bench.faults.add(ATTACH[step], SILENT[fault]())
    with pytest.raises(exception.CinderUnavailable) as caught:
        bench.attach(volume)
    assert bench.faults.count(ATTACH[step]) == ASKED[step]
    agreement.assert_told(caught.value)
    now = agreement.assert_agree(bench, volume.id, before, caught.value)
    if step == 'complete' or fault in CERTAIN:
        # Cinder is not at it any more, so what it has done could be undone.
        assert now == before
    agreement.assert_settled(bench, volume, before)
    if fault == 'reset after':
        agreement.assert_goes_on(bench, volume, before)


@pytest.mark.parametrize(('step', 'fault'), each_once(ATTACH, ONCE))
def test_attach_and_cinder_does_not_answer_once(
    bench: Bench, volume: MadeVolume, step: str, fault: str
) -> None:
    before = bench.state(volume.id)
    bench.faults.add(ATTACH[step], SILENT[fault](), times=1)
    if step == 'reserve':
        with pytest.raises(exception.CinderUnavailable) as caught:
            bench.attach(volume)
        # Never twice: there would be two attachments.
        assert bench.faults.count(ATTACH[step]) == 1
        agreement.assert_agree(bench, volume.id, before, caught.value)
        agreement.assert_settled(bench, volume, before)
        return
    agreement.assert_goes_on(bench, volume, before)


@pytest.mark.parametrize(
    ('step', 'fault'), each_once(DETACH, ['refused', '503 of a proxy', *AFTER])
)
def test_detach_and_cinder_never_answers(
    bench: Bench, volume: MadeVolume, step: str, fault: str
) -> None:
    free = bench.state(volume.id)
    bench.attach(volume)
    before = bench.state(volume.id)
    bench.faults.clear()
    bench.faults.add(DETACH[step], SILENT[fault]())
    with pytest.raises(exception.CinderUnavailable) as caught:
        bench.detach(volume)
    assert bench.faults.count(DETACH[step]) == ASKED[step]
    agreement.assert_told(caught.value)
    now = agreement.assert_agree(bench, volume.id, before, caught.value)
    if step == 'release':
        # Off this host it is, and the row says that Cinder is to be told.
        assert (now.reservation, now.record, now.guest) == ('unfinished', 'none', (False, False))
        agreement.assert_settled(bench, volume, free)
    else:
        agreement.assert_settled(bench, volume, before)
        bench.detach(volume)
    assert bench.state(volume.id) == free


@pytest.mark.parametrize(('step', 'fault'), each_once(DETACH, ONCE))
def test_detach_and_cinder_does_not_answer_once(
    bench: Bench, volume: MadeVolume, step: str, fault: str
) -> None:
    free = bench.state(volume.id)
    bench.attach(volume)
    before = bench.state(volume.id)
    bench.faults.add(DETACH[step], SILENT[fault](), times=1)
    if step == 'begin':
        with pytest.raises(exception.CinderUnavailable) as caught:
            bench.detach(volume)
        now = agreement.assert_agree(bench, volume.id, before, caught.value)
        assert now == before
    bench.detach(volume)
    assert bench.state(volume.id) == free
