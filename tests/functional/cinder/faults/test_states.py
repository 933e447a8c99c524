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

"""Volumes in a state, with a name, or with an attachment that nobody expects."""

import dataclasses
import typing
import uuid

import pytest

from tests.functional.cinder.faults import agreement
from tests.functional.cinder.faults.agreement import Bench
from tests.functional.cinder.made_volumes import MadeVolume
from tests.functional.cinder.made_volumes import VolumeMaker
from tests.long import only
from volumedrivers import exception
from volumedrivers.attachment import failure
from volumedrivers.attachment.block_storage.manager import make_volume_manager
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.cinder import volumes
from volumedrivers.cinder.block_storage import BlockStorage
from volumedrivers.testing.cinder import faults as make
from volumedrivers.testing.cinder.backends import IscsiBackend
from volumedrivers.testing.cinder.embedded import EmbeddedCinder
from volumedrivers.testing.cinder.nova_events import FakeNova

ELSEWHERE = {
    'host': 'another-host',
    'initiator': 'iqn.2020-01.test:another-host',
    'ip': '127.0.0.1',
}


def refuse(
    bench: Bench, volume: MadeVolume, kind: type[exception.VolumeDriversError], words: str
) -> exception.VolumeDriversError:
    """Attach, and see it refused before anything is done."""
    before = bench.state(volume.id)
    bench.faults.clear()
    with pytest.raises(kind, match=words) as caught:
        bench.attach(volume)
    assert failure.of(caught.value) is None
    assert bench.faults.count('P*') == 0
    agreement.assert_told(caught.value)
    assert bench.state(volume.id) == before
    return caught.value


@pytest.mark.parametrize(
    ('request_', 'words'),
    [
        (DiskRequest(bus='nosuch'), 'nosuch'),
        (DiskRequest(bus='scsi', target='nonsense'), 'a target name, such as vdb'),
        (DiskRequest(bus='scsi', target='sda'), 'sda, which the guest has already'),
    ],
)
def test_no_place_for_it_in_the_guest(
    bench: Bench, make_volume: VolumeMaker, iscsi: IscsiBackend, request_: DiskRequest, words: str
) -> None:
    first, second = make_volume(iscsi), make_volume(iscsi)
    bench.attach(first)
    before = bench.state(second.id)
    bench.faults.clear()
    with pytest.raises(exception.InvalidDiskInfo, match=words) as caught:
        bench.manager.attach(bench.guest.name, second.name, request_)
    agreement.assert_told(caught.value)
    assert bench.faults.count('P*') == 0
    assert bench.state(second.id) == before
    bench.detach(first)


@pytest.mark.parametrize('status', only(['detaching'], ['creating', 'detaching', 'maintenance']))
def test_attach_in_a_state_that_passes(bench: Bench, volume: MadeVolume, status: str) -> None:
    bench.proxy.reset_volume_status(volume.id, status=status)
    refuse(bench, volume, exception.Busy, f'{volume.id} is busy: it is {status} in Cinder')


@pytest.mark.parametrize(
    'status', only(['extending'], ['deleting', 'extending', 'reserved', 'retyping'])
)
def test_attach_in_a_state_that_cannot_be_set(
    bench: Bench, volume: MadeVolume, status: str
) -> None:
    def change(said: typing.Any) -> None:
        for one in said.get('volumes') or [said['volume']]:
            one['status'] = status

    bench.faults.clear()
    bench.faults.add('GET /volumes/*', make.changed(change))
    with pytest.raises(exception.Busy, match=f'it is {status} in Cinder') as caught:
        bench.attach(volume)
    agreement.assert_told(caught.value)
    assert bench.faults.count('P*') == 0


@pytest.mark.parametrize('status', only(['error'], ['error', 'error_deleting']))
def test_attach_in_a_state_that_stays(bench: Bench, volume: MadeVolume, status: str) -> None:
    bench.proxy.reset_volume_status(volume.id, status=status)
    refuse(bench, volume, exception.WrongVolumeState, f'is {status} in Cinder; expected available')


def test_attach_what_another_host_has(bench: Bench, volume: MadeVolume) -> None:
    other = str(uuid.uuid4())
    made = bench.proxy.create_attachment(volume.id, instance=other, connector=ELSEWHERE)
    bench.proxy.complete_attachment(made)
    refuse(bench, volume, exception.WrongVolumeState, 'is in-use in Cinder')
    before = bench.state(volume.id)
    with pytest.raises(exception.NotRecorded):
        bench.detach(volume)
    assert bench.state(volume.id) == before


def test_attach_what_it_has_already(bench: Bench, volume: MadeVolume) -> None:
    bench.attach(volume)
    refuse(bench, volume, exception.AlreadyAttached, 'already, as sd')
    bench.detach(volume)


@pytest.mark.parametrize(
    ('status', 'kind'), [('error', exception.WrongVolumeState), ('maintenance', exception.Busy)]
)
def test_state_changes_before_it_is_reserved(
    bench: Bench, volume: MadeVolume, status: str, kind: type[exception.VolumeDriversError]
) -> None:
    def change(exchange: make.Exchange) -> make.Answer:
        with bench.faults.aside():
            bench.proxy.reset_volume_status(volume.id, status=status)
        return exchange.forward()

    bench.faults.add('POST /attachments', change)
    with pytest.raises(kind, match=status) as caught:
        bench.attach(volume)
    agreement.assert_told(caught.value)
    assert bench.rows() == ()
    assert volume.attachments() == []


def test_attachment_is_deleted_before_it_is_exported(bench: Bench, volume: MadeVolume) -> None:
    before = bench.state(volume.id)

    def change(exchange: make.Exchange) -> make.Answer:
        with bench.faults.aside():
            bench.proxy.delete_attachment(exchange.request.path.split('/')[2])
        return exchange.forward()

    bench.faults.add('P* /attachments/*', change)
    with pytest.raises(exception.CinderError, match='could not be found') as caught:
        bench.attach(volume)
    assert caught.value.exit_code == 1
    agreement.assert_told(caught.value)
    assert agreement.assert_agree(bench, volume.id, before, caught.value) == before


def test_attachment_is_deleted_before_it_is_complete(bench: Bench, volume: MadeVolume) -> None:
    before = bench.state(volume.id)

    def change(exchange: make.Exchange) -> make.Answer:
        with bench.faults.aside():
            bench.proxy.delete_attachment(exchange.request.path.split('/')[2])
        return exchange.forward()

    bench.faults.add('POST /attachments/* os-complete', change)
    with pytest.raises(exception.CinderError, match='could not be found') as caught:
        bench.attach(volume)
    agreement.assert_told(caught.value)
    # The guest has lost it again: it is nobody's in Cinder.
    assert agreement.assert_agree(bench, volume.id, before, caught.value) == before


def test_attachment_is_deleted_while_the_guest_has_it(bench: Bench, volume: MadeVolume) -> None:
    free = bench.state(volume.id)
    bench.attach(volume)
    (attachment,) = volume.attachments()
    bench.proxy.delete_attachment(attachment)
    before = bench.state(volume.id)
    (said,) = bench.recover()
    assert said.startswith('failed: ')
    assert 'it may give the volume to somebody else' in said
    assert bench.state(volume.id) == before
    bench.detach(volume)
    assert bench.state(volume.id) == free


def test_volume_is_deleted_while_the_guest_has_it(bench: Bench, volume: MadeVolume) -> None:
    bench.attach(volume)
    for attachment in volume.attachments():
        bench.proxy.delete_attachment(attachment)
    volume.delete()
    assert bench.state(volume.id).guest == (True, True)
    assert bench.recover()[0].startswith('failed: ')
    bench.detach(volume)
    state = bench.state(volume.id)
    assert state == agreement.State('none', (), 'none', 'none', (False, False), ())


@pytest.mark.parametrize(
    'status', only(['available', 'error'], ['available', 'error', 'detaching', 'maintenance'])
)
def test_detach_in_whatever_state(bench: Bench, volume: MadeVolume, status: str) -> None:
    free = bench.state(volume.id)
    bench.attach(volume)
    bench.proxy.reset_volume_status(volume.id, status=status)
    bench.detach(volume)
    assert bench.state(volume.id) in (free, dataclasses.replace(free, status=status))


def test_only_a_service_may_take_it_away(
    bench: Bench, volume: MadeVolume, cinder: EmbeddedCinder, nova: FakeNova
) -> None:
    free = bench.state(volume.id)
    bench.attach(volume)
    before = bench.state(volume.id)
    # The compute API says that the guest has it.
    nova.attachments[bench.guest.uuid, volume.id] = volume.attachments()[0].id
    cinder.is_service = False
    try:
        with pytest.raises(exception.ServiceRoleNeeded) as caught:
            bench.detach(volume)
        assert '[service_user]' in agreement.assert_told(caught.value)
        now = agreement.assert_agree(bench, volume.id, before, caught.value)
        assert (now.guest, now.record, now.reservation) == ((False, False), 'none', 'unfinished')
        (said,) = bench.recover()
        assert said.startswith('failed: ')
        assert bench.state(volume.id) == now
    finally:
        cinder.is_service = True
    agreement.assert_settled(bench, volume, free)


def test_attachment_of_another_host_is_not_taken_over(bench: Bench, volume: MadeVolume) -> None:
    made = bench.proxy.create_attachment(volume.id, instance=bench.guest.uuid, connector=ELSEWHERE)
    bench.proxy.complete_attachment(made)
    bench.faults.clear()
    before = bench.state(volume.id)
    with pytest.raises(
        exception.AttachedElsewhere, match=r'of host another-host, not of'
    ) as caught:
        bench.detach(volume)
    agreement.assert_told(caught.value)
    assert bench.faults.count('P*') == bench.faults.count('DELETE *') == 0
    assert bench.state(volume.id) == before


def test_connector_without_an_initiator(
    bench: Bench,
    volume: MadeVolume,
    conf: typing.Any,
    storage: BlockStorage,
    manager: AttachmentManager,
) -> None:
    before = bench.state(volume.id)
    other = make_volume_manager(conf, storage, manager, connector=lambda: {'host': 'this-host'})
    with pytest.raises(exception.VolumeDriversError) as caught:
        other.attach(bench.guest.name, volume.name)
    assert isinstance(caught.value, exception.CinderError), type(caught.value)
    assert 'initiator' in str(caught.value)
    agreement.assert_told(caught.value)
    assert agreement.assert_agree(bench, volume.id, before, caught.value) == before


def test_another_cinder_than_the_one_it_is_of(bench: Bench, volume: MadeVolume) -> None:
    free = bench.state(volume.id)
    bench.attach(volume)
    (row,) = bench.rows()
    elsewhere = dataclasses.replace(row, endpoint='http://192.0.2.1/volume/v3')
    bench.manager.context.reservations.put(elsewhere)
    before = bench.state(volume.id)
    for call in (bench.detach, bench.attach):
        bench.faults.clear()
        with pytest.raises(exception.CinderNotConfigured, match=r'192\.0\.2\.1') as caught:
            call(volume)
        agreement.assert_told(caught.value)
        assert bench.faults.count('P*') == bench.faults.count('DELETE *') == 0
        assert bench.state(volume.id) == before
    bench.recover()
    assert bench.state(volume.id) == before
    bench.manager.context.reservations.put(row)
    bench.detach(volume)
    assert bench.state(volume.id) == free


NAMES = (
    'Ümläut 日本語 🦆',
    '--force',
    '-h',
    '..',
    '../volumes',
    'a/b',
    'a?name=b#c',
    '%2e%2e',
    'quote\' or "1"=\'1',
    'vda',
    'None',
    '0',
    'e9a8a3b2-2b0c-4e73-9f3b-6c2f6d1f0a11',
    'x' * 255,
)


def test_names(bench: Bench, volume: MadeVolume) -> None:
    for name in NAMES:
        bench.proxy.update_volume(volume.id, name=name)
        assert volumes.find(bench.manager.context.storage, name).id == volume.id
    free = bench.state(volume.id)
    for name in NAMES[:2]:
        bench.proxy.update_volume(volume.id, name=name)
        assert bench.attach_named(name) == volume.id
        assert bench.manager.detach(bench.guest.name, name).volume_id == volume.id
        assert bench.state(volume.id) == free


def test_no_name(bench: Bench, make_volume: VolumeMaker, iscsi: IscsiBackend) -> None:
    make_volume(iscsi, name='')
    for name in ('', 'no such volume', str(uuid.uuid4())):
        with pytest.raises(exception.VolumeNotFound) as caught:
            bench.attach_named(name)
        agreement.assert_told(caught.value)


def test_two_volumes_of_one_name(
    bench: Bench, make_volume: VolumeMaker, iscsi: IscsiBackend
) -> None:
    first, second = make_volume(iscsi, name='data'), make_volume(iscsi, name='data')
    with pytest.raises(exception.VolumeNotUnique, match='give its id') as caught:
        bench.attach_named('data')
    agreement.assert_told(caught.value)
    with pytest.raises(exception.VolumeNotUnique, match='give its id'):
        bench.manager.detach(bench.guest.name, 'data')
    free = bench.state(first.id), bench.state(second.id)
    for volume in (first, second):
        bench.attach_named(volume.id)
    with pytest.raises(exception.VolumeNotUnique, match='give its id'):
        bench.manager.detach(bench.guest.name, 'data')
    bench.detach(second)
    # Now the guest has only one that is called so.
    assert bench.manager.detach(bench.guest.name, 'data').volume_id == first.id
    assert (bench.state(first.id), bench.state(second.id)) == free


def test_name_that_is_the_id_of_another_volume(
    bench: Bench, volume: MadeVolume, make_volume: VolumeMaker, iscsi: IscsiBackend
) -> None:
    other = make_volume(iscsi, name=volume.id)
    assert bench.attach_named(volume.id) == volume.id
    assert other.status == 'available'
    assert bench.manager.detach(bench.guest.name, volume.id).volume_id == volume.id


def test_renamed_while_attached(bench: Bench, volume: MadeVolume) -> None:
    free = bench.state(volume.id)
    for name in (volume.name, 'renamed'):
        bench.proxy.update_volume(volume.id, name='before')
        bench.attach_named('before')
        bench.proxy.update_volume(volume.id, name=name)
        assert bench.manager.detach(bench.guest.name, name).volume_id == volume.id
    bench.attach_named('renamed')
    bench.proxy.update_volume(volume.id, name='again')
    # As it was called when it was attached.
    assert bench.manager.detach(bench.guest.name, 'renamed').volume_id == volume.id
    assert bench.state(volume.id) == free


def test_name_that_has_passed_to_another_volume(
    bench: Bench, volume: MadeVolume, make_volume: VolumeMaker, iscsi: IscsiBackend
) -> None:
    other = make_volume(iscsi, name='other')
    free = bench.state(volume.id), bench.state(other.id)
    bench.proxy.update_volume(volume.id, name='first')
    for each in (volume, other):
        bench.attach_named(each.id)
    bench.proxy.update_volume(volume.id, name='second')
    bench.proxy.update_volume(other.id, name='first')
    with pytest.raises(exception.VolumeNotUnique, match='give its id'):
        bench.manager.detach(bench.guest.name, 'first')
    bench.detach(other)
    # The guest has one that was called so, and not the one that is.
    with pytest.raises(exception.VolumeNotUnique, match='give its id'):
        bench.manager.detach(bench.guest.name, 'first')
    assert bench.manager.detach(bench.guest.name, 'second').volume_id == volume.id
    assert (bench.state(volume.id), bench.state(other.id)) == free
