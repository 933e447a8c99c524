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

"""Volumes that grow: asked for on this host, or told of by Cinder."""

from collections.abc import Iterator
import typing
import uuid

import pytest

from tests.functional.cinder import looks
from tests.functional.cinder.looks import GIB
from tests.functional.cinder.made_volumes import VolumeMaker
from tests.functional.cinder.made_volumes import wait_for
from volumedrivers import exception
from volumedrivers.attachment.block_storage.manager import VolumeManager
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.attachment.results import ExtendResult
from volumedrivers.cinder.block_storage import BlockStorage
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing.cinder import settings
from volumedrivers.testing.cinder.backends import Backend
from volumedrivers.testing.cinder.backends import IscsiBackend
from volumedrivers.testing.cinder.backends import NfsBackend
from volumedrivers.testing.cinder.nova_events import FakeNova
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.qemu_io import GuestIO

MIB = 2**20
SCSI = DiskRequest(bus='scsi')


@pytest.fixture(autouse=True)
def alone(volume_manager: VolumeManager) -> Iterator[None]:
    """Leave nothing to the next test."""
    yield
    looks.detach_all(volume_manager)


def test_a_running_guest_sees_it(
    volume_manager: VolumeManager,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    nova: FakeNova,
    guest: Guest,
    guest_io: GuestIO,
) -> None:
    volume = make_volume(iscsi)
    volume_manager.attach(guest.name, volume.name, SCSI)
    done = volume_manager.extend(volume.name, GIB + 1)
    assert (done.size_before, done.size) == (GIB, 2 * GIB)  # whole GiB
    (seen,) = done.guests
    assert (seen.guest, seen.size, seen.resized_in_guest) == (guest.name, 2 * GIB, True)
    assert not done.completed
    assert done.elsewhere == done.without == ()
    assert (volume.get().size, volume.status) == (2, 'in-use')
    assert looks.capacity(guest, volume) == 2 * GIB
    guest_io.write(volume.alias, 0x5A, 2 * GIB - MIB, 65536)
    assert volume.holds(0x5A, 2 * GIB - MIB)
    assert looks.told(nova) == [looks.event_of(guest, volume)]
    volume_manager.detach(guest.name, volume.id)
    assert volume.status == 'available'


def test_a_volume_that_nobody_has(
    volume_manager: VolumeManager, make_volume: VolumeMaker, nova: FakeNova, nfs: NfsBackend
) -> None:
    volume = make_volume(nfs)
    done = volume_manager.extend(volume.name, 2 * GIB)
    assert (done.size, done.guests, done.elsewhere) == (2 * GIB, (), ())
    assert (volume.get().size, volume.status) == (2, 'available')
    assert volume.image.stat().st_size == 2 * GIB
    assert nova.events == []


def test_a_volume_of_another_host(
    volume_manager: VolumeManager, make_volume: VolumeMaker, iscsi: IscsiBackend
) -> None:
    volume = make_volume(iscsi)
    instance = str(uuid.uuid4())
    attachment = looks.attached_elsewhere(volume, instance=instance)
    done = volume_manager.extend(volume.id, 2 * GIB)
    assert done.guests == ()
    assert done.elsewhere == (f'{attachment.id} (host other-host, guest {instance})',)
    assert volume.get().size == 2


def test_what_cinder_has_done_already(
    volume_manager: VolumeManager,
    storage: BlockStorage,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    guest: Guest,
) -> None:
    volume = make_volume(iscsi)
    volume_manager.attach(guest.name, volume.id, SCSI)
    storage.proxy.extend_volume(volume.id, 2)
    wait_for(volume.get, 'in-use')
    assert looks.capacity(guest, volume) == GIB
    for _ in range(2):
        done = volume_manager.extend(volume.id, 2 * GIB)
        assert (done.size_before, done.size) == (2 * GIB, 2 * GIB)
        assert looks.capacity(guest, volume) == 2 * GIB
    assert volume_manager.extend(volume.id, GIB).size == 2 * GIB  # it is large enough


def test_a_guest_that_does_not_run_sees_it_later(
    volume_manager: VolumeManager, make_volume: VolumeMaker, iscsi: IscsiBackend, guest: Guest
) -> None:
    volume = make_volume(iscsi)
    volume_manager.attach(guest.name, volume.id, SCSI)
    with looks.stopped(guest):
        done = volume_manager.extend(volume.id, 2 * GIB)
        assert [one.resized_in_guest for one in done.guests] == [False]
    assert looks.capacity(guest, volume) == 2 * GIB


def test_a_share_refuses_while_a_guest_has_the_file(
    volume_manager: VolumeManager, make_volume: VolumeMaker, nfs: NfsBackend, guest: Guest
) -> None:
    volume = make_volume(nfs)
    volume_manager.attach(guest.name, volume.id, SCSI)
    with pytest.raises(exception.ExtendVolumeNotSupported, match='nfs') as caught:
        volume_manager.extend(volume.id, 2 * GIB)
    refused, usable = caught.value.__notes__
    assert 'bug 1870367' in refused
    assert usable == 'the volume is in-use again, with 1 GiB'
    assert (volume.get().size, volume.status) == (1, 'in-use')
    volume_manager.detach(guest.name, volume.id)
    assert volume_manager.extend(volume.id, 2 * GIB).size == 2 * GIB
    volume_manager.attach(guest.name, volume.id, SCSI)
    assert looks.capacity(guest, volume) == 2 * GIB


def test_a_back_end_that_fails(
    volume_manager: VolumeManager,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    guest: Guest,
) -> None:
    volume = make_volume(iscsi)
    volume_manager.attach(guest.name, volume.id, SCSI)
    moved = volume.image.rename(volume.image.with_name('away'))
    with pytest.raises(exception.ExtendVolumeFailed, match='error_extending') as caught:
        volume_manager.extend(volume.id, 2 * GIB)
    assert f'"openstack volume set --state in-use {volume.id}"' in str(caught.value)
    assert volume.status == 'error_extending'
    moved.rename(volume.image)
    # Once more, when the cause is repaired.
    assert volume_manager.extend(volume.id, 2 * GIB).size == 2 * GIB
    assert volume.status == 'in-use'
    assert looks.capacity(guest, volume) == 2 * GIB


def test_more_than_the_quota(
    volume_manager: VolumeManager,
    storage: BlockStorage,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
) -> None:
    volume = make_volume(iscsi)
    storage.proxy.update_quota_set(settings.PROJECT, gigabytes=3)
    try:
        with pytest.raises(exception.CinderError, match='quota') as caught:
            volume_manager.extend(volume.id, 4 * GIB)
    finally:
        storage.proxy.revert_quota_set(settings.PROJECT)
    assert caught.value.status == 413
    assert (volume.get().size, volume.status) == (1, 'available')


def test_a_state_that_does_not_allow_it(
    volume_manager: VolumeManager,
    storage: BlockStorage,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
) -> None:
    volume = make_volume(iscsi)
    storage.proxy.reset_volume_status(volume.id, status='error')
    with pytest.raises(exception.WrongVolumeState, match='available or in-use'):
        volume_manager.extend(volume.id, 2 * GIB)
    for size in (0, -1, True, 1.5):
        with pytest.raises(exception.InvalidSize):
            volume_manager.extend(volume.id, typing.cast(int, size))


def test_one_guest_fails_and_the_other_sees_it(
    volume_manager: VolumeManager,
    storage: BlockStorage,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    hypervisor: Hypervisor,
    libvirtd: PrivateLibvirtd,
    guest: Guest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    volume = make_volume(iscsi, volume_type=looks.multiattach_type(storage, iscsi))
    on_host = volume_manager.context.attachments
    extend = on_host.extend

    def fails(name: str, *args: typing.Any, **kwargs: typing.Any) -> ExtendResult:
        if name == guest.uuid:
            raise exception.ResizeRefused(
                guest=guest.name, disk='sda', size=2 * GIB, reason='the test says so'
            )
        return extend(name, *args, **kwargs)

    with looks.Other(hypervisor, libvirtd) as other:
        volume_manager.attach(guest.name, volume.id, SCSI)
        volume_manager.attach(other.guest.name, volume.id, SCSI)
        monkeypatch.setattr(on_host, 'extend', fails)
        with pytest.raises(exception.ResizeRefused, match='the test says so') as caught:
            volume_manager.extend(volume.id, 2 * GIB)
        assert caught.value.__notes__ == [
            'Cinder has it with 2 GiB; extend it again, to the same size, to go on',
            f'it is extended in guest {other.guest.name}',
        ]
        assert looks.capacity(guest, volume) == GIB
        assert looks.capacity(other.guest, volume) == 2 * GIB
        monkeypatch.undo()
        done = volume_manager.extend(volume.id, 2 * GIB)
        assert {one.guest for one in done.guests} == {guest.name, other.guest.name}
        assert looks.capacity(guest, volume) == 2 * GIB


def test_the_event_of_cinder(
    volume_manager: VolumeManager,
    storage: BlockStorage,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    nova: FakeNova,
    guest: Guest,
) -> None:
    volume = make_volume(iscsi)
    volume_manager.attach(guest.name, volume.id, SCSI)
    storage.proxy.extend_volume(volume.id, 2)
    (event,) = looks.told(nova)
    done = volume_manager.extended(event)
    assert (done.size_before, done.size, done.completed) == (2 * GIB, 2 * GIB, False)
    assert [one.guest for one in done.guests] == [guest.name]
    assert looks.capacity(guest, volume) == 2 * GIB
    assert volume_manager.extended(event).size == 2 * GIB


def test_what_somebody_else_attached(
    volume_manager: VolumeManager,
    storage: BlockStorage,
    make_volume: VolumeMaker,
    backend: Backend,
    guest: Guest,
) -> None:
    """It is in Cinder and in the guest, and not in this journal."""
    volume = make_volume(backend)
    volume_manager.attach(guest.name, volume.id, SCSI)
    context = volume_manager.context
    (record,) = context.host.journal.find()
    (row,) = context.reservations.find()
    context.host.journal.remove(record.key)
    context.reservations.remove(row.key)
    if backend.name == 'nfs':
        with pytest.raises(exception.ExtendVolumeNotSupported):
            volume_manager.extend(volume.id, 2 * GIB)
        assert volume.status == 'in-use'
    else:
        done = volume_manager.extend(volume.id, 2 * GIB)
        assert [one.guest for one in done.guests] == [guest.name]
        assert looks.capacity(guest, volume) == 2 * GIB
        storage.proxy.extend_volume(volume.id, 3)
        wait_for(volume.get, 'in-use')
        volume_manager.extended(looks.event_of(guest, volume))
        assert looks.capacity(guest, volume) == 3 * GIB
    assert context.host.journal.find() == context.reservations.find() == ()
    volume_manager.detach(guest.name, volume.id)
    assert volume.status == 'available'


def test_an_event_for_a_guest_that_does_not_run_or_is_gone(
    volume_manager: VolumeManager,
    storage: BlockStorage,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    hypervisor: Hypervisor,
    libvirtd: PrivateLibvirtd,
) -> None:
    volume = make_volume(iscsi)
    with looks.Other(hypervisor, libvirtd) as other:
        volume_manager.attach(other.guest.name, volume.id, SCSI)
        storage.proxy.extend_volume(volume.id, 2)
        wait_for(volume.get, 'in-use')
        with looks.stopped(other.guest):
            done = volume_manager.extended(looks.event_of(other.guest, volume))
            assert [one.resized_in_guest for one in done.guests] == [False]
    with pytest.raises(exception.GuestNotFound):
        volume_manager.extended(looks.event_of(other.guest, volume))
    # Of what is left of it, asking for the size says so.
    assert volume_manager.extend(volume.id, 2 * GIB).without == (other.guest.name,)
    volume_manager.detach(other.guest.uuid, volume.id)
    assert volume.status == 'available'


def test_an_event_of_something_else(
    volume_manager: VolumeManager, make_volume: VolumeMaker, iscsi: IscsiBackend, guest: Guest
) -> None:
    volume = make_volume(iscsi)
    event = looks.event_of(guest, volume)
    for wrong in (
        {'name': 'volume-reimaged'},
        {'server_uuid': 'a guest'},
        {'tag': None},
        {'status': 'failed'},
    ):
        with pytest.raises(exception.InvalidEvent, match=next(iter(wrong))):
            volume_manager.extended({**event, **wrong})
    with pytest.raises(exception.GuestNotFound):
        volume_manager.extended({**event, 'server_uuid': str(uuid.uuid4())})
    with pytest.raises(exception.VolumeNotFound):
        volume_manager.extended({**event, 'tag': str(uuid.uuid4())})
    with pytest.raises(exception.NotRecorded):
        volume_manager.extended(event)  # the guest does not have it
