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

"""A dry run says what would be done, and nothing is."""

import dataclasses
import json
import os
import pathlib
import typing

import pytest

from tests.unit import fake_hypervisor as fake
from volumedrivers import exception
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.attachment.plan import Plan
from volumedrivers.attachment.planner import Planner
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.attachment.volume_encryption import VolumeEncryption
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import Remainder

OPERATIONS = (
    'attach',
    'detach',
    'extend',
    'set_qos',
    'reconnect',
    'repair',
    'repair_all',
    'forget',
    'recover',
)
LOOKS = {'current_identity', 'remains', 'get_disk'}
INFO = ConnectionInfo.parse(fake.connection_info())


class Room:
    """Two guests on one host, whose journal and locks are below a directory."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.fakes = fake.Calls()
        self.guest = fake.FakeGuest(self.fakes)
        self.other = fake.FakeGuest(fake.Calls(), 'web2', fake.OTHER_UUID)
        self.driver = fake.FakeDriver(self.fakes)
        self.manager: AttachmentManager = fake.make_manager(
            fake.make_conf(), directory, self.driver, self.guest, self.other
        )

    def attached(self) -> None:
        self.manager.attach(INFO, 'web1')
        del self.fakes.calls[:]

    def change(self, **changes: typing.Any) -> None:
        """Change the only row of the journal."""
        journal = self.manager.context.journal
        (record,) = journal.find()
        journal.put(dataclasses.replace(record, **changes))

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Everything below the directory: when it was changed, and what is in it."""
        found = {}
        for place, _, names in os.walk(self.directory):
            for name in names:
                path = os.path.join(place, name)
                # SQLite's index of its log is memory of those who have it open.
                if not name.endswith('-shm'):
                    found[path] = (os.stat(path).st_mtime_ns, pathlib.Path(path).read_bytes())
        return found


@pytest.fixture
def room(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    """A room in which every plan has to leave everything as it was."""
    made = Room(tmp_path)

    def watched(plan: typing.Any) -> typing.Any:
        def call(*arguments: typing.Any, **options: typing.Any) -> typing.Any:
            files, disks, calls = made.files(), list(made.guest.present), len(made.fakes.calls)
            limits = made.guest.limits
            try:
                return plan(*arguments, **options)
            finally:
                assert made.files() == files
                assert made.guest.present == disks
                assert made.guest.limits == limits
                assert set(made.fakes.calls[calls:]) <= LOOKS

        return call

    for name in OPERATIONS:
        monkeypatch.setattr(Planner, name, watched(getattr(Planner, name)))
    return made


def actions(plan: Plan, step: str) -> tuple[str, ...]:
    return next(one.actions for one in plan.steps if one.name == step)


def encrypted() -> ConnectionInfo:
    raw = fake.connection_info()
    raw['data']['encrypted'] = True
    return ConnectionInfo.parse(raw)


def test_attach(room: Room) -> None:
    plan = room.manager.plan.attach(INFO, 'web1')
    assert [step.name for step in plan.steps] == ['connect', 'identify', 'attach', 'record']
    assert plan.steps[0].locks == ('iscsi 192.0.2.1:3260',)
    assert plan.steps[0].seconds == 300
    assert actions(plan, 'connect') == ('log in to 192.0.2.1:3260',)
    assert plan.target == 'vda'
    assert plan.xml is not None
    assert '<target dev="vda" bus="virtio"/>' in plan.xml
    assert 'the name of the device will be known by then' in actions(plan, 'attach')[1]
    assert os.listdir(room.directory) == []
    json.dumps(plan.to_dict())
    assert 'chapsecret' not in repr(plan)


def test_the_steps_are_those_of_the_operation(room: Room) -> None:
    planned = room.manager.plan.attach(INFO, 'web1')
    done = room.manager.attach(INFO, 'web1')
    assert [step.name for step in planned.steps] == list(done.seconds)
    assert planned.target == done.target

    extension = room.manager.plan.extend('web1', 'vda', fake.GIB)
    extended = room.manager.extend('web1', 'vda', fake.GIB)
    assert [step.name for step in extension.steps] == list(extended.seconds)

    removal = room.manager.plan.detach('web1', 'vda')
    removed = room.manager.detach('web1', 'vda')
    assert [step.name for step in removal.steps] == list(removed.seconds)


def test_attach_to_a_guest_with_disks(room: Room) -> None:
    room.guest.present.append(fake.make_disk(None, 'sda', bus='scsi', path='/root.img'))
    plan = room.manager.plan.attach(INFO, 'web1', DiskRequest(bus='scsi'))
    assert plan.target == 'sdb'
    assert plan.xml is not None
    assert 'unit="1"' in plan.xml


def test_attach_of_what_another_guest_has(room: Room) -> None:
    room.manager.attach(INFO, 'web2')
    plan = room.manager.plan.attach(INFO, 'web1')
    assert plan.used_by == ('web2',)
    assert plan.xml is not None
    assert f'<source dev="{fake.PATH}"/>' in plan.xml
    assert not actions(plan, 'attach')[1].endswith('by then)')


def test_attach_of_an_encrypted_volume(room: Room) -> None:
    plan = room.manager.plan.attach(encrypted(), 'web1', encryption=VolumeEncryption('luks', 'k'))
    assert actions(plan, 'encrypt') == ('ask the key manager for key k', 'let QEMU decrypt')
    assert plan.xml is not None
    assert '<encryption format="luks">' in plan.xml
    assert 'the UUID of the secret' in actions(plan, 'attach')[1]


def test_attach_of_a_volume_that_the_host_decrypts(room: Room) -> None:
    plan = room.manager.plan.attach(encrypted(), 'web1', encryption=VolumeEncryption('luks2', 'k'))
    assert plan.xml is not None
    assert f'<source dev="/dev/mapper/crypt-{fake.VOLUME_ID}"/>' in plan.xml
    assert '<encryption' not in plan.xml


def test_attach_of_what_nobody_can_decrypt(room: Room) -> None:
    """QEMU opens the volume itself, and LUKS2 only by librbd."""
    conf = room.manager.context.registry.context.conf
    conf.set_override('iscsi_client', 'qemu', 'volumedrivers')
    conf.set_override('iscsi_initiator_name', 'iqn.2020-01.test:host', 'volumedrivers')
    with pytest.raises(exception.EncryptionNotSupported, match='iscsi_client=kernel'):
        room.manager.plan.attach(encrypted(), 'web1', encryption=VolumeEncryption('luks2', 'k'))


def test_what_attach_would_refuse(room: Room) -> None:
    with pytest.raises(exception.InvalidDiskInfo):
        room.manager.plan.attach(INFO, 'web1', DiskRequest(target='disk1'))
    room.attached()
    with pytest.raises(exception.AlreadyAttached):
        room.manager.plan.attach(INFO, 'web1')


def test_detach(room: Room) -> None:
    room.attached()
    room.driver.left = [Remainder('device', 'sdb')]
    plan = room.manager.plan.detach('web1', 'vda')
    assert actions(plan, 'detach')[0].startswith('take vda out of guest web1, while it runs')
    assert '8 times' in actions(plan, 'detach')[0]
    assert actions(plan, 'disconnect') == (f'flush {fake.PATH}', 'log out of 192.0.2.1:3260')
    assert plan.recorded == (f'block {fake.PATH}', '2 of 2 paths', 'identity wwn:3600')
    assert plan.on_host == ('device sdb',)


def test_detach_of_a_device_that_others_use(room: Room) -> None:
    room.attached()
    room.other.present.append(fake.make_disk(fake.VOLUME_ID, 'vda'))
    plan = room.manager.plan.detach('web1', 'vda')
    assert plan.used_by == ('web2',)
    assert actions(plan, 'disconnect') == ('leave the device to web2',)


def test_detach_after_a_reboot_has_nothing_to_disconnect(room: Room) -> None:
    room.attached()
    journal = room.manager.context.journal
    (record,) = journal.find()
    journal.put(dataclasses.replace(record, boot_id='before'))
    assert actions(room.manager.plan.detach('web1', 'vda'), 'disconnect') == ('nothing to do',)


def test_detach_of_what_changed_under_its_name(room: Room) -> None:
    room.attached()
    room.driver.identity = Identity('wwn', '3999')
    with pytest.raises(exception.IdentityMismatch):
        room.manager.plan.detach('web1', 'vda')


def test_detach_of_what_is_not_recorded(room: Room) -> None:
    room.guest.present.append(fake.make_disk(fake.VOLUME_ID, 'vdb'))
    plan = room.manager.plan.detach('web1', 'vdb', connection_info=INFO)
    assert actions(plan, 'detach')[0].startswith('take vdb out of guest web1')
    assert plan.recorded == ()


def test_detach_of_a_device_that_is_recorded_as_another_volume(room: Room) -> None:
    other = ConnectionInfo.parse(fake.connection_info(fake.OTHER_ID))
    room.manager.attach(other, 'web2')
    room.guest.present.append(fake.make_disk(fake.VOLUME_ID, 'vdb'))
    with pytest.raises(exception.IdentityMismatch, match=fake.OTHER_ID):
        room.manager.plan.detach('web1', 'vdb', connection_info=INFO)


def test_detach_of_nothing(room: Room) -> None:
    with pytest.raises(exception.NotRecorded):
        room.manager.plan.detach('web1', 'vda')
    plan = room.manager.plan.detach('web1', connection_info=INFO)
    assert actions(plan, 'detach') == ('guest web1 does not have the volume',)
    assert os.listdir(room.directory) == []


def test_what_was_interrupted_is_said(room: Room) -> None:
    room.fakes.fail['attach_disk'] = exception.Busy(
        what='web1', reason='held by remoteDispatchDomainAttachDeviceFlags'
    )
    with pytest.raises(exception.Busy):
        room.manager.attach(INFO, 'web1')
    del room.fakes.fail['attach_disk']
    plan = room.manager.plan.attach(INFO, 'web1')
    assert plan.before is not None
    assert plan.before.startswith('attach began and stopped in step')
    assert plan.before.endswith('; first it is undone: removed from the host')
    removal = room.manager.plan.detach('web1', fake.VOLUME_ID)
    assert removal.before is not None
    assert removal.before.endswith('; what is left of it is removed now')


def test_extend(room: Room) -> None:
    room.attached()
    plan = room.manager.plan.extend('web1', 'vda', 2 * fake.GIB)
    assert actions(plan, 'identify') == (f'make sure that {fake.PATH} still is wwn:3600',)
    assert str(2 * fake.GIB) in actions(plan, 'extend')[0]
    assert 'tell guest web1 that vda has' in actions(plan, 'resize')[0]
    room.guest.running = False
    stopped = room.manager.plan.extend('web1', 'vda', 2 * fake.GIB)
    assert 'does not run' in actions(stopped, 'resize')[0]


def test_extend_of_what_is_gone(room: Room) -> None:
    room.attached()
    room.driver.identity = None
    with pytest.raises(exception.VolumeNotConnected):
        room.manager.plan.extend('web1', 'vda', fake.GIB)
    with pytest.raises(exception.InvalidSize):
        room.manager.plan.extend('web1', 'vda', 0)


def test_a_lock_that_is_held_is_named_and_not_waited_for(room: Room) -> None:
    context = room.manager.context
    with context.lock_volume(fake.VOLUME_ID, 'extend', 'web2'):
        plan = room.manager.plan.attach(INFO, 'web1')
    assert plan.locked_by is not None
    assert plan.locked_by.startswith(f'extend of volume {fake.VOLUME_ID} and guest web2 (process')
    assert room.manager.plan.attach(INFO, 'web1').locked_by is None
