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

"""Mounts that a process began which is not there any more."""

from collections.abc import Iterator
import pathlib
import subprocess
import sys
import threading
import types
import typing

from oslo_config import cfg
import pytest

from volumedrivers import exception
from volumedrivers.conf import opts
from volumedrivers.host import mount_helpers
from volumedrivers.host import mount_table
from volumedrivers.host.share import Share
from volumedrivers.host.share_users import MemoryUsers
from volumedrivers.host.shares import BEGUN
from volumedrivers.host.shares import Mounter
from volumedrivers.host.shares import ShareMounts

PLACE = '/mnt/of the tests/0123'


@pytest.fixture
def helper() -> Iterator[subprocess.Popen[bytes]]:
    """Something that looks like mount(8) at work."""
    process = subprocess.Popen(
        [sys.executable, '-S', '-c', 'input(".")', '-t', 'nfs', 'server:/export', PLACE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    # Popen returns before /proc has the new arguments.
    assert process.stdout is not None
    process.stdout.read(1)
    yield process
    process.kill()
    process.communicate()


def test_who_has_the_mount_point_for_an_argument(helper: subprocess.Popen[bytes]) -> None:
    assert mount_helpers.helpers(PLACE) == (helper.pid,)
    assert mount_helpers.helpers(PLACE[:-1]) == ()
    assert mount_helpers.helpers('server:/export ' + PLACE) == ()


def test_waits_for_one_that_ends(helper: subprocess.Popen[bytes]) -> None:
    threading.Timer(0.1, lambda: helper.communicate(b'\n')).start()
    mount_helpers.wait_until_made(PLACE, 10)
    assert helper.poll() is not None


def test_names_one_that_does_not(helper: subprocess.Popen[bytes]) -> None:
    with pytest.raises(exception.DeadlineExceeded, match=f'process {helper.pid}'):
        mount_helpers.wait_until_made(PLACE, 0.05)


def test_does_not_wait_for_a_client_of_what_is_mounted(
    helper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mount_table, 'find', lambda place: object())
    mount_helpers.wait_until_made(PLACE, 0)


def test_unknown_is_not_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(place: str) -> None:
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(mount_table, 'find', find)
    with pytest.raises(exception.HostUnreadable, match='Permission denied'):
        mount_helpers.wait_until_made(PLACE, 0)


def test_share_whose_mount_is_still_being_made_is_not_let_go(
    helper: subprocess.Popen[bytes], tmp_path: pathlib.Path
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

    helper.communicate(b'\n')
    assert not shares.release(share, 'guest')
    assert users.claimed(PLACE) is None
    assert asked == [PLACE]


def test_a_process_that_ends_meanwhile_is_no_error(tmp_path: pathlib.Path) -> None:
    (tmp_path / '17').mkdir()
    (tmp_path / 'self').mkdir()
    assert mount_helpers.helpers(PLACE, str(tmp_path)) == ()
