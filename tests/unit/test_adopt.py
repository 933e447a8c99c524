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

"""Taking over what somebody else has attached: only what is of this host."""

import pathlib
import typing

import pytest

from tests.unit import fake_hypervisor as fake
from tests.unit import fake_proxy
from tests.unit.fake_proxy import HOST
from tests.unit.fake_proxy import Room
from volumedrivers import exception
from volumedrivers.attachment.block_storage import adopt

GONE = '0c0ffee0-0000-4000-8000-000000000001'


@pytest.fixture
def room(tmp_path: pathlib.Path) -> Room:
    made = fake_proxy.make_room(tmp_path)
    made.proxy.volumes_[fake.VOLUME_ID]['status'] = 'in-use'
    return made


def attached(room: Room, host: str | None, instance: str = fake.GUEST_UUID) -> str:
    return room.proxy.make_attachment(
        instance=instance,
        status='attached',
        host_name=host,
        connection_info=fake_proxy._flat_info(fake.VOLUME_ID),
    )


def give(room: Room) -> None:
    """Let the guest have the volume; nobody has recorded it."""
    room.guest.present.append(fake.make_disk(fake.VOLUME_ID, 'vda'))


def adopted(room: Room) -> typing.Any:
    context = room.manager.context
    guest = context.host.hypervisor.guest('web1')
    return adopt.adopt(context, guest, room.proxy.get_volume(fake.VOLUME_ID))[0].attachment_id


def test_the_one_of_this_host_among_several(room: Room) -> None:
    """A guest that has just been moved here has one for the host it left as well."""
    attached(room, 'another-host')
    ours = attached(room, HOST.upper())
    give(room)
    assert adopted(room) == ours


def test_of_another_host(room: Room) -> None:
    attached(room, 'another-host')
    give(room)
    with pytest.raises(exception.AttachedElsewhere, match='another-host'):
        adopted(room)


def test_cinder_does_not_tell_the_host(room: Room) -> None:
    made = attached(room, None)
    with pytest.raises(exception.AttachedElsewhere, match='does not tell this user'):
        adopted(room)
    give(room)
    assert adopted(room) == made
    attached(room, None)
    with pytest.raises(exception.AttachedElsewhere):
        adopted(room)


def test_guest_that_is_on_another_host(room: Room) -> None:
    """It is not known here, and uses the volume where it is."""
    made = attached(room, None, GONE)
    with pytest.raises(exception.AttachedElsewhere):
        room.manager.detach(GONE, fake.VOLUME_ID)
    assert list(room.proxy.attachments_) == [made]
    assert room.proxy.changes == []


def test_guest_that_is_gone_from_this_host(room: Room) -> None:
    attached(room, HOST, GONE)
    room.manager.detach(GONE, fake.VOLUME_ID)
    assert not room.proxy.attachments_


def test_nobody_has_it(room: Room) -> None:
    give(room)
    with pytest.raises(exception.NotRecorded):
        adopted(room)
