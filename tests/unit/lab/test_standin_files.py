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

"""The stand-ins whose clients mount a file system: a real one, on the host of the tests."""

from collections.abc import Iterator
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from tests.lab.standins import fuse_mount
from tests.lab.standins import mount_quobyte
from tests.lab.standins import mount_sofs
from tests.lab.standins import passthrough
from tests.lab.standins import pstorage
from tests.lab.standins import pstorage_mount
from tests.lab.standins import vz_cluster
from tests.lab.standins.daemon import ROOT
from tests.lab.waiting import wait_until
from volumedrivers.host import mount_table

# In a process without threads, as the vendors' programs are.
_MOUNT = """\
import json, pathlib, sys
from tests.lab.standins import fuse_mount
from tests.lab.standins.passthrough import Look
given = json.loads(sys.argv[1])
fuse_mount.SESSIONS = pathlib.Path(given.pop('sessions'))
look = Look(**given.pop('look'))
fuse_mount.mount(fuse_mount.Mounting(look=look, **given))
"""


@contextlib.contextmanager
def mounted(
    tmp_path: pathlib.Path, look: dict[str, object] | None = None, **more: object
) -> Iterator[tuple[pathlib.Path, pathlib.Path]]:
    """Mount a passthrough; yield the directory that it shows, and where."""
    shown, place = tmp_path / 'shown', tmp_path / 'place'
    shown.mkdir()
    place.mkdir()
    arguments = {
        'client': 'test',
        'source': 'quobyte@lab/volume',
        'fstype': 'fuse.quobyte',
        'directory': str(shown),
        'mount_point': str(place),
        'sessions': str(tmp_path / 'sessions'),
        'look': look or {},
        **more,
    }
    subprocess.run(
        [sys.executable, '-S', '-c', _MOUNT, json.dumps(arguments)],
        check=True,
        cwd='/',
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        timeout=60,
    )
    try:
        yield shown, place
    finally:
        subprocess.run(['umount', '-l', str(place)], check=False)


def sessions(tmp_path: pathlib.Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in (tmp_path / 'sessions/test').glob('*.json')]


def test_files_are_those_of_the_directory(tmp_path: pathlib.Path) -> None:
    with mounted(tmp_path) as (shown, place):
        (shown / 'volume').write_bytes(b'a' * 300_000)
        assert (place / 'volume').read_bytes() == b'a' * 300_000
        (place / 'new').write_bytes(b'b' * 10)
        (place / 'directory').mkdir()
        (place / 'new').rename(place / 'directory/renamed')
        assert (shown / 'directory/renamed').read_bytes() == b'b' * 10
        assert sorted(os.listdir(place)) == ['directory', 'volume']
        assert (place / 'volume').stat().st_ino == (shown / 'volume').stat().st_ino
        os.truncate(place / 'volume', 500_000)
        assert (shown / 'volume').stat().st_size == 500_000
        (place / 'directory/renamed').unlink()
        (place / 'directory').rmdir()
        assert os.listdir(shown) == ['volume']
        with pytest.raises(FileNotFoundError):
            (place / 'nothing').stat()


def test_what_is_written_past_the_cache_is_in_the_directory(tmp_path: pathlib.Path) -> None:
    with mounted(tmp_path) as (shown, place):
        (shown / 'volume').write_bytes(bytes(1 << 20))
        subprocess.run(
            [
                *('dd', 'if=/dev/urandom', f'of={place}/volume', 'bs=64k', 'count=4'),
                *('oflag=direct', 'conv=notrunc,fsync', 'status=none'),
            ],
            check=True,
        )
        assert any((shown / 'volume').read_bytes()[:4096])
        # And what the storage writes is read at once.
        with (shown / 'volume').open('r+b') as file:
            file.write(b'c' * 4096)
        assert (place / 'volume').read_bytes()[:4096] == b'c' * 4096


def test_mount_table_and_root_are_the_vendors(tmp_path: pathlib.Path) -> None:
    with mounted(tmp_path, look={'root_size': 0}) as (_, place):
        found = mount_table.find(str(place))
        assert found is not None
        assert (found.fstype, found.source) == ('fuse.quobyte', 'quobyte@lab/volume')
        assert place.stat().st_size == 0


def test_owner_and_mode_are_those_of_the_mount(tmp_path: pathlib.Path) -> None:
    look = {'owner': (65534, 65534), 'mode': 0o750}
    with mounted(tmp_path, look=look, checked=True) as (shown, place):
        (shown / 'volume').touch(mode=0o666)
        found = (place / 'volume').stat()
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (65534, 65534, 0o750)
        with pytest.raises(PermissionError):
            os.chown(place / 'volume', 0, 0)


def test_books_tell_who_has_it_mounted_and_open(tmp_path: pathlib.Path) -> None:
    with mounted(tmp_path) as (shown, place):
        (shown / 'volume').touch()
        assert [each['open'] for each in sessions(tmp_path)] == [[]]
        with (place / 'volume').open('rb'):
            assert [each['open'] for each in sessions(tmp_path)] == [['volume']]
        wait_until(lambda: sessions(tmp_path)[0]['open'] == [], 'the file to be closed')
    wait_until(lambda: sessions(tmp_path) == [], 'the client to end')


def test_client_that_is_killed_leaves_a_dead_mount(tmp_path: pathlib.Path) -> None:
    with mounted(tmp_path) as (_, place):
        (client,) = (tmp_path / 'sessions/test').glob('*.json')
        os.kill(int(client.stem), signal.SIGKILL)

        def is_dead() -> bool:
            try:
                place.stat()
            except OSError as error:
                return error.errno in (103, 107)  # ECONNABORTED, ENOTCONN
            return False

        wait_until(is_dead, 'the mount to be dead')


# The programs by which they are mounted.


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if something is mounted after all."""

    def mount(mounting: fuse_mount.Mounting) -> None:
        raise AssertionError(mounting)

    monkeypatch.setattr(fuse_mount, 'mount', mount)


@pytest.fixture
def mountings(monkeypatch: pytest.MonkeyPatch) -> list[fuse_mount.Mounting]:
    done: list[fuse_mount.Mounting] = []
    monkeypatch.setattr(fuse_mount, 'mount', done.append)
    return done


QUOBYTE = f'{mount_quobyte.REGISTRY}/{mount_quobyte.VOLUME}'


def test_quobyte_as_this_package_calls_it(mountings, tmp_path):
    configuration = tmp_path / 'client.cfg'
    configuration.touch()
    arguments = ['--disable-xattrs', QUOBYTE, str(tmp_path), '-c', str(configuration)]
    assert mount_quobyte.main(arguments) == 0
    (done,) = mountings
    assert (done.source, done.fstype) == (f'quobyte@{QUOBYTE}', 'fuse.quobyte')
    assert done.look.root_size == 0


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['registry.example/lab', '.'], 'cannot reach any registry'),
        ([f'{mount_quobyte.REGISTRY}/other', '.'], 'does not exist'),
        ([QUOBYTE, '/nowhere'], 'not a directory'),
        ([QUOBYTE, '.', '-c', '/nowhere'], 'cannot read'),
        ([QUOBYTE, '.', '-o', 'allow_other'], 'unknown mount option'),
        ([QUOBYTE, '.', '--allow-root'], 'unrecognized arguments'),
        ([QUOBYTE, '.', '--disable'], 'unrecognized arguments'),
        ([QUOBYTE], 'required'),
    ],
)
def test_quobyte_refuses(never, capsys, arguments, said):
    check_refused(mount_quobyte.main, arguments, said, capsys)


def check_refused(main, arguments, said, capsys):
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = ended.code
    assert code
    assert said in capsys.readouterr().err


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    """A host that os-brick has told of the cluster."""
    monkeypatch.setattr(vz_cluster, 'CONFIGURATION', tmp_path)
    directory = tmp_path / vz_cluster.CLUSTER
    directory.mkdir()
    (directory / 'bs_list').write_text('\n'.join(vz_cluster.MDS) + '\n')
    return directory


def let_in(monkeypatch, password):
    monkeypatch.setattr(sys, 'stdin', iter([password]))
    monkeypatch.setattr(sys, 'stdin', Input(password))
    return pstorage.main(['-c', vz_cluster.CLUSTER, 'auth-node', '-P'])


class Input:
    """Standard input with one line, as os-brick writes it: without its end."""

    def __init__(self, line: str) -> None:
        self.line = line

    def readline(self) -> str:
        return self.line


MOUNT = ['-c', vz_cluster.CLUSTER, '-u', 'nobody', '-g', 'nogroup', '-m', '0770']


def test_vz_is_mounted_by_a_host_that_is_let_in(monkeypatch, mountings, cluster, tmp_path):
    assert let_in(monkeypatch, vz_cluster.PASSWORD) == 0
    log = tmp_path / 'log/client.log'
    assert pstorage_mount.main([*MOUNT, '-l', str(log), str(tmp_path)]) == 0
    (done,) = mountings
    assert (done.source, done.fstype) == (f'vstorage://{vz_cluster.CLUSTER}', 'fuse.vstorage')
    assert done.look == passthrough.Look(owner=(65534, 65534), mode=0o770)
    assert done.checked
    assert log.exists()


def test_vz_wrong_password_lets_nobody_in(monkeypatch, never, cluster, capsys, tmp_path):
    assert let_in(monkeypatch, 'wrong') == 1
    check_refused(pstorage_mount.main, [*MOUNT, str(tmp_path)], 'not authenticated', capsys)


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['-c', 'other', '.'], 'no MDS answers'),
        ([*MOUNT, '-u', 'no such user', '.'], 'invalid option'),
        ([*MOUNT, '-m', 'rwx', '.'], 'invalid option'),
        ([*MOUNT, '-x', '.'], 'unrecognized arguments'),
        ([*MOUNT, '/nowhere'], 'not a directory'),
        (['.'], 'required'),
    ],
)
def test_vz_refuses(monkeypatch, never, cluster, capsys, arguments, said):
    assert let_in(monkeypatch, vz_cluster.PASSWORD) == 0
    check_refused(pstorage_mount.main, arguments, said, capsys)


def test_vz_needs_a_server(monkeypatch, never, cluster, capsys):
    (cluster / 'bs_list').write_text('192.0.2.1:2510\n')
    assert let_in(monkeypatch, vz_cluster.PASSWORD) == 1
    check_refused(pstorage_mount.main, [*MOUNT, '.'], 'no MDS answers', capsys)


def test_pstorage_refuses_other_commands(cluster, capsys):
    arguments = ['-c', vz_cluster.CLUSTER, 'auth-node']
    check_refused(pstorage.main, arguments, 'Invalid arguments', capsys)


def test_sofs_as_mount_calls_it(mountings, tmp_path):
    configuration = tmp_path / 'sfused.conf'
    configuration.write_text('{"ring": "lab"}')
    arguments = [str(configuration), str(tmp_path), '-o', 'rw,nosuid,nodev']
    assert mount_sofs.main(arguments) == 0
    assert (mountings[0].source, mountings[0].fstype) == ('/dev/fuse', 'fuse')


@pytest.mark.parametrize(
    ('settings', 'more', 'said'),
    [
        ('not json', [], 'no configuration'),
        ('{}', [], 'no configuration'),
        ('{"ring": "other"}', [], 'does not answer'),
        ('{"ring": "lab"}', ['-o', 'allow_other'], 'unknown option'),
        ('{"ring": "lab"}', ['--verbose'], 'unrecognized arguments'),
    ],
)
def test_sofs_refuses(never, capsys, tmp_path, settings, more, said):
    configuration = tmp_path / 'sfused.conf'
    configuration.write_text(settings)
    check_refused(mount_sofs.main, [str(configuration), str(tmp_path), *more], said, capsys)
