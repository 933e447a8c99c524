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

"""The whole life of a volume whose driver knows API 1.0 only, and no identity."""

import dataclasses
import pathlib
import types
import typing

import pytest

from tests.unit import fake_hypervisor as fake
from volumedrivers import exception
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.attachment.record import Operation
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.disk import IOTune
from volumedrivers.libvirt.driver import VolumeDriver


class VendorDriver(VolumeDriver):
    """What a vendor wrote against the first contract, and nothing else."""

    API_VERSION = (1, 0)
    DEVICE = '/dev/disk/by-id/vendor-1'

    def __init__(self, context: typing.Any) -> None:
        super().__init__(context)
        self.here: set[str] = set()

    def connect_volume(self, connection_info: ConnectionInfo, attachment: str) -> ConnectedVolume:
        self.here.add(attachment)
        return ConnectedVolume(
            driver_volume_type=connection_info.driver_volume_type,
            volume_id=connection_info.volume_id,
            source_type='block',
            path=self.DEVICE,
        )

    def disconnect_volume(
        self,
        connection_info: ConnectionInfo,
        attachment: str,
        *,
        volume: ConnectedVolume | None = None,
        force: bool = False,
    ) -> None:
        self.here.discard(attachment)


@dataclasses.dataclass
class Room:
    guest: fake.FakeGuest
    driver: VendorDriver
    manager: AttachmentManager
    info: ConnectionInfo

    def recorded(self) -> list[Operation | None]:
        return [record.operation for record in self.manager.context.journal.find()]


@pytest.fixture
def room(tmp_path: pathlib.Path) -> Room:
    conf = fake.make_conf()
    guest = fake.FakeGuest(fake.Calls())
    driver = VendorDriver(types.SimpleNamespace(conf=conf))
    driver.fakes = guest.fakes  # type: ignore[attr-defined]
    manager = fake.make_manager(conf, tmp_path, typing.cast(typing.Any, driver), guest)
    return Room(guest, driver, manager, ConnectionInfo.parse(fake.connection_info()))


def test_attach_change_and_detach(room: Room) -> None:
    attached = room.manager.attach(room.info, 'web1')
    assert (attached.source, attached.identity) == (VendorDriver.DEVICE, None)
    assert (attached.paths_asked, attached.paths_found, attached.degraded) == (1, 1, False)
    assert len(room.driver.here) == 1
    assert room.manager.set_qos('web1', 'vda', IOTune(read_iops_sec=5)).identity is None
    with pytest.raises(exception.ExtendVolumeNotSupported):
        room.manager.extend('web1', 'vda', fake.GIB)
    assert room.manager.repair('web1', 'vda', connection_info=room.info).paths_found == 1
    assert room.recorded() == [None]
    detached = room.manager.detach('web1', 'vda')
    assert (detached.removed_from_guest, detached.leftovers) == (True, ())
    assert (room.driver.here, room.recorded()) == (set(), [])


def test_failed_attach_is_undone(room: Room) -> None:
    room.guest.fakes.fail['attach_disk'] = exception.AttachRefused(
        guest='web1', disk='vda', reason='no'
    )
    with pytest.raises(exception.AttachRefused):
        room.manager.attach(room.info, 'web1')
    assert (room.driver.here, room.recorded()) == (set(), [])


@pytest.mark.parametrize('operation', [Operation.ATTACH, Operation.DETACH])
@pytest.mark.parametrize('in_guest', [True, False])
def test_recover(
    room: Room, monkeypatch: pytest.MonkeyPatch, operation: Operation, in_guest: bool
) -> None:
    monkeypatch.setattr('volumedrivers.attachment.detach._FORMER_REQUEST', 0.0)
    room.manager.attach(room.info, 'web1')
    journal = room.manager.context.journal
    (record,) = journal.find()
    journal.put(dataclasses.replace(record, operation=operation, step=str(operation)))
    if not in_guest:
        room.guest.present.clear()
    (outcome,) = room.manager.recover()
    if operation is Operation.ATTACH and in_guest:
        assert (outcome.action, room.recorded()) == ('finished', [None])
        assert len(room.driver.here) == 1
    else:
        assert outcome.action == ('undone' if operation is Operation.ATTACH else 'finished')
        assert (room.driver.here, room.recorded(), room.guest.present) == (set(), [], [])


def test_reboot(room: Room) -> None:
    room.manager.attach(room.info, 'web1')
    journal = room.manager.context.journal
    (record,) = journal.find()
    journal.put(dataclasses.replace(record, boot_id='a boot before this one'))
    room.driver.here.clear()
    result = room.manager.reconnect('web1', 'vda', connection_info=room.info)
    assert result.source == VendorDriver.DEVICE
    assert len(room.driver.here) == 1


def test_plans(room: Room) -> None:
    plan = room.manager.plan.attach(room.info, 'web1')
    assert plan.steps[0].actions == ('connect a volume of type iscsi',)
    assert plan.steps[0].locks == ('iscsi',)
    room.manager.attach(room.info, 'web1')
    steps = {step.name: step for step in room.manager.plan.detach('web1', 'vda').steps}
    assert steps['disconnect'].actions == ('disconnect a volume of type iscsi',)
