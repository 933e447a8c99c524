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

"""Every driver's disk on every bus, as every device, against libvirt's own schema."""

import importlib.metadata

from oslo_config import cfg
import pytest

from tests import rng
from tests.unit.connection_infos import sample
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt import pretend
from volumedrivers.libvirt import registry
from volumedrivers.libvirt import target_names
from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.disk_of_volume import BUSES
from volumedrivers.libvirt.disk_of_volume import DEVICES
from volumedrivers.libvirt.driver import DiskEncryption
from volumedrivers.libvirt.driver import DiskInfo

DRIVERS = sorted(
    entry.name
    for entry in importlib.metadata.entry_points(group=registry.NAMESPACE)
    if entry.value.startswith('volumedrivers.')
)
# What has a choice of clients, once more with the one that is not the default.
OTHER_CLIENTS = {'iscsi': 'qemu', 'rbd': 'kernel', 'glusterfs': 'qemu'}
CASES = [(name, None) for name in DRIVERS] + list(OTHER_CLIENTS.items())

EVERYTHING = {
    'discard': True,
    'access_mode': 'ro',
    'logical_block_size': 512,
    'physical_block_size': 4096,
    'qos_specs': {
        'total_bytes_sec': '1000000',
        'total_bytes_sec_max': '2000000',
        'total_bytes_sec_max_length': '5',
        'read_iops_sec': '100',
        'write_iops_sec': '50',
        'size_iops_sec': '4096',
        'group_name': 'tenant',
    },
}
OPTIONS = {
    'disk_qos_bursts': True,
    'disk_detect_zeroes': 'unmap',
    'disk_error_policy': 'enospace',
    'disk_queues': 4,
    'disk_iothread': 1,
    'disk_io_mode': 'io_uring',
}
SECRET = '5ec2e700-0000-4000-8000-000000000001'


def configuration(**options):
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], project='volumedrivers', default_config_files=[])
    conf.set_override('iscsi_initiator_name', 'iqn.2020-01.test:host', 'volumedrivers')
    for name, value in options.items():
        conf.set_override(name, value, 'volumedrivers')
    return conf


def disks(conf, raw, **more):
    """Yield the bus, the device and the document of each combination."""
    if conf.volumedrivers.glusterfs_client == 'qemu':
        raw['data']['format'] = 'raw'
    info = ConnectionInfo.parse(raw)
    driver = pretend.make_registry(conf).get(info.driver_volume_type)
    volume = pretend.volume(driver, info, conf.volumedrivers)
    for bus in sorted(BUSES):
        for device in sorted(DEVICES):
            dev = target_names.name_of(bus, 27)
            yield bus, device, driver.get_disk(info, volume, DiskInfo(bus, dev, device, **more))


def check(found):
    for bus, device, disk in found:
        xml = disk.to_xml()
        assert (disk.target.bus, disk.device) == (bus, device)
        if bus == target_names.NVME_BUS:
            # Newer than the schema of libvirt 9; all else has to be right.
            xml = xml.replace(f'dev="{disk.target.dev}" bus="nvme"', 'dev="vdab" bus="virtio"')
        if device == 'lun' and disk.type == 'file':
            # Nova's driver says it, libvirt refuses it: attach does not ask for it.
            xml = xml.replace('device="lun"', 'device="disk"')
        rng.validate_disk(xml)
        assert Disk.parse(disk.to_xml()) == disk


@pytest.mark.parametrize(('name', 'client'), CASES)
def test_default_disk_is_valid(name, client):
    options = {} if client is None else {f'{name}_client': client}
    check(disks(configuration(**options), sample(name)))


@pytest.mark.parametrize(('name', 'client'), CASES)
def test_disk_with_everything_is_valid(name, client):
    options = OPTIONS if client is None else {**OPTIONS, f'{name}_client': client}
    raw = {**sample(name, **EVERYTHING), 'multiattach': True}
    check(
        disks(
            configuration(**options),
            raw,
            unit=3,
            boot_index=1,
            encryption=DiskEncryption(SECRET),
        )
    )


def test_every_driver_is_here():
    assert len(DRIVERS) == 18
