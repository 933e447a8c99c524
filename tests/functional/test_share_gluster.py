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

"""Volumes on a real GlusterFS: mounted here, and opened by QEMU itself."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import os
import pathlib
import signal
import subprocess

from oslo_config import cfg
import pytest

from tests import rng
from tests.functional import gluster_host
from volumedrivers import exception
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import bootstrap
from volumedrivers.host import mount_table
from volumedrivers.libvirt.context import make_context
from volumedrivers.libvirt.driver import DiskInfo
from volumedrivers.libvirt.drivers.glusterfs import GlusterfsVolumeDriver
from volumedrivers.libvirt.guest import Guest
from volumedrivers.testing.gluster import GlusterServer
from volumedrivers.testing.qemu_io import GuestIO

SIZE = 8 * 2**20
DISK = DiskInfo(bus='scsi', dev='sda')


server = gluster_host.server
mounts = gluster_host.mounts
libvirtd = gluster_host.libvirtd
hypervisor = gluster_host.hypervisor


@pytest.fixture
def conf(tmp_path: pathlib.Path, mounts: pathlib.Path) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], project='volumedrivers', default_config_files=[])
    conf.set_override('state_path', str(tmp_path), group='volumedrivers')
    conf.set_override('glusterfs_mount_point_base', str(mounts), group='volumedrivers')
    conf.set_override('mount_timeout', 10, group='volumedrivers')
    bootstrap.setup(conf)
    return conf


@pytest.fixture
def driver(conf: cfg.ConfigOpts) -> GlusterfsVolumeDriver:
    return GlusterfsVolumeDriver(make_context(conf))


def make_volume(server: GlusterServer, name: str, kind: str = 'raw') -> ConnectionInfo:
    """Make a volume with a pattern in its first 64 KiB, as Cinder would."""
    path = server.brick / name
    # Through the servers, or GlusterFS would not know the file.
    place = server.directory / 'cinder'
    place.mkdir(exist_ok=True)
    subprocess.run(['mount', '-t', 'glusterfs', server.export, str(place)], check=True)
    try:
        path = place / name
        subprocess.run(['qemu-img', 'create', '-q', '-f', kind, str(path), str(SIZE)], check=True)
        qemu_io(kind, path, 'write -P 0x11 0 64k')
    finally:
        subprocess.run(['umount', str(place)], check=True)
    return ConnectionInfo.parse(
        {
            'driver_volume_type': 'glusterfs',
            'serial': name,
            'data': {'export': server.export, 'name': name, 'format': kind, 'volume_id': name},
        }
    )


def qemu_io(kind: str, path: pathlib.Path, command: str) -> str:
    done = subprocess.run(
        ['qemu-io', '-f', kind, '-c', command, str(path)],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def attach_use_grow_and_detach(
    driver: GlusterfsVolumeDriver,
    volume: ConnectionInfo,
    guest: Guest,
    guest_io: GuestIO,
) -> None:
    """Put the volume through all that a guest does with it."""
    connected = driver.connect_volume(volume, guest.uuid)
    disk = driver.get_disk(volume, connected, DISK)
    rng.validate_disk(disk.to_xml())
    guest.attach_disk(disk)
    alias = f'ua-{volume.volume_id}'
    guest_io.read(alias, 0x11, 0, 65536)
    guest_io.write(alias, 0x5A, 131072, 65536)
    size = driver.extend_volume(volume, guest.uuid, 2 * SIZE, volume=connected)
    guest.resize_disk('sda', size)
    guest_io.write(alias, 0x77, 2 * SIZE - 65536, 65536)
    guest.detach_disk(alias=alias, target='sda')
    driver.disconnect_volume(volume, guest.uuid, volume=connected)


@pytest.fixture
def nothing_left(
    server: GlusterServer, mounts: pathlib.Path, tmp_path: pathlib.Path
) -> Iterator[Callable[[], bool]]:
    def look() -> bool:
        counted = [name for _, _, names in os.walk(tmp_path / 'share-users') for name in names]
        return not server.mounted_at() and not counted and not os.listdir(mounts)

    yield look
    # What one test leaves is not to fail the next.
    for mount_point in server.mounted_at():
        subprocess.run(['umount', '--lazy', mount_point], check=False)
        os.rmdir(mount_point)


@pytest.mark.parametrize('kind', ['raw', 'qcow2'])
def test_mounted(
    server: GlusterServer,
    driver: GlusterfsVolumeDriver,
    guest: Guest,
    guest_io: GuestIO,
    nothing_left: Callable[[], bool],
    kind: str,
) -> None:
    volume = make_volume(server, f'volume-{kind}', kind)
    attach_use_grow_and_detach(driver, volume, guest, guest_io)
    assert nothing_left()
    path = server.brick / f'volume-{kind}'
    assert 'failed' not in qemu_io(kind, path, 'read -P 0x5a 131072 64k')
    assert 'failed' not in qemu_io(kind, path, f'read -P 0x77 {2 * SIZE - 65536} 64k')


def test_opened_by_qemu(
    server: GlusterServer,
    driver: GlusterfsVolumeDriver,
    conf: cfg.ConfigOpts,
    guest: Guest,
    guest_io: GuestIO,
    nothing_left: Callable[[], bool],
) -> None:
    conf.set_override('glusterfs_client', 'qemu', group='volumedrivers')
    volume = make_volume(server, 'volume-in-qemu')
    attach_use_grow_and_detach(driver, volume, guest, guest_io)
    assert nothing_left()
    path = server.brick / 'volume-in-qemu'
    assert 'failed' not in qemu_io('raw', path, 'read -P 0x5a 131072 64k')
    assert path.stat().st_size == 2 * SIZE


def test_two_volumes_share_a_mount(
    server: GlusterServer, driver: GlusterfsVolumeDriver, nothing_left: Callable[[], bool]
) -> None:
    first, second = make_volume(server, 'first'), make_volume(server, 'second')
    driver.connect_volume(first, 'guest')
    driver.connect_volume(second, 'guest')
    driver.connect_volume(first, 'another guest')
    assert len(server.mounted_at()) == 1
    driver.disconnect_volume(first, 'guest')
    driver.disconnect_volume(first, 'another guest')
    assert len(server.mounted_at()) == 1
    driver.disconnect_volume(second, 'guest')
    assert nothing_left()


def test_a_file_that_lies_is_refused(
    server: GlusterServer, driver: GlusterfsVolumeDriver, nothing_left: Callable[[], bool]
) -> None:
    raw = make_volume(server, 'liar')
    lie = {**raw.to_dict(), 'data': {**raw.to_connector(), 'format': 'qcow2'}}
    with pytest.raises(exception.UnsafeImage):
        driver.connect_volume(ConnectionInfo.parse(lie), 'guest')
    assert nothing_left()


def test_a_link_out_of_the_share_is_refused(
    server: GlusterServer, driver: GlusterfsVolumeDriver, nothing_left: Callable[[], bool]
) -> None:
    volume = make_volume(server, 'link')
    (server.brick / 'link').rename(server.brick / 'moved')
    (server.brick / 'link').symlink_to('/etc/passwd')
    with pytest.raises(exception.VolumeDriversError) as caught:
        driver.connect_volume(volume, 'guest')
    assert isinstance(caught.value, exception.DataAtRisk)
    assert nothing_left()


def test_no_such_server(driver: GlusterfsVolumeDriver, nothing_left: Callable[[], bool]) -> None:
    nobody = ConnectionInfo.parse(
        {
            'driver_volume_type': 'glusterfs',
            'data': {'export': '127.255.255.1:/none', 'name': 'x', 'volume_id': 'x'},
        }
    )
    with pytest.raises(exception.VolumeDriversError):
        driver.connect_volume(nobody, 'guest')
    assert nothing_left()


@contextlib.contextmanager
def stopped(server: GlusterServer, mount_point: str) -> Iterator[int]:
    """Stop the client that serves a mount, as a client that hangs."""
    (pid,) = [
        int(path.parent.name)
        for path in pathlib.Path('/proc').glob('[0-9]*/cmdline')
        if mount_point in path.read_bytes().decode(errors='replace').split('\0')
        and 'glusterfs' in path.read_bytes().decode(errors='replace')
    ]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_a_client_that_hangs(
    server: GlusterServer,
    driver: GlusterfsVolumeDriver,
    conf: cfg.ConfigOpts,
    nothing_left: Callable[[], bool],
) -> None:
    volume, other = make_volume(server, 'hangs'), make_volume(server, 'later')
    driver.connect_volume(volume, 'guest')
    (mount_point,) = server.mounted_at()
    conf.set_override('mount_timeout', 1, group='volumedrivers')
    with stopped(server, mount_point):
        with pytest.raises(exception.DeadlineExceeded):
            driver.connect_volume(other, 'guest')
        # A mount that does not answer can be taken away all the same.
        driver.disconnect_volume(volume, 'guest', force=True)
        assert mount_table.find(mount_point) is None
    assert nothing_left()


def test_what_is_there_is_told_as_it_is(
    driver: GlusterfsVolumeDriver, server: GlusterServer
) -> None:
    volume = make_volume(server, 'volume-told')
    assert driver.plan_connect(volume, 'a')[1].startswith(f'mount -t glusterfs {server.export} ')
    connected = driver.connect_volume(volume, 'a')
    assert connected.path is not None
    place = os.path.dirname(connected.path)

    assert driver.current_identity(volume, connected) == connected.identity
    assert [str(each) for each in driver.remains(volume, 'a', volume=connected)] == [
        f'mount {place} (this attachment is counted as a user)'
    ]
    # Another file under the name of the volume.
    other = pathlib.Path(place, 'other')
    other.write_bytes(bytes(SIZE))
    other.rename(connected.path)
    assert driver.current_identity(volume, connected) not in (None, connected.identity)
    with pytest.raises(exception.IdentityMismatch):
        driver.extend_volume(volume, 'a', 2 * SIZE, volume=connected)
    pathlib.Path(connected.path).unlink()
    assert driver.current_identity(volume, connected) is None

    assert driver.plan_disconnect(volume, 'a', volume=connected) == (
        f'unmount {place}',
        f'remove directory {place}',
    )
    driver.disconnect_volume(ConnectionInfo.parse(volume.to_dict()), 'a')
    assert driver.remains(volume, 'a', volume=connected) == ()
    assert driver.current_identity(volume, connected) is None
