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

"""Extending, with a Cinder that fails in every way that it can."""

import pathlib
import types
import typing

import pytest

from tests.unit import fake_hypervisor as fake
from tests.unit import fake_proxy
from tests.unit.fake_proxy import FakeProxy
from tests.unit.fake_proxy import Room
from volumedrivers import exception
from volumedrivers.attachment.block_storage.extended_event import ExtendedEvent
from volumedrivers.cinder import extension

GIB = 2**30
EVENT = {'name': 'volume-extended', 'server_uuid': fake.GUEST_UUID, 'tag': fake.VOLUME_ID}


class Growing(FakeProxy):
    """One whose volumes grow.

    :ivar ends: what becomes of a volume that is to be extended
    :ivar waits: whether Cinder waits for the host
    :ivar told: how it was told that it ended
    """

    def __init__(self) -> None:
        super().__init__()
        self.ends = 'in-use'
        self.waits = False
        self.told: list[bool] = []

    def extend_volume(self, volume: str, size: int) -> None:
        def do() -> None:
            found = self._volume(volume)
            if found['status'] not in ('available', 'in-use'):
                self._refuse('status')
            if self.waits:
                self.await_host(size)
            elif self.ends in ('in-use', 'available'):
                found.update(size=size)
            else:
                found.update(status=self.ends)

        self._do('extend_volume', do)

    def await_host(self, size: int | None) -> None:
        metadata = {} if size is None else {'extend_new_size': str(size)}
        self._volume(fake.VOLUME_ID).update(status='extending', metadata=metadata)

    def complete_volume_extend(self, volume: str, error: bool = False) -> None:
        def do() -> None:
            found = self._volume(volume)
            if found['status'] != 'extending' or not self.waits:
                self._refuse('Volume is not being extended.')
            self.told.append(error)
            size = int(found['metadata'].get('extend_new_size', 0))
            found.update(status='error_extending' if error else 'in-use', metadata={})
            if not error:
                found.update(size=size)

        self._do('complete_volume_extend', do)

    def reset_volume_status(self, volume: str, status: str) -> None:
        self._do('reset_volume_status', lambda: self._volume(volume).update(status=status))


@pytest.fixture
def room(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    monkeypatch.setattr(fake_proxy, 'FakeProxy', Growing)
    made = fake_proxy.make_room(tmp_path)
    # The host sees what is asked for, as with QEMU's own clients.
    monkeypatch.setattr(made.driver, 'extend_volume', lambda info, key, size, **_: size)
    made.attach()
    del made.proxy.calls[:]
    return made


@pytest.fixture
def proxy(room: Room) -> Growing:
    return typing.cast(Growing, room.proxy)


def volume_of(proxy: Growing) -> dict[str, typing.Any]:
    return proxy.volumes_[fake.VOLUME_ID]


@pytest.mark.parametrize(('size', 'gibibytes'), [(1, 1), (GIB, 1), (GIB + 1, 2), (3 * GIB, 3)])
def test_cinder_counts_in_gib(size: int, gibibytes: int) -> None:
    assert extension.gibibytes(size) == gibibytes


@pytest.mark.parametrize(
    ('status', 'metadata', 'awaited'),
    [
        ('extending', {'extend_new_size': '3'}, 3),
        ('extending', {'extend_new_size': '1'}, None),
        ('extending', {'extend_new_size': '-3'}, None),
        ('extending', {'extend_new_size': '³'}, None),
        ('extending', {'extend_new_size': 'all'}, None),
        ('extending', None, None),
        ('in-use', {'extend_new_size': '3'}, None),
    ],
)
def test_what_cinder_waits_for(
    status: str, metadata: dict[str, str] | None, awaited: int | None
) -> None:
    volume = types.SimpleNamespace(status=status, metadata=metadata, size=1)
    assert extension.awaited_size(volume) == awaited


def test_it_grows(room: Room, proxy: Growing) -> None:
    done = room.manager.extend('data', 2 * GIB)
    assert (done.size_before, done.size, done.completed) == (GIB, 2 * GIB, False)
    assert [one.requested_size for one in done.guests] == [2 * GIB]
    assert done.to_dict()['guests'][0]['guest'] == 'web1'
    assert set(done.seconds) == {'cinder', 'guests'}


def test_an_answer_that_is_lost(room: Room, proxy: Growing) -> None:
    proxy.after['extend_volume'] = fake_proxy.silent()
    assert room.manager.extend('data', 2 * GIB).size == 2 * GIB
    assert proxy.calls.count('extend_volume') == 1


@pytest.mark.parametrize('error', [fake_proxy.silent(), fake_proxy.refused()])
def test_cinder_does_not_begin(room: Room, proxy: Growing, error: Exception) -> None:
    proxy.before['extend_volume'] = error
    with pytest.raises(exception.CinderUnavailable):
        room.manager.extend('data', 2 * GIB)
    assert volume_of(proxy)['size'] == 1
    assert room.manager.extend('data', 2 * GIB).size == 2 * GIB


def test_cinder_takes_too_long(room: Room, proxy: Growing) -> None:
    proxy.ends = 'extending'
    room.options.conf.set_override('cinder_extend_timeout', 1.0, 'volumedrivers')
    with pytest.raises(exception.DeadlineExceeded) as caught:
        room.manager.extend('data', 2 * GIB)
    assert 'extend it again, to the same size' in caught.value.__notes__[0]
    volume_of(proxy).update(status='in-use', size=2)
    assert room.manager.extend('data', 2 * GIB).size == 2 * GIB
    assert proxy.calls.count('extend_volume') == 1


def test_a_size_that_a_user_has_written_is_not_believed(room: Room, proxy: Growing) -> None:
    """While a Cinder extends that does not wait for the host."""
    proxy.await_host(99)
    storage = room.manager.context.storage
    with pytest.raises(exception.DeadlineExceeded):
        extension.wait(storage, fake.VOLUME_ID, 2, seconds=0.0)
    assert extension.wait(storage, fake.VOLUME_ID, 99, seconds=0.0).status == 'extending'


def test_another_state_than_expected(room: Room, proxy: Growing) -> None:
    proxy.ends = 'error'
    with pytest.raises(exception.ExtendVolumeFailed, match='has it as error with 1 GiB'):
        room.manager.extend('data', 2 * GIB)


class TestFailedInCinder:
    def test_once_more(self, room: Room, proxy: Growing) -> None:
        proxy.ends = 'error_extending'
        with pytest.raises(exception.ExtendVolumeFailed, match='--state in-use'):
            room.manager.extend('data', 2 * GIB)
        proxy.ends = 'in-use'
        assert room.manager.extend('data', 2 * GIB).size == 2 * GIB

    def test_only_an_administrator_can_go_on(self, room: Room, proxy: Growing) -> None:
        volume_of(proxy).update(status='error_extending')
        proxy.before['reset_volume_status'] = exception.CinderForbidden(
            action='reset volume status', reason='the policy'
        )
        with pytest.raises(exception.ExtendVolumeFailed, match='only an administrator'):
            room.manager.extend('data', 2 * GIB)

    def test_a_share_is_made_usable(
        self, room: Room, proxy: Growing, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr('volumedrivers.attachment.block_storage.users.has_file', lambda *_: 1)
        proxy.ends = 'error_extending'
        for error, words in (
            (None, 'the volume is in-use again, with 1 GiB'),
            (
                exception.CinderForbidden(action='reset', reason='the policy'),
                'only an administrator can make it usable',
            ),
            (fake_proxy.silent(), 'error_extending in Cinder'),
        ):
            volume_of(proxy).update(status='in-use')
            if error is not None:
                proxy.before['reset_volume_status'] = error
            with pytest.raises(exception.ExtendVolumeNotSupported) as caught:
                room.manager.extend('data', 2 * GIB)
            assert words in caught.value.__notes__[-1]


class TestTold:
    @pytest.fixture(autouse=True)
    def waits(self, proxy: Growing) -> None:
        proxy.waits = True

    def test_of_success(self, room: Room, proxy: Growing) -> None:
        assert room.manager.extend('data', 2 * GIB).completed
        assert proxy.told == [False]
        assert volume_of(proxy)['size'] == 2

    def test_of_a_failure_and_made_usable(self, room: Room, proxy: Growing) -> None:
        room.fakes.fail[f'resize_disk vda {2 * GIB}'] = refusal()
        with pytest.raises(exception.ResizeRefused) as caught:
            room.manager.extend('data', 2 * GIB)
        assert proxy.told == [True]
        assert caught.value.__notes__[-1] == 'the volume is in-use again, with 1 GiB'

    def test_the_answer_is_lost(self, room: Room, proxy: Growing) -> None:
        proxy.after['complete_volume_extend'] = fake_proxy.silent()
        assert room.manager.extend('data', 2 * GIB).completed
        assert proxy.told == [False]

    def test_again_when_it_is_not_heard(self, room: Room, proxy: Growing) -> None:
        room.manager.context.storage.retries = 1
        proxy.before['complete_volume_extend'] = fake_proxy.silent()
        assert room.manager.extend('data', 2 * GIB).completed
        assert proxy.told == [False]

    def test_it_is_never_heard(self, room: Room, proxy: Growing) -> None:
        proxy.before['complete_volume_extend'] = fake_proxy.silent()
        with pytest.raises(exception.CinderUnavailable) as caught:
            room.manager.extend('data', 2 * GIB)
        assert 'Cinder still waits' in caught.value.__notes__[0]
        assert volume_of(proxy)['status'] == 'extending'
        assert room.manager.extend('data', 2 * GIB).completed

    def test_a_failure_of_which_cinder_cannot_be_told(self, room: Room, proxy: Growing) -> None:
        room.fakes.fail[f'resize_disk vda {2 * GIB}'] = refusal()
        proxy.before['complete_volume_extend'] = fake_proxy.silent()
        with pytest.raises(exception.ResizeRefused) as caught:
            room.manager.extend('data', 2 * GIB)
        assert any('could not be told' in note for note in caught.value.__notes__)

    def test_by_the_event(self, room: Room, proxy: Growing) -> None:
        proxy.await_host(2)
        done = room.manager.extended(EVENT)
        assert (done.size, done.completed, proxy.told) == (2 * GIB, True, [False])

    def test_a_size_that_is_not_shown(self, room: Room, proxy: Growing) -> None:
        proxy.await_host(None)
        with pytest.raises(exception.ExtendVolumeFailed, match='does not show to what size'):
            room.manager.extended(EVENT)
        assert proxy.told == [True]

    def test_not_what_another_host_has_to_say(self, room: Room, proxy: Growing) -> None:
        proxy.await_host(2)
        other = {**EVENT, 'server_uuid': fake.OTHER_UUID}
        with pytest.raises(exception.VolumeDriversError):
            room.manager.extended(other)
        assert proxy.told == []


def refusal() -> Exception:
    return exception.ResizeRefused(guest='web1', disk='vda', size=2 * GIB, reason='a test')


def test_the_event_while_cinder_extends_once_more(
    room: Room, proxy: Growing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not wait for this host: what comes of it, another event tells."""
    proxy.await_host(None)

    def complete(*args: typing.Any, **kwargs: typing.Any) -> typing.NoReturn:
        volume_of(proxy).update(status='in-use', size=3)
        proxy._refuse('Volume is not being extended.')

    monkeypatch.setattr(proxy, 'complete_volume_extend', complete)
    assert room.manager.extended(EVENT).size == 3 * GIB


def test_the_observer(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_proxy, 'FakeProxy', Growing)
    seen: list[tuple[str, str, str]] = []
    room = fake_proxy.make_room(tmp_path, lambda *told: seen.append(typing.cast(typing.Any, told)))
    room.manager.extend('data', 2 * GIB)
    assert seen == [('volume extend', 'cinder', 'before'), ('volume extend', 'cinder', 'after')]
    del seen[:]
    typing.cast(Growing, room.proxy).ends = 'error'
    with pytest.raises(exception.ExtendVolumeFailed):
        room.manager.extend('data', 3 * GIB)
    assert seen[-1] == ('volume extend', 'cinder', 'failed')


@pytest.mark.parametrize(
    ('changed', 'words'),
    [
        ({'name': 'network-changed'}, "name is 'network-changed'; expected volume-extended"),
        ({'name': None}, 'name is missing'),
        ({'status': 'failed'}, "status is 'failed'"),
        ({'server_uuid': 7}, 'server_uuid is 7; expected the UUID of a guest'),
        ({'server_uuid': 'x' * 500}, f'{"x" * 79}; expected'),
        ({'tag': ['a']}, 'tag is list; expected the id of a volume'),
    ],
)
def test_another_event(changed: dict[str, object], words: str) -> None:
    with pytest.raises(exception.InvalidEvent) as caught:
        ExtendedEvent.parse({**EVENT, **changed})
    assert words in str(caught.value)
    assert caught.value.exit_code == exception.BadInput.exit_code


def test_an_event_in_another_shape() -> None:
    found = ExtendedEvent.parse(
        {**EVENT, 'server_uuid': fake.GUEST_UUID.upper(), 'status': 'completed', 'more': 1}
    )
    assert found == ExtendedEvent(fake.GUEST_UUID, fake.VOLUME_ID)
    with pytest.raises(exception.InvalidEvent, match='a mapping'):
        ExtendedEvent.parse(typing.cast(typing.Any, [EVENT]))
