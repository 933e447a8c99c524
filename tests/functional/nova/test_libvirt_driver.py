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

"""Nova's own LibvirtDriver, with a real guest of a real libvirtd and real storage."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import typing

from _pytest.mark.structures import ParameterSet
import pytest

from tests.functional import test_cli
from tests.functional.nova.process import NovaFailed
from tests.functional.nova.process import NovaProcess
from tests.functional.nova.storages import MIB
from tests.functional.nova.storages import SIZE
from tests.functional.nova.storages import Storage
from tests.long import LONG
from tests.long import each_once
from volumedrivers.attachment.journal import Journal
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.qemu_io import GuestIO

Row = tuple[typing.Any, ...]
MakeStorage = Callable[[str], Storage]
_BLOCK = 65536
# What each side can attach on a machine without a kernel's initiator.
_KINDS = {'nova': ('local', 'rbd'), 'ours': ('local', 'rbd', 'iscsi')}
_OWN = 'nova.virt.libvirt.volume.'


def rows(every: Sequence[Row], short: Sequence[Row]) -> list[ParameterSet]:
    """Return all for ``parametrize``; long are those that are not in ``short``."""
    return [pytest.param(*row, marks=() if row in short else LONG) for row in every]


class Server:
    """An instance of Nova's on the disk of a loop device.

    :ivar uuid: of the instance and of its guest
    """

    def __init__(
        self, room: NovaProcess, hypervisor: Hypervisor, libvirtd: PrivateLibvirtd
    ) -> None:
        self.room = room
        self.hypervisor = hypervisor
        self.libvirtd = libvirtd
        self.uuid = ''

    @property
    def guest(self) -> Guest:
        return self.hypervisor.guest(self.uuid)

    @property
    def io(self) -> GuestIO:
        guest = self.guest
        return GuestIO(guest, lambda: self.libvirtd.guest_log(guest.name))

    def call(self, name: str, *arguments: object) -> object:
        return self.room.call(name, self.uuid, *arguments)

    def has(self, storage: Storage, *, persistent: bool = False) -> bool:
        return any(disk.alias == storage.alias for disk in self.guest.disks(persistent=persistent))

    def size(self, storage: Storage) -> int:
        """Return what QEMU says that the guest sees."""
        (disk,) = (one for one in self.guest.disks() if one.alias == storage.alias)
        assert disk.target is not None
        return int(self.hypervisor.domain(self.uuid).blockInfo(disk.target.dev)[0])


@pytest.fixture
def root(make_storage: MakeStorage) -> Storage:
    return make_storage('local')


@pytest.fixture
def server(
    driver_room: NovaProcess,
    hypervisor: Hypervisor,
    libvirtd: PrivateLibvirtd,
    root: Storage,
    journal: Journal,
) -> Iterator[Server]:
    """One that was spawned with the drivers that the test is for; it leaves nothing."""
    made = Server(driver_room, hypervisor, libvirtd)
    yield made
    if made.uuid:
        made.call('destroy')
    assert journal.find() == ()
    assert root.users() == 0


def spawn(server: Server, root: Storage, drivers: str) -> None:
    server.room.call('restart', drivers == 'ours')
    server.uuid = server.room.call('spawn', root.connection_info())


@pytest.mark.parametrize(
    ('drivers', 'kind'),
    rows(
        [(each, kind) for each, kinds in _KINDS.items() for kind in kinds],
        [('nova', 'local'), ('ours', 'rbd'), ('ours', 'iscsi')],
    ),
)
def test_life_of_a_volume(
    server: Server,
    root: Storage,
    make_storage: MakeStorage,
    journal: Journal,
    drivers: str,
    kind: str,
) -> None:
    spawn(server, root, drivers)
    volume = make_storage(kind)
    server.call('attach', volume.connection_info(), 'sdb')
    assert server.has(volume)
    assert server.has(volume, persistent=True)
    assert volume.users() == 1
    server.io.write(volume.alias, 0x5A, MIB, _BLOCK)
    used = server.room.call('drivers')
    assert used[kind].startswith(_OWN) == (drivers == 'nova'), used
    rows = {row.volume_id: row for row in journal.find()}
    assert set(rows) == ({root.volume_id, volume.volume_id} if drivers == 'ours' else set())

    volume.grow(2 * SIZE)
    if volume.can_extend:
        server.call('extend', volume.volume_id, 2 * SIZE)
        assert server.size(volume) == 2 * SIZE
        server.io.write(volume.alias, 0x77, 2 * SIZE - MIB, _BLOCK)
    else:
        with pytest.raises(NovaFailed, match='ExtendVolumeNotSupported'):
            server.call('extend', volume.volume_id, 2 * SIZE)

    server.call('hard_reboot')
    assert server.has(root)
    assert server.has(volume)
    assert volume.users() == 1
    server.io.read(volume.alias, 0x5A, MIB, _BLOCK)
    assert {row.volume_id for row in journal.find()} == set(rows)

    server.call('detach', volume.volume_id)
    assert not server.has(volume)
    assert not server.has(volume, persistent=True)
    assert volume.users() == 0
    assert volume.read(MIB, _BLOCK) == b'\x5a' * _BLOCK
    assert {row.volume_id for row in journal.find()} == set(rows) - {volume.volume_id}


@pytest.mark.parametrize('drivers', _KINDS)
def test_guest_that_is_off(
    server: Server, root: Storage, make_storage: MakeStorage, journal: Journal, drivers: str
) -> None:
    spawn(server, root, drivers)
    volume = make_storage('local')
    server.call('power_off')
    assert not server.guest.is_running()
    server.call('attach', volume.connection_info(), 'sdb')
    assert server.has(volume, persistent=True)
    server.call('hard_reboot')
    server.io.write(volume.alias, 0x5A, MIB, _BLOCK)
    server.call('power_off')
    server.call('detach', volume.volume_id)
    assert not server.has(volume, persistent=True)
    assert volume.read(MIB, _BLOCK) == b'\x5a' * _BLOCK


@pytest.mark.parametrize('drivers', _KINDS)
def test_connector_of_this_host(
    server: Server, root: Storage, drivers: str, libvirtd: PrivateLibvirtd
) -> None:
    spawn(server, root, drivers)
    connector = server.call('connector')
    assert isinstance(connector, dict)
    assert connector['ip'] == '127.0.0.1'
    assert {'host', 'initiator', 'multipath', 'platform', 'os_type'} <= set(connector)


_SWAPS = [
    ('nova', 'local', 'local'),
    ('nova', 'local', 'rbd'),
    ('ours', 'local', 'rbd'),
    ('ours', 'rbd', 'iscsi'),
    ('ours', 'iscsi', 'local'),
]


@pytest.mark.parametrize(('drivers', 'old_kind', 'new_kind'), rows(_SWAPS, _SWAPS[2:4]))
def test_swap(
    server: Server,
    root: Storage,
    make_storage: MakeStorage,
    journal: Journal,
    drivers: str,
    old_kind: str,
    new_kind: str,
) -> None:
    spawn(server, root, drivers)
    old, new = make_storage(old_kind), make_storage(new_kind)
    server.call('attach', old.connection_info(), 'sdb')
    server.io.write(old.alias, 0x5A, MIB, _BLOCK)
    server.call('swap', old.volume_id, new.connection_info())
    assert old.users() == 0
    assert new.users() == 1
    if drivers == 'ours':
        assert {row.volume_id for row in journal.find()} == {root.volume_id, new.volume_id}

    server.call('hard_reboot')
    server.io.read(new.alias, 0x5A, MIB, _BLOCK)
    server.call('detach', new.volume_id)
    assert new.users() == 0
    assert new.read(MIB, _BLOCK) == b'\x5a' * _BLOCK


@pytest.mark.parametrize(
    ('before', 'after', 'kind'),
    each_once(*2 * [_KINDS], _KINDS['nova'], wanted=lambda before, after, _: before != after),
)
def test_switch_with_guests(
    server: Server,
    root: Storage,
    make_storage: MakeStorage,
    command: test_cli.Command,
    before: str,
    after: str,
    kind: str,
) -> None:
    """What was attached before nova-compute was restarted is used and detached after it."""
    spawn(server, root, before)
    first, second = make_storage(kind), make_storage(kind)
    server.call('attach', first.connection_info(), 'sdb')
    server.call('attach', second.connection_info(), 'sdc')
    stored = server.call('stored', first.volume_id)

    server.room.call('restart', after == 'ours')
    assert server.call('stored', first.volume_id) == stored
    if first.can_extend:
        first.grow(2 * SIZE)
        server.call('extend', first.volume_id, 2 * SIZE)
        assert server.size(first) == 2 * SIZE
    server.call('detach', first.volume_id)
    assert first.users() == 0
    server.call('hard_reboot')
    assert second.users() == 1
    server.call('detach', second.volume_id)
    assert second.users() == 0

    # What Nova's own drivers have taken away, the journal still has; it is told, and
    # the command that is named with it finds nothing left to do but that.
    left = {first.volume_id, second.volume_id} if after == 'nova' else set()
    found = command.json('audit', code=8 if left else 0)
    assert {(one['kind'], one['volume_id']) for one in found} == {
        ('not-in-guest', volume_id) for volume_id in left
    }
    for volume_id in left:
        command.run('detach', server.uuid, volume_id)
    assert command.json('audit') == []
    # Who has the root disk in the journal takes it out of it.
    server.room.call('restart', True)
