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

"""Who counts as a user of a volume or a share."""

import os
import typing

import pytest

from tests.unit import fake_hypervisor as fake
from volumedrivers import exception
from volumedrivers.attachment.journal import Journal
from volumedrivers.attachment.record import Opened
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.users import Users
from volumedrivers.host import boot
from volumedrivers.host.mount_table import Mount
from volumedrivers.host.path_walk import PathWalk
from volumedrivers.libvirt import guest_sources
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.disk import BackingStore
from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.disk import Mirror
from volumedrivers.libvirt.disk import Source
from volumedrivers.libvirt.disk import Target

THIRD_UUID = '00000000-0000-4000-8000-00000000000c'
MNT = '/var/lib/nothing/mnt/0123'


def make_record(
    guest_uuid: str = fake.GUEST_UUID,
    volume_id: str = fake.VOLUME_ID,
    path: str = fake.PATH,
    *,
    boot_id: str | None = None,
    name: str | None = None,
    **changes: typing.Any,
) -> Record:
    block = path.startswith('/dev/')
    values: dict[str, typing.Any] = {
        'key': make_key(guest_uuid, volume_id),
        'boot_id': boot.current() if boot_id is None else boot_id,
        'host': 'here',
        'domain_uuid': guest_uuid,
        'domain_name': name or {fake.GUEST_UUID: 'web1', fake.OTHER_UUID: 'web2'}[guest_uuid],
        'volume_id': volume_id,
        'driver_volume_type': 'iscsi' if block else 'nfs',
        'connection_info': {'driver_volume_type': 'iscsi' if block else 'nfs', 'data': {}},
        'source': path,
        'target': 'vda',
        'volume': ConnectedVolume(
            driver_volume_type='iscsi' if block else 'nfs',
            volume_id=volume_id,
            source_type='block' if block else 'file',
            path=path,
        ),
    }
    return Record(**{**values, **changes})


def file_disk(path: str, target: str = 'vdb', **others: typing.Any) -> Disk:
    return Disk(type='file', source=Source(file=path), target=Target(dev=target), **others)


@pytest.fixture
def journal(tmp_path) -> Journal:
    return Journal(str(tmp_path / 'attachments.sqlite'))


@pytest.fixture
def guest() -> fake.FakeGuest:
    return fake.FakeGuest(fake.Calls())


@pytest.fixture
def other() -> fake.FakeGuest:
    return fake.FakeGuest(fake.Calls(), 'web2', fake.OTHER_UUID)


@pytest.fixture
def users(journal, guest, other) -> Users:
    return Users(journal, typing.cast(typing.Any, fake.FakeHypervisor(guest, other)))


class TestOfVolume:
    def test_nobody(self, users):
        assert users.of_volume(fake.VOLUME_ID, fake.GUEST_UUID) == {}

    def test_the_guest_itself_is_not_meant(self, users, journal, guest):
        journal.put(make_record())
        guest.present.append(fake.make_disk(fake.VOLUME_ID, 'vda'))
        assert users.of_volume(fake.VOLUME_ID, fake.GUEST_UUID) == {}

    def test_by_row(self, users, journal):
        journal.put(make_record(fake.OTHER_UUID))
        assert users.of_volume(fake.VOLUME_ID, fake.GUEST_UUID) == {'web2': 'block'}

    def test_unfinished_row_counts_once_the_volume_is_there(self, users, journal):
        row = make_record(fake.OTHER_UUID, operation=Operation.ATTACH, step='connect')
        journal.put(row)
        assert users.of_volume(fake.VOLUME_ID, fake.GUEST_UUID) == {'web2': 'block'}
        journal.put(make_record(fake.OTHER_UUID, operation=Operation.ATTACH, volume=None))
        assert users.of_volume(fake.VOLUME_ID, fake.GUEST_UUID) == {}

    def test_row_of_an_earlier_boot_is_void(self, users, journal):
        journal.put(make_record(fake.OTHER_UUID, boot_id='before'))
        assert users.of_volume(fake.VOLUME_ID, fake.GUEST_UUID) == {}

    @pytest.mark.parametrize('running', [True, False])
    def test_by_disk_of_a_guest_that_runs_or_not(self, users, other, running):
        other.running = running
        other.present.append(fake.make_disk(fake.VOLUME_ID, 'vdz'))
        assert users.of_volume(fake.VOLUME_ID, fake.GUEST_UUID) == {'web2': 'block'}

    def test_by_the_definition_of_the_next_start(self, users, other):
        other.defined = [fake.make_disk(fake.VOLUME_ID, 'vdz')]
        assert users.of_volume(fake.VOLUME_ID, fake.GUEST_UUID) == {'web2': 'block'}

    def test_by_source_whatever_the_disk_is_called(self, users, other):
        """A disk that names another's device: CVE-2020-17376, or virsh."""
        other.present.append(fake.make_disk(None, 'vdz'))
        assert users.of_volume(fake.VOLUME_ID, fake.GUEST_UUID) == {}
        assert users.of_volume(fake.VOLUME_ID, fake.GUEST_UUID, make_record()) == {'web2': 'block'}

    def test_by_another_name_of_the_device(self, users, other):
        """/dev/fd leads to /proc/self/fd: two names, one thing."""
        real = os.path.realpath('/dev/fd')
        other.present.append(fake.make_disk(None, 'vdz', path='/dev/fd'))
        record = make_record(path='/dev/../dev/fd')
        assert users.of_volume(fake.VOLUME_ID, fake.GUEST_UUID, record) == {'web2': 'block'}
        assert real != '/dev/fd'

    def test_by_the_decrypted_device(self, users, other):
        path = '/dev/mapper/crypt-1'
        other.present.append(fake.make_disk(None, 'vdz', path=path))
        record = make_record(opened=Opened('luks', 'host', path=path))
        assert users.of_volume(fake.VOLUME_ID, fake.GUEST_UUID, record) == {'web2': 'block'}

    def test_row_of_another_volume_with_the_same_device(self, users, journal):
        journal.put(make_record(fake.OTHER_UUID, fake.OTHER_ID))
        assert users.of_volume(fake.VOLUME_ID, fake.GUEST_UUID, make_record()) == {'web2': 'block'}

    def test_network_sources_are_told_apart_by_volume_alone(self, users, other):
        """Two clusters may have an image of one name."""
        source = Source(protocol='rbd', name='volumes/volume-1')
        other.present.append(Disk(type='network', source=source, target=Target(dev='vda')))
        record = make_record(source='rbd:volumes/volume-1', volume=None)
        assert users.of_volume(fake.VOLUME_ID, fake.GUEST_UUID, record) == {}

    def test_what_libvirt_cannot_say_is_an_error(self, users, other):
        other.fakes.fail['disks'] = exception.HypervisorUnavailable(uri='u', reason='gone')
        with pytest.raises(exception.HypervisorUnavailable):
            users.of_volume(fake.VOLUME_ID, fake.GUEST_UUID)

    def test_guest_that_went_while_we_looked(self, users, guest, other):
        other.fakes.fail['disks'] = exception.GuestNotFound(guest='web2', uri='u')
        guest.present.append(fake.make_disk(fake.VOLUME_ID, 'vdz'))
        assert users.of_volume(fake.VOLUME_ID, THIRD_UUID) == {'web1': 'block'}


class TestOfDirectory:
    ATTACHMENT = f'{make_key(fake.GUEST_UUID, fake.VOLUME_ID)}/{fake.VOLUME_ID}'

    def of(self, users: Users) -> frozenset[str]:
        return users.of_directory(MNT, self.ATTACHMENT)

    def test_nobody(self, users, other):
        other.present.append(file_disk(f'{MNT}4/volume'))
        assert self.of(users) == frozenset()

    @pytest.mark.parametrize(
        'disk',
        [
            file_disk(f'{MNT}/volume-1.snapshot'),
            file_disk(f'{MNT}/volume', device='cdrom'),
            file_disk('/elsewhere', backing_store=BackingStore(source=Source(file=f'{MNT}/v'))),
            file_disk(
                '/elsewhere',
                backing_store=BackingStore(
                    source=Source(file='/between'),
                    backing_store=BackingStore(source=Source(file=f'{MNT}/v')),
                ),
            ),
            file_disk('/elsewhere', mirror=Mirror(source=Source(file=f'{MNT}/copy'))),
            Disk(type='dir', source=Source(dir=MNT), target=Target(dev='vdb')),
        ],
        ids=['renamed', 'cdrom', 'backing', 'two below', 'copied to', 'directory'],
    )
    @pytest.mark.parametrize('where', ['running', 'stopped', 'next start'])
    def test_disks(self, users, other, disk, where):
        other.running = where != 'stopped'
        if where == 'next start':
            other.defined = [disk]
        else:
            other.present, other.defined = [disk], []
            if where == 'stopped':
                other.defined = None
        assert self.of(users) == {'web2'}

    @pytest.mark.parametrize(
        'device',
        [
            f"<filesystem><driver type='virtiofs'/><source dir='{MNT}'/></filesystem>",
            f"<filesystem><source dir='{MNT}/sub'/></filesystem>",
            f"<serial type='file'><source path='{MNT}/log'/></serial>",
        ],
    )
    def test_what_is_no_disk(self, users, other, device):
        other.others.append(device)
        assert self.of(users) == {'web2'}

    def test_another_disk_of_the_same_guest(self, users, guest):
        guest.present.append(file_disk(f'{MNT}/other'))
        assert self.of(users) == {'web1'}

    @pytest.mark.parametrize('running', [True, False])
    def test_disk_whose_use_ends(self, users, journal, guest, running):
        """Nova takes a volume off the host before it changes the guest's definition."""
        journal.put(make_record(manager='nova'))
        guest.running = running
        guest.present.append(file_disk(f'{MNT}/volume', alias=f'ua-{fake.VOLUME_ID}'))
        assert self.of(users) == frozenset()
        guest.present.append(file_disk(f'{MNT}/other', 'vdc', alias=f'ua-{fake.OTHER_ID}'))
        assert self.of(users) == {'web1'}

    @pytest.mark.parametrize('running', [True, False])
    def test_disk_that_the_guest_still_has(self, users, journal, guest, running):
        """This package takes it out of the guest first; a name of before a refresh is one more."""
        journal.put(make_record())
        guest.running = running
        guest.present.append(file_disk(f'{MNT}/volume', alias=f'ua-{fake.VOLUME_ID}'))
        assert self.of(users) == {'web1'}

    def test_disk_whose_use_ends_in_another_guest(self, users, other):
        other.present.append(file_disk(f'{MNT}/volume', alias=f'ua-{fake.VOLUME_ID}'))
        assert self.of(users) == {'web2'}

    def test_rows(self, users, journal):
        journal.put(make_record(path=f'{MNT}/volume'))
        assert self.of(users) == frozenset(), 'the use that ends'
        journal.put(make_record(volume_id=fake.OTHER_ID, path=f'{MNT}/other'))
        assert self.of(users) == {'web1'}

    def test_key_that_begins_like_another(self, users, journal):
        journal.put(make_record(volume_id=fake.VOLUME_ID[:-1], path=f'{MNT}/other'))
        assert self.of(users) == {'web1'}

    def test_row_of_an_earlier_boot(self, users, journal):
        journal.put(make_record(volume_id=fake.OTHER_ID, path=f'{MNT}/other', boot_id='before'))
        assert self.of(users) == frozenset()

    def test_through_a_link(self, users, other, tmp_path):
        place = tmp_path / 'mnt' / '0123'
        place.mkdir(parents=True)
        (tmp_path / 'short').symlink_to(tmp_path / 'mnt')
        other.present.append(file_disk(f'{tmp_path}/short/0123/volume'))
        assert users.of_directory(str(place), self.ATTACHMENT) == {'web2'}
        other.present[:] = [file_disk(f'{place}/volume')]
        assert users.of_directory(f'{tmp_path}/short/0123', self.ATTACHMENT) == {'web2'}

    def test_what_libvirt_cannot_say_is_an_error(self, users, guest):
        guest.fakes.fail['disks'] = exception.HypervisorUnavailable(uri='u', reason='gone')
        with pytest.raises(exception.HypervisorUnavailable):
            self.of(users)

    def test_a_mount_table_that_cannot_be_read_is_an_error(self, users, monkeypatch):
        def fail() -> None:
            raise OSError(5, 'input/output error')

        monkeypatch.setattr('volumedrivers.host.mount_table.read', fail)
        with pytest.raises(exception.HostUnreadable):
            self.of(users)


class TestPathWalk:
    @staticmethod
    def walk(*places: str) -> PathWalk:
        return PathWalk(Mount(1, '/', place, 'nfs4', 'server:/x') for place in places)

    def test_does_not_enter_a_mount_that_may_hang(self, tmp_path, monkeypatch):
        place = tmp_path / 'mnt'
        place.mkdir()
        (tmp_path / 'to').symlink_to('mnt/sub')
        read: list[str] = []
        readlink = os.readlink

        def note(path: str) -> str:
            read.append(path)
            return readlink(path)

        monkeypatch.setattr(os, 'readlink', note)
        walk = self.walk(str(place))
        assert walk.resolve(f'{tmp_path}/to/../file') == f'{place}/file'
        assert not any(path.startswith(str(place)) for path in read)

    def test_a_loop_ends(self, tmp_path):
        (tmp_path / 'a').symlink_to('b')
        (tmp_path / 'b').symlink_to('a')
        assert self.walk().resolve(f'{tmp_path}/a/x').startswith(str(tmp_path))

    def test_what_is_not_there_stays(self):
        assert self.walk().resolve('/no/such/../file') == '/no/file'


def test_sources_of_a_definition() -> None:
    root = guest_sources.parse(
        """<domain id='3'><name>web1</name><uuid>u</uuid>
        <os><loader>/fw</loader><nvram>/var/nvram</nvram></os><devices>
        <disk type='network'><source protocol='rbd' name='p/i'>
        <auth><secret type='ceph' uuid='s1'/></auth></source>
        <target dev='vda'/><alias name='ua-v1'/><serial>v1</serial></disk>
        <disk type='file'><driver type='qcow2'/><source file='/over'/>
        <backingStore type='block'><source dev='/dev/sdz'/><backingStore/></backingStore>
        <target dev='vdb'/></disk></devices></domain>"""
    )
    found = guest_sources.of_definitions([root], is_persistent=False)
    assert (found.is_running, found.name) == (True, 'web1')
    first, second = found.disks
    assert (first.source, first.secrets, first.alias) == ('rbd:p/i', ('s1',), 'ua-v1')
    assert (second.source, second.below, second.format) == ('/over', ('/dev/sdz',), 'qcow2')
    assert second.paths == ('/over', '/dev/sdz')
    assert found.paths == {'/fw', '/var/nvram', '/over', '/dev/sdz'}


class TestLiveDisk:
    def test_by_path_or_by_device(self, users, guest, tmp_path):
        guest.present.append(fake.make_disk(None, 'vdq', path='/dev/null'))
        assert users.live_disk(guest.uuid, frozenset(('/dev/null',))) == 'vdq'
        link = tmp_path / 'link'
        link.symlink_to('/dev/null')
        assert users.live_disk(guest.uuid, frozenset((f'/dev/../{link}',))) == 'vdq'
        assert users.live_disk(guest.uuid, frozenset(('/dev/zero',))) is None

    def test_what_a_disk_is_copied_to(self, users, guest):
        disk = fake.make_disk(fake.VOLUME_ID, 'vda', path='/dev/zero')
        disk.mirror = Mirror(source=Source(dev=fake.PATH))
        guest.present.append(disk)
        assert users.live_disk(guest.uuid, frozenset((fake.PATH,))) == 'vda'

    def test_name_of_a_volume_that_was_copied_elsewhere(self, users, guest):
        """After Nova has swapped a volume its disk still has the old one's name."""
        guest.present.append(fake.make_disk(fake.VOLUME_ID, 'vda', path='/dev/zero'))
        assert users.live_disk(guest.uuid, frozenset((fake.PATH,))) is None

    def test_guest_that_does_not_run_has_none(self, users, guest):
        guest.present.append(fake.make_disk(None, 'vda'))
        guest.running = False
        assert users.live_disk(guest.uuid, frozenset((fake.PATH,))) is None
        assert users.live_disk(THIRD_UUID, frozenset((fake.PATH,))) is None

    def test_what_libvirt_cannot_say_is_an_error(self, users, guest):
        guest.fakes.fail['disks'] = exception.HypervisorUnavailable(uri='u', reason='gone')
        with pytest.raises(exception.HypervisorUnavailable):
            users.live_disk(guest.uuid, frozenset((fake.PATH,)))
