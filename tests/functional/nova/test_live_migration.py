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

"""Live migration by Nova's own LibvirtDrivers, from one libvirtd to another.

There are two nova-computes without the rest of Nova, each with a host of its own: libvirtd,
host name, address, journal.  What they tell each other goes through the test, as it would
through Nova's messages.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import pathlib
import typing

import pytest

from tests.functional import test_cli
from tests.functional.nova.conftest import driver_process
from tests.functional.nova.conftest import settings
from tests.functional.nova.process import NovaProcess
from tests.functional.nova.storages import MIB
from tests.functional.nova.storages import RbdStorage
from tests.functional.nova.storages import Storage
from tests.functional.nova.test_libvirt_driver import rows
from volumedrivers.attachment import manager
from volumedrivers.attachment.journal import Journal
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.qemu_io import GuestIO

MakeStorage = Callable[[str], Storage]
_BLOCK = 65536


@dataclasses.dataclass(frozen=True)
class Host:
    """A nova-compute, its libvirtd, and what this package keeps there.

    :ivar directory: with ``state``, where the journal is
    """

    room: NovaProcess
    libvirtd: PrivateLibvirtd
    hypervisor: Hypervisor
    directory: pathlib.Path

    def rows(self, uuid: str) -> dict[str, str | None]:
        """Return who has written the rows of the instance's volumes, by volume."""
        with contextlib.closing(
            Journal(str(self.directory / 'state' / manager.JOURNAL))
        ) as opened:
            return {row.volume_id: row.manager for row in opened.find(domain_uuid=uuid)}

    def guests(self) -> set[str]:
        """Return the uuids of all that libvirt knows, also of those that do not run."""
        return {guest.uuid for guest in self.hypervisor.guests()}

    def io(self, uuid: str) -> GuestIO:
        guest = self.hypervisor.guest(uuid)
        return GuestIO(guest, lambda: self.libvirtd.guest_log(guest.name))

    @property
    def command(self) -> test_cli.Command:
        return test_cli.Command(self.libvirtd.uri, self.directory)


@pytest.fixture
def source(
    driver_room: NovaProcess,
    libvirtd: PrivateLibvirtd,
    hypervisor: Hypervisor,
    state: pathlib.Path,
) -> Host:
    return Host(driver_room, libvirtd, hypervisor, state.parent)


@pytest.fixture(scope='module')
def destination(
    mounts: pathlib.Path, reach: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Host]:
    """A second host."""
    directory = tmp_path_factory.mktemp('other')
    (directory / 'state').mkdir()
    with contextlib.ExitStack() as stack:
        libvirtd = stack.enter_context(
            PrivateLibvirtd(
                tmp_path_factory.mktemp('libvirtd'), name='otherhost', address='127.0.0.3'
            )
        )
        (reach / libvirtd.address).symlink_to(libvirtd.socket)
        given = settings(directory, libvirtd, directory / 'state', mounts)
        given['options']['volumedrivers']['iscsi_initiator_name'] = 'iqn.2020-01.test:other-host'
        hypervisor = stack.enter_context(Hypervisor(libvirtd.uri))
        room = stack.enter_context(driver_process(given, libvirtd, reach))
        yield Host(room, libvirtd, hypervisor, directory)


class Move:
    """An instance that is to go from one host to another.

    :ivar uuid: of the instance and of its guest
    :ivar data: what the hosts have told each other, as Nova sends it
    """

    def __init__(self, source: Host, destination: Host, make_storage: MakeStorage) -> None:
        self.source = source
        self.destination = destination
        self.uuid = ''
        self.data: dict[str, typing.Any] = {}
        self._make = make_storage
        self.volumes: list[Storage] = []

    def make_storage(self, kind: str) -> Storage:
        """Make a volume that both hosts can reach."""
        made = self._make(kind)
        if isinstance(made, RbdStorage):
            made.share_secret(self.destination.hypervisor)
        self.volumes.append(made)
        return made

    def start(self, *others: str) -> None:
        """Start the instance on its source, with volumes of some kinds."""
        root = self.make_storage('local')
        self.uuid = self.source.room.call('spawn', root.connection_info())
        for letter, kind in zip('bcdef', others, strict=False):
            volume = self.make_storage(kind)
            self.source.room.call('attach', self.uuid, volume.connection_info(), f'sd{letter}')

    def prepare(self) -> None:
        """Check both hosts, and connect the volumes to the destination."""
        there, here = self.destination.room, self.source.room
        new = {volume.volume_id: volume.connection_info() for volume in self.volumes}
        there.call(
            'expect',
            self.uuid,
            self.source.libvirtd.name,
            [
                (new[info['volume_id']], device, index)
                for info, device, index in here.call('mappings', self.uuid)
            ],
        )
        data = there.call('check_at_destination', self.uuid, here.call('resources'))
        self.data = here.call('check_at_source', self.uuid, data)
        there.call('end_check_at_destination', data)
        self.data = there.call('pre_live_migration', self.uuid, self.data)

    def go(self) -> str:
        """Migrate; return how that ended."""
        name = self.destination.libvirtd.name
        return self.source.room.call('live_migration', self.uuid, name, self.data)


@pytest.fixture
def move(source: Host, destination: Host, make_storage: MakeStorage) -> Iterator[Move]:
    made = Move(source, destination, make_storage)
    yield made
    for host in (source, destination):
        if made.uuid in host.guests():
            host.room.call('destroy', made.uuid)
    for host in (source, destination):
        assert host.rows(made.uuid) == {}
        assert made.uuid not in host.guests()


def initiators(host: Host, uuid: str, persistent: bool) -> set[str]:
    """Return as whom QEMU logs in; each host has a name of its own."""
    disks = host.hypervisor.guest(uuid).disks(persistent=persistent)
    return {disk.source.initiator_iqn for disk in disks if disk.source.initiator_iqn}


@pytest.mark.parametrize(
    ('before', 'after', 'kind'),
    rows(
        [
            ('ours', 'ours', 'rbd'),
            ('ours', 'ours', 'iscsi'),
            ('nova', 'ours', 'rbd'),
            ('ours', 'nova', 'rbd'),
        ],
        [('ours', 'ours', 'iscsi')],
    ),
)
def test_live_migration(
    move: Move, source: Host, destination: Host, before: str, after: str, kind: str
) -> None:
    source.room.call('restart', before == 'ours')
    destination.room.call('restart', after == 'ours')
    move.start(kind)
    root, volume = move.volumes
    ids = {root.volume_id, volume.volume_id}
    source.io(move.uuid).write(volume.alias, 0x5A, MIB, _BLOCK)

    move.prepare()
    assert destination.rows(move.uuid) == {
        volume_id: 'nova' for volume_id in ids if after == 'ours'
    }
    bdms = {one['nova_object.data']['serial'] for one in move.data['nova_object.data']['bdms']}
    assert bdms == ids

    assert move.go() == 'completed'
    assert source.rows(move.uuid) == {}
    assert move.uuid not in source.guests()
    destination.room.call('post_live_migration_at_destination', move.uuid)
    assert volume.users() == 1
    there = destination.io(move.uuid)
    there.read(volume.alias, 0x5A, MIB, _BLOCK)
    there.write(volume.alias, 0x77, 2 * MIB, _BLOCK)
    source.room.call('forget', move.uuid)
    if kind == 'iscsi':
        for persistent in (False, True):
            assert initiators(destination, move.uuid, persistent) == {
                'iqn.2020-01.test:other-host'
            }

    destination.room.call('detach', move.uuid, volume.volume_id)
    assert volume.users() == 0
    assert volume.read(MIB, _BLOCK) == b'\x5a' * _BLOCK
    assert volume.read(2 * MIB, _BLOCK) == b'\x77' * _BLOCK
    destination.room.call('destroy', move.uuid)
    assert root.users() == 0
