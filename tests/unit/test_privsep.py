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

import ctypes
import inspect
import os
import pathlib
import re

from oslo_config import cfg
from oslo_privsep import comm
from oslo_privsep import daemon
import pytest

from volumedrivers import exception
from volumedrivers.conf import opts
from volumedrivers.privsep import commands
from volumedrivers.privsep import context
from volumedrivers.privsep import device_link
from volumedrivers.privsep import discovery_file
from volumedrivers.privsep import mount
from volumedrivers.privsep import mount_point as places
from volumedrivers.privsep import multipath
from volumedrivers.privsep import nvme
from volumedrivers.privsep import rbd
from volumedrivers.privsep import scsi
from volumedrivers.privsep import share_arguments
from volumedrivers.privsep import trusted
from volumedrivers.testing import server

ENTRIES = (
    mount.mount,
    mount.unmount,
    mount.make_mount_point,
    mount.remove_mount_point,
    multipath.flush_map,
    multipath.make_map,
    device_link.make_folder,
    device_link.remove_link,
    discovery_file.remove_unless_named,
    nvme.delete_controller,
    rbd.unmap,
    scsi.delete_device,
    scsi.read_page_83,
)


@pytest.fixture(autouse=True)
def in_process(monkeypatch):
    """Call the functions as root does, without a helper."""
    monkeypatch.setattr(context.sys_admin, 'client_mode', False)


@pytest.fixture
def base(tmp_path, monkeypatch):
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], default_config_files=[])
    conf.set_override('state_path', str(tmp_path), group='volumedrivers')
    monkeypatch.setattr(trusted, '_in_process', conf)
    return tmp_path / 'mnt'


class Runs:
    """Stands in for commands.run; programs mount and unmount in a list."""

    def __init__(self):
        self.argv = []
        self.kept = []
        self.code = 0
        self.output = ''
        self.mounted = {}
        self.options = frozenset({'nosuid', 'nodev', 'relatime'})
        self.fstype = 'nfs4'

    def run(self, argv, *, what, timeout, keep=()):
        self.argv.append(list(argv))
        for descriptor in keep:
            self.kept.append(os.pread(descriptor, 1000, 0).decode())
        if not self.code:
            if argv[0] == 'umount':
                self.mounted.pop(argv[-1], None)
            elif 'remount' in ' '.join(argv):
                self.options |= {'nosuid', 'nodev'}
            else:
                self.mounted[argv[-1]] = places.Mounted(self.fstype, argv[-2], self.options)
        return commands.Result(self.code, self.output)


@pytest.fixture
def runs(monkeypatch):
    fake = Runs()
    monkeypatch.setattr(commands, 'run', fake.run)
    monkeypatch.setattr(places, 'mounted_at', fake.mounted.get)
    monkeypatch.setattr(mount, '_scope', lambda fstype: [])
    return fake


# The helper looks a function up by its name, and calls only what carries the
# context.
@pytest.mark.parametrize('function', ENTRIES, ids=lambda function: function.__name__)
def test_functions_are_exported_under_their_names(function):
    assert context.sys_admin.is_entrypoint(function)
    module = inspect.getmodule(inspect.unwrap(function))
    assert getattr(module, function.__name__) is function
    assert module.__name__.startswith('volumedrivers.privsep.')


def test_only_the_capabilities_that_are_needed():
    names = {'CAP_SYS_ADMIN': 21, 'CAP_DAC_OVERRIDE': 1}
    assert sorted(cfg.CONF[context.SECTION].capabilities) == sorted(names.values())


@pytest.mark.parametrize(
    'error',
    [
        exception.MountFailed(source='a:/b', mount_point='/c', reason='d'),
        exception.PrivilegedCallRefused(function='mount', reason='x'),
        exception.DeadlineExceeded(what='x', seconds=3.0),
        exception.Busy(what='x', reason='y'),
    ],
)
def test_errors_survive_the_way_back(error):
    # As the helper sends them: class name and args, packed with msgpack.
    sent = []
    sock = type('Sock', (), {'sendall': lambda self, data: sent.append(data)})()
    comm.Serializer(sock).send(('id', (comm.Message.ERR.value, type(error).__name__, error.args)))
    received = iter([sent[0]])
    source = type('Sock', (), {'recv': lambda self, size: next(received, b'')})()
    _, (_, name, args) = next(comm.Deserializer(source))
    again = getattr(exception, name)(*args)
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.details == error.details


@pytest.mark.parametrize(
    ('raised', 'expected'),
    [
        (
            daemon.FailedToDropPrivileges('exited non-zero (1)'),
            'cannot be started: exited non-zero',
        ),
        (FileNotFoundError(2, 'No such file or directory'), 'cannot be started: No such file'),
    ],
)
def test_a_helper_that_does_not_start_is_said_so(monkeypatch, raised, expected):
    def start():
        raise raised

    monkeypatch.setattr(context.sys_admin, 'client_mode', True)
    monkeypatch.setattr(context.sys_admin, 'channel', None)
    monkeypatch.setattr(context.sys_admin, 'start', start)
    with pytest.raises(exception.PrivilegedCallRefused, match=expected) as caught:
        nvme.delete_controller('nvme0')
    assert caught.value.__cause__ is raised


def test_a_helper_that_does_not_answer_is_not_waited_for(monkeypatch):
    class Channel:
        running = True

        def remote_call(self, name, args, kwargs, timeout):
            assert (name, args, kwargs) == (
                'volumedrivers.privsep.scsi.delete_device',
                ('sda',),
                {},
            )
            assert timeout == context.CALL_TIMEOUT
            raise comm.PrivsepTimeout

    monkeypatch.setattr(context.sys_admin, 'client_mode', True)
    monkeypatch.setattr(context.sys_admin, 'channel', Channel())
    with pytest.raises(exception.DeadlineExceeded, match='privileged delete_device'):
        scsi.delete_device('sda')


# Shares


def test_mount_has_no_suid_no_dev_and_ends_its_options(base, runs):
    place = str(base / 'a1')
    mount.make_mount_point(place)
    mount.mount('nfs', '192.0.2.1:/exports/a', place, ['vers=4.2,soft', 'nodev'])
    options = 'vers=4.2,soft,nosuid,nodev'
    assert runs.argv == [
        ['mount', '-t', 'nfs', '-o', options, '--', '192.0.2.1:/exports/a', place]
    ]
    assert os.stat(place).st_mode & 0o777 == 0o700


def test_flags_that_a_helper_did_not_set_are_set(base, runs):
    place = str(base / 'a1')
    mount.make_mount_point(place)
    runs.options = frozenset({'ro', 'relatime'})
    mount.mount('quobyte', 'registry:7861/volume', place)
    assert runs.argv == [
        ['mount.quobyte', '--disable-xattrs', 'registry:7861/volume', place],
        ['mount', '-o', 'remount,bind,nodev,nosuid,ro', '--', place],
    ]


@pytest.mark.parametrize(
    ('fstype', 'source', 'credentials', 'option', 'content'),
    [
        (
            'cifs',
            '//host/share',
            {'username': 'u', 'password': 's3cret', 'domain': 'D'},
            'credentials',
            'domain=D\npassword=s3cret\nusername=u\n',
        ),
        ('ceph', '192.0.2.1:6789,[fd00::1]:6789:/', {'secret': 's3cret'}, 'secretfile', 's3cret'),
    ],
)
def test_credentials_are_read_from_memory(
    base, runs, fstype, source, credentials, option, content
):
    place = str(base / 'a1')
    mount.make_mount_point(place)
    mount.mount(fstype, source, place, [], credentials)
    assert runs.kept == [content]
    assert 's3cret' not in str(runs.argv)
    assert re.search(rf'{option}=/proc/self/fd/\d+,', runs.argv[0][4])


def test_what_a_tool_says_has_no_credential_in_it(base, runs):
    place = str(base / 'a1')
    mount.make_mount_point(place)
    runs.code, runs.output = 32, 'mount error for s3cret: refused'
    with pytest.raises(exception.MountFailed, match=r'mount error for \*\*\*: refused'):
        mount.mount('cifs', '//h/s', place, [], {'username': 'u', 'password': 's3cret'})


@pytest.mark.parametrize(
    ('fstype', 'source'),
    [
        ('ext4', '/dev/vda1'),
        ('bind', '/etc'),
        ('overlay', 'x'),
        ('nfs,ext4', 'h:/x'),
        ('', 'h:/x'),
        ('nfs', '-o'),
        ('nfs', 'h'),
        ('nfs', 'h:relative'),
        ('nfs', 'h:/a\nb'),
        ('nfs', 'h:/a\0'),
        ('nfs', '--bind:/x'),
        ('cifs', '/etc'),
        ('cifs', '//-h/s'),
        ('cifs', r'\\h\s'),
        ('glusterfs', 'h:v -o x'),
        ('glusterfs', '/etc/volfile'),
        ('glusterfs', 'h:-v'),
        ('quobyte', '--help'),
        ('quobyte', 'host'),
        ('sofs', '/etc/passwd'),
        ('ceph', 'x'),
        ('nfs', None),
        ('vzstorage', 'cluster'),
    ],
)
def test_other_types_and_sources_are_refused(base, runs, fstype, source):
    place = str(base / 'a1')
    mount.make_mount_point(place)
    with pytest.raises(exception.PrivilegedCallRefused):
        mount.mount(fstype, source, place)
    assert runs.argv == []


@pytest.mark.parametrize(
    ('fstype', 'source'),
    [
        ('nfs', '[fd00::1]:/exports/a b'),
        ('nfs4', 'nas.example.org:/'),
        ('cifs', '//nas/share/sub'),
        ('glusterfs', 'a,b.example:vol'),
        ('glusterfs', '[fd00::1]:/vol/dir'),
        ('quobyte', 'quobyte://a:7861,b:7861/volume'),
        ('ceph', 'a:6789,b:6789:/volumes'),
        ('ceph', 'user@5d1c.fs=/volumes'),
        ('sofs', '/etc/sfused.conf'),
    ],
)
def test_sources_of_every_type_are_known(fstype, source):
    share_arguments.check_source(fstype, source)


@pytest.mark.parametrize(
    'option',
    [
        'suid',
        'SUID',
        'dev',
        'rw,suid',
        'defaults',
        'remount',
        'bind',
        'rbind',
        'move',
        'loop',
        'x-mount.mkdir',
        'X-mount.mkdir',
        'helper=x',
        'user',
        'users',
        '-o',
        '--bind',
        'a b',
        'a\n',
        'a\0b',
        '',
        'log-file=/etc/passwd',
        'log-file=x',
        'logfile=x',
        'credentials=/etc/shadow',
        'password=x',
        'pass=x',
        'secret=x',
        'secretfile=/x',
        'xlator-option=a.b=c',
        'anything=/etc/x',
        'anything=../x',
        'dump-fuse=x',
        'context=system_u',
        7,
    ],
)
@pytest.mark.parametrize('fstype', ['nfs', 'glusterfs', 'cifs'])
def test_options_that_do_more_than_mount_are_refused(fstype, option):
    if (fstype, option) == ('cifs', 'user'):
        # Says who mounts there.
        return
    with pytest.raises(exception.PrivilegedCallRefused) as caught:
        share_arguments.check_options(fstype, [option])
    assert '/etc/passwd' not in str(caught.value)


@pytest.mark.parametrize('option', ['passwd=x', 'chap_key=x', 'username=bob%x', 'token=x'])
def test_options_with_a_secret_are_refused(option):
    with pytest.raises(exception.PrivilegedCallRefused, match='secret') as caught:
        share_arguments.check_options('cifs', ['noperm', option])
    assert option not in str(caught.value)


def test_a_source_that_is_refused_shows_no_password():
    with pytest.raises(exception.PrivilegedCallRefused) as caught:
        share_arguments.check_source('cifs', '//bob:hun/t@er2@nas/share')
    assert "'//***@nas/share'" in str(caught.value)


def test_options_that_only_mount_are_taken():
    given = ['vers=3', 'proto=tcp6,soft,timeo=600', 'backup-volfile-servers=a:b', 'sec=krb5p']
    assert share_arguments.check_options('nfs', given) == [
        'vers=3',
        'proto=tcp6',
        'soft',
        'timeo=600',
        'backup-volfile-servers=a:b',
        'sec=krb5p',
        'nosuid',
        'nodev',
    ]


@pytest.mark.parametrize(
    ('fstype', 'credentials'),
    [
        ('nfs', {'password': 'x'}),
        ('cifs', {'secret': 'x'}),
        ('cifs', {'password': 'a\nb=c'}),
        ('cifs', {'password': ''}),
        ('cifs', {'password': 1}),
        ('ceph', {'secret': 'a\0'}),
    ],
)
def test_credentials_of_another_type_or_form_are_refused(fstype, credentials):
    with pytest.raises(exception.PrivilegedCallRefused):
        share_arguments.check_credentials(fstype, credentials)


@pytest.mark.parametrize(
    'path',
    [
        '/etc',
        '/',
        '{base}',
        '{base}/',
        '{base}/a/b',
        '{base}/../etc',
        '{base}/..',
        '{base}/.hidden',
        '{base}/-o',
        '{base}/a b',
        '{base}/a\n',
        '{base}//a',
        'relative',
        '',
        '{base}x/a',
        None,
    ],
)
def test_other_places_are_refused(base, runs, path):
    path = path.format(base=base) if path is not None else None
    for call in (
        lambda: mount.mount('nfs', 'h:/x', path),
        lambda: mount.unmount(path),
        lambda: mount.make_mount_point(path),
        lambda: mount.remove_mount_point(path),
    ):
        with pytest.raises(exception.PrivilegedCallRefused):
            call()
    assert runs.argv == []
    assert not base.exists()


def test_a_link_anywhere_on_the_way_is_refused(base, runs, tmp_path):
    elsewhere = tmp_path / 'elsewhere'
    (elsewhere / 'a1').mkdir(parents=True)
    base.symlink_to(elsewhere)
    for call in (
        lambda: mount.mount('nfs', 'h:/x', str(base / 'a1')),
        lambda: mount.make_mount_point(str(base / 'a2')),
        lambda: mount.remove_mount_point(str(base / 'a1')),
    ):
        with pytest.raises(exception.PrivilegedCallRefused, match='symbolic link'):
            call()
    assert runs.argv == []
    assert os.listdir(elsewhere) == ['a1']


def test_a_link_as_the_mount_point_is_refused(base):
    base.mkdir()
    (base / 'a1').symlink_to('/etc')
    with pytest.raises(exception.PrivilegedCallRefused, match='no directory'):
        mount.make_mount_point(str(base / 'a1'))
    with pytest.raises(exception.PrivilegedCallRefused, match='symbolic link'):
        mount.mount('nfs', 'h:/x', str(base / 'a1'))


def test_a_place_that_is_exchanged_meanwhile_is_left_again(base, runs, monkeypatch, tmp_path):
    place = str(base / 'a1')
    mount.make_mount_point(place)
    plain = runs.run

    def exchange(argv, **options):
        if argv[0] == 'mount':
            base.rename(tmp_path / 'moved')
            base.mkdir()
        return plain(argv, **options)

    monkeypatch.setattr(commands, 'run', exchange)
    with pytest.raises(exception.PrivilegedCallRefused, match='was exchanged'):
        mount.mount('nfs', 'h:/x', place)
    assert runs.argv[-1] == ['umount', '-l', '--', place]


def test_a_mount_that_landed_elsewhere_is_taken_back(base, runs, monkeypatch):
    place = base / 'a1'
    mount.make_mount_point(str(place))

    def exchange(argv, **options):
        runs.argv.append(list(argv))
        if argv[0] == 'mount':
            place.rmdir()
            place.symlink_to('/etc')
        return commands.Result(0, '')

    monkeypatch.setattr(commands, 'run', exchange)
    with pytest.raises(exception.PrivilegedCallRefused, match='was exchanged'):
        mount.mount('nfs', 'h:/x', str(place))
    assert runs.argv[-1] == ['umount', '-l', '--', str(place)]


def test_nothing_is_mounted_over_a_mount(base, runs):
    place = str(base / 'a1')
    mount.make_mount_point(place)
    mount.mount('nfs', 'h:/x', place)
    with pytest.raises(exception.MountFailed, match='mounted there already'):
        mount.mount('nfs', 'h:/x', place)
    assert len(runs.argv) == 1


def test_a_missing_mount_point_is_said_so(base, runs):
    with pytest.raises(exception.MountFailed, match='no such directory'):
        mount.mount('nfs', 'h:/x', str(base / 'a1'))


def test_unmount_may_be_called_again(base, runs):
    place = str(base / 'a1')
    mount.make_mount_point(place)
    mount.mount('nfs', 'h:/x', place)
    mount.unmount(place)
    mount.unmount(place)
    assert runs.argv[1:] == [['umount', '-c', '--', place]]
    mount.remove_mount_point(place)
    mount.remove_mount_point(place)
    assert list(base.iterdir()) == []


def test_lazy_unmount_asks_no_server(base, runs):
    place = str(base / 'a1')
    mount.make_mount_point(place)
    mount.mount('nfs', 'h:/x', place)
    mount.unmount(place, lazy=True)
    assert runs.argv[1:] == [['umount', '-c', '-i', '-l', '--', place]]


@pytest.mark.parametrize(
    ('output', 'expected'),
    [
        ('umount: target is busy.', exception.Busy),
        ('umount: not permitted.', exception.MountFailed),
    ],
)
def test_what_unmount_raises(base, runs, output, expected):
    place = str(base / 'a1')
    mount.make_mount_point(place)
    mount.mount('nfs', 'h:/x', place)
    runs.code, runs.output = 32, output
    with pytest.raises(expected, match=output):
        mount.unmount(place)


def test_a_file_system_of_another_type_is_not_unmounted(base, runs):
    place = str(base / 'a1')
    mount.make_mount_point(place)
    runs.fstype = 'ext4'
    mount.mount('nfs', 'h:/x', place)
    with pytest.raises(exception.PrivilegedCallRefused, match='ext4'):
        mount.unmount(place)
    assert len(runs.argv) == 1


def test_a_directory_with_something_in_it_stays(base):
    place = base / 'a1'
    mount.make_mount_point(str(place))
    (place / 'file').write_text('')
    with pytest.raises(exception.MountFailed, match='not empty'):
        mount.remove_mount_point(str(place))
    assert (place / 'file').exists()


def test_mountinfo_is_read_with_its_escapes(tmp_path, monkeypatch):
    table = tmp_path / 'mountinfo'
    table.write_text(
        '1 0 0:1 / / rw - ext4 /dev/vda rw\n'
        r'2 1 0:2 / /mnt/a\040b rw,nosuid shared:1 - nfs4 h:/x\040y rw,vers=4.2'
        '\n'
        r'3 2 0:3 / /mnt/a\040b ro - fuse.glusterfs h:v rw'
        '\n'
    )
    plain = open
    monkeypatch.setattr(
        'builtins.open',
        lambda name, *args, **kwargs: plain(
            table if name == '/proc/self/mountinfo' else name, *args, **kwargs
        ),
    )
    found = places.mounted_at('/mnt/a b')
    assert found == places.Mounted('fuse.glusterfs', 'h:v', frozenset({'ro'}))
    assert places.mounted_at('/mnt/a') is None


# The configuration that is believed


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Configuration files of a helper; directories above them count as root's."""
    monkeypatch.setattr(trusted, '_in_process', None)
    monkeypatch.setattr(trusted, '_from_files', None)
    kept = trusted.only_root_writes
    monkeypatch.setattr(
        trusted, 'only_root_writes', lambda path: os.stat(path).st_mode & 0o022 == 0
    )
    own, loose = tmp_path / 'own.conf', tmp_path / 'loose.conf'
    own.write_text('[volumedrivers]\nnfs_mount_point_base = /srv/nfs\n')
    loose.write_text(
        '[volumedrivers]\nnfs_mount_point_base = /etc\nquobyte_mount_point_base = /usr\n'
    )
    loose.chmod(0o666)
    process = cfg.ConfigOpts()
    process(['--config-file', str(own), '--config-file', str(loose)])
    monkeypatch.setattr(cfg, 'CONF', process)
    return kept, loose


def test_only_files_that_root_alone_can_write_are_believed(files, monkeypatch):
    monkeypatch.setenv('OS_VOLUMEDRIVERS__SMBFS_MOUNT_POINT_BASE', '/bin')
    bases = trusted.mount_point_bases()
    assert bases == ('/srv/nfs', '/var/lib/volumedrivers/mnt')
    with pytest.raises(exception.PrivilegedCallRefused, match=re.escape(str(files[1]))):
        places.check('/etc/x')


def test_nova_says_where_nova_mounts(files, tmp_path, monkeypatch):
    """A helper that nova-compute has started reads Nova's files."""
    nova = tmp_path / 'nova.conf'
    nova.write_text(
        '[DEFAULT]\nstate_path = /srv/nova\n'
        '[libvirt]\nsmbfs_mount_point_base = $state_path/smb\nnfs_mount_point_base = /srv/nfs\n'
    )
    process = cfg.ConfigOpts()
    process(['--config-file', str(nova), '--config-file', str(files[1])])
    monkeypatch.setattr(cfg, 'CONF', process)
    assert trusted.mount_point_bases() == (
        '/srv/nfs',
        '/srv/nova/mnt',
        '/srv/nova/smb',
        '/var/lib/volumedrivers/mnt',
    )


def test_who_can_write_a_file_or_a_directory_above(tmp_path, files):
    only_root_writes = files[0]
    # /tmp is above tmp_path as a rule, and anybody may write there.
    assert only_root_writes('/etc/passwd') is (os.stat('/etc').st_mode & 0o022 == 0)
    path = tmp_path / 'x.conf'
    path.write_text('')
    path.chmod(0o666)
    assert not only_root_writes(str(path))
    assert not only_root_writes(str(tmp_path / 'missing'))
    assert not only_root_writes('/tmp/.')


# Programs


def test_a_program_gets_nothing_of_the_environment(monkeypatch):
    monkeypatch.setenv('PASSWD', 's3cret')
    result = commands.run(['env'], what='env', timeout=10)
    assert result.code == 0
    assert 'PASSWD' not in result.output
    assert 'LC_ALL=C' in result.output


def test_a_program_has_a_deadline_and_its_children_too(tmp_path):
    marker = tmp_path / 'pid'
    script = f'sleep 1000 & echo $! > {marker}; wait'
    with pytest.raises(exception.DeadlineExceeded, match='waiting for the script'):
        commands.run(['sh', '-c', script], what='the script', timeout=0.5)
    stat = pathlib.Path(f'/proc/{marker.read_text().strip()}/stat')

    def has_ended():
        try:
            # A zombie is waiting for whoever inherited it.
            return stat.read_text().split()[2] in ('Z', 'X')
        except (FileNotFoundError, ProcessLookupError):
            return True

    # Who is killed still has to get its turn on a processor to die.
    server.wait_until(has_ended, what='the child to die', timeout=10)


def test_a_program_that_leaves_a_child_behind_is_not_waited_for():
    result = commands.run(['sh', '-c', 'sleep 5 & echo done'], what='x', timeout=4)
    assert result == commands.Result(0, 'done')


def test_a_missing_program_is_said_so():
    with pytest.raises(exception.ToolMissing, match=r'mount\.nowhere'):
        commands.run(['mount.nowhere'], what='x', timeout=1)


# Devices


@pytest.fixture
def sysfs(tmp_path, monkeypatch):
    monkeypatch.setattr(nvme, 'SYSFS', str(tmp_path / 'nvme'))
    monkeypatch.setattr(scsi, 'SYSFS', str(tmp_path / 'block'))
    monkeypatch.setattr(rbd, 'SYSFS', str(tmp_path / 'remove_single_major'))
    attributes = {
        'nvme': tmp_path / 'nvme/nvme3/delete_controller',
        'scsi': tmp_path / 'block/sdc/device/delete',
        'rbd': tmp_path / 'remove_single_major',
    }
    for path in attributes.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('')
    return attributes


def test_devices_are_deleted_through_sysfs(sysfs):
    nvme.delete_controller('nvme3')
    scsi.delete_device('sdc')
    rbd.unmap(7)
    assert [path.read_text() for path in sysfs.values()] == ['1', '1', '7']
    rbd.unmap(7, force=True)
    assert sysfs['rbd'].read_text() == '7 force'


def test_devices_that_are_gone_are_fine(sysfs, monkeypatch):
    nvme.delete_controller('nvme4')
    scsi.delete_device('sdd')
    monkeypatch.setattr(rbd, 'SYSFS', str(sysfs['rbd'].parent / 'none' / 'x'))
    rbd.unmap(1)
    assert [path.read_text() for path in sysfs.values()] == ['', '', '']


@pytest.mark.parametrize(
    ('function', 'value'),
    [
        *(
            (nvme.delete_controller, value)
            for value in (
                '',
                'nvme',
                'nvme0n1',
                '../nvme0',
                'nvme0/../nvme1',
                'nvme0\n',
                'nvme٣',
                None,
                3,
            )
        ),
        *(
            (scsi.delete_device, value)
            for value in ('', 'sd', 'sda1', 'vda', '../sda', 'sda\n', 'SDA', None, 'nvme0n1')
        ),
        *((rbd.unmap, value) for value in (-1, '0', None, True, 1 << 21, 0.5)),
        *(
            (multipath.flush_map, value)
            for value in ('', '-F', 'a b', 'a\n', '../x', 'a;b', None, '.x', 'x' * 200)
        ),
        *(
            (device_link.remove_link, value)
            for value in (
                '',
                'wwn-0x1',
                'os-brick',
                'os-brick+../x',
                'os-brick+' + 'x' * 250,
                None,
            )
        ),
    ],
)
def test_names_of_other_things_are_refused(sysfs, runs, function, value):
    with pytest.raises(exception.PrivilegedCallRefused):
        function(value)
    assert [path.read_text() for path in sysfs.values()] == ['', '', '']
    assert runs.argv == []


def test_links_of_os_brick_are_removed_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(device_link, 'FOLDER', str(tmp_path))
    link, file = tmp_path / 'os-brick+dev+sdb', tmp_path / 'os-brick+dev+sdc'
    link.symlink_to('/dev/nothing')
    file.write_text('')

    device_link.remove_link(link.name)
    device_link.remove_link(link.name)
    with pytest.raises(exception.PrivilegedCallRefused, match='is no link'):
        device_link.remove_link(file.name)

    assert not os.path.lexists(link)
    assert file.exists()
    monkeypatch.setattr(device_link, 'FOLDER', str(file))
    with pytest.raises(exception.LeftoversFound, match='Not a directory'):
        device_link.remove_link(link.name)


UUID = '6B9C9A6D-9D0B-4C26-B8E2-000000000001'
NQN = 'nqn.2016-01.com.lightbitslabs:uuid:sub'


@pytest.fixture
def discovery(tmp_path, monkeypatch):
    """The file that tells LightOS's client of a volume."""
    conf = cfg.ConfigOpts()
    conf.register_opt(cfg.StrOpt('lightos_discovery_client_dir_path'), group='os_brick')
    conf.set_override('lightos_discovery_client_dir_path', str(tmp_path), group='os_brick')
    monkeypatch.setattr(trusted, '_in_process', conf)
    return tmp_path / f'{UUID}.conf'


@pytest.mark.parametrize('text', ['', '# of the volume\n', f'-a 10.0.0.1 -n {NQN}2\n'])
def test_what_tells_nothing_of_the_volume_is_removed(discovery, text):
    discovery.write_text(text)
    discovery_file.remove_unless_named(UUID, NQN)
    assert not discovery.exists()
    discovery_file.remove_unless_named(UUID, NQN)


def test_what_tells_of_the_volume_stays(discovery):
    discovery.write_text(f'-t tcp -a 10.0.0.1 -s 8009 -q nqn.host -n {NQN}\n')
    discovery_file.remove_unless_named(UUID, NQN)
    assert discovery.exists()


def test_discovery_file_that_cannot_be_read(discovery):
    discovery.mkdir()
    with pytest.raises(exception.ConnectFailed, match=r'\.conf: Is a directory'):
        discovery_file.remove_unless_named(UUID, NQN)


@pytest.mark.parametrize('uuid', ['', 'x', '../' * 12, f'{UUID}/../../shadow', None, f'{UUID}\0'])
def test_discovery_file_of_nothing(discovery, uuid):
    with pytest.raises(exception.PrivilegedCallRefused, match='is no UUID'):
        discovery_file.remove_unless_named(uuid, NQN)


def test_where_the_discovery_files_are(monkeypatch):
    monkeypatch.setattr(trusted, '_in_process', None)
    monkeypatch.setattr(trusted, '_from_files', None)
    assert trusted.discovery_folder() == '/etc/discovery-client/discovery.d/'


def test_folder_of_the_links_is_made(tmp_path, monkeypatch):
    folder = tmp_path / 'disk/by-id'
    monkeypatch.setattr(device_link, 'FOLDER', str(folder))
    device_link.make_folder()
    device_link.make_folder()
    assert folder.is_dir()
    (folder / 'file').write_text('')
    monkeypatch.setattr(device_link, 'FOLDER', str(folder / 'file/by-id'))
    with pytest.raises(exception.PrivilegedCallRefused, match='Not a directory'):
        device_link.make_folder()


class Disk:
    """Answers SG_IO as a SCSI disk does."""

    def __init__(self, page, *, status=0):
        self.page = page
        self.status = status
        self.asked = None

    def ioctl(self, device, number, request):
        assert number == 0x2285
        self.asked = ctypes.string_at(request.cmdp, request.cmd_len)
        ctypes.memmove(request.dxferp, self.page, len(self.page))
        request.status = self.status


PAGE = bytes((0, 0x83, 0, 4, 1, 3, 0, 0))


@pytest.mark.parametrize(
    ('disk', 'page'),
    [
        (Disk(PAGE + b'rest'), PAGE),
        (Disk(PAGE, status=2), None),
        (Disk(b'\0\0\0\1\5'), None),
        (Disk(b'\x7f' + PAGE[1:]), None),
    ],
)
def test_a_disk_is_asked_what_it_is_now(tmp_path, monkeypatch, disk, page):
    (tmp_path / 'sdc').touch()
    monkeypatch.setattr(scsi, 'DEV', str(tmp_path))
    monkeypatch.setattr(scsi.fcntl, 'ioctl', disk.ioctl)

    assert scsi.read_page_83('sdc') == page
    assert disk.asked == bytes((0x12, 1, 0x83, 4, 0, 0))


def test_what_is_no_disk_does_not_say_what_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(scsi, 'DEV', str(tmp_path))
    (tmp_path / 'sdc').touch()
    assert scsi.read_page_83('sdc') is None
    assert scsi.read_page_83('sdd') is None
    (tmp_path / 'sde').symlink_to('sde')
    with pytest.raises(exception.HostUnreadable, match='sde'):
        scsi.read_page_83('sde')
    with pytest.raises(exception.PrivilegedCallRefused):
        scsi.read_page_83('../sdc')


def test_a_map_of_one_path_is_made_by_multipathd(runs):
    multipath.make_map('36001405abcdef', 'sdb')
    assert runs.argv == [
        ['multipath', '-a', '36001405abcdef'],
        ['multipathd', 'add', 'path', 'sdb'],
    ]
    runs.output = 'fail'
    with pytest.raises(exception.ConnectFailed, match='fail'):
        multipath.make_map('36001405abcdef', 'sdb')


@pytest.mark.parametrize(
    ('wwid', 'disk'), [('-F', 'sdb'), ('3600', 'sdb1'), ('3600', '../sdb'), (None, 'sdb')]
)
def test_a_map_is_made_of_nothing_else(runs, wwid, disk):
    with pytest.raises(exception.PrivilegedCallRefused):
        multipath.make_map(wwid, disk)
    assert runs.argv == []


def test_a_map_is_flushed_by_multipath(runs):
    multipath.flush_map('36001405abcdef')
    assert runs.argv == [['multipath', '-f', '36001405abcdef']]
    runs.code, runs.output = 1, 'map in use'
    with pytest.raises(exception.FlushFailed, match='map in use'):
        multipath.flush_map('36001405abcdef')


@pytest.mark.parametrize(
    ('function', 'argument'),
    [
        (nvme.delete_controller, 'nvme3'),
        (scsi.delete_device, 'sdc'),
        (rbd.unmap, 7),
    ],
)
def test_what_the_kernel_refuses_is_an_error(sysfs, function, argument):
    for path in sysfs.values():
        path.unlink()
        path.mkdir()
    with pytest.raises(exception.DisconnectFailed, match='Is a directory'):
        function(argument)


def test_an_rbd_device_that_is_open_is_busy(monkeypatch):
    # Writing to it fails with that; no file in a directory does.
    def busy(*args, **kwargs):
        raise OSError(16, 'Device or resource busy')

    monkeypatch.setattr('builtins.open', busy)
    with pytest.raises(exception.Busy, match='/dev/rbd7'):
        rbd.unmap(7)
