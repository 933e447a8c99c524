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

"""A disk that a guest cannot release because its share says nothing."""

from collections.abc import Callable
import pathlib

import pytest

from tests.unit import fake_hypervisor as fake
from volumedrivers import exception
from volumedrivers.attachment import silent_share
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.cmd import errors
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import mount_table
from volumedrivers.host import share_health

INFO = ConnectionInfo.parse(fake.connection_info())
Asked = list[tuple[str, float]]
Share = Callable[[str], Asked]


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch) -> Share:
    """Put a share at the place of the volume; return what is asked of it."""

    def make(problem: str) -> Asked:
        asked: Asked = []

        def ask(files: dict[str, object], seconds: float) -> dict[str, share_health.Answer]:
            asked.extend((place, seconds) for place in files)
            return {place: share_health.Answer(problem, {}) for place in files}

        mounts = (
            mount_table.Mount(1, '/', '/', 'ext4', '/dev/vda'),
            mount_table.Mount(2, '/', '/mnt/0123', 'nfs4', 'server:/export'),
        )
        monkeypatch.setattr(mount_table, 'read', lambda: mounts)
        monkeypatch.setattr(share_health, 'ask', ask)
        return asked

    return make


def detach(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> exception.DetachTimeout:
    fakes = fake.Calls()
    driver, guest = fake.FakeDriver(fakes), fake.FakeGuest(fakes)
    manager: AttachmentManager = fake.make_manager(fake.make_conf(), tmp_path, driver, guest)
    manager.attach(INFO, 'web1')
    monkeypatch.setattr(silent_share.guest_disks, 'source_of', lambda disk: source)
    fakes.fail['detach_disk'] = exception.DetachTimeout(
        guest='web1', disk='vda', attempts=2, seconds=1
    )
    with pytest.raises(exception.DetachTimeout) as caught:
        manager.detach('web1', fake.VOLUME_ID)
    return caught.value


def test_share_that_does_not_answer_is_named(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, share: Share
) -> None:
    asked = share('it does not answer in 3 s')
    error = detach(tmp_path, monkeypatch, '/mnt/0123/volume-1')
    assert str(error) == (
        'guest web1 did not release vda in 2 attempts of 1 s; it lies on server:/export at '
        '/mnt/0123: it does not answer in 3 s'
    )
    assert error.__cause__ is None
    assert asked == [('/mnt/0123', 3.0)]
    assert 'its storage answers' in errors._what_to_do(error)


@pytest.mark.parametrize(
    ('source', 'problem'),
    [
        ('/mnt/0123/volume-1', ''),
        ('/var/volume-1', 'it does not answer in 3 s'),
        ('rbd:volumes/volume-1', 'it does not answer in 3 s'),
    ],
)
def test_guest_that_does_not_cooperate(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    share: Share,
    source: str,
    problem: str,
) -> None:
    asked = share(problem)
    error = detach(tmp_path, monkeypatch, source)
    assert str(error).endswith('its kernel has to cooperate')
    assert bool(asked) is not bool(problem)


def test_mounts_that_cannot_be_read_hide_nothing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read() -> None:
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(silent_share.host_side.mount_table, 'read', read)
    error = detach(tmp_path, monkeypatch, '/mnt/0123/volume-1')
    assert str(error).endswith('its kernel has to cooperate')
