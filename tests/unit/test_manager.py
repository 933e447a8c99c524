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

"""The order of steps, and what is undone when one of them fails."""

import dataclasses
import pathlib
import typing

import pytest

from tests.unit import fake_hypervisor as fake
from volumedrivers import exception
from volumedrivers.attachment.journal import Journal
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.connected_volume import FailedPath
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import Remainder
from volumedrivers.libvirt.disk import IOTune
from volumedrivers.libvirt.driver import DiskEncryption

KEY = make_key(fake.GUEST_UUID, fake.VOLUME_ID)


@dataclasses.dataclass
class Room:
    """One guest, one driver, and the manager of their attachments."""

    fakes: fake.Calls
    guest: fake.FakeGuest
    other: fake.FakeGuest
    driver: fake.FakeDriver
    manager: AttachmentManager
    info: ConnectionInfo

    @property
    def calls(self) -> list[str]:
        """What was changed; not what was only looked at."""
        return [call for call in self.fakes.calls if call not in ('current_identity', 'remains')]

    @property
    def journal(self) -> Journal:
        return self.manager.context.journal

    def record(self) -> Record | None:
        return self.journal.get(KEY)


@pytest.fixture
def room(tmp_path: pathlib.Path) -> Room:
    fakes = fake.Calls()
    guest = fake.FakeGuest(fakes)
    other = fake.FakeGuest(fake.Calls(), 'web2', fake.OTHER_UUID)
    driver = fake.FakeDriver(fakes)
    manager = fake.make_manager(fake.make_conf(), tmp_path, driver, guest, other)
    return Room(fakes, guest, other, driver, manager, ConnectionInfo.parse(fake.connection_info()))


def test_attach_in_order(room: Room) -> None:
    result = room.manager.attach(room.info, 'web1')

    assert room.calls == ['connect', 'get_disk', 'attach_disk']
    assert room.driver.attachment == f'{fake.GUEST_UUID}/{fake.VOLUME_ID}'
    assert (result.target, result.bus, result.source) == ('vda', 'virtio', fake.PATH)
    assert result.identity == 'wwn:3600'
    assert list(result.seconds) == ['connect', 'identify', 'attach', 'record']
    assert not result.degraded


def test_attach_takes_what_was_asked_for(room: Room) -> None:
    room.manager.attach(
        room.info, fake.GUEST_UUID, DiskRequest(bus='scsi', target='sdc', unit=5, boot_index=2)
    )
    found = room.driver.disk_info
    assert (found.bus, found.dev, found.unit, found.boot_index) == ('scsi', 'sdc', 5, 2)


def test_attach_chooses_target_and_unit(room: Room) -> None:
    room.guest.present.append(fake.make_disk(None, 'sda', bus='scsi', path='/root.img'))
    room.manager.attach(room.info, 'web1', DiskRequest(bus='scsi'))
    assert (room.driver.disk_info.dev, room.driver.disk_info.unit) == ('sdb', 1)


def test_attach_leaves_the_unit_to_libvirt_on_other_buses(room: Room) -> None:
    room.manager.attach(room.info, 'web1', DiskRequest(bus='virtio'))
    assert room.driver.disk_info.unit is None


@pytest.mark.parametrize('target', ['sdz9', 'disk1', 'vd', ''])
def test_impossible_target_is_refused_before_anything_is_done(room: Room, target: str) -> None:
    with pytest.raises(exception.InvalidDiskInfo):
        room.manager.attach(room.info, 'web1', DiskRequest(target=target))
    assert room.calls == []


def encrypted() -> ConnectionInfo:
    raw = fake.connection_info()
    raw['data']['encrypted'] = True
    return ConnectionInfo.parse(raw)


def test_encrypted_volume_is_opened_before_the_guest_gets_it(room: Room) -> None:
    result = room.manager.attach(encrypted(), 'web1')
    assert room.calls == ['connect', 'open', 'get_disk', 'attach_disk']
    assert room.driver.disk_info.encryption.secret_uuid == fake.SECRET_UUID
    assert result.encryption == 'luks (qemu)'
    assert list(result.seconds) == ['connect', 'identify', 'encrypt', 'attach', 'record']

    del room.fakes.calls[:]
    room.manager.detach('web1', fake.VOLUME_ID)
    assert room.calls == ['detach_disk', 'close', 'disconnect']


def test_encrypted_volume_that_cannot_be_opened(room: Room) -> None:
    room.fakes.fail['open'] = exception.KeyUnavailable(key_id='k', volume_id='v', reason='gone')
    with pytest.raises(exception.KeyUnavailable):
        room.manager.attach(encrypted(), 'web1')
    assert room.calls == ['connect', 'open', 'disconnect']
    assert room.record() is None


def test_volume_that_the_caller_has_opened(room: Room) -> None:
    opened = DiskEncryption('a9b1c2d3-0000-4000-8000-000000000001')
    room.manager.attach(encrypted(), 'web1', DiskRequest(encryption=opened))
    assert room.calls == ['connect', 'get_disk', 'attach_disk']
    assert room.driver.disk_info.encryption == opened


def test_file_is_not_passed_through_as_a_scsi_unit(room: Room) -> None:
    room.driver.source_type = 'file'
    with pytest.raises(exception.InvalidDiskInfo, match='no SCSI device'):
        room.manager.attach(room.info, 'web1', DiskRequest(bus='scsi', type='lun'))
    assert room.calls == ['connect', 'disconnect']


def test_degraded_volume_is_attached(room: Room) -> None:
    room.driver.failed_paths = (FailedPath('192.0.2.2:3260', 'no answer'),)
    result = room.manager.attach(room.info, 'web1')
    assert result.degraded
    assert (result.paths_asked, result.paths_found) == (2, 1)
    assert result.to_dict()['paths_failed'] == ({'name': '192.0.2.2:3260', 'reason': 'no answer'},)


def test_attach_again_does_nothing(room: Room) -> None:
    room.manager.attach(room.info, 'web1')
    del room.fakes.calls[:]
    with pytest.raises(exception.AlreadyAttached) as caught:
        room.manager.attach(room.info, 'web1')
    assert caught.value.target == 'vda'
    assert room.calls == []


def test_attach_connects_again_for_a_guest_that_does_not_run(room: Room) -> None:
    """After a reboot the definition has the disk, and the host not the volume."""
    room.guest.present.append(fake.make_disk(fake.VOLUME_ID, 'sdc', bus='scsi'))
    room.guest.running = False
    result = room.manager.attach(room.info, 'web1')
    assert room.calls == ['connect', 'get_disk', 'attach_disk']
    assert (result.target, room.driver.disk_info.bus) == ('sdc', 'scsi')


def test_attach_completes_a_disk_that_one_definition_lacks(room: Room) -> None:
    room.guest.defined = [fake.make_disk(fake.VOLUME_ID, 'vdc')]
    result = room.manager.attach(room.info, 'web1', DiskRequest(target='vdc'))
    assert room.calls == ['connect', 'get_disk', 'attach_disk']
    assert result.target == 'vdc'


def test_failed_completion_keeps_what_was_there(room: Room) -> None:
    room.guest.defined = [fake.make_disk(fake.VOLUME_ID, 'vdc')]
    room.fakes.fail['attach_disk'] = exception.AttachRefused(
        guest='web1', disk='vdc', reason='no room'
    )
    with pytest.raises(exception.AttachRefused) as caught:
        room.manager.attach(room.info, 'web1')
    assert room.calls == ['connect', 'get_disk', 'attach_disk']
    assert any('stays connected' in note for note in caught.value.__notes__)


def test_attach_does_not_move_a_disk_to_another_target(room: Room) -> None:
    room.guest.defined = [fake.make_disk(fake.VOLUME_ID, 'vdc')]
    with pytest.raises(exception.InvalidDiskInfo):
        room.manager.attach(room.info, 'web1', DiskRequest(target='vdd'))
    assert room.calls == []


def test_attach_refuses_a_target_in_use(room: Room) -> None:
    room.guest.present.append(fake.make_disk(None, 'vda', path='/root.img'))
    with pytest.raises(exception.InvalidDiskInfo):
        room.manager.attach(room.info, 'web1', DiskRequest(target='vda'))
    assert room.calls == []


def test_attach_to_nobody(room: Room) -> None:
    with pytest.raises(exception.GuestNotFound):
        room.manager.attach(room.info, 'nobody')
    assert room.calls == []


def test_attach_needs_a_volume_id(room: Room) -> None:
    raw = fake.connection_info()
    del raw['serial'], raw['data']['volume_id']
    with pytest.raises(exception.InvalidConnectionInfo):
        room.manager.attach(ConnectionInfo.parse(raw), 'web1')
    assert room.calls == []


REFUSED = exception.AttachRefused(guest='web1', disk='vda', reason='no room')
NOT_FOUND = exception.VolumeDeviceNotFound(volume_id='v', reason='no LUN')
BAD_DISK = exception.InvalidDiskInfo(key='bus', found='x', expected='y')


@pytest.mark.parametrize(
    ('step', 'error', 'calls'),
    [
        ('connect', NOT_FOUND, ['connect']),
        ('get_disk', BAD_DISK, ['connect', 'get_disk', 'disconnect']),
        ('attach_disk', REFUSED, ['connect', 'get_disk', 'attach_disk', 'disconnect']),
        # Ctrl-C: the interrupted step may be half done, so it is undone too.
        ('connect', KeyboardInterrupt(), ['connect', 'disconnect']),
        ('get_disk', KeyboardInterrupt(), ['connect', 'get_disk', 'disconnect']),
        ('attach_disk', KeyboardInterrupt(), ['connect', 'get_disk', 'attach_disk', 'disconnect']),
    ],
)
def test_attach_undoes(room: Room, step: str, error: BaseException, calls: list[str]) -> None:
    room.fakes.fail[step] = error
    with pytest.raises(type(error)) as caught:
        room.manager.attach(room.info, 'web1')
    assert caught.value is error
    assert room.calls == calls
    assert room.guest.present == []


def test_interrupted_twice_while_the_row_is_settled(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row was to say that all is done, and the disk is out of the guest again."""
    put = room.journal.put

    def interrupted(record: Record) -> Record:
        if record.is_settled:
            raise KeyboardInterrupt
        if record.step == 'undo connect':
            raise KeyboardInterrupt
        return put(record)

    monkeypatch.setattr(room.journal, 'put', interrupted)
    with pytest.raises(KeyboardInterrupt):
        room.manager.attach(room.info, 'web1')
    assert room.guest.present == []
    row = room.record()
    assert row is not None
    assert (row.operation, row.step) == (Operation.ATTACH, 'undo attach')


def test_failed_undo_is_a_note_on_the_first_error(room: Room) -> None:
    error = exception.AttachRefused(guest='web1', disk='vda', reason='no room')
    room.fakes.fail['attach_disk'] = error
    room.fakes.fail['disconnect'] = exception.FlushFailed(volume_id='v', reason='I/O error')
    with pytest.raises(exception.AttachRefused) as caught:
        room.manager.attach(room.info, 'web1')
    (note,) = caught.value.__notes__
    assert 'I/O error' in note
    assert "'connect'" in note


class HalfAttached(fake.FakeGuest):
    """libvirt attached the disk and then lost the connection."""

    def attach_disk(self, disk: typing.Any, **options: typing.Any) -> None:
        super().attach_disk(disk, **options)
        raise exception.HypervisorUnavailable(uri='fake:///', reason='gone')


def test_disk_that_was_attached_before_the_error_is_taken_back(room: Room) -> None:
    room.guest.__class__ = HalfAttached
    with pytest.raises(exception.HypervisorUnavailable):
        room.manager.attach(room.info, 'web1')
    assert room.calls == ['connect', 'get_disk', 'attach_disk', 'detach_disk', 'disconnect']


def test_device_stays_while_the_guest_may_have_it(room: Room) -> None:
    """A device is not pulled away from under a guest that does not let go."""
    room.guest.__class__ = HalfAttached
    room.fakes.fail['detach_disk'] = exception.DetachTimeout(
        guest='web1', disk='vda', attempts=1, seconds=1
    )
    with pytest.raises(exception.HypervisorUnavailable) as caught:
        room.manager.attach(room.info, 'web1')
    assert 'disconnect' not in room.calls
    assert any('stays connected' in note for note in caught.value.__notes__)


@pytest.mark.parametrize(
    'error',
    [
        exception.DeadlineExceeded(what='QEMU', seconds=120.0),
        exception.Busy(what='guest', reason='held by remoteDispatchDomainAttachDeviceFlags'),
    ],
)
def test_device_stays_while_an_attach_may_still_come_about(room: Room, error: Exception) -> None:
    """libvirt shows the disk only when a QEMU that hangs has it."""
    room.fakes.fail['attach_disk'] = error
    with pytest.raises(type(error)) as caught:
        room.manager.attach(room.info, 'web1')
    assert room.calls == ['connect', 'get_disk', 'attach_disk']
    assert any('stays connected' in note for note in caught.value.__notes__)


def test_device_is_taken_back_when_something_else_holds_the_guest(room: Room) -> None:
    room.fakes.fail['attach_disk'] = exception.Busy(what='guest', reason='held by a snapshot')
    with pytest.raises(exception.Busy):
        room.manager.attach(room.info, 'web1')
    assert room.calls == ['connect', 'get_disk', 'attach_disk', 'disconnect']


class GoneAfterAttach(fake.FakeGuest):
    """libvirt cannot be asked any more once a disk was offered."""

    def attach_disk(self, disk: typing.Any, **options: typing.Any) -> None:
        self.fakes.fail['disks'] = exception.HypervisorUnavailable(uri='u', reason='gone')
        super().attach_disk(disk, **options)
        raise self.fakes.fail['disks']


def test_device_stays_while_libvirt_cannot_be_asked(room: Room) -> None:
    room.guest.__class__ = GoneAfterAttach
    with pytest.raises(exception.HypervisorUnavailable) as caught:
        room.manager.attach(room.info, 'web1')
    assert 'disconnect' not in room.calls
    assert any("undoing the step 'connect' failed" in note for note in caught.value.__notes__)


def test_undo_of_attach_leaves_the_device_to_another_guest(room: Room) -> None:
    room.other.present.append(fake.make_disk(fake.VOLUME_ID, 'vda'))
    room.fakes.fail['attach_disk'] = REFUSED
    with pytest.raises(exception.AttachRefused):
        room.manager.attach(room.info, 'web1')
    assert room.calls == ['connect', 'get_disk', 'attach_disk']


def attached(room: Room, target: str = 'vdb') -> None:
    room.guest.present.append(fake.make_disk(fake.VOLUME_ID, target))


@pytest.mark.parametrize('volume', [None, fake.VOLUME_ID, 'vdb'])
def test_detach_guest_first(room: Room, volume: str | None) -> None:
    attached(room)
    result = room.manager.detach('web1', volume, connection_info=room.info)
    assert room.calls == ['detach_disk', 'disconnect']
    assert result.target == 'vdb'
    assert result.removed_from_guest
    assert result.still_used_by == ()
    assert room.driver.attachment == f'{fake.GUEST_UUID}/{fake.VOLUME_ID}'


def test_detach_tells_the_driver_what_the_guest_had(room: Room) -> None:
    attached(room)
    room.manager.detach('web1', connection_info=room.info, force=True)
    volume = room.driver.disconnect_options['volume']
    assert (volume.path, str(volume.identity)) == (fake.PATH, 'wwn:3600')
    assert room.driver.disconnect_options['force'] is True


def test_detach_does_not_trust_a_name_of_the_kernel(room: Room) -> None:
    room.guest.present.append(fake.make_disk(fake.VOLUME_ID, 'vdb', path='/dev/dm-3'))
    room.manager.detach('web1', connection_info=room.info)
    assert room.driver.disconnect_options['volume'] is None


def test_detach_options(room: Room) -> None:
    attached(room)
    room.manager.detach('web1', connection_info=room.info, attempts=2, timeout=3.0)
    assert (room.guest.detach_options['attempts'], room.guest.detach_options['timeout']) == (2, 3)


def test_detach_options_default_to_the_configuration(room: Room) -> None:
    attached(room)
    room.manager.detach('web1', connection_info=room.info)
    assert room.guest.detach_options['attempts'] == 8
    assert room.guest.detach_options['timeout'] == 20


def test_detach_of_a_volume_the_guest_does_not_have(room: Room) -> None:
    result = room.manager.detach('web1', 'vdb', connection_info=room.info)
    assert room.calls == ['disconnect']
    assert not result.removed_from_guest
    assert result.still_used_by == ()


def test_detach_takes_nothing_away_while_the_guest_may_still_get_the_disk(room: Room) -> None:
    def busy() -> None:
        raise exception.Busy(what='guest web1', reason='QEMU hangs')

    room.guest.when_idle = busy
    with pytest.raises(exception.Busy):
        room.manager.detach('web1', connection_info=room.info)
    assert room.calls == []


def test_detach_of_a_disk_that_the_guest_just_got(room: Room) -> None:
    room.guest.when_idle = lambda: room.guest.present.append(fake.make_disk(fake.VOLUME_ID, 'vdb'))
    result = room.manager.detach('web1', connection_info=room.info)
    assert room.calls == ['detach_disk', 'disconnect']
    assert result.removed_from_guest
    assert result.target == 'vdb'


def test_detach_says_when_another_guest_keeps_the_volume_here(room: Room) -> None:
    disk = fake.make_disk(fake.VOLUME_ID, 'vda')
    disk.type = 'network'
    room.other.present.append(disk)
    result = room.manager.detach('web1', connection_info=room.info)
    assert room.calls == ['disconnect']
    assert result.still_used_by == ('web2',)


def test_detach_when_the_disk_goes_while_we_look(room: Room) -> None:
    attached(room)
    room.fakes.fail['detach_disk'] = exception.DiskNotFound(guest='web1', disk='vdb')
    result = room.manager.detach('web1', connection_info=room.info)
    assert not result.removed_from_guest
    assert result.still_used_by == ()


def test_detach_leaves_the_device_to_another_guest(room: Room) -> None:
    attached(room)
    room.other.present.append(fake.make_disk(fake.VOLUME_ID, 'vda'))
    result = room.manager.detach('web1', connection_info=room.info)
    assert room.calls == ['detach_disk']
    assert result.still_used_by == ('web2',)


def test_detach_from_a_guest_that_is_gone(room: Room) -> None:
    gone = '00000000-0000-4000-8000-00000000dead'
    result = room.manager.detach(gone.upper(), connection_info=room.info)
    assert room.calls == ['disconnect']
    assert room.driver.attachment == f'{gone}/{fake.VOLUME_ID}'
    assert result.still_used_by == ()


def test_detach_from_a_guest_that_is_gone_spares_the_others(room: Room) -> None:
    attached(room)
    result = room.manager.detach('00000000-0000-4000-8000-00000000dead', connection_info=room.info)
    assert room.calls == []
    assert result.still_used_by == ('web1',)


def test_detach_from_a_name_nobody_has(room: Room) -> None:
    with pytest.raises(exception.GuestNotFound):
        room.manager.detach('web3', connection_info=room.info)
    assert room.calls == []


def test_detach_gives_up_one_of_two_uses_of_a_share(room: Room) -> None:
    attached(room)
    disk = fake.make_disk(fake.VOLUME_ID, 'vda')
    disk.type = 'file'
    room.other.present.append(disk)
    result = room.manager.detach('web1', connection_info=room.info)
    assert room.calls == ['detach_disk', 'disconnect']
    assert result.still_used_by == ('web2',)


@pytest.mark.parametrize(
    'error',
    [
        exception.DetachRefused(guest='web1', disk='vdb', reason='in use'),
        exception.DetachTimeout(guest='web1', disk='vdb', attempts=1, seconds=1),
        exception.HypervisorUnavailable(uri='u', reason='gone'),
    ],
)
def test_device_stays_when_the_guest_does_not_let_go(
    room: Room, error: exception.VolumeDriversError
) -> None:
    attached(room)
    room.fakes.fail['detach_disk'] = error
    with pytest.raises(type(error)):
        room.manager.detach('web1', connection_info=room.info, force=True)
    assert room.calls == ['detach_disk']


def test_detach_stops_when_other_guests_cannot_be_asked(room: Room) -> None:
    attached(room)
    room.other.fakes.fail['disks'] = exception.HypervisorError(action='ask', reason='broken')
    with pytest.raises(exception.HypervisorError):
        room.manager.detach('web1', connection_info=room.info)
    assert 'disconnect' not in room.calls


def test_detach_ignores_guests_that_went_meanwhile(room: Room) -> None:
    attached(room)
    room.other.fakes.fail['disks'] = exception.GuestNotFound(guest='web2', uri='u')
    assert room.manager.detach('web1', connection_info=room.info).still_used_by == ()


@pytest.mark.parametrize('operation', ['detach', 'extend'])
@pytest.mark.parametrize(
    ('there', 'wanted'),
    [
        (fake.OTHER_ID, 'vda'),  # another volume has that target
        (fake.OTHER_ID, fake.OTHER_ID),  # connection_info of the wrong volume
        (None, 'vda'),  # no volume at all: the guest's root disk
    ],
)
def test_volume_must_be_that_of_the_connection_info(
    room: Room, operation: str, there: str | None, wanted: str
) -> None:
    room.guest.present.append(fake.make_disk(there, 'vda', path='/dev/disk/by-id/other'))
    attached(room)
    call = getattr(room.manager, operation)
    size = [fake.GIB] if operation == 'extend' else []
    with pytest.raises(exception.InvalidOption):
        call('web1', wanted, *size, connection_info=room.info)
    assert room.calls == []


def test_a_target_that_nothing_has_is_not_the_volume(room: Room) -> None:
    attached(room, 'vdb')
    with pytest.raises(exception.InvalidOption):
        room.manager.detach('web1', 'vdz', connection_info=room.info)
    assert room.calls == []


def test_extend_host_first(room: Room) -> None:
    attached(room)
    room.driver.size = 2 * fake.GIB
    result = room.manager.extend('web1', 'vdb', 2 * fake.GIB, connection_info=room.info)
    assert room.calls == ['extend', f'resize_disk vdb {2 * fake.GIB}']
    assert result.size == 2 * fake.GIB
    assert result.resized_in_guest


def test_extend_of_a_guest_that_does_not_run(room: Room) -> None:
    attached(room)
    room.guest.running = False
    assert not room.manager.extend(
        'web1', 'vdb', fake.GIB, connection_info=room.info
    ).resized_in_guest


def test_extend_that_the_host_does_not_see(room: Room) -> None:
    attached(room)
    with pytest.raises(exception.ExtendVolumeFailed):
        room.manager.extend('web1', 'vdb', 2 * fake.GIB, connection_info=room.info)
    assert room.calls == ['extend']


@pytest.mark.parametrize('size', [0, -1, True, 1.5, '10G'])
def test_extend_to_no_size(room: Room, size: typing.Any) -> None:
    attached(room)
    with pytest.raises(exception.InvalidSize):
        room.manager.extend('web1', 'vdb', size, connection_info=room.info)
    assert room.calls == []


def test_extend_of_a_volume_the_guest_does_not_have(room: Room) -> None:
    with pytest.raises(exception.DiskNotFound):
        room.manager.extend('web1', None, fake.GIB, connection_info=room.info)
    assert room.calls == []


def test_list(room: Room) -> None:
    attached(room)
    room.guest.present.append(fake.make_disk(None, 'vda', path='/root.img'))
    room.other.present.append(fake.make_disk(fake.OTHER_ID, 'vda'))

    assert [one.volume_id for one in room.manager.list()] == [fake.VOLUME_ID, fake.OTHER_ID]
    assert [one.guest for one in room.manager.list('web2')] == ['web2']
    assert len(room.manager.list('web1', all_disks=True)) == 2


def test_list_says_when_libvirt_cannot(room: Room) -> None:
    room.fakes.fail['disks'] = exception.HypervisorUnavailable(uri='u', reason='gone')
    with pytest.raises(exception.HypervisorUnavailable):
        room.manager.list()


@pytest.mark.parametrize('volume', [fake.VOLUME_ID, 'vdb'])
def test_show(room: Room, volume: str) -> None:
    attached(room)
    shown = room.manager.show('web1', volume)
    assert (shown.volume_id, shown.target, shown.source) == (fake.VOLUME_ID, 'vdb', fake.PATH)
    assert shown.host is not None
    assert shown.host.problem is not None


def test_show_of_nothing(room: Room) -> None:
    with pytest.raises(exception.DiskNotFound):
        room.manager.show('web1', 'vdz')


def test_a_volume_in_a_guest_is_a_settled_row(room: Room) -> None:
    room.manager.attach(room.info, 'web1', attachment_id='a-1')
    record = room.record()
    assert record is not None
    assert record.is_settled
    assert record.was_attached
    assert (record.target, record.source, record.attachment_id) == ('vda', fake.PATH, 'a-1')
    assert str(record.volume and record.volume.identity) == 'wwn:3600'
    assert 'chapsecret' not in repr(record)

    room.manager.detach('web1', 'vda')
    assert room.record() is None


def test_an_attach_that_was_undone_leaves_no_row(room: Room) -> None:
    room.fakes.fail['attach_disk'] = REFUSED
    with pytest.raises(exception.AttachRefused):
        room.manager.attach(room.info, 'web1')
    assert room.journal.find() == ()


def half_attached(room: Room) -> None:
    """Leave an attach that could be neither finished nor undone."""
    room.fakes.fail['attach_disk'] = exception.AttachRefused(guest='w', disk='d', reason='full')
    room.fakes.fail['disconnect'] = exception.FlushFailed(volume_id='v', reason='I/O error')
    with pytest.raises(exception.AttachRefused):
        room.manager.attach(room.info, 'web1')
    room.fakes.fail.clear()
    del room.fakes.calls[:]


def test_what_could_not_be_undone_stays_for_recover(room: Room) -> None:
    half_attached(room)
    record = room.record()
    assert record is not None
    assert (record.operation, record.step) == ('attach', 'undo connect')
    assert 'full' in record.problem

    (outcome,) = room.manager.recover()
    assert (outcome.operation, outcome.action) == ('attach', 'undone')
    assert room.calls == ['disconnect']
    assert room.record() is None
    assert room.manager.recover() == ()


@pytest.mark.parametrize('operation', ['attach', 'extend', 'set_qos'])
def test_the_next_operation_settles_what_was_interrupted(
    room: Room, operation: str, caplog: pytest.LogCaptureFixture
) -> None:
    half_attached(room)
    if operation == 'attach':
        room.manager.attach(room.info, 'web1')
        (said,) = caplog.messages
        assert said.startswith('attach of volume')
        assert 'had stopped in step undo connect; it was undone first: ' in said
        assert room.calls == ['disconnect', 'connect', 'get_disk', 'attach_disk']
        return
    arguments = (fake.GIB,) if operation == 'extend' else (IOTune(read_iops_sec=1),)
    with pytest.raises(exception.NotRecorded):
        getattr(room.manager, operation)('web1', fake.VOLUME_ID, *arguments)
    assert room.calls == ['disconnect']


def test_detach_needs_no_recovery_before(room: Room) -> None:
    half_attached(room)
    room.manager.detach('web1', fake.VOLUME_ID)
    assert room.calls == ['disconnect']
    assert room.record() is None


def test_one_device_is_not_two_volumes(room: Room) -> None:
    room.manager.attach(room.info, 'web1')
    other = ConnectionInfo.parse(fake.connection_info(fake.OTHER_ID))
    del room.fakes.calls[:]
    with pytest.raises(exception.IdentityMismatch, match=fake.VOLUME_ID):
        room.manager.attach(other, 'web2')
    assert room.other.present == []


def test_what_is_left_behind_is_an_error(room: Room) -> None:
    room.manager.attach(room.info, 'web1')
    room.driver.left = [Remainder('device', '/dev/sdb')]
    with pytest.raises(exception.LeftoversFound, match='/dev/sdb'):
        room.manager.detach('web1', 'vda')
    assert room.calls.count('disconnect') == 2  # tried once more
    record = room.record()
    assert record is not None
    assert record.operation == 'detach'

    room.driver.left = []
    (outcome,) = room.manager.recover()
    assert outcome.action == 'finished'
    assert room.record() is None


def test_what_is_left_behind_by_force_is_told_and_kept(room: Room) -> None:
    room.manager.attach(room.info, 'web1')
    room.driver.left = [Remainder('device', '/dev/sdb')]
    result = room.manager.detach('web1', 'vda', force=True)
    assert result.leftovers == ('device /dev/sdb',)
    record = room.record()
    assert record is not None
    assert 'left behind: device /dev/sdb' in record.problem


def test_a_guest_that_does_not_let_go_has_the_volume_as_before(room: Room) -> None:
    room.manager.attach(room.info, 'web1')
    room.fakes.fail['detach_disk'] = exception.DetachTimeout(
        guest='web1', disk='vda', attempts=1, seconds=1
    )
    with pytest.raises(exception.DetachTimeout):
        room.manager.detach('web1', 'vda')
    record = room.record()
    assert record is not None
    assert record.is_settled
    assert record.problem.startswith('detach: ')


def test_what_is_recorded_counts_not_what_is_given(room: Room) -> None:
    room.manager.attach(room.info, 'web1')
    raw = fake.connection_info()
    raw['data']['target_portal'] = '192.0.2.99:3260'
    seen = []
    room.driver.disconnect_volume = (  # type: ignore[method-assign]
        lambda info, attachment, **options: seen.append(info.to_dict()['data']['target_portal'])
    )
    room.manager.detach('web1', 'vda', connection_info=ConnectionInfo.parse(raw))
    assert seen == ['192.0.2.1:3260']


def test_qos(room: Room) -> None:
    room.manager.attach(room.info, 'web1')
    result = room.manager.set_qos('web1', 'vda', IOTune(read_iops_sec=9, group_name='g'))
    assert result.limits == {'read_iops_sec': 9, 'group_name': 'g'}
    assert list(result.seconds) == ['limit', 'record']
    assert room.guest.limits.read_iops_sec == 9
    record = room.record()
    assert record is not None
    assert record.is_settled


def test_qos_that_libvirt_refuses(room: Room) -> None:
    room.manager.attach(room.info, 'web1')
    room.fakes.fail['set_iotune vda'] = exception.HypervisorError(action='limit', reason='no')
    with pytest.raises(exception.HypervisorError):
        room.manager.set_qos('web1', 'vda', IOTune(read_iops_sec=9))
    record = room.record()
    assert record is not None
    assert record.is_settled
    assert record.problem.startswith('qos: ')


def test_qos_that_is_interrupted_and_cannot_be_set_back(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says that recover goes on, so the row has to be there for it."""
    room.manager.attach(room.info, 'web1')
    answers = [KeyboardInterrupt(), exception.HypervisorError(action='limit', reason='no')]

    def set_iotune(*_: object) -> typing.NoReturn:
        raise answers.pop(0)

    monkeypatch.setattr(room.guest, 'set_iotune', set_iotune)
    with pytest.raises(KeyboardInterrupt) as caught:
        room.manager.set_qos('web1', 'vda', IOTune(read_iops_sec=9))
    assert 'volumedrivers recover' in caught.value.__notes__[0]
    record = room.record()
    assert record is not None
    assert (record.operation, record.wanted) == ('qos', {'limits': {'read_iops_sec': 9}})
    monkeypatch.undo()
    (outcome,) = room.manager.recover()
    assert (outcome.operation, outcome.action) == ('qos', 'finished')


def test_qos_of_an_unrecorded_volume_is_not_recorded(room: Room) -> None:
    attached(room)
    with pytest.raises(exception.InvalidOption, match='not recorded'):
        room.manager.set_qos('web1', 'vdb', IOTune(read_iops_sec=9))
    room.manager.set_qos('web1', 'vdb', IOTune(read_iops_sec=9), connection_info=room.info)
    assert room.record() is None


def rebooted(room: Room) -> None:
    room.manager.attach(room.info, 'web1')
    record = room.record()
    assert record is not None
    room.journal.put(dataclasses.replace(record, boot_id='before'))
    room.guest.running = False
    del room.fakes.calls[:]


def test_reconnect(room: Room) -> None:
    rebooted(room)
    with pytest.raises(exception.InvalidOption, match='credentials are not recorded'):
        room.manager.reconnect('web1', 'vda')
    result = room.manager.reconnect('web1', 'vda', connection_info=room.info)
    assert room.calls == ['connect']
    assert (result.target, result.source, result.paths_found) == ('vda', fake.PATH, 2)
    record = room.record()
    assert record is not None
    assert record.boot_id == room.manager.context.boot_id


def test_reconnect_of_another_device(room: Room) -> None:
    rebooted(room)
    room.driver.identity = Identity('wwn', '3999')
    with pytest.raises(exception.IdentityMismatch):
        room.manager.reconnect('web1', 'vda', connection_info=room.info)
    record = room.record()
    assert record is not None
    assert record.boot_id == 'before'
    assert str(record.volume and record.volume.identity) == 'wwn:3600'


def test_repair_of_what_is_another_volume_now(room: Room) -> None:
    room.manager.attach(room.info, 'web1')
    del room.fakes.calls[:]
    room.driver.identity = Identity('wwn', '3999')
    with pytest.raises(exception.IdentityMismatch):
        room.manager.repair('web1', 'vda', connection_info=room.info)
    assert room.calls == []


def test_forget_by_force_says_what_it_leaves(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.manager.attach(room.info, 'web1')
    room.driver.left.append(Remainder('device', '/dev/sdb'))
    result = room.manager.forget('web1', 'vda', force=True)
    assert result.leftovers == ('disk vda of guest web1', str(room.driver.left[0]))
    assert (result.identity, result.paths_found, result.degraded) == ('wwn:3600', 2, False)
    assert result.seconds.keys() == {'look', 'record'}
    assert room.record() is None
    assert 'disconnect' not in room.calls

    def broken(*_: object, **__: object) -> typing.NoReturn:
        raise ZeroDivisionError('a mistake')

    room.guest.present.clear()
    room.manager.attach(room.info, 'web1')
    monkeypatch.setattr(room.driver, 'remains', broken)
    assert room.manager.forget('web1', 'vda', force=True).leftovers == ('not known: a mistake',)
    assert room.record() is None


def test_forget(room: Room) -> None:
    room.manager.attach(room.info, 'web1')
    with pytest.raises(exception.StillInUse):
        room.manager.forget('web1', 'vda')
    room.guest.present.clear()
    room.driver.left = [Remainder('device', '/dev/sdb')]
    with pytest.raises(exception.StillInUse, match='/dev/sdb'):
        room.manager.forget('web1', 'vda')
    room.driver.left = []
    assert room.manager.forget('web1', 'vda').volume_id == fake.VOLUME_ID
    assert room.record() is None
    with pytest.raises(exception.NotRecorded):
        room.manager.forget('web1', 'vda')
    assert 'disconnect' not in room.calls


def test_two_operations_on_one_volume_wait_for_one_another(room: Room) -> None:
    held = room.manager.context.lock_volume(fake.VOLUME_ID, 'extend', 'web2')
    options = room.manager.context.options
    conf = options._conf
    conf.set_override('lock_timeout', 0.0, 'volumedrivers')
    with held, pytest.raises(exception.LockHeld, match='extend of volume'):
        room.manager.attach(room.info, 'web1')
    assert room.calls == []
    room.manager.attach(room.info, 'web1')


def test_observer(tmp_path: pathlib.Path) -> None:
    seen: list[tuple[str, str, str]] = []
    fakes = fake.Calls()
    manager = fake.make_manager(
        fake.make_conf(),
        tmp_path,
        fake.FakeDriver(fakes),
        fake.FakeGuest(fakes),
        observer=lambda *told: seen.append(told),
    )
    fakes.fail['attach_disk'] = REFUSED
    with pytest.raises(exception.AttachRefused):
        manager.attach(ConnectionInfo.parse(fake.connection_info()), 'web1')
    assert seen == [
        ('attach', 'connect', 'before'),
        ('attach', 'connect', 'after'),
        ('attach', 'identify', 'before'),
        ('attach', 'identify', 'after'),
        ('attach', 'attach', 'before'),
        ('attach', 'attach', 'failed'),
        ('attach', 'undo connect', 'before'),
        ('attach', 'undo connect', 'after'),
    ]
