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
import subprocess

import pytest

from tests.functional import crash_host
from tests.functional import crash_points
from tests.functional import crash_table
from tests.functional.crash_host import Host
from tests.functional.crash_host import Volume
from tests.functional.crash_points import Point
from volumedrivers import exception
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing.gluster import GlusterServer
from volumedrivers.testing.libvirtd import PrivateLibvirtd

KINDS = tuple(crash_host.KINDS)
GROWING = tuple(name for name, kind in crash_host.KINDS.items() if kind.can_grow)
MIB = crash_host.MIB


@pytest.fixture(scope='module')
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    mounts = tmp_path_factory.mktemp('mnt')
    # A place that libvirtd's mount namespace sees.
    crash_host.run_root('mount', '--bind', str(mounts), str(mounts))
    crash_host.run_root('mount', '--make-shared', str(mounts))
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
            host.close()
            guests.remove_guest(guest)
    finally:
        subprocess.run(['umount', '--lazy', str(mounts)], check=True)


@pytest.fixture(params=KINDS)
def volume(request: pytest.FixtureRequest, host: Host) -> Iterator[Volume]:
    with host.volume(request.param) as made:
        yield made


@pytest.fixture(params=GROWING)
def growing(request: pytest.FixtureRequest, host: Host) -> Iterator[Volume]:
    with host.volume(request.param) as made:
        yield made


def kill(host: Host, volume: Volume, point: Point, *call: object) -> None:
    ended = host.child(volume, call, kill=point.kill, fail=point.fail)
    assert ended['killed'], (str(point), ended)
    # Its locks died with it.
    assert host.lock_holder(volume) is None


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
    host.io.read(alias, 0x11, 0, crash_host.BLOCK)


def size_in_guest(host: Host, volume: Volume) -> int:
    record = host.record(volume)
    assert record is not None
    with host.hypervisor.translated('ask for the size'):
        return int(host.hypervisor.domain(host.guest.uuid).blockInfo(record.target)[0])


@pytest.mark.timeout(300)
def test_attach(host: Host, volume: Volume) -> None:
    for point in (
        *crash_points.points('attach', volume.name),
        *crash_points.undo_points(volume.name),
    ):
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
def test_detach(host: Host, volume: Volume) -> None:
    for number, point in enumerate(crash_points.points('detach', volume.name), start=1):
        host.perform(volume, 'attach')
        host.io.write(f'ua-{volume.id}', number, crash_host.BLOCK, crash_host.BLOCK)
        kill(host, volume, point, 'detach')
        recover(host, volume, point)
        require_nothing(host, point)
        assert volume.holds(number, 1), str(point)
        # Again, and there is nothing to do.
        assert not host.perform(volume, 'detach')['removed_from_guest']
        require_nothing(host, point)
    assert volume.holds(0x11, 0)


@pytest.mark.timeout(300)
def test_extend(host: Host, growing: Volume) -> None:
    volume = growing
    alias = f'ua-{volume.id}'
    host.perform(volume, 'attach')
    header = volume.size - size_in_guest(host, volume)
    for number, point in enumerate(crash_points.points('extend', volume.name), start=1):
        host.io.write(alias, number, crash_host.BLOCK, crash_host.BLOCK)
        volume.grow(volume.size + MIB)
        kill(host, volume, point, 'extend', volume.size)
        recover(host, volume, point)
        require_attached(host, volume, point)
        assert size_in_guest(host, volume) == volume.size - header, str(point)
        host.io.read(alias, number, crash_host.BLOCK, crash_host.BLOCK)
        # Again: it has that size.
        host.perform(volume, 'extend', volume.size)
    host.perform(volume, 'detach')
    require_nothing(host, 'extend')
    assert volume.holds(0x11, 0)
