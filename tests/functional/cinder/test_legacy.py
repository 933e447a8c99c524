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

"""The calls from before Cinder had attachments: there and back, failures, and taking over."""

import typing

import pytest

from tests.functional.cinder.made_volumes import MadeVolume
from tests.functional.cinder.made_volumes import VolumeMaker
from tests.long import each_once
from volumedrivers import exception
from volumedrivers.attachment.block_storage import settle
from volumedrivers.attachment.block_storage.manager import VolumeManager
from volumedrivers.attachment.block_storage.reservation import Flow
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.libvirt.guest import Guest
from volumedrivers.testing.cinder import faults as failing
from volumedrivers.testing.cinder.backends import Backend
from volumedrivers.testing.cinder.backends import IscsiBackend
from volumedrivers.testing.cinder.backends import NfsBackend
from volumedrivers.testing.qemu_io import GuestIO

MIB = 2**20
SCSI = DiskRequest(bus='scsi')


def asked(faults: failing.Faults) -> list[str]:
    """Return the actions that changed something, in their order."""
    return [one.action for one in faults.seen('POST */action *')]


def recover(manager: VolumeManager) -> None:
    """Settle every row, as recover does."""
    for row in manager.context.reservations.find():
        with manager.context.lock(row.volume_id, 'recover', row.domain_name):
            settle.settle(manager.context, row)


def require_nothing(manager: VolumeManager, guest: Guest, volume: MadeVolume) -> None:
    """Cinder, journal and guest have nothing of it."""
    assert volume.status == 'available'
    assert volume.attachments() == []
    assert manager.context.reservations.find() == ()
    assert manager.context.host.journal.find() == ()
    assert guest.all_disks() == ()


def test_there_and_back(
    volume_manager: VolumeManager,
    make_volume: VolumeMaker,
    backend: Backend,
    guest: Guest,
    guest_io: GuestIO,
    faults: failing.Faults,
) -> None:
    volume = make_volume(backend)
    done = volume_manager.attach(guest.name, volume.name, SCSI, legacy=True)
    assert asked(faults) == ['os-reserve', 'os-initialize_connection', 'os-attach']
    assert volume.status == 'in-use'
    (attachment,) = volume.attachments()
    assert (attachment.id, attachment.status) == (done.attachment_id, 'attached')
    assert attachment.instance == guest.uuid
    assert not attachment.connector
    assert volume.get().attachments[0]['device'] == f'/dev/{done.target}'
    guest_io.write(volume.alias, 0x5A, MIB, 65536)
    assert volume.holds(0x5A, MIB)
    (row,) = volume_manager.context.reservations.find()
    assert (row.flow, row.is_settled) == (Flow.LEGACY, True)
    assert row.connector['host'] == 'this-host'
    recover(volume_manager)
    assert volume_manager.context.reservations.find() == (row,)

    faults.clear()
    gone = volume_manager.detach(guest.name, volume.name)
    assert asked(faults) == ['os-begin_detaching', 'os-terminate_connection', 'os-detach']
    assert gone.removed_from_guest
    require_nothing(volume_manager, guest, volume)
    assert volume.holds(0x5A, MIB)


def test_without_an_instance(
    volume_manager: VolumeManager,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    guest: Guest,
    conf: typing.Any,
) -> None:
    conf.set_override('cinder_instance', False, group='volumedrivers')
    volume = make_volume(iscsi)
    done = volume_manager.attach(guest.name, volume.name, SCSI, legacy=True)
    (attachment,) = volume.get().attachments
    assert (attachment['host_name'], attachment['server_id']) == ('this-host', None)
    assert attachment['attachment_id'] == done.attachment_id
    volume_manager.detach(guest.name, volume.name)
    require_nothing(volume_manager, guest, volume)


# What is refused is undone at once; what has no answer may be done or not.
ATTACHING = ('os-reserve', 'os-initialize_connection', 'os-attach')


FAULTS: dict[str, tuple[failing.Fault, type[Exception]]] = {
    '400': (failing.status(400), exception.CinderError),
    '403': (failing.status(403), exception.CinderForbidden),
    '500': (failing.status(500), exception.CinderUnavailable),
    'reset after': (failing.reset(after=True), exception.CinderUnavailable),
}


@pytest.mark.parametrize(('action', 'fault'), each_once(ATTACHING, FAULTS))
def test_each_step_of_attaching_fails(
    volume_manager: VolumeManager,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    guest: Guest,
    faults: failing.Faults,
    action: str,
    fault: str,
) -> None:
    volume = make_volume(iscsi)
    made, kind = FAULTS[fault]
    faults.clear()
    faults.add(f'POST */action {action}', made)
    with pytest.raises(kind):
        volume_manager.attach(guest.name, volume.name, SCSI, legacy=True)
    faults.clear()
    recover(volume_manager)
    require_nothing(volume_manager, guest, volume)


def test_an_answer_is_lost_once(
    volume_manager: VolumeManager,
    make_volume: VolumeMaker,
    nfs: NfsBackend,
    guest: Guest,
    faults: failing.Faults,
) -> None:
    volume = make_volume(nfs)
    for action in (*ATTACHING[1:], 'os-terminate_connection', 'os-detach'):
        faults.add(f'POST */action {action}', failing.reset(after=True), times=1)
    volume_manager.attach(guest.name, volume.name, SCSI, legacy=True)
    assert len(volume.attachments()) == 1
    volume_manager.detach(guest.name, volume.name)
    require_nothing(volume_manager, guest, volume)
    for action in ATTACHING[1:]:
        assert asked(faults).count(action) == 2


DETACHING = ('os-begin_detaching', 'os-terminate_connection', 'os-detach')


@pytest.mark.parametrize(
    ('action', 'fault'),
    each_once(DETACHING, FAULTS, wanted=lambda action, fault: fault != '400'),
)
def test_each_step_of_detaching_fails(
    volume_manager: VolumeManager,
    make_volume: VolumeMaker,
    nfs: NfsBackend,
    guest: Guest,
    faults: failing.Faults,
    action: str,
    fault: str,
) -> None:
    volume = make_volume(nfs)
    made, kind = FAULTS[fault]
    faults.clear()
    volume_manager.attach(guest.name, volume.name, SCSI, legacy=True)
    faults.add(f'POST */action {action}', made)
    with pytest.raises(kind):
        volume_manager.detach(guest.name, volume.name)
    faults.clear()
    if action == 'os-begin_detaching':
        # As it was, at rest, and rolled back where Cinder had begun.
        assert volume.status == 'in-use'
        (row,) = volume_manager.context.reservations.find()
        assert row.is_settled
        assert len(guest.disks()) == 1
        volume_manager.detach(guest.name, volume.name)
    else:
        # The guest has let go: it only goes on.
        assert guest.disks() == ()
        recover(volume_manager)
    require_nothing(volume_manager, guest, volume)


def test_a_guest_that_refuses_keeps_it(
    volume_manager: VolumeManager,
    make_volume: VolumeMaker,
    nfs: NfsBackend,
    guest: Guest,
    faults: failing.Faults,
) -> None:
    volume = make_volume(nfs)
    volume_manager.attach(guest.name, volume.name, DiskRequest(), legacy=True)
    # A guest without an operating system does not let go of virtio-blk.
    with pytest.raises(exception.DetachTimeout):
        volume_manager.detach(guest.name, volume.name, attempts=1, timeout=0.5)
    assert asked(faults)[-2:] == ['os-begin_detaching', 'os-roll_detaching']
    assert volume.status == 'in-use'
    assert len(volume.attachments()) == 1
    guest.hypervisor.domain(guest.uuid).destroy()
    volume_manager.detach(guest.name, volume.id)
    assert volume.status == 'available'
    assert volume.attachments() == []


def test_somebody_elses_reservation_stays(
    volume_manager: VolumeManager, make_volume: VolumeMaker, nfs: NfsBackend, guest: Guest
) -> None:
    volume = make_volume(nfs)
    volume.proxy.reserve_volume(volume.id)
    with pytest.raises(exception.Busy):
        volume_manager.attach(guest.name, volume.name, SCSI, legacy=True)
    assert volume.status == 'attaching'
    assert volume_manager.context.reservations.find() == ()
    volume.proxy.unreserve_volume(volume.id)
    require_nothing(volume_manager, guest, volume)


def test_taken_over(
    volume_manager: VolumeManager,
    make_volume: VolumeMaker,
    backend: Backend,
    guest: Guest,
    faults: failing.Faults,
) -> None:
    volume = make_volume(backend)
    volume_manager.attach(guest.name, volume.name, SCSI, legacy=True)
    # Somebody else's: this host has no row of it.
    (row,) = volume_manager.context.reservations.find()
    volume_manager.context.reservations.remove(row.key)
    (record,) = volume_manager.context.host.journal.find()
    volume_manager.context.host.journal.remove(record.key)
    faults.clear()
    volume_manager.detach(guest.name, volume.name)
    assert asked(faults) == [
        'os-initialize_connection',
        'os-begin_detaching',
        'os-terminate_connection',
        'os-detach',
    ]
    require_nothing(volume_manager, guest, volume)


def test_what_these_calls_cannot_do(
    volume_manager: VolumeManager, make_volume: VolumeMaker, nfs: NfsBackend, guest: Guest
) -> None:
    volume = make_volume(nfs)
    with pytest.raises(exception.InvalidOption, match='read-only'):
        volume_manager.attach(guest.name, volume.name, legacy=True, read_only=True)
    require_nothing(volume_manager, guest, volume)
