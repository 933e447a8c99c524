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

"""What of a connected volume is stored, and what a disk is described from."""

import dataclasses
import typing

import pytest

from tests.unit import fake_hypervisor as fake
from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt import context
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import NetworkHost
from volumedrivers.libvirt.connected_volume import NetworkSource
from volumedrivers.libvirt.driver import VolumeDriver
from volumedrivers.libvirt.registry import Registry
from volumedrivers.nova import stored_volume

UUID = '00000000-0000-4000-8000-00000000005e'
DATA: dict[str, dict[str, typing.Any]] = {
    'rbd': {'name': 'pool/image', 'hosts': ['192.0.2.1'], 'ports': ['6789']},
    'nfs': {'export': 'server:/export', 'name': 'volume', 'format': 'qcow2'},
    'quobyte': {'export': 'quobyte://server/volume', 'name': 'file'},
    'iscsi': fake.connection_info()['data'],
    'gpfs': {'device_path': '/gpfs/volume'},
    'local': {'device_path': '/dev/vg/volume'},
    'glusterfs': {'export': 'server:/volume', 'name': 'file'},
}


@pytest.fixture(scope='module')
def registry() -> Registry:
    return Registry(context.make_context(fake.make_conf()))


def info(name: str, **data: object) -> ConnectionInfo:
    return ConnectionInfo.parse(
        {'driver_volume_type': name, 'serial': fake.VOLUME_ID, 'data': {**DATA[name], **data}}
    )


def connected(name: str, **values: typing.Any) -> ConnectedVolume:
    return ConnectedVolume(
        driver_volume_type=name,
        volume_id=fake.VOLUME_ID,
        **{'source_type': 'block', **values},
    )


def written(driver: VolumeDriver, name: str, volume: ConnectedVolume) -> dict[str, object]:
    return dict(stored_volume.results(driver, info(name), volume, volume.path))


@pytest.mark.parametrize(
    ('name', 'path', 'kind', 'image_format'),
    [
        ('iscsi', '/dev/dm-3', 'block', 'raw'),
        ('iscsi', '/dev/disk/by-id/wwn-0x1', 'block', 'raw'),
        ('rbd', '/dev/rbd0', 'block', 'raw'),
        ('nfs', '/var/lib/nova/mnt/0123/volume', 'file', 'qcow2'),
        ('glusterfs', '/var/lib/nova/mnt/0123/file', 'file', 'raw'),
        ('gpfs', '/gpfs/volume', 'file', 'raw'),
        ('local', '/dev/vg/volume', 'block', 'raw'),
    ],
)
def test_path_that_nova_has_stored_is_enough(
    registry: Registry, name: str, path: str, kind: str, image_format: str
) -> None:
    found = stored_volume.volume_of(registry.get(name), info(name, device_path=path))
    assert (found.path, found.source_type, found.format) == (path, kind, image_format)


def test_source_that_cinder_describes_is_not_stored(registry: Registry) -> None:
    driver = registry.get('rbd')
    found = stored_volume.volume_of(driver, info('rbd'))
    assert found.source == NetworkSource('rbd', 'pool/image', (NetworkHost('192.0.2.1', 6789),))
    assert written(driver, 'rbd', found) == {}


def test_source_with_more_to_it_is_stored_and_read_back(registry: Registry) -> None:
    driver = registry.get('iscsi')
    source = NetworkSource(
        'iscsi',
        'iqn.2010-10.org.openstack:volume-1/1',
        (NetworkHost('192.0.2.1', 3260),),
        auth_username='chapuser',
        secret_type='iscsi',
        secret_uuid=UUID,
    )
    data = written(driver, 'iscsi', connected('iscsi', source_type='network', source=source))
    assert list(data) == ['volumedrivers_source']
    assert 'chapsecret' not in str(data)
    found = stored_volume.volume_of(driver, info('iscsi', **data))
    assert found.source == source
    # A driver that nobody knows yet, of a type without a class of ours.
    assert stored_volume.volume_of(typing.cast(typing.Any, object()), info('iscsi', **data))


def test_map_is_told_where_nova_tells_it(registry: Registry) -> None:
    volume = connected('iscsi', path='/dev/dm-3', multipath_id='3600')
    assert written(registry.get('iscsi'), 'iscsi', volume) == {'device_path': '/dev/dm-3'}
    fibre = dict(
        stored_volume.results(
            registry.get('fibre_channel'),
            info('iscsi'),
            dataclasses.replace(volume, driver_volume_type='fibre_channel'),
            '/dev/dm-3',
        )
    )
    assert fibre == {'device_path': '/dev/dm-3', 'multipath_id': '3600'}


def test_quobyte_that_novas_driver_attached_has_no_path(registry: Registry) -> None:
    found = stored_volume.volume_of(registry.get('quobyte'), info('quobyte'))
    assert found.path is not None
    assert found.path.endswith('/file')
    assert found.source_type == 'file'


def test_nothing_says_where_it_is(registry: Registry) -> None:
    with pytest.raises(exception.VolumeNotConnected):
        stored_volume.volume_of(fake.FakeDriver(fake.Calls()), info('iscsi'))  # type: ignore[arg-type]
