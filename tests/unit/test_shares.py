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

"""Mounting, counting and resolving, on real mounts; the tests run as root."""

import errno
import os
import subprocess
import sys
import threading

from oslo_config import cfg
import pytest

from tests.unit import real_mounts
from volumedrivers import exception
from volumedrivers.conf import opts
from volumedrivers.host import mount_table
from volumedrivers.host import shares
from volumedrivers.host.share import Share
from volumedrivers.host.share import mount_point
from volumedrivers.host.share_users import DirectoryUsers

SOURCE = 'server.example:/an export'


@pytest.fixture
def conf(tmp_path):
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], project='volumedrivers', default_config_files=[])
    conf.set_override('state_path', str(tmp_path / 'state'), group='volumedrivers')
    return conf


@pytest.fixture
def mounter(tmp_path):
    yield real_mounts.TmpfsMounter()
    real_mounts.remove_all_below(tmp_path)


@pytest.fixture
def mounts(conf, mounter, monkeypatch):
    monkeypatch.setattr(shares.ShareMounts, 'seconds', 1.0)
    return shares.ShareMounts(conf, mounter=mounter)


@pytest.fixture
def share(tmp_path):
    return Share(
        source=SOURCE,
        mount_point=mount_point(str(tmp_path / 'mnt'), SOURCE),
        fstype='nfs',
        mounted_fstypes=('tmpfs', 'fuse'),
    )


@pytest.fixture
def hasty(mounts, monkeypatch):
    """For what never comes."""
    monkeypatch.setattr(shares.ShareMounts, 'seconds', 0.2)


@pytest.fixture
def silent(share):
    fuse = real_mounts.SilentFuse(share.source, share.mount_point)
    yield fuse
    fuse.remove()


def mounted(share):
    return mount_table.find(share.mount_point) is not None


def nothing_left(tmp_path, share):
    state = tmp_path / 'state' / 'share-users'
    counted = [name for _, _, names in os.walk(state) for name in names]
    return not mounted(share) and not os.path.exists(share.mount_point) and not counted


class TestUsers:
    def test_mounts_for_the_first_and_unmounts_after_the_last(
        self, mounts, mounter, share, tmp_path
    ):
        assert mounts.acquire(share, 'a') is True
        assert mounts.acquire(share, 'b') is True
        assert mounter.count('mount') == 1
        assert mounts.release(share, 'a') is True
        assert mounted(share)
        assert mounts.release(share, 'b') is False
        assert nothing_left(tmp_path, share)

    def test_counts_an_attachment_once(self, mounts, share, tmp_path):
        assert mounts.acquire(share, 'a') is True
        assert mounts.acquire(share, 'a') is False
        assert mounts.release(share, 'a') is False
        assert nothing_left(tmp_path, share)

    def test_releases_as_often_as_it_is_asked(self, mounts, share, tmp_path):
        assert mounts.release(share, 'never acquired') is False
        mounts.acquire(share, 'a')
        assert mounts.release(share, 'a') is False
        assert mounts.release(share, 'a') is False
        assert nothing_left(tmp_path, share)

    def test_a_stranger_cannot_release_for_another(self, mounts, share):
        mounts.acquire(share, 'a')
        assert mounts.release(share, 'b') is True
        assert mounted(share)

    def test_shares_are_counted_apart(self, mounts, share, tmp_path):
        other = Share('other:/x', str(tmp_path / 'mnt' / 'other'), 'nfs', ('tmpfs',))
        mounts.acquire(share, 'a')
        mounts.acquire(other, 'a')
        assert mounts.release(share, 'a') is False
        assert mounted(other)
        assert mounts.release(other, 'a') is False

    def test_another_process_counts_too(self, mounts, share, conf, tmp_path):
        mounts.acquire(share, 'here')
        script = (
            'import sys\n'
            'from volumedrivers.host.share_users import DirectoryUsers\n'
            'DirectoryUsers(sys.argv[1]).add(sys.argv[2], "there: 1/2")\n'
        )
        path = os.path.join(conf.volumedrivers.state_path, 'share-users')
        subprocess.run([sys.executable, '-c', script, path, share.mount_point], check=True)
        assert mounts.release(share, 'here') is True
        assert mounted(share)
        assert mounts.release(share, 'there: 1/2') is False
        assert nothing_left(tmp_path, share)

    def test_threads_mount_once(self, mounts, mounter, share, tmp_path):
        names = [f'guest {number}' for number in range(8)]
        together(lambda name: mounts.acquire(share, name), names)
        assert mounter.count('mount') == 1
        assert mounts.users.users(share.mount_point) == set(names)
        together(lambda name: mounts.release(share, name), names)
        assert mounter.count('unmount') == 1
        assert nothing_left(tmp_path, share)

    def test_counts_of_an_earlier_boot_are_void(self, tmp_path, monkeypatch):
        users = DirectoryUsers(str(tmp_path / 'users'))
        users.add('/mnt/x', 'a')
        users.claim('/mnt/x', '17')
        monkeypatch.setattr('volumedrivers.host.boot.current', lambda: 'another')
        assert users.users('/mnt/x') == frozenset()
        assert users.claimed('/mnt/x') is None
        users.add('/mnt/x', 'b')
        assert os.listdir(tmp_path / 'users') == ['another']

    def test_any_attachment_makes_a_file_name(self, tmp_path):
        users = DirectoryUsers(str(tmp_path / 'users'))
        for name in ('..', '/', 'a/../b', 'ü\n', 'x' * 4000):
            users.add('/mnt/x', name)
        assert len(users.users('/mnt/x')) == 5
        assert {'..', '/', 'a/../b', 'ü\n'} < users.users('/mnt/x')
        for name in ('..', '/', 'a/../b', 'ü\n', 'x' * 4000):
            users.remove('/mnt/x', name)
        assert not any(names for _, _, names in os.walk(tmp_path / 'users'))

    def test_a_state_directory_that_is_none(self, mounts, mounter, share, tmp_path):
        (tmp_path / 'state').mkdir()
        (tmp_path / 'state' / 'share-users').write_text('a file')
        with pytest.raises(exception.InvalidOption, match='state_path'):
            mounts.acquire(share, 'a')
        assert mounter.calls == []


def together(function, arguments):
    errors = []

    def work(argument):
        try:
            function(argument)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(argument,)) for argument in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


class TestTakingOver:
    """Mounts that Nova has made before its volume drivers were these."""

    @pytest.fixture
    def mounts(self, conf, mounter, monkeypatch):
        monkeypatch.setattr(shares.ShareMounts, 'seconds', 1.0)
        return shares.ShareMounts(conf, mounter=mounter, takes_over=True)

    @pytest.fixture
    def theirs(self, share):
        os.makedirs(share.mount_point)
        real_mounts.mount_tmpfs(share.source, share.mount_point)

    def test_of_a_volume_that_comes_after(self, mounts, mounter, share, theirs, tmp_path):
        mounts.acquire(share, 'a')
        mounts.acquire(share, 'b')
        assert mounter.count('mount') == 0
        mounts.release(share, 'a')
        assert mounted(share)
        mounts.release(share, 'b')
        assert nothing_left(tmp_path, share)

    def test_of_a_volume_that_was_there(self, mounts, share, theirs, tmp_path):
        assert mounts.release(share, 'never acquired') is False
        assert nothing_left(tmp_path, share)

    def test_while_a_guest_has_something_on_it(self, conf, mounter, share, theirs):
        guests = {'web2'}
        mounts = shares.ShareMounts(
            conf, mounter=mounter, takes_over=True, elsewhere=lambda place, user: frozenset(guests)
        )
        assert mounts.release(share, 'a') is True
        assert mounted(share)
        guests.clear()
        assert mounts.release(share, 'b') is False
        assert not mounted(share)

    def test_of_another_source_is_theirs(self, mounts, mounter, share):
        os.makedirs(share.mount_point)
        real_mounts.mount_tmpfs('other.example:/x', share.mount_point)
        assert mounts.release(share, 'a') is False
        assert mounted(share)
        assert mounter.count('unmount') == 0

    def test_unless_it_is_wanted(self, conf, mounter, share, theirs):
        mounts = shares.ShareMounts(conf, mounter=mounter)
        mounts.acquire(share, 'a')
        mounts.release(share, 'a')
        assert mounted(share)


class TestWhatIsMounted:
    def test_another_source_is_refused_and_left_alone(self, mounts, share):
        os.makedirs(share.mount_point)
        real_mounts.mount_tmpfs('other.example:/x', share.mount_point)
        with pytest.raises(exception.WrongMount, match=r'other\.example:/x'):
            mounts.acquire(share, 'a')
        assert mounted(share)
        assert mounts.users.users(share.mount_point) == frozenset()
        assert mounts.release(share, 'a') is False
        assert mounted(share)

    def test_another_type_is_refused(self, mounts, share):
        os.makedirs(share.mount_point)
        real_mounts.mount_tmpfs(share.source, share.mount_point)
        nfs = Share(share.source, share.mount_point, 'nfs', ('nfs', 'nfs4'))
        with pytest.raises(exception.WrongMount, match='tmpfs'):
            mounts.acquire(nfs, 'a')

    def test_the_right_one_of_somebody_else_is_used_and_not_unmounted(
        self, mounts, mounter, share
    ):
        os.makedirs(share.mount_point)
        real_mounts.mount_tmpfs(share.source, share.mount_point)
        mounts.acquire(share, 'a')
        assert mounter.calls == []
        assert mounts.release(share, 'a') is False
        assert mounted(share)

    def test_one_that_was_exchanged_is_not_unmounted(self, mounts, share):
        mounts.acquire(share, 'a')
        subprocess.run(['umount', share.mount_point], check=True)
        real_mounts.mount_tmpfs('another one:/', share.mount_point)
        assert mounts.release(share, 'a') is False
        assert mounted(share)

    def test_one_that_vanished_is_mounted_again(self, mounts, mounter, share, tmp_path):
        mounts.acquire(share, 'a')
        subprocess.run(['umount', share.mount_point], check=True)
        mounts.acquire(share, 'b')
        assert mounter.count('mount') == 2
        mounts.release(share, 'a')
        assert mounts.release(share, 'b') is False
        assert nothing_left(tmp_path, share)

    def test_an_interrupted_mount_is_ours(self, mounts, share, tmp_path):
        # As a process leaves it that is killed right after the mount.
        os.makedirs(share.mount_point)
        mounts.users.add(share.mount_point, 'a')
        mounts.users.claim(share.mount_point, shares.BEGUN)
        real_mounts.mount_tmpfs(share.source, share.mount_point)
        assert mounts.acquire(share, 'a') is False
        assert mounts.release(share, 'a') is False
        assert nothing_left(tmp_path, share)

    def test_a_mount_that_was_never_made_is_nothing_to_undo(self, mounts, share, tmp_path):
        mounts.users.add(share.mount_point, 'a')
        mounts.users.claim(share.mount_point, shares.BEGUN)
        assert mounts.release(share, 'a') is False
        assert nothing_left(tmp_path, share)

    @pytest.mark.parametrize(
        ('fstype', 'root', 'source', 'right'),
        [
            ('nfs4', '/', 'server:/a', True),
            ('nfs4', '/', 'server:/a/', True),
            ('nfs', '/', 'server://a', True),
            ('cifs', '/', 'server:/a', False),
            ('nfs4', '/', 'server:/ab', False),
            ('fuse.x', '/', 'server:/a', True),
            ('fuse.x', '/sub', 'server:/a', False),
        ],
    )
    def test_matches(self, fstype, root, source, right):
        share = Share('server:/a', '/m', 'nfs', ('nfs', 'nfs4', 'fuse.x'))
        assert share.matches(mount_table.Mount(1, root, '/m', fstype, source)) is right

    def test_matches_smb_however_it_is_written(self):
        share = Share('//server/share', '/m', 'cifs', ('cifs',))
        assert share.matches(mount_table.Mount(1, '/', '/m', 'cifs', '\\\\server\\share'))
        assert not share.matches(mount_table.Mount(1, '/', '/m', 'cifs', '/server/share'))

    def test_matches_patterns(self):
        share = Share('h/v', '/m', 'quobyte', ('fuse',), mounted_sources=('quobyte@*',))
        assert share.matches(mount_table.Mount(1, '/', '/m', 'fuse', 'quobyte@any'))
        assert not share.matches(mount_table.Mount(1, '/', '/m', 'fuse', 'h/v'))


class TestFailures:
    def test_a_mount_that_fails_leaves_nothing(self, mounts, mounter, share, tmp_path):
        mounter.fail_with = exception.MountFailed(
            source=SOURCE, mount_point=share.mount_point, reason='no route to host'
        )
        with pytest.raises(exception.MountFailed, match='no route to host'):
            mounts.acquire(share, 'a')
        assert nothing_left(tmp_path, share)

    def test_a_failure_keeps_who_was_counted_before(self, mounts, mounter, share):
        mounts.acquire(share, 'a')
        subprocess.run(['umount', share.mount_point], check=True)
        mounter.fail_with = exception.Busy(what='it', reason='x')
        with pytest.raises(exception.Busy):
            mounts.acquire(share, 'a')
        assert mounts.users.users(share.mount_point) == {'a'}

    def test_a_helper_that_fails_after_it_has_mounted(self, mounts, mounter, share, tmp_path):
        mounter.fail_with = exception.MountFailed(
            source=SOURCE, mount_point=share.mount_point, reason='busy or already mounted'
        )
        mounter.mount_before_failing = True
        assert mounts.acquire(share, 'a') is True
        assert mounts.release(share, 'a') is False
        assert nothing_left(tmp_path, share)

    def test_a_helper_that_mounts_nothing(self, mounts, mounter, share, tmp_path):
        mounter.mounts_nothing = True
        with pytest.raises(exception.MountFailed, match='nothing is mounted'):
            mounts.acquire(share, 'a')
        assert nothing_left(tmp_path, share)

    def test_a_helper_that_mounts_something_else(self, mounts, mounter, share, tmp_path):
        mounter.mount_as = 'something else'
        with pytest.raises(exception.WrongMount, match='something else'):
            mounts.acquire(share, 'a')
        assert nothing_left(tmp_path, share)

    @pytest.mark.parametrize('name', ['make_mount_point', 'mount'])
    def test_a_helper_that_cannot_be_started(
        self, mounts, mounter, share, tmp_path, name, monkeypatch
    ):
        def fail(*args, **options):
            raise OSError(errno.EMFILE, 'too many open files')

        with monkeypatch.context() as patch:
            patch.setattr(mounter, name, fail)
            with pytest.raises(exception.MountFailed, match='too many'):
                mounts.acquire(share, 'a')
        assert nothing_left(tmp_path, share)

    def test_a_mount_that_cannot_be_noted_is_taken_back(
        self, mounts, share, tmp_path, monkeypatch
    ):
        claim = mounts.users.claim

        def full(place, mark, share=None):
            if mark != shares.BEGUN:
                raise exception.InvalidOption(option='state_path', found='full', expected='room')
            claim(place, mark, share)

        monkeypatch.setattr(mounts.users, 'claim', full)
        with pytest.raises(exception.InvalidOption):
            mounts.acquire(share, 'a')
        assert nothing_left(tmp_path, share)

    def test_a_mount_table_that_cannot_be_read_is_no_answer(self, mounts, share, monkeypatch):
        def fail(place):
            raise OSError(errno.EIO, 'input/output error')

        mounts.acquire(share, 'a')
        with monkeypatch.context() as patch:
            patch.setattr(shares.mount_table, 'find', fail)
            for call in (mounts.acquire, mounts.release):
                with pytest.raises(exception.MountFailed, match='mount table'):
                    call(share, 'a')
        assert mounted(share)
        assert mounts.users.users(share.mount_point) == {'a'}
        assert mounts.release(share, 'a') is False

    def test_a_busy_mount_stays_counted_until_it_can_go(self, mounts, share, tmp_path):
        mounts.acquire(share, 'a')
        with open(os.path.join(share.mount_point, 'file'), 'w'):
            with pytest.raises(exception.Busy):
                mounts.release(share, 'a')
            assert mounted(share)
            assert mounts.users.users(share.mount_point) == {'a'}
        assert mounts.release(share, 'a') is False
        assert nothing_left(tmp_path, share)

    def test_force_detaches_a_busy_mount(self, mounts, share, tmp_path):
        mounts.acquire(share, 'a')
        with open(os.path.join(share.mount_point, 'file'), 'w'):
            assert mounts.release(share, 'a', force=True) is False
            assert nothing_left(tmp_path, share)

    def test_a_mount_point_with_something_in_it_stays(self, mounts, share):
        os.makedirs(share.mount_point)
        with open(os.path.join(share.mount_point, 'below'), 'w'):
            pass
        mounts.acquire(share, 'a')
        assert mounts.release(share, 'a') is False
        assert not mounted(share)
        assert os.listdir(share.mount_point) == ['below']
        assert mounts.users.claimed(share.mount_point) is None

    def test_a_mount_by_somebody_else_hand(self, mounts, mounter, share, tmp_path):
        def by_os_brick():
            if not mounted(share):
                real_mounts.mount_tmpfs(share.source, share.mount_point)

        assert mounts.acquire(share, 'a', mount=by_os_brick) is True
        assert mounts.acquire(share, 'b', mount=by_os_brick) is True
        assert mounter.count('mount') == 0
        assert mounts.release(share, 'a') is True
        assert mounts.release(share, 'b') is False
        assert nothing_left(tmp_path, share)

    def test_the_lock_has_a_deadline(self, mounts, share, conf):
        script = (
            'import sys, time, fasteners\n'
            'lock = fasteners.InterProcessLock(sys.argv[1])\n'
            'lock.acquire()\n'
            'print("held", flush=True)\n'
            'time.sleep(60)\n'
        )
        name = 'volumedrivers-mount-' + share.mount_point.strip('/').replace('/', '_')
        path = os.path.join(conf.volumedrivers.state_path, 'lock', name)
        holder = subprocess.Popen([sys.executable, '-c', script, path], stdout=subprocess.PIPE)
        try:
            assert holder.stdout.readline() == b'held\n'
            with pytest.raises(exception.DeadlineExceeded, match='somebody else'):
                mounts.acquire(share, 'a')
        finally:
            holder.kill()
            holder.wait()
            holder.stdout.close()
        assert mounts.acquire(share, 'a') is True


class TestServersThatDoNotAnswer:
    def test_acquire_gives_up(self, mounts, share, silent, hasty):
        with pytest.raises(exception.DeadlineExceeded, match=r'server\.example'):
            mounts.acquire(share, 'a')
        assert mounts.users.users(share.mount_point) == frozenset()

    def test_resolve_gives_up(self, mounts, share, silent, hasty):
        with pytest.raises(exception.DeadlineExceeded):
            mounts.resolve(share, 'volume')

    def test_ask_gives_up(self, mounts, share, silent, hasty):
        with pytest.raises(exception.DeadlineExceeded):
            mounts.ask(share)

    def test_inspect_gives_up(self, mounts, share, silent, hasty):
        path = os.path.join(share.mount_point, 'volume')
        with pytest.raises(exception.DeadlineExceeded):
            mounts.inspect(path, 'qcow2', root=share.mount_point)

    def test_source_of_gives_up(self, mounts, share, silent, hasty):
        with pytest.raises(exception.DeadlineExceeded):
            mounts.source_of(os.path.join(share.mount_point, 'volume'), ('gpfs',))

    def test_release_takes_it_away(self, mounts, share, silent, tmp_path):
        mounts.users.add(share.mount_point, 'a')
        mounts.users.claim(share.mount_point, mount_table.find(share.mount_point).mark)
        assert mounts.release(share, 'a') is False
        assert nothing_left(tmp_path, share)

    def test_a_dead_client_of_ours_is_mounted_anew(self, mounts, share, silent, tmp_path):
        mounts.users.add(share.mount_point, 'a')
        mounts.users.claim(share.mount_point, mount_table.find(share.mount_point).mark)
        silent.die()
        assert mounts.acquire(share, 'a') is False
        assert mount_table.find(share.mount_point).fstype == 'tmpfs'
        assert mounts.release(share, 'a') is False
        assert nothing_left(tmp_path, share)

    def test_a_dead_client_of_somebody_else_is_left(self, mounts, share, silent):
        silent.die()
        with pytest.raises(exception.MountFailed, match='dead'):
            mounts.acquire(share, 'a')
        assert mounted(share)

    def test_a_mount_that_comes_about_too_late_is_ours(self, mounts, mounter, share, tmp_path):
        mounter.fail_with = exception.DeadlineExceeded(what='mount', seconds=1)
        with pytest.raises(exception.DeadlineExceeded):
            mounts.acquire(share, 'a')
        real_mounts.mount_tmpfs(share.source, share.mount_point)
        assert mounts.release(share, 'a') is False
        assert nothing_left(tmp_path, share)

    def test_a_client_that_lost_its_volume(self, mounts, mounter, share, tmp_path):
        # Quobyte's shows another size then; a tmpfs never shows this one.
        strict = Share(share.source, share.mount_point, 'quobyte', ('tmpfs',), root_size=123456789)
        with pytest.raises(exception.MountFailed, match='died at once'):
            mounts.acquire(strict, 'a')
        assert nothing_left(tmp_path, share)


class TestNames:
    @pytest.fixture
    def held(self, mounts, share, tmp_path):
        mounts.acquire(share, 'a')
        (tmp_path / 'outside').write_text('not for the guest')
        root = share.mount_point
        os.makedirs(f'{root}/dir')
        for name in ('volume', 'dir/volume', 'a name with äöü'):
            with open(f'{root}/{name}', 'w'):
                pass
        for name, target in (
            ('inside', 'dir/volume'),
            ('inside-absolute', f'{root}/volume'),
            ('outside', str(tmp_path / 'outside')),
            ('outside-relative', '../../outside'),
            ('outside-dir', str(tmp_path)),
            ('twice', 'outside'),
            ('loop', 'loop'),
            ('self', '.'),
        ):
            os.symlink(target, f'{root}/{name}')
        return mounts

    @pytest.mark.parametrize(
        'name',
        ['volume', 'dir/volume', 'a name with äöü', 'inside', 'inside-absolute', './volume'],
    )
    def test_inside(self, held, share, name):
        assert held.resolve(share, name) == f'{share.mount_point}/{name}'

    @pytest.mark.parametrize(
        'name',
        [
            '',
            '.',
            '/etc/passwd',
            '..',
            '../outside',
            'dir/../../outside',
            'dir/../volume',
            'a\0b',
            'outside',
            'outside-relative',
            'outside-dir/outside',
            'twice',
            'loop',
            'self',
        ],
    )
    def test_outside(self, held, share, name):
        with pytest.raises(exception.PathOutsideShare):
            held.resolve(share, name)

    def test_missing(self, held, share):
        with pytest.raises(exception.VolumeDeviceNotFound) as caught:
            held.resolve(share, 'dir/none', volume_id='v1')
        assert caught.value.volume_id == 'v1'

    def test_through_a_link_to_the_mount_point(self, held, share, tmp_path):
        os.symlink(tmp_path / 'mnt', tmp_path / 'link')
        linked = Share(
            share.source,
            str(tmp_path / 'link' / os.path.basename(share.mount_point)),
            'nfs',
            ('tmpfs',),
        )
        assert held.resolve(linked, 'inside') == f'{linked.mount_point}/inside'
        assert mount_table.find(linked.mount_point).source == SOURCE

    def test_locate(self, held, share, tmp_path):
        path = f'{share.mount_point}/volume'
        assert held.locate(share, path) == path
        for other in (str(tmp_path / 'outside'), '/dev/sda', share.mount_point, 'volume'):
            with pytest.raises(exception.PathOutsideShare):
                held.locate(share, other)

    def test_source_of(self, held, share):
        path = f'{share.mount_point}/inside'
        assert held.source_of(path, ('tmpfs',)) == SOURCE
        with pytest.raises(exception.WrongMount, match='tmpfs'):
            held.source_of(path, ('gpfs',))
        with pytest.raises(exception.VolumeDeviceNotFound):
            held.source_of(f'{share.mount_point}/none', ('tmpfs',))


def test_secrets_of_a_share_are_not_shown():
    share = Share('//h/s', '/m', 'cifs', ('cifs',), credentials={'password': 'hunter2'})
    assert 'hunter2' not in repr(share)
