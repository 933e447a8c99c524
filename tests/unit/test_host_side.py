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

"""What is behind a guest's disk, from trees like the kernel's."""

import pathlib

import pytest

from volumedrivers import exception
from volumedrivers.attachment import host_side
from volumedrivers.attachment.results import HostPath
from volumedrivers.attachment.results import HostSide
from volumedrivers.cmd import tree
from volumedrivers.host import device_route
from volumedrivers.host import mount_table
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.host.block_device import DevicePaths
from volumedrivers.host.device_route import Route

IQN = 'iqn.2010-10.org.openstack:volume-1'
NQN = 'nqn.2014-08.org.nvmexpress:volume-1'


@pytest.fixture
def sys(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path


def write(path: pathlib.Path, **values: str) -> None:
    path.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (path / name).write_text(f'{value}\n')


def device(sys: pathlib.Path, name: str, where: str) -> None:
    target = sys / 'devices' / where
    target.mkdir(parents=True)
    (sys / 'block' / name).mkdir(parents=True)
    (sys / 'block' / name / 'device').symlink_to(target)


@pytest.mark.parametrize(
    ('address', 'portal'),
    [('192.0.2.1', '192.0.2.1:3260'), ('2001:db8::1', '[2001:db8::1]:3260')],
)
def test_iscsi(sys: pathlib.Path, address: str, portal: str) -> None:
    device(sys, 'sda', 'platform/host3/session7/target3:0:0/3:0:0:1')
    write(sys / 'class/iscsi_session/session7', targetname=IQN)
    write(
        sys / 'class/iscsi_connection/connection7:0',
        persistent_address=address,
        persistent_port='3260',
    )
    assert device_route.find('sda', sys=str(sys)) == Route('iscsi', portal, IQN)


def test_iscsi_session_that_goes(sys: pathlib.Path) -> None:
    device(sys, 'sda', 'platform/host3/session7/target3:0:0/3:0:0:1')
    assert device_route.find('sda', sys=str(sys)) == Route('iscsi', None, None)


def test_fibre_channel(sys: pathlib.Path) -> None:
    device(sys, 'sdb', 'pci0000:00/host2/rport-2:0-1/target2:0:0/2:0:0:1')
    write(sys / 'class/fc_remote_ports/rport-2:0-1', port_name='0x50014380186b3f65')
    assert device_route.find('sdb', sys=str(sys)) == Route('fc', '0x50014380186b3f65')


@pytest.mark.parametrize(
    ('name', 'address', 'portal'),
    [
        ('nvme0c1n1', 'traddr=192.0.2.1,trsvcid=4420,src_addr=192.0.2.9', '192.0.2.1:4420'),
        ('nvme1n1', 'traddr=2001:db8::1,trsvcid=4420', '[2001:db8::1]:4420'),
        ('nvme1n1', 'traddr=nn-0x1:pn-0x2,host_traddr=nn-0x3:pn-0x4', 'nn-0x1:pn-0x2'),
    ],
)
def test_nvme(sys: pathlib.Path, name: str, address: str, portal: str) -> None:
    write(sys / 'class/nvme/nvme1', address=address, transport='tcp', subsysnqn=NQN)
    assert device_route.find(name, sys=str(sys)) == Route('tcp', portal, NQN)


@pytest.mark.parametrize('name', ['vda', 'gone'])
def test_local_disk(sys: pathlib.Path, name: str) -> None:
    device(sys, 'vda', 'pci0000:00/virtio1')
    assert device_route.find(name, sys=str(sys)) == Route()


class Devices(BlockDevices):
    """One map over two paths, one of them down."""

    def size(self, path: str) -> int:
        if path != '/dev/disk/by-id/dm-uuid-mpath-3600':
            raise exception.VolumeNotConnected(volume_id=None)
        return 2**30

    def identity(self, path: str) -> tuple[str, str] | None:
        return ('wwn', '3600')

    def paths(self, path: str) -> DevicePaths:
        return DevicePaths(('sdy', 'sdz'), (('sdz', 'transport-offline'),))

    def kernel_path(self, path: str) -> str | None:
        return '/dev/dm-3'


def test_multipath_map() -> None:
    found = host_side.look('block', '/dev/disk/by-id/dm-uuid-mpath-3600', Devices())
    assert found == HostSide(
        device='/dev/dm-3',
        size=2**30,
        identity='wwn:3600',
        paths=(HostPath('sdy', 'running'), HostPath('sdz', 'transport-offline')),
    )


def test_device_that_is_not_there() -> None:
    found = host_side.look('block', '/dev/disk/by-id/none', Devices())
    assert found is not None
    assert found.problem == 'there is no device /dev/disk/by-id/none on this host'


def test_network_has_no_host_side() -> None:
    assert host_side.look('network', 'rbd:pool/image', Devices()) is None


@pytest.mark.parametrize(
    ('path', 'expected'),
    [
        ('/mnt/a/volume', 'new:/a (nfs4) at /mnt/a'),  # mounted over an older one
        ('/mnt/abc/volume', None),  # a mount of which the name is only a beginning
        ('/volume', None),
    ],
)
def test_mount_of_a_file(monkeypatch: pytest.MonkeyPatch, path: str, expected: str | None) -> None:
    mounts = (
        mount_table.Mount(1, '/', '/', 'ext4', '/dev/vda1'),
        mount_table.Mount(2, '/', '/mnt/a', 'nfs', 'old:/a'),
        mount_table.Mount(3, '/', '/mnt/a', 'nfs4', 'new:/a'),
    )
    monkeypatch.setattr(mount_table, 'read', lambda: mounts)
    found = host_side.look('file', path, Devices())
    assert found == HostSide(mount=expected)


def test_tree(capsys: pytest.CaptureFixture[str]) -> None:
    import sys as system

    tree.draw(
        {
            'guest': 'web1',
            'guest_uuid': 'uuid-1',
            'target': 'vdb',
            'bus': 'virtio',
            'device': 'disk',
            'read_only': False,
            'volume_id': 'volume-1',
            'cinder': {'volume_name': 'data'},
            'source_type': 'block',
            'source': '/dev/disk/by-id/[x]',
            'format': 'raw',
            'hosts': [],
            'host': {
                'device': '/dev/dm-3',
                'size': 2**30,
                'identity': 'wwn:3600',
                'mount': None,
                'problem': None,
                'paths': [
                    {
                        'name': 'sda',
                        'state': 'running',
                        'transport': 'iscsi',
                        'portal': '192.0.2.1:3260',
                        'target': IQN,
                    },
                    {
                        'name': 'sdb',
                        'state': 'offline',
                        'transport': None,
                        'portal': None,
                        'target': None,
                    },
                ],
            },
        },
        system.stdout,
    )
    lines = [line.strip('│├└─ ') for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        'guest web1  uuid-1',
        'disk vdb  disk, virtio',
        'volume data  volume-1',
        'block /dev/disk/by-id/[x]  raw, 1 GiB (1073741824 bytes), wwn:3600',
        'multipath map /dev/dm-3',
        'path sda  running',
        f'iscsi 192.0.2.1:3260  {IQN}',
        'path sdb  offline',
    ]
