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

"""A guest goes over to the volume to which Cinder migrates its volume."""

from collections.abc import Callable
import json
import os
import signal
import subprocess
import sys
import time
import typing

import libvirt
from oslo_config import cfg
import pytest

from tests.functional.cinder import swap_child
from tests.functional.cinder.made_volumes import MadeVolume
from tests.functional.cinder.made_volumes import VolumeMaker
from tests.functional.cinder.made_volumes import wait_for
from tests.long import LONG
from tests.long import only
from volumedrivers import exception
from volumedrivers.attachment.block_storage.manager import VolumeManager
from volumedrivers.attachment.block_storage.manager import make_volume_manager
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.cinder import attachments
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing.cinder import faults as failing
from volumedrivers.testing.cinder.backends import Backend
from volumedrivers.testing.cinder.backends import IscsiBackend
from volumedrivers.testing.cinder.backends import NfsBackend
from volumedrivers.testing.cinder.embedded import EmbeddedCinder
from volumedrivers.testing.cinder.nova_events import FakeNova
from volumedrivers.testing.qemu_io import GuestIO

MIB = 2**20
BLOCK = 65536
# What the files of the back ends hold; Cinder has no volume below 1 GiB, and to
# copy that much takes a while.
SIZE = 128 * MIB
SCSI = DiskRequest(bus='scsi')


class Migration:
    """A volume that a guest has, with a pattern in it, and where Cinder wants it to be."""

    def __init__(
        self, manager: VolumeManager, guest: Guest, guest_io: GuestIO, nova: FakeNova
    ) -> None:
        self.manager = manager
        self.guest = guest
        self.io = guest_io
        self.nova = nova
        self.others = self.secrets

    @property
    def secrets(self) -> set[str]:
        """Libvirt's; other tests share the libvirtd."""
        return {one.UUIDString() for one in self.guest.hypervisor.connection().listAllSecrets()}

    def begin(self, volume: MadeVolume, to: Backend, *, legacy: bool = False) -> None:
        """Attach, write, and let Cinder ask for the migration."""
        self.volume, self.to = volume, to
        os.truncate(volume.image, SIZE)
        self.manager.attach(self.guest.name, volume.name, SCSI, legacy=legacy)
        self.io.write(volume.alias, 0x5A, MIB, BLOCK)
        volume.proxy.retype_volume(volume.id, to.name, 'on-demand')
        self.new = self.asked()

    def again(self) -> None:
        """Let Cinder ask again after a migration that has failed."""
        self.nova.swaps.clear()
        self.volume.proxy.retype_volume(self.volume.id, self.to.name, 'on-demand')
        self.new = self.asked()

    def asked(self) -> str:
        """Wait until Cinder asks the compute service; return the new volume's id."""
        end = time.monotonic() + 20
        while not self.nova.swaps:
            assert time.monotonic() < end, 'Cinder has not asked'
            time.sleep(0.05)
        ((guest, volume, new),) = self.nova.swaps
        assert (guest, volume) == (self.guest.uuid, self.volume.id)
        os.truncate(self.to.image(new), SIZE)
        return new

    def swap(self, **more: typing.Any) -> typing.Any:
        return self.manager.swap(self.guest.uuid, self.volume.id, self.new, **more)

    @property
    def disk(self) -> tuple[str, str]:
        """Where both definitions have the guest's data."""
        ((live,), (defined,)) = self.guest.disks(), self.guest.disks(persistent=True)
        return str(live.path), str(defined.path)

    def require_new(self, *patterns: tuple[int, int]) -> None:
        """All of Cinder, host and guest have the volume in its new place."""
        volume = self.volume
        found = wait_for(volume.get, 'in-use')
        assert (found.migration_status, found.volume_type) == ('success', self.to.name)
        assert found.host.startswith(f'embedded@{self.to.name}')
        (attachment,) = volume.attachments()
        assert attachment.status == 'attached'
        (row,) = self.manager.context.reservations.find()
        (record,) = self.manager.context.host.journal.find()
        assert row.is_settled
        assert record.is_settled
        assert row.attachment_id == record.attachment_id == attachment.id
        assert row.volume_id == record.volume_id == volume.id
        assert record.connection_info['driver_volume_type'] == self.to.name
        assert all(self.new in path for path in self.disk)
        for each in (*self.guest.disks(), *self.guest.disks(persistent=True)):
            assert (each.alias, each.serial) == (volume.alias, volume.id)
        for pattern, offset in ((0x5A, MIB), *patterns):
            self.io.read(volume.alias, pattern, offset, BLOCK)
            assert holds(self.to, self.new, pattern, offset)
        wait_until(lambda: not volume.backend.image(volume.id).exists())
        wait_until(lambda: [one.id for one in volume.proxy.volumes()] == [volume.id])
        assert self.manager.recover() == ()

    def require_old(self, *patterns: tuple[int, int]) -> None:
        """All of Cinder, host and guest have the volume where it was."""
        volume = self.volume
        found = wait_for(volume.get, 'in-use')
        assert (found.migration_status, found.volume_type) == ('error', volume.backend.name)
        (attachment,) = volume.attachments()
        assert attachment.status == 'attached'
        (row,) = self.manager.context.reservations.find()
        (record,) = self.manager.context.host.journal.find()
        assert row.is_settled
        assert record.is_settled
        assert row.attachment_id == attachment.id
        assert record.connection_info['driver_volume_type'] == volume.backend.name
        assert all(volume.id in path for path in self.disk)
        assert all(one.mirror is None for one in self.guest.disks())
        for pattern, offset in ((0x5A, MIB), *patterns):
            self.io.read(volume.alias, pattern, offset, BLOCK)
            assert volume.holds(pattern, offset)
        wait_until(lambda: not self.to.image(self.new).exists())
        wait_until(lambda: [one.id for one in volume.proxy.volumes()] == [volume.id])
        assert self.manager.recover() == ()

    def detach(self) -> None:
        """It goes as any other, and nothing is left."""
        volume, context = self.volume, self.manager.context
        self.manager.detach(self.guest.name, volume.name)
        assert volume.status == 'available'
        assert volume.attachments() == []
        assert context.reservations.find() == ()
        assert context.host.journal.find() == ()
        assert self.guest.all_disks() == ()
        assert self.secrets == self.others
        base = str(context.options.nfs_mount_point_base)
        with open('/proc/self/mountinfo', encoding='utf-8') as table:
            assert f' {base}/' not in table.read()


def holds(backend: Backend, volume_id: str, pattern: int, offset: int) -> bool:
    """Whether the storage holds these bytes, asked past the guest's QEMU."""
    with backend.image(volume_id).open('rb') as opened:
        opened.seek(offset)
        return opened.read(BLOCK) == bytes([pattern]) * BLOCK


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, 'it has not come about'
        time.sleep(0.05)


@pytest.fixture
def other(backend: Backend, nfs: NfsBackend, iscsi: IscsiBackend) -> Backend:
    """Where the volume goes to."""
    return iscsi if backend is nfs else nfs


@pytest.fixture
def move(
    volume_manager: VolumeManager,
    guest: Guest,
    guest_io: GuestIO,
    nova: FakeNova,
) -> Migration:
    return Migration(volume_manager, guest, guest_io, nova)


def test_goes_over_while_the_guest_writes(
    move: Migration,
    make_volume: VolumeMaker,
    backend: Backend,
    other: Backend,
) -> None:
    move.begin(make_volume(backend), other)
    written: list[int] = []

    def write(done: int, total: int) -> None:
        # Behind what is copied already, and before it.
        if len(written) < 2 and done:
            offset = (2, 120)[len(written)] * MIB
            move.io.write(move.volume.alias, 0x70 + len(written), offset, BLOCK)
            written.append(offset)

    done = move.swap(progress=write, bandwidth=64 * MIB)
    assert len(written) == 2
    assert list(done.seconds) == [
        'accept',
        'reserve',
        'export',
        'connect',
        'identify',
        'copy',
        'pivot',
        'define',
        'disconnect',
        'complete',
        'release',
        'finish',
        'record',
    ]
    assert done.volume_id == move.volume.id
    assert done.copied > SIZE  # what was written behind the copy counts twice
    move.require_new((0x70, 2 * MIB), (0x71, 120 * MIB))
    move.io.write(move.volume.alias, 0x77, 3 * MIB, BLOCK)
    assert holds(other, move.new, 0x77, 3 * MIB)
    move.detach()


def test_the_next_start_is_with_the_new_place(
    move: Migration, make_volume: VolumeMaker, iscsi: IscsiBackend, nfs: NfsBackend
) -> None:
    move.begin(make_volume(iscsi), nfs)
    move.swap()
    domain = move.guest.hypervisor.domain(move.guest.uuid)
    domain.destroy()
    domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    move.require_new()
    move.detach()


def encrypted(said: dict[str, typing.Any]) -> None:
    said['attachment']['connection_info']['encrypted'] = True


def unknown(said: dict[str, typing.Any]) -> None:
    said['attachment']['connection_info']['driver_volume_type'] = 'nothing-known'


# Where it fails before anything is copied, and how.
EARLY = (
    ('POST /attachments', failing.status(500), exception.CinderUnavailable),
    ('POST /attachments', failing.status(403), exception.CinderForbidden),
    ('POST /attachments', failing.reset(after=True), exception.CinderUnavailable),
    ('PUT /attachments/*', failing.status(500), exception.CinderUnavailable),
    ('PUT /attachments/*', failing.changed(encrypted), exception.EncryptionNotSupported),
    ('PUT /attachments/*', failing.changed(unknown), exception.VolumeDriverNotFound),
)


@pytest.mark.parametrize('early', only([EARLY[4:]], [EARLY[:2], EARLY[2:4], EARLY[4:]]))
def test_refused_before_the_copy(
    move: Migration,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    nfs: NfsBackend,
    faults: failing.Faults,
    early: tuple[tuple[str, failing.Fault, type[Exception]], ...],
) -> None:
    move.begin(make_volume(iscsi), nfs)
    for number, (pattern, fault, kind) in enumerate(early):
        if number:
            move.again()
        faults.add(pattern, fault)
        with pytest.raises(kind):
            move.swap()
        faults.clear()
        move.require_old()
    # And then it is well.
    move.again()
    move.swap()
    move.require_new()
    move.detach()


def test_cinder_does_not_wait_for_it(
    move: Migration, make_volume: VolumeMaker, iscsi: IscsiBackend, nfs: NfsBackend
) -> None:
    volume = make_volume(iscsi)
    another = make_volume(nfs)
    move.manager.attach(move.guest.name, volume.name, SCSI)
    (before,) = move.manager.context.reservations.find()
    with pytest.raises(exception.WrongVolumeState, match='only Cinder begins that'):
        move.manager.swap(move.guest.uuid, volume.id, another.id)
    with pytest.raises(exception.NotRecorded):
        move.manager.swap(move.guest.uuid, another.id, volume.id)
    (after,) = move.manager.context.reservations.find()
    assert (after.attachment_id, after.is_settled) == (before.attachment_id, True)
    assert another.status == 'available'
    move.manager.detach(move.guest.name, volume.name)


def interrupt(move: Migration) -> None:
    raise KeyboardInterrupt


def another_job(move: Migration) -> None:
    """End the copy behind our back."""
    move.guest.hypervisor.domain(move.guest.uuid).blockJobAbort('sda', 0)


@pytest.mark.parametrize(
    ('happens', 'kind'),
    [
        (another_job, exception.CopyFailed),
        (interrupt, KeyboardInterrupt),
    ],
)
def test_the_copy_ends_early(
    move: Migration,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    nfs: NfsBackend,
    happens: Callable[[Migration], None],
    kind: type[BaseException],
) -> None:
    move.begin(make_volume(iscsi), nfs)
    once = [happens]

    def progress(done: int, total: int) -> None:
        if done and once:
            once.pop()(move)

    with pytest.raises(kind):
        move.swap(progress=progress, bandwidth=64 * MIB)
    move.require_old()
    move.detach()


def test_the_copy_does_not_go_forward(
    move: Migration,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    nfs: NfsBackend,
    conf: cfg.ConfigOpts,
) -> None:
    conf.set_override('copy_timeout', 1.0, group='volumedrivers')
    move.begin(make_volume(iscsi), nfs)
    with pytest.raises(exception.DeadlineExceeded, match='of which'):
        move.swap(bandwidth=1)
    move.require_old()
    move.detach()


def test_the_guest_ends_meanwhile(
    move: Migration, make_volume: VolumeMaker, iscsi: IscsiBackend, nfs: NfsBackend
) -> None:
    move.begin(make_volume(iscsi), nfs)
    domain = move.guest.hypervisor.domain(move.guest.uuid)

    def progress(done: int, total: int) -> None:
        if done and domain.isActive():
            domain.destroy()

    with pytest.raises(exception.CopyFailed):
        move.swap(progress=progress, bandwidth=64 * MIB)
    # It is defined all the time, and starts with what it had.
    domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    move.require_old()
    move.again()
    domain.destroy()
    with pytest.raises(exception.InvalidOption, match='does not run'):
        move.swap()
    domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    move.require_old()
    move.detach()


# What fails when the guest has gone over already.
LATE = (
    ('POST /attachments/* os-complete', failing.status(500)),
    ('DELETE /attachments/*', failing.status(403)),
    ('DELETE /attachments/*', failing.reset(after=True)),
    ('POST */action os-migrate_volume_completion', failing.status(500)),
)


@pytest.mark.parametrize(('pattern', 'fault'), LATE)
def test_recovered_after_the_guest_has_gone_over(
    move: Migration,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    nfs: NfsBackend,
    faults: failing.Faults,
    conf: cfg.ConfigOpts,
    pattern: str,
    fault: failing.Fault,
) -> None:
    conf.set_override('cinder_timeout', 1.0, group='volumedrivers')
    move.begin(make_volume(iscsi), nfs)
    faults.add(pattern, fault)
    with pytest.raises((exception.CinderUnavailable, exception.CinderForbidden)) as caught:
        move.swap()
    assert 'gone on with its new place' in '\n'.join(caught.value.__notes__)
    faults.clear()
    assert all(move.new in path for path in move.disk)
    (outcome,) = move.manager.recover()
    assert outcome.action == 'finished'
    move.require_new()
    move.detach()


def test_the_last_answer_is_lost(
    move: Migration,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    nfs: NfsBackend,
    faults: failing.Faults,
) -> None:
    move.begin(make_volume(iscsi), nfs)
    for action in ('* os-migrate_volume_completion', '/attachments/* os-complete'):
        faults.add(f'POST {action}', failing.reset(after=True), times=1)
    move.swap()
    move.require_new()
    # Told again, by whoever: nothing happens; the contrary is refused.
    move.manager.finish_migration(move.volume.id, move.new)
    with pytest.raises(exception.WrongVolumeState):
        move.manager.finish_migration(move.volume.id, move.new, error=True)
    move.detach()


def test_a_volume_of_the_old_calls(
    move: Migration, make_volume: VolumeMaker, iscsi: IscsiBackend, nfs: NfsBackend
) -> None:
    move.begin(make_volume(iscsi), nfs, legacy=True)
    move.swap()
    move.require_new()
    move.detach()


def test_moved_by_somebody_else(
    move: Migration, make_volume: VolumeMaker, iscsi: IscsiBackend, nfs: NfsBackend
) -> None:
    """A caller that cannot let the guest go over tells Cinder so."""
    move.begin(make_volume(iscsi), nfs)
    move.manager.finish_migration(move.volume.id, move.new, error=True)
    move.require_old()
    move.manager.finish_migration(move.volume.id, move.new, error=True)
    move.detach()


# Where the process is killed, and whether the guest has gone over by then.
POINTS = (
    (('volume migrate', 'reserve', 'after'), False),
    (('volume migrate', 'export', 'after'), False),
    (('swap', 'connect', 'after'), False),
    (('swap', 'copy', 'during'), False),
    (('swap', 'pivot', 'before'), False),
    (('swap', 'pivot', 'after'), True),
    (('swap', 'disconnect', 'before'), True),
    (('swap', 'disconnect', 'after'), True),
    (('swap', 'record', 'after'), True),
    (('volume migrate', 'complete', 'after'), True),
    (('volume migrate', 'release', 'after'), True),
    (('volume migrate', 'finish', 'after'), True),
)


# The first and the last before the guest has gone over, and after it.
TRIED = ('volume migrate-reserve-after', 'swap-pivot-before', 'swap-pivot-after')


@pytest.mark.parametrize(
    ('point', 'gone'),
    [
        pytest.param(*one, id='-'.join(one[0]), marks=() if '-'.join(one[0]) in TRIED else LONG)
        for one in POINTS
    ],
)
def test_killed(
    move: Migration,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    nfs: NfsBackend,
    cinder: EmbeddedCinder,
    hypervisor: Hypervisor,
    manager: AttachmentManager,
    conf: cfg.ConfigOpts,
    point: tuple[str, str, str],
    gone: bool,
) -> None:
    assert cinder.url is not None
    move.manager = make_volume_manager(conf, swap_child.connect(cinder.url), manager)
    move.begin(make_volume(iscsi), nfs)
    options = move.manager.context.options
    told = {
        'options': {
            name: options[name]
            for name in (
                'state_path',
                'host',
                'iscsi_client',
                'iscsi_initiator_name',
                'nfs_mount_point_base',
            )
        },
        'point': point,
        'url': cinder.url,
        'libvirt': hypervisor.uri,
        'exports': {nfs.export: str(nfs.files)},
        'guest': move.guest.uuid,
        'volume': move.volume.id,
        'new': move.new,
    }
    program = [sys.executable, '-m', 'tests.functional.cinder.swap_child', json.dumps(told)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    outcomes = move.manager.recover()
    assert outcomes
    assert {one.action for one in outcomes} <= {'finished', 'undone'}, outcomes
    if gone:
        move.require_new()
    else:
        move.require_old()
    move.detach()


def test_refreshed_and_connected_again_afterwards(
    move: Migration, make_volume: VolumeMaker, iscsi: IscsiBackend, nfs: NfsBackend
) -> None:
    """Cinder calls it by the volume's id, this host by that of the new place."""
    move.begin(make_volume(nfs), iscsi)
    move.swap()
    move.require_new()
    context = move.manager.context
    (before,) = context.host.journal.find()
    move.manager.refresh(move.guest.uuid, move.volume.id)
    (refreshed,) = context.host.journal.find()
    assert refreshed.connection_info['serial'] == before.connection_info['serial'] == move.new

    domain = move.guest.hypervisor.domain(move.guest.uuid)
    domain.destroy()
    (attachment,) = move.volume.attachments()
    info = attachments.connection_info(attachment.connection_info, move.volume.get())
    assert info.volume_id == move.volume.id
    context.attachments.reconnect(move.guest.uuid, move.volume.id, connection_info=info)
    domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    move.require_new()
    move.detach()


def test_detached_before_it_is_recovered(
    move: Migration,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    nfs: NfsBackend,
    faults: failing.Faults,
) -> None:
    """Which of the two volumes the guest has is found out first."""
    move.begin(make_volume(iscsi), nfs)
    faults.add('POST /attachments/* os-complete', failing.status(500))
    with pytest.raises(exception.CinderUnavailable):
        move.swap()
    faults.clear()
    move.detach()
    assert move.volume.get().migration_status == 'success'
    assert holds(nfs, move.new, 0x5A, MIB)
