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

"""Nova's own rewriting of a guest's definition for the host that the guest moves to."""

import copy
import typing

from lxml import etree
from nova import objects
from nova.objects import migrate_data
from nova.virt.libvirt import migration
from oslo_utils import importutils
import pytest

from tests.unit import fake_hypervisor as fake
from tests.unit.nova.conftest import Host
from volumedrivers.libvirt import context
from volumedrivers.libvirt.registry import Registry
from volumedrivers.nova import drivers
from volumedrivers.nova import services
from volumedrivers.nova.adapter import NovaVolumeDriver

HERE, THERE = '/dev/disk/by-id/wwn-0x1', '/dev/dm-7'
DOMAIN = f"""
<domain><devices>
  <disk type='block' device='disk'>
    <driver name='qemu' type='raw' cache='none' io='native'/>
    <source dev='{HERE}'/>
    <target dev='vdb' bus='virtio'/>
    <serial>{fake.VOLUME_ID}</serial>
    <alias name='ua-{fake.VOLUME_ID}'/>
    <address type='pci' domain='0x0000' bus='0x00' slot='0x06' function='0x0'/>
  </disk>
  <disk type='file' device='disk'>
    <source file='/var/lib/nova/instances/1/disk'/>
    <target dev='vda' bus='virtio'/>
  </disk>
</devices></domain>
"""


@pytest.fixture
def adapter(host: Host) -> NovaVolumeDriver:
    """A real driver, which describes the disk; nothing is connected with it."""
    objects.register_all()
    found = services.get()
    registry = Registry(context.make_context(fake.make_conf()))
    registry.why_not = lambda name: None  # type: ignore[method-assign]
    services.use(services.Services(found.conf, registry, found.manager, found.secrets))
    made: NovaVolumeDriver = importutils.import_class(drivers.path_of('iscsi'))(None)
    return made


def told_by_the_other_host(**data: object) -> typing.Any:
    info = copy.deepcopy(fake.connection_info())
    info['data'] |= {'device_path': THERE, **data}
    bdm = migrate_data.LibvirtLiveMigrateBDMInfo(
        serial=fake.VOLUME_ID, bus='virtio', dev='vdb', type='disk'
    )
    bdm.connection_info = info
    return objects.LibvirtLiveMigrateData(bdms=[bdm])


def disk_of(adapter: NovaVolumeDriver, data: typing.Any, domain: str = DOMAIN) -> typing.Any:
    updated = migration._update_volume_xml(
        etree.fromstring(domain), data, None, lambda *told: adapter.get_config(*told[-2:])
    )
    first, second = updated.findall('./devices/disk')
    assert second.find('source').get('file') == '/var/lib/nova/instances/1/disk'
    return first


def test_definition_gets_the_path_of_the_other_host(adapter: NovaVolumeDriver) -> None:
    disk = disk_of(adapter, told_by_the_other_host())
    assert [source.get('dev') for source in disk.findall('source')] == [THERE]
    assert disk.find('alias').get('name') == f'ua-{fake.VOLUME_ID}'
    assert disk.findtext('serial') == fake.VOLUME_ID
    # What the guest sees of it stays.
    assert disk.find('address').get('slot') == '0x06'
    assert disk.find('driver').get('io') == 'native'


def test_definition_gets_the_secret_of_the_other_host(adapter: NovaVolumeDriver) -> None:
    data = told_by_the_other_host()
    data.bdms[0].encryption_secret_uuid = fake.SECRET_UUID
    (secret,) = disk_of(adapter, data).findall('encryption/secret')
    assert secret.get('uuid') == fake.SECRET_UUID


def test_source_that_qemu_opens_is_told_whole(adapter: NovaVolumeDriver) -> None:
    """Also what Nova has no attribute for."""
    source = {
        'protocol': 'iscsi',
        'name': 'iqn.2010-10.org.openstack:volume-1/1',
        'hosts': [{'name': '192.0.2.9', 'port': 3260}],
        'initiator_iqn': 'iqn.1994-05.com.redhat:there',
    }
    data = told_by_the_other_host(volumedrivers_source=source)
    (found,) = disk_of(adapter, data).findall('source')
    assert found.find('host').get('name') == '192.0.2.9'
    assert found.find('initiator/iqn').get('name') == 'iqn.1994-05.com.redhat:there'


def test_kind_of_disk_stays_that_of_the_source(adapter: NovaVolumeDriver) -> None:
    """Nova takes over what is in the element, not its type: both hosts need the same client."""
    data = told_by_the_other_host(
        volumedrivers_source={
            'protocol': 'iscsi',
            'name': 'iqn.2010-10.org.openstack:volume-1/1',
            'hosts': [{'name': '192.0.2.9', 'port': 3260}],
        }
    )
    disk = disk_of(adapter, data)
    assert disk.find('source').get('protocol') == 'iscsi'
    assert disk.get('type') == 'block'


def test_lun_keeps_the_path_of_the_source(adapter: NovaVolumeDriver) -> None:
    """It has no serial that Nova could find it by; so its path has to be the same on both."""
    serial = f'<serial>{fake.VOLUME_ID}</serial>'
    assert serial in DOMAIN
    domain = DOMAIN.replace(serial, '').replace("device='disk'", "device='lun'", 1)
    disk = disk_of(adapter, told_by_the_other_host(), domain)
    assert disk.find('source').get('dev') == HERE
