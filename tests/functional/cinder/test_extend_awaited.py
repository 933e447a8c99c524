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

"""Volumes that Cinder leaves to the host to grow, and waits to be told how it ended."""

from collections.abc import Iterator
import typing
import uuid

from oslo_config import cfg
import pytest

from tests.functional.cinder import looks
from tests.functional.cinder.looks import GIB
from tests.functional.cinder.made_volumes import VolumeMaker
from tests.functional.cinder.made_volumes import wait_for
from volumedrivers import exception
from volumedrivers.attachment.block_storage.manager import VolumeManager
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.cinder import extension
from volumedrivers.cinder.block_storage import BlockStorage
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing.cinder.backends import Backend
from volumedrivers.testing.cinder.backends import IscsiBackend
from volumedrivers.testing.cinder.backends import NfsBackend
from volumedrivers.testing.cinder.embedded import EmbeddedCinder
from volumedrivers.testing.cinder.nova_events import FakeNova
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.qemu_io import GuestIO

MIB = 2**20
SCSI = DiskRequest(bus='scsi')
MANAGER = 'volumedrivers.testing.cinder.waiting_manager.WaitingVolumeManager'


@pytest.fixture(scope='module')
def nfs() -> NfsBackend:
    return NfsBackend()


@pytest.fixture(scope='module')
def iscsi() -> IscsiBackend:
    return IscsiBackend()


@pytest.fixture(scope='module')
def cinder(
    nfs: NfsBackend,
    iscsi: IscsiBackend,
    fake_nova: FakeNova,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[EmbeddedCinder]:
    waits = {'extended_by_host': 'true'}
    options = {
        **fake_nova.options,
        'DEFAULT': {'volume_manager': MANAGER, **looks.MANY},
        'nfs': waits,
        'iscsi': waits,
    }
    directory = tmp_path_factory.mktemp('waiting')
    with EmbeddedCinder(directory, [nfs, iscsi], options=options) as started:
        yield started


@pytest.fixture(autouse=True)
def alone(volume_manager: VolumeManager) -> Iterator[None]:
    """Leave nothing to the next test."""
    yield
    looks.detach_all(volume_manager)


def test_the_event(
    volume_manager: VolumeManager,
    storage: BlockStorage,
    make_volume: VolumeMaker,
    backend: Backend,
    nova: FakeNova,
    guest: Guest,
    guest_io: GuestIO,
) -> None:
    """Also with a file that only QEMU can grow."""
    volume = make_volume(backend)
    volume_manager.attach(guest.name, volume.id, SCSI)
    storage.proxy.extend_volume(volume.id, 2)
    (event,) = looks.told(nova)
    assert (volume.get().size, volume.status) == (1, 'extending')
    done = volume_manager.extended(event)
    assert (done.size_before, done.size, done.completed) == (GIB, 2 * GIB, True)
    assert [one.resized_in_guest for one in done.guests] == [True]
    assert (volume.get().size, volume.status) == (2, 'in-use')
    assert looks.capacity(guest, volume) == 2 * GIB
    assert volume.image.stat().st_size == 2 * GIB
    guest_io.write(volume.alias, 0x5A, 2 * GIB - MIB, 65536)
    assert volume.holds(0x5A, 2 * GIB - MIB)
    assert not volume_manager.extended(event).completed
    volume_manager.detach(guest.name, volume.id)
    assert volume.status == 'available'


def test_asked_for_here(
    volume_manager: VolumeManager,
    make_volume: VolumeMaker,
    nfs: NfsBackend,
    nova: FakeNova,
    guest: Guest,
) -> None:
    """Whoever comes first with the lock, request or event, tells Cinder."""
    nova.on_event = volume_manager.extended
    volume = make_volume(nfs)
    volume_manager.attach(guest.name, volume.id, SCSI)
    done = volume_manager.extend(volume.id, 2 * GIB)
    assert (done.size_before, done.size, done.completed) == (GIB, 2 * GIB, True)
    nova.wait_idle()
    assert nova.failures == []
    assert (volume.get().size, volume.status) == (2, 'in-use')
    assert looks.capacity(guest, volume) == 2 * GIB


def test_a_file_of_a_guest_that_does_not_run(
    volume_manager: VolumeManager,
    make_volume: VolumeMaker,
    nfs: NfsBackend,
    guest: Guest,
) -> None:
    volume = make_volume(nfs)
    volume_manager.attach(guest.name, volume.id, SCSI)
    with looks.stopped(guest):
        with pytest.raises(exception.ExtendVolumeFailed, match='does not run') as caught:
            volume_manager.extend(volume.id, 2 * GIB)
        assert caught.value.__notes__ == ['the volume is in-use again, with 1 GiB']
        assert (volume.get().size, volume.status) == (1, 'in-use')
        assert volume.image.stat().st_size == GIB
    done = volume_manager.extend(volume.id, 2 * GIB)
    assert (done.size, done.completed, volume.status) == (2 * GIB, True, 'in-use')


def test_cinder_hears_that_it_failed(
    volume_manager: VolumeManager,
    storage: BlockStorage,
    make_volume: VolumeMaker,
    nfs: NfsBackend,
    nova: FakeNova,
    guest: Guest,
) -> None:
    volume = make_volume(nfs)
    volume_manager.attach(guest.name, volume.id, SCSI)
    with looks.stopped(guest):
        storage.proxy.extend_volume(volume.id, 2)
        (event,) = looks.told(nova)
        with pytest.raises(exception.ExtendVolumeFailed, match='does not run'):
            volume_manager.extended(event)
        assert (volume.get().size, volume.status) == (1, 'error_extending')


def test_a_guest_that_is_gone(
    volume_manager: VolumeManager,
    storage: BlockStorage,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    nova: FakeNova,
    hypervisor: Hypervisor,
    libvirtd: PrivateLibvirtd,
) -> None:
    volume = make_volume(iscsi)
    with looks.Other(hypervisor, libvirtd) as other:
        volume_manager.attach(other.guest.name, volume.id, SCSI)
    storage.proxy.extend_volume(volume.id, 2)
    (event,) = looks.told(nova)
    with pytest.raises(exception.GuestNotFound):
        volume_manager.extended(event)
    assert volume.status == 'error_extending'
    volume_manager.detach(other.guest.uuid, volume.id)


def test_what_another_host_has_to_answer(
    volume_manager: VolumeManager,
    storage: BlockStorage,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    nova: FakeNova,
    guest: Guest,
    conf: cfg.ConfigOpts,
) -> None:
    volume = make_volume(iscsi)
    looks.attached_elsewhere(volume, instance=str(uuid.uuid4()))
    storage.proxy.extend_volume(volume.id, 2)
    (event,) = looks.told(nova)
    for server in (event['server_uuid'], guest.uuid):
        with pytest.raises((exception.GuestNotFound, exception.NotRecorded)):
            volume_manager.extended({**event, 'server_uuid': server})
    assert volume.status == 'extending'
    conf.set_override('cinder_share_timeout', 0.2, group='volumedrivers')
    with pytest.raises(exception.Busy, match='extending'):
        volume_manager.extend(volume.id, 2 * GIB)
    assert volume.status == 'extending'
    storage.proxy.complete_volume_extend(volume.id)
    wait_for(volume.get, 'in-use')


def test_interrupted_before_cinder_was_told(
    volume_manager: VolumeManager,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    guest: Guest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    volume = make_volume(iscsi)
    volume_manager.attach(guest.name, volume.id, SCSI)

    def interrupted(*args: object, **kwargs: object) -> typing.NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(extension, 'complete', interrupted)
    with pytest.raises(KeyboardInterrupt):
        volume_manager.extend(volume.id, 2 * GIB)
    assert volume.status == 'extending'
    monkeypatch.undo()
    done = volume_manager.extend(volume.id, 2 * GIB)
    assert (done.size, done.completed) == (2 * GIB, True)
    assert (volume.get().size, volume.status) == (2, 'in-use')
