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

"""A volume whose back end has moved: what guest, host and Cinder have of it stays."""

from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
import itertools
import pathlib
import time
import typing

import libvirt
from oslo_config import cfg
import pytest

from tests.functional.cinder.looks import multiattach_type
from tests.functional.cinder.made_volumes import MadeVolume
from tests.functional.cinder.made_volumes import VolumeMaker
from tests.long import each_once
from volumedrivers import exception
from volumedrivers.attachment import failure
from volumedrivers.attachment import steps
from volumedrivers.attachment.block_storage.manager import VolumeManager
from volumedrivers.attachment.block_storage.manager import make_volume_manager
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.cinder.block_storage import BlockStorage
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing.cinder import bound_share
from volumedrivers.testing.cinder.backends import IscsiBackend
from volumedrivers.testing.cinder.backends import NfsBackend
from volumedrivers.testing.cinder.embedded import EmbeddedCinder
from volumedrivers.testing.cinder.faults import Faults
from volumedrivers.testing.cinder.faults import reset
from volumedrivers.testing.cinder.faults import status
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.qemu_io import GuestIO

MIB = 2**20
SCSI = DiskRequest(bus='scsi')
SHARED_ID = 'c0ffee00-0000-4000-8000-0000000000b2'
EXPORTS = ('127.0.0.1:/one', '127.0.0.2:/one')
_numbers = itertools.count(1)


class Killed(BaseException):
    """The process has ended."""


@pytest.fixture
def make_guest(hypervisor: Hypervisor) -> Iterator[Callable[[], Guest]]:
    made: list[Guest] = []

    def make() -> Guest:
        made.append(guests.start_guest(hypervisor, f'refreshed{next(_numbers)}', persistent=True))
        return made[-1]

    yield make
    for guest in made:
        guests.remove_guest(guest)


def stop(guest: Guest) -> None:
    guest.hypervisor.domain(guest.uuid).destroy()


def start(guest: Guest) -> None:
    guest.hypervisor.domain(guest.uuid).createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)


def io_of(guest: Guest, libvirtd: PrivateLibvirtd) -> GuestIO:
    return GuestIO(guest, lambda: libvirtd.guest_log(guest.name))


def defined(guest: Guest, volume: MadeVolume) -> Disk:
    """The disk of the next start."""
    return next(disk for disk in guest.disks(persistent=True) if disk.alias == volume.alias)


def portal_of(disk: Disk) -> tuple[str | None, int | None]:
    assert disk.source is not None
    (host,) = disk.source.hosts
    return host.name, host.port


class Watch:
    """Looks after each step whether Cinder has the volume reserved for the guest."""

    def __init__(self, volume: MadeVolume) -> None:
        self.volume = volume
        self.attachments = {one.id for one in volume.attachments()}
        self.states: set[str] = set()

    def __call__(self, operation: str, step: str, moment: str) -> None:
        self.states.add(self.volume.status)
        assert {one.id for one in self.volume.attachments()} == self.attachments


def watched(manager: VolumeManager, watch: Watch) -> None:
    object.__setattr__(manager.context.host, 'observer', watch)


def moved(
    cinder: EmbeddedCinder,
    conf: cfg.ConfigOpts,
    manager: AttachmentManager,
    *volumes: MadeVolume,
) -> VolumeManager:
    """Let Cinder start anew: the exports have other ports and passwords then."""
    cinder.stop()
    cinder.start()
    storage = BlockStorage(cinder.connection, retries=3, pause=0.05)
    for volume in volumes:
        volume.proxy = storage.proxy
    return make_volume_manager(conf, storage, manager)


def test_portal_and_password_have_changed(
    volume_manager: VolumeManager,
    manager: AttachmentManager,
    storage: BlockStorage,
    conf: cfg.ConfigOpts,
    cinder: EmbeddedCinder,
    iscsi: IscsiBackend,
    make_volume: VolumeMaker,
    make_guest: Callable[[], Guest],
    libvirtd: PrivateLibvirtd,
) -> None:
    """One guest runs, one is stopped, and they share a volume besides (W17, W18)."""
    running, stopped = make_guest(), make_guest()
    ours, theirs = make_volume(iscsi), make_volume(iscsi)
    shared = make_volume(iscsi, volume_type=multiattach_type(storage, iscsi))
    for guest, volume in (
        (running, ours),
        (running, shared),
        (stopped, theirs),
        (stopped, shared),
    ):
        volume_manager.attach(guest.name, volume.name, SCSI)
    io_of(running, libvirtd).write(ours.alias, 0x11, MIB, 65536)
    io_of(stopped, libvirtd).write(theirs.alias, 0x22, MIB, 65536)
    stop(stopped)
    before = {
        (guest.name, volume.id): defined(guest, volume)
        for guest, volume in ((running, ours), (stopped, theirs), (running, shared))
    }
    live = next(disk for disk in running.disks() if disk.alias == ours.alias).to_xml()

    volume_manager = moved(cinder, conf, manager, ours, theirs, shared)
    for guest, volume in ((running, ours), (stopped, theirs)):
        watch = Watch(volume)
        watched(volume_manager, watch)
        done = volume_manager.refresh(guest.name, volume.name)
        assert {'in-use'} <= watch.states <= {'in-use', 'attaching'}
        assert 'target_portal' in done.changed
        (text,) = done.next_start if guest is running else done.now[:1]
        was, now = before[guest.name, volume.id], defined(guest, volume)
        assert portal_of(now) != portal_of(was)
        assert str(portal_of(now)[1]) in text
        # Nothing else of the disk is another one.
        for name in ('address', 'target', 'serial', 'driver', 'boot_order', 'shareable'):
            assert getattr(now, name) == getattr(was, name)
        assert volume.status == 'in-use'
        row = volume_manager.context.host.journal.get(f'{guest.uuid}/{volume.id}')
        assert row is not None
        assert row.connection_info['data']['target_portal'].endswith(f':{portal_of(now)[1]}')
    assert next(disk for disk in running.disks() if disk.alias == ours.alias).to_xml() == live

    other = defined(stopped, shared).to_xml()
    volume_manager.refresh(running.name, shared.name)
    assert defined(running, shared).shareable
    assert portal_of(defined(running, shared)) != portal_of(before[running.name, shared.id])
    assert defined(stopped, shared).to_xml() == other
    assert len(shared.attachments()) == 2
    volume_manager.refresh(stopped.name, shared.name)

    stop(running)
    for guest, volume, pattern in ((running, ours, 0x11), (stopped, theirs, 0x22)):
        start(guest)
        io_of(guest, libvirtd).read(volume.alias, pattern, MIB, 65536)
        io_of(guest, libvirtd).write(volume.alias, 0x33, 2 * MIB, 65536)
        assert volume.holds(0x33, 2 * MIB)

    for guest, volume in (
        (running, ours),
        (running, shared),
        (stopped, theirs),
        (stopped, shared),
    ):
        done_ = volume_manager.detach(guest.name, volume.id)
        assert done_.leftovers == ()
        assert running.hypervisor.secrets.find('iscsi', f'{volume.id}/{guest.uuid}') is None
    assert [volume.status for volume in (ours, theirs, shared)] == ['available'] * 3
    assert manager.context.journal.find() == ()
    assert volume_manager.context.reservations.find() == ()


def test_nothing_has_changed(
    volume_manager: VolumeManager,
    nfs: NfsBackend,
    make_volume: VolumeMaker,
    guest: Guest,
) -> None:
    volume = make_volume(nfs)
    volume_manager.attach(guest.name, volume.name, SCSI)
    before = [disk.to_xml() for disk in guest.all_disks()]
    row = volume_manager.context.host.journal.find()[0]
    done = volume_manager.refresh(guest.name, 'sda')
    assert (done.changed, done.now, done.next_start, done.left) == ((), (), (), ())
    assert list(done.seconds) == ['export', 'complete', 'record']
    assert [disk.to_xml() for disk in guest.all_disks()] == before
    after = volume_manager.context.host.journal.find()[0]
    assert (after.volume, after.source, after.boot_id) == (row.volume, row.source, row.boot_id)
    assert volume.status == 'in-use'
    volume_manager.detach(guest.name, volume.id)


def test_who_may_only_read_stays_one(
    volume_manager: VolumeManager,
    iscsi: IscsiBackend,
    make_volume: VolumeMaker,
    guest: Guest,
) -> None:
    volume = make_volume(iscsi)
    volume_manager.attach(guest.name, volume.name, SCSI, read_only=True)
    (before,) = volume.attachments()
    done = volume_manager.refresh(guest.name, volume.id)
    assert (done.mode, done.now) == ('ro', ('the secret was renewed',))
    (after,) = volume.attachments()
    assert (after.id, after.instance) == (before.id, before.instance)
    assert volume.proxy.get_attachment(after.id).attach_mode == 'ro'
    (row,) = volume_manager.context.host.journal.find()
    assert row.connection_info['data']['access_mode'] == 'ro'
    assert defined(guest, volume).readonly
    volume_manager.detach(guest.name, volume.id)


def test_by_the_calls_from_before_attachments(
    volume_manager: VolumeManager,
    iscsi: IscsiBackend,
    make_volume: VolumeMaker,
    guest: Guest,
) -> None:
    volume = make_volume(iscsi)
    volume_manager.attach(guest.name, volume.name, SCSI, legacy=True)
    done = volume_manager.refresh(guest.name, volume.id)
    assert done.now == ('the secret was renewed',)
    assert volume.status == 'in-use'
    assert [one.id for one in volume.attachments()] == [done.attachment_id]
    volume_manager.detach(guest.name, volume.id)
    assert volume.status == 'available'


def test_volume_in_another_state_is_refused(
    volume_manager: VolumeManager,
    storage: BlockStorage,
    nfs: NfsBackend,
    make_volume: VolumeMaker,
    guest: Guest,
) -> None:
    """Cinder itself would say in-use of it afterwards, whatever it is at."""
    volume = make_volume(nfs)
    with pytest.raises(exception.NotRecorded):
        volume_manager.refresh(guest.name, volume.id)
    volume_manager.attach(guest.name, volume.name, SCSI)
    storage.proxy.begin_volume_detaching(volume.id)
    with pytest.raises(exception.Busy, match='detaching'):
        volume_manager.refresh(guest.name, volume.id)
    assert volume.status == 'detaching'
    storage.proxy.abort_volume_detaching(volume.id)
    volume_manager.refresh(guest.name, volume.id)
    volume_manager.detach(guest.name, volume.id)


def test_share_has_another_name(
    volume_manager: VolumeManager,
    manager: AttachmentManager,
    storage: BlockStorage,
    conf: cfg.ConfigOpts,
    nfs: NfsBackend,
    hypervisor: Hypervisor,
    make_volume: VolumeMaker,
    guest: Guest,
    guest_io: GuestIO,
) -> None:
    """While the guest runs it is refused; when it is stopped it is done."""
    volume = make_volume(nfs)
    volume_manager.attach(guest.name, volume.name, SCSI)
    guest_io.write(volume.alias, 0x44, MIB, 65536)
    row = manager.context.journal.find()[0]
    raw: dict[str, typing.Any] = {**row.connection_info, 'data': {**row.connection_info['data']}}
    raw['data']['export'] = '127.0.0.2:/export'
    raw['data']['access_mode'] = 'rw'
    info = ConnectionInfo.parse(raw)
    both = bound_share.make_manager(
        conf, hypervisor, {nfs.export: nfs.files, '127.0.0.2:/export': nfs.files}
    )
    before = defined(guest, volume)
    with pytest.raises(exception.RefreshRefused, match='stop the guest'):
        both.refresh(guest.name, volume.id, info)
    assert defined(guest, volume).to_xml() == before.to_xml()
    assert manager.context.journal.find()[0] == row

    stop(guest)
    done = both.refresh(guest.name, volume.id, info)
    assert done.changed == ('export',)
    now = defined(guest, volume)
    assert now.path != before.path
    assert (now.address, now.serial) == (before.address, before.serial)
    start(guest)
    guest_io.read(volume.alias, 0x44, MIB, 65536)
    assert not pathlib.Path(before.path or '').exists()

    stop(guest)
    # It is not the file that is asked for: nothing is changed.
    other = make_volume(nfs)
    raw['data']['name'] = f'volume-{other.id}'
    with pytest.raises(exception.IdentityMismatch):
        both.refresh(guest.name, volume.id, ConnectionInfo.parse(raw))
    assert defined(guest, volume).to_xml() == now.to_xml()
    both.recover()
    both.refresh(guest.name, volume.id, info)
    start(guest)
    guest_io.read(volume.alias, 0x44, MIB, 65536)
    make_volume_manager(conf, storage, both).detach(guest.name, volume.id)
    assert volume.status == 'available'
    assert manager.context.registry.context.shares.idle() == ()


@pytest.mark.parametrize(
    ('moment', 'step'),
    each_once(['before', 'after'], ['identify', 'disconnect', 'connect', 'define', 'clean']),
)
def test_killed_while_a_share_has_another_name(
    conf: cfg.ConfigOpts,
    hypervisor: Hypervisor,
    mounts: pathlib.Path,
    tmp_path: pathlib.Path,
    guest: Guest,
    guest_io: GuestIO,
    step: str,
    moment: str,
) -> None:
    """The guest is stopped; its file is on the one share or the other, and nothing is lost."""
    tmp_path.chmod(0o755)
    files = tmp_path / 'share'
    files.mkdir()
    (files / 'volume').write_bytes(bytes(16 * MIB))
    old, new = (
        ConnectionInfo.parse(
            {
                'driver_volume_type': 'nfs',
                'serial': SHARED_ID,
                'data': {'export': export, 'name': 'volume', 'format': 'raw'},
            }
        )
        for export in EXPORTS
    )
    manager = bound_share.make_manager(conf, hypervisor, dict.fromkeys(EXPORTS, files))
    manager.attach(old, guest.name, SCSI)
    guest_io.write(f'ua-{SHARED_ID}', 0x55, MIB, 65536)
    stop(guest)
    dead: list[str] = []
    put = manager.context.journal.put

    def look(operation: str, name: str, when: str) -> None:
        if (name, when) == (step, moment):
            dead.append(name)
            raise Killed

    def put_unless_dead(row: typing.Any) -> typing.Any:
        if dead:
            raise Killed
        return put(row)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manager.context.journal, 'put', put_unless_dead)
        dying = AttachmentManager(dataclasses.replace(manager.context, observer=look))
        # What is undone in this process is not in one that is dead.
        patch.setattr(steps, '_undo', lambda *args: False)
        with pytest.raises(Killed):
            dying.refresh(guest.name, SHARED_ID, new)
    manager.recover({SHARED_ID: new})
    assert all(row.is_settled for row in manager.context.journal.find())
    manager.refresh(guest.name, SHARED_ID, new)
    (row,) = manager.context.journal.find()
    assert row.problem == ''
    start(guest)
    guest_io.read(f'ua-{SHARED_ID}', 0x55, MIB, 65536)
    manager.detach(guest.name, SHARED_ID)
    manager.recover()
    assert manager.context.journal.find() == ()
    assert f' {mounts}/' not in pathlib.Path('/proc/self/mountinfo').read_text()


@pytest.mark.parametrize(
    ('request_', 'fault', 'error'),
    [
        ('PUT /attachments/*', status(500), exception.CinderUnavailable),
        ('PUT /attachments/*', status(500, after=True), exception.CinderUnavailable),
        ('PUT /attachments/*', reset(after=True), exception.CinderUnavailable),
        ('POST /attachments/* os-complete', status(500), exception.CinderUnavailable),
    ],
    ids=['update', 'update-after', 'update-lost', 'complete'],
)
def test_cinder_fails(
    volume_manager: VolumeManager,
    conf: cfg.ConfigOpts,
    faults: Faults,
    iscsi: IscsiBackend,
    make_volume: VolumeMaker,
    guest: Guest,
    request_: str,
    fault: typing.Any,
    error: type[Exception],
) -> None:
    """The attachment stays; the guest has the volume; called again it goes on."""
    volume = make_volume(iscsi)
    volume_manager.attach(guest.name, volume.name, SCSI)
    (attachment,) = volume.attachments()
    faults.add(request_, fault)
    with pytest.raises(error):
        volume_manager.refresh(guest.name, volume.id)
    faults.clear()
    assert volume.status in ('in-use', 'attaching')
    assert [one.id for one in volume.attachments()] == [attachment.id]
    assert guest_has(guest, volume)
    settled(volume_manager, conf)
    assert volume.status == 'in-use'
    done = volume_manager.refresh(guest.name, volume.id)
    assert done.attachment_id == attachment.id
    assert volume.status == 'in-use'
    volume_manager.detach(guest.name, volume.id)
    assert volume.status == 'available'


def test_portal_that_does_not_answer(
    volume_manager: VolumeManager,
    iscsi: IscsiBackend,
    make_volume: VolumeMaker,
    guest: Guest,
    guest_io: GuestIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cinder's side is done by then; the guest has what it had."""
    volume = make_volume(iscsi)
    done = volume_manager.attach(guest.name, volume.name, SCSI)
    before = [disk.to_xml() for disk in guest.all_disks()]
    endpoints = volume_manager.context.host.registry.context.endpoints

    def silent(probe: object, protocol: str, *rest: object, **more: object) -> typing.Any:
        raise exception.EndpointUnreachable(
            protocol=protocol, endpoint='the portal', reason='the test says so'
        )

    with monkeypatch.context() as patch:
        patch.setattr(type(endpoints), 'check', silent)
        with pytest.raises(exception.EndpointUnreachable) as caught:
            volume_manager.refresh(guest.name, volume.id)
    account = failure.of(caught.value)
    assert account is not None
    assert (account.step, account.within is not None) == ('refresh', True)
    assert [disk.to_xml() for disk in guest.all_disks()] == before
    assert volume.status == 'in-use'
    assert [one.id for one in volume.attachments()] == [done.attachment_id]
    (row,) = volume_manager.context.reservations.find()
    assert row.is_settled
    assert row.problem.startswith('volume refresh: ')
    assert volume_manager.recover() == ()
    volume_manager.refresh(guest.name, volume.id)
    (row,) = volume_manager.context.reservations.find()
    assert row.problem == ''
    volume_manager.detach(guest.name, volume.id)


@pytest.mark.parametrize(
    ('table', 'step'),
    [
        ('reservations', 'complete'),
        ('attachments', 'define'),
        ('reservations', ''),
    ],
)
def test_killed_while_the_guest_is_stopped(
    volume_manager: VolumeManager,
    conf: cfg.ConfigOpts,
    iscsi: IscsiBackend,
    make_volume: VolumeMaker,
    guest: Guest,
    guest_io: GuestIO,
    table: str,
    step: str,
) -> None:
    """What was begun is settled; test_crash_cinder has the guest that runs."""
    context = volume_manager.context
    volume = make_volume(iscsi)
    volume_manager.attach(guest.name, volume.name, SCSI)
    guest_io.write(volume.alias, 0x66, MIB, 65536)
    (attachment,) = volume.attachments()
    stop(guest)
    tables = {'reservations': context.reservations, 'attachments': context.host.journal}
    dead: list[str] = []
    originals = {name: one.put for name, one in tables.items()}

    def put_into(name: str) -> Callable[[typing.Any], typing.Any]:
        def put(row: typing.Any) -> typing.Any:
            if dead:
                raise Killed
            is_meant = (name, row.step) == (table, step)
            if is_meant and (step or row.operation is None):
                dead.append(name)
                raise Killed
            return originals[name](row)

        return put

    with pytest.MonkeyPatch.context() as patch:
        for name, one in tables.items():
            patch.setattr(one, 'put', put_into(name))
        with pytest.raises(Killed):
            volume_manager.refresh(guest.name, volume.id)
    assert volume.status in ('in-use', 'attaching')
    assert [one.id for one in volume.attachments()] == [attachment.id]
    assert guest_has(guest, volume)

    settled(volume_manager, conf)
    assert volume.status == 'in-use'
    assert volume_manager.recover() == ()
    volume_manager.refresh(guest.name, volume.id)
    (row,) = context.host.journal.find()
    assert (row.operation, row.problem) == (None, '')
    start(guest)
    guest_io.read(volume.alias, 0x66, MIB, 65536)
    volume_manager.detach(guest.name, volume.id)
    assert volume.status == 'available'
    assert context.host.journal.find() == ()
    assert context.reservations.find() == ()


def guest_has(guest: Guest, volume: MadeVolume) -> bool:
    return any(disk.alias == volume.alias for disk in guest.disks(persistent=True))


def settled(manager: VolumeManager, conf: cfg.ConfigOpts) -> None:
    """Recover, once Cinder has come to an end with what it was asked for."""
    conf.set_override('cinder_timeout', 1.0, 'volumedrivers')
    time.sleep(1.1)
    outcomes = manager.recover()
    assert {outcome.action for outcome in outcomes} <= {'finished', 'undone'}
    assert all(row.is_settled for row in manager.context.reservations.find())
    assert all(row.is_settled for row in manager.context.host.journal.find())
