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

"""A server of a whole Nova with volumes of a real Cinder, by the drivers of this package.

API, conductor, scheduler and compute run as in Nova's own functional tests; libvirt,
QEMU, Cinder and its storage are real.  What Nova does is seen at its API, at
Cinder's, in libvirt, on the storage, and in the journal.
"""

from collections.abc import Callable
from collections.abc import Iterator
import os
import time

import pytest

from tests.functional import test_cli
from tests.functional.cinder.made_volumes import MadeVolume
from tests.functional.cinder.made_volumes import VolumeMaker
from tests.functional.cinder.made_volumes import wait_for
from tests.functional.nova.conftest import Cloud
from tests.long import LONG
from tests.long import only
from volumedrivers.attachment.journal import Journal
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing.cinder import volume_types
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.qemu_io import GuestIO

# Each step is several services' work.
pytestmark = pytest.mark.timeout(300)

MIB = 2**20
GIB = 2**30
_BLOCK = 65536
#: what Nova calls the volumes of each back end
_KINDS = {'nfs': 'nfs', 'iscsi': 'iscsi', 'loop': 'local'}


class Bench:
    """Servers, volumes, and what this host has of them."""

    def __init__(
        self, cloud: Cloud, hypervisor: Hypervisor, libvirtd: PrivateLibvirtd, journal: Journal
    ) -> None:
        self.cloud = cloud
        self.hypervisor = hypervisor
        self.libvirtd = libvirtd
        self.journal = journal
        self.proxy = cloud.cinder.connection.block_storage
        self.servers: list[str] = []
        self.volumes: list[MadeVolume] = []

    def boot(self) -> str:
        self.servers.append(self.cloud.nova.call('boot'))
        return self.servers[-1]

    def delete(self, server: str) -> None:
        self.servers.remove(server)
        self.cloud.nova.call('delete', server)

    def make(self, backend: str, **more: object) -> MadeVolume:
        made = VolumeMaker(self.proxy)(self.cloud.backends[backend], **more)
        self.volumes.append(made)
        return made

    def attach(self, server: str, volume: MadeVolume, guests: int = 1) -> None:
        self.cloud.nova.call('attach', server, volume.id)
        self.until(
            lambda: [one.status for one in volume.attachments()] == guests * ['attached'],
        )

    def detach(self, server: str, volume: MadeVolume) -> None:
        self.cloud.nova.call('detach', server, volume.id)

    def until(self, ready: Callable[[], bool], seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < end
            time.sleep(0.05)

    def guest(self, server: str) -> Guest:
        return self.hypervisor.guest(server)

    def io(self, server: str) -> GuestIO:
        guest = self.guest(server)
        return GuestIO(guest, lambda: self.libvirtd.guest_log(guest.name))

    def has(self, server: str, volume: MadeVolume) -> tuple[bool, bool]:
        """Return whether the running guest and its definition have the volume's disk."""
        guest = self.guest(server)
        live, defined = (
            any(disk.alias == volume.alias for disk in guest.disks(persistent=persistent))
            for persistent in (False, True)
        )
        return live, defined

    def recorded(self) -> set[tuple[str, str]]:
        """Return guest and volume of each row; they are Nova's, and nothing is under way."""
        rows = self.journal.find()
        assert all(row.is_settled and row.manager == 'nova' for row in rows), rows
        return {(row.domain_uuid, row.volume_id) for row in rows}

    def went_well(self, server: str) -> list[str]:
        """Return what Nova has done to a server, the last first; all of it has succeeded."""
        actions = self.cloud.nova.call('actions', server)
        assert [one for one in actions if one[1] is not None] == []
        return [name for name, _ in actions]


@pytest.fixture
def bench(
    cloud: Cloud,
    hypervisor: Hypervisor,
    libvirtd: PrivateLibvirtd,
    journal: Journal,
    command: test_cli.Command,
) -> Iterator[Bench]:
    """With the drivers of this package; in the end nothing is left of what they did."""
    cloud.nova.call('restart', True)
    secrets = uuids_of_secrets(hypervisor)
    made = Bench(cloud, hypervisor, libvirtd, journal)
    yield made
    for server in tuple(made.servers):
        made.delete(server)
    for volume in made.volumes:
        wait_for(volume.get, 'available')
        volume.delete()
    assert journal.find() == ()
    assert command.json('audit') == []
    assert hypervisor.connection().listAllDomains() == []
    assert uuids_of_secrets(hypervisor) == secrets


def uuids_of_secrets(hypervisor: Hypervisor) -> set[str]:
    return {one.UUIDString() for one in hypervisor.connection().listAllSecrets()}


@pytest.mark.parametrize('backend', only(['iscsi'], _KINDS))
def test_life_of_a_volume(bench: Bench, backend: str) -> None:
    server, volume = bench.boot(), bench.make(backend)
    bench.attach(server, volume)
    assert bench.has(server, volume) == (True, True)
    assert bench.recorded() == {(server, volume.id)}
    used = bench.cloud.nova.call('drivers')
    assert used[_KINDS[backend]].startswith('volumedrivers.nova.'), used
    bench.io(server).write(volume.alias, 0x5A, MIB, _BLOCK)

    bench.cloud.nova.call('hard_reboot', server)
    assert bench.recorded() == {(server, volume.id)}
    bench.io(server).read(volume.alias, 0x5A, MIB, _BLOCK)

    bench.cloud.nova.call('stop_server', server)
    bench.cloud.nova.call('start_server', server)
    assert bench.has(server, volume) == (True, True)
    bench.io(server).read(volume.alias, 0x5A, MIB, _BLOCK)

    bench.detach(server, volume)
    wait_for(volume.get, 'available')
    assert bench.has(server, volume) == (False, False)
    assert bench.recorded() == set()
    assert volume.holds(0x5A, MIB)
    assert bench.went_well(server) == [
        *('detach_volume', 'start', 'stop', 'reboot', 'attach_volume', 'create')
    ]


def test_extend(bench: Bench) -> None:
    """Cinder tells Nova, Nova its driver, the driver looks, and Nova tells the guest."""
    server, volume = bench.boot(), bench.make('iscsi')
    bench.attach(server, volume)
    bench.proxy.extend_volume(volume.id, 2)
    bench.cloud.nova.call('wait_for_action', server, 'extend_volume')
    assert bench.went_well(server)[0] == 'extend_volume'
    (disk,) = (one for one in bench.guest(server).disks() if one.alias == volume.alias)
    assert disk.target is not None
    domain = bench.hypervisor.domain(server)
    assert domain.blockInfo(disk.target.dev)[0] == 2 * GIB
    bench.io(server).write(volume.alias, 0x77, 2 * GIB - MIB, _BLOCK)
    assert volume.holds(0x77, 2 * GIB - MIB)


def test_swap(bench: Bench) -> None:
    """Cinder moves the volume to another back end, and Nova swaps the guest's disk."""
    server, volume = bench.boot(), bench.make('nfs')
    bench.attach(server, volume)
    bench.io(server).write(volume.alias, 0x5A, MIB, _BLOCK)
    bench.proxy.retype_volume(volume.id, 'iscsi', 'on-demand')
    bench.until(lambda: volume.get().migration_status in ('success', 'error'))
    found = volume.get()
    assert (found.migration_status, found.volume_type) == ('success', 'iscsi')
    assert bench.went_well(server)[0] == 'swap_volume'
    assert len(bench.recorded()) == 1
    stored = bench.cloud.nova.call('stored', server, volume.id)
    assert stored['driver_volume_type'] == 'iscsi'
    bench.io(server).read(volume.alias, 0x5A, MIB, _BLOCK)

    bench.cloud.nova.call('hard_reboot', server)
    assert bench.recorded() == {(server, volume.id)}
    bench.io(server).read(volume.alias, 0x5A, MIB, _BLOCK)
    bench.detach(server, volume)
    wait_for(volume.get, 'available')
    assert bench.recorded() == set()


@LONG
def test_swap_that_fails(bench: Bench) -> None:
    """QEMU copies to nothing of another size; Nova goes back, and so do the drivers."""
    server, volume = bench.boot(), bench.make('nfs')
    os.truncate(volume.image, 64 * MIB)
    bench.attach(server, volume)
    bench.proxy.retype_volume(volume.id, 'iscsi', 'on-demand')
    bench.until(lambda: volume.get().migration_status in ('success', 'error'))
    found = volume.get()
    assert (found.migration_status, found.volume_type) == ('error', 'nfs')
    assert bench.recorded() == {(server, volume.id)}
    bench.io(server).write(volume.alias, 0x5A, MIB, _BLOCK)
    bench.detach(server, volume)
    wait_for(volume.get, 'available')
    assert volume.holds(0x5A, MIB)


def test_encrypted_volume(bench: Bench) -> None:
    """Cinder has made the header, Nova the secret, and QEMU decrypts what our driver reaches."""
    kind = volume_types.encrypted(bench.proxy, 'luks', 'iscsi')
    try:
        server, volume = bench.boot(), bench.make('iscsi', volume_type=kind.name)
        bench.attach(server, volume)
        assert bench.recorded() == {(server, volume.id)}
        bench.io(server).write(volume.alias, 0x5A, MIB, _BLOCK)
        bench.cloud.nova.call('hard_reboot', server)
        bench.io(server).read(volume.alias, 0x5A, MIB, _BLOCK)
        bench.detach(server, volume)
        wait_for(volume.get, 'available')
        assert volume.image.read_bytes()[:4] == b'LUKS'
        assert b'\x5a' * 512 not in volume.image.read_bytes()[: 8 * MIB]
        volume.delete()
        bench.volumes.remove(volume)
    finally:
        bench.proxy.delete_type(kind)


def test_server_is_deleted_with_its_volumes(bench: Bench) -> None:
    server = bench.boot()
    volumes = [bench.make(backend) for backend in _KINDS]
    for volume in volumes:
        bench.attach(server, volume)
    assert bench.recorded() == {(server, volume.id) for volume in volumes}
    bench.delete(server)
    for volume in volumes:
        wait_for(volume.get, 'available')
    assert bench.recorded() == set()


# Cinder's driver for NFS has no volumes for several guests.
@pytest.mark.parametrize('backend', only(['iscsi'], ['iscsi', 'loop']))
def test_two_servers_with_one_volume(bench: Bench, backend: str) -> None:
    kind = volume_types.multiattach(bench.proxy, f'shared {backend}', backend)
    try:
        servers = [bench.boot(), bench.boot()]
        volume = bench.make(backend, volume_type=kind.name)
        for number, server in enumerate(servers):
            bench.attach(server, volume, number + 1)
        assert bench.recorded() == {(server, volume.id) for server in servers}
        first, second = servers
        bench.detach(first, volume)
        assert bench.recorded() == {(second, volume.id)}
        bench.io(second).write(volume.alias, 0x5A, MIB, _BLOCK)
        bench.detach(second, volume)
        wait_for(volume.get, 'available')
        assert volume.holds(0x5A, MIB)
        volume.delete()
        bench.volumes.remove(volume)
    finally:
        bench.proxy.delete_type(kind)


@LONG
def test_harness_with_novas_own_driver(bench: Bench) -> None:
    """The same, but nothing of it is in the journal."""
    bench.cloud.nova.call('restart', False)
    server, volume = bench.boot(), bench.make('loop')
    bench.attach(server, volume)
    assert bench.recorded() == set()
    assert bench.cloud.nova.call('drivers')['local'].startswith('nova.virt.libvirt.volume.')
    bench.cloud.nova.call('hard_reboot', server)
    bench.detach(server, volume)
    wait_for(volume.get, 'available')
