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

"""What an audit finds, and what it says nothing of."""

import dataclasses
import os
import types
import typing

from oslo_config import cfg
import pytest

from tests.unit import fake_hypervisor as fake
from tests.unit import real_mounts
from tests.unit.made_up_host import MadeUpHost
from tests.unit.test_users import file_disk
from tests.unit.test_users import make_record
from volumedrivers import exception
from volumedrivers.attachment import idle_mounts
from volumedrivers.attachment.audit import audit
from volumedrivers.attachment.context import AttachmentContext
from volumedrivers.attachment.journal import Journal
from volumedrivers.attachment.record import Opened
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.results import Finding
from volumedrivers.host import mount_table
from volumedrivers.host import share_health
from volumedrivers.host import shares
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.host.fair_lock import FairLocks
from volumedrivers.host.mount_table import Mount
from volumedrivers.host.share import Share
from volumedrivers.host.share import mount_point
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import FailedPath
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import NetworkSource
from volumedrivers.libvirt.connected_volume import PathReport
from volumedrivers.libvirt.disk import BackingStore
from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.disk import Source
from volumedrivers.libvirt.disk import Target
from volumedrivers.privsep import scsi

WWN = '36001405aaaaaaaaaaaaaaaaaaaaaaaaa'
OTHER_WWN = '36001405bbbbbbbbbbbbbbbbbbbbbbbbb'
SECRET = '00000000-0000-4000-8000-00000000005e'
GIB = 2**30
# Of libvirt's enumeration.
VOLUME, CEPH, ISCSI = 1, 2, 3
EXPORT = 'server.example:/export'


@dataclasses.dataclass
class KnownSecret:
    """Enough of libvirt.virSecret."""

    uuid: str
    type: int
    usage: str

    def UUIDString(self) -> str:
        return self.uuid

    def usageType(self) -> int:
        return self.type

    def usageID(self) -> str:
        return self.usage


class Hypervisor(fake.FakeHypervisor):
    """One that can be asked for secrets and sizes as well."""

    def __init__(self, *guests: fake.FakeGuest) -> None:
        super().__init__(*guests)
        self.known_secrets: list[KnownSecret] = []
        self.sizes: dict[str, int] = {}
        self.error: Exception | None = None
        self.asked_for_sizes: list[str] = []

    def guests(self) -> tuple[fake.FakeGuest, ...]:
        if self.error is not None:
            raise self.error
        return super().guests()

    def ask(self, action: str, question: typing.Any, **options: typing.Any) -> typing.Any:
        return question(self)

    def within_deadline(self, action: str, function: typing.Any, *, seconds: float) -> typing.Any:
        return function()

    def listAllSecrets(self) -> list[KnownSecret]:
        return self.known_secrets

    def domain(self, uuid: str) -> str:
        return uuid

    def domainListGetStats(self, domains: list[str], *flags: int) -> typing.Any:
        self.asked_for_sizes = domains
        stats: dict[str, typing.Any] = {'block.count': len(self.sizes)}
        for number, (target, size) in enumerate(self.sizes.items()):
            stats[f'block.{number}.name'] = target
            stats[f'block.{number}.capacity'] = size
        return [(types.SimpleNamespace(UUIDString=lambda: fake.GUEST_UUID), stats)]


class Endpoints:
    """A probe that nobody answers but those in ``alive``."""

    def __init__(self) -> None:
        self.alive: set[tuple[str, int]] = set()

    def check(self, protocol: str, endpoints: typing.Any, *, timeout: float) -> typing.Any:
        failed = tuple((f'{h}:{p}', 'silent') for h, p in endpoints if (h, p) not in self.alive)
        if len(failed) == len(endpoints):
            raise exception.EndpointUnreachable(protocol=protocol, endpoint='all', reason='silent')
        return types.SimpleNamespace(failed=failed)


class Room:
    """A host with two guests, where nothing is attached yet."""

    def __init__(self, tmp_path: typing.Any) -> None:
        self.conf = fake.make_conf()
        for name, value in (
            ('state_path', str(tmp_path / 'state')),
            ('mount_timeout', 1),
            ('nfs_mount_point_base', str(tmp_path / 'mnt')),
        ):
            self.conf.set_override(name, value, group='volumedrivers')
        self.base = str(tmp_path / 'mnt')
        self.host = MadeUpHost(tmp_path)
        self.guest = fake.FakeGuest(fake.Calls())
        self.other = fake.FakeGuest(fake.Calls(), 'web2', fake.OTHER_UUID)
        self.hypervisor = Hypervisor(self.guest, self.other)
        self.journal = Journal(str(tmp_path / 'attachments.sqlite'))
        self.locks = FairLocks(str(tmp_path / 'locks'))
        self.endpoints = Endpoints()
        self.driver = fake.FakeDriver(fake.Calls())
        self.mounter = real_mounts.TmpfsMounter()
        self.context = self._context(self.conf)
        self.shares = self.context.registry.context.shares

    def _context(self, conf: cfg.ConfigOpts) -> AttachmentContext:
        def elsewhere(place: str, attachment: str) -> frozenset[str]:
            return self.context.users().of_directory(place, attachment)

        drivers = types.SimpleNamespace(
            conf=conf,
            devices=BlockDevices(str(self.host.sysfs), str(self.host.dev), str(self.host.udev)),
            shares=shares.ShareMounts(conf, mounter=self.mounter, elsewhere=elsewhere),
            endpoints=self.endpoints,
        )
        registry = types.SimpleNamespace(context=drivers, get=lambda name: self.driver)
        return AttachmentContext(
            options=conf.volumedrivers,
            registry=typing.cast(typing.Any, registry),
            hypervisor=typing.cast(typing.Any, self.hypervisor),
            journal=self.journal,
            locks=self.locks,
            encryptor=typing.cast(typing.Any, None),
        )

    def audit(self) -> tuple[Finding, ...]:
        return audit(self.context)

    def the_one(self) -> Finding:
        found = self.audit()
        assert len(found) == 1, found
        assert found[0].detail
        assert found[0].what_to_do.endswith('.')
        assert found[0].to_dict()['kind'] == found[0].kind
        return found[0]

    def device(self, name: str = 'sda', wwn: str = WWN, **attributes: typing.Any) -> str:
        """Make a SCSI unit; return its stable name."""
        self.host.device(
            name,
            size=GIB,
            links=(f'disk/by-id/wwn-0x{wwn[1:]}-{name}',),
            device__wwid=f'naa.{wwn[1:]}',
            device__state=attributes.pop('state', 'running'),
            **attributes,
        )
        return str(self.host.dev / f'disk/by-id/wwn-0x{wwn[1:]}-{name}')

    def map(self, *states: str) -> str:
        """Make a multipath map; return its stable name."""
        names = []
        for number, state in enumerate(states):
            name = f'sd{"abcdef"[number]}'
            self.device(name, state=state)
            names.append(name)
        self.host.device(
            'dm-0',
            size=GIB,
            slaves=names,
            links=(f'disk/by-id/dm-uuid-mpath-{WWN}',),
            dm__uuid=f'mpath-{WWN}',
            dm__name='mpatha',
        )
        return str(self.host.dev / f'disk/by-id/dm-uuid-mpath-{WWN}')

    def attach(self, path: str, paths: PathReport | None = None, **changes: typing.Any) -> None:
        """Record a block volume, and let the guest have it."""
        volume = ConnectedVolume(
            driver_volume_type='iscsi',
            volume_id=fake.VOLUME_ID,
            source_type='block',
            path=path,
            identity=Identity('wwn', WWN),
            paths=paths or PathReport(),
        )
        values = {
            'driver_volume_type': 'iscsi',
            'connection_info': fake.connection_info(),
            'volume': volume,
            **changes,
        }
        self.journal.put(make_record(path=path, **values))
        source = changes.get('source', path)
        self.guest.present.append(fake.make_disk(fake.VOLUME_ID, 'vda', path=source))

    def share(self) -> Share:
        return Share(
            source=EXPORT,
            mount_point=mount_point(self.base, EXPORT),
            fstype='nfs',
            mounted_fstypes=('tmpfs', 'fuse'),
        )

    def attach_file(self, name: str = 'volume', *, make: bool = True) -> str:
        """Mount the share, record a file on it, and let the guest have it."""
        share = self.share()
        key = f'{fake.GUEST_UUID}/{fake.VOLUME_ID}'
        self.shares.acquire(share, f'{key}/{fake.VOLUME_ID}')
        path = os.path.join(share.mount_point, name)
        if make:
            with open(path, 'w', encoding='ascii'):
                pass
        inode = os.stat(path).st_ino if make else 17
        volume = ConnectedVolume(
            driver_volume_type='nfs',
            volume_id=fake.VOLUME_ID,
            source_type='file',
            path=path,
            identity=Identity('file', f'{EXPORT}/{name}#{inode}'),
        )
        self.journal.put(make_record(path=path, volume=volume))
        self.guest.present.append(file_disk(path, 'vda', alias=f'ua-{fake.VOLUME_ID}'))
        return path


@pytest.fixture
def room(tmp_path: typing.Any) -> typing.Iterator[Room]:
    yield Room(tmp_path)
    real_mounts.remove_all_below(tmp_path)


class TestRows:
    def test_nothing_to_say(self, room):
        room.attach(room.device())
        assert room.audit() == ()

    def test_empty_host(self, room):
        assert room.audit() == ()

    def test_what_libvirt_cannot_say_is_an_error(self, room):
        room.attach(room.device())
        room.hypervisor.error = exception.HypervisorUnavailable(uri='u', reason='gone')
        with pytest.raises(exception.HypervisorUnavailable):
            room.audit()

    def test_journal_that_has_lost_rows_is_an_error(self, room):
        """SQLite does not say by itself that a page has lost its rows."""
        room.journal.put(make_record())
        room.journal.close()
        with open(room.journal.path, 'r+b') as file:
            whole = file.read()
            page = whole.index(fake.VOLUME_ID.encode()) // 4096 * 4096
            # The number of rows in a page of the table.
            assert whole[page] == 0x0D
            file.seek(page + 3)
            file.write(b'\0\0')
        assert room.journal.find() == ()
        with pytest.raises(exception.JournalUnusable, match='damaged'):
            room.audit()

    def test_journal_that_cannot_be_read_is_an_error(self, room, tmp_path):
        (tmp_path / 'attachments.sqlite').write_text('this is no database, however long it is\n')
        with pytest.raises(exception.JournalUnusable):
            room.audit()

    def test_guest_gone(self, room):
        path = room.device()
        room.journal.put(make_record(domain_uuid=SECRET, path=path, domain_name='old'))
        found = room.the_one()
        assert (found.kind, found.severity) == ('guest-gone', 'problem')
        assert f'volumedrivers detach {SECRET} {fake.VOLUME_ID}' in found.what_to_do

    def test_not_in_guest(self, room):
        room.attach(room.device())
        room.guest.present.clear()
        found = room.the_one()
        assert (found.kind, found.severity) == ('not-in-guest', 'problem')
        assert f'volumedrivers detach web1 {fake.VOLUME_ID}' in found.what_to_do

    def test_disk_without_alias_is_the_guests(self, room):
        path = room.device()
        room.attach(path)
        room.guest.present[:] = [fake.make_disk(None, 'vda', path=path)]
        assert room.audit() == ()

    @pytest.mark.parametrize('lost', ['now', 'at the next start'])
    def test_half_in_guest(self, room, lost):
        room.attach(room.device())
        disks = list(room.guest.present)
        room.guest.defined = []
        if lost == 'now':
            room.guest.present, room.guest.defined = [], disks
        assert room.the_one().kind == 'half-in-guest'

    def test_stopped_guest_has_one_definition(self, room):
        room.attach(room.device())
        room.guest.running = False
        assert room.audit() == ()

    def test_disk_that_is_another_device(self, room):
        """CVE-2020-17376: the guest's definition names a device it was not given."""
        room.attach(room.device())
        room.guest.present[:] = [fake.make_disk(fake.VOLUME_ID, 'vda', path='/dev/sdx')]
        found = room.the_one()
        assert (found.kind, found.severity, found.what) == ('other-source', 'problem', '/dev/sdx')

    def test_device_gone(self, room):
        room.attach(room.device())
        room.host.remove('sda')
        found = room.the_one()
        assert (found.kind, found.severity) == ('device-gone', 'problem')

    def test_device_is_another_volume(self, room):
        """OSSA-2023-003: its LUN was given to another volume."""
        path = room.device()
        room.attach(path)
        room.host.write('block/sda/device/wwid', f'naa.{OTHER_WWN[1:]}\n')
        found = room.the_one()
        assert (found.kind, found.severity) == ('other-identity', 'problem')
        assert WWN in found.detail
        assert OTHER_WWN in found.detail

    def test_device_is_another_volume_and_sysfs_does_not_know(self, room, monkeypatch):
        room.attach(room.device())
        room.host.write('block/sda/device/state', 'running\n')
        pages = {wwn: _page_83(wwn) for wwn in (WWN, OTHER_WWN)}
        room.host.write('block/sda/device/vpd_pg83', pages[WWN])
        monkeypatch.setattr(scsi, 'read_page_83', {'sda': pages[WWN]}.get)
        assert room.audit() == ()
        monkeypatch.setattr(scsi, 'read_page_83', {'sda': pages[OTHER_WWN]}.get)
        found = room.the_one()
        assert found.kind == 'other-identity'
        assert WWN in found.detail
        assert OTHER_WWN in found.detail

    def test_disks_that_cannot_be_asked_do_not_end_the_audit(self, room, monkeypatch):
        def refuse(name):
            raise exception.PrivilegedCallRefused(function='read_page_83', reason='no sudo')

        room.attach(room.device())
        room.host.write('block/sda/device/state', 'running\n')
        room.host.write('block/sda/device/vpd_pg83', _page_83(WWN))
        monkeypatch.setattr(scsi, 'read_page_83', refuse)
        assert room.audit() == ()

    def test_device_that_says_nothing(self, room):
        path = room.device()
        room.attach(path)
        room.host.write('block/sda/device/wwid', '\n')
        assert room.the_one().kind == 'unknown'

    def test_identity_that_only_the_driver_reads(self, room):
        path = room.device()
        volume = ConnectedVolume(
            'rbd', fake.VOLUME_ID, 'block', path=path, identity=Identity('rbd', 'f/p/i')
        )
        room.attach(path, volume=volume)
        room.driver.identity = Identity('rbd', 'f/p/i')
        assert room.audit() == ()
        room.driver.identity = Identity('rbd', 'f/p/another')
        assert room.the_one().kind == 'other-identity'
        room.driver.identity = None
        assert room.the_one().kind == 'device-gone'

    def test_last_problem(self, room):
        room.attach(room.device(), problem='detach: the guest did not let go')
        found = room.the_one()
        assert (found.kind, found.severity) == ('last-problem', 'note')


class TestOperations:
    def test_interrupted(self, room):
        room.journal.put(
            make_record(operation=Operation.ATTACH, step='connect', problem='no answer')
        )
        found = room.the_one()
        assert (found.kind, found.severity) == ('unfinished', 'problem')
        assert "step 'connect' of attach" in found.detail
        assert 'no answer' in found.detail
        assert 'volumedrivers recover' in found.what_to_do

    def test_running(self, room):
        room.journal.put(make_record(operation=Operation.DETACH, step='detach'))
        with room.context.lock_volume(fake.VOLUME_ID, 'detach', 'web1'):
            found = room.the_one()
        assert (found.kind, found.severity) == ('running', 'note')
        assert f'process {os.getpid()}' in found.detail

    def test_what_is_being_worked_on_is_not_judged(self, room):
        room.attach(room.device())
        room.guest.present.clear()
        with room.context.lock_volume(fake.VOLUME_ID, 'detach', 'web1'):
            assert room.audit() == ()
        assert room.the_one().kind == 'not-in-guest'

    @pytest.mark.parametrize('change', ['gone', 'changed', 'new'])
    def test_what_has_changed_meanwhile_is_not_judged(self, room, monkeypatch, change):
        path = room.device()
        if change == 'new':
            room.guest.present.append(fake.make_disk(fake.VOLUME_ID, 'vda', path=path))
        else:
            room.attach(path)
            room.guest.present.clear()
        take = BlockDevices.inventory

        def meanwhile(devices: BlockDevices) -> typing.Any:
            if change == 'gone':
                room.journal.remove(f'{fake.GUEST_UUID}/{fake.VOLUME_ID}')
            else:
                room.journal.put(make_record(path=path))
            return take(devices)

        monkeypatch.setattr(BlockDevices, 'inventory', meanwhile)
        assert room.audit() == ()

    @pytest.mark.parametrize('there', [True, False])
    def test_earlier_boot(self, room, there):
        room.attach('/dev/disk/by-id/wwn-0x1', boot_id='before')
        if not there:
            room.hypervisor._guests = (room.other,)
        found = room.the_one()
        assert (found.kind, found.severity) == ('earlier-boot', 'problem')
        assert ('reconnect' in found.what_to_do) is there
        assert ('guest is gone' in found.detail) is not there


class TestRowsOfNova:
    """Rows of volumes whose disks Nova puts into the guests."""

    def test_nothing_to_say(self, room):
        room.attach(room.device(), manager='nova')
        assert room.audit() == ()

    def test_reboot_is_no_problem(self, room):
        room.attach('/dev/disk/by-id/wwn-0x1', boot_id='before', manager='nova')
        found = room.the_one()
        assert (found.kind, found.severity) == ('earlier-boot', 'note')
        assert 'nova connects it' in found.what_to_do

    def test_guest_that_is_gone_since_may_be_forgotten(self, room):
        path = '/dev/disk/by-id/wwn-0x1'
        room.journal.put(
            make_record(domain_uuid=SECRET, path=path, boot_id='before', manager='nova')
        )
        assert f'volumedrivers forget {SECRET} {fake.VOLUME_ID}' in room.the_one().what_to_do

    def test_volume_whose_attach_failed_in_nova(self, room):
        room.attach(room.device(), manager='nova')
        room.guest.present.clear()
        found = room.the_one()
        assert (found.kind, found.severity) == ('not-in-guest', 'problem')
        assert found.what_to_do.startswith('Unless nova is just about to start or change')
        assert f'volumedrivers detach web1 {fake.VOLUME_ID}' in found.what_to_do

    def test_definition_that_nova_makes_anew_need_not_be_whole(self, room):
        room.attach(room.device(), manager='nova')
        room.guest.defined = []
        assert room.audit() == ()

    def test_what_brings_it_back_is_novas(self, room):
        room.attach_file()
        row = room.journal.find()[0]
        room.journal.put(dataclasses.replace(row, manager='nova'))
        real_mounts.remove_all_below(room.base)
        found = {one.kind: one for one in room.audit()}['mount-gone']
        assert f'openstack server reboot --hard {fake.GUEST_UUID}' in found.what_to_do


class TestPaths:
    def test_all_there(self, room):
        room.attach(room.map('running', 'running'), PathReport(2, 2))
        assert room.audit() == ()

    def test_degraded(self, room):
        failed = FailedPath('192.0.2.2:3260 iqn.x', 'silent')
        room.attach(room.map('running'), PathReport(2, 1, (failed,)))
        found = room.the_one()
        assert (found.kind, found.severity) == ('degraded', 'problem')
        assert '1 of 2 paths work' in found.detail
        assert '192.0.2.2:3260 iqn.x: does not answer' in found.detail
        assert f'volumedrivers repair web1 {fake.VOLUME_ID}' in found.what_to_do
        assert 'when they are back' in found.what_to_do

    def test_portal_is_back(self, room):
        failed = tuple(FailedPath(f'192.0.2.{n}:3260 iqn.x', 'silent') for n in (2, 3))
        room.attach(room.map('running'), PathReport(3, 1, failed))
        room.endpoints.alive.add(('192.0.2.3', 3260))
        found = room.the_one()
        assert '192.0.2.3:3260 iqn.x answers again' in found.detail
        assert '192.0.2.2:3260 iqn.x: does not answer' in found.detail
        assert 'when they are back' not in found.what_to_do

    def test_path_failed_since(self, room):
        room.attach(room.map('running', 'offline'), PathReport(2, 2))
        found = room.the_one()
        assert (found.kind, found.severity) == ('degraded', 'problem')
        assert 'sdb is offline' in found.detail

    def test_no_path_works(self, room):
        room.attach(room.map('offline', 'offline'), PathReport(2, 2))
        assert room.the_one().kind == 'no-path'

    def test_failed_path_beside_enough_others(self, room):
        room.attach(room.map('running', 'running', 'offline'), PathReport(2, 2))
        found = room.the_one()
        assert (found.kind, found.severity) == ('failed-paths', 'note')

    def test_record_that_does_not_know_that_all_are_back(self, room):
        failed = FailedPath('192.0.2.2:3260 iqn.x', 'silent')
        room.attach(room.map('running', 'running'), PathReport(2, 1, (failed,)))
        found = room.the_one()
        assert (found.kind, found.severity) == ('paths-back', 'note')

    def test_unit_beside_the_map(self, room):
        room.attach(room.map('running', 'running'), PathReport(2, 2))
        room.device('sdz')
        found = room.the_one()
        assert (found.kind, found.severity, found.what) == ('stray-device', 'note', '/dev/sdz')
        assert found.volume_id == fake.VOLUME_ID


class TestSizes:
    @pytest.mark.parametrize('size', [GIB - 2**20, GIB + 2**20])
    def test_differs(self, room, size):
        room.attach(room.device())
        room.hypervisor.sizes['vda'] = size
        found = room.the_one()
        assert (found.kind, found.severity) == ('size', 'problem')
        extend = f'volumedrivers extend web1 {fake.VOLUME_ID} {GIB}'
        assert (extend in found.what_to_do) is (size < GIB)

    def test_same(self, room):
        room.attach(room.device())
        room.hypervisor.sizes['vda'] = GIB
        assert room.audit() == ()

    def test_guest_with_a_disk_that_may_hang_is_not_asked(self, room, monkeypatch):
        """libvirt looks at every file of a guest, and would hang with it."""
        room.attach(room.device())
        room.audit()
        assert room.hypervisor.asked_for_sizes == [fake.GUEST_UUID]
        del room.hypervisor.asked_for_sizes[:]
        place = os.path.join(room.base, '0123')
        room.guest.present.append(file_disk(f'{place}/file'))
        table = mount_table.read()
        nfs = Mount(1, '/', place, 'nfs4', 'server:/x')
        monkeypatch.setattr(mount_table, 'read', lambda: (*table, nfs))
        room.audit()
        assert room.hypervisor.asked_for_sizes == []

    def test_header_is_not_the_guests(self, room):
        room.hypervisor.known_secrets.append(KnownSecret(SECRET, VOLUME, fake.VOLUME_ID))
        opened = Opened('luks', 'qemu', secret_uuid=SECRET, header_size=2**20)
        room.attach(room.device(), opened=opened)
        room.hypervisor.sizes['vda'] = GIB - 2**20
        assert room.audit() == ()


class TestDisks:
    def test_volume_that_was_not_recorded(self, room):
        room.other.present.append(fake.make_disk(fake.VOLUME_ID, 'vdb', path='/dev/none'))
        found = room.the_one()
        assert (found.kind, found.severity) == ('not-recorded', 'note')
        assert (found.guest, found.volume_id) == ('web2', fake.VOLUME_ID)
        assert f'volumedrivers detach web2 {fake.VOLUME_ID}' in found.what_to_do

    def test_of_two_definitions_once(self, room):
        disk = fake.make_disk(fake.VOLUME_ID, 'vdb', path='/dev/none')
        room.other.present.append(disk)
        room.other.defined = [disk]
        assert room.the_one().kind == 'not-recorded'

    def test_disk_of_no_volume(self, room):
        room.other.present += [
            fake.make_disk(None, 'vda', path='/dev/vg/root'),
            file_disk('/var/lib/images/root.qcow2', 'vdb', serial='a serial number'),
        ]
        assert room.audit() == ()

    def test_recorded_volume_in_a_guest_that_did_not_get_it(self, room):
        path = room.device()
        room.attach(path)
        room.other.present.append(fake.make_disk(fake.VOLUME_ID, 'vdb', path=path))
        found = room.the_one()
        assert (found.kind, found.severity, found.guest) == ('not-recorded', 'problem', 'web2')

    @pytest.mark.parametrize('by', ['same name', 'kernel name', 'backing file'])
    def test_device_of_another(self, room, by):
        path = room.device()
        room.attach(path)
        if by == 'backing file':
            below = BackingStore(type='block', source=Source(dev=path))
            room.other.present.append(file_disk('/over', 'vdb', backing_store=below))
        else:
            name = path if by == 'same name' else str(room.host.dev / 'sda')
            room.other.present.append(fake.make_disk(None, 'vdb', path=name))
        found = room.the_one()
        assert (found.kind, found.severity, found.guest) == ('used-by-another', 'problem', 'web2')
        assert fake.VOLUME_ID in found.detail

    def test_file_on_a_share_that_is_counted(self, room):
        path = room.attach_file()
        room.other.present.append(file_disk(os.path.dirname(path) + '/another'))
        found = room.the_one()
        assert (found.kind, found.severity, found.guest) == ('not-recorded', 'note', 'web2')


class TestShares:
    def test_nothing_to_say(self, room):
        room.attach_file()
        assert room.audit() == ()

    def test_mount_gone(self, room):
        path = room.attach_file()
        room.mounter.unmount(os.path.dirname(path))
        found = room.the_one()
        assert (found.kind, found.severity) == ('mount-gone', 'problem')
        assert found.what == os.path.dirname(path)

    def test_file_gone(self, room):
        os.unlink(room.attach_file())
        assert room.the_one().kind == 'file-gone'

    def test_another_file(self, room):
        path = room.attach_file()
        with open(path + '.new', 'w', encoding='ascii'):
            pass
        os.rename(path + '.new', path)
        assert room.the_one().kind == 'other-identity'

    def test_snapshot_renames_the_file(self, room):
        """W15: the guest writes to another file on the same share."""
        path = room.attach_file()
        below = BackingStore(type='file', source=Source(file=path))
        alias = f'ua-{fake.VOLUME_ID}'
        room.guest.present[:] = [file_disk('/over', 'vda', alias=alias, backing_store=below)]
        room.guest.defined = [file_disk('/over', 'vda', alias=alias)]
        found = room.the_one()
        assert (found.kind, found.severity) == ('snapshot', 'note')

    def test_server_that_hangs(self, room):
        path = room.attach_file(make=False)
        place = os.path.dirname(path)
        room.mounter.unmount(place)
        silent = real_mounts.SilentFuse(EXPORT, place)
        try:
            found = room.the_one()
        finally:
            silent.remove()
        assert (found.kind, found.severity, found.what) == ('no-answer', 'problem', place)
        assert 'does not answer in 1 s' in found.detail

    @pytest.mark.parametrize('unmounted', [True, False])
    def test_share_that_is_just_being_unmounted(self, room, monkeypatch, unmounted):
        path = room.attach_file()
        place = os.path.dirname(path)
        ask = share_health.ask

        def dying(*arguments: typing.Any) -> typing.Any:
            monkeypatch.setattr(share_health, 'ask', ask)
            if unmounted:
                room.mounter.unmount(place)
            return {place: share_health.Answer('transport endpoint is not connected', {})}

        monkeypatch.setattr(share_health, 'ask', dying)
        assert room.audit() == ()

    def test_mount_that_is_counted_in_the_meantime(self, room, monkeypatch):
        """Its claim came after the mount, as seen by who looks the other way round."""
        room.attach_file()
        counted = room.shares.users.counted

        def late() -> typing.Any:
            monkeypatch.setattr(room.shares.users, 'counted', counted)
            return ()

        monkeypatch.setattr(room.shares.users, 'counted', late)
        assert room.audit() == ()

    def test_idle_mount_is_found_and_removed(self, room):
        """The last counted user went while a guest had something on the share."""
        path = room.attach_file()
        room.guest.present.clear()
        room.journal.remove(f'{fake.GUEST_UUID}/{fake.VOLUME_ID}')
        room.other.others.append(
            f"<filesystem><source dir='{os.path.dirname(path)}'/></filesystem>"
        )
        user = f'{fake.GUEST_UUID}/{fake.VOLUME_ID}/{fake.VOLUME_ID}'
        assert room.shares.release(room.share(), user) is True
        assert room.audit() == ()
        assert list(idle_mounts.remove(room.context)) == []

        room.other.others.clear()
        found = room.the_one()
        assert (found.kind, found.severity) == ('idle-mount', 'problem')
        assert 'volumedrivers recover' in found.what_to_do
        (outcome,) = idle_mounts.remove(room.context)
        assert (outcome.action, outcome.step) == ('finished', 'unmount')
        assert not os.path.exists(os.path.dirname(path))
        assert room.audit() == ()
        assert list(idle_mounts.remove(room.context)) == []

    def test_mount_that_did_not_come_about_is_not_called_one(self, room, monkeypatch):
        """Nobody knows whether it still will, so whose it is stays noted."""
        share = room.share()

        def late(*arguments: object, **options: object) -> None:
            raise exception.DeadlineExceeded(what='mount', seconds=1)

        with monkeypatch.context() as patch:
            patch.setattr(room.mounter, 'mount', late)
            with pytest.raises(exception.DeadlineExceeded):
                room.shares.acquire(share, 'somebody')
        found = room.the_one()
        assert (found.kind, found.severity) == ('idle-claim', 'note')
        assert found.detail.startswith('nothing is mounted')
        (outcome,) = idle_mounts.remove(room.context)
        assert outcome.action == 'finished'
        assert 'was to be mounted, and is not' in outcome.detail
        assert not os.path.exists(share.mount_point)
        assert room.audit() == ()

    def test_mount_that_comes_about_in_the_meantime(self, room, monkeypatch):
        share = room.share()
        room.shares.users.claim(share.mount_point, 'begun', share)
        counted = room.shares.users.counted

        def mounted() -> typing.Any:
            monkeypatch.setattr(room.shares.users, 'counted', counted)
            found = counted()
            os.makedirs(share.mount_point, exist_ok=True)
            real_mounts.mount_tmpfs('server:/export', share.mount_point)
            return found

        monkeypatch.setattr(room.shares.users, 'counted', mounted)
        assert 'idle-claim' not in [found.kind for found in room.audit()]

    def test_idle_mount_that_somebody_exchanged_stays(self, room):
        room.attach_file()
        room.guest.present.clear()
        room.journal.remove(f'{fake.GUEST_UUID}/{fake.VOLUME_ID}')
        share = room.share()
        user = f'{fake.GUEST_UUID}/{fake.VOLUME_ID}/{fake.VOLUME_ID}'
        room.shares.users.remove(share.mount_point, user)
        room.mounter.unmount(share.mount_point)
        real_mounts.mount_tmpfs('another:/export', share.mount_point)
        list(idle_mounts.remove(room.context))
        assert os.path.ismount(share.mount_point)

    def test_idle_mount_stays_when_libvirt_cannot_be_asked(self, room):
        path = room.attach_file()
        room.journal.remove(f'{fake.GUEST_UUID}/{fake.VOLUME_ID}')
        user = f'{fake.GUEST_UUID}/{fake.VOLUME_ID}/{fake.VOLUME_ID}'
        room.shares.users.remove(os.path.dirname(path), user)
        room.hypervisor.error = exception.HypervisorUnavailable(uri='u', reason='gone')
        (outcome,) = idle_mounts.remove(room.context)
        assert outcome.action == 'failed'
        assert os.path.ismount(os.path.dirname(path))

    @pytest.mark.parametrize(
        ('user', 'severity'),
        [(f'{SECRET}/{fake.OTHER_ID}/{fake.OTHER_ID}', 'problem'), ('a library', 'note')],
    )
    def test_user_without_a_row(self, room, user, severity):
        room.attach_file()
        room.shares.acquire(room.share(), user)
        found = room.the_one()
        assert (found.kind, found.severity) == ('stray-user', severity)
        assert user in found.detail

    def test_mount_that_was_not_made_here(self, room):
        place = os.path.join(room.base, '0123')
        os.makedirs(place)
        real_mounts.mount_tmpfs('another:/export', place)
        found = room.the_one()
        assert (found.kind, found.severity) == ('stray-mount', 'note')
        assert 'unused' in found.detail


class TestSecrets:
    def network(self, room: Room, secret_uuid: str) -> None:
        source = NetworkSource('iscsi', 'iqn/1', secret_type='iscsi', secret_uuid=secret_uuid)
        volume = ConnectedVolume('iscsi', fake.VOLUME_ID, 'network', source=source)
        room.journal.put(make_record(source='iscsi:iqn/1', volume=volume))
        room.guest.present.append(
            Disk(
                type='network',
                source=Source(protocol='iscsi', name='iqn/1'),
                target=Target(dev='vda'),
                alias=f'ua-{fake.VOLUME_ID}',
            )
        )

    def test_of_a_row(self, room):
        usage = f'{fake.VOLUME_ID}/{fake.GUEST_UUID}/{fake.VOLUME_ID}'
        room.hypervisor.known_secrets.append(KnownSecret(SECRET, ISCSI, usage))
        self.network(room, SECRET)
        assert room.audit() == ()

    def test_gone(self, room):
        self.network(room, SECRET)
        found = room.the_one()
        assert (found.kind, found.severity) == ('secret-gone', 'problem')

    def test_passphrase_gone(self, room):
        room.attach(room.device(), opened=Opened('luks', 'qemu', secret_uuid=SECRET))
        assert room.the_one().kind == 'secret-gone'

    def test_decrypted_device_gone(self, room):
        path = '/dev/mapper/crypt-of-nothing'
        room.attach(room.device(), source=path, opened=Opened('luks', 'host', path=path))
        assert room.the_one().kind == 'decrypted-gone'

    @pytest.mark.parametrize(
        ('type_', 'usage', 'severity'),
        [
            (VOLUME, fake.OTHER_ID, 'note'),
            (ISCSI, f'{fake.OTHER_ID}/{SECRET}/{fake.OTHER_ID}', 'problem'),
        ],
    )
    def test_stray(self, room, type_, usage, severity):
        room.hypervisor.known_secrets.append(KnownSecret(SECRET, type_, usage))
        found = room.the_one()
        assert (found.kind, found.severity) == ('stray-secret', severity)
        assert found.volume_id == fake.OTHER_ID
        assert f'virsh secret-undefine {SECRET}' in found.what_to_do

    @pytest.mark.parametrize(
        ('type_', 'usage'),
        [(CEPH, 'client.cinder'), (ISCSI, 'a-target'), (VOLUME, '/var/lib/pool/image')],
    )
    def test_of_somebody_else(self, room, type_, usage):
        room.hypervisor.known_secrets.append(KnownSecret(SECRET, type_, usage))
        assert room.audit() == ()


class TestDevices:
    @pytest.mark.parametrize(
        ('link', 'target', 'severity'),
        [
            ('disk/by-id/os-brick+dev+sdz', None, 'problem'),
            ('disk/by-id/os-brick+dev+sdz', 'sdz', 'note'),
            (f'volumedrivers/{fake.OTHER_ID}', 'sdz', 'problem'),
        ],
    )
    def test_stray_link(self, room, link, target, severity):
        if target is not None:
            room.device(target, OTHER_WWN)
        room.host.link(link, 'sdz')
        found = room.the_one()
        assert (found.kind, found.severity) == ('stray-link', severity)
        assert found.what == str(room.host.dev / link)

    def test_link_to_a_recorded_device(self, room):
        room.attach(room.device())
        room.host.link('disk/by-id/os-brick+dev+sda', 'sda')
        assert room.audit() == ()

    @pytest.mark.parametrize('ours', [True, False])
    def test_decrypted_device_of_no_row(self, room, ours):
        room.device()
        room.host.device(
            'dm-5',
            size=GIB,
            slaves=['sda'],
            dm__uuid=f'CRYPT-LUKS2-0-crypt-{fake.OTHER_ID}',
            dm__name=f'crypt-{fake.OTHER_ID}',
        )
        if ours:
            room.host.link(f'volumedrivers/{fake.OTHER_ID}', 'sda')
        found = {one.kind: one for one in room.audit()}
        assert found['stray-dm-crypt'].severity == ('problem' if ours else 'note')
        assert found['stray-dm-crypt'].volume_id == fake.OTHER_ID
        assert len(found) == 1 + ours

    def test_encrypted_root_disk_of_the_host(self, room):
        room.device()
        room.host.device(
            'dm-5', slaves=['sda'], dm__uuid='CRYPT-LUKS2-0-root', dm__name='sda3_crypt'
        )
        assert room.audit() == ()

    def test_session_with_a_volume_that_nobody_has(self, room):
        room.host.session(1, '192.0.2.1:3260', f'iqn.2010-10.org.openstack:volume-{fake.OTHER_ID}')
        found = room.the_one()
        assert (found.kind, found.severity) == ('stray-session', 'note')
        assert found.volume_id == fake.OTHER_ID

    def test_session_of_the_hosts_own(self, room):
        room.host.session(1, '192.0.2.1:3260', 'iqn.2001-01.com.example:boot')
        assert room.audit() == ()


def test_problems_come_first(room: Room) -> None:
    room.attach(room.map('running', 'running', 'offline'), PathReport(2, 2))
    room.journal.put(make_record(volume_id=fake.OTHER_ID, operation=Operation.ATTACH))
    assert [one.severity for one in room.audit()] == ['problem', 'note']


def _page_83(wwn):
    """VPD page 0x83 with the NAA identity that a WWN says."""
    value = bytes.fromhex(wwn[1:])
    return bytes((0, 0x83, 0, len(value) + 4, 1, 3, 0, len(value))) + value
