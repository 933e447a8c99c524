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

"""A volume that several guests have: of this host, and of another one."""

from collections.abc import Iterator
from concurrent import futures
import threading
import time
import typing

from oslo_config import cfg
import pytest

from tests.functional.cinder import looks
from tests.functional.cinder.made_volumes import MadeVolume
from tests.functional.cinder.made_volumes import VolumeMaker
from tests.functional.cinder.made_volumes import wait_for
from volumedrivers import exception
from volumedrivers.attachment.block_storage.manager import VolumeManager
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.cinder import attachments
from volumedrivers.cinder.block_storage import BlockStorage
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing.cinder.backends import IscsiBackend
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.qemu_io import GuestIO

MIB = 2**20
SCSI = DiskRequest(bus='scsi')


@pytest.fixture(autouse=True)
def alone(volume_manager: VolumeManager) -> Iterator[None]:
    """Leave nothing to the next test."""
    yield
    looks.detach_all(volume_manager)


@pytest.fixture
def other(hypervisor: Hypervisor, libvirtd: PrivateLibvirtd) -> Iterator[looks.Other]:
    with looks.Other(hypervisor, libvirtd) as started:
        yield started


@pytest.fixture
def shared(storage: BlockStorage, make_volume: VolumeMaker, iscsi: IscsiBackend) -> MadeVolume:
    """A volume that several guests may have."""
    return make_volume(iscsi, volume_type=looks.multiattach_type(storage, iscsi))


@pytest.fixture
def patient(conf: cfg.ConfigOpts) -> None:
    """Wait for seconds only, where nothing will come."""
    conf.set_override('cinder_share_timeout', 0.3, group='volumedrivers')


@pytest.mark.parametrize('first', ['one', 'other'])
def test_each_lets_go_of_its_own(
    volume_manager: VolumeManager,
    storage: BlockStorage,
    shared: MadeVolume,
    guest: Guest,
    guest_io: GuestIO,
    other: looks.Other,
    first: str,
) -> None:
    volume = shared
    elsewhere = looks.attached_elsewhere(volume)
    here = [volume_manager.attach(each.name, volume.id, SCSI) for each in (guest, other.guest)]
    assert len({done.attachment_id for done in here} | {elsewhere.id}) == 3
    for each in (guest, other.guest):
        assert looks.disk(each, volume).shareable
    guest_io.write(volume.alias, 0x11, MIB, 65536)
    other.io.read(volume.alias, 0x11, MIB, 65536)

    pair = [(guest, guest_io), (other.guest, other.io)]
    (gone, _), (stays, stays_io) = pair if first == 'one' else reversed(pair)
    done = volume_manager.detach(gone.name, volume.id)
    assert done.still_used_by == (stays.name,)
    assert volume.status == 'in-use'
    assert len(volume.attachments()) == 2
    stays_io.write(volume.alias, 0x22, 2 * MIB, 65536)
    assert volume.holds(0x22, 2 * MIB)

    last = volume_manager.detach(stays.name, volume.id)
    assert last.still_used_by == ()
    assert volume.status == 'in-use'
    assert [one.id for one in volume.attachments()] == [elsewhere.id]
    storage.proxy.delete_attachment(elsewhere.id)
    assert volume.status == 'available'


def test_twice_into_the_same_guest(
    volume_manager: VolumeManager, shared: MadeVolume, guest: Guest
) -> None:
    done = volume_manager.attach(guest.name, shared.id, SCSI)
    for target in (None, 'sdx'):
        with pytest.raises(exception.AlreadyAttached):
            volume_manager.attach(guest.name, shared.id, DiskRequest(bus='scsi', target=target))
    assert [one.id for one in shared.attachments()] == [done.attachment_id]
    assert shared.status == 'in-use'


def test_one_that_only_one_may_have(
    volume_manager: VolumeManager, make_volume: VolumeMaker, iscsi: IscsiBackend, guest: Guest
) -> None:
    volume = make_volume(iscsi)
    elsewhere = looks.attached_elsewhere(volume)
    with pytest.raises(exception.WrongVolumeState, match='in-use in Cinder; expected available'):
        volume_manager.attach(guest.name, volume.id, SCSI)
    assert [one.id for one in volume.attachments()] == [elsewhere.id]
    assert volume_manager.context.reservations.find() == ()
    volume.proxy.delete_attachment(elsewhere.id)


def test_another_host_is_waited_for(
    volume_manager: VolumeManager, shared: MadeVolume, guest: Guest
) -> None:
    reserved = shared.proxy.create_attachment(shared.id)
    assert shared.status == 'reserved'

    def complete() -> None:
        time.sleep(0.5)
        connector = {'host': 'other-host', 'initiator': 'iqn.2020-01.test:other-host'}
        shared.proxy.update_attachment(reserved.id, connector=connector)
        shared.proxy.complete_attachment(reserved.id)

    thread = threading.Thread(target=complete)
    thread.start()
    volume_manager.attach(guest.name, shared.id, SCSI)
    thread.join()
    assert len(shared.attachments()) == 2
    assert shared.status == 'in-use'


@pytest.mark.usefixtures('patient')
def test_another_host_that_does_not_end(
    volume_manager: VolumeManager, shared: MadeVolume, guest: Guest
) -> None:
    reserved = shared.proxy.create_attachment(shared.id)
    with pytest.raises(exception.Busy, match='it is reserved in Cinder'):
        volume_manager.attach(guest.name, shared.id, SCSI)
    assert [one.id for one in shared.attachments()] == [reserved.id]
    assert volume_manager.context.reservations.find() == ()


def test_another_host_that_is_faster(
    volume_manager: VolumeManager,
    storage: BlockStorage,
    shared: MadeVolume,
    guest: Guest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It reserves between the look at the state and the request."""
    create = storage.proxy.create_attachment
    calls = []

    def faster(*args: typing.Any, **kwargs: typing.Any) -> typing.Any:
        calls.append(args)
        if len(calls) == 1:
            made = create(shared.id)
            threading.Timer(0.3, storage.proxy.delete_attachment, [made.id]).start()
        return create(*args, **kwargs)

    monkeypatch.setattr(storage.proxy, 'create_attachment', faster)
    done = volume_manager.attach(guest.name, shared.id, SCSI)
    assert len(calls) == 2
    assert [one.id for one in shared.attachments()] == [done.attachment_id]


def test_at_the_same_moment(
    volume_manager: VolumeManager, shared: MadeVolume, guest: Guest, other: looks.Other
) -> None:
    names = [guest.name, other.guest.name]
    with futures.ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda name: volume_manager.attach(name, shared.id, SCSI), names))
        assert {one.attachment_id for one in done} == {one.id for one in shared.attachments()}
        assert shared.status == 'in-use'
        list(pool.map(lambda name: volume_manager.detach(name, shared.id), names))
    assert shared.attachments() == []
    assert shared.status == 'available'


def test_detach_while_another_host_attaches(
    volume_manager: VolumeManager,
    storage: BlockStorage,
    shared: MadeVolume,
    guest: Guest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    volume_manager.attach(guest.name, shared.id, SCSI)
    begin = storage.proxy.begin_volume_detaching
    made = []

    def late(*args: typing.Any) -> None:
        made.append(shared.proxy.create_attachment(shared.id))
        begin(*args)

    # It is in use when it is looked at, and reserved when it is to be detached.
    monkeypatch.setattr(storage.proxy, 'begin_volume_detaching', late)
    volume_manager.detach(guest.name, shared.id)
    (reserved,) = made
    assert [one.id for one in shared.attachments()] == [reserved.id]
    assert shared.status == 'reserved'
    connector = {'host': 'other-host', 'initiator': 'iqn.2020-01.test:other-host'}
    shared.proxy.update_attachment(reserved.id, connector=connector)
    shared.proxy.complete_attachment(reserved.id)
    wait_for(shared.get, 'in-use')
    shared.proxy.delete_attachment(reserved.id)
    assert shared.status == 'available'


def test_all_of_them_grow(
    volume_manager: VolumeManager, shared: MadeVolume, guest: Guest, other: looks.Other
) -> None:
    elsewhere = looks.attached_elsewhere(shared)
    for each in (guest, other.guest):
        volume_manager.attach(each.name, shared.id, SCSI)
    done = volume_manager.extend(shared.id, 2 * looks.GIB)
    assert {one.guest for one in done.guests} == {guest.name, other.guest.name}
    assert [one.split()[0] for one in done.elsewhere] == [elsewhere.id]
    for each in (guest, other.guest):
        assert looks.capacity(each, shared) == 2 * looks.GIB


def test_more_than_cinder_shows_at_once(
    storage: BlockStorage, shared: MadeVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows a thousand, and does not say that there are more."""
    monkeypatch.setattr(attachments, '_FEW', 2)
    made = {looks.attached_elsewhere(shared).id for _ in range(3)}
    cfg.CONF.set_override('osapi_max_limit', 2)
    try:
        assert len(list(storage.proxy.attachments())) == 2
        assert {one.id for one in attachments.of_project(storage)} == made
    finally:
        cfg.CONF.clear_override('osapi_max_limit')
    for one in made:
        storage.proxy.delete_attachment(one)
