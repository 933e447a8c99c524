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

"""What every driver answers of locks and of the identity of now."""

import copy

from oslo_config import cfg
import pytest

from tests.unit.connection_infos import DATA
from tests.unit.connection_infos import IQN
from tests.unit.connection_infos import NQN
from tests.unit.connection_infos import REPLICATED
from tests.unit.connection_infos import sample
from tests.unit.made_up_host import MadeUpHost
from volumedrivers import exception
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.host.shares import ShareMounts
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import NetworkSource
from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.registry import Registry

LOCKS = {
    'iscsi': (f'iscsi 10.0.2.15:3260 {IQN}',),
    'iser': (f'iscsi 10.0.2.15:3260 {IQN}', f'iscsi [fd00::a]:3260 {IQN}'),
    'fibre_channel': ('fc 50014380186b3f65', 'fc 50014380186b3f67'),
    'nvmeof': (f'nvme {NQN}',),
    'nvme': (f'nvme {NQN}',),
    'lightos': ('nvme nqn.2016-01.com.lightbitslabs:uuid:sub',),
    'scaleio': ('scaleio',),
    'storpool': ('storpool',),
    'huaweisdshypervisor': ('huaweisdshypervisor',),
    'local': ('local /dev/vg0/volume-1',),
    'gpfs': ('gpfs /gpfs/volume-1',),
    'vzstorage': ('vzstorage cluster1',),
    'rbd': (),
}


@pytest.fixture
def host(tmp_path):
    return MadeUpHost(tmp_path)


@pytest.fixture
def registry(host):
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], project='volumedrivers', default_config_files=[])
    conf.set_override('state_path', str(host.root), group='volumedrivers')
    return Registry(
        DriverContext(
            conf=conf,
            devices=BlockDevices(sysfs=str(host.sysfs), dev=str(host.dev), udev=str(host.udev)),
            shares=ShareMounts(conf),
            endpoints=None,
        )
    )


def set_option(registry, name, value):
    registry.context.conf.set_override(name, value, group='volumedrivers')


@pytest.mark.parametrize('driver_volume_type', DATA)
def test_locks_are_the_same_without_the_secrets_and_tell_none(registry, driver_volume_type):
    info = ConnectionInfo.parse(sample(driver_volume_type))
    redacted = ConnectionInfo.parse(info.to_dict())
    driver = registry.get(driver_volume_type)

    names = driver.lock_names(info)

    assert driver.lock_names(redacted) == names == tuple(sorted(set(names)))
    assert not any(secret in name for secret in info.secrets() for name in names)
    if driver_volume_type in LOCKS:
        assert names == LOCKS[driver_volume_type]
    else:
        (name,) = names
        assert name.startswith('mount /')
        assert len(name.rpartition('/')[2]) == 32  # the digest of the export


@pytest.mark.parametrize(
    ('driver_volume_type', 'option', 'value', 'names'),
    [
        ('iscsi', 'iscsi_client', 'qemu', ()),
        ('glusterfs', 'glusterfs_client', 'qemu', ()),
        ('rbd', 'rbd_client', 'kernel', ('rbd volumes',)),
    ],
)
def test_locks_are_those_of_the_client(registry, driver_volume_type, option, value, names):
    set_option(registry, option, value)
    info = ConnectionInfo.parse(sample(driver_volume_type))

    assert registry.get(driver_volume_type).lock_names(info) == names


def test_locks_of_a_volume_are_those_of_the_client_that_connected_it(registry):
    info = ConnectionInfo.parse(sample('iscsi'))
    volume = ConnectedVolume('iscsi', None, 'block', path='/dev/disk/by-id/wwn-0x1')
    set_option(registry, 'iscsi_client', 'qemu')

    assert registry.get('iscsi').lock_names(info, volume=volume) == LOCKS['iscsi']


def test_replicated_volume_locks_each_subsystem(registry):
    info = ConnectionInfo.parse(
        {'driver_volume_type': 'nvmeof', 'data': copy.deepcopy(REPLICATED)}
    )

    assert registry.get('nvmeof').lock_names(info) == (f'nvme {NQN}', f'nvme {NQN}2')


@pytest.mark.parametrize('driver_volume_type', ['iscsi', 'nvmeof', 'scaleio', 'local'])
def test_identity_of_a_device_is_read_anew(registry, host, driver_volume_type):
    info = ConnectionInfo.parse(sample(driver_volume_type))
    driver = registry.get(driver_volume_type)
    link = 'disk/by-path/some-lun-1'
    volume = ConnectedVolume(
        driver_volume_type, None, 'block', path=str(host.dev / link), identity=Identity('wwn', '1')
    )

    assert driver.current_identity(info, volume) is None
    host.device('sdb', device__wwid='naa.6001', links=[link])
    assert driver.current_identity(info, volume) == Identity('wwn', '36001')
    host.remove('sdb')
    host.device('sdc', device__wwid='', links=[link])
    assert driver.current_identity(info, volume) == Identity('path', volume.path)


def test_identity_that_the_kernel_does_not_tell_is_not_none(registry, host, monkeypatch):
    path = host.device('sdb', device__wwid='naa.6001')
    volume = ConnectedVolume('iscsi', None, 'block', path=path)

    def broken(self, path):
        raise OSError(5, 'Input/output error')

    monkeypatch.setattr(BlockDevices, 'identity', broken)
    driver, info = registry.get('iscsi'), ConnectionInfo.parse(sample('iscsi'))
    with pytest.raises(exception.HostUnreadable, match='Input/output error'):
        driver.current_identity(info, volume)


@pytest.mark.parametrize(
    ('driver_volume_type', 'option', 'name', 'other'),
    [
        ('rbd', None, 'volumes/volume-1', 'volumes/volume-2'),
        ('iscsi', 'iscsi_client', f'{IQN}/1', f'{IQN}/2'),
        ('glusterfs', 'glusterfs_client', 'gv0/volume-1', 'gv0/volume-2'),
    ],
)
def test_identity_of_a_network_source_is_what_it_names(
    registry, driver_volume_type, option, name, other
):
    if option is not None:
        set_option(registry, option, 'qemu')
    set_option(registry, 'rbd_ceph_conf', '/nonexistent/ceph.conf')
    info = ConnectionInfo.parse(sample(driver_volume_type, format='raw'))
    driver = registry.get(driver_volume_type)

    def identity(name):
        source = NetworkSource(driver_volume_type, name)
        volume = ConnectedVolume(driver_volume_type, None, 'network', source=source)
        return driver.current_identity(info, volume)

    assert name.partition('/')[2] in identity(name).value
    assert identity(name) != identity(other)


def test_image_keeps_the_name_it_had_before_the_cluster_was_known(registry, host):
    conf = host.root / 'ceph.conf'
    set_option(registry, 'rbd_ceph_conf', str(conf))
    info = ConnectionInfo.parse(sample('rbd'))
    source = NetworkSource('rbd', 'volumes/volume-1')
    former = Identity('rbd', '192.168.10.1,::1/volumes/volume-1')
    volume = ConnectedVolume('rbd', None, 'network', source=source, identity=former)
    driver = registry.get('rbd')

    assert driver.current_identity(info, volume) == former
    conf.write_text('[global]\nfsid = 11111111-0000\nmon_host = 192.168.10.1\n')
    assert driver.current_identity(info, volume) == former
    unnamed = ConnectedVolume('rbd', None, 'network', source=source)
    assert driver.current_identity(info, unnamed).value == '11111111-0000/volumes/volume-1'
