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

"""Waiting for a volume that several guests may have."""

import pathlib
import typing

import pytest

from tests.unit import fake_hypervisor as fake
from tests.unit import fake_proxy
from tests.unit.fake_proxy import Room
from volumedrivers import exception
from volumedrivers.attachment.block_storage import sharing


@pytest.fixture
def room(tmp_path: pathlib.Path) -> Room:
    made = fake_proxy.make_room(tmp_path)
    made.options.conf.set_override('cinder_share_timeout', 0.0, 'volumedrivers')
    return made


def let_it_be(room: Room, status: str, *, shared: bool) -> None:
    room.proxy.volumes_[fake.VOLUME_ID].update(status=status, is_multiattach=shared)


def attachable(room: Room) -> typing.Any:
    return sharing.attachable(room.manager.context, room.proxy.get_volume(fake.VOLUME_ID))


@pytest.mark.parametrize('status', ['available', 'in-use'])
def test_what_may_be_attached(room: Room, status: str) -> None:
    let_it_be(room, status, shared=True)
    assert attachable(room).status == status
    assert room.proxy.calls.count('get_volume') == 1  # the test's own


@pytest.mark.parametrize('status', ['reserved', 'attaching', 'detaching', 'extending'])
@pytest.mark.parametrize('shared', [True, False])
def test_what_does_not_pass(room: Room, status: str, shared: bool) -> None:
    let_it_be(room, status, shared=shared)
    with pytest.raises(exception.Busy, match=f'it is {status} in Cinder'):
        attachable(room)
    # One that only one guest may have would be in use then: it is not waited for.
    assert room.proxy.calls.count('get_volume') == (4 if shared else 2)


@pytest.mark.parametrize(('status', 'shared'), [('in-use', False), ('error', True)])
def test_another_state(room: Room, status: str, shared: bool) -> None:
    let_it_be(room, status, shared=shared)
    with pytest.raises(exception.WrongVolumeState):
        attachable(room)


def test_it_passes(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.options.conf.set_override('cinder_share_timeout', 60.0, 'volumedrivers')
    let_it_be(room, 'attaching', shared=True)
    monkeypatch.setattr('time.sleep', lambda seconds: let_it_be(room, 'in-use', shared=True))
    assert attachable(room).status == 'in-use'


class Refusing:
    """A flow that Cinder refuses so many times.

    :ivar status: of HTTP
    """

    def __init__(self, times: int, status: int = 400) -> None:
        self.times = times
        self.status = status

    def reserve(self, found: object) -> str:
        self.begin_detaching(found)
        return 'the attachment'

    def begin_detaching(self, found: object) -> None:
        if self.times:
            self.times -= 1
            raise exception.CinderError(action='it', reason='a test', status=self.status)


class Row:
    volume_id = fake.VOLUME_ID


def reserve(room: Room, flow: Refusing) -> str | None:
    return sharing.reserve(
        room.manager.context,
        typing.cast(typing.Any, flow),
        typing.cast(typing.Any, Row()),
        attachable(room),
    )


def test_another_host_was_faster(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.options.conf.set_override('cinder_share_timeout', 60.0, 'volumedrivers')
    monkeypatch.setattr('time.sleep', lambda seconds: None)
    let_it_be(room, 'in-use', shared=True)
    assert reserve(room, Refusing(3)) == 'the attachment'
    for flow in (Refusing(1, 413),):
        with pytest.raises(exception.CinderError):
            reserve(room, flow)
    let_it_be(room, 'available', shared=False)
    with pytest.raises(exception.CinderError):
        reserve(room, Refusing(1))


def test_other_hosts_are_always_faster(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('time.sleep', lambda seconds: None)
    let_it_be(room, 'in-use', shared=True)
    with pytest.raises(exception.CinderError, match='a test'):
        reserve(room, Refusing(1000))


def test_one_that_stays_with_another_host(room: Room) -> None:
    let_it_be(room, 'in-use', shared=True)
    volume = attachable(room)
    room.options.conf.set_override('cinder_share_timeout', 0.2, 'volumedrivers')
    let_it_be(room, 'reserved', shared=True)
    with pytest.raises(exception.Busy) as caught:
        sharing.reserve(
            room.manager.context,
            typing.cast(typing.Any, Refusing(1000)),
            typing.cast(typing.Any, Row()),
            volume,
        )
    assert isinstance(caught.value.__cause__, exception.CinderError)


@pytest.mark.parametrize(
    ('status', 'shared', 'code', 'goes_on'),
    [
        ('reserved', True, 400, True),
        ('attaching', True, 400, True),
        ('available', True, 400, False),
        ('reserved', False, 400, False),
        ('reserved', True, 413, False),
    ],
)
def test_detaching_while_another_one_attaches(
    room: Room, status: str, shared: bool, code: int, goes_on: bool
) -> None:
    let_it_be(room, status, shared=shared)
    given = (
        room.manager.context,
        typing.cast(typing.Any, Refusing(1, code)),
        typing.cast(typing.Any, Row()),
    )
    if goes_on:
        sharing.begin_detaching(*given)
    else:
        with pytest.raises(exception.CinderError):
            sharing.begin_detaching(*given)


# another guest of this host


def let_the_other_have_it(room: Room) -> typing.Any:
    """Give the other guest of this host the volume, and say nothing to Cinder."""
    other = room.manager.context.host.hypervisor.guest('web2')
    other.present.append(fake.make_disk(fake.VOLUME_ID, 'vda'))  # type: ignore[attr-defined]
    return other


def test_what_another_guest_uses_is_not_given_back(room: Room) -> None:
    """Cinder's back end would take the export of this host away with the last attachment."""
    room.attach()
    other = let_the_other_have_it(room)
    with pytest.raises(exception.StillInUse, match='no other attachment of this host'):
        room.detach()
    assert room.guest.present == []
    assert 'delete_attachment' not in room.proxy.calls
    ((action, detail),) = [(one.action, one.detail) for one in room.manager.recover()]
    assert (action, 'web2' in detail) == ('failed', True)
    assert 'delete_attachment' not in room.proxy.calls
    other.present.clear()
    assert [one.action for one in room.manager.recover()] == ['finished']
    assert room.agrees()


def test_cinder_knows_of_the_other_guest(room: Room) -> None:
    room.attach()
    let_the_other_have_it(room)
    room.proxy.make_attachment(instance=fake.OTHER_UUID, status='attached')
    assert room.detach().still_used_by == ('web2',)
    assert room.proxy.calls.count('delete_attachment') == 1


def test_attachment_of_another_host_keeps_nothing_here(room: Room) -> None:
    room.attach()
    let_the_other_have_it(room)
    room.proxy.make_attachment(instance='somebody-else', status='attached')
    with pytest.raises(exception.StillInUse):
        room.detach()


def test_undone_attach_keeps_what_another_guest_uses(room: Room) -> None:
    other = let_the_other_have_it(room)
    room.fakes.fail['attach_disk'] = exception.HypervisorError(action='attach', reason='a test')
    with pytest.raises(exception.HypervisorError):
        room.attach()
    assert 'delete_attachment' not in room.proxy.calls
    other.present.clear()
    room.fakes.fail.clear()
    assert [one.action for one in room.manager.recover()] == ['undone']
    assert room.agrees()


def test_what_another_guest_uses_is_not_migrated(room: Room) -> None:
    """Cinder deletes the old place when one guest has gone over."""
    room.attach()
    let_the_other_have_it(room)
    volumes, new = room.proxy.volumes_, 'c1b2d3e4-0001-4aaa-8bbb-000000000999'
    volumes[fake.VOLUME_ID]['migration_status'] = 'migrating'
    room.proxy.make_volume(new, migration_status=f'target:{fake.VOLUME_ID}')
    with pytest.raises(exception.StillInUse, match='web2'):
        room.manager.swap('web1', fake.VOLUME_ID, new)
    # Cinder does not wait any longer, and nothing has changed.
    assert volumes[fake.VOLUME_ID]['migration_status'] == 'error'
    assert new not in volumes
    assert room.proxy.calls.count('create_attachment') == 1
    assert room.agrees()


@pytest.mark.parametrize('retries', [0, 3])
def test_a_step_lasts_longer_than_what_it_waits_for(room: Room, retries: int) -> None:
    """Else it would be left behind, and not say what it waited for."""
    options = {
        'cinder_retries': retries,
        'cinder_timeout': 10.0,
        'cinder_share_timeout': 1000.0,
        'lock_timeout': 2000,
    }
    for name, value in options.items():
        room.options.conf.set_override(name, value, 'volumedrivers')
    room.attach()
    plan = room.manager.plan.detach('web1', 'data')
    (release,) = [step.seconds for step in plan.steps if step.name == 'release']
    # The legacy flow looks, ends the connection, looks again, and detaches.
    assert release > 4 * 10
    room.detach()
    room.proxy.volumes_[fake.VOLUME_ID].update(is_multiattach=True, service_uuid='a back end')
    plan = room.manager.plan.attach('web1', 'data')
    seconds = {step.name: step.seconds for step in plan.steps}
    assert seconds['reserve'] > 1000 + 2 * 10
    assert seconds['export'] > 2 * 2000 + 10
