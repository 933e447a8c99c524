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

"""By what a row is found that Cinder's volume has another id than."""

import copy
import dataclasses
import typing

import pytest

from tests.unit import fake_hypervisor as fake
from tests.unit.nova.conftest import Host
from volumedrivers.attachment import host_volume
from volumedrivers.attachment.host_volume import HostGuest
from volumedrivers.attachment.record import Record
from volumedrivers.connection_info import ConnectionInfo

LOCAL = {
    'driver_volume_type': 'local',
    'serial': fake.VOLUME_ID,
    'data': {'device_path': '/dev/loop1'},
}


@pytest.fixture
def row(host: Host) -> Record:
    guest = HostGuest(fake.GUEST_UUID, 'instance-1')
    host.manager.connect(ConnectionInfo.parse(fake.connection_info()), guest)
    found = host.row()
    assert found is not None
    return found


def moved(info: dict[str, typing.Any], **data: object) -> ConnectionInfo:
    """Return what Nova has of it after Cinder has migrated the volume."""
    made = copy.deepcopy(info)
    made['serial'] = made['volume_id'] = fake.OTHER_UUID
    made['data'].update(data)
    return ConnectionInfo.parse(made)


def test_what_nova_and_this_package_write_into_it_makes_no_difference(row: Record) -> None:
    after = moved(
        fake.connection_info(),
        volume_id=fake.OTHER_UUID,
        device_path='/dev/dm-1',
        volumedrivers_source={'protocol': 'iscsi'},
    )
    assert host_volume.is_same_place(row, after)


def test_another_unit_of_the_target_is_another_place(row: Record) -> None:
    assert not host_volume.is_same_place(row, moved(fake.connection_info(), target_lun=77))


def test_local_device_is_known_by_its_path(row: Record) -> None:
    local = dataclasses.replace(row, connection_info=LOCAL)
    assert host_volume.is_same_place(local, moved(LOCAL))
    assert not host_volume.is_same_place(local, moved(LOCAL, device_path='/dev/loop2'))


def test_nothing_to_know_it_by_is_no_place(row: Record) -> None:
    bare = {'driver_volume_type': 'local', 'data': {'access_mode': 'rw'}}
    nowhere = dataclasses.replace(row, connection_info=bare)
    assert not host_volume.is_same_place(nowhere, moved(LOCAL))


def test_what_was_made_under_the_former_id_is_found(
    host: Host, row: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str | None] = []

    def disconnect(info: ConnectionInfo, attachment: str, **options: object) -> None:
        told.extend((info.volume_id, attachment))

    monkeypatch.setattr(host.driver, 'disconnect_volume', disconnect)
    host.manager.disconnect(moved(fake.connection_info()), HostGuest(fake.GUEST_UUID, 'x'))
    assert told == [row.volume_id, row.key]
    assert host.journal.find() == ()
