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

from collections.abc import Iterator
import concurrent.futures
import contextlib
import pathlib

import pytest

from tests.functional.nova.conftest import driver_process
from tests.functional.nova.conftest import settings
from tests.functional.nova.migrating import Host
from tests.functional.nova.migrating import MakeStorage
from tests.functional.nova.migrating import Move
from tests.functional.nova.process import NovaFailed
from tests.functional.nova.process import NovaProcess
from tests.functional.nova.storages import MIB
from tests.functional.nova.storages import LoopStorage
from tests.functional.nova.storages import Storage
from tests.functional.nova.test_libvirt_driver import rows
from tests.lab.waiting import wait_until
from tests.long import LONG
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import server
from volumedrivers.testing.libvirtd import PrivateLibvirtd

_BLOCK = 65536
# What only this package's drivers read of a connection_info.
_OURS = 'volumedrivers_source'


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


@pytest.fixture
def move(source: Host, destination: Host, make_storage: MakeStorage) -> Iterator[Move]:
    made = Move(source, destination, make_storage)
    yield made
    for host in (source, destination):
        if made.uuid in host.guests():
            host.room.call('destroy', made.uuid)
    for host in (source, destination):
        assert host.rows(made.uuid) == {}
        assert host.passwords(made.uuid) == set()
        assert host.command.json('audit') == []
        assert made.uuid not in host.guests()


def initiators(host: Host, uuid: str, persistent: bool) -> set[str]:
    """Return as whom QEMU logs in; each host has a name of its own."""
    disks = host.hypervisor.guest(uuid).disks(persistent=persistent)
    return {disk.source.initiator_iqn for disk in disks if disk.source.initiator_iqn}


def sources(host: Host, uuid: str, volume: Storage) -> set[str | None]:
    """Return the paths that both definitions of the guest name for a volume."""
    guest = host.hypervisor.guest(uuid)
    disks = [*guest.disks(), *guest.disks(persistent=True)]
    return {disk.source.dev for disk in disks if disk.alias == volume.alias and disk.source}


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
    assert set(move.told_back()) == ids

    assert move.go() == ('completed', '')
    assert source.rows(move.uuid) == {}
    assert source.passwords(move.uuid) == set()
    assert move.uuid not in source.guests()
    move.arrive()
    assert volume.users() == 1
    there = destination.io(move.uuid)
    there.read(volume.alias, 0x5A, MIB, _BLOCK)
    there.write(volume.alias, 0x77, 2 * MIB, _BLOCK)
    if kind == 'iscsi':
        assert destination.passwords(move.uuid)
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


@pytest.mark.parametrize(
    ('before', 'after'),
    rows([('ours', 'ours'), ('nova', 'ours'), ('ours', 'nova')], []),
)
def test_device_that_is_called_otherwise_there(
    move: Move, source: Host, destination: Host, before: str, after: str
) -> None:
    source.room.call('restart', before == 'ours')
    destination.room.call('restart', after == 'ours')
    move.start('local')
    _, volume = move.volumes
    assert isinstance(volume, LoopStorage)
    source.io(move.uuid).write(volume.alias, 0x5A, MIB, _BLOCK)
    here = move.told[volume.volume_id]['data']['device_path']
    there = volume.another_device()
    move.told[volume.volume_id] = {
        **volume.connection_info(),
        'data': {**volume.connection_info()['data'], 'device_path': there},
    }
    assert sources(source, move.uuid, volume) == {here}

    move.prepare()
    assert move.go() == ('completed', '')
    move.arrive()
    assert sources(destination, move.uuid, volume) == {there}
    assert volume.users() == 0
    destination.io(move.uuid).read(volume.alias, 0x5A, MIB, _BLOCK)
    destination.room.call('hard_reboot', move.uuid)
    assert sources(destination, move.uuid, volume) == {there}
    destination.room.call('detach', move.uuid, volume.volume_id)


@pytest.fixture
def multiattach() -> bool:
    """Whether Cinder lets several servers have the volume at once."""
    return False


@pytest.fixture
def connected(move: Move, source: Host, destination: Host, multiattach: bool) -> Iterator[Move]:
    """An instance of which the destination has connected the volumes.

    Whatever becomes of that, it goes on where it is.
    """
    for host in (source, destination):
        host.room.call('restart', True)
    move.start('iscsi', multiattach=multiattach)
    _, volume = move.volumes
    before = source.rows(move.uuid)
    assert set(before) == {each.volume_id for each in move.volumes}
    source.io(move.uuid).write(volume.alias, 0x5A, MIB, _BLOCK)
    move.prepare()
    assert destination.rows(move.uuid) == before
    yield move
    assert source.rows(move.uuid) == before
    assert volume.users() == 1
    source.io(move.uuid).read(volume.alias, 0x5A, MIB, _BLOCK)
    source.io(move.uuid).write(volume.alias, 0x77, 2 * MIB, _BLOCK)
    destination.room.call('forget', move.uuid)
    source.room.call('detach', move.uuid, volume.volume_id)
    assert volume.read(2 * MIB, _BLOCK) == b'\x77' * _BLOCK


def test_destination_that_is_not_reached(
    connected: Move, source: Host, destination: Host, reach: pathlib.Path
) -> None:
    """The guest has not left when it fails; both sides of Nova undo what they did."""
    place = reach / destination.libvirtd.address
    place.unlink()
    try:
        ended, said = connected.go()
    finally:
        place.symlink_to(destination.libvirtd.socket)
    assert (ended, place.name in said) == ('failed', True), said
    connected.roll_back()
    assert destination.rows(connected.uuid) == {}


@LONG
def test_destination_that_refuses_the_guest(
    connected: Move, source: Host, destination: Host
) -> None:
    """libvirt of the destination has begun when it fails: it has no password for QEMU."""
    _, volume = connected.volumes
    secret = connected.told_back()[volume.volume_id]['data'][_OURS]['secret_uuid']
    destination.hypervisor.change(
        'lose a secret', lambda libvirt: libvirt.secretLookupByUUIDString(secret).undefine()
    )
    ended, said = connected.go()
    assert (ended, secret in said) == ('failed', True), said
    assert connected.uuid not in destination.guests()
    connected.roll_back()
    assert destination.rows(connected.uuid) == {}


@LONG
def test_what_nova_leaves_on_the_destination(connected: Move, destination: Host) -> None:
    """Where Nova takes it that nothing was connected, this host knows better.

    So it is when the network of the destination is not ready in time.
    """
    connected.roll_back(volumes=False)
    left = {volume.volume_id for volume in connected.volumes}
    assert set(destination.rows(connected.uuid)) == left
    found = destination.command.json('audit', code=8)
    assert {(one['kind'], one['volume_id']) for one in found} == {
        ('guest-gone', volume_id) for volume_id in left
    }
    for volume_id in left:
        destination.command.run('detach', connected.uuid, volume_id)
    assert destination.rows(connected.uuid) == {}


@LONG
def test_again_after_nova_left_it_on_the_destination(
    move: Move, source: Host, destination: Host
) -> None:
    """What is there already is connected once more, and guest and row come together."""
    for host in (source, destination):
        host.room.call('restart', True)
    move.start('iscsi')
    _, volume = move.volumes
    source.io(move.uuid).write(volume.alias, 0x5A, MIB, _BLOCK)
    move.prepare()
    move.roll_back(volumes=False)
    destination.room.call('forget', move.uuid)
    move.prepare()
    assert move.go() == ('completed', '')
    move.arrive()
    assert source.rows(move.uuid) == {}
    destination.io(move.uuid).read(volume.alias, 0x5A, MIB, _BLOCK)
    assert destination.command.json('audit') == []


@LONG
def test_destination_that_cannot_connect(move: Move, source: Host, destination: Host) -> None:
    """What it had connected before, Nova lets it disconnect at once."""
    for host in (source, destination):
        host.room.call('restart', True)
    move.start('iscsi')
    _, volume = move.volumes
    elsewhere = volume.connection_info()
    elsewhere['data']['target_portal'] = f'127.0.0.1:{server.free_port()}'
    move.told[volume.volume_id] = elsewhere
    with pytest.raises(NovaFailed, match='does not answer'):
        move.prepare()
    assert destination.rows(move.uuid) == {}
    move.roll_back(volumes=False)
    destination.room.call('forget', move.uuid)
    assert set(source.rows(move.uuid)) == {each.volume_id for each in move.volumes}
    source.io(move.uuid).write(volume.alias, 0x77, MIB, _BLOCK)


@LONG
@pytest.mark.parametrize('multiattach', [True])
def test_another_guest_of_the_destination_has_the_volume(
    connected: Move, destination: Host, make_storage: MakeStorage
) -> None:
    """Users are counted on the host that is asked to disconnect, not on the instance's."""
    _, volume = connected.volumes
    other = destination.room.call('spawn', make_storage('local').connection_info())
    try:
        destination.room.call('attach', other, connected.told[volume.volume_id], 'sdb')
        assert volume.users() == 2
        connected.roll_back()
        destination.room.call('hard_reboot', other)
        assert volume.users() == 2
        destination.io(other).read(volume.alias, 0x5A, MIB, _BLOCK)
        assert volume.volume_id in destination.rows(other)
    finally:
        destination.room.call('destroy', other)
    assert destination.rows(other) == {}


@LONG
def test_source_has_no_driver_for_what_the_destination_connects(
    connected: Move, source: Host, destination: Host
) -> None:
    """Nova describes the disk of the destination with the drivers of the source.

    Its own one has no words for a volume that QEMU logs in to.
    """
    source.room.call('restart', False)
    assert connected.go() == ('failed', "KeyError: 'device_path'")
    connected.roll_back()
    assert destination.rows(connected.uuid) == {}
    source.room.call('restart', True)


@LONG
def test_migration_that_is_cancelled(connected: Move, source: Host, destination: Host) -> None:
    """QEMU of the destination has opened the volume by then."""
    guest = source.hypervisor.domain(connected.uuid)
    source.room.call('slow_down', 1)
    try:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            going = pool.submit(connected.go)
            wait_until(
                lambda: going.done() or guest.jobStats().get('memory_processed', 0) > 0,
                'memory on its way',
            )
            assert connected.uuid in destination.guests()
            guest.abortJob()
            ended, said = going.result()
    finally:
        source.room.call('slow_down', 0)
    # Nova looks twice a second, and misses how it ended.
    assert (ended in ('cancelled', 'failed'), 'canceled' in said) == (True, True), said
    assert connected.uuid not in destination.guests()
    connected.roll_back()
    assert destination.rows(connected.uuid) == {}


@LONG
def test_source_that_cannot_disconnect(move: Move, source: Host, destination: Host) -> None:
    """Nova goes on as if it had, and the journal keeps what it has not."""
    for host in (source, destination):
        host.room.call('restart', True)
    move.start('iscsi')
    _, volume = move.volumes
    move.prepare()
    source.room.call('hold', volume.volume_id)
    try:
        assert move.go() == ('completed', '')
    finally:
        source.room.call('let_go')
    move.arrive()
    assert set(source.rows(move.uuid)) == {volume.volume_id}
    (found,) = source.command.json('audit', code=8)
    assert (found['kind'], found['volume_id']) == ('guest-gone', volume.volume_id)
    source.command.run('detach', move.uuid, volume.volume_id)
    assert source.rows(move.uuid) == {}
    destination.io(move.uuid).write(volume.alias, 0x5A, MIB, _BLOCK)


@LONG
def test_there_and_back(move: Move, source: Host, destination: Host) -> None:
    for host in (source, destination):
        host.room.call('restart', True)
    move.start('iscsi')
    _, volume = move.volumes
    source.io(move.uuid).write(volume.alias, 0x5A, MIB, _BLOCK)
    for here, there in ((source, destination), (destination, source)):
        move.source, move.destination = here, there
        move.prepare()
        assert move.go() == ('completed', '')
        move.arrive()
        assert here.rows(move.uuid) == {}
        assert here.passwords(move.uuid) == set()
        there.io(move.uuid).read(volume.alias, 0x5A, MIB, _BLOCK)
        assert volume.users() == 1
    source.room.call('hard_reboot', move.uuid)
    source.io(move.uuid).read(volume.alias, 0x5A, MIB, _BLOCK)
    source.room.call('detach', move.uuid, volume.volume_id)
