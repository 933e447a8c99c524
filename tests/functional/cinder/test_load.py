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

"""Twenty-four volumes of both back ends live their whole life in four guests, four at a time."""

from collections.abc import Iterator
from concurrent import futures
import itertools
import pathlib
import threading
import typing

from oslo_config import cfg
import pytest

from tests.functional.cinder.made_volumes import MadeVolume
from tests.functional.cinder.made_volumes import VolumeMaker
from tests.functional.cinder.made_volumes import wait_for
from tests.functional.cinder.shared_cinder import contents
from tests.functional.cinder.shared_cinder import exported_below
from tests.functional.cinder.shared_cinder import files
from tests.long import only
from volumedrivers.attachment.block_storage.manager import VolumeManager
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.host import mount_table
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing.cinder.backends import Backend
from volumedrivers.testing.cinder.backends import IscsiBackend
from volumedrivers.testing.cinder.backends import NfsBackend
from volumedrivers.testing.cinder.embedded import EmbeddedCinder
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.qemu_io import GuestIO

AT_ONCE = 4
GIB = 2**30
MIB = 2**20
LENGTH = 65536


class Desk:
    """A guest, and who reads and writes its disks: one at a time, as its log is read."""

    def __init__(self, guest: Guest, libvirtd: PrivateLibvirtd) -> None:
        self.guest = guest
        self._io = GuestIO(guest, lambda: libvirtd.guest_log(guest.name))
        self._turn = threading.Lock()

    def write(self, volume: MadeVolume, pattern: int, offset: int) -> None:
        with self._turn:
            self._io.write(volume.alias, pattern, offset, LENGTH)

    def read(self, volume: MadeVolume, pattern: int, offset: int) -> None:
        with self._turn:
            self._io.read(volume.alias, pattern, offset, LENGTH)

    def nodes(self) -> set[str]:
        return self._io.node_names()


@pytest.fixture
def desks(hypervisor: Hypervisor, libvirtd: PrivateLibvirtd) -> Iterator[list[Desk]]:
    started = [
        guests.start_guest(hypervisor, f'load{number}', persistent=True) for number in range(4)
    ]
    yield [Desk(guest, libvirtd) for guest in started]
    for guest in started:
        guests.remove_guest(guest)


class Life:
    """What becomes of each volume.

    Its bytes are other ones than those of any volume beside it.
    """

    def __init__(
        self, manager: VolumeManager, make_volume: VolumeMaker, desks: list[Desk]
    ) -> None:
        self.manager = manager
        self.make_volume = make_volume
        self.desks = desks
        self.kinds: dict[str, typing.Callable[[MadeVolume, Desk, int], None]] = {
            'iscsi': self.on_iscsi,
            'nfs': self.on_nfs,
        }

    def live(self, backend: Backend, number: int) -> str:
        volume = self.make_volume(backend)
        self.kinds[backend.name](volume, self.desks[number // 2 % len(self.desks)], number + 1)
        volume.delete()
        return backend.name

    def on_iscsi(self, volume: MadeVolume, desk: Desk, pattern: int) -> None:
        self.attach(volume, desk)
        desk.write(volume, pattern, MIB)
        assert volume.holds(pattern, MIB)
        grown = self.manager.extend(volume.id, 2 * GIB)
        assert [one.resized_in_guest for one in grown.guests] == [True]
        desk.write(volume, pattern, 2 * GIB - MIB)
        assert volume.holds(pattern, 2 * GIB - MIB)
        snapshot = self.snapshot(volume)
        desk.write(volume, 0xFF, MIB)
        copy = volume.image.parents[1] / f'snapshot-{snapshot.id}' / 'lun.img'
        assert _holds(copy, pattern)
        desk.read(volume, 0xFF, MIB)
        self.detach(volume, desk)
        self.remove(snapshot)

    def on_nfs(self, volume: MadeVolume, desk: Desk, pattern: int) -> None:
        """Cinder's NfsDriver extends no volume that is attached, and for snapshots asks Nova."""
        self.attach(volume, desk)
        desk.write(volume, pattern, MIB)
        assert volume.holds(pattern, MIB)
        self.detach(volume, desk)
        assert self.manager.extend(volume.id, 2 * GIB).size == 2 * GIB
        snapshot = self.snapshot(volume)
        self.attach(volume, desk)
        desk.read(volume, pattern, MIB)
        desk.write(volume, 0xFF, 2 * GIB - MIB)
        desk.write(volume, 0xFF, MIB)
        assert volume.holds(pattern, MIB)
        desk.read(volume, 0xFF, MIB)
        self.detach(volume, desk)
        self.remove(snapshot)
        assert volume.holds(0xFF, MIB)

    def attach(self, volume: MadeVolume, desk: Desk) -> None:
        self.manager.attach(desk.guest.name, volume.name, DiskRequest(bus='scsi'))
        assert volume.status == 'in-use'
        (attachment,) = volume.attachments()
        assert (attachment.status, attachment.instance) == ('attached', desk.guest.uuid)

    def detach(self, volume: MadeVolume, desk: Desk) -> None:
        self.manager.detach(desk.guest.name, volume.id)
        assert volume.status == 'available'
        assert volume.attachments() == []

    def snapshot(self, volume: MadeVolume) -> typing.Any:
        proxy = volume.proxy
        made = proxy.create_snapshot(volume_id=volume.id, name='then', is_forced=True)
        return wait_for(lambda: proxy.get_snapshot(made.id), 'available')

    def remove(self, snapshot: typing.Any) -> None:
        self.make_volume.proxy.delete_snapshot(snapshot.id)
        self.make_volume.proxy.wait_for_delete(snapshot, interval=0.05, wait=60)


def _holds(path: pathlib.Path, pattern: int) -> bool:
    with path.open('rb') as opened:
        opened.seek(MIB)
        return opened.read(LENGTH) == bytes([pattern]) * LENGTH


@pytest.mark.timeout(300)
@pytest.mark.parametrize('number_of_volumes', only([4], [4, 24]))
def test_many_lives(
    cinder: EmbeddedCinder,
    iscsi: IscsiBackend,
    nfs: NfsBackend,
    mounts: pathlib.Path,
    conf: cfg.ConfigOpts,
    volume_manager: VolumeManager,
    make_volume: VolumeMaker,
    desks: list[Desk],
    number_of_volumes: int,
) -> None:
    life = Life(volume_manager, make_volume, desks)
    backends: itertools.cycle[Backend] = itertools.cycle([iscsi, nfs])
    with futures.ThreadPoolExecutor(AT_ONCE) as pool:
        running = [
            pool.submit(life.live, next(backends), number) for number in range(number_of_volumes)
        ]
        lived = [each.result() for each in running]
    half = number_of_volumes // 2
    assert sorted(lived) == ['iscsi'] * half + ['nfs'] * half

    assert contents(cinder) == []
    assert files(cinder) == []
    assert exported_below(cinder.directory) == []
    assert volume_manager.context.reservations.find() == ()
    assert volume_manager.context.host.journal.find() == ()
    assert volume_manager.audit() == ()
    assert [one.mount_point for one in mount_table.read() if _is_below(one, mounts)] == []
    for desk in desks:
        assert desk.guest.all_disks() == ()
        assert desk.nodes() == set()


def _is_below(mount: typing.Any, directory: pathlib.Path) -> bool:
    return pathlib.Path(mount.mount_point).is_relative_to(directory) and mount.mount_point != str(
        directory
    )
