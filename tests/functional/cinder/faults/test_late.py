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

"""Cinder is slower than it may be, or away: through a socket, with real time limits."""

from collections.abc import Iterator
import fnmatch
import typing

from keystoneauth1 import session
from keystoneauth1 import token_endpoint
from openstack import connection
from oslo_config import cfg
import pytest

from tests.functional.cinder.faults import agreement
from tests.functional.cinder.faults.agreement import Bench
from tests.functional.cinder.made_volumes import MadeVolume
from tests.functional.cinder.made_volumes import VolumeMaker
from volumedrivers import exception
from volumedrivers.attachment.block_storage import context as storage_context
from volumedrivers.cinder.block_storage import BlockStorage
from volumedrivers.testing.cinder import faults as make
from volumedrivers.testing.cinder import settings
from volumedrivers.testing.cinder.embedded import EmbeddedCinder
from volumedrivers.testing.cinder.faults import Faults
from volumedrivers.testing.cinder.loopback import LoopbackServer

# What is asked, and the same as the SDK's session is told.
RESERVE = 'POST /attachments'
EXPORT = 'PUT /attachments/*'
COMPLETE = 'POST /attachments/* os-complete'
BEGIN = 'POST /volumes/* os-begin_detaching'
RELEASE = 'DELETE /attachments/*'
URLS = {
    RESERVE: 'POST *attachments',
    EXPORT: 'PUT *attachments/*',
    COMPLETE: 'POST *attachments/*/action',
    BEGIN: 'POST *volumes/*/action',
    RELEASE: 'DELETE *attachments/*',
}


class Impatient(session.Session):  # type: ignore[misc]
    """Waits long, but for the answer to one request.

    :ivar hurried: which
    """

    hurried = ''

    def request(self, url: str, method: str, **more: typing.Any) -> typing.Any:
        if fnmatch.fnmatchcase(f'{method} {url}', self.hurried):
            more['timeout'] = 0.5
        return super().request(url, method, **more)


@pytest.fixture
def served(cinder: EmbeddedCinder, faults: Faults) -> Iterator[LoopbackServer]:
    """The Cinder with the faults in front of it, on a port of its own."""
    server = LoopbackServer(faults)
    yield server
    server.stop()


@pytest.fixture
def storage(served: LoopbackServer) -> Iterator[BlockStorage]:
    endpoint = f'{served.url}/v3'
    auth = token_endpoint.Token(endpoint=endpoint, token=settings.TOKEN)
    made = connection.Connection(
        session=Impatient(auth=auth, timeout=60),
        block_storage_api_version='3',
        block_storage_endpoint_override=endpoint,
        block_storage_default_microversion='3.71',
    )
    yield BlockStorage(made, retries=0, pause=0.05)
    made.close()


@pytest.fixture
def make_volume(cinder: EmbeddedCinder) -> VolumeMaker:
    return VolumeMaker(cinder.connection.block_storage)


def too_late(bench: Bench, step: str, *, after: bool = False) -> None:
    """Let Cinder do that once when nobody waits for it any more."""
    bench.faults.add(step, make.slow(30, after=after), times=1)
    bench.manager.context.storage.connection.session.hurried = URLS[step]


def do_it_now(bench: Bench) -> None:
    bench.manager.context.storage.connection.session.hurried = ''
    bench.faults.let_go()
    bench.faults.wait_idle()


@pytest.mark.parametrize('step', [RESERVE, EXPORT, COMPLETE])
def test_attach_and_cinder_does_it_too_late(bench: Bench, volume: MadeVolume, step: str) -> None:
    before = bench.state(volume.id)
    too_late(bench, step)
    with pytest.raises(exception.CinderUnavailable) as caught:
        bench.attach(volume)
    assert caught.value.may_be_done
    assert bench.faults.count(step) == 1
    agreement.assert_told(caught.value)
    agreement.assert_agree(bench, volume.id, before, caught.value)
    # Cinder does now what nobody waits for any more.
    do_it_now(bench)
    agreement.assert_settled(bench, volume, before)
    agreement.assert_goes_on(bench, volume, before)


@pytest.mark.parametrize('step', [RESERVE, EXPORT])
def test_recover_waits_while_cinder_may_be_at_it(
    bench: Bench, volume: MadeVolume, conf: cfg.ConfigOpts, step: str
) -> None:
    before = bench.state(volume.id)
    too_late(bench, step)
    with pytest.raises(exception.CinderUnavailable):
        bench.attach(volume)
    left = bench.state(volume.id)
    assert left.reservation == 'unfinished'
    # However long it took to come here.
    conf.set_override('cinder_timeout', 60.0, group='volumedrivers')
    (said,) = bench.recover(at_once=True)
    assert said.startswith('failed: ')
    assert 'recover again' in said
    assert bench.state(volume.id) == left
    do_it_now(bench)
    agreement.assert_settled(bench, volume, before)


@pytest.mark.parametrize('step', [BEGIN, RELEASE])
def test_detach_and_cinder_does_it_too_late(bench: Bench, volume: MadeVolume, step: str) -> None:
    free = bench.state(volume.id)
    bench.attach(volume)
    before = bench.state(volume.id)
    too_late(bench, step)
    with pytest.raises(exception.CinderUnavailable) as caught:
        bench.detach(volume)
    agreement.assert_told(caught.value)
    agreement.assert_agree(bench, volume.id, before, caught.value)
    do_it_now(bench)
    agreement.assert_settled(bench, volume, before if step == BEGIN else free)
    if step == BEGIN:
        bench.detach(volume)
    assert bench.state(volume.id) == free


def test_answer_comes_too_late(bench: Bench, volume: MadeVolume) -> None:
    before = bench.state(volume.id)
    too_late(bench, RESERVE, after=True)
    with pytest.raises(exception.CinderUnavailable) as caught:
        bench.attach(volume)
    agreement.assert_agree(bench, volume.id, before, caught.value)
    do_it_now(bench)
    agreement.assert_settled(bench, volume, before)


def test_nobody_is_there(bench: Bench, volume: MadeVolume, served: LoopbackServer) -> None:
    before = bench.state(volume.id)
    served.stop()
    # A connection that was kept, or not yet accepted, is reset instead.
    with pytest.raises(exception.CinderUnavailable, match=r'refused|reset') as caught:
        bench.attach(volume)
    assert bench.rows() == ()
    agreement.assert_told(caught.value)
    again = LoopbackServer(bench.faults, int(served.url.rsplit(':', 1)[-1]))
    try:
        agreement.assert_goes_on(bench, volume, before)
    finally:
        again.stop()


def test_it_goes_away_for_ever_while_a_volume_is_attached(
    bench: Bench, volume: MadeVolume
) -> None:
    before = bench.state(volume.id)
    for pattern in (COMPLETE, RELEASE, 'GET /attachments/*'):
        bench.faults.add(pattern, make.reset())
    with pytest.raises(exception.CinderUnavailable) as caught:
        bench.attach(volume)
    said = agreement.assert_told(caught.value)
    assert 'undoing the step' in said
    now = agreement.assert_agree(bench, volume.id, before, caught.value)
    # The guest and the host are as they were; Cinder is told as soon as it is there.
    assert (now.guest, now.record, now.reservation) == ((False, False), 'none', 'unfinished')
    agreement.assert_settled(bench, volume, before)


def test_step_is_left_behind(
    bench: Bench, volume: MadeVolume, conf: cfg.ConfigOpts, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = bench.state(volume.id)
    # The SDK itself would wait longer.
    monkeypatch.setattr(storage_context, '_MARGIN', 0.0)
    conf.set_override('cinder_timeout', 1.0, group='volumedrivers')
    bench.faults.add(EXPORT, make.slow(30), times=1)
    with pytest.raises(exception.DeadlineExceeded) as caught:
        bench.attach(volume)
    said = agreement.assert_told(caught.value)
    assert "the step 'export' is still at it" in said
    agreement.assert_agree(bench, volume.id, before, caught.value)
    do_it_now(bench)
    agreement.assert_settled(bench, volume, before)


def test_cinder_is_started_again(bench: Bench, volume: MadeVolume, cinder: EmbeddedCinder) -> None:
    free = bench.state(volume.id)
    bench.attach(volume)
    cinder.stop()
    cinder.start()
    assert bench.recover() == []
    bench.detach(volume)
    assert bench.state(volume.id) == free
