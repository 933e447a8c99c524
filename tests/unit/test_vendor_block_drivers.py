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

"""What PowerFlex and StorPool need beside what all block devices need."""

import pathlib

from os_brick import exception as brick_exception
from os_brick.initiator import storpool_utils
import pytest

from tests.unit.test_block_device_driver import brick
from tests.unit.test_block_device_driver import conf
from tests.unit.test_block_device_driver import host
from tests.unit.test_block_device_driver import info_of
from tests.unit.test_block_device_driver import make
from tests.unit.test_block_device_driver import probe

__all__ = ['brick', 'conf', 'host', 'make', 'probe']

VOLUME = '3dc4a6f2-2f1c-4c9e-9c0e-6f5d5a0f8b11'


@pytest.mark.parametrize(
    ('settings', 'prefix'), [({}, 'os'), ({'SP_OPENSTACK_VOLUME_PREFIX': 'lab'}, 'lab')]
)
def test_storpool_removes_by_the_name_of_the_volume_where_nothing_was_recorded(
    brick, make, monkeypatch, settings, prefix
):
    monkeypatch.setattr(storpool_utils, 'get_conf', lambda: settings)

    make('storpool').disconnect_volume(info_of('storpool', volume=VOLUME), 'guest')

    call, properties, *_ = brick.calls[-1]
    assert call == 'disconnect'
    path = pathlib.Path(properties['device_path'])
    assert path == pathlib.Path(f'/dev/storpool/{prefix}--volume-{VOLUME}')


def test_storpool_removes_by_the_recorded_path(host, brick, make, monkeypatch):
    monkeypatch.setattr(storpool_utils, 'get_conf', dict)
    brick.found['path'] = host.device('sp-0', links=['storpool-byid/a.b.c'])
    brick.found['path'] = str(host.dev / 'storpool-byid/a.b.c')
    driver = make('storpool')
    volume = driver.connect_volume(info_of('storpool'), 'guest')

    driver.disconnect_volume(info_of('storpool'), 'guest', volume=volume)

    assert brick.calls[-1][1]['device_path'] == str(host.dev / 'storpool-byid/a.b.c')


def test_storpool_without_a_configuration_leaves_it_to_os_brick(brick, make, monkeypatch):
    def get_conf():
        raise brick_exception.BrickException('File /etc/storpool.conf does not exist')

    monkeypatch.setattr(storpool_utils, 'get_conf', get_conf)

    make('storpool').disconnect_volume(info_of('storpool'), 'guest')

    assert 'device_path' not in brick.calls[-1][1]


def connected(host, brick, make, **data):
    host.device('scinia', links=['disk/by-id/emc-vol-51f0-7c2d'])
    brick.found['path'] = str(host.dev / 'disk/by-id/emc-vol-51f0-7c2d')
    driver = make('scaleio')
    return driver, driver.connect_volume(info_of('scaleio', **data), 'guest')


def test_scaleio_extends_a_volume_that_cinder_knows_by_name(host, brick, make):
    driver, volume = connected(host, brick, make, scaleIO_volume_id=None)
    info = info_of('scaleio', scaleIO_volume_id=None)

    driver.extend_volume(info, 'guest', 2 << 30, volume=volume)

    assert brick.calls[-1][1]['scaleIO_volume_id'] == '7c2d'


def test_scaleio_believes_the_id_that_cinder_sends(host, brick, make):
    driver, volume = connected(host, brick, make, scaleIO_volume_id='9999')

    driver.extend_volume(
        info_of('scaleio', scaleIO_volume_id='9999'), 'guest', 2 << 30, volume=volume
    )

    assert brick.calls[-1][1]['scaleIO_volume_id'] == '9999'


def test_scaleio_without_a_record_leaves_it_to_os_brick(host, brick, make):
    driver = make('scaleio')

    driver.extend_volume(info_of('scaleio', scaleIO_volume_id=None), 'guest', 2 << 30)

    assert brick.calls[-1][1].get('scaleIO_volume_id') is None
