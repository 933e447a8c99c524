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

"""Processes that are killed with SIGKILL, anywhere, and what recover makes of it.

A child carries an operation out and dies; then recover runs in this process,
twice.  After it nothing may be left that the journal does not know, the guest
has the volume wholly or not at all, what was written is there, and the
operation can be called again.
"""

from collections.abc import Iterator
import functools
import subprocess

import pytest

from tests import long
from tests.functional import crash_points
from tests.functional import crash_table
from tests.functional import crash_volumes
from tests.functional.crash_host import Host
from tests.functional.crash_points import Point
from tests.functional.crash_volumes import Volume
from volumedrivers import exception
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing import server as server_module
from volumedrivers.testing.gluster import GlusterServer
from volumedrivers.testing.libvirtd import PrivateLibvirtd

KINDS = tuple(crash_volumes.KINDS)
GROWING = tuple(name for name, kind in crash_volumes.KINDS.items() if kind.can_grow)
MIB = crash_volumes.MIB


@pytest.fixture(scope='module')
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    mounts = tmp_path_factory.mktemp('mnt')
    # A place that libvirtd's mount namespace sees.
    crash_volumes.run_root('mount', '--bind', str(mounts), str(mounts))
    crash_volumes.run_root('mount', '--make-shared', str(mounts))
    try:
        with (
            GlusterServer(tmp_path_factory.mktemp('gluster')) as server,
            PrivateLibvirtd(tmp_path_factory.mktemp('libvirtd')) as libvirtd,
            Hypervisor(libvirtd.uri) as hypervisor,
        ):
            guest = guests.start_guest(hypervisor, 'crashes', persistent=True)
            host = Host(
                tmp_path_factory.mktemp('crash'), mounts, server, libvirtd, hypervisor, guest
            )
            yield host
            server_module.wait_until(
                lambda: not host.clients(), what='clients of shares to end', timeout=20
            )
            host.close()
            guests.remove_guest(guest)
    finally:
        subprocess.run(['umount', '--lazy', str(mounts)], check=True)


@pytest.fixture(params=KINDS)
def volume(request: pytest.FixtureRequest, host: Host) -> Iterator[Volume]:
    with host.volume(request.param) as made:
        yield made


@pytest.fixture(params=long.PARTS)
def part(request: pytest.FixtureRequest) -> str:
    """Whether it is the points that are tried each time, or all others."""
    return str(request.param)


@pytest.fixture(params=GROWING)
def growing(request: pytest.FixtureRequest, host: Host) -> Iterator[Volume]:
    with host.volume(request.param) as made:
        yield made


def kill(host: Host, volume: Volume, point: Point, *call: object) -> None:
    ended = host.child(volume, call, kill=point.kill, fail=point.fail)
    assert ended['killed'], (str(point), ended)
    # Its locks died with it.
    host.require_unlocked(volume)


def recover(host: Host, volume: Volume, point: Point) -> None:
    """Recover twice; the second time there is nothing to do."""
    outcomes = host.perform(volume, 'recover')
    done = [action for action, _ in outcomes] or [crash_points.NOTHING]
    assert host.perform(volume, 'recover') == [], (str(point), outcomes)
    if point.expected is not None:
        assert done == [point.expected], (str(point), outcomes)
    assert set(done) <= {crash_points.FINISHED, crash_points.UNDONE, crash_points.NOTHING}, (
        outcomes
    )
    crash_table.add(volume.name, point, done[0])


def require_nothing(host: Host, point: Point | str) -> None:
    host.wait_for_sessions_to_end()
    seen = host.seen()
    assert seen == host.nothing(), str(point)


def require_attached(host: Host, volume: Volume, point: Point | str) -> None:
    alias = f'ua-{volume.id}'
    seen = host.seen()
    assert seen['disks'] == ([alias], [alias]), str(point)
    assert seen['rows'] == [(volume.id, None, '', '')], str(point)
    assert len(host.mounted()) == volume.mounts, str(point)
    assert len(seen['users']) == 2 * volume.mounts, (str(point), seen)
    assert len(seen['secrets']) == volume.secrets, (str(point), seen)
    assert seen['sessions'] == (1 if volume.name == 'iscsi' else 0), str(point)
    host.io.read(alias, 0x11, 0, crash_volumes.BLOCK)


def size_in_guest(host: Host, volume: Volume) -> int:
    record = host.record(volume)
    assert record is not None
    with host.hypervisor.translated('ask for the size'):
        return int(host.hypervisor.domain(host.guest.uuid).blockInfo(record.target)[0])


@pytest.mark.timeout(300)
def test_attach(host: Host, volume: Volume, part: str) -> None:
    def points(kind: str) -> tuple[Point, ...]:
        return *crash_points.points('attach', kind), *crash_points.undo_points(kind)

    for point in long.part_of(part, points, volume.name, KINDS):
        kill(host, volume, point, 'attach')
        recover(host, volume, point)
        if host.record(volume) is not None:
            require_attached(host, volume, point)
            with pytest.raises(exception.AlreadyAttached):
                host.perform(volume, 'attach')
        else:
            require_nothing(host, point)
            host.perform(volume, 'attach')
            require_attached(host, volume, point)
        host.perform(volume, 'detach')
        require_nothing(host, point)
    assert volume.holds(0x11, 0)


@pytest.mark.timeout(300)
def test_detach(host: Host, volume: Volume, part: str) -> None:
    points = functools.partial(crash_points.points, 'detach')
    chosen = long.part_of(part, points, volume.name, KINDS)
    for number, point in enumerate(chosen, start=1):
        host.perform(volume, 'attach')
        host.io.write(f'ua-{volume.id}', number, crash_volumes.BLOCK, crash_volumes.BLOCK)
        kill(host, volume, point, 'detach')
        recover(host, volume, point)
        require_nothing(host, point)
        assert volume.holds(number, 1), str(point)
        # Again, and there is nothing to do.
        assert not host.perform(volume, 'detach')['removed_from_guest']
        require_nothing(host, point)
    assert volume.holds(0x11, 0)


@pytest.mark.timeout(300)
def test_extend(host: Host, growing: Volume, part: str) -> None:
    volume = growing
    points = functools.partial(crash_points.points, 'extend')
    chosen = long.part_of(part, points, volume.name, GROWING)
    alias = f'ua-{volume.id}'
    host.perform(volume, 'attach')
    header = volume.size - size_in_guest(host, volume)
    for number, point in enumerate(chosen, start=1):
        host.io.write(alias, number, crash_volumes.BLOCK, crash_volumes.BLOCK)
        volume.grow(volume.size + MIB)
        kill(host, volume, point, 'extend', volume.size)
        recover(host, volume, point)
        require_attached(host, volume, point)
        assert size_in_guest(host, volume) == volume.size - header, str(point)
        host.io.read(alias, number, crash_volumes.BLOCK, crash_volumes.BLOCK)
        # Again: it has that size.
        host.perform(volume, 'extend', volume.size)
    host.perform(volume, 'detach')
    require_nothing(host, 'extend')
    assert volume.holds(0x11, 0)


def test_called_again(host: Host, volume: Volume, part: str) -> None:
    """Instead of recover: what is called next settles what was interrupted."""

    def points(kind: str) -> tuple[tuple[Point, str, bool], ...]:
        return crash_points.again_points(kind, can_grow=kind in GROWING)

    for point, then, has_it in long.part_of(part, points, volume.name, KINDS):
        size: tuple[int, ...] = ()
        if point.operation != 'attach':
            host.perform(volume, 'attach')
        if point.operation == 'extend':
            volume.grow(volume.size + MIB)
            size = (volume.size,)
        kill(host, volume, point, point.operation, *size)
        try:
            host.perform(volume, then, *size)
        except exception.AlreadyAttached:
            assert (then, point.label) == ('attach', 'after')
        if has_it:
            require_attached(host, volume, point)
            host.perform(volume, 'detach')
        require_nothing(host, point)
        assert host.perform(volume, 'recover') == []
        crash_table.add(volume.name, point, f'{then} again')
    assert volume.holds(0x11, 0)


def test_recover_is_killed(host: Host, volume: Volume, part: str) -> None:
    begun = crash_points.at('attach', 'attach', 'before')
    for point in long.part_of(part, crash_points.recover_points, volume.name, KINDS):
        kill(host, volume, begun, 'attach')
        kill(host, volume, point, 'recover')
        recover(host, volume, point)
        require_nothing(host, point)
    assert volume.holds(0x11, 0)


def test_reconnect_is_killed(host: Host, volume: Volume, part: str) -> None:
    """After a reboot, before the guest is started."""
    points = functools.partial(crash_points.connect_points, 'reconnect')
    guest = guests.start_guest(host.hypervisor, 'defined', running=False)
    with host.other_guest(guest):
        for point in long.part_of(part, points, volume.name, KINDS):
            with host.boot('the one before'):
                host.perform(volume, 'attach')
            kill(host, volume, point, 'reconnect')
            outcomes = host.perform(volume, 'recover')
            done = [action for action, _ in outcomes]
            if point.expected == crash_points.NOTHING:
                assert done == [], (str(point), outcomes)
            else:
                assert done == ['undone', 'reconnected'], (str(point), outcomes)
            assert host.perform(volume, 'recover') == [], str(point)
            require_connected(host, volume, point)
            host.perform(volume, 'detach')
            require_nothing(host, point)
            crash_table.add(volume.name, point, (done or [crash_points.NOTHING])[-1])
    assert volume.holds(0x11, 0)


def require_connected(host: Host, volume: Volume, point: Point) -> None:
    """As require_attached, for a guest that does not run."""
    seen = host.seen()
    assert seen['disks'] == ([f'ua-{volume.id}'],) * 2, str(point)
    assert seen['rows'] == [(volume.id, None, '', '')], str(point)
    assert len(host.mounted()) == volume.mounts, str(point)
    assert len(seen['users']) == 2 * volume.mounts, (str(point), seen)
    assert len(seen['secrets']) == volume.secrets, (str(point), seen)
    record = host.record(volume)
    assert record is not None
    assert record.boot_id == host.manager.context.boot_id


REPAIRED = ('raw', 'iscsi', 'block')


@pytest.mark.parametrize('kind', REPAIRED)
def test_repair_is_killed(host: Host, kind: str, part: str) -> None:
    points = functools.partial(crash_points.connect_points, 'repair')
    with host.volume(kind) as volume:
        host.perform(volume, 'attach')
        for point in long.part_of(part, points, kind, REPAIRED):
            kill(host, volume, point, 'repair')
            recover(host, volume, point)
            require_attached(host, volume, point)
            host.perform(volume, 'repair')
        host.perform(volume, 'detach')
        require_nothing(host, 'repair')


def test_forget_is_killed(host: Host) -> None:
    hook = {'step': '', 'hook': crash_points.TRANSACTION, 'moment': 'after'}
    point = Point('forget', '', 'not committed', dict(hook), crash_points.NOTHING)
    with host.volume('raw') as volume:
        host.perform(volume, 'attach')
        kill(host, volume, point, 'forget')
        recover(host, volume, point)
        require_attached(host, volume, point)
        host.perform(volume, 'detach')
        require_nothing(host, point)


LIBVIRTD_TOO = ('luks', 'iscsi')


@pytest.mark.parametrize('kind', LIBVIRTD_TOO)
def test_libvirtd_is_killed_as_well(host: Host, kind: str, part: str) -> None:
    """What libvirt itself has lost of QEMU stays in the journal until QEMU ends."""
    points = (
        crash_points.at('attach', 'attach', 'libvirt at it'),
        crash_points.at('attach', 'attach', 'after'),
        crash_points.at('detach', 'detach', 'QEMU asked'),
        crash_points.at('detach', 'detach', 'after'),
    )
    with host.volume(kind) as volume:
        for point in long.part_of(part, lambda _: points, kind, LIBVIRTD_TOO):
            guest = guests.start_guest(host.hypervisor, 'survives', persistent=True)
            with host.other_guest(guest):
                if point.operation == 'detach':
                    host.perform(volume, 'attach')
                kill(host, volume, point, point.operation)
                host.libvirtd.restart(kill=True)
                ((action, detail),) = host.perform(volume, 'recover')
                if action == 'failed':
                    assert 'busy' in detail, str(point)
                    assert host.record(volume) is not None
                    with host.hypervisor.translated('destroy the guest'):
                        host.hypervisor.domain(guest.uuid).destroy()
                    recover(host, volume, point)
                else:
                    assert host.perform(volume, 'recover') == [], str(point)
                    crash_table.add(volume.name, point, action)
                if host.record(volume) is not None:
                    require_connected(host, volume, point)
                    host.perform(volume, 'detach')
                require_nothing(host, point)
        assert volume.holds(0x11, 0)


WITHOUT_GUEST = ('raw', 'luks', 'iscsi')


@pytest.fixture(params=WITHOUT_GUEST)
def some_volume(request: pytest.FixtureRequest, host: Host) -> Iterator[Volume]:
    with host.volume(request.param) as made:
        yield made


@pytest.mark.parametrize('persistent', [True, False])
def test_guest_is_gone(host: Host, some_volume: Volume, persistent: bool, part: str) -> None:
    """It was stopped, or is not there any more, when recover comes."""
    volume = some_volume
    points = (
        crash_points.at('attach', 'attach', 'before'),
        crash_points.at('attach', 'attach', 'after'),
        crash_points.at('detach', 'detach', 'before'),
        crash_points.at('detach', 'detach', 'after'),
        crash_points.at('extend', 'resize', 'before'),
    )
    for point in long.part_of(part, lambda _: points, volume.name, WITHOUT_GUEST):
        guest = guests.start_guest(host.hypervisor, 'goes', persistent=persistent)
        with host.other_guest(guest):
            size: tuple[int, ...] = ()
            if point.operation != 'attach':
                host.perform(volume, 'attach')
            if point.operation == 'extend':
                size = (volume.size + MIB,)
            kill(host, volume, point, point.operation, *size)
            with host.hypervisor.translated('destroy the guest'):
                host.hypervisor.domain(guest.uuid).destroy()
            recover(host, volume, point)
            if persistent and host.record(volume) is not None:
                require_connected(host, volume, point)
            if host.record(volume) is not None:
                # Also of a guest that is gone: an extend says nothing of that.
                assert persistent or point.operation == 'extend'
                host.perform(volume, 'detach')
            assert host.seen(with_disks=False) == host.nothing(), str(point)
    assert volume.holds(0x11, 0)


@pytest.mark.parametrize('volume', long.only(['raw', 'iscsi'], KINDS), indirect=True)
def test_transient_guest_after_a_reboot(host: Host, volume: Volume) -> None:
    guest = guests.start_guest(host.hypervisor, 'transient')
    with host.other_guest(guest):
        with host.boot('the one before'):
            host.perform(volume, 'attach')
            guests.remove_guest(guest)
        outcomes = host.perform(volume, 'recover')
        assert [action for action, _ in outcomes] == ['finished'], outcomes
        assert host.perform(volume, 'recover') == []
        assert host.seen(with_disks=False) == host.nothing()


@pytest.mark.parametrize('operation', ['attach', 'detach'])
def test_qemu_hangs(host: Host, operation: str) -> None:
    """What QEMU has not answered yet is not guessed: the row stays until it has."""
    ask = {'attach': 'attachDeviceFlags', 'detach': 'detachDeviceAlias'}[operation]
    point = Point(
        operation,
        operation,
        'QEMU hangs',
        {'step': operation, 'hook': f'libvirt:virDomain.{ask}', 'moment': 200},
        None,
    )
    guest = guests.start_guest(host.hypervisor, 'hangs', persistent=True)
    with host.other_guest(guest), host.volume('iscsi') as volume:
        if operation == 'detach':
            host.perform(volume, 'attach')
        with host.stopped_qemu():
            kill(host, volume, point, operation)
            ((action, detail),) = host.perform(volume, 'recover')
            assert action == 'failed', detail
            assert 'QEMU' in detail
            record = host.record(volume)
            assert record is not None
            assert str(record.operation) == operation
        host.guest.wait_until_idle()
        recover(host, volume, point)
        if host.record(volume) is not None:
            require_attached(host, volume, point)
            host.perform(volume, 'detach')
        require_nothing(host, point)


@pytest.mark.parametrize('kind', ['raw', 'iscsi'])
def test_recover_beside_running_operations(host: Host, kind: str) -> None:
    """It takes nothing from whoever is at it."""
    seen: set[str] = set()
    with host.volume(kind) as volume:
        host.begin(volume, *[['attach'], ['detach']] * 5)
        while host.is_at_it():
            seen.update(action for action, _ in host.perform(volume, 'recover'))
        ended = host.end()
        assert 'error' not in ended, ended
        require_nothing(host, 'beside')
    assert seen == {'running'}
