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

import dataclasses

from oslo_config import cfg
import pytest

from tests import rng
from tests.unit.connection_infos import VOLUME_ID
from tests.unit.connection_infos import sample
from volumedrivers import exception
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import NetworkHost
from volumedrivers.libvirt.connected_volume import NetworkSource
from volumedrivers.libvirt.disk_of_volume import disk_of_volume
from volumedrivers.libvirt.driver import DiskEncryption
from volumedrivers.libvirt.driver import DiskInfo

VIRTIO = DiskInfo(bus='virtio', dev='vdb')
SCSI = DiskInfo(bus='scsi', dev='sdb', unit=3)
LUN = DiskInfo(bus='scsi', dev='sdb', type='lun')
SECRET = '5ec2e700-0000-4000-8000-000000000001'


@pytest.fixture
def conf():
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], project='volumedrivers', default_config_files=[])
    return conf


def make(conf, disk_info=VIRTIO, *, source_type='block', io=None, cache='none', top=None, **data):
    info = ConnectionInfo.parse({**sample('local', **data), **(top or {})})
    volume = ConnectedVolume(
        driver_volume_type='local',
        volume_id=VOLUME_ID,
        source_type=source_type,
        path=None if source_type == 'network' else '/dev/disk/by-id/wwn-0x1',
        source=NetworkSource('rbd', 'volumes/volume-1') if source_type == 'network' else None,
    )
    disk = disk_of_volume(conf.volumedrivers, info, volume, disk_info, io=io, cache=cache)
    rng.validate_disk(disk.to_xml())
    return disk


def test_everything_nova_says(conf):
    disk = make(
        conf,
        dataclasses.replace(SCSI, boot_index=2, encryption=DiskEncryption(SECRET)),
        io='native',
        top={'multiattach': True},
        access_mode='ro',
        discard=True,
        logical_block_size='512',
        physical_block_size='4096',
        qos_specs={'total_iops_sec': '100', 'size_iops_sec': 4096, 'minIOPS': '1'},
    )

    assert disk.type == 'block'
    assert disk.device == 'disk'
    assert (disk.driver.name, disk.driver.type) == ('qemu', 'raw')
    assert (disk.driver.cache, disk.driver.io, disk.driver.discard) == ('none', 'native', 'unmap')
    assert disk.source.dev == '/dev/disk/by-id/wwn-0x1'
    assert (disk.target.dev, disk.target.bus) == ('sdb', 'scsi')
    assert disk.alias == f'ua-{VOLUME_ID}'
    assert disk.serial == VOLUME_ID
    assert disk.readonly
    assert disk.shareable
    assert disk.boot_order == 2
    assert (disk.blockio.logical_block_size, disk.blockio.physical_block_size) == (512, 4096)
    assert (disk.iotune.total_iops_sec, disk.iotune.size_iops_sec) == (100, 4096)
    assert (disk.address.type, disk.address.controller, disk.address.unit) == ('drive', 0, 3)
    assert disk.encryption.format == 'luks'
    assert [(one.type, one.uuid) for one in disk.encryption.secrets] == [('passphrase', SECRET)]


def test_nothing_is_said_that_nobody_asked_for(conf):
    disk = make(conf)

    assert disk.driver.io is None
    assert disk.driver.discard is None
    assert disk.iotune is None
    assert disk.blockio is None
    assert disk.address is None
    assert disk.encryption is None
    assert disk.auth is None
    assert not disk.readonly
    assert not disk.shareable


def test_lun_answers_for_itself(conf):
    disk = make(conf, LUN, logical_block_size='512')

    assert disk.device == 'lun'
    assert disk.serial is None
    assert disk.blockio is None


def test_volume_without_id_has_no_alias(conf):
    disk = make(conf, top={'serial': None}, volume_id=None)

    assert disk.alias is None


def test_file(conf):
    disk = make(conf, source_type='file')

    assert disk.type == 'file'
    assert disk.source.file == '/dev/disk/by-id/wwn-0x1'
    assert disk.source.dev is None


def test_network_source(conf):
    volume = ConnectedVolume(
        driver_volume_type='iscsi',
        volume_id=VOLUME_ID,
        source_type='network',
        source=NetworkSource(
            'iscsi',
            'iqn.1/1',
            hosts=(NetworkHost('192.0.2.1', 3260),),
            auth_username='chap',
            secret_type='iscsi',
            secret_uuid=SECRET,
            initiator_iqn='iqn.2',
        ),
    )
    disk = disk_of_volume(
        conf.volumedrivers, ConnectionInfo.parse(sample('iscsi')), volume, VIRTIO
    )

    rng.validate_disk(disk.to_xml())
    assert (disk.source.protocol, disk.source.name) == ('iscsi', 'iqn.1/1')
    assert [(host.name, host.port) for host in disk.source.hosts] == [('192.0.2.1', 3260)]
    assert disk.source.initiator_iqn == 'iqn.2'
    assert disk.auth.username == 'chap'
    assert (disk.auth.secret.type, disk.auth.secret.uuid) == ('iscsi', SECRET)


@pytest.mark.parametrize(
    ('modes', 'source_type', 'cache', 'io'),
    [
        ([], 'block', 'none', 'native'),
        (['block=writeback'], 'block', 'writeback', 'threads'),
        (['block=directsync'], 'block', 'directsync', 'native'),
        (['file=writeback'], 'block', 'none', 'native'),
        (['file=unsafe', 'block=default'], 'file', 'unsafe', 'threads'),
        (['block=bogus', 'block', '=none'], 'block', 'none', 'native'),
        (['network=writethrough'], 'network', 'writethrough', 'threads'),
    ],
)
def test_cache_modes(conf, modes, source_type, cache, io):
    conf.set_override('disk_cachemodes', modes, group='volumedrivers')

    driver = make(conf, source_type=source_type, io='native').driver

    assert (driver.cache, driver.io) == (cache, io)


def test_shared_volume_is_never_cached(conf):
    conf.set_override('disk_cachemodes', ['block=writeback'], group='volumedrivers')

    driver = make(conf, cache='writeback', io='native', top={'multiattach': True}).driver

    assert (driver.cache, driver.io) == ('none', 'native')


@pytest.mark.parametrize(('virt_type', 'name'), [('kvm', 'qemu'), ('lxc', None)])
def test_driver_is_named_for_qemu_only(conf, virt_type, name):
    conf.set_override('virt_type', virt_type, group='volumedrivers')
    conf.set_override('disk_error_policy', 'stop', group='volumedrivers')

    driver = make(conf).driver

    assert driver.name == name
    assert driver.error_policy == ('stop' if name else None)


def set_all_options(conf):
    for option, value in {
        'disk_io_mode': 'io_uring',
        'disk_detect_zeroes': 'unmap',
        'disk_error_policy': 'stop',
        'disk_queues': 4,
        'disk_iothread': 1,
    }.items():
        conf.set_override(option, value, group='volumedrivers')


def test_options_beyond_nova(conf):
    set_all_options(conf)

    driver = make(conf, io='native').driver

    assert driver.io == 'io_uring'
    assert driver.detect_zeroes == 'unmap'
    assert driver.error_policy == 'stop'
    assert (driver.queues, driver.iothread) == (4, 1)


@pytest.mark.parametrize('disk_info', [SCSI, DiskInfo(bus='sata', dev='sdc')])
def test_queues_and_threads_are_for_virtio_only(conf, disk_info):
    set_all_options(conf)

    driver = make(conf, disk_info).driver

    assert driver.detect_zeroes == 'unmap'
    assert (driver.queues, driver.iothread) == (None, None)


def test_passed_through_unit_and_cdrom_get_fewer_options(conf):
    set_all_options(conf)

    lun = make(conf, LUN).driver
    cdrom = make(conf, DiskInfo(bus='sata', dev='sdc', type='cdrom')).driver

    assert (lun.error_policy, lun.detect_zeroes) == ('stop', None)
    assert (cdrom.error_policy, cdrom.detect_zeroes) == (None, None)


def test_io_mode_is_not_for_network_sources(conf):
    set_all_options(conf)

    assert make(conf, source_type='network').driver.io is None


def test_forced_native_io_still_needs_a_direct_cache_mode(conf):
    conf.set_override('disk_io_mode', 'native', group='volumedrivers')

    assert make(conf, cache='writeback').driver.io == 'threads'


BURSTS = {
    'total_bytes_sec': '100',
    'total_bytes_sec_max': '200',
    'total_bytes_sec_max_length': '30',
    'read_iops_sec_max_length': '30',
    'group_name': 'tenant',
}


def test_bursts_and_groups_are_nova_s_not(conf):
    iotune = make(conf, qos_specs=BURSTS).iotune

    assert iotune.total_bytes_sec_max == 200
    assert iotune.total_bytes_sec_max_length is None
    assert iotune.group_name is None


def test_bursts_and_groups_where_asked_for(conf):
    conf.set_override('disk_qos_bursts', True, group='volumedrivers')

    iotune = make(conf, qos_specs=BURSTS).iotune

    assert iotune.total_bytes_sec_max_length == 30
    assert iotune.read_iops_sec_max_length is None
    assert iotune.group_name == 'tenant'
    assert make(conf, qos_specs={'group_name': 'tenant'}).iotune is None


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('bus', 'pci'),
        ('bus', ''),
        ('type', 'tape'),
        ('dev', ''),
        ('dev', None),
        ('unit', -1),
        ('unit', '3'),
        ('unit', True),
        ('boot_index', 0),
    ],
)
def test_bad_disk_info(conf, key, value):
    with pytest.raises(exception.InvalidDiskInfo) as caught:
        make(conf, dataclasses.replace(VIRTIO, **{key: value}))

    assert caught.value.key == key
    assert caught.value.found == repr(value)


def test_bad_limit(conf):
    info = dataclasses.replace(
        ConnectionInfo.parse(sample('local')), qos_specs={'read_iops_sec': 'many'}
    )
    volume = ConnectedVolume('local', VOLUME_ID, 'block', path='/dev/disk/by-id/x')

    with pytest.raises(exception.InvalidConnectionInfo, match='read_iops_sec'):
        disk_of_volume(conf.volumedrivers, info, volume, VIRTIO)
