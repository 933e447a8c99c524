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

"""What becomes of a swap that was interrupted, by where the guest's data is."""

import types
import typing
from unittest import mock

import pytest

from volumedrivers import exception
from volumedrivers.attachment import lookup
from volumedrivers.attachment import swap
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.record import Record
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import Remainder
from volumedrivers.libvirt.copy_place import Place

OLD = '11111111-1111-1111-1111-111111111111'
NEW = '33333333-3333-3333-3333-333333333333'
GUEST = '22222222-2222-2222-2222-222222222222'
OPTIONS = types.SimpleNamespace(guest_attach_timeout=120.0, disconnect_timeout=960.0)


def info(volume_id: str) -> dict[str, typing.Any]:
    return {
        'driver_volume_type': 'local',
        'serial': volume_id,
        'volume_id': volume_id,
        'data': {'device_path': f'/dev/disk/by-id/{volume_id}'},
    }


def volume(volume_id: str) -> ConnectedVolume:
    return ConnectedVolume(
        'local', volume_id, 'block', path=f'/dev/disk/by-id/{volume_id}', format='raw'
    )


def record(**wanted: typing.Any) -> Record:
    return Record(
        key=f'{GUEST}/{OLD}',
        boot_id='boot',
        host='this-host',
        domain_uuid=GUEST,
        domain_name='guest',
        volume_id=OLD,
        driver_volume_type='local',
        connection_info=info(OLD),
        target='vdb',
        source=f'/dev/disk/by-id/{OLD}',
        volume=volume(OLD),
        operation=Operation.SWAP,
        step='pivot',
        was_attached=True,
        wanted={'connection_info': info(NEW), 'attachment_id': 'new', **wanted},
    )


def settle(found: Record) -> swap.FinishSwap | swap.UndoSwap:
    context = types.SimpleNamespace(driver=lambda info: mock.Mock(), options=OPTIONS)
    guest = types.SimpleNamespace(name='guest', uuid=GUEST)
    return swap.to_settle(
        typing.cast(typing.Any, context), typing.cast(typing.Any, guest), found, None
    )


STARTED = {'volume': volume(NEW).to_dict(), 'source': f'/dev/disk/by-id/{NEW}'}


def test_no_copy_was_begun() -> None:
    for wanted in ({}, {'volume': STARTED['volume']}):
        job = settle(record(**wanted))
        assert isinstance(job, swap.UndoSwap)
        # What may be there of it is known by its connection_info.
        assert job.to.volume_id == NEW


@pytest.mark.parametrize(
    ('place', 'kind'),
    [(Place.OLD, swap.UndoSwap), (Place.COPYING, swap.UndoSwap), (Place.NEW, swap.FinishSwap)],
)
def test_by_where_the_data_is(
    monkeypatch: pytest.MonkeyPatch, place: Place, kind: type[swap.Swapping]
) -> None:
    monkeypatch.setattr(swap.Swapping, 'place', lambda self: place)
    assert type(settle(record(**STARTED))) is kind


@pytest.mark.parametrize('place', [Place.NOWHERE, Place.ELSEWHERE])
def test_it_is_not_guessed(monkeypatch: pytest.MonkeyPatch, place: Place) -> None:
    monkeypatch.setattr(swap.Swapping, 'place', lambda self: place)
    with pytest.raises(exception.StillInUse, match='a person has to find out'):
        settle(record(**STARTED))


@pytest.mark.parametrize('place', [Place.COPYING, Place.NEW, Place.NOWHERE, Place.ELSEWHERE])
def test_the_new_place_is_not_pulled_away_under_a_guest(
    monkeypatch: pytest.MonkeyPatch, place: Place
) -> None:
    job = settle(record())
    monkeypatch.setattr(swap.Swapping, 'place', lambda self: place)
    with pytest.raises(exception.Busy):
        job.disconnect_new()
    assert typing.cast(mock.Mock, job.new_driver).disconnect_volume.mock_calls == []


def test_the_steps() -> None:
    assert [step.name for step in settle(record()).steps()] == ['abort', 'disconnect', 'record']


def test_under_which_name_it_is_on_this_host() -> None:
    given = ConnectionInfo.parse(info(OLD))
    moved = record(**STARTED)
    assert lookup.as_connected(moved, given) is given
    there = Record(**{**vars(moved), 'connection_info': info(NEW)})
    assert lookup.as_connected(there, given).volume_id == NEW
    other = ConnectionInfo.parse(info(GUEST))
    assert lookup.as_connected(there, other) is other


@pytest.mark.parametrize('which', ['old', 'new'])
def test_what_is_left_keeps_its_lun(monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    """Cinder would give it to somebody else, whose data this device then has."""
    place = Place.NEW if which == 'old' else Place.OLD
    monkeypatch.setattr(swap.Swapping, 'place', lambda self: place)
    monkeypatch.setattr(swap.Swapping, 'others', lambda self: {})
    monkeypatch.setattr(swap.Swapping, 'found_identity', lambda self: None)
    job = settle(record(**STARTED))
    driver = typing.cast(mock.Mock, job.driver if which == 'old' else job.new_driver)
    disconnect = job.disconnect_old if which == 'old' else job.disconnect_new
    driver.remains.return_value = (Remainder('session', 'a portal'),)
    disconnect()
    driver.remains.return_value = (Remainder('device', '/dev/sdx'),)
    with pytest.raises(exception.LeftoversFound, match='/dev/sdx'):
        disconnect()
    assert driver.disconnect_volume.call_count == 2
