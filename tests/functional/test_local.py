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

"""A block device of this host in a guest: the driver local, on a loop device."""

from collections.abc import Iterator
import pathlib
import subprocess

import pytest

from tests import rng
from tests.functional import network_sources
from tests.functional import test_cli
from volumedrivers import exception
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing.guests import CooperatingGuest
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.libvirtd import find_program
from volumedrivers.testing.qemu_io import GuestIO

MIB = 2**20
SIZE = 16 * MIB
VOLUME_ID = 'c1b2d3e4-0016-4aaa-8bbb-000000000001'


@pytest.fixture
def image(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / 'volume.raw'
    path.write_bytes(b'\x11' * 65536 + bytes(SIZE - 65536))
    return path


@pytest.fixture
def device(image: pathlib.Path) -> Iterator[str]:
    losetup = find_program('losetup', 'mount')
    made = subprocess.run(
        [losetup, '--find', '--show', str(image)], check=True, capture_output=True, text=True
    ).stdout.strip()
    yield made
    subprocess.run([losetup, '--detach', made], check=True)


@pytest.fixture
def raw(device: str) -> dict[str, object]:
    return {
        'driver_volume_type': 'local',
        'serial': VOLUME_ID,
        'data': {'device_path': device, 'volume_id': VOLUME_ID},
    }


def test_scsi_disk(
    hypervisor: Hypervisor,
    guest: Guest,
    guest_io: GuestIO,
    raw: dict[str, object],
    image: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    attached = network_sources.Attached(network_sources.context(hypervisor, tmp_path), raw, guest)
    disk = attached.attach('scsi')
    rng.validate_disk(disk.to_xml())
    assert disk.type == 'block'
    guest_io.read(attached.alias, 0x11, 0, 65536)
    guest_io.write(attached.alias, 0x5A, MIB, 65536)
    assert attached.size_in_qemu() == SIZE
    with pytest.raises(exception.ExtendVolumeNotSupported):
        attached.extend(2 * SIZE)

    attached.detach()
    assert guest.disks() == guest.disks(persistent=True) == ()
    assert guest_io.node_names() == set()
    assert image.read_bytes()[MIB : MIB + 65536] == b'\x5a' * 65536


def test_linux_reads_a_virtio_disk(
    hypervisor: Hypervisor,
    linux_guest: CooperatingGuest,
    raw: dict[str, object],
    tmp_path: pathlib.Path,
) -> None:
    context = network_sources.context(hypervisor, tmp_path)
    attached = network_sources.Attached(context, raw, linux_guest.guest)
    attached.attach('virtio')
    name = linux_guest.device_of(VOLUME_ID)
    assert linux_guest.check(f'head -c 65536 /dev/{name} | tr -cd "\\021" | wc -c') == '65536'
    attached.detach()
    assert linux_guest.guest.disks() == ()


def test_what_is_no_block_device_is_not_connected(
    hypervisor: Hypervisor, guest: Guest, raw: dict[str, object], tmp_path: pathlib.Path
) -> None:
    context = network_sources.context(hypervisor, tmp_path)
    for path in ('/dev/no-such-device', '/dev/null'):
        raw['data'] = {'device_path': path, 'volume_id': VOLUME_ID}
        with pytest.raises(exception.VolumeDeviceNotFound):
            network_sources.Attached(context, raw, guest).attach('scsi')
    assert guest.disks() == ()


def test_way_to_the_device_as_a_tree(
    libvirtd: PrivateLibvirtd,
    hypervisor: Hypervisor,
    guest: Guest,
    raw: dict[str, object],
    device: str,
    tmp_path: pathlib.Path,
) -> None:
    attached = network_sources.Attached(network_sources.context(hypervisor, tmp_path), raw, guest)
    attached.attach('scsi')
    command = test_cli.Command(libvirtd.uri, tmp_path)
    tree = command.run('show', guest.name, 'sda', '--tree').stdout.splitlines()
    assert tree == [
        f'guest {guest.name}  {guest.uuid}',
        '└── disk sda  disk, scsi',
        f'    ├── volume {VOLUME_ID}',
        f'    └── block {device}  raw, 16 MiB ({SIZE} bytes)',
        f'        └── device {device}',
        f'            └── path {device.removeprefix("/dev/")}  running',
    ]
    attached.detach()
