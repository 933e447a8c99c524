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

"""Cinder's side of an attachment: what is decided, and what comes of failures."""

import dataclasses
import itertools
import pathlib
import threading
import types
import typing

import pytest

from tests.unit import fake_hypervisor as fake
from tests.unit import fake_proxy
from tests.unit.fake_proxy import CHANGES
from tests.unit.fake_proxy import KEY
from tests.unit.fake_proxy import Room
from volumedrivers import exception
from volumedrivers.attachment import failure
from volumedrivers.attachment.block_storage import settle_decision
from volumedrivers.attachment.block_storage.flow import Side
from volumedrivers.attachment.block_storage.reservation import Operation
from volumedrivers.attachment.block_storage.settle_decision import Do
from volumedrivers.attachment.block_storage.settle_decision import Seen
from volumedrivers.attachment.block_storage.settle_decision import decide
from volumedrivers.host import boot
from volumedrivers.libvirt.connected_volume import Remainder

ATTACH, DETACH = Operation.ATTACH, Operation.DETACH
NONE, RESERVED, EXPORTED, ATTACHED = Side
DONE_HERE = {Do.NOTHING, Do.SETTLE, Do.COMPLETE, Do.REPORT}
DONE_GONE = {Do.RELEASE, Do.FORGET}
ALL = [
    Seen(operation, step, here, side, known, named, begun, early)
    for operation, step in settle_decision.all_steps()
    for here, side, known, named, begun, early in itertools.product(
        (True, False), Side, (True, False), (True, False), (True, False), (True, False)
    )
]


@pytest.fixture
def room(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    monkeypatch.setattr('volumedrivers.attachment.detach._FORMER_REQUEST', 0.0)
    return fake_proxy.make_room(tmp_path)


def recovered(room: Room) -> list[tuple[str, str]]:
    return [(one.action, one.detail) for one in room.manager.recover()]


def actions(room: Room) -> list[str]:
    return [action for action, _ in recovered(room)]


# the decision


def test_every_combination_is_decided() -> None:
    for seen in ALL:
        done = decide(seen)
        later = decide(seen._replace(early=False))
        # Cinder never gets back what this host has; and what it has not is not completed.
        assert later in (DONE_HERE if seen.here else DONE_GONE), seen
        # Only time is waited for, and only where something may still come.
        assert done in {later, Do.WAIT}, seen
        if done is Do.WAIT:
            assert seen.early, seen
            assert seen.operation is not None, seen
            assert seen.side is not Side.EXPORTED, seen
        if seen.here and seen.side in (NONE, RESERVED):
            assert done is Do.REPORT, seen
        if not seen.here and seen.side is NONE and done is not Do.WAIT:
            assert done is Do.FORGET, seen
        if seen.here and seen.side is ATTACHED and seen.operation is None:
            assert done is Do.NOTHING, seen


@pytest.mark.parametrize(
    ('operation', 'step', 'here', 'side', 'more', 'expected', 'undone'),
    [
        # an attach of which guest and host have nothing
        (ATTACH, 'reserve', False, NONE, {'known': False, 'early': True}, Do.WAIT, None),
        (ATTACH, 'reserve', False, NONE, {'known': False}, Do.FORGET, True),
        (ATTACH, 'reserve', False, RESERVED, {'known': False, 'early': True}, Do.RELEASE, True),
        (
            *(ATTACH, 'reserve', False, RESERVED),
            {'known': False, 'named': False, 'early': True},
            *(Do.WAIT, None),
        ),
        (ATTACH, 'reserve', False, RESERVED, {'known': False, 'named': False}, Do.RELEASE, True),
        (ATTACH, 'export', False, RESERVED, {'early': True}, Do.WAIT, None),
        (ATTACH, 'undo reserve', False, RESERVED, {'early': True}, Do.WAIT, None),
        (ATTACH, 'undo reserve', False, NONE, {'early': True}, Do.FORGET, True),
        (ATTACH, 'export', False, RESERVED, {}, Do.RELEASE, True),
        (ATTACH, 'export', False, EXPORTED, {'early': True}, Do.RELEASE, True),
        (ATTACH, 'attach', False, EXPORTED, {'early': True}, Do.RELEASE, True),
        (ATTACH, 'complete', False, ATTACHED, {}, Do.RELEASE, True),
        # one that they have
        (ATTACH, 'attach', True, EXPORTED, {'early': True}, Do.COMPLETE, False),
        (ATTACH, 'complete', True, ATTACHED, {'early': True}, Do.SETTLE, False),
        (ATTACH, 'complete', True, NONE, {}, Do.REPORT, None),
        (ATTACH, 'reserve', True, RESERVED, {}, Do.REPORT, None),
        # a detach
        (DETACH, 'begin', True, ATTACHED, {'early': True}, Do.WAIT, None),
        (DETACH, 'begin', True, ATTACHED, {'early': True, 'begun': True}, Do.SETTLE, True),
        (DETACH, 'begin', True, ATTACHED, {}, Do.SETTLE, True),
        (DETACH, 'detach', True, ATTACHED, {'early': True}, Do.SETTLE, True),
        (DETACH, 'detach', True, NONE, {}, Do.REPORT, None),
        (DETACH, 'release', False, ATTACHED, {'early': True}, Do.RELEASE, False),
        (DETACH, 'release', False, NONE, {'early': True}, Do.FORGET, False),
        # what was not interrupted
        (None, '', True, ATTACHED, {}, Do.NOTHING, None),
        (None, '', True, EXPORTED, {}, Do.COMPLETE, False),
        (None, '', True, NONE, {}, Do.REPORT, None),
        (None, '', False, ATTACHED, {}, Do.RELEASE, False),
        (None, '', False, NONE, {}, Do.FORGET, False),
    ],
)
def test_decision(
    operation: Operation | None,
    step: str,
    here: bool,
    side: Side,
    more: dict[str, bool],
    expected: Do,
    undone: bool | None,
) -> None:
    seen = Seen(operation, step, here, side, **{'known': True, **more})
    assert decide(seen) is expected
    if undone is not None:
        assert settle_decision.is_undone(seen, expected) is undone


# failures of an attach


@pytest.mark.parametrize('when', ['before', 'after', 'late'])
@pytest.mark.parametrize('why', [fake_proxy.silent, fake_proxy.answered])
@pytest.mark.parametrize(
    ('call', 'step', 'done'),
    [
        ('create_attachment', 'reserve', ()),
        ('update_attachment', 'export', ('reserve',)),
        ('complete_attachment', 'complete', ('reserve', 'export', 'attach')),
    ],
)
def test_attach_that_cinder_does_not_answer(
    room: Room,
    call: str,
    step: str,
    done: tuple[str, ...],
    why: typing.Callable[[str], Exception],
    when: str,
) -> None:
    if when == 'late':
        room.proxy.late.add(call)
    else:
        getattr(room.proxy, when)[call] = why(call)
    with pytest.raises(exception.CinderUnavailable) as caught:
        room.attach()
    told = failure.of(caught.value)
    assert told is not None
    assert (told.operation, told.step, told.done) == ('volume attach', step, done)
    assert room.guest.present == []
    assert room.record is None
    row = room.row
    assert told.record == ('none' if row is None else 'unfinished')
    if row is None:
        assert room.agrees()
        assert told.leftovers == ()
        assert told.undone == tuple(name for name in done[::-1] if name != 'export')
    else:
        # What Cinder may still do is waited for.
        assert row.problem
        assert 'recover' in str((caught.value.__notes__, told.notes))
        assert recovered(room)[0][0] == 'failed'
        assert room.row == row
    room.proxy.catch_up()
    room.pass_time()
    assert actions(room) == ([] if row is None else ['undone'])
    assert room.agrees()
    assert actions(room) == []
    room.attach()
    assert room.agrees()


def test_late_reservation_is_found_at_once(room: Room) -> None:
    room.proxy.late.add('create_attachment')
    with pytest.raises(exception.CinderUnavailable):
        room.attach()
    ((action, detail),) = recovered(room)
    assert action == 'failed'
    assert 'may still do' in detail
    room.proxy.catch_up()
    assert recovered(room) == [('undone', 'Cinder has the volume back')]
    assert room.agrees()


def test_nobody_listens(room: Room) -> None:
    """Nothing was sent: nothing is waited for."""
    room.proxy.before['create_attachment'] = fake_proxy.refused()
    with pytest.raises(exception.CinderUnavailable):
        room.attach()
    assert room.agrees()


def test_anothers_reservation_is_left_alone(room: Room) -> None:
    """Where no guest is named, nothing tells ours from one of another host."""
    room.options.conf.set_override('cinder_instance', False, 'volumedrivers')
    room.proxy.late.add('create_attachment')
    with pytest.raises(exception.CinderUnavailable):
        room.attach()
    other = room.proxy.make_attachment()
    room.proxy.volumes_[fake.VOLUME_ID]['status'] = 'reserved'
    assert actions(room) == ['failed']
    room.proxy.update_attachment(other, {'host': 'other-host'})
    room.pass_time()
    assert recovered(room) == [('undone', 'nothing was reserved')]
    assert list(room.proxy.attachments_) == [other]


def test_reserved_for_nobody(room: Room) -> None:
    """Cinder was stopped in the middle; only an administrator can put that right."""
    room.proxy.late.add('create_attachment')
    with pytest.raises(exception.CinderUnavailable):
        room.attach()
    room.proxy.volumes_[fake.VOLUME_ID]['status'] = 'reserved'
    room.pass_time()
    ((action, detail),) = recovered(room)
    assert action == 'failed'
    assert f'openstack volume set --state available {fake.VOLUME_ID}' in detail
    assert room.row is not None
    room.proxy.volumes_[fake.VOLUME_ID]['status'] = 'available'
    assert recovered(room) == [('undone', 'nothing was reserved')]
    assert room.agrees()


def test_refused_reservation_says_the_state(room: Room) -> None:
    """Another host was faster."""
    volume = room.proxy.volumes_[fake.VOLUME_ID]
    original = room.proxy.create_attachment

    def faster(*arguments: typing.Any, **attributes: typing.Any) -> typing.Any:
        volume['status'] = 'in-use'
        return original(*arguments, **attributes)

    room.proxy.create_attachment = faster  # type: ignore[method-assign]
    with pytest.raises(exception.WrongVolumeState):
        room.attach()
    assert room.row is None


@pytest.mark.parametrize('call', ['connect', 'attach_disk'])
def test_attach_that_fails_on_the_host(room: Room, call: str) -> None:
    room.fakes.fail[call] = exception.ConnectFailed(
        volume_id=fake.VOLUME_ID, driver_volume_type='iscsi', reason='by a test'
    )
    with pytest.raises(exception.ConnectFailed) as caught:
        room.attach()
    told = failure.of(caught.value)
    assert told is not None
    assert (told.step, told.undone, told.leftovers) == ('attach', ('reserve',), ())
    assert told.within is not None
    assert told.within.operation == 'attach'
    assert room.agrees()


def test_host_that_keeps_the_device_keeps_the_attachment(room: Room) -> None:
    """Cinder would give the LUN to somebody else."""
    broken = exception.DisconnectFailed(
        volume_id=fake.VOLUME_ID, driver_volume_type='iscsi', reason='by a test'
    )
    room.fakes.fail['attach_disk'] = exception.AttachRefused(
        guest='web1', disk='vda', reason='by a test'
    )
    room.fakes.fail['disconnect'] = broken
    with pytest.raises(exception.AttachRefused) as caught:
        room.attach()
    told = failure.of(caught.value)
    assert told is not None
    assert told.leftovers == ('the attachment in Cinder',)
    assert told.record == 'unfinished'
    assert 'delete_attachment' not in room.proxy.calls
    assert actions(room) == ['failed', 'failed']
    assert 'delete_attachment' not in room.proxy.calls
    room.fakes.fail.clear()
    # What guest and host had was to be removed.
    assert actions(room) == ['finished', 'undone']
    assert room.agrees()


def test_interrupted_while_it_is_attached(room: Room) -> None:
    room.fakes.fail['attach_disk'] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt) as caught:
        room.attach()
    told = failure.of(caught.value)
    assert told is not None
    assert (told.record, told.leftovers) == ('none', ())
    assert room.agrees()


@pytest.mark.parametrize('when', ['before', 'after'])
@pytest.mark.parametrize('named', [True, False])
@pytest.mark.parametrize('call', ['create_attachment', 'update_attachment', 'complete_attachment'])
def test_interrupted_while_cinder_is_asked(room: Room, call: str, named: bool, when: str) -> None:
    room.options.conf.set_override('cinder_instance', named, 'volumedrivers')
    getattr(room.proxy, when)[call] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt) as caught:
        room.attach()
    told = failure.of(caught.value)
    assert told is not None
    row = room.row
    assert told.record == ('none' if row is None else 'unfinished')
    # Only what may be of another host is waited for.
    assert (row is None) is (named or call != 'create_attachment')
    room.pass_time()
    assert actions(room) == ([] if row is None else ['undone'])
    assert room.agrees()
    assert room.proxy.attachments_ == {}


def test_late_step_is_left_behind(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is taken back under its hands; the lock is kept until it has ended."""
    monkeypatch.setattr('volumedrivers.attachment.block_storage.context._MARGIN', -3.7)
    room.options.conf.set_override('cinder_timeout', 1.0, 'volumedrivers')
    room.options.conf.set_override('cinder_retries', 0, 'volumedrivers')
    go = threading.Event()
    original = room.proxy.create_attachment

    def slow(*arguments: typing.Any, **attributes: typing.Any) -> typing.Any:
        assert go.wait(20)
        return original(*arguments, **attributes)

    room.proxy.create_attachment = slow  # type: ignore[method-assign]
    with pytest.raises(exception.DeadlineExceeded) as caught:
        room.attach()
    told = failure.of(caught.value)
    assert told is not None
    assert (told.step, told.record) == ('reserve', 'unfinished')
    assert told.leftovers == ('the attachment in Cinder',)
    assert actions(room) == ['running']
    go.set()
    name = f'reservation {fake.VOLUME_ID}'
    room.manager.context.locks.acquire((name,), what='a test', seconds=20).release()
    assert recovered(room) == [('undone', 'Cinder has the volume back')]
    assert room.agrees()


@pytest.mark.parametrize('call', ['begin_volume_detaching', 'detach_disk', 'delete_attachment'])
def test_interrupted_detach(room: Room, call: str) -> None:
    made = room.attach().attachment_id
    room.proxy.after[call] = room.fakes.fail[call] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt) as caught:
        room.detach()
    told = failure.of(caught.value)
    assert told is not None
    assert told.record == ('attached' if room.row and room.row.is_settled else 'unfinished')
    # What was begun is undone, unless guest and host have let go.
    left = f'attachment {made} in Cinder'
    assert told.leftovers == ((left,) if call == 'delete_attachment' else ())
    room.fakes.fail.clear()
    room.pass_time()
    actions(room)
    assert room.agrees()
    assert actions(room) == []


@pytest.mark.parametrize('number', range(7))
def test_journal_that_cannot_be_written(room: Room, number: int) -> None:
    """At each of the writes of an attach."""
    left = number
    original = room.reservations.put

    def put(row: typing.Any) -> typing.Any:
        nonlocal left
        if not left:
            raise exception.JournalUnusable(path='x', reason='the disk is full')
        left -= 1
        return original(row)

    room.reservations.put = put  # type: ignore[method-assign]
    if number == 6:
        room.attach()
        assert left == 0
    else:
        with pytest.raises(exception.JournalUnusable):
            room.attach()
    room.reservations.put = original  # type: ignore[method-assign]
    assert room.agrees()


def test_attached_by_somebody_else(room: Room) -> None:
    room.guest.present.append(fake.make_disk(fake.VOLUME_ID, 'vda'))
    with pytest.raises(exception.AlreadyAttached):
        room.attach()
    assert room.proxy.changes == []


def test_attached_again_after_the_guest_lost_it(room: Room) -> None:
    room.attach()
    room.host.detach('web1', fake.VOLUME_ID)
    room.attach()
    assert room.agrees()
    assert room.proxy.changes.count('delete_attachment') == 1


# failures of a detach


@pytest.mark.parametrize('when', ['before', 'after', 'late'])
@pytest.mark.parametrize('why', [fake_proxy.silent, fake_proxy.answered])
@pytest.mark.parametrize('call', ['begin_volume_detaching', 'delete_attachment'])
def test_detach_that_cinder_does_not_answer(
    room: Room, call: str, why: typing.Callable[[str], Exception], when: str
) -> None:
    room.attach()
    if when == 'late':
        room.proxy.late.add(call)
    else:
        getattr(room.proxy, when)[call] = why(call)
    with pytest.raises(exception.CinderUnavailable) as caught:
        room.detach()
    told = failure.of(caught.value)
    row = room.row
    assert told is not None
    assert row is not None
    has = call == 'begin_volume_detaching'
    assert bool(room.guest.present) is has
    assert told.step == ('begin' if has else 'release')
    assert told.undone == ()
    if has and row.is_settled:
        assert told.record == 'attached'
        assert room.agrees()
        assert actions(room) == []
    else:
        assert told.record == 'unfinished'
        assert row.operation is DETACH
        room.proxy.catch_up()
        room.pass_time()
        assert actions(room) == (['undone'] if has else ['finished'])
        assert room.agrees()
        assert actions(room) == []
    if has:
        room.detach()
        assert room.agrees()


def test_detach_goes_on_with_one_that_was_interrupted(room: Room) -> None:
    """It does not wait until it is certain that Cinder has not begun."""
    room.attach()
    room.proxy.before['begin_volume_detaching'] = fake_proxy.silent()
    with pytest.raises(exception.CinderUnavailable):
        room.detach()
    assert room.row is not None
    assert not room.row.is_settled
    assert room.detach().removed_from_guest
    assert room.agrees()


def test_guest_that_does_not_let_go(room: Room) -> None:
    room.attach()
    room.fakes.fail['detach_disk'] = exception.DetachTimeout(
        guest='web1', disk='vda', attempts=1, seconds=1
    )
    with pytest.raises(exception.DetachTimeout) as caught:
        room.detach()
    told = failure.of(caught.value)
    assert told is not None
    assert (told.undone, told.record, told.leftovers) == (('begin',), 'attached', ())
    assert room.status == 'in-use'
    assert room.row is not None
    assert room.row.is_settled
    assert 'did not release' in room.row.problem


def test_host_that_does_not_let_go(room: Room) -> None:
    room.attach()
    room.driver.left = [Remainder('device', '/dev/sda')]
    with pytest.raises(exception.LeftoversFound):
        room.detach()
    assert room.status == 'in-use'
    with pytest.raises(exception.LeftoversFound):
        room.detach(force=True)
    assert room.status == 'in-use'
    assert 'delete_attachment' not in room.proxy.calls
    room.driver.left = []
    assert actions(room) == ['finished', 'finished']
    assert room.agrees()


@pytest.mark.parametrize('call', ['begin_volume_detaching', 'detach_disk'])
def test_anothers_attachment_stays_anothers(room: Room, call: str) -> None:
    """A detach that failed leaves no row of what somebody else has attached."""
    made = room.attach().attachment_id
    assert room.row is not None
    room.reservations.remove(KEY)
    room.host.context.journal.remove(KEY)
    room.proxy.before['begin_volume_detaching'] = fake_proxy.answered()
    if call == 'detach_disk':
        room.proxy.before.clear()
        room.fakes.fail[call] = exception.DetachTimeout(
            guest='web1', disk='vda', attempts=1, seconds=1
        )
    with pytest.raises(exception.RetryLater):
        room.detach()
    assert room.row is None
    assert room.record is None
    assert room.status == 'in-use'
    assert list(room.proxy.attachments_) == [made]
    room.fakes.fail.clear()
    assert room.detach().attachment_id == made
    assert room.agrees()


def test_detach_of_a_volume_that_cinder_deleted(room: Room) -> None:
    room.attach()
    room.proxy.attachments_.clear()
    del room.proxy.volumes_[fake.VOLUME_ID]
    assert room.detach().removed_from_guest
    assert room.row is None


def test_service_role_is_needed(room: Room) -> None:
    room.attach()
    room.proxy.before['delete_attachment'] = exception.ServiceRoleNeeded(
        action='delete attachment', reason='by a test'
    )
    room.proxy.for_ever = True
    with pytest.raises(exception.ServiceRoleNeeded):
        room.detach()
    assert room.guest.present == []
    assert actions(room) == ['failed']
    room.proxy.before.clear()
    assert recovered(room) == [('finished', 'Cinder has the volume back')]
    assert room.agrees()


# recover


def test_lost_attachment_is_told_and_nothing_removed(room: Room) -> None:
    room.attach()
    room.proxy.attachments_.clear()
    for _ in range(2):
        ((action, detail),) = recovered(room)
        assert action == 'failed'
        assert 'may give the volume to somebody else' in detail
    assert room.guest.present
    assert room.row is not None
    assert room.record is not None


def test_attachment_that_nothing_backs_is_deleted(room: Room) -> None:
    room.attach()
    room.host.detach('web1', fake.VOLUME_ID)
    assert recovered(room) == [('finished', 'Cinder has the volume back')]
    assert room.agrees()
    assert actions(room) == []


def test_what_was_forgotten_is_not_given_back(room: Room) -> None:
    """The row of guest and host was removed by force, and the device is there."""
    room.attach()
    room.guest.present.clear()
    room.driver.left = [Remainder('device', '/dev/sda')]
    room.host.forget('web1', fake.VOLUME_ID, force=True)
    ((action, detail),) = recovered(room)
    assert action == 'failed'
    assert '/dev/sda' in detail
    assert 'delete_attachment' not in room.proxy.calls
    room.driver.left = []
    assert actions(room) == ['finished']


def test_what_was_forgotten_in_the_middle_is_not_given_back(room: Room) -> None:
    """The process was killed, and then somebody forgot what it left on the host."""
    room.attach()
    room.guest.present.clear()
    room.driver.left = [Remainder('device', '/dev/sda')]
    assert room.row is not None
    room.reservations.put(dataclasses.replace(room.row, operation=DETACH, step='detach'))
    room.host.forget('web1', fake.VOLUME_ID, force=True)
    ((action, detail),) = recovered(room)
    assert action == 'failed'
    assert '/dev/sda' in detail
    assert 'delete_attachment' not in room.proxy.calls
    room.driver.left = []
    assert actions(room) == ['finished']
    assert room.agrees()


def test_nothing_to_do_costs_one_request(room: Room) -> None:
    for number in range(3):
        name = f'volume {number}'
        room.proxy.make_volume(f'c1b2d3e4-0001-4aaa-8bbb-00000000010{number}', name=name)
        room.driver.identity = dataclasses.replace(room.driver.identity, value=name)  # type: ignore[type-var]
        room.manager.attach('web1', name)
    del room.proxy.calls[:]
    assert actions(room) == []
    assert room.proxy.calls == ['attachments']


def interrupted(room: Room, volumes: int) -> None:
    """Leave rows of detaches that Cinder did not answer."""
    for number in range(volumes):
        volume_id = f'c1b2d3e4-0001-4aaa-8bbb-00000000010{number}'
        room.proxy.make_volume(volume_id, name=f'volume {number}')
        room.manager.attach('web1', volume_id)
        room.proxy.before['delete_attachment'] = fake_proxy.answered()
        with pytest.raises(exception.CinderUnavailable):
            room.manager.detach('web1', volume_id)


def test_silent_cinder_is_asked_once(room: Room) -> None:
    interrupted(room, 4)
    room.proxy.before['all'] = fake_proxy.silent()
    room.proxy.for_ever = True
    del room.proxy.calls[:]
    outcomes = recovered(room)
    assert [action for action, _ in outcomes] == ['failed'] * 4
    assert all('when Cinder can be asked' in detail for _, detail in outcomes)
    assert len(room.proxy.calls) == 1
    room.proxy.before.clear()
    assert actions(room) == ['finished'] * 4


def test_cinder_that_falls_silent_meanwhile(room: Room) -> None:
    interrupted(room, 4)
    room.proxy.before['get_attachment'] = fake_proxy.silent()
    room.proxy.for_ever = True
    del room.proxy.calls[:]
    assert actions(room) == ['failed'] * 4
    assert room.proxy.calls == ['attachments', 'get_attachment']


def without_cinder(room: Room) -> None:
    room.manager.context = dataclasses.replace(room.manager.context, storage=fake_proxy.NoCinder())


def test_without_a_cinder_the_host_is_recovered(room: Room) -> None:
    room.fakes.fail['disconnect'] = exception.DisconnectFailed(
        volume_id=fake.VOLUME_ID, driver_volume_type='iscsi', reason='by a test'
    )
    room.fakes.fail['attach_disk'] = exception.AttachRefused(
        guest='web1', disk='vda', reason='by a test'
    )
    with pytest.raises(exception.AttachRefused):
        room.attach()
    room.fakes.fail.clear()
    without_cinder(room)
    (host, detail), (cinder, why) = recovered(room)
    assert (host, cinder) == ('undone', 'failed')
    assert detail == 'removed from the host'
    assert 'group [cinder] has no auth_type' in why
    assert room.record is None
    assert room.row is not None
    assert actions(room) == ['failed']


def test_without_a_cinder_nothing_is_said_of_what_is_attached(room: Room) -> None:
    room.attach()
    without_cinder(room)
    assert actions(room) == []


def test_row_of_another_cinder(room: Room) -> None:
    interrupted(room, 1)
    room.manager.context = dataclasses.replace(
        room.manager.context, storage=fake_proxy.make_storage(room.proxy, 'http://other.test')
    )
    ((action, detail),) = recovered(room)
    assert action == 'failed'
    assert fake_proxy.ENDPOINT in detail
    assert 'http://other.test' in detail


class OtherProject:
    """A user's connection, which names a project.

    :ivar config: None: nothing is said of where Cinder is
    """

    config = None

    def __init__(self, project: str | None) -> None:
        self.session = types.SimpleNamespace(get_project_id=lambda: project)


def be_in(room: Room, project: str | None) -> None:
    room.manager.context.storage.connection = typing.cast(typing.Any, OtherProject(project))


def hide(room: Room) -> tuple[dict[str, typing.Any], dict[str, typing.Any]]:
    """Show nothing of the volume, as Cinder does to another project."""
    kept = dict(room.proxy.volumes_), dict(room.proxy.attachments_)
    room.proxy.volumes_.clear()
    room.proxy.attachments_.clear()
    return kept


def test_another_project_sees_nothing_and_removes_nothing(room: Room) -> None:
    be_in(room, 'one')
    room.attach()
    assert room.row is not None
    assert room.row.project == 'one'
    room.host.detach('web1', fake.VOLUME_ID)
    volumes, attachments = hide(room)
    be_in(room, 'another')
    ((action, detail),) = recovered(room)
    assert action == 'failed'
    assert 'project one' in detail
    assert 'project another' in detail
    with pytest.raises(exception.CinderNotConfigured):
        room.detach()
    assert room.row is not None
    room.proxy.volumes_, room.proxy.attachments_ = volumes, attachments
    # An administrator of another project sees it.
    assert actions(room) == ['finished']
    assert room.agrees()


def test_another_project_does_not_detach(room: Room) -> None:
    """The guest would lose it, and Cinder keep it for nobody."""
    be_in(room, 'one')
    room.attach()
    hide(room)
    be_in(room, 'another')
    with pytest.raises(exception.CinderNotConfigured):
        room.detach()
    with pytest.raises(exception.CinderNotConfigured):
        room.manager.plan.detach('web1', 'data')
    assert room.guest.present
    assert room.record is not None


@pytest.mark.parametrize('project', ['one', None])
def test_deleted_by_cinder(room: Room, project: str | None) -> None:
    be_in(room, 'one')
    room.attach()
    hide(room)
    be_in(room, project)
    assert room.manager.plan.detach('web1', 'data').status == 'deleted'
    room.host.detach('web1', fake.VOLUME_ID)
    assert recovered(room) == [('finished', 'Cinder had the volume back already')]
    assert room.row is None


def test_running_operation_is_left_alone(room: Room) -> None:
    interrupted(room, 1)
    (row,) = room.reservations.find()
    with room.manager.context.lock(row.volume_id, 'detach', 'web1'):
        ((action, detail),) = recovered(room)
    assert action == 'running'
    assert f'detach of volume {row.volume_id}' in detail
    assert actions(room) == ['finished']


def test_volume_that_is_being_worked_on_here_is_left_alone(room: Room) -> None:
    room.attach()
    room.proxy.before['delete_attachment'] = fake_proxy.answered()
    room.fakes.fail['disconnect'] = exception.DisconnectFailed(
        volume_id=fake.VOLUME_ID, driver_volume_type='iscsi', reason='by a test'
    )
    with pytest.raises(exception.DisconnectFailed):
        room.detach()
    room.fakes.fail.clear()
    with room.host.context.lock_volume(fake.VOLUME_ID, 'detach', 'web1'):
        assert set(actions(room)) <= {'running'}


def test_libvirt_that_does_not_answer(room: Room) -> None:
    interrupted(room, 2)
    room.fakes.fail['disks'] = exception.HypervisorUnavailable(uri='fake:///', reason='gone')
    assert actions(room) == ['failed', 'failed']
    room.fakes.fail.clear()
    assert actions(room) == ['finished', 'finished']


def test_reboot_and_cinder_knows_the_credentials(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The volume is connected again; the journal has no secret, and Cinder has."""
    room.attach()
    monkeypatch.setattr(boot, 'current', lambda: 'the next one')
    del room.fakes.calls[:]
    assert actions(room) == ['reconnected']
    assert 'connect' in room.fakes.calls
    assert room.agrees()
    assert actions(room) == []


def test_reboot_and_the_guest_is_gone(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.attach()
    room.guest.present.clear()
    monkeypatch.setattr(boot, 'current', lambda: 'the next one')
    assert actions(room) == ['finished', 'finished']
    assert room.agrees()


def test_reboot_without_a_cinder(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.attach()
    monkeypatch.setattr(boot, 'current', lambda: 'the next one')
    without_cinder(room)
    ((action, detail),) = recovered(room)
    assert action == 'failed'
    assert room.record is not None
    assert detail


def test_changes_are_those_of_cinder() -> None:
    assert set(CHANGES) <= set(dir(fake_proxy.FakeProxy))
    assert KEY.endswith(fake.VOLUME_ID)
