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

"""What goes wrong elsewhere does not here: see doc/source/weaknesses.rst.

The numbers are those of that table.  What other tests show is not shown again;
the table names them, and the last test here makes sure that they are there.
"""

import ast
from collections.abc import Callable
import dataclasses
import functools
import os
import pathlib
import re
import typing

import pytest

from tests.unit import fake_hypervisor as fake
from tests.unit.fake_brick import FakeBrick
from tests.unit.test_identity import WWN_A
from tests.unit.test_identity import WWN_B
from tests.unit.test_identity import Host
from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment.manager import make_manager
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.attachment.volume_encryption import VolumeEncryption
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import bootstrap
from volumedrivers.host.fair_lock import FairLocks
from volumedrivers.host.share import Share
from volumedrivers.host.shares import ShareMounts
from volumedrivers.libvirt import block_leftovers
from volumedrivers.libvirt import target_names
from volumedrivers.libvirt.disk import IOTune

ROOT = pathlib.Path(__file__).parents[2]
TABLE = ROOT / 'doc/source/weaknesses.rst'
KEY = make_key(fake.GUEST_UUID, fake.VOLUME_ID)
PORTAL = '192.0.2.1:3260'
OTHER_PORTAL = '192.0.2.99:3260'
NOTHING = IOTune(read_iops_sec=1)


def info_of(volume_id: str = fake.VOLUME_ID, **data: typing.Any) -> ConnectionInfo:
    raw = fake.connection_info(volume_id)
    multiattach = data.pop('multiattach', None)
    if multiattach is not None:
        raw['multiattach'] = multiattach
    raw['data'].update(data)
    return ConnectionInfo.parse(raw)


A = info_of()
B = info_of(fake.OTHER_ID)


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Real drivers, journal and locks over a made-up kernel and os-brick."""
    brick = FakeBrick()
    connector = bootstrap.load_os_brick()
    monkeypatch.setattr(connector.InitiatorConnector, 'factory', staticmethod(brick.factory))
    monkeypatch.setattr(block_leftovers, 'REMOVAL_TIME', 0.0)
    return Host(tmp_path, brick)


class Room:
    """A manager with a driver that keeps in memory what was done to it."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.calls = fake.Calls()
        self.guest = fake.FakeGuest(self.calls)
        self.other = fake.FakeGuest(self.calls, 'web2', fake.OTHER_UUID)
        self.driver = fake.FakeDriver(self.calls)
        self.conf = fake.make_conf()
        self.manager = fake.make_manager(self.conf, directory, self.driver, self.guest, self.other)
        self.journal = self.manager.context.journal

    def reboot(self) -> None:
        for record in self.journal.find():
            self.journal.put(dataclasses.replace(record, boot_id='before'))
        self.guest.running = False

    def interrupt(self, **changes: typing.Any) -> None:
        """Let the rows be those of attaches that were killed."""
        for record in self.journal.find():
            interrupted = dataclasses.replace(
                record, operation=Operation.ATTACH, was_attached=False, **changes
            )
            self.journal.put(interrupted)

    def disconnected(self) -> int:
        return self.calls.calls.count('disconnect')


@pytest.fixture
def room(tmp_path: pathlib.Path) -> Room:
    return Room(tmp_path)


def test_w4_disk_without_a_serial_is_found_by_its_alias(host: Host) -> None:
    host.disk('sdb', WWN_A)
    host.manager.attach(A, 'web1', DiskRequest(bus='scsi', type='lun'))
    (disk,) = host.guest.present
    assert (disk.device, disk.serial) == ('lun', None)
    assert guest_disks.find(typing.cast(typing.Any, host.guest), fake.VOLUME_ID) is disk


@pytest.mark.parametrize('known', ['row', 'stopped guest', 'both'])
@pytest.mark.parametrize('first', ['web1', 'web2'])
def test_w5_users_are_those_of_this_host_and_the_last_disconnects(
    host: Host, first: str, known: str
) -> None:
    host.disk('sdb', WWN_A)
    for guest in (host.guest, host.other):
        host.manager.attach(A, guest.name)
    last = host.other if first == 'web1' else host.guest
    if known == 'row':
        last.present = []
    elif known == 'stopped guest':
        host.manager.context.journal.remove(make_key(last.uuid, fake.VOLUME_ID))
        last.running = False

    result = host.manager.detach(first, fake.VOLUME_ID)
    assert result.still_used_by == (last.name,)
    assert host.removals() == []

    host.kernel.remove('sdb')  # as os-brick would, if it were real
    result = host.manager.detach(last.name, connection_info=A)
    assert result.still_used_by == ()
    assert len(host.removals()) == 1


@pytest.mark.parametrize('guest', ['web1', fake.GUEST_UUID])
def test_w7_another_hosts_connection_info_is_not_gone_by(host: Host, guest: str) -> None:
    """After an evacuation the cloud has that of the new host."""
    host.disk('sdb', WWN_A)
    host.manager.attach(A, 'web1')
    host.kernel.remove('sdb')
    if guest != 'web1':
        # This host has it no more.
        host.guest.name = host.guest.uuid = 'another'
        host.guest.present = []
    given = info_of(target_portal=OTHER_PORTAL, target_lun=7, device_path='/dev/sdz')

    host.manager.detach(guest, fake.VOLUME_ID, connection_info=given)

    (removal,) = host.removals()
    assert removal[1]['target_portal'] == PORTAL
    assert removal[1]['target_lun'] == 1
    assert removal[1].get('device_path') != '/dev/sdz'


def test_w8_volume_for_a_guest_that_never_came_is_taken_away(room: Room) -> None:
    """Whatever fails on the way, the row of a volume stays as long as the volume."""
    room.calls.fail['attach_disk'] = exception.AttachRefused(guest='w', disk='d', reason='full')
    room.calls.fail['disconnect'] = exception.FlushFailed(volume_id='v', reason='I/O error')
    with pytest.raises(exception.AttachRefused):
        room.manager.attach(A, 'web1')
    assert room.journal.get(KEY) is not None
    room.calls.fail.clear()
    del room.calls.calls[:]
    room.guest.name = room.guest.uuid = 'another'  # the guest is not defined here

    (outcome,) = room.manager.recover()

    assert outcome.action == 'undone'
    assert room.disconnected() == 1
    assert room.journal.get(KEY) is None


NO_UNIT = exception.InvalidDiskInfo(key='unit', found='all', expected='a free one')
NO_KEY = exception.KeyUnavailable(key_id='k', volume_id='v', reason='no')


@pytest.mark.parametrize('fails', ['look at the device', 'key', 'unit', 'disk'])
def test_w9_nothing_stays_connected_when_what_follows_fails(
    room: Room, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """All that happens between the host and the guest is covered."""
    expected: type[Exception] = exception.InvalidDiskInfo
    encryption = None
    if fails == 'look at the device':
        monkeypatch.setattr(room.driver, 'current_identity', lambda info, volume: None)
        expected = exception.VolumeDeviceNotFound
    elif fails == 'key':
        encryption = VolumeEncryption('luks', 'c0ffee00-0000-4000-8000-00000000000e')
        room.calls.fail['open'] = NO_KEY
        expected = exception.KeyUnavailable
    elif fails == 'unit':

        def full(names: object, taken: object = ()) -> int:
            raise NO_UNIT

        monkeypatch.setattr(target_names.Names, 'free_scsi_unit', full)
    else:
        room.calls.fail['get_disk'] = NO_UNIT

    with pytest.raises(expected):
        room.manager.attach(A, 'web1', DiskRequest(bus='scsi'), encryption=encryption)

    assert room.calls.calls.count('connect') == 1
    assert room.disconnected() == 1
    assert room.journal.find() == ()


@pytest.mark.parametrize(
    'error', [exception.FlushFailed(volume_id='v', reason='I/O error'), RuntimeError('a mistake')]
)
def test_w10_volume_that_fails_does_not_stop_the_others(
    room: Room, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    volumes = [f'c1b2d3e4-000{number}-4aaa-8bbb-000000000001' for number in range(3)]
    for number, volume in enumerate(volumes):
        room.driver.identity = dataclasses.replace(
            typing.cast(typing.Any, room.driver.identity), value=f'360{number}'
        )
        room.manager.attach(info_of(volume), 'web1')
    room.guest.present = []
    room.interrupt(step='attach', volume=None)
    removed = []

    def disconnect(info: ConnectionInfo, attachment: str, **options: typing.Any) -> None:
        if info.volume_id == volumes[0]:
            raise error
        removed.append(info.volume_id)

    monkeypatch.setattr(room.driver, 'disconnect_volume', disconnect)
    outcomes = {outcome.volume_id: outcome.action for outcome in room.manager.recover()}

    assert outcomes == {volumes[0]: 'failed', volumes[1]: 'undone', volumes[2]: 'undone'}
    assert sorted(removed) == volumes[1:]
    assert [record.volume_id for record in room.journal.find()] == volumes[:1]


def test_w10_repair_goes_on_after_a_drivers_mistake(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.manager.attach(A, 'web1')
    room.manager.attach(A, 'web2')
    room.manager.context.registry.context.devices.failed = (('sdb', 'offline'),)
    connect = room.driver.connect_volume

    def mistaken(info: ConnectionInfo, attachment: str) -> typing.Any:
        if attachment == KEY:
            raise RuntimeError('a mistake')
        return connect(info, attachment)

    monkeypatch.setattr(room.driver, 'connect_volume', mistaken)
    repaired = room.manager.repair_all(connection_infos={fake.VOLUME_ID: A})

    problems = {one.guest: one.problem for one in repaired}
    assert problems == {'web1': 'RuntimeError: a mistake', 'web2': None}


Operate = Callable[[Room], object]

HOST_SIDE: dict[str, Operate] = {
    'attach': lambda room: room.manager.attach(A, 'web2'),
    'detach': lambda room: room.manager.detach('web1', fake.VOLUME_ID),
    'extend': lambda room: room.manager.extend('web1', fake.VOLUME_ID, fake.GIB),
    'repair': lambda room: room.manager.repair('web1', fake.VOLUME_ID, connection_info=A),
    'reconnect': lambda room: room.manager.reconnect('web1', fake.VOLUME_ID, connection_info=A),
}
GUEST_SIDE: dict[str, Operate] = {
    'set_qos': lambda room: room.manager.set_qos('web1', fake.VOLUME_ID, NOTHING),
    'forget': lambda room: room.manager.forget('web1', fake.VOLUME_ID, force=True),
}


@pytest.mark.parametrize('operation', HOST_SIDE)
def test_w11_host_side_is_locked_by_its_target_and_by_no_other(
    room: Room, tmp_path: pathlib.Path, operation: str
) -> None:
    room.manager.attach(A, 'web1')
    # Or there would be nothing to repair.
    room.manager.context.registry.context.devices.failed = (('sdb', 'offline'),)
    room.conf.set_override('lock_timeout', 0.0, 'volumedrivers')
    del room.calls.calls[:]
    (target,) = room.driver.lock_names(A)
    locks = FairLocks(str(tmp_path / 'locks'))

    with locks.acquire((target,), what='somebody else', seconds=0):
        with pytest.raises(exception.LockHeld, match='somebody else'):
            HOST_SIDE[operation](room)
        assert not {'connect', 'disconnect', 'extend'}.intersection(room.calls.calls)

    with locks.acquire(('iscsi 192.0.2.2:3260 another',), what='somebody else', seconds=0):
        HOST_SIDE[operation](room)
    assert {'connect', 'disconnect', 'extend'}.intersection(room.calls.calls)


@pytest.mark.parametrize('operation', [*HOST_SIDE, *GUEST_SIDE])
def test_w12_every_operation_locks_the_volume(
    room: Room, tmp_path: pathlib.Path, operation: str
) -> None:
    room.manager.attach(A, 'web1')
    room.conf.set_override('lock_timeout', 0.0, 'volumedrivers')
    before = list(room.calls.calls)
    locks = FairLocks(str(tmp_path / 'locks'))
    name = room.manager.context.volume_lock(fake.VOLUME_ID)

    with (
        locks.acquire((name,), what='somebody else', seconds=0),
        pytest.raises(exception.LockHeld, match='somebody else'),
    ):
        (HOST_SIDE | GUEST_SIDE)[operation](room)

    assert room.calls.calls == before
    assert room.journal.get(KEY) is not None


def test_w12_recover_leaves_alone_what_is_locked(room: Room, tmp_path: pathlib.Path) -> None:
    room.manager.attach(A, 'web1')
    room.interrupt(step='attach')
    before = list(room.calls.calls)
    locks = FairLocks(str(tmp_path / 'locks'))
    name = room.manager.context.volume_lock(fake.VOLUME_ID)
    with locks.acquire((name,), what='somebody else', seconds=0):
        (outcome,) = room.manager.recover()
    assert outcome.action == 'running'
    assert room.calls.calls == before


def test_w13_locks_are_where_os_brick_has_its_own(tmp_path: pathlib.Path) -> None:
    conf = fake.make_conf()
    conf.set_override('state_path', str(tmp_path / 'state'), 'volumedrivers')
    bootstrap.lock_path(conf)  # knows os-brick's options
    conf.set_override('lock_path', str(tmp_path / 'shared'), 'os_brick')
    manager = make_manager(conf, typing.cast(typing.Any, fake.FakeHypervisor()))
    assert pathlib.Path(manager.context.locks.directory).parent == tmp_path / 'shared'


def test_w13_mounts_are_locked_there_too(tmp_path: pathlib.Path) -> None:
    conf = fake.make_conf()
    conf.set_override('state_path', str(tmp_path / 'state'), 'volumedrivers')
    bootstrap.lock_path(conf)  # knows os-brick's options
    conf.set_override('lock_path', str(tmp_path / 'shared'), 'os_brick')
    share = Share(
        source='192.0.2.1:/volumes',
        mount_point=str(tmp_path / 'mnt'),
        fstype='nfs',
        mounted_fstypes=('nfs4',),
    )
    ShareMounts(conf).release(share, 'guest')
    assert [path.name for path in (tmp_path / 'shared').iterdir()] != []
    assert not (tmp_path / 'state' / 'lock').exists()


@pytest.mark.parametrize('by', ['reconnect', 'recover'])
def test_w17_new_portal_is_connected_and_recorded(host: Host, by: str) -> None:
    """It needs no guest that is stopped by hand, and detach goes to the new one."""
    host.disk('sdb', WWN_A)
    host.manager.attach(A, 'web1')
    (record,) = host.manager.context.journal.find()
    host.manager.context.journal.put(dataclasses.replace(record, boot_id='before'))
    host.guest.running = False
    moved = info_of(target_portal=OTHER_PORTAL)

    if by == 'recover':
        (outcome,) = host.manager.recover({fake.VOLUME_ID: moved})
        assert outcome.action == 'reconnected'
    else:
        host.manager.reconnect('web1', fake.VOLUME_ID, connection_info=moved)
    assert host.brick.calls[-1][1]['target_portal'] == OTHER_PORTAL

    host.kernel.remove('sdb')
    host.manager.detach('web1', fake.VOLUME_ID)
    (removal,) = host.removals()
    assert removal[1]['target_portal'] == OTHER_PORTAL


def test_w17_what_does_not_lead_to_the_volume_is_not_recorded(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.disk('sdb', WWN_A)
    host.manager.attach(A, 'web1')
    (record,) = host.manager.context.journal.find()
    host.manager.context.journal.put(dataclasses.replace(record, boot_id='before'))
    host.guest.running = False
    host.disk('sdc', WWN_B)
    disconnect = host.brick.disconnect_volume

    def remove(*arguments: typing.Any, **options: typing.Any) -> None:
        disconnect(*arguments, **options)
        host.kernel.remove('sdc')

    monkeypatch.setattr(host.brick, 'disconnect_volume', remove)
    with pytest.raises(exception.IdentityMismatch):
        host.manager.reconnect(
            'web1', fake.VOLUME_ID, connection_info=info_of(target_portal=OTHER_PORTAL)
        )

    (record,) = host.manager.context.journal.find()
    assert record.connection_info['data']['target_portal'] == PORTAL


@pytest.mark.parametrize('lost', ['before', 'later'])
def test_w18_flag_that_is_lost_takes_nothing_from_the_others(host: Host, lost: str) -> None:
    """Whether a volume is shared is seen on this host, not told."""
    host.disk('sdb', WWN_A)
    refreshed = info_of()
    assert not refreshed.multiattach
    for guest in ('web1', 'web2'):
        host.manager.attach(refreshed if lost == 'before' else info_of(multiattach=True), guest)

    host.manager.repair('web1', fake.VOLUME_ID, connection_info=refreshed)

    assert bool(host.guest.present[0].shareable) is (lost == 'later')
    result = host.manager.detach('web1', fake.VOLUME_ID, connection_info=refreshed)
    assert result.still_used_by == ('web2',)
    assert host.removals() == []


def test_w19_attach_goes_by_what_it_is_given_now(host: Host) -> None:
    """Not by what was stored before the volume went elsewhere and came back."""
    host.disk('sdb', WWN_A)
    host.manager.attach(A, 'web1')
    (record,) = host.manager.context.journal.find()
    host.manager.context.journal.put(dataclasses.replace(record, boot_id='before'))
    host.guest.running = False

    host.manager.attach(info_of(target_portal=OTHER_PORTAL), 'web1')

    assert host.brick.calls[-1][1]['target_portal'] == OTHER_PORTAL
    (record,) = host.manager.context.journal.find()
    assert record.connection_info['data']['target_portal'] == OTHER_PORTAL


def test_w20_second_detach_takes_nothing_that_came_meanwhile(host: Host) -> None:
    host.disk('sdb', WWN_A)
    host.manager.attach(A, 'web1')
    host.kernel.remove('sdb')
    host.manager.detach('web1', fake.VOLUME_ID)
    host.disk('sdc', WWN_B)
    host.kernel.session(1, PORTAL, A.to_connector()['target_iqn'], lun1='sdc')
    host.manager.attach(B, 'web2')

    with pytest.raises(exception.NotRecorded):
        host.manager.detach('web1', fake.VOLUME_ID)
    with pytest.raises(exception.IdentityMismatch):
        host.manager.detach('web1', connection_info=A)

    assert len(host.removals()) == 1


# What takes a domain's definition away, or starts what has no end of its own.
DANGEROUS = re.compile('undefine.*|blockCopy|blockPull|blockRebase|blockCommit|migrate.*')


def called_methods(path: pathlib.Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding='utf-8'))
    return {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }


def test_w24_no_definition_is_taken_away_and_one_place_begins_a_block_job() -> None:
    package = ROOT / 'volumedrivers'
    found = {
        (str(path.relative_to(package)), name)
        for path in package.rglob('*.py')
        if path.relative_to(package).parts[0] != 'testing'
        for name in called_methods(path)
        if DANGEROUS.fullmatch(name)
    }
    # A secret's undefine, the journal's migration, and the copy that is waited for.
    assert found == {
        ('libvirt/secret_store.py', 'undefine'),
        ('libvirt/guest_copy.py', 'blockCopy'),
        ('attachment/journal_database.py', 'migrate'),
    }


def test_w27_size_is_read_back_and_nothing_is_recorded_of_one_that_failed(room: Room) -> None:
    room.manager.attach(A, 'web1')
    before = room.journal.get(KEY)
    assert before is not None
    with pytest.raises(exception.ExtendVolumeFailed, match='still sees'):
        room.manager.extend('web1', fake.VOLUME_ID, 2 * fake.GIB)
    record = room.journal.get(KEY)
    assert record is not None
    assert record.is_settled
    assert 'still sees' in record.problem
    assert dict(record.wanted) == {}
    assert not any(call.startswith('resize') for call in room.calls.calls)

    room.driver.size = 3 * fake.GIB
    result = room.manager.extend('web1', fake.VOLUME_ID, 2 * fake.GIB)
    assert (result.requested_size, result.size) == (2 * fake.GIB, 3 * fake.GIB)
    record = room.journal.get(KEY)
    assert record is not None
    assert record.problem == ''


def test_w29_id_of_the_attachment_is_kept_until_all_is_gone(room: Room) -> None:
    """Who keeps the books of the storage can go on after any failure."""
    room.manager.attach(A, 'web1', attachment_id='an-id-of-the-storage')
    room.calls.fail['disconnect'] = exception.FlushFailed(volume_id='v', reason='I/O error')
    with pytest.raises(exception.FlushFailed):
        room.manager.detach('web1', fake.VOLUME_ID)
    record = room.journal.get(KEY)
    assert record is not None
    assert record.attachment_id == 'an-id-of-the-storage'
    room.calls.fail.clear()
    room.manager.detach('web1', fake.VOLUME_ID)
    assert room.journal.find() == ()


@pytest.mark.parametrize('enforced', [False, True])
def test_w30_os_brick_is_told_what_the_storage_is_told(host: Host, enforced: bool) -> None:
    """test_connector_properties shows that the storage is told what the option says."""
    conf = host.manager.context.registry.context.conf
    conf.set_override('volume_use_multipath', True, 'volumedrivers')
    conf.set_override('volume_enforce_multipath', enforced, 'volumedrivers')
    host.disk('sdb', WWN_A)
    host.manager.attach(A, 'web1')
    (_, made_with) = host.brick.made[0]
    assert made_with['use_multipath'] is True
    assert host.brick.calls[0][1].get('enforce_multipath', False) is enforced


def rows_of_the_table() -> list[tuple[str, str]]:
    """Return number and text of each row."""
    text = TABLE.read_text(encoding='utf-8')
    parts = re.split(r'^   \* - (?=W\d)', text, flags=re.MULTILINE)[1:]
    return [(part.split(maxsplit=1)[0], part) for part in parts]


@functools.cache
def names_of_tests(path: pathlib.Path) -> frozenset[str]:
    """Return the names of a file's tests, as pytest writes them."""
    names = set()
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {
                f'{node.name}::{each.name}'
                for each in node.body
                if isinstance(each, ast.FunctionDef)
            }
    return frozenset(name for name in names if name.rpartition('::')[2].startswith('test_'))


def test_table_has_every_weakness_once_and_names_tests_that_exist() -> None:
    rows = rows_of_the_table()
    assert [number for number, _ in rows] == [f'W{number}' for number in range(1, 33)]
    for number, text in rows:
        named = re.findall(r'``tests/((?:\w+/)+\w+\.py)::([\w:]+)``', text)
        assert named, f'{number} names no test'
        for file, name in named:
            assert name in names_of_tests(ROOT / 'tests' / file), f'{number} names {file}::{name}'
        # Each cell that looks like a test was understood.
        assert text.count('``tests/') == len(named), number


def test_tests_here_are_in_the_table() -> None:
    text = TABLE.read_text(encoding='utf-8')
    here = os.path.relpath(__file__, ROOT)
    for name in names_of_tests(pathlib.Path(__file__)):
        found = re.match(r'test_w(\d+)_', name)
        if found is not None:
            row = dict(rows_of_the_table())[f'W{found[1]}']
            assert f'``{here}::{name}``' in row
    assert here in text
