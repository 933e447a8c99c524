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

"""Cinder refuses a step, or answers it with what cannot be understood."""

from collections.abc import Callable
import typing

import pytest

from tests.functional.cinder.faults import agreement
from tests.functional.cinder.faults.agreement import Bench
from tests.functional.cinder.made_volumes import MadeVolume
from tests.functional.cinder.made_volumes import VolumeMaker
from tests.long import LONG
from tests.long import each_once
from tests.long import only
from volumedrivers import exception
from volumedrivers.attachment import failure
from volumedrivers.testing.cinder import faults as make
from volumedrivers.testing.cinder.backends import NfsBackend

ATTACH = {
    'reserve': 'POST /attachments',
    'export': 'PUT /attachments/*',
    'complete': 'POST /attachments/* os-complete',
}
DETACH = {
    'begin': 'POST /volumes/* os-begin_detaching',
    'release': 'DELETE /attachments/*',
}
REFUSALS: dict[int, type[exception.VolumeDriversError]] = {
    400: exception.CinderError,
    401: exception.CinderForbidden,
    403: exception.CinderForbidden,
    404: exception.CinderError,
    406: exception.CinderTooOld,
    409: exception.CinderError,
    413: exception.CinderError,
}


@pytest.mark.parametrize(('step', 'status'), each_once(ATTACH, REFUSALS))
def test_attach_is_refused(bench: Bench, volume: MadeVolume, step: str, status: int) -> None:
    before = bench.state(volume.id)
    bench.faults.add(ATTACH[step], make.status(status, 'by a test'))
    expected = REFUSALS[status]
    if (step, status) == ('reserve', 404):
        expected = exception.VolumeNotFound
    with pytest.raises(expected) as caught:
        bench.attach(volume)
    assert bench.faults.count(ATTACH[step]) == 1
    assert failure.of(caught.value).step == step
    agreement.assert_told(caught.value)
    assert agreement.assert_agree(bench, volume.id, before, caught.value) == before
    assert bench.rows() == ()
    if status == 409:
        bench.faults.clear()
        agreement.assert_goes_on(bench, volume, before)


@pytest.mark.parametrize(('step', 'status'), each_once(DETACH, REFUSALS))
def test_detach_is_refused(bench: Bench, volume: MadeVolume, step: str, status: int) -> None:
    free = bench.state(volume.id)
    bench.attach(volume)
    before = bench.state(volume.id)
    bench.faults.clear()
    bench.faults.add(DETACH[step], make.status(status, 'by a test'))
    if status == 404:
        # It is as if it were done already.
        bench.detach(volume)
        assert bench.rows() == ()
        assert bench.state(volume.id).guest == (False, False)
        return
    with pytest.raises(REFUSALS[status]) as caught:
        bench.detach(volume)
    assert bench.faults.count(DETACH[step]) == 1
    assert failure.of(caught.value).step == step
    now = agreement.assert_agree(bench, volume.id, before, caught.value)
    if step == 'begin':
        assert now == before
    else:
        assert (now.record, now.reservation) == ('none', 'unfinished')
    bench.faults.clear()
    # After a release that was refused only Cinder has to be told.
    bench.detach(volume)
    assert bench.state(volume.id) == free
    with pytest.raises(exception.NotRecorded):
        bench.detach(volume)


NONSENSE: dict[str, Callable[..., make.Fault]] = {
    'garbage': make.garbage,
    'empty': make.empty,
    'list': lambda **more: make.answer(200, b'[]', **more),
}


@pytest.mark.parametrize(
    ('step', 'after', 'fault'), each_once(['find', 'reserve', 'export'], [False, True], NONSENSE)
)
def test_attach_is_answered_with_nonsense(
    bench: Bench, volume: MadeVolume, step: str, after: bool, fault: str
) -> None:
    before = bench.state(volume.id)
    bench.faults.add({**ATTACH, 'find': 'GET /volumes/*'}[step], NONSENSE[fault](after=after))
    with pytest.raises(exception.VolumeDriversError) as caught:
        bench.attach(volume)
    agreement.assert_told(caught.value)
    agreement.assert_agree(bench, volume.id, before, caught.value)
    agreement.assert_settled(bench, volume, before)


CHANGES: dict[str, tuple[typing.Any, type[exception.VolumeDriversError]]] = {
    'unknown protocol': (
        lambda info: info.update(driver_volume_type='floppy'),
        exception.VolumeDriverNotFound,
    ),
    'no protocol': (
        lambda info: info.pop('driver_volume_type'),
        exception.InvalidConnectionInfo,
    ),
    'protocol is a list': (
        lambda info: info.update(driver_volume_type=['iscsi']),
        exception.InvalidConnectionInfo,
    ),
    'no target': (lambda info: info.pop('target_iqn'), exception.InvalidConnectionInfo),
    'target is a number': (
        lambda info: info.update(target_iqn=7),
        exception.InvalidConnectionInfo,
    ),
    'no portal': (lambda info: info.pop('target_portal'), exception.InvalidConnectionInfo),
    'portal is no address': (
        lambda info: info.update(target_portal='nowhere'),
        exception.InvalidConnectionInfo,
    ),
    'lun is a word': (lambda info: info.update(target_lun='one'), exception.InvalidConnectionInfo),
    'access mode': (
        lambda info: info.update(access_mode='maybe'),
        exception.InvalidVolumeAccessMode,
    ),
    'nothing': (lambda info: info.clear(), exception.InvalidConnectionInfo),
}


@pytest.mark.parametrize('change', only(['unknown protocol', 'no portal', 'access mode'], CHANGES))
def test_export_is_answered_with_what_cannot_be_connected(
    bench: Bench, volume: MadeVolume, change: str
) -> None:
    before = bench.state(volume.id)
    function, expected = CHANGES[change]
    bench.faults.add(
        ATTACH['export'],
        make.changed(lambda said: function(said['attachment']['connection_info'])),
    )
    with pytest.raises(expected) as caught:
        bench.attach(volume)
    agreement.assert_told(caught.value)
    assert agreement.assert_agree(bench, volume.id, before, caught.value) == before
    assert bench.rows() == ()


@pytest.mark.parametrize(
    ('fault', 'expected'),
    [
        (make.status(500), exception.CinderUnavailable),
        pytest.param(make.reset(), exception.CinderUnavailable, marks=LONG),
        (make.status(403), exception.CinderForbidden),
        (make.status(404), exception.CinderError),
        pytest.param(make.garbage(), exception.CinderUnavailable, marks=LONG),
        (make.empty(), exception.InvalidEncryption),
    ],
    ids=['500', 'reset', '403', '404', 'garbage', 'empty'],
)
def test_how_it_is_encrypted_cannot_be_known(
    bench: Bench,
    volume: MadeVolume,
    fault: make.Fault,
    expected: type[exception.VolumeDriversError],
) -> None:
    before = bench.state(volume.id)
    bench.faults.add(
        ATTACH['export'],
        make.changed(lambda said: said['attachment']['connection_info'].update(encrypted=True)),
    )
    bench.faults.add('GET /volumes/*/encryption', fault)
    with pytest.raises(expected) as caught:
        bench.attach(volume)
    agreement.assert_told(caught.value)
    assert agreement.assert_agree(bench, volume.id, before, caught.value) == before
    assert bench.rows() == ()


@pytest.mark.parametrize('step', ['export', 'complete'])
def test_volume_on_a_share(
    bench: Bench, make_volume: VolumeMaker, nfs: NfsBackend, step: str
) -> None:
    volume = make_volume(nfs)
    before = bench.state(volume.id)
    bench.faults.add(ATTACH[step], make.status(409), times=1)
    with pytest.raises(exception.CinderError) as caught:
        bench.attach(volume)
    # Nothing stays mounted.
    assert agreement.assert_agree(bench, volume.id, before, caught.value) == before
    agreement.assert_goes_on(bench, volume, before)
