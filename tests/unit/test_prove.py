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

"""The look after a detach whether anything of the volume is left."""

import pathlib
import typing

import pytest

from tests.unit import fake_hypervisor as fake
from volumedrivers import exception
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.connected_volume import Remainder
from volumedrivers.libvirt.driver import DiskEncryption

KINDS = (
    'device',
    'map',
    'controller',
    'namespace',
    'session',
    'mapping',
    'mount',
    'secret',
    'link',
    'dm-crypt',
)
SOME = ('device', 'mount', 'secret')
# What the encryptor looks for, and takes away.
OF_ENCRYPTION = ('secret', 'link', 'dm-crypt')


class Driver(fake.FakeDriver):
    """A driver that leaves something, and needs some calls to remove it."""

    def __init__(self, fakes: fake.Calls) -> None:
        super().__init__(fakes)
        self.calls_needed = 1

    def disconnect_volume(self, info: typing.Any, attachment: str, **options: typing.Any) -> None:
        super().disconnect_volume(info, attachment, **options)
        self.calls_needed -= 1
        if self.calls_needed <= 0:
            self.left = []


class Encryptor(fake.FakeEncryptor):
    """One that leaves something likewise."""

    def __init__(self, fakes: fake.Calls) -> None:
        super().__init__(fakes)
        self.left: list[Remainder] = []
        self.calls_needed = 1

    def close(self, info: typing.Any, opened: typing.Any, **options: typing.Any) -> None:
        super().close(info, opened, **options)
        self.calls_needed -= 1
        if self.calls_needed <= 0 and options['last']:
            self.left = []

    def remains(self, volume_id: str, opened: typing.Any) -> tuple[Remainder, ...]:
        return tuple(self.left)


class Room:
    """Two guests; the first has the volume."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.fakes = fake.Calls()
        self.guest = fake.FakeGuest(self.fakes)
        self.other = fake.FakeGuest(fake.Calls(), 'web2', fake.OTHER_UUID)
        self.driver = Driver(self.fakes)
        self.manager: AttachmentManager = fake.make_manager(
            fake.make_conf(), directory, self.driver, self.guest, self.other
        )
        self.encryptor = Encryptor(self.fakes)
        object.__setattr__(self.manager.context, 'encryptor', self.encryptor)

    def attach(
        self, guest: str = 'web1', *, encrypted: bool = False, **options: typing.Any
    ) -> None:
        raw = fake.connection_info()
        raw['data']['encrypted'] = encrypted
        self.manager.attach(ConnectionInfo.parse(raw), guest, **options)
        del self.fakes.calls[:]

    def record(self, guest_uuid: str = fake.GUEST_UUID) -> Record | None:
        return self.manager.context.journal.get(make_key(guest_uuid, fake.VOLUME_ID))

    def leave(self, kind: str, calls: int) -> None:
        """Leave something, which goes after some calls."""
        maker = self.encryptor if kind in OF_ENCRYPTION else self.driver
        maker.left = [Remainder(kind, 'name', 'detail')]
        maker.calls_needed = calls


@pytest.fixture
def room(tmp_path: pathlib.Path) -> Room:
    return Room(tmp_path)


class TestEveryKind:
    @pytest.mark.parametrize('kind', SOME)
    def test_is_removed_at_once(self, room, kind):
        room.attach(encrypted=True)
        room.leave(kind, 1)
        assert room.manager.detach('web1', fake.VOLUME_ID).leftovers == ()
        assert room.fakes.calls.count('disconnect') == 1
        assert room.record() is None

    @pytest.mark.parametrize('kind', KINDS)
    def test_is_removed_once_more(self, room, kind):
        room.attach(encrypted=True)
        room.leave(kind, 2)
        assert room.manager.detach('web1', fake.VOLUME_ID).leftovers == ()
        assert room.fakes.calls.count('disconnect') == 2
        assert room.fakes.calls.count('close') == 2
        assert room.record() is None

    @pytest.mark.parametrize('kind', KINDS)
    def test_that_stays_is_an_error_and_kept_in_mind(self, room, kind):
        room.attach(encrypted=True)
        room.leave(kind, 3)
        with pytest.raises(exception.LeftoversFound, match=f'{kind} name .detail.'):
            room.manager.detach('web1', fake.VOLUME_ID)
        record = room.record()
        assert record.operation is Operation.DETACH
        assert kind in record.problem
        # The third attempt is that of whoever calls again.
        assert room.manager.detach('web1', fake.VOLUME_ID).leftovers == ()
        assert room.record() is None

    @pytest.mark.parametrize('kind', SOME)
    def test_that_stays_is_reported_with_force(self, room, kind):
        room.attach(encrypted=True)
        room.leave(kind, 3)
        result = room.manager.detach('web1', fake.VOLUME_ID, force=True)
        assert result.leftovers == (f'{kind} name (detail)',)
        assert kind in room.record().problem

    @pytest.mark.parametrize('kind', SOME)
    def test_of_a_volume_that_another_guest_has_is_not_left_over(self, room, kind):
        room.attach(encrypted=True)
        room.attach('web2', encrypted=True)
        room.leave(kind, 1)
        result = room.manager.detach('web1', fake.VOLUME_ID)
        assert (result.leftovers, result.still_used_by) == ((), ('web2',))
        assert 'disconnect' not in room.fakes.calls
        assert room.driver.left or room.encryptor.left


@pytest.mark.parametrize('kind', OF_ENCRYPTION)
class TestWhatIsNotOurs:
    def test_is_reported_and_left_alone(self, room, kind):
        """A libvirt secret that is named after a volume which was attached as it is."""
        room.attach()
        room.leave(kind, 1)
        result = room.manager.detach('web1', fake.VOLUME_ID)
        assert result.leftovers == (f'{kind} name (detail)',)
        assert 'close' not in room.fakes.calls
        assert room.encryptor.left
        assert room.record() is None

    def test_beside_something_that_is(self, room, kind):
        room.attach()
        room.leave('device', 2)
        room.leave(kind, 1)
        result = room.manager.detach('web1', fake.VOLUME_ID)
        assert result.leftovers == (f'{kind} name (detail)',)
        assert room.fakes.calls.count('disconnect') == 2
        assert 'close' not in room.fakes.calls

    def test_of_the_caller_is_the_callers(self, room, kind):
        opened = DiskEncryption(fake.SECRET_UUID)
        room.attach(encrypted=True, request=DiskRequest(encryption=opened))
        room.leave(kind, 1)
        assert room.manager.detach('web1', fake.VOLUME_ID).leftovers == ()
        assert 'close' not in room.fakes.calls
        assert room.encryptor.left
        assert room.record() is None


def test_what_cannot_be_looked_for_is_no_answer(room: Room, monkeypatch: typing.Any) -> None:
    def fail(*arguments: typing.Any, **options: typing.Any) -> typing.Any:
        raise exception.HostUnreadable(what='sysfs', reason='input/output error')

    room.attach()
    monkeypatch.setattr(room.driver, 'remains', fail)
    with pytest.raises(exception.HostUnreadable):
        room.manager.detach('web1', fake.VOLUME_ID)
    assert room.record() is not None
