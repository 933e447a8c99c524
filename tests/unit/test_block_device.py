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

import threading

import pytest

from tests.unit.made_up_host import MadeUpHost
from volumedrivers import exception
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.host.block_device import DevicePaths

NAA = '600140512345678901234567890abcde'
WWID = '3' + NAA
UUID = '6b9c9a6d-9d0b-4c26-b8e2-000000000001'


@pytest.fixture
def host(tmp_path):
    return MadeUpHost(tmp_path)


@pytest.fixture
def devices(host):
    return BlockDevices(sysfs=str(host.sysfs), dev=str(host.dev), udev=str(host.udev))


@pytest.mark.parametrize(
    ('name', 'links', 'best'),
    [
        ('dm-3', ['disk/by-id/dm-name-mpatha', f'disk/by-id/dm-uuid-mpath-{WWID}'], 1),
        ('sdb', ['disk/by-path/ip-10.0.0.1:3260-lun-1', f'disk/by-id/wwn-0x{NAA}'], 1),
        ('sdb', [f'disk/by-id/scsi-{WWID}', f'disk/by-id/wwn-0x{NAA}'], 1),
        ('sdb', ['disk/by-id/scsi-SIET_disk', f'disk/by-id/scsi-{WWID}'], 1),
        ('sdb', ['disk/by-id/os-brick+dev+sdb', 'disk/by-path/ip-10.0.0.1:3260-lun-1'], 1),
        ('nvme1n1', ['disk/by-id/nvme-Linux_1', f'disk/by-id/nvme-uuid.{UUID}'], 1),
        ('nvme1n1', [f'disk/by-id/nvme-eui.{NAA}', 'disk/by-id/nvme-Linux_1'], 0),
        ('scinia', ['disk/by-id/emc-vol-4a2f-3a3d9ad500000001'], 0),
        ('sp-1', ['storpool-byid/a.b.c', 'storpool/os--volume--1'], 0),
        ('md127', ['md/raid1', 'disk/by-id/md-uuid-1:2'], 0),
        ('vdb', ['disk/by-id/virtio-volume', 'disk/by-path/pci-0000:00:05.0'], 0),
    ],
)
def test_stable_path_is_the_name_of_the_volume_before_the_name_of_a_way(
    host, devices, name, links, best
):
    path = host.device(name, links=links)

    assert devices.stable_path(path, wait=0) == str(host.dev / links[best])


def test_stable_path_ignores_links_to_other_devices(host, devices):
    host.device('sda', links=['disk/by-id/wwn-0x1'])

    assert devices.stable_path(host.device('sdb'), wait=0) is None


@pytest.mark.parametrize(
    'path', ['mapper/360', 'vg0/volume-1', 'disk/by-id/os-brick+dev+dm-3', 'storpool-byid/a.b']
)
def test_name_that_the_kernel_did_not_give_is_kept(host, devices, path):
    assert devices.stable_path(str(host.dev / path), wait=0) == str(host.dev / path)


def test_name_of_a_way_becomes_the_name_of_the_volume(host, devices):
    links = ['disk/by-path/pci-0-fc-0x5-lun-1', f'disk/by-id/wwn-0x{NAA}']
    host.device('sdb', links=links)

    path = devices.stable_path(str(host.dev / links[0]), wait=0)

    assert path == str(host.dev / links[1])


def test_name_of_a_way_is_kept_where_the_volume_has_none(host, devices):
    link = 'disk/by-path/pci-0-fc-0x5-lun-1'
    host.device('sdb', links=[link])

    assert devices.stable_path(str(host.dev / link), wait=0) == str(host.dev / link)


@pytest.mark.parametrize('kind', ['wwn-0x', 'scsi-3'])
def test_stable_path_is_no_name_of_another_volume(host, devices, kind):
    """The kernel asked the disk again; udev was not told."""
    other = NAA[:-4] + 'beef'
    links = [f'disk/by-id/{kind}{other}', 'disk/by-path/pci-0000:01:00.0-scsi-0:0:0:1']
    path = host.device('sdb', device__wwid=f'naa.{NAA}', links=links)

    assert devices.stable_path(path, wait=0) is None

    (host.dev / links[0]).unlink()
    link = host.link(f'disk/by-id/{kind}{NAA}', 'sdb')
    assert devices.stable_path(path, wait=0) == link


def test_stable_path_waits_for_udev(host, devices):
    (host.udev / 'control').touch()
    path = host.device('sdb')
    udev = threading.Timer(0.1, host.link, (f'disk/by-id/wwn-0x{NAA}', 'sdb'))
    udev.start()

    assert devices.stable_path(path, wait=10) == str(host.dev / f'disk/by-id/wwn-0x{NAA}')
    udev.join()


def test_stable_path_waits_for_the_better_name_while_udev_is_busy(host, devices):
    (host.udev / 'control').touch()
    (host.udev / 'queue').touch()
    path = host.device('sdb', links=['disk/by-path/ip-10.0.0.1:3260-lun-1'])

    def finish():
        host.link(f'disk/by-id/wwn-0x{NAA}', 'sdb')
        (host.udev / 'queue').unlink()

    udev = threading.Timer(0.1, finish)
    udev.start()

    assert devices.stable_path(path, wait=10) == str(host.dev / f'disk/by-id/wwn-0x{NAA}')
    udev.join()


def test_stable_path_takes_what_there_is_when_udev_stays_busy(host, devices):
    (host.udev / 'control').touch()
    (host.udev / 'queue').touch()
    path = host.device('sdb', links=['disk/by-path/ip-10.0.0.1:3260-lun-1'])

    assert devices.stable_path(path, wait=0.1).endswith('lun-1')


def test_stable_path_does_not_wait_without_udev(host, devices):
    assert devices.stable_path(host.device('sdb'), wait=3600) is None


def test_kernel_path_is_the_name_of_today(host, devices):
    host.device('sdc', links=['disk/by-id/wwn-0x1'])

    assert devices.kernel_path(str(host.dev / 'disk/by-id/wwn-0x1')) == str(host.dev / 'sdc')
    assert devices.kernel_path(str(host.dev / 'disk/by-id/wwn-0x2')) is None


def page_83(*designators):
    body = b''.join(
        bytes([code_set, association << 4 | kind, 0, len(value)]) + value
        for code_set, association, kind, value in designators
    )
    return b'\0\x83' + len(body).to_bytes(2, 'big') + body


@pytest.mark.parametrize(
    ('name', 'attributes', 'identity'),
    [
        ('sdb', {'device__wwid': f'naa.{NAA.upper()}'}, ('wwn', WWID)),
        ('sdb', {'device__wwid': 'eui.0011223344556677'}, ('wwn', '20011223344556677')),
        ('sdb', {'device__wwid': 't10.IET     00010001  '}, ('wwn', '1IET_00010001')),
        ('sdb', {'device__wwid': 'iqn.1,t,0x1'}, ('wwn', 'iqn.1,t,0x1')),
        (
            'sdb',
            {
                'device__vpd_pg83': page_83(
                    (2, 0, 1, b'IET     00010001'),
                    (1, 1, 3, bytes.fromhex('5' * 16)),
                    (1, 0, 3, bytes.fromhex('5' + '1' * 15)),
                    (1, 0, 3, bytes.fromhex(NAA)),
                    (1, 0, 2, b'\0' * 8),
                )
            },
            ('wwn', WWID),
        ),
        ('sdb', {'device__vpd_pg83': page_83((2, 0, 1, b'IET     1\0'))}, ('wwn', '1IET_1')),
        ('sdb', {'device__vpd_pg83': page_83((2, 0, 8, b'name'))}, None),
        ('sdb', {'device__vpd_pg83': b''}, None),
        ('dm-1', {'dm__uuid': f'mpath-{WWID}'}, ('wwn', WWID)),
        ('dm-1', {'dm__uuid': 'LVM-abcd'}, ('uuid', 'LVM-abcd')),
        ('nvme1n1', {'wwid': f'uuid.{UUID}'}, ('uuid', UUID)),
        ('nvme1n1', {'wwid': f'eui.{NAA}'}, ('nguid', NAA)),
        ('nvme1n1', {'wwid': 'nvme.0001-31-32-1'}, ('wwn', 'nvme.0001-31-32-1')),
        ('nvme1n1', {'uuid': UUID}, ('uuid', UUID)),
        ('nvme1n1', {'uuid': '0' * 8 + '-0', 'nguid': '60014051-23'}, ('nguid', '6001405123')),
        ('md127', {'md__uuid': 'aa-bb'}, ('uuid', 'aa-bb')),
        ('loop0', {}, None),
    ],
)
def test_identity(host, devices, name, attributes, identity):
    assert devices.identity(host.device(name, **attributes)) == identity


def test_identity_of_a_link_is_that_of_the_device(host, devices):
    host.device('sdb', links=['disk/by-id/wwn-0x1'], device__wwid=f'naa.{NAA}')

    assert devices.identity(str(host.dev / 'disk/by-id/wwn-0x1')) == ('wwn', WWID)


def test_identity_of_a_decrypted_volume_is_that_of_the_volume(host, devices):
    host.device('sdb', device__wwid=f'naa.{NAA}')
    host.device('dm-1', dm__uuid=f'mpath-{WWID}', slaves=['sdb'])
    path = host.device('dm-2', dm__uuid='CRYPT-LUKS2-0-crypt-1', slaves=['dm-1'])

    assert devices.identity(path) == ('wwn', WWID)


def test_identity_of_an_array_is_that_udev_read(host, devices):
    path = host.device('md127', links=['disk/by-id/md-uuid-1a:2b'])

    assert devices.identity(path) == ('uuid', '1a:2b')


def test_identity_of_no_device_is_not_none(host, devices):
    with pytest.raises(exception.VolumeNotConnected):
        devices.identity(str(host.dev / 'sdz'))


def test_identity_that_cannot_be_read_is_not_none(host, devices, monkeypatch):
    path = host.device('sdb', device__wwid=f'naa.{NAA}')
    monkeypatch.setattr('builtins.open', lambda *args: (_ for _ in ()).throw(OSError(5, 'I/O')))

    with pytest.raises(OSError, match='I/O'):
        devices.identity(path)


def test_size(host, devices):
    assert devices.size(host.device('sdb', size=1 << 30)) == 1 << 30
    with pytest.raises(exception.VolumeNotConnected):
        devices.size(str(host.dev / 'sdz'))
    with pytest.raises(exception.VolumeNotConnected):
        devices.size(host.device('sdc'))


def test_paths_of_a_map_and_of_what_lies_over_it(host, devices):
    host.device('sdb', device__state='running')
    host.device('sdc', device__state='offline')
    path = host.device('dm-0', slaves=['sdb', 'sdc'])
    crypt = host.device('dm-1', slaves=['dm-0'])

    assert devices.paths(path) == DevicePaths(('sdb', 'sdc'), (('sdc', 'offline'),))
    assert devices.paths(crypt) == devices.paths(path)
    assert devices.paths(str(host.dev / 'sdb')) == DevicePaths(('sdb',), ())


def test_paths_of_a_native_nvme_head(host, devices):
    path = host.device('nvme0n1')
    for number, state in ((0, 'live'), (1, 'connecting')):
        host.write(f'block/nvme0n1/device/nvme{number}/state', state + '\n')
        host.write(f'block/nvme0n1/device/nvme{number}/nvme0c{number}n1/size', '8\n')
        host.write(f'block/nvme0n1/device/nvme{number}/nvme0c{number}n2/size', '8\n')

    assert devices.paths(path) == DevicePaths(
        ('nvme0c0n1', 'nvme0c1n1'), (('nvme0c1n1', 'connecting'),)
    )


def test_paths_of_a_namespace_with_one_controller(host, devices):
    assert devices.paths(host.device('nvme0n1', device__state='live')).failed == ()
    path = host.device('nvme1n1', device__state='dead')
    assert devices.paths(path) == DevicePaths(('nvme1n1',), (('nvme1n1', 'dead'),))


def test_by_path_finds_a_target_through_any_adapter(host, devices):
    host.device('sdb', links=['disk/by-path/pci-0000:05:00.2-fc-0x5001-lun-1'])
    host.device('sdc', links=['disk/by-path/pci-0000:05:00.3-fc-0x5001-lun-1'])
    host.device('sdd', links=['disk/by-path/pci-0000:05:00.3-fc-0x5001-lun-11'])

    assert devices.by_path('-fc-0x5001-lun-1') == ('sdb', 'sdc')


def test_leftovers_are_all_devices_of_an_identity(host, devices):
    host.device('sda', device__wwid='naa.5000')
    host.device('sdb', device__wwid=f'naa.{NAA}')
    host.device('dm-0', dm__uuid=f'mpath-{WWID}')
    host.device('nvme0c0n1', wwid=f'uuid.{UUID}')
    host.device('nvme0n1', wwid=f'uuid.{UUID}')

    assert devices.leftovers(('wwn', WWID)) == (str(host.dev / 'dm-0'), str(host.dev / 'sdb'))
    assert devices.leftovers(('uuid', UUID)) == (str(host.dev / 'nvme0n1'),)
    assert devices.leftovers(('wwn', '3' + '0' * 32)) == ()
