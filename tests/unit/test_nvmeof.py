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

"""NVMe over fabrics: what remains of a volume, and numbers that are used again."""

from oslo_config import cfg
import pytest

from tests.unit.connection_infos import NQN
from tests.unit.connection_infos import VOLUME_ID
from tests.unit.connection_infos import sample
from tests.unit.fake_brick import FakeBrick
from tests.unit.made_up_host import MadeUpHost
from tests.unit.network_fakes import FakeProbe
from volumedrivers import exception
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import bootstrap
from volumedrivers.host import brick as host_brick
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import FailedPath
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.drivers import nvmeof
from volumedrivers.libvirt.registry import Registry

PORTAL, SECOND, ELSEWHERE = '10.0.2.16:4420', '10.0.3.16:4420', '10.9.9.9:4420'


@pytest.fixture
def host(tmp_path):
    return MadeUpHost(tmp_path)


@pytest.fixture
def brick(host, monkeypatch):
    brick = FakeBrick()
    connector = bootstrap.load_os_brick()
    monkeypatch.setattr(connector.InitiatorConnector, 'factory', staticmethod(brick.factory))
    monkeypatch.setattr(host_brick, 'under_connect_lock', lambda function: function())

    def delete(name):
        (host.sysfs / 'class/nvme' / name).rename(host.root / f'removed-{name}')

    monkeypatch.setattr(nvmeof.nvme, 'delete_controller', delete)
    return brick


@pytest.fixture
def probe():
    return FakeProbe()


@pytest.fixture
def registry(host, brick, probe):
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], project='volumedrivers', default_config_files=[])
    conf.set_override('device_name_timeout', 0, group='volumedrivers')
    devices = BlockDevices(sysfs=str(host.sysfs), dev=str(host.dev), udev=str(host.udev))
    return Registry(DriverContext(conf=conf, devices=devices, shares=None, endpoints=probe))


@pytest.fixture
def driver(registry):
    return registry.get('nvmeof')


def info_of(**data):
    return ConnectionInfo.parse(sample('nvmeof', **data))


def volume_of(host, uuid=VOLUME_ID):
    path = str(host.dev / f'disk/by-id/nvme-uuid.{uuid}')
    return ConnectedVolume('nvmeof', None, 'block', path=path, identity=Identity('uuid', uuid))


def namespace(host, name, uuid, number=2):
    return host.device(
        name,
        wwid=f'uuid.{uuid}',
        uuid=uuid,
        nsid=str(number),
        device__subsysnqn=NQN,
        links=[f'disk/by-id/nvme-uuid.{uuid}'],
    )


def remains(driver, info, **known):
    return [(each.kind, each.name) for each in driver.remains(info, 'guest', **known)]


@pytest.mark.parametrize('with_record', [True, False])
def test_controllers_of_this_volume_alone_remain(host, driver, with_record):
    path = namespace(host, 'nvme0n1', VOLUME_ID)
    host.controller('nvme0', NQN, PORTAL, 'nvme0c0n1')
    host.controller('nvme1', NQN, SECOND)
    host.controller('nvme2', NQN, ELSEWHERE)
    host.controller('nvme3', NQN + '-other', PORTAL)
    known = {'volume': volume_of(host)} if with_record else {}

    assert remains(driver, info_of(), **known) == [
        ('controller', 'nvme0'),
        ('controller', 'nvme1'),
        ('namespace', path),
    ]


def test_namespace_behind_a_controller_of_others_stays(host, driver):
    namespace(host, 'nvme0n1', VOLUME_ID)
    namespace(host, 'nvme0n2', 'other')
    host.controller('nvme0', NQN, PORTAL, 'nvme0c0n1', 'nvme0c0n2')
    host.controller('nvme1', NQN, SECOND)

    assert remains(driver, info_of(), volume=volume_of(host)) == [('controller', 'nvme1')]


def test_controller_that_was_connected_without_a_namespace_is_removed(host, brick, driver):
    host.controller('nvme1', NQN, PORTAL)
    host.controller('nvme2', NQN, ELSEWHERE)
    redacted = ConnectionInfo.parse(info_of().to_dict())

    assert remains(driver, redacted) == [('controller', 'nvme1')]
    driver.disconnect_volume(redacted, 'guest')
    assert remains(driver, redacted) == []
    assert (host.sysfs / 'class/nvme/nvme2').exists()


def test_number_of_a_namespace_that_was_used_again(host, brick, driver):
    info = info_of(vol_uuid=None, volume_nguid=None, ns_id=2)
    namespace(host, 'nvme0n1', 'other')

    for call in (
        lambda: driver.disconnect_volume(info, 'guest', volume=volume_of(host)),
        lambda: driver.extend_volume(info, 'guest', 1 << 30, volume=volume_of(host)),
    ):
        with pytest.raises(exception.IdentityMismatch) as caught:
            call()
        assert (caught.value.found, caught.value.expected) == ('uuid:other', f'uuid:{VOLUME_ID}')
    assert brick.calls == []


def test_name_of_a_namespace_that_was_used_again(host, brick, driver):
    namespace(host, 'nvme0n1', 'other')
    host.link(f'disk/by-id/nvme-uuid.{VOLUME_ID}', 'nvme0n1')

    with pytest.raises(exception.IdentityMismatch):
        driver.disconnect_volume(info_of(), 'guest', volume=volume_of(host))
    assert brick.calls == []


def test_dead_portal_of_rdma_is_left_out(host, brick, probe, driver):
    driver.context.conf.set_override('volume_use_multipath', True, group='volumedrivers')
    portals = [[*portal.split(':'), 'RoCEv2'] for portal in (PORTAL, SECOND)]
    brick.found = {'type': 'block', 'path': namespace(host, 'nvme0n1', VOLUME_ID)}
    host.write('block/nvme0n1/device/nvme0/state', 'live\n')
    probe.dead[SECOND] = 'connection refused'

    volume = driver.connect_volume(info_of(portals=portals), 'guest')

    assert probe.asked == [('rdma', [PORTAL, SECOND])]
    assert brick.calls[0][1]['portals'] == [portals[0]]
    assert volume.paths.failed == (FailedPath(SECOND, 'connection refused'),)


def test_portal_that_could_not_be_asked_and_is_not_connected_is_named(host, brick, driver):
    driver.context.conf.set_override('volume_use_multipath', True, group='volumedrivers')
    portals = [[*portal.split(':'), 'RoCEv2'] for portal in (PORTAL, SECOND)]
    brick.found = {'type': 'block', 'path': namespace(host, 'nvme0n1', VOLUME_ID)}
    host.write('block/nvme0n1/device/nvme0/state', 'live\n')
    host.controller('nvme0', NQN, PORTAL, 'nvme0c0n1')

    volume = driver.connect_volume(info_of(portals=portals), 'guest')

    assert (volume.paths.asked, volume.paths.found) == (2, 1)
    assert [way.name for way in volume.paths.failed] == [SECOND]


def lightos(*addresses):
    nodes = {
        address: {'target_portal': address, 'target_port': 4420, 'transport_type': 'tcp'}
        for address in addresses
    }
    return ConnectionInfo.parse(sample('lightos', lightos_nodes=nodes))


def test_lightos_node_that_is_down_is_reported(host, brick, probe, registry):
    info = lightos('10.0.0.30', '10.0.0.31')
    brick.found = {'type': 'block', 'path': namespace(host, 'nvme0n1', info.data.uuid)}
    probe.dead['10.0.0.31:4420'] = 'refused'

    volume = registry.get('lightos').connect_volume(info, 'guest')

    assert volume.paths.failed == (FailedPath('10.0.0.31:4420', 'refused'),)
    assert len(brick.calls[0][1]['lightos_nodes']) == 2


def test_lightos_is_not_waited_for_when_no_node_answers(brick, probe, registry):
    probe.dead['10.0.0.30:4420'] = 'refused'

    with pytest.raises(exception.EndpointUnreachable):
        registry.get('lightos').connect_volume(lightos('10.0.0.30'), 'guest')
    assert brick.calls == []
