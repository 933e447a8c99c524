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

"""Programs that a process began which is not there any more."""

from collections.abc import Callable
from collections.abc import Iterator
import pathlib
import subprocess
import threading
import types
import typing

from oslo_config import cfg
import pytest

from volumedrivers import exception
from volumedrivers.conf import opts
from volumedrivers.host import former_processes
from volumedrivers.host import mount_table
from volumedrivers.host.share import Share
from volumedrivers.host.share_users import MemoryUsers
from volumedrivers.host.shares import BEGUN
from volumedrivers.host.shares import Mounter
from volumedrivers.host.shares import ShareMounts

PLACE = '/mnt/of the tests/0123'


class Program:
    """Something that looks like a storage program at work, and ends when it is told to."""

    def __init__(self, directory: pathlib.Path, name: str, *arguments: str) -> None:
        script = directory / name
        script.write_text('#!/bin/sh\nread -r line\n')
        script.chmod(0o755)
        self.process = subprocess.Popen([script, *arguments], stdin=subprocess.PIPE)
        self.pid = self.process.pid
        stat = pathlib.Path(f'/proc/{self.pid}/comm')
        while stat.read_text() != f'{name}\n':
            assert self.process.poll() is None

    def end(self) -> None:
        self.process.communicate(b'\n')

    def has_ended(self) -> bool:
        """Ask the kernel; poll() says nothing while another thread is about to reap it."""
        try:
            stat = pathlib.Path(f'/proc/{self.pid}/stat').read_text()
        except FileNotFoundError:
            return True
        return stat.rpartition(')')[2].split()[0] == 'Z'


Start = Callable[..., Program]


@pytest.fixture
def start(tmp_path: pathlib.Path) -> Iterator[Start]:
    programs: list[Program] = []

    def start(name: str, *arguments: str) -> Program:
        programs.append(Program(tmp_path, name, *arguments))
        return programs[-1]

    yield start
    for program in programs:
        program.process.kill()
        program.process.communicate()


@pytest.fixture
def helper(start: Start) -> Program:
    """mount(8) at work."""
    return start('mount.nfs', 'server:/export', PLACE)


def pids(*words: str, unmounting: bool = True) -> list[int]:
    found = former_processes.running(words, unmounting=unmounting)
    return [process.pid for process in found]


def test_who_has_the_mount_point_for_an_argument(helper: Program) -> None:
    assert pids(PLACE) == [helper.pid]
    assert pids(PLACE[:-1]) == []
    assert pids('server:/export ' + PLACE) == []
    assert pids('') == []


def test_waits_for_one_that_ends(helper: Program) -> None:
    threading.Timer(0.1, helper.end).start()
    former_processes.wait_until_made(PLACE, 10)
    assert helper.process.poll() is not None


def test_names_one_that_does_not(helper: Program) -> None:
    with pytest.raises(exception.DeadlineExceeded, match=f'process {helper.pid}'):
        former_processes.wait_until_made(PLACE, 0.05)


def test_does_not_wait_for_a_client_of_what_is_mounted(
    helper: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mount_table, 'find', lambda place: place == PLACE)
    former_processes.wait_until_made(PLACE, 0)
    assert pids('server:/export') == []


def test_unmount_of_what_is_mounted_is_at_work(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = start('umount.nfs', PLACE)
    monkeypatch.setattr(mount_table, 'find', lambda place: place == PLACE)
    assert pids(PLACE) == [program.pid]
    assert pids(PLACE, unmounting=False) == []


def test_unknown_is_not_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(place: str) -> None:
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(mount_table, 'find', find)
    with pytest.raises(exception.HostUnreadable, match='Permission denied'):
        former_processes.wait_until_made(PLACE, 0)

    def running(words: object, unmounting: bool) -> None:
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(former_processes, 'running', running)
    with pytest.raises(exception.HostUnreadable, match='Permission denied'):
        former_processes.wait_until_ended((PLACE,), 0, what='volume 1')


@pytest.mark.parametrize(
    ('word', 'command'),
    [
        ('iqn.2026-01.test:1', 'iscsiadm -m node -T iqn.2026-01.test:1 --login'),
        ('192.0.2.77:3260', 'iscsiadm -m discovery -p 192.0.2.77:3260,1'),
        ('nqn.2026-01.test:1', 'nvme connect -n nqn.2026-01.test:1'),
        ('volume-of-test', 'rbd map volume-of-test --pool volumes --id cinder'),
        ('/dev/of-test', 'cryptsetup luksOpen /dev/of-test crypt-1'),
        ('crypt-of-test', 'cryptsetup luksClose crypt-of-test'),
        ('36000of7e57', 'multipath -f 36000of7e57'),
        ('36000of7e57', 'multipathd resize map 36000of7e57'),
        ('/mnt/of-test/1', 'qemu-img info driver=raw,filename=/mnt/of-test/1'),
        ('/dev/of-test', 'mdadm --stop /dev/of-test'),
    ],
)
def test_program_that_names_something_of_the_volume(start: Start, word: str, command: str) -> None:
    program = start(*command.split())
    assert pids('something else', word) == [program.pid]
    assert pids(word[:-1], word + '1') == []


@pytest.mark.parametrize(
    'command',
    [
        'rbd export volume-of-test -',
        'qemu-img convert volume-of-test other',
        'multipathd show volume-of-test',
        'tail volume-of-test',
    ],
)
def test_program_that_brings_nothing_to_the_host(start: Start, command: str) -> None:
    start(*command.split())
    assert pids('volume-of-test') == []


def test_waits_for_the_former_ones_only(start: Start) -> None:
    former = start('iscsiadm', '-T', 'iqn.2026-01.test:2', '--password', 'topsecret')
    later: list[Program] = []

    def go_on() -> None:
        later.append(start('nvme', 'iqn.2026-01.test:2'))
        former.end()

    threading.Timer(0.1, go_on).start()
    former_processes.wait_until_ended(('iqn.2026-01.test:2',), 10, what='volume 1')
    assert former.has_ended()
    assert [program.has_ended() for program in later] == [False]


def test_names_program_and_process_and_no_argument(start: Start) -> None:
    former = start('iscsiadm', '-T', 'iqn.2026-01.test:3', '--password', 'topsecret')
    with pytest.raises(exception.Busy) as caught:
        former_processes.wait_until_ended(('iqn.2026-01.test:3',), 0.05, what='volume 1')
    assert f'volume 1 is busy: iscsiadm (process {former.pid}) was begun' in str(caught.value)
    assert 'topsecret' not in str(caught.value)
    assert former.process.poll() is None


def test_share_whose_mount_is_still_being_made_is_not_let_go(
    helper: Program, tmp_path: pathlib.Path
) -> None:
    """Its directory would be free for the next mount, and two would be there."""
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([])
    conf.set_override('mount_timeout', 1, 'volumedrivers')
    conf.set_override('lock_path', str(tmp_path), 'volumedrivers')
    users = MemoryUsers()
    asked: list[str] = []
    mounter = types.SimpleNamespace(remove_mount_point=asked.append)
    shares = ShareMounts(conf, users, typing.cast(Mounter, mounter))
    share = Share(source='server:/export', mount_point=PLACE, fstype='nfs', mounted_fstypes=())
    users.add(PLACE, 'guest')
    users.claim(PLACE, BEGUN, share)
    with pytest.raises(exception.DeadlineExceeded, match='begun before'):
        shares.release(share, 'guest')
    assert users.claimed(PLACE) == BEGUN
    assert users.users(PLACE) == {'guest'}
    assert asked == []

    helper.end()
    assert not shares.release(share, 'guest')
    assert users.claimed(PLACE) is None
    assert asked == [PLACE]


def test_a_process_that_ends_meanwhile_is_no_error(tmp_path: pathlib.Path) -> None:
    (tmp_path / '17').mkdir()
    (tmp_path / 'self').mkdir()
    assert former_processes.running((PLACE,), str(tmp_path)) == ()
