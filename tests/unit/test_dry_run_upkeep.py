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

"""A dry run of what looks after attached volumes; and of recover, which says what it then does."""

import dataclasses
import pathlib
import typing

import pytest

from tests.unit import fake_hypervisor as fake
from tests.unit import test_dry_run
from tests.unit.test_dry_run import INFO
from tests.unit.test_dry_run import Room
from tests.unit.test_dry_run import actions
from volumedrivers import exception
from volumedrivers.attachment.manager import make_manager
from volumedrivers.attachment.plan import PlannedOutcome
from volumedrivers.attachment.record import Opened
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.results import Outcome
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host.share import Share
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import Remainder
from volumedrivers.libvirt.disk import IOTune
from volumedrivers.testing.shares import FakeShareMounts

room = test_dry_run.room

INFOS = {fake.VOLUME_ID: INFO}
OTHER = ConnectionInfo.parse(fake.connection_info(fake.OTHER_ID))
REBOOTED = 'a boot before this one'


def two(room: Room, guest: str, guest_uuid: str, **changes: typing.Any) -> None:
    """Attach a volume to web1, and another one to a guest."""
    room.attached()
    journal = room.manager.context.journal
    (record,) = journal.find()
    first = dataclasses.replace(record, **changes)
    journal.put(first)
    journal.put(
        dataclasses.replace(
            first,
            key=make_key(guest_uuid, fake.OTHER_ID),
            domain_name=guest,
            domain_uuid=guest_uuid,
            volume_id=fake.OTHER_ID,
            connection_info=OTHER.to_dict(),
        )
    )
    room.other.present.append(fake.make_disk(fake.OTHER_ID, 'vda'))


# qos


def test_qos(room: Room) -> None:
    room.attached()
    room.guest.limits = IOTune(total_bytes_sec=7)
    limits = IOTune(read_iops_sec=500, write_iops_sec=20)
    plan = room.manager.plan.set_qos('web1', 'vda', limits)
    assert actions(plan, 'limit') == (
        'limit vda of guest web1 to read_iops_sec 500, write_iops_sec 20, while it runs and '
        'for its next start (now total_bytes_sec 7)',
    )
    done = room.manager.set_qos('web1', 'vda', limits)
    assert [step.name for step in plan.steps] == list(done.seconds)
    assert (
        'to nothing: no limit, while'
        in actions(room.manager.plan.set_qos('web1', 'vda', IOTune()), 'limit')[0]
    )


def test_change_of_what_is_not_recorded_leaves_no_row(room: Room) -> None:
    room.guest.present.append(fake.make_disk(fake.VOLUME_ID, 'vdb'))
    plan = room.manager.plan.set_qos('web1', 'vdb', IOTune(), connection_info=INFO)
    assert actions(plan, 'record')[0].startswith('leave nothing in ')
    with pytest.raises(exception.DiskNotFound):
        room.manager.plan.set_qos('web2', 'vdb', IOTune(), connection_info=INFO)


# reconnect


def test_reconnect(room: Room) -> None:
    room.attached()
    room.change(boot_id=REBOOTED)
    with pytest.raises(exception.InvalidOption, match='credentials are not recorded'):
        room.manager.plan.reconnect('web1', 'vda')
    plan = room.manager.plan.reconnect('web1', 'vda', connection_info=INFO)
    assert actions(plan, 'connect') == ('log in to 192.0.2.1:3260',)
    assert actions(plan, 'identify') == (f'refuse what is not wwn:3600 under {fake.PATH}',)
    assert plan.steps[0].locks == ('iscsi 192.0.2.1:3260',)
    assert 'chapsecret' not in repr(plan)
    done = room.manager.reconnect('web1', 'vda', connection_info=INFO)
    assert [step.name for step in plan.steps] == list(done.seconds)


def test_reconnect_of_an_encrypted_volume(room: Room) -> None:
    room.attached()
    room.change(boot_id=REBOOTED, opened=Opened('luks', 'qemu', secret_uuid=fake.SECRET_UUID))
    plan = room.manager.plan.reconnect('web1', 'vda', connection_info=INFO)
    assert actions(plan, 'encrypt') == ('ask the key manager for key k', 'let QEMU decrypt')
    room.change(opened=Opened('luks', 'storage'))
    plan = room.manager.plan.reconnect('web1', 'vda', connection_info=INFO)
    assert actions(plan, 'encrypt') == ('nothing to do',)


def test_what_reconnect_would_refuse(room: Room) -> None:
    with pytest.raises(exception.NotRecorded):
        room.manager.plan.reconnect('web1', fake.VOLUME_ID, connection_info=INFO)
    room.attached()
    room.guest.present = [fake.make_disk(fake.VOLUME_ID, 'vda', path='/dev/disk/by-id/other')]
    with pytest.raises(exception.IdentityMismatch):
        room.manager.plan.reconnect('web1', 'vda', connection_info=INFO)


# repair


def test_repair(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.attached()
    whole = room.manager.plan.repair('web1', 'vda')
    assert actions(whole, 'identify')[0] == 'no path is missing'
    assert 'connect' not in {step.name for step in whole.steps}

    monkeypatch.setattr(fake.FakeDevices, 'failed', (('sdb', 'offline'),))
    with pytest.raises(exception.InvalidOption, match='credentials are not recorded'):
        room.manager.plan.repair('web1', 'vda')
    plan = room.manager.plan.repair('web1', 'vda', connection_info=INFO)
    assert actions(plan, 'identify') == (f'make sure that {fake.PATH} still is wwn:3600',)
    assert actions(plan, 'connect') == ('log in to 192.0.2.1:3260',)
    done = room.manager.repair('web1', 'vda', connection_info=INFO)
    assert [step.name for step in plan.steps] == list(done.seconds)

    room.driver.identity = Identity('wwn', '3999')
    with pytest.raises(exception.IdentityMismatch):
        room.manager.plan.repair('web1', 'vda', connection_info=INFO)


def test_repair_of_all(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    two(room, 'web2', fake.OTHER_UUID)
    assert room.manager.plan.repair_all() == ()
    monkeypatch.setattr(fake.FakeDevices, 'failed', (('sdb', 'offline'),))
    first, second = room.manager.plan.repair_all(connection_infos={fake.OTHER_ID: OTHER})
    assert (first.guest, first.steps) == ('web1', ())
    assert first.problem is not None
    assert 'credentials are not recorded' in first.problem
    assert (second.guest, second.problem) == ('web2', None)
    assert [step.name for step in second.steps] == ['identify', 'connect', 'verify', 'record']
    (only,) = room.manager.plan.repair_all('web1', connection_infos=INFOS)
    assert (only.guest, only.problem) == ('web1', None)


# forget


def test_forget(room: Room) -> None:
    room.attached()
    with pytest.raises(exception.StillInUse, match='the guest has it as vda'):
        room.manager.plan.forget('web1', 'vda')
    room.driver.left = [Remainder('device', 'sdb')]
    plan = room.manager.plan.forget('web1', 'vda', force=True)
    assert plan.on_host == ('disk vda of guest web1', 'device sdb')
    assert 'touch nothing else' in actions(plan, 'record')[0]

    room.guest.present.clear()
    with pytest.raises(exception.StillInUse, match='device sdb'):
        room.manager.plan.forget('web1', 'vda')
    room.driver.left = []
    room.change(operation='detach', step='disconnect')
    plan = room.manager.plan.forget('web1', 'vda')
    assert plan.on_host == ()
    assert plan.before is not None
    assert plan.before.startswith('detach began and stopped in step disconnect')
    room.manager.forget('web1', 'vda')
    with pytest.raises(exception.NotRecorded):
        room.manager.plan.forget('web1', 'vda')


def test_forget_of_what_cannot_be_looked_at(room: Room) -> None:
    room.attached()
    error = exception.HostUnreadable(what='/sys', reason='I/O error')
    room.fakes.fail['remains'] = error
    with pytest.raises(exception.StillInUse):
        room.manager.plan.forget('web1', fake.VOLUME_ID)
    plan = room.manager.plan.forget('web1', fake.VOLUME_ID, force=True)
    assert plan.on_host == (f'not known: {error}',)


# recover

STATES: dict[str, tuple[bool, dict[str, typing.Any]]] = {
    'attach that came into the guest': (True, {'operation': 'attach', 'was_attached': False}),
    'attach that did not': (False, {'operation': 'attach', 'was_attached': False}),
    'attach before a reboot': (
        True,
        {'operation': 'attach', 'was_attached': False, 'boot_id': REBOOTED},
    ),
    'detach with the disk': (True, {'operation': 'detach'}),
    'detach without it': (False, {'operation': 'detach', 'wanted': {'force': True}}),
    'extend': (True, {'operation': 'extend', 'wanted': {'size': fake.GIB}}),
    'extend before a reboot': (
        True,
        {'operation': 'extend', 'wanted': {'size': fake.GIB}, 'boot_id': REBOOTED},
    ),
    'extend of what the guest lost': (
        False,
        {'operation': 'extend', 'wanted': {'size': fake.GIB}},
    ),
    'extend of what somebody else attached': (
        True,
        {'operation': 'extend', 'wanted': {'size': fake.GIB}, 'was_attached': False},
    ),
    'qos': (True, {'operation': 'qos', 'wanted': {'limits': {'read_iops_sec': 5}}}),
    'repair': (True, {'operation': 'repair'}),
    'reconnect': (True, {'operation': 'reconnect'}),
    'a reboot': (True, {'operation': None, 'boot_id': REBOOTED}),
    'a reboot, and the guest has lost it': (False, {'operation': None, 'boot_id': REBOOTED}),
    'nothing': (True, {'operation': None}),
}


@pytest.mark.parametrize('state', STATES)
def test_recover_does_what_its_plan_says(
    room: Room, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setattr('volumedrivers.attachment.detach._FORMER_REQUEST', 0.0)
    seen: list[tuple[str, str]] = []
    object.__setattr__(
        room.manager.context,
        'observer',
        lambda operation, step, moment: seen.append((operation, step)) if moment == 'after' else 0,
    )
    in_guest, changes = STATES[state]
    room.attached()
    operation = changes['operation']
    row = {'was_attached': True, 'step': 'begun' if operation else '', **changes}
    room.change(**row | {'operation': Operation(operation) if operation else None})
    if not in_guest:
        room.guest.present.clear()
    del seen[:]

    planned = room.manager.plan.recover(INFOS)
    assert seen == []
    done = room.manager.recover(INFOS)
    assert [said(one) for one in planned] == [said(one) for one in done]
    steps = [step.name for one in planned for step in one.steps]
    # A row that is only written is no operation.
    names = [step for _, step in seen] or ['record'] * len(done)
    assert steps == names or steps == ['record', *names]
    assert room.manager.plan.recover(INFOS) == ()
    assert (planned == ()) == (state == 'nothing')


def said(outcome: Outcome) -> tuple[str | None, str, str]:
    return outcome.operation, outcome.action, outcome.detail


def test_recover_says_each_step(room: Room) -> None:
    room.attached()
    room.guest.present.clear()
    room.change(operation=Operation.DETACH, step='disconnect')
    (outcome,) = room.manager.plan.recover()
    by_name = {step.name: step.actions for step in outcome.steps}
    assert by_name['disconnect'] == (f'flush {fake.PATH}', 'log out of 192.0.2.1:3260')
    assert (outcome.action, outcome.detail) == ('finished', 'removed from the host')
    assert outcome.seconds == sum(step.seconds for step in outcome.steps)


def test_recover_leaves_alone_what_runs(room: Room) -> None:
    room.attached()
    room.change(operation=Operation.DETACH, step='disconnect')
    with room.manager.context.lock_volume(fake.VOLUME_ID, 'detach', 'web1'):
        (outcome,) = room.manager.plan.recover()
    assert (outcome.action, outcome.steps) == ('running', ())
    assert outcome.detail.startswith(f'detach of volume {fake.VOLUME_ID} and guest web1')


def test_recover_that_would_fail(room: Room) -> None:
    two(room, 'web2', fake.OTHER_UUID, boot_id=REBOOTED)
    first, second = room.manager.plan.recover({fake.OTHER_ID: OTHER})
    assert (first.guest, first.action) == ('web1', 'failed')
    assert 'credentials are not recorded' in first.detail
    assert (second.guest, second.action) == ('web2', 'reconnected')


def test_recover_without_libvirt(room: Room) -> None:
    two(room, 'web1', fake.GUEST_UUID, boot_id=REBOOTED)
    asked = []

    def ask() -> None:
        asked.append(1)
        raise exception.HypervisorUnavailable(uri='fake:///', reason='gone')

    room.guest.when_idle = ask
    outcomes = room.manager.plan.recover(INFOS)
    assert [one.action for one in outcomes] == ['failed', 'failed']
    assert len(asked) == 1


class Mounts(FakeShareMounts):
    """One share that nobody is counted for.

    :ivar elsewhere_by: guests that have something on it
    """

    def __init__(self) -> None:
        super().__init__()
        share = Share('192.0.2.1:/vol', '/mnt/vol', 'nfs', ('nfs4',))
        self.users.claim(share.mount_point, 'mark', share)
        self.elsewhere_by: frozenset[str] = frozenset()
        self.problem: exception.VolumeDriversError | None = None

    def elsewhere(self, share: Share, attachment: str) -> frozenset[str]:
        if self.problem is not None:
            raise self.problem
        return self.elsewhere_by


def test_recover_of_idle_mounts(room: Room) -> None:
    mounts = Mounts()
    typing.cast(typing.Any, room.manager.context.registry.context).shares = mounts
    (outcome,) = room.manager.plan.recover()
    assert (outcome.step, outcome.action) == ('unmount', 'finished')
    assert outcome.detail == 'nobody uses 192.0.2.1:/vol at /mnt/vol any more'
    assert outcome.steps[0].actions == ('unmount /mnt/vol', 'remove directory /mnt/vol')
    assert mounts.users.claimed('/mnt/vol') == 'mark'

    mounts.elsewhere_by = frozenset(('web1',))
    assert room.manager.plan.recover() == ()
    mounts.problem = exception.HypervisorUnavailable(uri='fake:///', reason='gone')
    (outcome,) = room.manager.plan.recover()
    assert (outcome.action, outcome.steps) == ('failed', ())
    assert isinstance(outcome, PlannedOutcome)


def test_who_uses_a_share_is_asked_without_making_a_journal(
    tmp_path: pathlib.Path,
) -> None:
    conf = fake.make_conf()
    conf.set_override('state_path', str(tmp_path / 'state'), 'volumedrivers')
    manager = make_manager(conf, typing.cast(typing.Any, fake.FakeHypervisor()))
    share = Share('192.0.2.1:/vol', '/mnt/vol', 'nfs', ('nfs4',))
    assert manager.context.registry.context.shares.elsewhere(share, '') == frozenset()
    assert not (tmp_path / 'state').exists()
