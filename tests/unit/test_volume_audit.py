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

"""What an audit finds on Cinder's side, and what it says nothing of."""

import dataclasses
import pathlib
import types
import typing

import pytest

from tests.unit import fake_hypervisor as fake
from tests.unit import fake_proxy
from tests.unit.fake_proxy import CHANGES
from tests.unit.fake_proxy import HOST
from tests.unit.fake_proxy import KEY
from tests.unit.fake_proxy import Room
from volumedrivers import exception
from volumedrivers.attachment import audit as host_audit
from volumedrivers.attachment import audit_facts
from volumedrivers.attachment.block_storage.reservation import Operation
from volumedrivers.attachment.results import Finding

GIB = 2**30
NOBODY = '00000000-0000-4000-8000-0000000000ff'


class Sizes:
    """What libvirt says of the guests' disks; and what is called while it does."""

    def __init__(self) -> None:
        self.capacities: dict[tuple[str, str], int] = {}
        self.meanwhile: typing.Callable[[], object] = lambda: None
        self.found: tuple[Finding, ...] = ()


@pytest.fixture
def sizes() -> Sizes:
    return Sizes()


@pytest.fixture
def room(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, sizes: Sizes) -> Room:
    made = fake_proxy.make_room(tmp_path)

    def look(context: typing.Any) -> typing.Any:
        sizes.meanwhile()
        facts = types.SimpleNamespace(
            context=context,
            rows={row.key: row for row in context.journal.find()},
            guests={one.uuid: one.sources() for one in context.hypervisor.guests()},
            capacities={},
        )
        return facts, sizes.found

    monkeypatch.setattr(host_audit, 'look', look)
    monkeypatch.setattr(audit_facts, 'sizes', lambda facts, wanted: sizes.capacities)
    return made


def audited(room: Room) -> list[Finding]:
    """Return what is found, after making sure that nothing was changed."""
    rows, had = room.reservations.find(), list(room.proxy.attachments_.items())
    del room.proxy.calls[:]
    found = list(room.manager.audit())
    assert not set(CHANGES) & set(room.proxy.calls)
    assert room.reservations.find() == rows or had != list(room.proxy.attachments_.items())
    for one in found:
        assert one.what
        assert one.detail
        assert one.what_to_do.endswith('.')
        assert one.severity == ('note' if one.kind in ('running', 'not-extended') else 'problem')
    return found


def kinds(room: Room) -> list[str]:
    return [one.kind for one in audited(room)]


def attachment(room: Room) -> dict[str, typing.Any]:
    (found,) = room.proxy.attachments_.values()
    return found


def volume(room: Room) -> dict[str, typing.Any]:
    return room.proxy.volumes_[fake.VOLUME_ID]


def test_all_is_right(room: Room) -> None:
    assert kinds(room) == []
    room.attach()
    assert kinds(room) == []
    assert room.proxy.calls == ['attachments', 'volumes']
    room.detach()
    assert kinds(room) == []


def test_many_volumes_cost_two_requests(room: Room) -> None:
    for number in range(5):
        name = f'volume {number}'
        room.proxy.make_volume(f'c1b2d3e4-0001-4aaa-8bbb-00000000010{number}', name=name)
        assert room.driver.identity is not None
        room.driver.identity = dataclasses.replace(room.driver.identity, value=name)
        room.manager.attach('web1', name)
    assert kinds(room) == []
    assert room.proxy.calls == ['attachments', 'volumes']


def test_unfinished(room: Room) -> None:
    room.attach()
    room.proxy.before['delete_attachment'] = fake_proxy.answered()
    with pytest.raises(exception.CinderUnavailable):
        room.detach()
    (found,) = audited(room)
    assert (found.kind, found.guest, found.volume_id) == ('unfinished', 'web1', fake.VOLUME_ID)
    assert "step 'release' of volume detach did not end: Cinder at" in found.detail
    assert found.what_to_do == 'Run "volumedrivers recover".'
    # That is known without Cinder as well.
    room.proxy.before['attachments'] = fake_proxy.silent()
    assert sorted(kinds(room)) == ['unfinished', 'unknown']


def test_running(room: Room) -> None:
    room.attach()
    assert room.row is not None
    room.reservations.put(dataclasses.replace(room.row, operation=Operation.DETACH, step='begin'))
    with room.manager.context.lock(fake.VOLUME_ID, 'detach', 'web1'):
        (found,) = audited(room)
    assert found.kind == 'running'
    assert 'detach of volume' in found.detail


@pytest.mark.parametrize('call', ['attachments', 'volumes'])
def test_cinder_cannot_be_asked(room: Room, call: str) -> None:
    room.attach()
    room.proxy.before[call] = fake_proxy.silent(call)
    (found,) = audited(room)
    assert found.kind == 'unknown'
    assert 'what it has of 1 attachment of this host' in found.detail


def test_cinder_falls_silent_meanwhile(room: Room) -> None:
    room.attach()
    room.proxy.attachments_.clear()
    room.proxy.before['get_attachment'] = fake_proxy.silent()
    assert kinds(room) == ['unknown']


def test_without_a_cinder(room: Room) -> None:
    room.attach()
    room.manager.context = dataclasses.replace(room.manager.context, storage=fake_proxy.NoCinder())
    (found,) = room.manager.audit()
    assert found.kind == 'unknown'
    assert 'group [cinder] has no auth_type' in found.detail


def test_lost(room: Room) -> None:
    room.attach()
    room.proxy.attachments_.clear()
    (found,) = audited(room)
    assert found.kind == 'attachment-lost'
    assert 'may give it to somebody else' in found.detail
    assert 'volumedrivers volume detach web1' in found.what_to_do


def test_of_another_project(room: Room) -> None:
    """What the lists do not show is asked for by its id."""
    room.attach()
    room.proxy.hidden.add(fake.VOLUME_ID)
    assert kinds(room) == []
    assert room.proxy.calls.count('get_attachment') == 1


def test_lost_to_another_host(room: Room) -> None:
    room.attach()
    room.proxy.attachments_.clear()
    room.proxy.make_attachment(instance=NOBODY, status='attached', host_name='other-host')
    (found,) = audited(room)
    assert found.kind == 'attached-elsewhere'
    assert 'other-host' in found.detail


def test_of_another_host(room: Room) -> None:
    room.attach()
    attachment(room)['host_name'] = 'other-host'
    assert kinds(room) == ['attached-elsewhere']


def test_names_of_hosts_are_of_any_case(room: Room) -> None:
    room.attach()
    attachment(room)['host_name'] = HOST.upper()
    assert kinds(room) == []


def test_not_complete(room: Room) -> None:
    room.attach()
    attachment(room)['status'] = 'attaching'
    (found,) = audited(room)
    assert (found.kind, found.what_to_do) == ('not-complete', 'Run "volumedrivers recover".')
    assert [one.action for one in room.manager.recover()] == ['finished']
    assert kinds(room) == []


def test_only_reserved(room: Room) -> None:
    room.attach()
    attachment(room).update(status='reserved', connection_info={})
    (found,) = audited(room)
    assert found.kind == 'attachment-lost'
    assert 'only reserved' in found.detail


def test_not_released(room: Room) -> None:
    room.attach()
    room.host.detach('web1', fake.VOLUME_ID)
    (found,) = audited(room)
    assert found.kind == 'not-released'
    assert 'Cinder keeps the volume for it' in found.detail
    room.proxy.attachments_.clear()
    (found,) = audited(room)
    assert 'neither has Cinder any more' in found.detail
    assert [one.action for one in room.manager.recover()] == ['finished']
    assert kinds(room) == []


def test_volume_is_gone(room: Room) -> None:
    room.attach()
    room.proxy.attachments_.clear()
    room.proxy.volumes_.clear()
    assert kinds(room) == ['volume-gone']


@pytest.mark.parametrize(
    ('status', 'kind'),
    [
        ('detaching', 'detaching'),
        ('error', 'volume-error'),
        ('error_extending', 'volume-error'),
        ('available', 'volume-state'),
        ('extending', None),
        ('retyping', None),
    ],
)
def test_state_of_the_volume(room: Room, status: str, kind: str | None) -> None:
    room.attach()
    volume(room)['status'] = status
    found = audited(room)
    assert [one.kind for one in found] == ([] if kind is None else [kind])
    with room.manager.context.lock(fake.VOLUME_ID, 'detach', 'web1'):
        assert kinds(room) == []


def test_state_that_has_passed(room: Room) -> None:
    room.attach()
    volume(room)['status'] = 'detaching'
    original = room.proxy.get_volume

    def passed(volume_id: str) -> typing.Any:
        volume(room)['status'] = 'in-use'
        return original(volume_id)

    room.proxy.get_volume = passed  # type: ignore[method-assign]
    assert kinds(room) == []


@pytest.mark.parametrize('where', ['row', 'connection_info'])
def test_guest_can_write_what_is_read_only(room: Room, where: str) -> None:
    room.attach()
    if where == 'row':
        assert room.row is not None
        room.reservations.put(dataclasses.replace(room.row, mode='ro'))
    else:
        attachment(room)['connection_info']['access_mode'] = 'ro'
    (found,) = audited(room)
    assert found.kind == 'writable'
    for disk in room.guest.present:
        disk.readonly = True
    assert kinds(room) == []


def test_cinders_mode_is_not_believed(room: Room) -> None:
    room.attach()
    attachment(room)['attach_mode'] = 'ro'
    assert kinds(room) == []


def test_grown_in_cinder_only(room: Room, sizes: Sizes) -> None:
    room.attach()
    (disk,) = room.guest.present
    assert disk.target is not None
    place = (room.guest.uuid, str(disk.target.dev))
    sizes.capacities[place] = GIB
    assert kinds(room) == []
    volume(room)['size'] = 2
    (found,) = audited(room)
    assert found.kind == 'not-extended'
    assert f'volumedrivers extend web1 {fake.VOLUME_ID} 2G' in found.what_to_do
    # An encrypted one has a header, which the guest does not see.
    sizes.capacities[place] = 2 * GIB - 2**24
    assert kinds(room) == []


def test_of_another_cinder(room: Room) -> None:
    room.attach()
    room.manager.context = dataclasses.replace(
        room.manager.context, storage=fake_proxy.make_storage(room.proxy, 'http://other.test')
    )
    found = {one.kind for one in audited(room)}
    assert 'other-cinder' in found


def test_hidden_from_this_project(room: Room) -> None:
    """What Cinder does not show is not said to be gone."""
    room.attach()
    assert room.row is not None
    room.reservations.put(dataclasses.replace(room.row, project='one'))
    session = types.SimpleNamespace(get_project_id=lambda: 'another')
    room.manager.context.storage.connection = typing.cast(
        typing.Any, types.SimpleNamespace(session=session, config=None)
    )
    assert kinds(room) == []  # an administrator sees it all the same
    room.proxy.volumes_.clear()
    room.proxy.attachments_.clear()
    assert kinds(room) == ['other-project']


@pytest.mark.parametrize(
    ('values', 'is_stray'),
    [
        ({'instance': fake.GUEST_UUID, 'status': 'reserved'}, True),
        ({'instance': fake.GUEST_UUID, 'status': 'attached', 'host_name': HOST}, True),
        ({'instance': fake.GUEST_UUID, 'status': 'attached', 'host_name': 'other'}, False),
        ({'instance': NOBODY, 'status': 'attached', 'host_name': HOST}, True),
        ({'instance': NOBODY, 'status': 'attached', 'host_name': 'other'}, False),
        ({'instance': NOBODY, 'status': 'reserved'}, False),
        ({'instance': None, 'status': 'attached', 'host_name': HOST}, True),
        ({'instance': None, 'status': 'reserved'}, False),
    ],
)
def test_stray_attachment(room: Room, values: dict[str, typing.Any], is_stray: bool) -> None:
    made = room.proxy.make_attachment(**values)
    found = audited(room)
    assert [one.kind for one in found] == (['stray-attachment'] if is_stray else [])
    if is_stray:
        assert found[0].what == f'attachment {made}'
        assert f'volume attachment delete {made}' in found[0].what_to_do


def test_attachment_of_a_guest_that_somebody_else_attached(room: Room) -> None:
    room.guest.present.append(fake.make_disk(fake.VOLUME_ID, 'vda'))
    room.proxy.make_attachment(instance=fake.GUEST_UUID, status='attached', host_name=HOST)
    volume(room)['status'] = 'in-use'
    assert kinds(room) == []


@pytest.mark.parametrize(
    ('host', 'kind'), [(None, 'attachment-lost'), ('other-host', 'attached-elsewhere')]
)
def test_disk_without_a_row(room: Room, sizes: Sizes, host: str | None, kind: str) -> None:
    room.guest.present.append(fake.make_disk(fake.VOLUME_ID, 'vda'))
    if host is not None:
        room.proxy.make_attachment(instance=fake.GUEST_UUID, status='attached', host_name=host)
    # What the audit of the host says of it is not said twice.
    sizes.found = (
        Finding('not-recorded', 'note', 'web1', fake.GUEST_UUID, fake.VOLUME_ID, 'x', 'y', 'z.'),
    )
    (found,) = room.manager.audit()
    assert (found.kind, found.guest) == (kind, 'web1')


@pytest.mark.parametrize(
    ('host_name', 'advice'),
    [
        (HOST, 'Run "volumedrivers volume detach web1 v".'),
        (None, 'Run "volumedrivers detach web1 v" with its connection_info.'),
    ],
)
def test_cinder_is_to_get_back_what_it_has(
    room: Room, sizes: Sizes, host_name: str | None, advice: str
) -> None:
    """What the audit of the host advises would leave it attached in Cinder."""
    if host_name is not None:
        room.guest.present.append(fake.make_disk(fake.VOLUME_ID, 'vda'))
        room.proxy.make_attachment(
            instance=fake.GUEST_UUID, status='attached', host_name=host_name
        )
        volume(room)['status'] = 'in-use'
    said = 'Run "volumedrivers detach web1 v" with its connection_info.'
    sizes.found = (
        Finding('not-recorded', 'note', 'web1', fake.GUEST_UUID, fake.VOLUME_ID, 'x', 'y', said),
    )
    assert [one.what_to_do for one in room.manager.audit()] == [advice]


def test_what_changes_meanwhile_is_left_out(room: Room, sizes: Sizes) -> None:
    """A volume is attached, or detached, after the rows were read."""
    sizes.meanwhile = room.attach
    assert room.manager.audit() == ()
    assert room.row is not None
    sizes.meanwhile = room.detach
    assert room.manager.audit() == ()
    assert room.row is None


def test_reservation_that_is_not_known_yet(room: Room) -> None:
    """The answer was lost; recover finds whose it is."""
    room.proxy.after['create_attachment'] = fake_proxy.silent()
    room.proxy.before['attachments'] = fake_proxy.silent()
    with pytest.raises(exception.CinderUnavailable):
        room.attach()
    assert room.reservations.get(KEY) is not None
    assert len(room.proxy.attachments_) == 1
    assert kinds(room) == ['unfinished']
