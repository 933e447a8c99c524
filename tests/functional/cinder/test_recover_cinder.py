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

"""Recover and audit of Cinder's side, beside other processes, after a reboot, without Cinder."""

from collections.abc import Iterator
import pathlib
import threading
import typing

import pytest

from tests.functional import crash_zygote
from tests.functional.cinder import crash_child
from tests.functional.cinder.crash_bench import CrashBench
from tests.functional.cinder.made_volumes import MadeVolume
from volumedrivers import exception
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing.cinder import faults as kinds_of_faults
from volumedrivers.testing.cinder.embedded import EmbeddedCinder
from volumedrivers.testing.cinder.faults import Faults

# Who comes second is told one of these; of another process as its name.
SECOND = (
    exception.WrongVolumeState,
    exception.AlreadyAttached,
    exception.LockHeld,
    exception.Busy,
)


@pytest.fixture(scope='module')
def bench(
    mounts: pathlib.Path,
    hypervisor: Hypervisor,
    shared_cinder: EmbeddedCinder,
    all_faults: Faults,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[CrashBench]:
    if not shared_cinder.is_running:
        shared_cinder.start()
    directory = tmp_path_factory.mktemp('recover')
    made = CrashBench(directory, mounts, shared_cinder, all_faults, hypervisor)
    yield made
    made.close()


@pytest.fixture(params=['nfs', 'iscsi'])
def volume(request: pytest.FixtureRequest, bench: CrashBench) -> Iterator[MadeVolume]:
    found = bench.volumes[request.param]
    yield found
    bench.faults.clear()
    bench.require_nothing(found, 'at the end')


@pytest.fixture
def lun(bench: CrashBench) -> Iterator[MadeVolume]:
    found = bench.volumes['iscsi']
    yield found
    bench.faults.clear()
    bench.require_nothing(found, 'at the end')


def kinds(bench: CrashBench) -> list[str]:
    return [one.kind for one in bench.manager.audit()]


# two processes


def test_recover_beside_running_operations(bench: CrashBench, volume: MadeVolume) -> None:
    """It takes nothing from whoever is at it."""
    (other,) = [one for one in bench.volumes.values() if one is not volume]
    seen: set[str] = set()
    found: set[str] = set()
    bench.begin(*[['attach', volume.id], ['detach', volume.id]] * 3)
    while bench.is_at_it():
        # With what this process does meanwhile, nothing is the matter.
        bench.perform('attach', other.id)
        seen.update(one.action for one in bench.manager.recover())
        found.update(kinds(bench))
        bench.perform('detach', other.id)
        seen.update(one.action for one in bench.manager.recover())
    ended = bench.end()
    assert 'error' not in ended, ended
    assert seen <= {'running'}
    assert found <= {'running'}
    bench.require_nothing(other, 'beside')


def test_attached_by_two_processes(bench: CrashBench, volume: MadeVolume) -> None:
    """The lock lets one in, and the other learns that it is attached."""
    for _ in range(2):
        bench.begin(['attach', volume.id])
        mine = None
        try:
            bench.perform('attach', volume.id)
        except SECOND as error:
            mine = type(error).__name__
        said = bench.end().get('error', '')
        theirs = said.partition(':')[0] or None
        assert (mine is None) != (theirs is None), (mine, said)
        assert (mine or theirs) in {one.__name__ for one in SECOND}, said
        bench.require_attached(volume, 'by one of two')
        assert kinds(bench) == []
        bench.perform('detach', volume.id)


def test_detached_by_two_processes(bench: CrashBench, volume: MadeVolume) -> None:
    bench.perform('attach', volume.id)
    bench.begin(['detach', volume.id])
    mine = None
    try:
        bench.perform('detach', volume.id)
    except exception.NotRecorded as error:
        mine = type(error).__name__
    said = bench.end().get('error', '')
    assert sorted([mine or '', said.partition(':')[0]]) == ['', 'NotRecorded'], said


def test_attached_by_two_hosts(bench: CrashBench, lun: MadeVolume) -> None:
    """Cinder lets one of them in; the other leaves nothing."""
    guest = guests.start_guest(bench.hypervisor, 'of-the-other', persistent=True)
    state = bench.directory / 'other'
    conf = crash_zygote.make_conf(
        {
            **bench.options,
            'state_path': str(state),
            'lock_path': str(state / 'lock'),
            'host': 'other-host',
        }
    )
    other = crash_child.make_manager(conf, bench.hypervisor, bench.storage, bench.exports)
    errors: list[BaseException] = []

    def attach() -> None:
        try:
            other.attach(guest.uuid, lun.id, DiskRequest(bus='scsi'))
        except SECOND as error:
            errors.append(error)

    try:
        for _ in range(3):
            thread = threading.Thread(target=attach)
            thread.start()
            try:
                bench.perform('attach', lun.id)
            except SECOND as error:
                errors.append(error)
            thread.join()
            assert len(errors) == 1, errors
            errors.clear()
            rows = bench.manager.context.reservations.find(), other.context.reservations.find()
            assert sorted(map(len, rows)) == [0, 1]
            (attachment,) = lun.attachments()
            winner, loser = (bench.manager, other) if rows[0] else (other, bench.manager)
            assert winner.context.reservations.find()[0].attachment_id == attachment.id
            assert loser.context.host.journal.find() == ()
            winner.detach((bench.guest if rows[0] else guest).uuid, lun.id)
    finally:
        guests.remove_guest(guest)


# a reboot


def test_reboot(bench: CrashBench, volume: MadeVolume) -> None:
    """Cinder knows how the volume is connected, with what the journal does not have."""
    with bench.boot('the one before'):
        bench.perform('attach', volume.id)
        with bench.hypervisor.translated('stop the guest'):
            bench.hypervisor.domain(bench.guest.uuid).destroy()
    assert [one.action for one in bench.manager.recover()] == ['reconnected']
    assert bench.manager.recover() == ()
    with bench.hypervisor.translated('start the guest'):
        bench.hypervisor.domain(bench.guest.uuid).createWithFlags(1)
    bench.require_attached(volume, 'after a reboot')
    assert kinds(bench) == []
    bench.perform('detach', volume.id)


def test_reboot_and_the_guest_is_gone(bench: CrashBench, volume: MadeVolume) -> None:
    guest = guests.start_guest(bench.hypervisor, 'transient')
    with bench.boot('the one before'):
        bench.manager.attach(guest.uuid, volume.id, DiskRequest(bus='scsi'))
        guests.remove_guest(guest)
    outcomes = bench.manager.recover()
    assert [one.action for one in outcomes] == ['finished', 'finished'], outcomes
    assert bench.manager.recover() == ()


# what Cinder has, and the host has not; and the other way round


def test_lost(bench: CrashBench, volume: MadeVolume) -> None:
    bench.perform('attach', volume.id)
    (attachment,) = volume.attachments()
    bench.storage.proxy.delete_attachment(attachment.id)
    for _ in range(2):
        (outcome,) = bench.manager.recover()
        assert outcome.action == 'failed'
        assert attachment.id in outcome.detail
    assert [disk.alias for disk in bench.guest.disks()] == [volume.alias]
    (found,) = bench.manager.audit()
    assert found.kind == 'attachment-lost'
    bench.perform('detach', volume.id)


def test_not_backed(bench: CrashBench, volume: MadeVolume) -> None:
    """Taken away from guest and host alone."""
    bench.perform('attach', volume.id)
    bench.manager.context.attachments.detach(bench.guest.uuid, volume.id)
    (found,) = bench.manager.audit()
    assert found.kind == 'not-released'
    (outcome,) = bench.manager.recover()
    assert (outcome.action, outcome.detail) == ('finished', 'Cinder has the volume back')
    assert bench.manager.recover() == ()


def test_audit(bench: CrashBench, lun: MadeVolume) -> None:
    proxy: typing.Any = bench.storage.proxy
    bench.perform('attach', lun.id)
    bench.faults.clear()
    assert kinds(bench) == []
    assert len(bench.faults.seen('GET /attachments*')) == 1
    assert len(bench.faults.seen('GET /volumes*')) == 1

    proxy.begin_volume_detaching(lun.id)
    assert kinds(bench) == ['detaching']
    proxy.abort_volume_detaching(lun.id)

    other = bench.volumes['nfs']
    stray = proxy.create_attachment(other.id, instance=bench.guest.uuid)
    (found,) = bench.manager.audit()
    assert (found.kind, found.volume_id) == ('stray-attachment', other.id)
    proxy.update_attachment(stray.id, connector=crash_child.CONNECTOR)
    proxy.complete_attachment(stray.id)
    (found,) = bench.manager.audit()
    assert found.kind == 'stray-attachment'
    assert 'this-host' in found.detail
    proxy.delete_attachment(stray.id)

    bench.faults.add('GET *', kinds_of_faults.reset())
    (found,) = bench.manager.audit()
    assert found.kind == 'unknown'
    bench.faults.clear()
    bench.perform('detach', lun.id)


def test_audit_of_a_read_only_volume(bench: CrashBench, lun: MadeVolume) -> None:
    proxy: typing.Any = bench.storage.proxy
    proxy.set_volume_readonly(lun.id, True)
    bench.perform('attach', lun.id)
    assert bench.guest.disks()[0].readonly
    assert kinds(bench) == []
    bench.perform('detach', lun.id)
    proxy.set_volume_readonly(lun.id, False)


def test_grown_in_cinder_only(bench: CrashBench, lun: MadeVolume) -> None:
    bench.perform('attach', lun.id)
    size = lun.get().size
    bench.storage.proxy.extend_volume(lun.id, size + 1)
    bench.storage.proxy.wait_for_status(lun.get(), 'in-use', interval=0.05, wait=20)
    found = bench.manager.audit()
    assert [one.kind for one in found] == ['not-extended'], found
    bench.manager.context.attachments.extend(bench.guest.uuid, lun.id, (size + 1) * 2**30)
    assert kinds(bench) == []
    bench.perform('detach', lun.id)


# without Cinder


def test_cinder_cannot_be_reached(bench: CrashBench) -> None:
    """One row tries; guest and host are recovered all the same."""
    volumes = list(bench.volumes.values())
    for volume in volumes:
        bench.perform('attach', volume.id)
    bench.faults.add('DELETE /attachments/*', kinds_of_faults.status(503))
    for volume in volumes:
        with pytest.raises(exception.CinderUnavailable):
            bench.perform('detach', volume.id)
    bench.faults.clear()
    bench.faults.add('*', kinds_of_faults.reset())
    outcomes = bench.manager.recover()
    assert [one.action for one in outcomes] == ['failed'] * len(volumes)
    assert all('when Cinder can be asked' in one.detail for one in outcomes)
    # One question, as often as it may be repeated.
    assert len(bench.faults.seen()) == bench.storage.retries + 1
    bench.faults.clear()
    assert [one.action for one in bench.manager.recover()] == ['finished'] * len(volumes)
    assert bench.manager.recover() == ()
    for volume in volumes:
        bench.require_nothing(volume, 'at the end')
