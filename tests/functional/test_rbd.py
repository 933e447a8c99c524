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

"""RBD by QEMU's librbd, against a real Ceph cluster with cephx."""

from collections.abc import Iterator
import itertools
import pathlib
import socket

import pytest

from tests import rng
from tests.functional import network_sources
from volumedrivers import exception
from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing.ceph import CephCluster
from volumedrivers.testing.guests import CooperatingGuest
from volumedrivers.testing.qemu_io import GuestIO

MIB = 2**20
USAGE = 'client.cinder secret'
_numbers = itertools.count(1)


@pytest.fixture(scope='module')
def secret_uuid(hypervisor: Hypervisor, cluster: CephCluster) -> Iterator[str]:
    """The secret an operator defines once on every host."""
    yield hypervisor.secrets.ensure('ceph', USAGE, cluster.key)
    hypervisor.secrets.delete('ceph', USAGE)


@pytest.fixture
def image(cluster: CephCluster) -> Iterator[str]:
    name = f'volume-{next(_numbers)}'
    cluster.create_image(name, 16 * MIB)
    yield name
    cluster.remove(name)


@pytest.fixture
def context(hypervisor: Hypervisor, cluster: CephCluster, tmp_path: pathlib.Path) -> DriverContext:
    return network_sources.context(
        hypervisor, tmp_path, rbd_ceph_conf=str(cluster.conf), endpoint_timeout=2.0
    )


def test_scsi_disk_with_cephx(
    context: DriverContext,
    guest: Guest,
    guest_io: GuestIO,
    cluster: CephCluster,
    image: str,
    secret_uuid: str,
    tmp_path: pathlib.Path,
) -> None:
    attached = network_sources.Attached(
        context, cluster.connection_info(image, secret_uuid=secret_uuid), guest
    )

    disk = attached.attach('scsi')
    rng.validate_disk(disk.to_xml())
    assert attached.volume is not None
    assert str(attached.volume.identity) == f'rbd:{cluster.fsid}/volumes/{image}'
    assert cluster.watchers(image) == 1
    guest_io.read(attached.alias, 0, 0, 65536)
    guest_io.write(attached.alias, 0x5A, MIB, 65536)

    cluster.resize(image, 32 * MIB)
    attached.extend(32 * MIB)
    assert attached.size_in_qemu() == 32 * MIB
    guest_io.write(attached.alias, 0x77, 31 * MIB, 65536)

    attached.detach()
    assert guest.disks() == guest.disks(persistent=True) == ()
    assert guest_io.node_names() == set()
    assert cluster.watchers(image) == 0
    content = cluster.read(image, tmp_path)
    assert len(content) == 32 * MIB
    assert content[MIB : MIB + 65536] == b'\x5a' * 65536
    assert content[31 * MIB : 31 * MIB + 65536] == b'\x77' * 65536
    assert content.count(0) == len(content) - 2 * 65536
    # The operator's secret is not the driver's to remove.
    assert guest.hypervisor.secrets.find('ceph', USAGE) == secret_uuid


def test_linux_writes_a_virtio_disk(
    context: DriverContext,
    linux_guest: CooperatingGuest,
    cluster: CephCluster,
    image: str,
    secret_uuid: str,
    tmp_path: pathlib.Path,
) -> None:
    attached = network_sources.Attached(
        context, cluster.connection_info(image, secret_uuid=secret_uuid), linux_guest.guest
    )
    attached.attach('virtio')
    device = linux_guest.device_of(str(attached.info.serial)[:20])

    linux_guest.check(
        f'head -c 65536 /dev/zero | tr "\\000" "Z" | dd of=/dev/{device} bs=64k seek=1 '
        f'2>/dev/null && sync'
    )
    cluster.resize(image, 24 * MIB)
    attached.extend(24 * MIB)
    assert int(linux_guest.check(f'cat /sys/block/{device}/size')) * 512 == 24 * MIB

    attached.detach()
    assert cluster.watchers(image) == 0
    content = cluster.read(image, tmp_path)
    assert content[65536 : 2 * 65536] == b'Z' * 65536


def test_user_and_secret_of_this_host(
    hypervisor: Hypervisor,
    guest: Guest,
    guest_io: GuestIO,
    cluster: CephCluster,
    image: str,
    secret_uuid: str,
    tmp_path: pathlib.Path,
) -> None:
    context = network_sources.context(
        hypervisor, tmp_path, rbd_user=cluster.user, rbd_secret_uuid=secret_uuid
    )
    attached = network_sources.Attached(
        context, cluster.connection_info(image, secret_uuid=None), guest
    )
    attached.attach('scsi')
    guest_io.read(attached.alias, 0, 0, 65536)
    attached.detach()


def test_monitors_from_ceph_conf(
    context: DriverContext,
    guest: Guest,
    guest_io: GuestIO,
    cluster: CephCluster,
    image: str,
    secret_uuid: str,
) -> None:
    raw = cluster.connection_info(image, secret_uuid=secret_uuid)
    del raw['data']['hosts'], raw['data']['ports']
    attached = network_sources.Attached(context, raw, guest)
    attached.attach('scsi')
    assert attached.volume is not None
    assert (attached.volume.paths.asked, attached.volume.paths.found) == (2, 2)
    guest_io.read(attached.alias, 0, 0, 65536)
    attached.detach()


def test_wrong_key_is_refused_and_leaves_nothing(
    context: DriverContext, guest: Guest, guest_io: GuestIO, cluster: CephCluster, image: str
) -> None:
    secrets = guest.hypervisor.secrets
    # A key has this form; the value is another.
    wrong = cluster.key[:-16] + bytes(16)
    uuid = secrets.ensure('ceph', 'wrong', wrong)
    attached = network_sources.Attached(
        context, cluster.connection_info(image, secret_uuid=uuid), guest
    )
    try:
        with pytest.raises(exception.AttachRefused):
            attached.attach('scsi')
        attached.disconnect()
    finally:
        secrets.delete('ceph', 'wrong')
    assert guest.disks() == guest.disks(persistent=True) == ()
    assert guest_io.node_names() == set()
    assert cluster.watchers(image) == 0


def test_missing_image_is_refused(
    context: DriverContext, guest: Guest, cluster: CephCluster, secret_uuid: str
) -> None:
    attached = network_sources.Attached(
        context, cluster.connection_info('nowhere', secret_uuid=secret_uuid), guest
    )
    with pytest.raises(exception.AttachRefused):
        attached.attach('scsi')
    attached.disconnect()
    assert guest.disks() == ()


def test_silent_monitor_is_refused_before_libvirt_hears_of_it(
    context: DriverContext, guest: Guest, cluster: CephCluster, image: str, secret_uuid: str
) -> None:
    raw = cluster.connection_info(image, secret_uuid=secret_uuid)
    with socket.create_server(('127.0.0.1', 0)) as silent:
        raw['data'].update(hosts=['127.0.0.1'], ports=[str(silent.getsockname()[1])])
        attached = network_sources.Attached(context, raw, guest)
        with pytest.raises(exception.EndpointUnreachable, match='no answer within 2 s'):
            attached.attach('scsi')
    assert guest.disks() == ()
    assert cluster.watchers(image) == 0


def test_volume_works_with_one_dead_monitor(
    context: DriverContext,
    guest: Guest,
    guest_io: GuestIO,
    cluster: CephCluster,
    image: str,
    secret_uuid: str,
) -> None:
    raw = cluster.connection_info(image, secret_uuid=secret_uuid)
    with socket.create_server(('127.0.0.1', 0)) as closed:
        port = closed.getsockname()[1]
    raw['data']['hosts'].append('127.0.0.1')
    raw['data']['ports'].append(str(port))
    attached = network_sources.Attached(context, raw, guest)
    attached.attach('scsi')
    assert attached.volume is not None
    assert [path.reason for path in attached.volume.paths.failed] == ['connection refused']
    guest_io.read(attached.alias, 0, 0, 65536)
    attached.detach()
