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

"""An ordinary user whose only right is rootwrap with the shipped filters."""

from collections.abc import Iterator
import json
import pathlib
import shutil
import subprocess

import pytest

from tests.functional.ordinary_user import OrdinaryUser
from volumedrivers.host import bootstrap
from volumedrivers.testing.gluster import GlusterServer

SIZE = 8 * 2**20
PASSWORD = 'correct-horse-7'

SETUP = """
import json, logging, os, sys
from oslo_config import cfg
from volumedrivers import exception
from volumedrivers.host import bootstrap
logging.basicConfig(level=logging.DEBUG, filename={log!r})
conf = cfg.ConfigOpts()
conf(['--config-file', {conf!r}], project='volumedrivers')
bootstrap.setup(conf)
assert os.geteuid() != 0
"""


@pytest.fixture(scope='module')
def user() -> Iterator[OrdinaryUser]:
    with OrdinaryUser() as made:
        yield made


@pytest.fixture(scope='module')
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GlusterServer]:
    with GlusterServer(tmp_path_factory.mktemp('gluster')) as started:
        yield started


def log_of(user: OrdinaryUser) -> pathlib.Path:
    return user.state / 'log'


def run(user: OrdinaryUser, code: str, *, conf: pathlib.Path | None = None) -> object:
    """Run code after setup; return what it prints, as JSON."""
    log_of(user).unlink(missing_ok=True)
    setup = SETUP.format(log=str(log_of(user)), conf=str(conf or user.conf_file))
    done = user.python(setup + code)
    assert done.returncode == 0, done.stderr + log_of(user).read_text()
    return json.loads(done.stdout)


def test_os_brick_reads_what_only_root_can(user: OrdinaryUser) -> None:
    credentials = user.directory / 'connector.conf'
    credentials.write_text(f'[array]\nsan_username = admin\nsan_password = {PASSWORD}\n')
    credentials.chmod(0o600)
    found = run(
        user,
        f"""
from os_brick.privileged import rootwrap, scaleio
from volumedrivers.host import connector_properties
told = connector_properties.get_connector_properties(conf)
try:
    open({str(credentials)!r})
except PermissionError:
    print(json.dumps([
        told['multipath'],
        rootwrap.execute('id', '-u', run_as_root=True)[0],
        scaleio.get_connector_username_password({str(credentials)!r}, 'array', False),
    ]))
""",
    )
    assert found == [False, '0\n', ['admin', PASSWORD]]
    log = log_of(user).read_text()
    # Two helpers ran; one logs, the other keeps what it read to itself.
    assert log.count('Spawned new privsep daemon') == 2
    assert log.count('privsep daemon running as pid') == 1
    assert 'privsep: reply[' in log
    assert PASSWORD not in log


def test_our_helper_keeps_two_capabilities(user: OrdinaryUser) -> None:
    run(
        user,
        """
from volumedrivers.privsep import nvme
nvme.delete_controller('nvme987')
print('null')
""",
    )
    kept = 'CAP_DAC_OVERRIDE|CAP_SYS_ADMIN'
    assert f'(eff/prm/inh): {kept}/{kept}/none' in log_of(user).read_text()


def test_errors_come_back_as_they_were_raised(user: OrdinaryUser) -> None:
    found = run(
        user,
        """
from volumedrivers.privsep import mount, rbd, scsi
said = []
base = conf.volumedrivers.state_path + '/mnt'
for call in (
    lambda: mount.mount('nfs', '127.0.0.1:/x', '/etc'),
    lambda: mount.mount('ext4', '/dev/vda', base + '/a'),
    lambda: mount.mount('nfs', '127.0.0.1:/x', base + '/a'),
    lambda: scsi.delete_device('../vda'),
    lambda: rbd.unmap(-1),
):
    try:
        call()
    except exception.VolumeDriversError as error:
        said.append([type(error).__name__, str(error)])
print(json.dumps(said))
""",
    )
    assert isinstance(found, list)
    assert [name for name, _ in found] == [
        'PrivilegedCallRefused',
        'PrivilegedCallRefused',
        'MountFailed',
        'PrivilegedCallRefused',
        'PrivilegedCallRefused',
    ]
    assert f'not directly below {user.state}/mnt' in found[0][1]


def test_a_configuration_of_the_user_widens_nothing(user: OrdinaryUser) -> None:
    own = user.state / 'own.conf'
    own.write_text(user.conf_file.read_text() + f'nfs_mount_point_base = {user.directory}\n')
    shutil.chown(own, user.name, user.name)
    found = run(
        user,
        f"""
from volumedrivers.privsep import mount
try:
    mount.make_mount_point({str(user.directory / 'mine')!r})
except exception.PrivilegedCallRefused as error:
    print(json.dumps(str(error)))
""",
        conf=own,
    )
    assert f'{own} does not count because others than root can change it' in str(found)
    assert not (user.directory / 'mine').exists()


@pytest.mark.parametrize(
    'command',
    [
        ['sudo', '-n', bootstrap.rootwrap(), '{conf}', 'id'],
        ['sudo', '-n', bootstrap.rootwrap(), '{conf}', 'sh', '-c', 'id'],
        ['sudo', '-n', bootstrap.rootwrap(), '{conf}', 'mount', '-t', 'tmpfs', 'x', '/mnt'],
        ['sudo', '-n', bootstrap.rootwrap(), '/etc/volumedrivers/rootwrap.conf', 'id'],
        ['sudo', '-n', 'id'],
    ],
    ids=' '.join,
)
def test_a_command_that_is_not_listed_is_refused(user: OrdinaryUser, command: list[str]) -> None:
    done = user.run(*(word.format(conf=user.rootwrap_conf) for word in command))
    assert done.returncode != 0
    assert 'uid=' not in done.stdout
    assert 'Unauthorized command' in done.stderr or 'password is required' in done.stderr


SLICE = """
from volumedrivers.attachment.manager import make_manager
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests, libvirtd
from volumedrivers.testing.qemu_io import GuestIO
import pathlib

state = pathlib.Path(conf.volumedrivers.state_path)
log = state / 'e/log/qemu/guest.log'
info = ConnectionInfo.parse({info!r})
libvirtd.prepare_embed_root(state / 'e')
with Hypervisor(conf.volumedrivers.connection_uri) as hypervisor:
    guest = guests.start_guest(hypervisor, 'guest')
    manager = make_manager(conf, hypervisor)
    attached = manager.attach(info, 'guest', DiskRequest(bus='scsi'))
    # Only ours: other servers' mounts may have been there when this began.
    def mounted():
        return [line for line in open('/proc/self/mountinfo') if info.data.export in line]

    mounts = mounted()
    alias = 'ua-' + info.volume_id
    disk = GuestIO(guest, log.read_text)
    disk.read(alias, 0x11, 0, 65536)
    disk.write(alias, 0x5A, 131072, 65536)
    manager.extend('guest', info.volume_id, {size})
    disk.write(alias, 0x77, {size} - 65536, 65536)
    manager.detach('guest', attached.target)
    left = mounted()
    guests.remove_guest(guest)
print(json.dumps([mounts, left, os.listdir(state / 'mnt'), os.getuid()]))
"""


def test_a_volume_goes_into_a_guest_and_out_again(
    user: OrdinaryUser, server: GlusterServer, tmp_path: pathlib.Path
) -> None:
    volume = '5c9e0d2c-2f0e-4f53-9a51-6e5b6a3c9a01'
    place = tmp_path / 'cinder'
    place.mkdir()
    subprocess.run(['mount', '-t', 'glusterfs', server.export, str(place)], check=True)
    try:
        path = place / volume
        path.write_bytes(b'\x11' * 65536)
        path.open('r+b').truncate(SIZE)
        shutil.chown(path, user.name, user.name)
    finally:
        subprocess.run(['umount', str(place)], check=True)
    info = {
        'driver_volume_type': 'glusterfs',
        'serial': volume,
        'data': {
            'export': server.export,
            'name': volume,
            'format': 'raw',
            'volume_id': volume,
        },
    }
    found = run(user, SLICE.format(info=info, size=2 * SIZE))
    assert isinstance(found, list)
    mounts, left, points, uid = found
    assert uid != 0
    assert len(mounts) == 1
    assert {'nosuid', 'nodev'} <= set(mounts[0].split()[5].split(','))
    assert left == []
    assert points == []
    written = (server.brick / volume).read_bytes()
    assert written[131072:196608] == b'\x5a' * 65536
    assert written[-65536:] == b'\x77' * 65536
    assert len(written) == 2 * SIZE
