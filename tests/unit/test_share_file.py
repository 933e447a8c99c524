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

"""The drivers of files on a share: what they mount, what they describe, what they refuse."""

import typing

from oslo_config import cfg
import pytest

from tests import rng
from volumedrivers import exception
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import file_system
from volumedrivers.host.endpoint import ProbeResult
from volumedrivers.host.mount_table import Mount
from volumedrivers.host.share import Share
from volumedrivers.host.share import mount_point
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.driver import DiskInfo
from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.drivers.glusterfs import GlusterfsVolumeDriver
from volumedrivers.libvirt.drivers.gpfs import GpfsVolumeDriver
from volumedrivers.libvirt.drivers.nfs import NfsVolumeDriver
from volumedrivers.libvirt.drivers.quobyte import QuobyteVolumeDriver
from volumedrivers.libvirt.drivers.scality import ScalityVolumeDriver
from volumedrivers.libvirt.drivers.smbfs import SmbfsVolumeDriver
from volumedrivers.libvirt.drivers.vzstorage import VzstorageVolumeDriver
from volumedrivers.testing.shares import FakeShareMounts

VOLUME_ID = 'c1b2d3e4-0001-4aaa-8bbb-000000000001'
NAME = f'volume-{VOLUME_ID}'
DISK = DiskInfo(bus='virtio', dev='vdb')

# type: driver, export, and the disk's cache and io that Nova gives it
DRIVERS = {
    'nfs': (NfsVolumeDriver, '192.0.2.1:/export', 'none', 'native'),
    'smbfs': (SmbfsVolumeDriver, '//192.0.2.1/volumes', 'writeback', None),
    'glusterfs': (GlusterfsVolumeDriver, '192.0.2.1:/volumes', 'none', None),
    'quobyte': (QuobyteVolumeDriver, 'quobyte://192.0.2.1/volume', 'none', 'native'),
    'scality': (ScalityVolumeDriver, 'cinder/volumes', 'none', None),
}


class Probe:
    def __init__(self):
        self.asked = []

    def check(self, protocol, endpoints, *, timeout):
        self.asked.append((protocol, tuple(endpoints)))
        return ProbeResult(tuple(endpoints), ())


@pytest.fixture
def conf():
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], project='volumedrivers', default_config_files=[])
    conf.set_override('state_path', '/var/lib/x', group='volumedrivers')
    return conf


@pytest.fixture
def context(conf):
    return DriverContext(conf=conf, devices=None, shares=FakeShareMounts(), endpoints=Probe())


def info(kind, export=None, name=NAME, **data):
    given = {'name': name, 'volume_id': VOLUME_ID, **data}
    if export is not None:
        given['export'] = export
    return ConnectionInfo.parse({'driver_volume_type': kind, 'serial': VOLUME_ID, 'data': given})


def only_share(context) -> Share:
    (share,) = context.shares.mounted.values()
    return share


@pytest.mark.parametrize('kind', DRIVERS)
class TestAllOfThem:
    def test_connect_describe_and_disconnect(self, kind, context):
        driver_class, export, cache, io = DRIVERS[kind]
        driver = driver_class(context)
        given = info(kind, export, format='qcow2')
        volume = driver.connect_volume(given, 'guest')
        share = only_share(context)
        assert volume.source_type == 'file'
        assert volume.path.startswith(share.mount_point + '/')
        assert volume.path.endswith(NAME)
        assert volume.format == 'qcow2'
        assert volume.identity.kind == 'file'
        assert ConnectedVolume.from_dict(volume.to_dict()) == volume
        disk = driver.get_disk(given, volume, DISK)
        assert (disk.type, disk.driver.type) == ('file', 'qcow2')
        assert (disk.driver.cache, disk.driver.io) == (cache, io)
        assert disk.source.file == volume.path
        rng.validate_disk(disk.to_xml())
        driver.disconnect_volume(given, 'guest', volume=volume)
        driver.disconnect_volume(given, 'guest')
        assert context.shares.mounted == {}

    def test_two_guests_and_two_volumes_share_a_mount(self, kind, context):
        driver_class, export, _, _ = DRIVERS[kind]
        driver = driver_class(context)
        first, second = info(kind, export), info(kind, export, 'other', volume_id='2')
        for given, guest in ((first, 'a'), (first, 'b'), (second, 'a')):
            driver.connect_volume(given, guest)
        driver.disconnect_volume(first, 'a')
        driver.disconnect_volume(first, 'b')
        assert len(context.shares.mounted) == 1
        driver.disconnect_volume(second, 'a')
        assert context.shares.mounted == {}

    def test_a_snapshot_renames_the_file_and_the_user_is_the_same(self, kind, context):
        driver_class, export, _, _ = DRIVERS[kind]
        driver = driver_class(context)
        driver.connect_volume(info(kind, export), 'a')
        driver.disconnect_volume(info(kind, export, f'{NAME}.snap'), 'a')
        assert context.shares.mounted == {}

    def test_what_fails_lets_go_of_the_share(self, kind, context, monkeypatch):
        driver_class, export, _, _ = DRIVERS[kind]
        driver = driver_class(context)

        def refuse(path, *args, **kwargs):
            raise exception.UnsafeImage(path=path, reason='it lies')

        monkeypatch.setattr(context.shares, 'inspect', refuse)
        with pytest.raises(exception.UnsafeImage):
            driver.connect_volume(info(kind, export), 'a')
        assert context.shares.mounted == {}

    def test_what_fails_the_second_time_keeps_the_first(self, kind, context, monkeypatch):
        driver_class, export, _, _ = DRIVERS[kind]
        driver = driver_class(context)
        driver.connect_volume(info(kind, export), 'a')

        def refuse(path, *args, **kwargs):
            raise exception.UnsafeImage(path=path, reason='it lies')

        monkeypatch.setattr(context.shares, 'inspect', refuse)
        with pytest.raises(exception.UnsafeImage):
            driver.connect_volume(info(kind, export), 'a')
        assert len(context.shares.mounted) == 1

    def test_an_error_while_letting_go_is_a_note_to_the_first(self, kind, context, monkeypatch):
        driver_class, export, _, _ = DRIVERS[kind]
        driver = driver_class(context)

        def refuse(path, *args, **kwargs):
            raise exception.UnsafeImage(path=path, reason='it lies')

        def stuck(*args, **kwargs):
            raise exception.Busy(what='/mnt', reason='somebody is in there')

        monkeypatch.setattr(context.shares, 'inspect', refuse)
        monkeypatch.setattr(context.shares, 'release', stuck)
        with pytest.raises(exception.UnsafeImage) as caught:
            driver.connect_volume(info(kind, export), 'a')
        assert 'somebody is in there' in ' '.join(caught.value.__notes__)

    def test_extend(self, kind, context):
        driver_class, export, _, _ = DRIVERS[kind]
        driver = driver_class(context)
        assert driver.extend_volume(info(kind, export), 'a', 2 << 30) == 2 << 30
        with pytest.raises(exception.ExtendVolumeNotSupported, match='vmdk'):
            driver.extend_volume(info(kind, export, format='vmdk'), 'a', 2 << 30)
        for size in (0, -1, None, True, '5', 1.5):
            with pytest.raises(exception.InvalidSize):
                driver.extend_volume(info(kind, export), 'a', size)

    def test_extend_asks_the_server_before_qemu_does(self, kind, context, monkeypatch):
        driver_class, export, _, _ = DRIVERS[kind]
        driver = driver_class(context)
        volume = driver.connect_volume(info(kind, export), 'a')
        asked = []

        def silent(share):
            asked.append(share.source)
            raise exception.DeadlineExceeded(what=share.source, seconds=1)

        monkeypatch.setattr(context.shares, 'ask', silent)
        with pytest.raises(exception.DeadlineExceeded):
            driver.extend_volume(info(kind, export), 'a', 2 << 30, volume=volume)
        assert len(asked) == 1

    def test_why_not_names_what_to_install(self, kind, context):
        reason = DRIVERS[kind][0](context).why_not()
        assert reason is None or 'install' in reason or 'kernel' in reason

    def test_data_of_another_type(self, kind, context):
        driver_class, _, _, _ = DRIVERS[kind]
        other = ConnectionInfo.parse(
            {'driver_volume_type': 'local', 'data': {'device_path': '/dev/sda'}}
        )
        with pytest.raises(exception.InvalidConnectionInfo):
            driver_class(context).connect_volume(other, 'a')


@pytest.mark.parametrize('kind', [*DRIVERS, 'vzstorage'])
class TestWhatIsThereNow:
    @pytest.fixture
    def given(self, kind, context, monkeypatch):
        if kind == 'vzstorage':
            monkeypatch.setattr(
                VzstorageVolumeDriver, '_brick', lambda self: PstorageMount(context)
            )
            return VzstorageVolumeDriver(context), info(kind, 'mds1:/cluster1:secret-99')
        driver_class, export, _, _ = DRIVERS[kind]
        return driver_class(context), info(kind, export)

    def test_identity(self, kind, given, context, monkeypatch):
        driver, connection_info = given
        volume = driver.connect_volume(connection_info, 'a')
        redacted = ConnectionInfo.parse(connection_info.to_dict())
        later = info(kind, redacted.data.export, f'{NAME}.snap')

        for current in (connection_info, redacted):
            assert driver.current_identity(current, volume) == volume.identity
            assert driver.extend_volume(current, 'a', 1 << 30, volume=volume) == 1 << 30
        if kind != 'vzstorage':
            # A snapshot changes the name.
            assert driver.current_identity(later, volume) == volume.identity
        monkeypatch.setattr(context.shares, 'inode', lambda path: 2)
        with pytest.raises(exception.IdentityMismatch, match='#2'):
            driver.extend_volume(redacted, 'a', 1 << 30, volume=volume)
        monkeypatch.setattr(context.shares, 'inode', lambda path: None)
        assert driver.current_identity(redacted, volume) is None

    def test_another_share_at_the_same_place(self, kind, given, context, monkeypatch):
        driver, connection_info = given
        volume = driver.connect_volume(connection_info, 'a')
        other = Mount(1, '/', only_share(context).mount_point, 'nfs', 'other:/x')
        monkeypatch.setattr(context.shares, 'mount_of', lambda share: other)

        found = driver.current_identity(connection_info, volume)

        assert found != volume.identity
        assert found.value.startswith('other:/x (nfs)/')

    def test_nothing_is_mounted_any_more(self, kind, given, context):
        driver, connection_info = given
        volume = driver.connect_volume(connection_info, 'a')
        context.shares.mounted.clear()

        assert driver.current_identity(connection_info, volume) is None

    @pytest.mark.parametrize('with_record', [True, False])
    def test_remains(self, kind, given, context, with_record):
        driver, connection_info = given
        redacted = ConnectionInfo.parse(connection_info.to_dict())
        volume = driver.connect_volume(connection_info, 'a')
        share = only_share(context)
        place = share.mount_point
        users = context.shares.users
        users.claim(place, 'mark', share)
        known = {'volume': volume} if with_record else {}

        (found,) = driver.remains(redacted, 'a', **known)
        assert (found.kind, found.name) == ('mount', place)
        assert 'counted' in found.detail
        users.add(place, 'b')
        users.remove(place, f'a/{VOLUME_ID}')
        assert driver.remains(redacted, 'a', **known) == ()
        users.remove(place, 'b')
        (found,) = driver.remains(redacted, 'a', **known)
        assert found.detail == 'nobody uses it'
        context.shares.mounted.clear()
        (found,) = driver.remains(redacted, 'a', **known)
        assert found.detail == 'the mount was begun'
        users.unclaim(place)
        assert driver.remains(redacted, 'a', **known) == ()

    def test_a_mount_that_a_guest_uses_otherwise_does_not_remain(
        self, kind, given, context, monkeypatch
    ):
        driver, connection_info = given
        volume = driver.connect_volume(connection_info, 'a')
        share = only_share(context)
        context.shares.users.claim(share.mount_point, 'mark', share)
        context.shares.users.remove(share.mount_point, f'a/{VOLUME_ID}')
        asked = []

        def elsewhere(share, attachment):
            asked.append((share.mount_point, attachment))
            return frozenset(('web2',))

        monkeypatch.setattr(context.shares, 'elsewhere', elsewhere)
        assert driver.remains(connection_info, 'a', volume=volume) == ()
        assert asked == [(share.mount_point, 'a')]

    def test_what_was_begun_is_let_go_without_the_password(self, kind, given, context):
        driver, connection_info = given
        driver.connect_volume(connection_info, 'a')
        share = only_share(context)
        context.shares.users.claim(share.mount_point, 'begun', share)

        driver.disconnect_volume(ConnectionInfo.parse(connection_info.to_dict()), 'a')

        assert context.shares.mounted == {}


class PstorageMount:
    """As os-brick's connector: it names the file of what it was told to mount."""

    def __init__(self, context):
        self.base = context.conf.volumedrivers.vzstorage_mount_point_base

    def connect(self, driver_volume_type, volume_id, properties):
        return {'path': f'{mount_point(self.base, properties["export"])}/{properties["name"]}'}

    def disconnect(self, *args, **options):
        pass


class TestNfs:
    def test_options_of_cinder_come_last(self, context, conf):
        conf.set_override('nfs_mount_options', 'vers=4.2,hard', group='volumedrivers')
        given = info('nfs', '192.168.1.1:/nfs/share1', options='-o vers=3 -o ro')
        NfsVolumeDriver(context).connect_volume(given, 'a')
        share = only_share(context)
        assert ','.join(share.options) == 'vers=4.2,hard,vers=3,ro'
        # Where Nova mounts it, so that its guests can be taken over.
        assert share.mount_point == '/var/lib/x/mnt/7238cae27f24b2984e2f10903a9c78a6'

    def test_io_can_be_left_to_qemu(self, context, conf):
        conf.set_override('use_default_aio_mode_for_volumes', True, group='volumedrivers')
        driver = NfsVolumeDriver(context)
        given = info('nfs', '192.0.2.1:/export')
        disk = driver.get_disk(given, driver.connect_volume(given, 'a'), DISK)
        assert disk.driver.io is None


class TestSmbfs:
    def share(self, context, options=None, configured=''):
        context.conf.set_override('smbfs_mount_options', configured, group='volumedrivers')
        given = info('smbfs', '//192.0.2.1/volumes', options=options)
        SmbfsVolumeDriver(context).connect_volume(given, 'a')
        return only_share(context)

    def test_a_guest_by_default(self, context):
        share = self.share(context)
        assert share.options == ('username=guest',)
        assert share.credentials == {}

    def test_the_domain_of_a_user_is_cut_off(self, context):
        share = self.share(context, '-o domain=D,user=D\\bob', '-o noperm,vers=3.0')
        assert set(share.options) == {'username=bob', 'domain=D', 'noperm', 'vers=3.0'}

    @pytest.mark.parametrize(
        'options',
        ['-o username=bob,password=hunter2', '-o user=bob%hunter2', '-o pass=hunter2,user=bob'],
    )
    def test_a_password_is_a_credential(self, context, options):
        share = self.share(context, options, '-o noperm')
        assert share.credentials == {'username': 'bob', 'password': 'hunter2'}
        assert share.options == ('noperm',)
        assert 'hunter2' not in repr(share)

    @pytest.mark.parametrize('user', ['bob', 'D\\bob'])
    def test_a_password_with_a_backslash(self, context, user):
        share = self.share(context, f'-o username={user}%hun\\ter%2')
        assert share.credentials == {'username': 'bob', 'password': 'hun\\ter%2'}
        assert share.options == ()

    def test_a_domain_goes_with_it(self, context):
        share = self.share(context, '-o username=bob,password=hunter2,domain=D')
        assert share.credentials['domain'] == 'D'

    @pytest.mark.parametrize('option', ['nobrl', 'nolock', 'noperm'])
    def test_locks_that_the_server_enforces_are_warned_of(self, context, caplog, option):
        self.share(context, configured=f'-o {option}')
        assert ('cannot be written at its beginning' in caplog.text) == (option == 'noperm')

    def test_options_that_are_none(self, context):
        with pytest.raises(exception.InvalidOption, match='smbfs_mount_options') as caught:
            self.share(context, configured='--bind password=hunter2')
        assert 'hunter2' not in str(caught.value)


class TestQuobyte:
    @pytest.mark.parametrize('export', ['quobyte://192.0.2.1/v', '192.0.2.1/v'])
    def test_the_mount_point_does_not_depend_on_the_spelling(self, context, export):
        QuobyteVolumeDriver(context).connect_volume(info('quobyte', export), 'a')
        share = only_share(context)
        assert share.source == '192.0.2.1/v'
        assert share.mount_point == mount_point('/var/lib/x/mnt', '192.0.2.1/v')
        assert share.root_size == 0


class TestScality:
    def test_where_cinder_puts_volumes(self, context):
        volume = ScalityVolumeDriver(context).connect_volume(
            info('scality', 'cinder/volumes'), 'a'
        )
        share = only_share(context)
        assert share.source == '/etc/sfused.conf'
        assert volume.path == f'{share.mount_point}/cinder/volumes/00/{NAME}'

    def test_the_path_of_older_cinders(self, context):
        given = info('scality', 'x', sofs_path=f'cinder/volumes/00/{NAME}')
        volume = ScalityVolumeDriver(context).connect_volume(given, 'a')
        assert volume.path.endswith(f'/cinder/volumes/00/{NAME}')

    @pytest.mark.parametrize('path', ['/etc/passwd', '../../etc/passwd'])
    def test_a_path_that_leads_out(self, context, path):
        driver = ScalityVolumeDriver(context)
        with pytest.raises(exception.PathOutsideShare):
            driver.connect_volume(info('scality', 'x', sofs_path=path), 'a')
        assert context.shares.mounted == {}


class TestGlusterfs:
    def test_export_that_is_none(self, context):
        with pytest.raises(exception.InvalidConnectionInfo, match='host'):
            GlusterfsVolumeDriver(context).connect_volume(info('glusterfs', 'nothing'), 'a')

    @pytest.mark.parametrize(
        ('export', 'hosts', 'path'),
        [
            ('192.0.2.1:/vol', ['192.0.2.1'], 'vol'),
            ('a.example,b.example:/vol', ['a.example', 'b.example'], 'vol'),
            ('[2001:db8::1]:/vol', ['2001:db8::1'], 'vol'),
            ('a:vol/dir/', ['a'], 'vol/dir'),
        ],
    )
    def test_in_qemu(self, context, conf, export, hosts, path):
        conf.set_override('glusterfs_client', 'qemu', group='volumedrivers')
        driver = GlusterfsVolumeDriver(context)
        given = info('glusterfs', export)
        volume = driver.connect_volume(given, 'a')
        assert context.shares.mounted == {}
        assert context.endpoints.asked == [('gluster', tuple((host, 24007) for host in hosts))]
        assert volume.source.name == f'{path}/{NAME}'
        disk = driver.get_disk(given, volume, DISK)
        assert disk.type == 'network'
        assert [(host.name, host.port) for host in disk.source.hosts] == [
            (host, 24007) for host in hosts
        ]
        rng.validate_disk(disk.to_xml())
        driver.disconnect_volume(given, 'a', volume=volume)

    def test_in_qemu_only_raw(self, context, conf):
        conf.set_override('glusterfs_client', 'qemu', group='volumedrivers')
        given = info('glusterfs', '192.0.2.1:/vol', format='qcow2')
        with pytest.raises(exception.UnsafeImage, match='glusterfs_client = fuse'):
            GlusterfsVolumeDriver(context).connect_volume(given, 'a')
        assert context.endpoints.asked == []

    def test_what_is_connected_stays_as_it_is(self, context, conf):
        driver = GlusterfsVolumeDriver(context)
        given = info('glusterfs', '192.0.2.1:/vol')
        volume = driver.connect_volume(given, 'a')
        conf.set_override('glusterfs_client', 'qemu', group='volumedrivers')
        assert driver.get_disk(given, volume, DISK).type == 'file'
        driver.disconnect_volume(given, 'a', volume=volume)
        assert context.shares.mounted == {}


class FakeBrick:
    made: typing.ClassVar[list]
    calls: typing.ClassVar[list]
    answer: typing.ClassVar[object]

    def __init__(self, protocol, conf, **options):
        self.made.append((protocol, options))

    def connect(self, driver_volume_type, volume_id, properties):
        self.calls.append(('connect', properties))
        if isinstance(self.answer, Exception):
            raise self.answer
        return {'path': self.answer}

    def disconnect(self, driver_volume_type, volume_id, properties, device_info, *, force):
        self.calls.append(('disconnect', properties, device_info, force))
        raise exception.VolumeNotConnected(volume_id=volume_id)


@pytest.fixture
def brick(monkeypatch):
    monkeypatch.setattr(FakeBrick, 'made', [], raising=False)
    monkeypatch.setattr(FakeBrick, 'calls', [], raising=False)
    monkeypatch.setattr(FakeBrick, 'answer', f'/x/{NAME}', raising=False)
    monkeypatch.setattr('volumedrivers.libvirt.drivers.vzstorage.Brick', FakeBrick)
    return FakeBrick


class TestVzstorage:
    OPTIONS = '-u stack -g qemu -m 0770 -l /var/log/vstorage/clus/volumedrivers.log.gz'

    def test_what_os_brick_is_told(self, context, brick):
        driver = VzstorageVolumeDriver(context)
        given = info('vzstorage', 'mds1,mds2:/clus:hunter2', options='-x of cinder')
        volume = driver.connect_volume(given, 'a')
        share = only_share(context)
        assert volume.path == f'/x/{NAME}'
        assert volume.device_info == {'path': f'/x/{NAME}'}
        assert brick.made == [('VZSTORAGE', {'vzstorage_mount_point_base': '/var/lib/x/mnt'})]
        ((verb, properties),) = brick.calls
        assert verb == 'connect'
        assert properties['options'] == self.OPTIONS
        assert properties['export'] == 'mds1,mds2:/clus:hunter2'
        # os-brick names the directory after all of the export.
        assert share.mount_point == mount_point('/var/lib/x/mnt', 'mds1,mds2:/clus:hunter2')
        assert 'hunter2' not in repr((share, volume))
        assert driver.get_disk(given, volume, DISK).driver.cache == 'writeback'
        driver.disconnect_volume(given, 'a', volume=volume, force=True)
        verb, properties, device_info, force = brick.calls[1]
        assert (verb, device_info, force) == ('disconnect', None, True)
        assert properties['options'] == self.OPTIONS
        assert properties['device_path'] == volume.path
        assert context.shares.mounted == {}

    def test_more_options(self, context, conf, brick):
        conf.set_override('vzstorage_cache_path', '/ssd/%(cluster_name)s', group='volumedrivers')
        conf.set_override('vzstorage_mount_opts', ['-v', '-R', '500'], group='volumedrivers')
        VzstorageVolumeDriver(context).connect_volume(info('vzstorage', 'clus'), 'a')
        assert brick.calls[0][1]['options'] == f'{self.OPTIONS} -C /ssd/clus -v -R 500'

    @pytest.mark.parametrize('option', ['-c', '-l', '-C', '-u', '-g', '-m'])
    def test_options_that_are_taken(self, context, conf, option):
        conf.set_override('vzstorage_mount_opts', ['-v', option, 'x'], group='volumedrivers')
        with pytest.raises(exception.InvalidOption, match=option):
            VzstorageVolumeDriver(context)

    def test_os_brick_fails(self, context, brick):
        brick.answer = exception.ConnectFailed(
            volume_id=VOLUME_ID, driver_volume_type='vzstorage', reason='no MDS answers'
        )
        with pytest.raises(exception.ConnectFailed):
            VzstorageVolumeDriver(context).connect_volume(info('vzstorage', 'clus'), 'a')
        assert context.shares.mounted == {}


class TestGpfs:
    def info(self):
        return info('gpfs', device_path=f'/gpfs/volumes/{NAME}')

    def test_connect_and_describe(self, context):
        driver = GpfsVolumeDriver(context)
        volume = driver.connect_volume(self.info(), 'a')
        disk = driver.get_disk(self.info(), volume, DISK)
        assert (disk.source.file, disk.driver.type) == (f'/gpfs/volumes/{NAME}', 'raw')
        assert (disk.driver.cache, disk.driver.io) == ('none', None)
        rng.validate_disk(disk.to_xml())
        assert driver.extend_volume(self.info(), 'a', 2 << 30) == 2 << 30
        driver.disconnect_volume(self.info(), 'a', volume=volume)

    def test_on_another_file_system(self, context, monkeypatch):
        def elsewhere(path, fstypes, **kwargs):
            raise exception.WrongMount(mount_point='/', found='ext4', expected='gpfs')

        monkeypatch.setattr(context.shares, 'source_of', elsewhere)
        with pytest.raises(exception.WrongMount):
            GpfsVolumeDriver(context).connect_volume(self.info(), 'a')


def test_a_file_system_of_the_kernel(tmp_path):
    (tmp_path / 'filesystems').write_text('nodev\tsysfs\n\text4\nnodev\tfuse\n')
    table = str(tmp_path / 'filesystems')
    assert file_system.FileSystem('fuse', table=table).missing() is None
    assert file_system.FileSystem('ext4', table=table).missing() is None
    assert 'nosuchfs' in file_system.FileSystem('nosuchfs', table=table).missing()
    with_advice = file_system.FileSystem('gpfs', 'run "mmstartup"', table=table)
    assert 'mmstartup' in with_advice.missing()


class VendorVolumeDriver(NfsVolumeDriver):
    """A share of a type that no schema knows."""


def test_share_of_a_vendor_is_read_by_the_keys_of_nfs(context):
    given = info('acme', '192.0.2.1:/acme', format='qcow2')
    driver = VendorVolumeDriver(context)

    volume = driver.connect_volume(given, 'guest')

    assert only_share(context).source == '192.0.2.1:/acme'
    assert volume.format == 'qcow2'
    driver.disconnect_volume(given, 'guest', volume=volume)
    assert context.shares.mounted == {}


@pytest.mark.parametrize(
    ('data', 'error'),
    [
        ({}, exception.InvalidConnectionInfo),
        ({'export': 3}, exception.InvalidConnectionInfo),
        ({'export': 'a:/b', 'name': '../x'}, exception.PathOutsideShare),
    ],
)
def test_bad_share_of_a_vendor_is_not_mounted(context, data, error):
    with pytest.raises(error):
        VendorVolumeDriver(context).connect_volume(info('acme', **data), 'guest')

    assert context.shares.mounted == {}
