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

"""What recover makes of a row, by what guest and host are now."""

import dataclasses
import pathlib
import threading
import typing

import pytest

from tests.unit import fake_hypervisor as fake
from volumedrivers import exception
from volumedrivers.attachment.journal import Journal
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.record import make_key
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import boot
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import Remainder
from volumedrivers.libvirt.disk import IOTune
from volumedrivers.libvirt.driver import Capability

INFO = ConnectionInfo.parse(fake.connection_info())
KEY = make_key(fake.GUEST_UUID, fake.VOLUME_ID)
LOOKING = ('current_identity', 'remains')
Outcomes = list[tuple[str, str]]


class Guest(fake.FakeGuest):
    """Has one definition less when it does not run."""

    def is_running(self) -> bool:
        self.fakes.note('is_running')
        return self.running


@dataclasses.dataclass
class Room:
    """A host on which an operation was interrupted."""

    fakes: fake.Calls
    guest: fake.FakeGuest
    driver: fake.FakeDriver
    manager: AttachmentManager

    @property
    def calls(self) -> list[str]:
        """What was changed; not what was only looked at."""
        return [call for call in self.fakes.calls if call not in (*LOOKING, 'is_running')]

    @property
    def journal(self) -> Journal:
        return self.manager.context.journal

    @property
    def record(self) -> Record | None:
        return self.journal.get(KEY)

    def interrupted(self, operation: Operation | None, step: str, **changes: object) -> None:
        """Attach, and let the row say that an operation had come so far."""
        self.manager.attach(INFO, 'web1')
        record = self.record
        assert record is not None
        values: dict[str, typing.Any] = {
            'was_attached': operation is not Operation.ATTACH,
            'operation': operation,
            'step': step,
            **changes,
        }
        self.journal.put(dataclasses.replace(record, **values))
        del self.fakes.calls[:]

    def recover(self, *, with_secrets: bool = True) -> Outcomes:
        infos = {fake.VOLUME_ID: INFO} if with_secrets else {}
        return [(o.action, o.detail) for o in self.manager.recover(infos)]

    def actions(self) -> list[str]:
        return [action for action, _ in self.recover()]


@pytest.fixture
def room(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    # No process that asked libvirt for anything has died a moment ago.
    monkeypatch.setattr('volumedrivers.attachment.detach._FORMER_REQUEST', 0.0)
    fakes = fake.Calls()
    guest = Guest(fakes)
    other = fake.FakeGuest(fakes, 'web2', fake.OTHER_UUID)
    driver = fake.FakeDriver(fakes)
    manager = fake.make_manager(fake.make_conf(), tmp_path, driver, guest, other)
    return Room(fakes, guest, driver, manager)


def settled(room: Room, problem: str = '') -> bool:
    record = room.record
    return (
        record is not None
        and record.is_settled
        and record.problem == problem
        and record.boot_id == boot.current()
    )


# attach


def test_attach_that_came_into_the_guest_is_finished(room: Room) -> None:
    room.interrupted(Operation.ATTACH, 'attach')
    assert room.recover() == [('finished', 'guest web1 has the volume')]
    assert room.calls == []
    assert settled(room)
    assert room.recover() == []


def test_attach_that_did_not_is_undone(room: Room) -> None:
    room.interrupted(Operation.ATTACH, 'attach')
    room.guest.present = []
    assert room.recover() == [('undone', 'removed from the host')]
    assert room.calls == ['disconnect']
    assert room.record is None
    assert room.recover() == []


def test_attach_of_which_only_the_intent_is_known(room: Room) -> None:
    """Killed while it was connecting: what came of that nobody wrote down."""
    room.interrupted(Operation.ATTACH, 'connect', volume=None, source='', target=None)
    room.guest.present = []
    assert room.actions() == ['undone']
    assert room.calls == ['disconnect']
    assert room.driver.disconnect_options['volume'] is None
    assert room.record is None


def test_half_of_an_attach_is_taken_back(room: Room) -> None:
    room.interrupted(Operation.ATTACH, 'attach')
    room.guest.defined = []
    assert room.recover() == [('undone', 'removed from the guest and host')]
    assert room.calls == ['detach_disk', 'disconnect']
    assert room.record is None


def test_disk_of_this_volume_that_is_not_what_was_attached_goes(room: Room) -> None:
    room.interrupted(Operation.ATTACH, 'attach', source='/dev/disk/by-id/another')
    assert room.actions() == ['undone']
    assert room.calls == ['detach_disk', 'disconnect']


def test_disk_of_somebody_else_with_the_same_source_stays(room: Room) -> None:
    """The attach was killed before libvirt was asked, and never made that disk."""
    room.interrupted(Operation.ATTACH, 'attach')
    room.guest.present = [fake.make_disk(None, 'vdz', path=fake.PATH)]
    assert room.actions() == ['undone']
    assert 'detach_disk' not in room.calls
    assert len(room.guest.present) == 1


def test_guest_keeps_what_it_had_before_the_attach(room: Room) -> None:
    """A disk of one definition was to be completed."""
    room.interrupted(Operation.ATTACH, 'connect', was_attached=True, volume=None)
    room.guest.defined = []
    assert room.actions() == ['undone', 'reconnected']
    assert room.calls == ['connect']
    assert len(room.guest.present) == 1
    assert settled(room)


def test_attach_of_a_device_that_is_another_one_now(room: Room) -> None:
    room.interrupted(Operation.ATTACH, 'attach')
    room.driver.identity = Identity('wwn', '3601')
    for _ in range(2):
        ((action, detail),) = room.recover()
        assert action == 'failed'
        assert 'wwn:3600' in detail
        assert 'wwn:3601' in detail
    assert room.calls == []
    record = room.record
    assert record is not None
    assert record.operation is Operation.ATTACH


def test_attach_to_a_guest_that_is_gone(room: Room) -> None:
    room.interrupted(Operation.ATTACH, 'attach')
    remove_guest(room)
    assert room.actions() == ['undone']
    assert room.calls == ['disconnect']
    assert room.record is None


def remove_guest(room: Room) -> None:
    hypervisor = typing.cast(fake.FakeHypervisor, room.manager.context.hypervisor)
    hypervisor._guests = hypervisor._guests[1:]


# detach


@pytest.mark.parametrize('has_it', [True, False])
@pytest.mark.parametrize('step', ['detach', 'disconnect', 'undo connect'])
def test_detach_is_finished_wherever_it_was(room: Room, step: str, has_it: bool) -> None:
    room.interrupted(Operation.DETACH, step, wanted={'force': False})
    if not has_it:
        room.guest.present = []
    assert room.actions() == ['finished']
    assert room.calls == [*(['detach_disk'] if has_it else []), 'disconnect']
    assert room.record is None
    assert room.recover() == []


def test_disk_that_a_dead_process_has_asked_for_is_not_asked_for_again(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libvirt 9.0 crashes when QEMU lets it go in between."""
    monkeypatch.setattr('volumedrivers.attachment.detach._FORMER_REQUEST', 20.0)
    room.interrupted(Operation.DETACH, 'detach', wanted={})
    looks: list[None] = []

    def is_running() -> bool:
        looks.append(None)
        if len(looks) == 3:
            room.guest.present = []
        return True

    monkeypatch.setattr(room.guest, 'is_running', is_running)
    assert room.actions() == ['finished']
    assert room.calls == ['disconnect']
    assert len(looks) == 3


def test_disk_that_stays_is_asked_for_again(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('volumedrivers.attachment.detach._FORMER_REQUEST', 0.05)
    room.interrupted(Operation.DETACH, 'detach', wanted={})
    assert room.actions() == ['finished']
    assert room.calls == ['detach_disk', 'disconnect']


def test_interrupt_when_all_was_done_brings_no_row_back(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = room.journal.remove

    def interrupted(key: str) -> bool:
        remove(key)
        raise KeyboardInterrupt

    room.manager.attach(INFO, 'web1')
    monkeypatch.setattr(room.journal, 'remove', interrupted)
    with pytest.raises(KeyboardInterrupt):
        room.manager.detach('web1', fake.VOLUME_ID)
    assert room.record is None


def test_forced_detach_is_forced_again(room: Room) -> None:
    room.interrupted(Operation.DETACH, 'disconnect', wanted={'force': True})
    room.recover()
    assert room.driver.disconnect_options['force'] is True


def test_detach_of_a_device_that_is_another_one_now(room: Room) -> None:
    room.interrupted(Operation.DETACH, 'disconnect', wanted={})
    room.guest.present = []
    room.driver.identity = Identity('wwn', '3601')
    assert room.actions() == room.actions() == ['failed']
    assert room.calls == []
    record = room.record
    assert record is not None
    assert 'wwn:3601' in record.problem


def test_detach_that_leaves_something_stays(room: Room) -> None:
    room.interrupted(Operation.DETACH, 'disconnect', wanted={'force': True})
    room.driver.left = [Remainder('device', '/dev/sdb')]
    ((action, detail),) = room.recover()
    assert (action, 'device /dev/sdb' in detail) == ('failed', True)
    assert room.record is not None
    room.driver.left = []
    assert room.actions() == ['finished']
    assert room.record is None


# extend and QoS


def extending(room: Room, **changes: object) -> None:
    room.interrupted(Operation.EXTEND, 'resize', **{'wanted': {'size': 2 * fake.GIB}, **changes})
    room.driver.size = 2 * fake.GIB


def test_extend_is_done_again(room: Room) -> None:
    extending(room)
    assert room.actions() == ['finished']
    assert room.calls == ['extend', f'resize_disk vda {2 * fake.GIB}']
    assert settled(room)
    assert room.recover() == []


def test_extend_that_cannot_be_done_leaves_the_volume_attached(room: Room) -> None:
    extending(room)
    room.driver.size = fake.GIB
    assert room.actions() == ['failed']
    record = room.record
    assert record is not None
    assert record.is_settled
    assert record.problem.startswith('extend: ')
    assert room.recover() == []


@pytest.mark.parametrize('is_gone', [True, False])
def test_extend_of_a_disk_that_the_guest_has_no_more(room: Room, is_gone: bool) -> None:
    extending(room)
    room.guest.present = []
    if is_gone:
        remove_guest(room)
    ((action, detail),) = room.recover()
    assert (action, 'does not have the volume' in detail) == ('undone', True)
    assert settled(room, detail)
    assert room.calls == []


@pytest.mark.parametrize('fails', [True, False])
def test_row_of_a_volume_that_was_not_recorded_before_goes(room: Room, fails: bool) -> None:
    extending(room, was_attached=False)
    if fails:
        room.fakes.fail['extend'] = exception.ExtendVolumeFailed(volume_id='v', reason='r')
    assert room.actions() == ['failed' if fails else 'finished']
    assert room.record is None
    assert len(room.guest.present) == 1


def test_extend_that_may_succeed_later_stays(room: Room) -> None:
    extending(room)
    room.fakes.fail['extend'] = exception.Busy(what='w', reason='somebody')
    assert room.actions() == ['failed']
    record = room.record
    assert record is not None
    assert (record.operation, record.wanted) == (Operation.EXTEND, {'size': 2 * fake.GIB})
    assert 'somebody' in record.problem
    room.fakes.fail.clear()
    assert room.actions() == ['finished']
    assert settled(room)


@pytest.mark.parametrize('operation', [Operation.DETACH, Operation.EXTEND])
def test_target_that_others_work_on_is_waited_for_another_time(
    room: Room, operation: Operation
) -> None:
    room.interrupted(operation, 'begun', wanted={'size': fake.GIB})
    conf = typing.cast(typing.Any, room.manager.context.registry.context).conf
    conf.set_override('lock_timeout', 0.1, 'volumedrivers')
    with room.manager.context.locks.acquire(
        room.driver.lock_names(INFO), what='attach of another volume', seconds=0
    ):
        ((action, detail),) = room.recover()
    assert (action, 'attach of another volume' in detail) == ('running', True)
    assert room.actions() == ['finished']


def test_limits_are_set_again(room: Room) -> None:
    room.interrupted(Operation.QOS, 'limit', wanted={'limits': {'read_iops_sec': 5}})
    assert room.actions() == ['finished']
    assert room.guest.limits == IOTune(read_iops_sec=5)
    assert settled(room)


# reconnect and repair


def test_repair_changes_nothing_that_has_to_be_undone(room: Room) -> None:
    room.interrupted(Operation.REPAIR, 'connect')
    assert room.actions() == ['finished']
    assert room.calls == []
    assert settled(room)


def test_repair_of_a_device_that_is_another_one_now(room: Room) -> None:
    room.interrupted(Operation.REPAIR, 'connect')
    room.driver.identity = Identity('wwn', '3601')
    assert room.actions() == ['failed']
    assert room.record is not None
    assert room.record.operation is Operation.REPAIR


def test_reconnect_is_done_again(room: Room) -> None:
    room.interrupted(Operation.RECONNECT, 'connect', boot_id='the one before')
    room.guest.running = False
    assert room.actions() == ['undone', 'reconnected']
    assert room.calls == ['connect']
    assert settled(room)
    assert room.recover() == []


def test_reconnect_needs_the_credentials(room: Room) -> None:
    room.interrupted(Operation.RECONNECT, 'connect', boot_id='the one before')
    (first, (action, detail)) = room.recover(with_secrets=False)
    assert first[0] == 'undone'
    assert (action, 'connection_info' in detail) == ('failed', True)
    assert room.calls == []
    assert room.actions() == ['reconnected']


def test_another_volume_is_not_recorded_as_the_one_that_was(room: Room) -> None:
    """A reconnect that was killed before it had compared what it found."""
    room.interrupted(None, '', boot_id='the one before')
    room.guest.running = False
    room.driver.identity = Identity('wwn', '3601')
    for _ in range(2):
        ((action, detail),) = room.recover()
        assert (action, 'wwn:3601' in detail) == ('failed', True)
        record = room.record
        assert record is not None
        assert record.volume is not None
        assert record.volume.identity == Identity('wwn', '3600')
        assert record.boot_id == 'the one before'


# after a reboot


def test_volume_of_a_persistent_guest_is_connected_again(room: Room) -> None:
    room.interrupted(None, '', boot_id='the one before')
    room.guest.running = False
    assert room.recover() == [('reconnected', f'under {fake.PATH}')]
    assert room.calls == ['connect']
    assert settled(room)
    assert room.recover() == []


def test_row_of_a_guest_that_did_not_outlive_the_reboot_goes(room: Room) -> None:
    room.interrupted(None, '', boot_id='the one before')
    remove_guest(room)
    assert room.actions() == ['finished']
    # What was connected went with the boot, and what has its name is not ours.
    assert room.calls == []
    assert room.record is None


def test_what_outlived_the_reboot_is_removed(room: Room) -> None:
    """Such as a libvirt secret."""
    room.interrupted(None, '', boot_id='the one before')
    remove_guest(room)
    room.driver.left = [Remainder('secret', 'volume v')]
    original = room.driver.disconnect_volume

    def disconnect(*arguments: typing.Any, **options: typing.Any) -> None:
        original(*arguments, **options)
        room.driver.left = []

    typing.cast(typing.Any, room.driver).disconnect_volume = disconnect
    assert room.actions() == ['finished']
    assert room.calls == ['disconnect']
    assert room.record is None


def test_storage_that_maps_the_volume_to_this_host_is_told_after_a_reboot(room: Room) -> None:
    """A reboot takes the device away, and the storage does not hear of it."""
    room.interrupted(None, '', boot_id='the one before')
    remove_guest(room)
    typing.cast(typing.Any, room.driver).CAPABILITIES = frozenset((Capability.STORAGE_MAPPING,))
    assert room.actions() == ['finished']
    assert room.calls == ['disconnect']
    assert room.record is None


@pytest.mark.parametrize('running', [True, False])
def test_attach_that_a_reboot_interrupted(room: Room, running: bool) -> None:
    """The guest has it in its definition, and may have been started with it."""
    room.interrupted(Operation.ATTACH, 'attach', boot_id='the one before')
    room.guest.running = running
    assert room.actions() == ['undone', 'reconnected']
    assert room.calls == ['connect']
    assert len(room.guest.present) == 1
    assert settled(room)


def test_extend_that_a_reboot_interrupted(room: Room) -> None:
    extending(room, boot_id='the one before')
    room.guest.running = False
    (action, detail), (second, _) = room.recover()
    assert (action, second) == ('undone', 'reconnected')
    assert str(2 * fake.GIB) in detail
    assert room.calls == ['connect']


def test_detach_that_a_reboot_interrupted(room: Room) -> None:
    room.interrupted(Operation.DETACH, 'disconnect', boot_id='the one before', wanted={})
    room.guest.present = []
    room.driver.identity = Identity('wwn', '3601')  # somebody else's by now
    assert room.actions() == ['finished']
    assert room.calls == []
    assert room.record is None


# beside others


def test_running_operation_is_left_alone(room: Room) -> None:
    room.interrupted(Operation.ATTACH, 'connect')
    before = room.record
    with room.manager.context.lock_volume(fake.VOLUME_ID, 'attach', 'web1'):
        ((action, detail),) = room.recover()
    assert action == 'running'
    assert f'attach of volume {fake.VOLUME_ID} and guest web1' in detail
    assert room.record == before
    assert room.calls == []


def test_operation_that_was_left_behind_is_running_until_it_has_ended(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, release = threading.Event(), threading.Event()
    original = room.driver.connect_volume

    def connect(*arguments: typing.Any) -> object:
        begun.set()
        release.wait(10)
        return original(*arguments)

    monkeypatch.setattr(room.driver, 'connect_volume', connect)
    conf = typing.cast(typing.Any, room.manager.context.registry.context).conf
    conf.set_override('connect_timeout', 0.1, 'volumedrivers')
    with pytest.raises(exception.DeadlineExceeded) as caught:
        room.manager.attach(INFO, 'web1')
    assert begun.is_set()
    assert 'volumedrivers recover' in str(caught.value.__notes__)
    record = room.record
    assert record is not None
    assert (record.operation, record.step) == (Operation.ATTACH, 'connect')
    ((action, detail),) = room.recover()
    assert (action, 'past its deadline' in detail) == ('running', True)
    assert 'disconnect' not in room.calls

    release.set()
    # Until the thread has ended and given up the lock.
    room.manager.context.lock_volume(fake.VOLUME_ID, 'test', 'web1', seconds=5).release()
    assert room.actions() == ['undone']
    assert room.calls == ['connect', 'disconnect']
    assert room.record is None


def test_qemu_that_has_not_answered_is_not_guessed(room: Room) -> None:
    def when_idle() -> None:
        raise exception.Busy(what='guest web1', reason='its QEMU has not answered')

    room.interrupted(Operation.ATTACH, 'attach')
    room.guest.present = []
    room.guest.when_idle = when_idle
    before = room.record
    assert room.actions() == ['failed']
    assert room.calls == []
    assert room.record == before

    # It went on, and the guest has got the disk.
    room.guest.when_idle = lambda: room.guest.present.append(fake.make_disk(fake.VOLUME_ID, 'vda'))
    assert room.actions() == ['finished']


def second_row(room: Room) -> str:
    """Let there be one more row, of another guest."""
    record = room.record
    assert record is not None
    assert record.volume is not None
    key = make_key(fake.OTHER_UUID, fake.OTHER_ID)
    path = '/dev/disk/by-id/wwn-0x2'
    room.journal.put(
        dataclasses.replace(
            record,
            key=key,
            domain_uuid=fake.OTHER_UUID,
            domain_name='web2',
            volume_id=fake.OTHER_ID,
            source=path,
            volume=dataclasses.replace(record.volume, volume_id=fake.OTHER_ID, path=path),
            connection_info=ConnectionInfo.parse(fake.connection_info(fake.OTHER_ID)).to_dict(),
        )
    )
    return key


def test_row_that_fails_does_not_stop_the_others(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a driver of somebody else raises."""
    room.interrupted(Operation.DETACH, 'disconnect', wanted={})
    key = second_row(room)
    original = room.driver.disconnect_volume

    def disconnect(info: ConnectionInfo, attachment: str, **options: typing.Any) -> None:
        if attachment == KEY:
            raise RuntimeError('a mistake')
        original(info, attachment, **options)

    monkeypatch.setattr(room.driver, 'disconnect_volume', disconnect)
    assert room.recover() == [
        ('failed', 'RuntimeError: a mistake'),
        ('finished', 'removed from the host'),
    ]
    assert room.journal.get(KEY) is not None
    assert room.journal.get(key) is None


def test_libvirt_that_is_away_is_asked_once(room: Room) -> None:
    room.interrupted(Operation.DETACH, 'disconnect', wanted={})
    second_row(room)
    asked: list[str] = []

    def guest(name: str) -> object:
        asked.append(name)
        raise exception.HypervisorUnavailable(uri='fake:///', reason='it says nothing')

    typing.cast(typing.Any, room.manager.context.hypervisor).guest = guest
    outcomes = room.recover()
    assert [action for action, _ in outcomes] == ['failed', 'failed']
    assert all('it says nothing' in detail for _, detail in outcomes)
    assert asked == [fake.GUEST_UUID]
    assert len(room.journal.find(unfinished=True)) == 2
    assert room.calls == []


def test_interrupt_in_a_step_undoes_the_attach(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while libvirt attaches: that is ended, and then taken back."""
    original = room.guest.attach_disk

    def attach_disk(*arguments: typing.Any, **options: typing.Any) -> None:
        original(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(room.guest, 'attach_disk', attach_disk)
    with pytest.raises(KeyboardInterrupt):
        room.manager.attach(INFO, 'web1')
    assert room.calls[-2:] == ['detach_disk', 'disconnect']
    assert room.guest.present == []
    assert room.record is None


def test_journal_that_is_full_in_the_middle(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host is cleaned up, and the row that stays is found by recover."""
    put = room.journal.put

    def full(record: Record) -> Record:
        if record.step != 'connect':
            raise exception.JournalUnusable(path='/j', reason='its disk is full')
        return put(record)

    def remove(key: str) -> bool:
        raise exception.JournalUnusable(path='/j', reason='its disk is full')

    with monkeypatch.context() as patch:
        patch.setattr(room.journal, 'put', full)
        patch.setattr(
            room.journal, 'reserve', lambda *_: full(dataclasses.replace(room.record, step=''))
        )
        patch.setattr(room.journal, 'remove', remove)
        with pytest.raises(exception.JournalUnusable) as caught:
            room.manager.attach(INFO, 'web1')
    assert any('journal could not be brought up to date' in n for n in caught.value.__notes__)
    assert room.calls[-1] == 'disconnect'
    assert room.guest.present == []
    assert room.record is not None
    assert room.actions() == ['undone']
    assert room.record is None
