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

"""The whole life of a disk, for every kind of storage on both buses.

One guest has a Linux that reads, writes and lets go; the other has nothing
that could answer, and so keeps its virtio disk.  libvirtd is restarted in the
middle, and takes with it the secrets that live in its memory.
"""

import abc
from collections.abc import Iterator
import itertools
import pathlib
import time

import pytest

from tests.functional import network_sources
from tests.functional import volumes
from volumedrivers import exception
from volumedrivers.libvirt.disk import IOTune
from volumedrivers.libvirt.events import Verdict
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing.ceph import CephCluster
from volumedrivers.testing.guests import CooperatingGuest
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.qemu_io import GuestIO
from volumedrivers.testing.tgt import IscsiTarget

MIB = 2**20
SIZE = 16 * MIB
LIMITS = IOTune(total_bytes_sec=200 * MIB, total_iops_sec=5000, total_iops_sec_max=9000)
_numbers = itertools.count(1)


class Storage(abc.ABC):
    """A volume of 16 MiB, and how it gets into a guest."""

    can_grow = True
    serial: str

    @property
    def alias(self) -> str:
        return f'ua-{self.serial}'

    @abc.abstractmethod
    def attach(self, guest: Guest, bus: str) -> str:
        """Attach; return the target's name."""

    @abc.abstractmethod
    def grow(self, guest: Guest, target: str, size: int) -> None: ...

    def disconnect(self) -> None:  # noqa: B027 - a file needs nothing
        """Take off the host what is out of the guest."""

    @abc.abstractmethod
    def holds(self, pattern: int, offset: int) -> bool:
        """Tell whether the storage has 64 KiB of this value; no guest may have it open."""


class ImageStorage(Storage):
    """A file, opened by QEMU or by an NBD server."""

    def __init__(self, volume: volumes.Volume) -> None:
        self.volume = volume
        self.can_grow = not isinstance(volume, volumes.NbdVolume)
        self.serial = f'image-{next(_numbers)}'

    def attach(self, guest: Guest, bus: str) -> str:
        target = guest.free_target(bus)
        guest.attach_disk(self.volume.disk(bus, target, self.serial))
        return target

    def grow(self, guest: Guest, target: str, size: int) -> None:
        guest.resize_disk(target, size)

    def holds(self, pattern: int, offset: int) -> bool:
        return self.volume.holds(pattern, offset)


class DriverStorage(Storage):
    """A volume that a driver connects."""

    def __init__(self, context: network_sources.DriverContext, raw: dict[str, object]) -> None:
        self.context = context
        self.raw = raw
        self.serial = str(raw['serial'])
        self.attached: network_sources.Attached

    def attach(self, guest: Guest, bus: str) -> str:
        self.attached = network_sources.Attached(self.context, self.raw, guest)
        self.attached.attach(bus)
        return str(self.attached.target)

    @abc.abstractmethod
    def grow_volume(self, size: int) -> None: ...

    def grow(self, guest: Guest, target: str, size: int) -> None:
        self.grow_volume(size)
        self.attached.extend(size)

    def disconnect(self) -> None:
        self.attached.disconnect()


class IscsiStorage(DriverStorage):
    def __init__(self, context: network_sources.DriverContext, target: IscsiTarget) -> None:
        super().__init__(context, target.connection_info())
        self.target = target

    def grow_volume(self, size: int) -> None:
        self.target.grow(size)

    def disconnect(self) -> None:
        super().disconnect()
        assert self.target.sessions() == 0
        usage = f'{self.attached.info.volume_id}/{network_sources.ATTACHMENT}'
        assert self.attached.guest.hypervisor.secrets.find('iscsi', usage) is None

    def holds(self, pattern: int, offset: int) -> bool:
        with self.target.image.open('rb') as image:
            image.seek(offset)
            return image.read(65536) == bytes([pattern]) * 65536


class RbdStorage(DriverStorage):
    def __init__(
        self,
        context: network_sources.DriverContext,
        cluster: CephCluster,
        image: str,
        secret_uuid: str,
        directory: pathlib.Path,
    ) -> None:
        super().__init__(context, cluster.connection_info(image, secret_uuid=secret_uuid))
        self.cluster = cluster
        self.image = image
        self.directory = directory

    def grow_volume(self, size: int) -> None:
        self.cluster.resize(self.image, size)

    def disconnect(self) -> None:
        super().disconnect()
        assert self.cluster.watchers(self.image) == 0

    def holds(self, pattern: int, offset: int) -> bool:
        content = self.cluster.read(self.image, self.directory)
        return content[offset : offset + 65536] == bytes([pattern]) * 65536


def _iscsi(hypervisor: Hypervisor, directory: pathlib.Path) -> Iterator[Storage]:
    context = network_sources.context(
        hypervisor,
        directory,
        iscsi_client='qemu',
        iscsi_initiator_name='iqn.2020-01.test:host',
        endpoint_timeout=2.0,
    )
    with IscsiTarget(directory / 'target', size=SIZE, chap=('user', 'a-password-16')) as target:
        yield IscsiStorage(context, target)


def _rbd(
    hypervisor: Hypervisor, directory: pathlib.Path, cluster: CephCluster
) -> Iterator[Storage]:
    context = network_sources.context(
        hypervisor, directory, rbd_ceph_conf=str(cluster.conf), endpoint_timeout=2.0
    )
    image = f'matrix-{next(_numbers)}'
    cluster.create_image(image, SIZE)
    # On disk, as an operator defines it once on a host.
    usage = f'client.cinder {image}'
    uuid = hypervisor.secrets.ensure('ceph', usage, cluster.key, ephemeral=False)
    yield RbdStorage(context, cluster, image, uuid, directory)
    hypervisor.secrets.delete('ceph', usage)
    cluster.remove(image)


@pytest.fixture(params=['raw', 'qcow2', 'nbd', 'iscsi', 'rbd'])
def storage(
    request: pytest.FixtureRequest, hypervisor: Hypervisor, tmp_path: pathlib.Path
) -> Iterator[Storage]:
    if request.param == 'iscsi':
        yield from _iscsi(hypervisor, tmp_path)
    elif request.param == 'rbd':
        yield from _rbd(hypervisor, tmp_path, request.getfixturevalue('cluster'))
    else:
        with volumes.KINDS[request.param](tmp_path, SIZE) as volume:
            yield ImageStorage(volume)


def write(linux: CooperatingGuest, device: str, letter: str, offset: int) -> None:
    linux.check(
        f'head -c 65536 /dev/zero | tr "\\000" "{letter}" | '
        f'dd of=/dev/{device} bs=64k seek={offset // 65536} 2>/dev/null && sync'
    )


def read(linux: CooperatingGuest, device: str, letter: str, offset: int) -> int:
    """Return how many of 64 KiB are the letter, asked of the storage and not of a cache."""
    linux.check('echo 3 >/proc/sys/vm/drop_caches')
    return int(
        linux.check(
            f'dd if=/dev/{device} bs=64k count=1 skip={offset // 65536} 2>/dev/null | '
            f'tr -cd {letter} | wc -c'
        )
    )


def size_seen(linux: CooperatingGuest, device: str, expected: int) -> int:
    """Return the bytes that the guest sees, once it has handled QEMU's notice."""
    deadline = time.monotonic() + 10
    while True:
        seen = int(linux.check(f'cat /sys/block/{device}/size')) * 512
        if seen == expected or time.monotonic() > deadline:
            return seen
        time.sleep(0.05)


@pytest.mark.parametrize('bus', ['virtio', 'scsi'])
def test_life_of_a_disk(
    libvirtd: PrivateLibvirtd, linux_guest: CooperatingGuest, storage: Storage, bus: str
) -> None:
    guest = linux_guest.guest
    target = storage.attach(guest, bus)
    device = linux_guest.device_of(storage.serial)
    write(linux_guest, device, 'A', MIB)
    assert read(linux_guest, device, 'A', MIB) == 65536
    guest.set_iotune(target, LIMITS)

    libvirtd.restart()

    assert [disk.alias for disk in guest.disks()] == [storage.alias]
    assert guest.iotune(target).total_iops_sec_max == LIMITS.total_iops_sec_max
    end = SIZE
    if storage.can_grow:
        end *= 2
        storage.grow(guest, target, end)
    assert size_seen(linux_guest, device, end) == end
    write(linux_guest, device, 'Z', end - 65536)
    assert read(linux_guest, device, 'A', MIB) == 65536

    with guest.hypervisor.events.waiter(guest.uuid, storage.alias) as waiter:
        guest.detach_disk(alias=storage.alias, target=target, attempts=3, timeout=5)
        assert waiter.wait(5) is Verdict.REMOVED
    storage.disconnect()
    assert guest.disks() == ()
    assert linux_guest.run(f'test -e /sys/block/{device}')[0] == 1
    assert storage.holds(ord('A'), MIB)
    assert storage.holds(ord('Z'), end - 65536)


def test_guest_that_does_not_let_go(guest: Guest, guest_io: GuestIO, storage: Storage) -> None:
    target = storage.attach(guest, 'virtio')
    with pytest.raises(exception.DetachTimeout):
        guest.detach_disk(alias=storage.alias, target=target, attempts=1, timeout=0.3)

    assert [disk.alias for disk in guest.disks()] == [storage.alias]
    guest_io.write(storage.alias, 0x5A, MIB, 65536)
    # QEMU keeps the question, and a reset answers it.  Nobody asks again just
    # then: libvirtd 9.0 crashes when the answer comes while it asks.
    with guest.hypervisor.events.waiter(guest.uuid, storage.alias) as waiter:
        guests.reset_guest(guest)
        assert waiter.wait(5) is Verdict.REMOVED
    assert guest.disks() == guest.disks(persistent=True) == ()
    with pytest.raises(exception.DiskNotFound):
        guest.detach_disk(alias=storage.alias, target=target)
    storage.disconnect()
    assert guest_io.node_names() == set()
    assert storage.holds(0x5A, MIB)
