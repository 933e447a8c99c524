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

"""Nova's object of a disk, made of this package's document."""

import typing

from lxml import etree
import pytest

from volumedrivers.libvirt.disk import Address
from volumedrivers.libvirt.disk import Auth
from volumedrivers.libvirt.disk import AuthSecret
from volumedrivers.libvirt.disk import BlockIO
from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.disk import Driver
from volumedrivers.libvirt.disk import Encryption
from volumedrivers.libvirt.disk import EncryptionSecret
from volumedrivers.libvirt.disk import Host
from volumedrivers.libvirt.disk import IOTune
from volumedrivers.libvirt.disk import Reservations
from volumedrivers.libvirt.disk import Source
from volumedrivers.libvirt.disk import Target
from volumedrivers.nova import disk_config

UUID = '00000000-0000-4000-8000-00000000005e'


def tree(xml: str) -> typing.Any:
    """Return a document in which the order of elements does not count."""

    def plain(element: typing.Any) -> typing.Any:
        return (
            element.tag,
            sorted(element.attrib.items()),
            (element.text or '').strip(),
            sorted(map(plain, element)),
        )

    return plain(etree.fromstring(xml))


def block(**others: typing.Any) -> Disk:
    values: dict[str, typing.Any] = {
        'type': 'block',
        'device': 'disk',
        'driver': Driver(name='qemu', type='raw', cache='none', io='native'),
        'source': Source(dev='/dev/disk/by-id/wwn-0x1'),
        'target': Target(dev='vdb', bus='virtio'),
        'serial': 'volume',
        'alias': 'ua-volume',
    }
    return Disk(**{**values, **others})


DOCUMENTS = {
    'block': block(),
    'file': block(type='file', source=Source(file='/mnt/a/b')),
    'rbd': block(
        type='network',
        source=Source(
            protocol='rbd',
            name='pool/image',
            hosts=[Host(name='192.0.2.1', port=6789), Host(name='mon.example')],
        ),
        auth=Auth(username='cinder', secret=AuthSecret(type='ceph', uuid=UUID)),
    ),
    'scsi': block(
        target=Target(dev='sdb', bus='scsi'), address=Address(type='drive', controller=0, unit=7)
    ),
    'flags': block(readonly=True, shareable=True, boot_order=1),
    'sizes': block(blockio=BlockIO(logical_block_size=4096, physical_block_size=4096)),
    'limits': block(iotune=IOTune(total_iops_sec=5, read_bytes_sec_max=6, size_iops_sec=7)),
    'encrypted': block(
        encryption=Encryption(
            format='luks', secrets=[EncryptionSecret(type='passphrase', uuid=UUID)]
        )
    ),
    # What Nova's class has no attribute for.
    'librbd': block(
        encryption=Encryption(
            format='luks2',
            engine='librbd',
            secrets=[EncryptionSecret(type='passphrase', uuid=UUID)],
        )
    ),
    'driver': block(
        driver=Driver(
            name='qemu',
            type='raw',
            cache='none',
            io='io_uring',
            queues=4,
            iothread=1,
            detect_zeroes='unmap',
            error_policy='stop',
            discard='unmap',
        )
    ),
    'bursts': block(
        iotune=IOTune(
            total_iops_sec=5, total_iops_sec_max=9, total_iops_sec_max_length=3, group_name='g'
        )
    ),
    'source': block(
        source=Source(dev='/dev/sdx', reservations=Reservations(managed=True), index=1)
    ),
    'initiator': block(
        type='network',
        source=Source(
            protocol='iscsi',
            name='iqn.2010-10.org.openstack:v/1',
            hosts=[Host(name='192.0.2.1', port=3260)],
            initiator_iqn='iqn.1994-05.com.redhat:me',
        ),
    ),
    'wwn': block(wwn='5000c50015ea71aa', rawio=True, sgio='unfiltered'),
}


@pytest.mark.parametrize('name', DOCUMENTS)
def test_novas_object_says_what_the_document_says(name: str) -> None:
    document = DOCUMENTS[name]
    assert tree(disk_config.make(document, 'volume').to_xml()) == tree(document.to_xml())


def test_formatting_twice_is_the_same() -> None:
    made = disk_config.make(DOCUMENTS['driver'], 'volume')
    assert made.to_xml() == made.to_xml()


def test_what_nova_sets_counts() -> None:
    made = disk_config.make(DOCUMENTS['driver'], 'volume')
    made.driver_cache = 'writeback'
    made.driver_io = 'threads'
    made.shareable = True
    made.device_addr = None
    made.source_path = '/dev/dm-9'
    found = etree.fromstring(made.to_xml())
    driver, source = found.find('driver'), found.find('source')
    assert driver is not None
    assert source is not None
    assert dict(driver.attrib) == {
        'name': 'qemu',
        'type': 'raw',
        'cache': 'writeback',
        'io': 'threads',
        'discard': 'unmap',
        'queues': '4',
        'iothread': '1',
        'detect_zeroes': 'unmap',
        'error_policy': 'stop',
    }
    assert source.get('dev') == '/dev/dm-9'
    assert found.find('shareable') is not None


def test_serial_is_novas_to_read_even_where_the_guest_sees_none() -> None:
    document = block(device='lun')
    document.serial = None
    made = disk_config.make(document, 'volume')
    assert made.serial == 'volume'
    assert '<serial>' not in made.to_xml()


def test_secret_that_nova_replaces_is_replaced() -> None:
    """As it does for the destination of a migration."""
    made = disk_config.make(DOCUMENTS['encrypted'], 'volume')
    made.volume_encryption.secret.uuid = '00000000-0000-4000-8000-00000000005f'
    assert UUID not in made.to_xml()
