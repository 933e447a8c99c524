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

"""Paths that come back, and attachments to which none is missing."""

import dataclasses
import pathlib
import typing

import pytest

from tests.unit import fake_hypervisor as fake
from volumedrivers import exception
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.results import ConnectResult
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host.block_device import DevicePaths
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import FailedPath
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import PathReport

PORTALS = ('192.0.2.1:3260', '192.0.2.2:3260')


class Host:
    """Which portals answer, and which paths the kernel has; a driver's devices too."""

    def __init__(self) -> None:
        self.alive = set(PORTALS)
        self.there: dict[str, str] = {}

    def paths(self, path: str) -> DevicePaths:
        if not self.there:
            raise exception.VolumeNotConnected(volume_id=None)
        failed = tuple((name, state) for name, state in self.there.items() if state != 'running')
        return DevicePaths(tuple(self.there), failed)

    def stable_path(self, path: str, *, wait: float = 5.0) -> str | None:
        return path


class Driver(fake.FakeDriver):
    """A driver whose connect adds the paths of the portals that answer."""

    def __init__(self, fakes: fake.Calls, host: Host) -> None:
        super().__init__(fakes)
        self.host = host
        self.multipath: bool | None = True

    def connect_volume(self, info: typing.Any, attachment: str) -> ConnectedVolume:
        volume = super().connect_volume(info, attachment)
        asked = PORTALS if self.multipath else PORTALS[:1]
        for portal in self.host.alive & set(asked):
            self.host.there[portal] = 'running'
        failed = tuple(
            FailedPath(portal, 'no answer') for portal in asked if portal not in self.host.alive
        )
        return dataclasses.replace(
            volume,
            paths=PathReport(len(asked), len(asked) - len(failed), failed),
            use_multipath=self.multipath,
        )


class Room:
    """A guest and its volume over two portals."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.fakes = fake.Calls()
        self.host = Host()
        self.guest = fake.FakeGuest(self.fakes)
        self.driver = Driver(self.fakes, self.host)
        self.manager: AttachmentManager = fake.make_manager(
            fake.make_conf(), directory, self.driver, self.guest
        )
        self.manager.context.registry.context.devices = typing.cast(typing.Any, self.host)
        self.info = ConnectionInfo.parse(fake.connection_info())

    def attach(self) -> None:
        self.manager.attach(self.info, 'web1')
        del self.fakes.calls[:]

    def repair(self, *, with_password: bool = True) -> ConnectResult:
        info = self.info if with_password else None
        return self.manager.repair('web1', 'vda', connection_info=info)

    def record(self) -> Record:
        record = self.manager.context.journal.get(make_key(fake.GUEST_UUID, fake.VOLUME_ID))
        assert record is not None
        assert record.is_settled
        return record


@pytest.fixture
def room(tmp_path: pathlib.Path) -> Room:
    return Room(tmp_path)


def test_a_portal_is_back(room: Room) -> None:
    room.host.alive = {PORTALS[0]}
    room.attach()
    assert room.record().volume.degraded
    room.host.alive = set(PORTALS)
    result = room.repair()
    assert (result.paths_before, result.paths_found, result.degraded) == (1, 2, False)
    assert room.record().volume.paths == PathReport(2, 2)
    assert room.record().volume.identity == Identity('wwn', '3600')
    # Before anything is added, and after.
    connected = room.fakes.calls.index('connect')
    assert 'current_identity' in room.fakes.calls[:connected]
    assert 'current_identity' in room.fakes.calls[connected:]
    assert 'attach_disk' not in room.fakes.calls


def test_a_portal_that_is_not_back(room: Room) -> None:
    room.host.alive = {PORTALS[0]}
    room.attach()
    result = room.repair()
    assert (result.paths_before, result.paths_found, result.degraded) == (1, 1, True)
    assert result.paths_failed == (FailedPath(PORTALS[1], 'no answer'),)


def test_a_path_that_failed_since(room: Room) -> None:
    room.attach()
    room.host.there[PORTALS[1]] = 'offline'
    assert room.repair().paths_before == 1
    assert 'connect' in room.fakes.calls


def test_nothing_is_missing(room: Room) -> None:
    """Nothing is connected, nothing is written, and no password is needed."""
    room.attach()
    before = room.record()
    result = room.repair(with_password=False)
    assert (result.paths_before, result.paths_found, result.degraded) == (2, 2, False)
    assert room.fakes.calls == ['current_identity']
    assert room.record() == before


def test_without_multipath_nothing_is_missing(room: Room) -> None:
    room.driver.multipath = False
    room.attach()
    result = room.repair(with_password=False)
    assert (result.paths_asked, result.paths_found) == (1, 1)
    assert room.fakes.calls == ['current_identity']


def test_paths_that_came_back_by_themselves_are_recorded(room: Room) -> None:
    room.host.alive = {PORTALS[0]}
    room.attach()
    room.host.there[PORTALS[1]] = 'running'
    result = room.repair(with_password=False)
    assert 'connect' not in room.fakes.calls
    assert (result.paths_before, result.paths_found, result.paths_failed) == (2, 2, ())
    assert room.record().volume.paths == PathReport(2, 2)


def test_a_device_that_is_gone_is_connected(room: Room) -> None:
    room.attach()
    room.host.there.clear()
    assert room.repair().paths_found == 2
    assert 'connect' in room.fakes.calls


def test_what_is_missing_needs_the_password(room: Room) -> None:
    room.host.alive = {PORTALS[0]}
    room.attach()
    with pytest.raises(exception.InvalidOption, match='credentials are not recorded'):
        room.repair(with_password=False)
    assert room.record().volume.degraded


def test_another_volume_before(room: Room) -> None:
    room.attach()
    room.driver.identity = Identity('wwn', '3999')
    with pytest.raises(exception.IdentityMismatch):
        room.repair()
    assert 'connect' not in room.fakes.calls
    assert str(room.record().volume.identity) == 'wwn:3600'


def test_another_volume_after(room: Room) -> None:
    """OSSA-2023-003: the LUN behind the portal that is back was reused."""

    class Reused(Driver):
        def connect_volume(self, info: typing.Any, attachment: str) -> ConnectedVolume:
            self.identity = Identity('wwn', '3999')
            return super().connect_volume(info, attachment)

    room.host.alive = {PORTALS[0]}
    room.attach()
    room.driver.__class__ = Reused
    with pytest.raises(exception.IdentityMismatch, match='wwn:3999'):
        room.repair()
    record = room.record()
    assert str(record.volume.identity) == 'wwn:3600'
    assert record.volume.degraded
    assert 'repair' in record.problem


def test_a_problem_is_forgotten_when_all_is_well(room: Room) -> None:
    room.attach()
    room.driver.identity = Identity('wwn', '3999')
    with pytest.raises(exception.IdentityMismatch):
        room.repair()
    room.driver.identity = Identity('wwn', '3600')
    room.repair()
    assert room.record().problem == ''


def test_other_portals_than_the_recorded_ones_are_refused(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later detach would go by the row, and leave the new paths behind."""
    monkeypatch.setattr(
        room.driver,
        'lock_names',
        lambda info, **options: (f'{info.data.targets[0].portal}',),
    )
    room.host.alive = {PORTALS[0]}
    room.attach()
    raw = fake.connection_info()
    raw['data']['target_portal'] = '192.0.2.9:3260'
    with pytest.raises(exception.InvalidOption, match='other targets'):
        room.manager.repair('web1', 'vda', connection_info=ConnectionInfo.parse(raw))
    assert 'connect' not in room.fakes.calls
    assert room.record().volume.degraded
