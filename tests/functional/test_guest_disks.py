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

"""Disks of real guests: in, through, larger, limited and out again."""

import concurrent.futures
import os
import pathlib
import signal

import pytest

from tests.functional import volumes
from volumedrivers import exception
from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.disk import IOTune
from volumedrivers.libvirt.disk import Source
from volumedrivers.libvirt.events import Verdict
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing.guests import CooperatingGuest
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.qemu_io import GuestIO


def aliases(guest: Guest, *, persistent: bool = False) -> list[str | None]:
    return [disk.alias for disk in guest.disks(persistent=persistent)]


def test_scsi_disk_goes_in_works_and_goes_out(
    guest: Guest, guest_io: GuestIO, volume: volumes.Volume
) -> None:
    guest.attach_disk(volume.disk('scsi', 'sda'))
    assert aliases(guest) == aliases(guest, persistent=True) == ['ua-volume']

    guest_io.read('ua-volume', 0x11, 0, 65536)
    guest_io.write('ua-volume', 0x5A, 131072, 65536)
    with guest.hypervisor.events.waiter(guest.uuid, 'ua-volume') as waiter:
        guest.detach_disk(alias='ua-volume', target='sda')
        assert waiter.wait(5) is Verdict.REMOVED

    assert aliases(guest) == aliases(guest, persistent=True) == []
    assert guest_io.node_names() == set()
    assert volume.holds(0x5A, 131072)
    assert volume.holds(0x11, 0)


@pytest.mark.parametrize(('bus', 'dev'), [('virtio', 'vda'), ('scsi', 'sda')])
def test_linux_reads_and_writes_and_lets_go(
    linux_guest: CooperatingGuest, volume: volumes.Volume, bus: str, dev: str
) -> None:
    guest = linux_guest.guest
    guest.attach_disk(volume.disk(bus, dev))
    device = linux_guest.device_of('volume')

    seen = linux_guest.check(f'head -c 65536 /dev/{device} | tr -cd "\\021" | wc -c')
    assert seen == '65536'
    linux_guest.check(
        f'dd if=/dev/zero bs=64k count=1 2>/dev/null | tr "\\000" "\\132" | '
        f'dd of=/dev/{device} bs=64k seek=2 2>/dev/null && sync'
    )
    guest.detach_disk(alias='ua-volume', target=dev, attempts=2, timeout=5)

    assert guest.disks() == ()
    assert linux_guest.run(f'test -e /sys/block/{device}')[0] == 1
    assert volume.holds(0x5A, 131072)


@pytest.mark.parametrize('kind', ['raw', 'qcow2'])
def test_linux_sees_the_disk_grow(
    linux_guest: CooperatingGuest, tmp_path: pathlib.Path, kind: str
) -> None:
    guest = linux_guest.guest
    volume = volumes.KINDS[kind](tmp_path)
    guest.attach_disk(volume.disk('virtio', 'vda'))
    device = linux_guest.device_of('volume')

    guest.resize_disk('vda', 2 * volumes.SIZE)
    guest.resize_disk('vda', 2 * volumes.SIZE)

    sectors = linux_guest.check(f'cat /sys/block/{device}/size')
    assert int(sectors) * 512 == 2 * volumes.SIZE
    guest.detach_disk(alias='ua-volume', attempts=2, timeout=5)


@pytest.mark.parametrize('size', [0, -1, True, 1.5, '16777216', None])
def test_impossible_size_changes_nothing(
    guest: Guest, raw_volume: volumes.Volume, size: object
) -> None:
    guest.attach_disk(raw_volume.disk('scsi', 'sda'))
    with pytest.raises(exception.InvalidSize):
        guest.resize_disk('sda', size)  # type: ignore[arg-type]
    assert raw_volume.path.stat().st_size == volumes.SIZE


def test_shrinking_is_refused(guest: Guest, raw_volume: volumes.Volume) -> None:
    guest.attach_disk(raw_volume.disk('scsi', 'sda'))
    with pytest.raises(exception.ShrinkRefused) as caught:
        guest.resize_disk('sda', volumes.SIZE - 512)
    assert caught.value.details['current'] == volumes.SIZE
    assert raw_volume.path.stat().st_size == volumes.SIZE


def test_growing_what_cannot_grow_says_why(guest: Guest, tmp_path: pathlib.Path) -> None:
    with volumes.NbdVolume(tmp_path) as volume:
        guest.attach_disk(volume.disk('scsi', 'sda'))
        with pytest.raises(exception.ResizeRefused):
            guest.resize_disk('sda', 2 * volumes.SIZE)
        guest.detach_disk(target='sda')


def test_unknown_disk_cannot_be_resized_or_limited(guest: Guest) -> None:
    with pytest.raises(exception.DiskNotFound):
        guest.resize_disk('sda', 512)
    with pytest.raises(exception.DiskNotFound):
        guest.iotune('sda')
    with pytest.raises(exception.DiskNotFound):
        guest.set_iotune('sda', IOTune())


def test_limits_are_set_replaced_and_lifted(guest: Guest, raw_volume: volumes.Volume) -> None:
    guest.attach_disk(raw_volume.disk('scsi', 'sda'))
    assert guest.iotune('sda') == IOTune()

    limits = IOTune(
        total_bytes_sec=1000000,
        total_bytes_sec_max=2000000,
        total_bytes_sec_max_length=3,
        read_iops_sec=100,
        write_iops_sec=50,
        size_iops_sec=4096,
        group_name='shared',
    )
    guest.set_iotune('sda', limits)
    found = guest.iotune('sda')
    for name in (
        'total_bytes_sec',
        'total_bytes_sec_max',
        'total_bytes_sec_max_length',
        'read_iops_sec',
        'write_iops_sec',
        'size_iops_sec',
        'group_name',
    ):
        assert getattr(found, name) == getattr(limits, name), name
    (persistent,) = guest.disks(persistent=True)
    assert persistent.iotune is not None
    assert persistent.iotune.total_bytes_sec == 1000000

    guest.set_iotune('sda', IOTune(read_bytes_sec=500000))
    found = guest.iotune('sda')
    assert found.read_bytes_sec == 500000
    assert found.total_bytes_sec is found.read_iops_sec is found.total_bytes_sec_max is None

    guest.set_iotune('sda', IOTune())
    found = guest.iotune('sda')
    assert found.read_bytes_sec is None


def test_contradicting_limits_are_refused(guest: Guest, raw_volume: volumes.Volume) -> None:
    guest.attach_disk(raw_volume.disk('scsi', 'sda'))
    with pytest.raises(exception.HypervisorError):
        guest.set_iotune('sda', IOTune(total_bytes_sec=1000000, read_bytes_sec=1000000))
    assert guest.iotune('sda') == IOTune()


def test_attaching_again_is_success(guest: Guest, raw_volume: volumes.Volume) -> None:
    for _ in range(2):
        guest.attach_disk(raw_volume.disk('scsi', 'sda'))
    assert aliases(guest) == aliases(guest, persistent=True) == ['ua-volume']


@pytest.mark.parametrize('only', ['live', 'persistent'])
def test_half_an_attachment_is_completed(
    guest: Guest, raw_volume: volumes.Volume, only: str
) -> None:
    disk = raw_volume.disk('scsi', 'sda')
    flag = {'live': 1, 'persistent': 2}[only]
    guest.hypervisor.domain(guest.uuid).attachDeviceFlags(disk.to_xml(), flag)
    assert len(guest.disks()) + len(guest.disks(persistent=True)) == 1
    guest.attach_disk(disk)
    assert aliases(guest) == aliases(guest, persistent=True) == ['ua-volume']


@pytest.mark.parametrize('only', ['live', 'persistent'])
def test_half_an_attachment_is_detached(
    guest: Guest, raw_volume: volumes.Volume, only: str
) -> None:
    flag = {'live': 1, 'persistent': 2}[only]
    xml = raw_volume.disk('scsi', 'sda').to_xml()
    guest.hypervisor.domain(guest.uuid).attachDeviceFlags(xml, flag)
    guest.detach_disk(alias='ua-volume', target='sda')
    assert aliases(guest) == aliases(guest, persistent=True) == []


def test_taken_target_or_alias_is_refused(guest: Guest, tmp_path: pathlib.Path) -> None:
    for name in ('one', 'two'):
        (tmp_path / name).mkdir()
    one, two = volumes.RawVolume(tmp_path / 'one'), volumes.RawVolume(tmp_path / 'two')
    guest.attach_disk(one.disk('scsi', 'sda'))
    with pytest.raises(exception.AttachRefused, match='has sda already'):
        guest.attach_disk(two.disk('scsi', 'sda', 'other'))
    with pytest.raises(exception.AttachRefused, match='has ua-volume already'):
        guest.attach_disk(two.disk('scsi', 'sdb'))
    assert aliases(guest) == ['ua-volume']


def test_refused_attach_leaves_nothing(guest: Guest, guest_io: GuestIO) -> None:
    disk = Disk.parse(
        "<disk type='file' device='disk'><source file='/nonexistent/volume'/>"
        "<target dev='sda' bus='scsi'/><alias name='ua-volume'/></disk>"
    )
    with pytest.raises(exception.AttachRefused, match='nonexistent') as caught:
        guest.attach_disk(disk)
    assert caught.value.__cause__ is not None
    assert aliases(guest) == aliases(guest, persistent=True) == []
    assert guest_io.node_names() == set()


def test_disk_that_is_not_there_is_not_found(guest: Guest, raw_volume: volumes.Volume) -> None:
    guest.attach_disk(raw_volume.disk('scsi', 'sda'))
    with pytest.raises(exception.DiskNotFound):
        guest.detach_disk(alias='ua-other')
    with pytest.raises(exception.DiskNotFound):
        guest.detach_disk(target='sdb')
    # The name is another volume's by now.
    with pytest.raises(exception.DiskNotFound):
        guest.detach_disk(alias='ua-other', target='sda')
    assert aliases(guest) == aliases(guest, persistent=True) == ['ua-volume']


def test_shut_off_guest_changes_for_its_next_start(
    hypervisor: Hypervisor, raw_volume: volumes.Volume
) -> None:
    guest = guests.start_guest(hypervisor, 'shut-off', running=False)
    try:
        assert not guest.is_running()
        guest.attach_disk(raw_volume.disk('scsi', 'sda'))
        guest.attach_disk(raw_volume.disk('scsi', 'sda'))
        assert aliases(guest) == aliases(guest, persistent=True) == ['ua-volume']
        guest.set_iotune('sda', IOTune(read_iops_sec=7))
        assert guest.iotune('sda').read_iops_sec == 7
        guest.resize_disk('sda', 2 * volumes.SIZE)
        assert guest.free_target('scsi') == 'sdb'
        guest.detach_disk(alias='ua-volume', target='sda')
        assert guest.disks() == ()
        with pytest.raises(exception.DiskNotFound):
            guest.detach_disk(alias='ua-volume', target='sda')
    finally:
        guests.remove_guest(guest)


def test_transient_guest_changes_now(hypervisor: Hypervisor, raw_volume: volumes.Volume) -> None:
    guest = guests.start_guest(hypervisor, 'transient')
    try:
        guest.attach_disk(raw_volume.disk('scsi', 'sda'))
        assert aliases(guest) == aliases(guest, persistent=True) == ['ua-volume']
        guest.set_iotune('sda', IOTune(read_iops_sec=7))
        guest.detach_disk(alias='ua-volume', target='sda')
        assert guest.disks() == ()
    finally:
        guests.remove_guest(guest)


def test_free_names_and_units_skip_those_that_are_taken(
    guest: Guest, tmp_path: pathlib.Path
) -> None:
    assert (guest.free_target('scsi'), guest.next_scsi_unit()) == ('sda', 0)
    for number, dev in enumerate(('sda', 'sdc')):
        (tmp_path / dev).mkdir()
        disk = volumes.RawVolume(tmp_path / dev).disk('scsi', dev, f'volume{number}')
        guest.attach_disk(disk)
    assert guest.free_target('scsi') == 'sdb'
    assert guest.free_target('virtio') == 'vda'
    assert guest.free_target('virtio', prefix='xvd') == 'xvda'
    assert guest.next_scsi_unit() == 1
    with pytest.raises(exception.InvalidDiskInfo):
        guest.free_target('carrier pigeon')


def test_many_threads_on_one_guest(guest: Guest, tmp_path: pathlib.Path) -> None:
    def go(number: int) -> None:
        directory = tmp_path / str(number)
        directory.mkdir()
        volume = volumes.RawVolume(directory)
        for _ in range(2):
            dev = f'sd{"abcd"[number]}'
            guest.attach_disk(volume.disk('scsi', dev, f'volume{number}'))
            guest.detach_disk(alias=f'ua-volume{number}', target=dev)

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        list(threads.map(go, range(4)))
    assert aliases(guest) == aliases(guest, persistent=True) == []


def test_network_source_is_recognised(guest: Guest, tmp_path: pathlib.Path) -> None:
    with volumes.NbdUnixVolume(tmp_path) as volume:
        disk = volume.disk('scsi', 'sda')
        assert disk.source is not None
        guest.attach_disk(disk)
        guest.attach_disk(disk)
        other = volume.disk('scsi', 'sda')
        other.source = Source(protocol='nbd', name='other', hosts=disk.source.hosts)
        with pytest.raises(exception.AttachRefused):
            guest.attach_disk(other)
        guest.detach_disk(alias='ua-volume')


def test_qemu_that_hangs_with_a_disk_is_seen(
    libvirtd: PrivateLibvirtd,
    guest: Guest,
    raw_volume: volumes.Volume,
) -> None:
    pid = int((libvirtd.directory / 'run' / 'qemu' / f'{guest.name}.pid').read_text())

    def watch(attach: 'concurrent.futures.Future[None]') -> None:
        while not attach.done():
            guest.wait_until_idle(0.2)

    with concurrent.futures.ThreadPoolExecutor() as helper:
        os.kill(pid, signal.SIGSTOP)
        try:
            attach = helper.submit(guest.attach_disk, raw_volume.disk('scsi', 'sda'))
            with pytest.raises(exception.Busy):
                watch(attach)
            assert guest.disks() == ()
        finally:
            os.kill(pid, signal.SIGCONT)
        attach.result(20)
    guest.wait_until_idle()
    assert len(guest.disks()) == 1
