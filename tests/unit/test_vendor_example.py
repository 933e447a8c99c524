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

"""The driver that the documentation shows, as a vendor would install it."""

import configparser
import importlib
import pathlib
import shutil
import sys

from oslo_config import cfg
import pytest
from stevedore.extension import ExtensionManager

from tests.unit.fake_brick import FakeBrick
from tests.unit.made_up_host import MadeUpHost
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import bootstrap
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.libvirt import registry as registry_module
from volumedrivers.libvirt.driver import DiskInfo
from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.registry import Registry

EXAMPLES = pathlib.Path(__file__).parents[2] / 'doc/source/examples'


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """What pip makes of the example, without pip."""
    packaging = configparser.ConfigParser()
    packaging.read(EXAMPLES / 'setup.cfg')
    site = tmp_path / 'site'
    shutil.copytree(EXAMPLES / 'acme_volumes', site / 'acme_volumes')
    info = site / 'acme_volumes-1.0.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: acme-volumes\nVersion: 1.0\n')
    lines = packaging['options.entry_points'][registry_module.NAMESPACE].strip()
    (info / 'entry_points.txt').write_text(f'[{registry_module.NAMESPACE}]\n{lines}\n')
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(ExtensionManager, 'ENTRY_POINT_CACHE', {})
    importlib.invalidate_caches()
    yield
    for name in [name for name in sys.modules if name.startswith('acme_volumes')]:
        del sys.modules[name]


def test_example_is_a_driver(installed, tmp_path, monkeypatch):
    host = MadeUpHost(tmp_path)
    brick = FakeBrick()
    connector = bootstrap.load_os_brick()
    monkeypatch.setattr(connector.InitiatorConnector, 'factory', staticmethod(brick.factory))
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], project='volumedrivers', default_config_files=[])
    devices = BlockDevices(sysfs=str(host.sysfs), dev=str(host.dev), udev=str(host.udev))
    registry = Registry(DriverContext(conf=conf, devices=devices, shares=None, endpoints=None))
    device = host.device('acme0')
    brick.found = {'type': 'local', 'path': host.link('acme/volume-1', 'acme0')}
    info = ConnectionInfo.parse(
        {'driver_volume_type': 'acme', 'serial': 'volume-1', 'data': {'acme_id': 7}}
    )

    driver = registry.get('acme')
    volume = driver.connect_volume(info, 'guest')
    disk = driver.get_disk(info, volume, DiskInfo(bus='virtio', dev='vdb'))
    driver.disconnect_volume(info, 'guest', volume=volume)

    assert registry.why_not('acme') is None
    assert brick.made[0] == (
        'LOCAL',
        {'device_scan_attempts': conf.volumedrivers.num_volume_scan_tries},
    )
    assert [call[1]['acme_id'] for call in brick.calls] == [7, 7]
    assert disk.source.dev == str(host.dev / 'acme/volume-1') != device
    assert disk.driver.io == 'native'
