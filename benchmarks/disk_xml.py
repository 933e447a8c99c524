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
"""How long the XML of a disk takes, beside the same XML made by hand with lxml.

    python benchmarks/disk_xml.py

The driver's row is all that lies between a connected volume and what libvirt
is given: options, Cinder's wishes, the document, its text.  Each row is the
best of several rounds, in microseconds; the last column is the ratio to what
has been written by hand in the same run.
"""

import timeit
import typing

from lxml import etree
from oslo_config import cfg

from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt import context
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.disk import Address
from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.disk import Driver
from volumedrivers.libvirt.disk import Source
from volumedrivers.libvirt.disk import Target
from volumedrivers.libvirt.driver import DiskInfo
from volumedrivers.libvirt.registry import Registry

VOLUME = 'c1b2d3e4-0001-4aaa-8bbb-000000000001'
PATH = '/dev/disk/by-id/wwn-0x60000000000000000e00000000000001'
CALLS = 2000
GOAL = 60.0
ROUNDS = 7


def document() -> Disk:
    """Return the disk of an iSCSI volume."""
    return Disk(
        type='block',
        device='disk',
        driver=Driver(name='qemu', type='raw', cache='none', io='native', discard='unmap'),
        source=Source(dev=PATH),
        target=Target(dev='sdb', bus='scsi'),
        serial=VOLUME,
        alias=f'ua-{VOLUME}',
        address=Address(type='drive', controller=0, unit=1),
    )


def by_hand() -> str:
    """Return the XML of the same disk."""
    disk = etree.Element('disk', type='block', device='disk')
    etree.SubElement(
        disk, 'driver', name='qemu', type='raw', cache='none', io='native', discard='unmap'
    )
    etree.SubElement(disk, 'source', dev=PATH)
    etree.SubElement(disk, 'target', dev='sdb', bus='scsi')
    etree.SubElement(disk, 'serial').text = VOLUME
    etree.SubElement(disk, 'alias', name=f'ua-{VOLUME}')
    etree.SubElement(disk, 'address', type='drive', controller='0', unit='1')
    text: str = etree.tostring(disk, encoding='unicode', pretty_print=True)
    return text.rstrip('\n')


def driver_call() -> typing.Callable[[], str]:
    """Return what makes the XML of an iSCSI volume through its driver."""
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], project='volumedrivers', default_config_files=[])
    driver = Registry(context.make_context(conf, None)).get('iscsi')
    info = ConnectionInfo.parse(
        {
            'driver_volume_type': 'iscsi',
            'serial': VOLUME,
            'data': {
                'target_portal': '192.0.2.1:3260',
                'target_iqn': 'iqn.2010-10.org.openstack:volume-1',
                'target_lun': 1,
                'volume_id': VOLUME,
                'access_mode': 'rw',
                'discard': True,
            },
        }
    )
    volume = ConnectedVolume('iscsi', VOLUME, 'block', path=PATH)
    disk_info = DiskInfo(bus='scsi', dev='sdb', unit=1)
    return lambda: driver.get_disk(info, volume, disk_info).to_xml()


def main() -> None:
    """Print the table."""
    disk = document()
    xml = disk.to_xml()
    from_driver = driver_call()
    if Disk.parse(from_driver()) != disk:
        raise SystemExit('the driver says something else:\n' + from_driver())
    if xml != by_hand():
        raise SystemExit('the two ways differ:\n' + xml + '\n' + by_hand())
    rows = {
        'by hand with lxml': by_hand,
        'XML of a Disk': disk.to_xml,
        'make a Disk': document,
        'make a Disk and its XML': lambda: document().to_xml(),
        'get_disk of the driver, XML': from_driver,
        'parse': lambda: Disk.parse(xml),
    }
    best: dict[str, list[float]] = {name: [] for name in rows}
    # Row by row within a round, so that a slow moment of the machine hits all.
    for _ in range(ROUNDS):
        for name, call in rows.items():
            best[name].append(timeit.timeit(call, number=CALLS) / CALLS * 1e6)
    unit = min(best['by hand with lxml'])
    print(f'{"":30}{"us":>8}{"ratio":>8}')
    for name, times in best.items():
        print(f'{name:30}{min(times):8.1f}{min(times) / unit:8.2f}')
    print(f'goal: the XML of a disk in less than {GOAL:g} us')


if __name__ == '__main__':
    main()
