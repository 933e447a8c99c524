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

import copy
import dataclasses
import json
import os

from os_brick import exception as brick_exception
from oslo_concurrency import processutils
from oslo_config import cfg
import pytest

from tests.unit.connection_infos import VOLUME_ID
from tests.unit.connection_infos import sample
from tests.unit.fake_brick import FakeBrick
from tests.unit.made_up_host import MadeUpHost
from tests.unit.network_fakes import FakeProbe
from volumedrivers import exception
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import bootstrap
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.libvirt import block_device
from volumedrivers.libvirt import block_leftovers
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import FailedPath
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import NetworkSource
from volumedrivers.libvirt.connected_volume import PathReport
from volumedrivers.libvirt.driver import Capability
from volumedrivers.libvirt.driver import DiskInfo
from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.registry import Registry
from volumedrivers.privsep import context
from volumedrivers.privsep import device_link
from volumedrivers.privsep import scsi

NAA = '600140512345678901234567890abcde'
WWID = '3' + NAA
UUID = '6b9c9a6d-9d0b-4c26-b8e2-000000000001'
BLOCK_TYPES = (
    'iscsi', 'iser', 'fibre_channel', 'nvmeof', 'nvme', 'lightos', 'scaleio', 'storpool',
    'huaweisdshypervisor',
)  # fmt: skip


@pytest.fixture
def host(tmp_path):
    return MadeUpHost(tmp_path)


@pytest.fixture
def brick(monkeypatch):
    brick = FakeBrick()
    connector = bootstrap.load_os_brick()
    monkeypatch.setattr(connector.InitiatorConnector, 'factory', staticmethod(brick.factory))
    return brick


@pytest.fixture
def conf(tmp_path):
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], project='volumedrivers', default_config_files=[])
    conf.set_override('state_path', str(tmp_path), group='volumedrivers')
    conf.set_override('device_name_timeout', 0, group='volumedrivers')
    return conf


@pytest.fixture
def probe():
    return FakeProbe()


@pytest.fixture
def make(host, conf, brick, probe, monkeypatch):
    monkeypatch.setattr(block_leftovers, 'REMOVAL_TIME', 0.2)
    monkeypatch.setattr(device_link, 'FOLDER', str(host.dev / 'disk/by-id'))
    monkeypatch.setattr(context.sys_admin, 'client_mode', False)
    devices = BlockDevices(sysfs=str(host.sysfs), dev=str(host.dev), udev=str(host.udev))
    registry = Registry(DriverContext(conf=conf, devices=devices, shares=None, endpoints=probe))

    def make(driver_volume_type='iscsi', **options):
        for option, value in options.items():
            conf.set_override(option, value, group='volumedrivers')
        return registry.get(driver_volume_type)

    return make


def info_of(driver_volume_type='iscsi', **data):
    return ConnectionInfo.parse(sample(driver_volume_type, **data))


def add_disk(host, brick, name='sdb', **attributes):
    """A SCSI disk that udev has named, which the connector finds."""
    attributes.setdefault('links', [f'disk/by-id/wwn-0x{NAA}'])
    attributes.setdefault('device__wwid', f'naa.{NAA}')
    brick.found = {'type': 'block', 'path': host.device(name, **attributes), 'scsi_wwn': WWID}
    return str(host.dev / attributes['links'][0]) if attributes['links'] else None


@pytest.mark.parametrize('driver_volume_type', BLOCK_TYPES)
def test_connect_and_disconnect(host, brick, make, driver_volume_type):
    path = add_disk(host, brick)
    driver = make(driver_volume_type)
    raw = sample(driver_volume_type)
    before = copy.deepcopy(raw)
    info = ConnectionInfo.parse(raw)

    volume = driver.connect_volume(info, 'guest')
    host.remove('sdb')
    driver.disconnect_volume(info, 'guest', volume=volume)

    assert volume.path == path
    assert volume.source_type == 'block'
    assert volume.identity == Identity('wwn', WWID)
    assert volume.volume_id == (
        'volume-1' if driver_volume_type == 'huaweisdshypervisor' else VOLUME_ID
    )
    assert volume.seconds >= 0
    assert ConnectedVolume.from_dict(json.loads(json.dumps(volume.to_dict()))) == volume
    assert [call[0] for call in brick.calls] == ['connect', 'disconnect']
    assert brick.calls[0][1] == before['data']
    assert brick.calls[1][1] == {**before['data'], 'device_path': path}
    assert raw == before
    disk = driver.get_disk(info, volume, DiskInfo(bus='virtio', dev='vdb'))
    assert disk.source.dev == path


MULTIPATH = {'use_multipath': False, 'enforce_multipath': False}


@pytest.mark.parametrize(
    ('driver_volume_type', 'options', 'protocol', 'made_with'),
    [
        ('iscsi', {}, 'ISCSI',
         {**MULTIPATH, 'device_scan_attempts': 5, 'transport': 'default'}),
        ('iscsi', {'iscsi_iface': 'bnx2i', 'num_volume_scan_tries': 9,
                   'volume_use_multipath': True, 'volume_enforce_multipath': True}, 'ISCSI',
         {'use_multipath': True, 'enforce_multipath': True, 'device_scan_attempts': 9,
          'transport': 'bnx2i'}),
        ('iser', {'volume_use_multipath': True, 'num_iser_scan_tries': 7}, 'ISER',
         {**MULTIPATH, 'device_scan_attempts': 7, 'transport': 'iser'}),
        ('iser', {'iser_use_multipath': True}, 'ISER',
         {**MULTIPATH, 'use_multipath': True, 'device_scan_attempts': 5, 'transport': 'iser'}),
        ('fibre_channel', {}, 'FIBRE_CHANNEL', {**MULTIPATH, 'device_scan_attempts': 5}),
        ('nvmeof', {'num_nvme_discover_tries': 3}, 'NVME',
         {**MULTIPATH, 'device_scan_attempts': 3}),
        ('nvme', {}, 'NVME', {**MULTIPATH, 'device_scan_attempts': 5}),
        ('lightos', {}, 'LIGHTOS', {'device_scan_attempts': 5}),
        ('scaleio', {}, 'SCALEIO', {'device_scan_attempts': 5}),
        ('storpool', {}, 'STORPOOL', {}),
        ('huaweisdshypervisor', {}, 'HUAWEISDSHYPERVISOR', {}),
    ],
)  # fmt: skip
def test_connector_is_made_as_nova_makes_it(
    host, brick, make, driver_volume_type, options, protocol, made_with
):
    add_disk(host, brick)

    make(driver_volume_type, **options).connect_volume(info_of(driver_volume_type), 'guest')

    assert brick.made == [(protocol, made_with)]


def test_every_call_has_a_connector_of_its_own(host, brick, make):
    add_disk(host, brick)
    driver = make()

    volume = driver.connect_volume(info_of(), 'guest')
    driver.extend_volume(info_of(), 'guest', 3 << 30, volume=volume)
    host.remove('sdb')
    driver.disconnect_volume(info_of(), 'guest', volume=volume)

    assert len(brick.made) == 3


def test_force_is_handed_on(host, brick, make):
    add_disk(host, brick)
    driver = make()
    volume = driver.connect_volume(info_of(), 'guest')
    host.remove('sdb')

    driver.disconnect_volume(info_of(), 'guest', volume=volume, force=True)

    assert brick.calls[-1][2:] == (None, True)


def test_device_without_persistent_name_is_refused_and_given_back(host, brick, make):
    add_disk(host, brick, links=[])

    with pytest.raises(exception.UnstableDevicePath):
        make().connect_volume(info_of(), 'guest')

    assert [call[0] for call in brick.calls] == ['connect', 'disconnect']
    assert brick.calls[1][1]['device_path'] == str(host.dev / 'sdb')
    assert brick.calls[1][3] is False


def test_first_error_is_raised_when_giving_back_fails_too(host, brick, make):
    add_disk(host, brick, links=[])
    brick.raises['disconnect'] = brick_exception.BrickException('no')

    with pytest.raises(exception.UnstableDevicePath):
        make().connect_volume(info_of(), 'guest')


@pytest.mark.parametrize('found', [{'type': 'block'}, {'path': ''}, {'path': 3}, {'path': None}])
def test_connector_that_tells_no_path(brick, make, found):
    brick.found = found

    with pytest.raises(exception.ConnectFailed, match='no path'):
        make().connect_volume(info_of(), 'guest')


def test_path_in_bytes_is_understood(host, brick, make):
    path = add_disk(host, brick)
    brick.found['path'] = brick.found['path'].encode()
    brick.found.pop('scsi_wwn')

    assert make().connect_volume(info_of(), 'guest').path == path


def test_device_that_vanishes_at_once(host, brick, make):
    add_disk(host, brick)
    brick.found['path'] = str(host.dev / 'disk/by-id/wwn-0x5')

    with pytest.raises(exception.VolumeDeviceNotFound, match='vanished'):
        make().connect_volume(info_of(), 'guest')


def test_device_without_identity_is_known_by_its_name(host, brick, make):
    path = add_disk(host, brick, 'scinia', links=['disk/by-id/emc-vol-1-2'], device__wwid='')

    volume = make('scaleio').connect_volume(info_of('scaleio'), 'guest')

    assert volume.identity == Identity('path', path)


@pytest.mark.parametrize(
    ('driver_volume_type', 'data', 'wwid', 'fits'),
    [
        ('lightos', {'uuid': UUID}, f'uuid.{UUID}', True),
        ('lightos', {'uuid': UUID}, 'uuid.' + UUID[:-1] + '2', False),
        ('nvmeof', {'vol_uuid': UUID.upper()}, f'uuid.{UUID}', True),
        ('nvmeof', {'vol_uuid': UUID}, 'uuid.' + UUID[:-1] + '2', False),
        ('nvmeof', {'vol_uuid': ...}, 'eui.4941ef7595b8ee978ccf096800f205c6', True),
        ('nvmeof', {'vol_uuid': ...}, 'eui.4941ef7595b8ee978ccf096800f205c7', False),
        ('nvmeof', {'vol_uuid': UUID}, 'eui.4941ef7595b8ee978ccf096800f205c7', True),
        ('nvmeof', {'vol_uuid': ..., 'volume_nguid': ...}, f'uuid.{UUID}', True),
        ('nvmeof', {'vol_uuid': UUID, 'alias': 'raid'}, 'uuid.' + UUID[:-1] + '2', True),
    ],
)
def test_identity_that_cinder_promised(host, brick, make, driver_volume_type, data, wwid, fits):
    brick.found = {
        'type': 'block',
        'path': host.device('nvme1n1', wwid=wwid, links=[f'disk/by-id/nvme-{wwid}']),
    }
    driver = make(driver_volume_type)
    info = info_of(driver_volume_type, **data)

    if fits:
        assert driver.connect_volume(info, 'guest').identity.value in wwid
    else:
        with pytest.raises(exception.IdentityMismatch):
            driver.connect_volume(info, 'guest')
        assert [call[0] for call in brick.calls] == ['connect', 'disconnect']


def test_other_volume_under_the_same_name_is_left_alone(host, brick, make):
    link = 'disk/by-path/ip-10.0.2.15:3260-lun-1'
    add_disk(host, brick, links=[link])
    driver = make()
    volume = driver.connect_volume(info_of(), 'guest')
    host.remove('sdb')
    # The LUN was mapped to somebody else's volume in the meantime.
    host.device('sdc', links=[link], device__wwid='naa.6000')
    calls = len(brick.calls)

    for force in (False, True):
        with pytest.raises(exception.IdentityMismatch, match='wwn:36000'):
            driver.disconnect_volume(info_of(), 'guest', volume=volume, force=force)
    with pytest.raises(exception.IdentityMismatch):
        driver.extend_volume(info_of(), 'guest', 3 << 30, volume=volume)

    assert len(brick.calls) == calls


def test_paths_of_a_withdrawn_lun_go_by_force_where_os_brick_gives_up(
    host, brick, make, monkeypatch
):
    """Each Fibre Channel path is asked for its WWN, and has no answer any more."""
    add_disk(host, brick)
    driver = make('fibre_channel')
    info = info_of('fibre_channel')
    volume = driver.connect_volume(info, 'guest')
    deleted = []

    def delete_device(name):
        deleted.append(name)
        host.remove(name)

    def disconnect_volume(*arguments, **options):
        raise processutils.ProcessExecutionError(cmd='scsi_id', exit_code=1)

    monkeypatch.setattr(scsi, 'delete_device', delete_device)
    brick.disconnect_volume = disconnect_volume
    with pytest.raises(exception.DisconnectFailed):
        driver.disconnect_volume(info, 'guest', volume=volume)
    assert deleted == []
    driver.disconnect_volume(info, 'guest', volume=volume, force=True)
    assert deleted == ['sdb']


def test_what_is_left_is_reported(host, brick, make):
    add_disk(host, brick)
    driver = make()
    volume = driver.connect_volume(info_of(), 'guest')

    with pytest.raises(exception.LeftoversFound, match='sdb'):
        driver.disconnect_volume(info_of(), 'guest', volume=volume)


def test_device_that_the_storage_removes_later_is_no_leftover(host, brick, make):
    brick.found = {
        'type': 'block',
        'path': host.device(
            'nvme1n1', wwid=f'uuid.{UUID}', links=[f'disk/by-id/nvme-uuid.{UUID}']
        ),
    }
    driver = make('lightos')
    info = info_of('lightos', uuid=UUID)
    volume = driver.connect_volume(info, 'guest')

    driver.disconnect_volume(info, 'guest', volume=volume)

    assert brick.calls[-1][0] == 'disconnect'


def test_extend_returns_what_os_brick_sees(host, brick, make):
    path = add_disk(host, brick)
    driver = make()
    volume = driver.connect_volume(info_of(), 'guest')

    assert driver.extend_volume(info_of(), 'guest', 3 << 30, volume=volume) == 2 << 30
    assert brick.calls[-1][1]['device_path'] != path
    assert brick.calls[-1][1]['device_path'] == str(host.dev / 'sdb')


def test_extend_without_a_size_fails(host, brick, make):
    add_disk(host, brick)
    brick.size = None

    with pytest.raises(exception.ExtendVolumeFailed):
        make().extend_volume(info_of(), 'guest', 3 << 30)


def test_huawei_cannot_extend(make):
    driver = make('huaweisdshypervisor')

    assert Capability.EXTEND not in driver.CAPABILITIES
    with pytest.raises(exception.ExtendVolumeNotSupported):
        driver.extend_volume(info_of('huaweisdshypervisor'), 'guest', 1)


def test_only_fibre_channel_is_told_the_multipath_id(host, brick, make):
    for driver_volume_type in ('iscsi', 'fibre_channel'):
        add_disk(host, brick)
        brick.found['multipath_id'] = WWID
        driver = make(driver_volume_type)
        info = info_of(driver_volume_type)
        volume = driver.connect_volume(info, 'guest')
        assert volume.multipath_id == WWID
        host.remove('sdb')
        driver.disconnect_volume(info, 'guest', volume=volume)
        (host.root / 'removed-sdb').rename(host.root / driver_volume_type)

    _, properties, device_info, _ = brick.calls[1]
    assert 'multipath_id' not in properties
    assert device_info is None
    _, properties, device_info, _ = brick.calls[3]
    assert properties['multipath_id'] == WWID
    assert device_info == properties


def test_paths_asked_and_found(host, brick, make):
    way = 'disk/by-path/ip-{}:3260-iscsi-iqn.2010-10.org.openstack:volume-1-lun-{}'
    host.device('sdb', device__state='running', links=[way.format('10.0.2.15', 1)])
    host.device('sdc', device__state='offline', links=[way.format('fd00::a', 2)])
    path = host.device(
        'dm-0',
        dm__uuid=f'mpath-{WWID}',
        slaves=['sdb', 'sdc'],
        links=[f'disk/by-id/dm-uuid-mpath-{WWID}'],
    )
    brick.found = {'type': 'block', 'path': path}
    driver = make('iser', iser_use_multipath=True)

    volume = driver.connect_volume(info_of('iser'), 'guest')

    assert volume.paths == PathReport(asked=2, found=1, failed=(FailedPath('sdc', 'offline'),))
    assert volume.degraded


def test_path_that_never_appeared_is_named(host, brick, make):
    add_disk(
        host,
        brick,
        links=[f'disk/by-id/wwn-0x{NAA}', 'disk/by-path/pci-1-fc-0x50014380186b3f65-lun-1'],
    )
    driver = make('fibre_channel', volume_use_multipath=True)

    volume = driver.connect_volume(info_of('fibre_channel'), 'guest')

    assert volume.paths == PathReport(
        asked=2, found=1, failed=(FailedPath('50014380186b3f67', 'no device appeared'),)
    )


def ways_of_iscsi(host, *names):
    way = 'disk/by-path/ip-{}:3260-iscsi-iqn.2010-10.org.openstack:volume-1-lun-1'
    for name, address in zip(names, ('10.0.2.15', 'fd00::a'), strict=False):
        host.device(name, device__state='running', links=[way.format(address)])


def two_portals(driver_volume_type='iscsi', **more):
    iqn = 'iqn.2010-10.org.openstack:volume-1'
    portals = ['10.0.2.15:3260', '[FD00::A]:3260']
    return info_of(
        driver_volume_type,
        target_portals=portals,
        target_iqns=[iqn, iqn],
        target_luns=[1, 1],
        **more,
    )


def test_portal_that_does_not_answer_is_left_to_itself(host, brick, probe, make):
    ways_of_iscsi(host, 'sdb')
    path = host.device(
        'dm-0',
        dm__uuid=f'mpath-{WWID}',
        slaves=['sdb'],
        links=[f'disk/by-id/dm-uuid-mpath-{WWID}'],
    )
    brick.found = {'type': 'block', 'path': path}
    probe.dead['[fd00::a]:3260'] = 'no answer within 5 s'
    driver = make('iscsi', volume_use_multipath=True, endpoint_timeout=5.0)
    info = two_portals()

    volume = driver.connect_volume(info, 'guest')
    host.remove('dm-0')
    host.remove('sdb')
    driver.disconnect_volume(info, 'guest')

    assert probe.asked == [('iscsi', ['10.0.2.15:3260', '[fd00::a]:3260'])]
    assert probe.timeouts == [5.0]
    (_, told), (_, removed, *_) = brick.calls
    assert [len(told[f'target_{name}']) for name in ('portals', 'iqns', 'luns')] == [1, 1, 1]
    assert told['target_portals'] == ['10.0.2.15:3260']
    # A session from a better time is removed, too.
    assert len(removed['target_portals']) == 2
    (missing,) = volume.paths.failed
    assert missing.name.startswith('[fd00::a]:3260 ')
    assert missing.reason == 'no answer within 5 s'
    assert (volume.paths.asked, volume.paths.found) == (2, 1)


@pytest.mark.parametrize('driver_volume_type', ['iscsi', 'nvme'])
def test_os_brick_is_not_asked_when_no_portal_answers(brick, probe, make, driver_volume_type):
    info = info_of(driver_volume_type)
    probe.dead = dict.fromkeys(
        ('10.0.2.15:3260', '[fd00::a]:3260', '10.0.2.16:4420', '10.0.2.17:4420'), 'refused'
    )

    with pytest.raises(exception.EndpointUnreachable):
        make(driver_volume_type).connect_volume(info, 'guest')

    assert brick.calls == []


def test_portals_of_an_offload_card_cannot_be_asked(host, brick, probe, make):
    add_disk(host, brick)

    make('iscsi', iscsi_iface='be2iscsi.c4').connect_volume(info_of('iscsi'), 'guest')

    assert probe.asked == []


def test_nvme_portal_that_does_not_answer_is_left_to_itself(host, brick, probe, make):
    path = host.device('nvme0n1', wwid=f'uuid.{UUID}', links=[f'disk/by-id/nvme-uuid.{UUID}'])
    brick.found = {'type': 'block', 'path': path}
    probe.dead['10.0.0.2:4420'] = 'refused'
    portals = [['10.0.0.1', 4420, 'tcp'], ['10.0.0.2', 4420, 'tcp']]
    driver = make('nvmeof', volume_use_multipath=True)

    volume = driver.connect_volume(info_of('nvmeof', portals=portals, vol_uuid=UUID), 'guest')

    assert brick.calls[0][1]['portals'] == portals[:1]
    assert volume.paths == PathReport(2, 1, (FailedPath('10.0.0.2:4420', 'refused'),))


@pytest.mark.parametrize('portals', [[['10.0.0.1', 4420, 'tcp'], ['10.0.0.2', 4420, 'rdma']]])
def test_nvme_portals_of_other_networks_cannot_be_asked(host, brick, probe, make, portals):
    add_disk(host, brick)

    make('nvmeof').connect_volume(info_of('nvmeof', portals=portals), 'guest')

    assert probe.asked == []
    assert brick.calls[0][1]['portals'] == portals


def test_paths_that_are_about_to_come_are_waited_for(host, brick, make, conf, monkeypatch):
    ways_of_iscsi(host, 'sdb', 'sdc')
    path = host.device(
        'dm-0',
        dm__uuid=f'mpath-{WWID}',
        slaves=['sdb'],
        links=[f'disk/by-id/dm-uuid-mpath-{WWID}'],
    )
    brick.found = {'type': 'block', 'path': path}
    waited = []

    def multipathd(seconds):
        waited.append(seconds)
        (host.sysfs / 'block/dm-0/slaves/sdc').mkdir()

    driver = make('iscsi', volume_use_multipath=True, device_name_timeout=60)
    monkeypatch.setattr(block_device.time, 'sleep', multipathd)

    volume = driver.connect_volume(two_portals(), 'guest')

    assert len(waited) == 1
    assert volume.paths == PathReport(2, 2)


def test_path_that_multipathd_does_not_take_is_named(host, brick, make):
    ways_of_iscsi(host, 'sdb', 'sdc')
    path = host.device(
        'dm-0',
        dm__uuid=f'mpath-{WWID}',
        slaves=['sdb'],
        links=[f'disk/by-id/dm-uuid-mpath-{WWID}'],
    )
    brick.found = {'type': 'block', 'path': path}

    volume = make('iscsi', volume_use_multipath=True).connect_volume(two_portals(), 'guest')

    assert [way.reason for way in volume.paths.failed] == ['sdc is not in the multipath map']


def test_dead_portal_of_iser_is_left_out(host, brick, probe, make):
    ways_of_iscsi(host, 'sdb')
    path = host.device(
        'dm-0',
        dm__uuid=f'mpath-{WWID}',
        slaves=['sdb'],
        links=[f'disk/by-id/dm-uuid-mpath-{WWID}'],
    )
    brick.found = {'type': 'block', 'path': path}
    info = two_portals('iser')
    alive, dead = (str(way.portal) for way in info.data.targets)
    probe.dead[dead] = 'no answer within 5 s'

    volume = make('iser', iser_use_multipath=True).connect_volume(info, 'guest')

    assert probe.asked == [('rdma', [alive, dead])]
    assert brick.calls[0][1]['target_portals'] == [alive]
    assert [way.reason for way in volume.paths.failed] == ['no answer within 5 s']


def test_device_is_removed_when_udev_is_done_with_it(host, brick, make, monkeypatch):
    path = add_disk(host, brick)
    driver = make('iscsi')
    info = info_of('iscsi')
    volume = driver.connect_volume(info, 'guest')
    (host.udev / 'control').touch()
    (host.udev / 'queue').touch()
    seen = []

    def udev(seconds):
        seen.append(len(brick.calls))
        (host.udev / 'queue').unlink(missing_ok=True)

    monkeypatch.setattr('volumedrivers.host.block_device.time.sleep', udev)
    host.remove('sdb')
    driver.disconnect_volume(info, 'guest', volume=volume)

    assert seen == [1]  # nothing but the connection so far
    assert brick.calls[1][1]['device_path'] == path


@pytest.mark.parametrize(
    ('data', 'attributes'),
    [
        ({'vol_uuid': UUID}, {'uuid': UUID}),
        ({'vol_uuid': None, 'volume_nguid': UUID}, {'nguid': UUID}),
        ({'vol_uuid': None, 'volume_nguid': None, 'ns_id': 3}, {'nsid': '3'}),
    ],
)
def test_namespace_is_found_for_a_removal_that_is_told_no_path(
    host, brick, make, data, attributes
):
    info = info_of('nvmeof', **data)
    nqn = info.data.targets[0].nqn
    host.device('nvme0n1', device__subsysnqn=nqn, uuid='other', nguid='other', nsid='7')
    host.device('nvme1n1', device__subsysnqn='nqn.2014-08.org.example:other', **attributes)
    host.device('nvme2c0n1', device__subsysnqn=nqn, **attributes)
    wanted = host.device('nvme2n1', device__subsysnqn=nqn, **attributes)

    make('nvmeof').disconnect_volume(info, 'guest')
    host.remove('nvme2n1')
    make('nvmeof').disconnect_volume(info, 'guest')

    assert [call[1].get('device_path') for call in brick.calls] == [wanted, None]


def test_one_path_is_enough_without_multipath(host, brick, make):
    add_disk(host, brick, device__state='running')

    assert not make('iser').connect_volume(info_of('iser'), 'guest').degraded


def test_local_keeps_the_name_that_cinder_gave(host, make, tmp_path):
    host.device('dm-5', dm__uuid='LVM-abc')
    path = host.link('vg0/volume-1', 'dm-5')
    driver = make('local')
    info = info_of('local', device_path=path)

    volume = driver.connect_volume(info, 'guest')
    driver.disconnect_volume(info, 'guest', volume=volume)

    assert volume.path == path
    assert volume.identity == Identity('uuid', 'LVM-abc')
    with pytest.raises(exception.ExtendVolumeNotSupported):
        driver.extend_volume(info, 'guest', 1)


def test_local_device_that_is_not_there(host, make):
    (host.dev / 'file').touch()
    driver = make('local')

    for path, reason in (('nothing', 'does not exist'), ('file', 'is no block device')):
        with pytest.raises(exception.VolumeDeviceNotFound, match=reason):
            driver.connect_volume(info_of('local', device_path=str(host.dev / path)), 'guest')


def test_iscsi_volume_stays_with_its_initiator(host, brick, make):
    driver = make(iscsi_client='qemu')
    info = info_of(auth_method=..., auth_username=..., auth_password=...)
    network = ConnectedVolume(
        'iscsi', VOLUME_ID, 'network', source=NetworkSource('iscsi', 'iqn.1/1')
    )
    block = ConnectedVolume('iscsi', VOLUME_ID, 'block', path='/dev/disk/by-id/wwn-0x1')
    disk_info = DiskInfo(bus='virtio', dev='vdb')

    assert Capability.HOST_DEVICE not in driver.CAPABILITIES
    assert driver.get_disk(info, network, disk_info).type == 'network'
    assert driver.get_disk(info, block, disk_info).type == 'block'
    driver.disconnect_volume(info, 'guest', volume=network)
    assert brick.calls == []
    driver.disconnect_volume(info, 'guest', volume=block)
    assert brick.calls[-1][0] == 'disconnect'
    make(iscsi_client='kernel')
    assert Capability.HOST_DEVICE in driver.CAPABILITIES
    assert driver.extend_volume(info, 'guest', 1 << 30, volume=network) == 1 << 30


def without_device_info(volume):
    """What the command line makes of a guest's disk."""
    return dataclasses.replace(volume, device_info={}, multipath_id=None, use_multipath=None)


@pytest.mark.parametrize(
    ('driver_volume_type', 'returned', 'link'),
    [
        ('storpool', 'storpool-byid/a.b.c', 'storpool-byid/a.b.c'),
        ('nvmeof', 'md/raid', 'md/raid'),
        ('scaleio', 'disk/by-id/emc-vol-1-2', None),
        ('iscsi', None, f'disk/by-id/wwn-0x{NAA}'),
    ],
)
def test_volume_known_from_a_guest_only_is_removed_by_the_name_os_brick_gave(
    host, brick, make, driver_volume_type, returned, link
):
    add_disk(host, brick, links=[returned or link])
    device = brick.found['path']
    if returned:
        brick.found['path'] = str(host.dev / returned)
    info = info_of(driver_volume_type)
    driver = make(driver_volume_type)
    volume = driver.connect_volume(info, 'guest')

    driver.extend_volume(info, 'guest', 1 << 30, volume=without_device_info(volume))

    wanted = str(host.dev / returned) if returned and link else device
    assert brick.calls[-1][1]['device_path'] == wanted


def os_brick_link(host, name):
    """The link of an encrypted volume, as os-brick makes it."""
    return host.link('disk/by-id/os-brick' + str(host.dev / name).replace('/', '+'), 'sdb')


@pytest.mark.parametrize('recorded', [True, False])
@pytest.mark.parametrize(
    ('driver_volume_type', 'name'),
    [('iscsi', 'sdb'), ('fibre_channel', f'disk/by-id/wwn-0x{NAA}')],
)
def test_encrypted_volume_has_a_lasting_name_and_its_link_is_removed(
    host, brick, make, driver_volume_type, name, recorded
):
    path = add_disk(host, brick)
    brick.found['path'] = os_brick_link(host, name)
    info = info_of(driver_volume_type, encrypted=True)
    driver = make(driver_volume_type)

    volume = driver.connect_volume(info, 'guest')
    assert volume.path == path
    driver.extend_volume(
        info, 'guest', 1 << 30, volume=volume if recorded else without_device_info(volume)
    )
    assert brick.calls[-1][1]['device_path'] == brick.found['path']


def test_os_brick_finds_the_folder_for_its_link(host, brick, make, monkeypatch):
    """It may be faster than udev, which makes the folder for the first link."""
    add_disk(host, brick)
    missing = host.dev / 'not/yet'
    monkeypatch.setattr(device_link, 'FOLDER', str(missing))
    driver = make()
    driver.connect_volume(info_of(), 'guest')
    assert not missing.exists()
    connect, there = brick.connect_volume, []

    def connect_volume(properties):
        there.append(missing.is_dir())
        return connect(properties)

    brick.connect_volume = connect_volume
    driver.connect_volume(info_of(encrypted=True), 'guest')
    assert there == [True]


def test_link_of_an_encrypted_volume_that_is_gone_is_removed(host, brick, make):
    add_disk(host, brick)
    brick.found['path'] = os_brick_link(host, 'sdb')
    info = info_of(encrypted=True)
    driver = make()
    volume = driver.connect_volume(info, 'guest')
    host.remove('sdb')

    driver.disconnect_volume(info, 'guest', volume=volume)

    assert brick.calls[-1][1]['device_path'] == brick.found['path']
    assert not os.path.lexists(brick.found['path'])


@pytest.mark.parametrize('raises', [None, brick_exception.VolumeDeviceNotFound(device='sdb')])
@pytest.mark.parametrize(
    ('driver_volume_type', 'link'),
    [
        ('iscsi', 'ip-10.0.2.15:3260-iscsi-iqn.2010-10.org.openstack:volume-1-lun-1'),
        ('iser', 'ip-fd00::a:3260-iscsi-iqn.2010-10.org.openstack:volume-1-lun-2'),
        ('fibre_channel', 'pci-0000:05:00.2-fc-0x50014380186b3f65-lun-1'),
    ],
)
def test_without_a_record_what_is_left_is_found_by_its_way(
    host, brick, make, driver_volume_type, link, raises
):
    host.device('sdb', links=[f'disk/by-path/{link}'])
    brick.raises['disconnect'] = raises
    brick.raises = {name: error for name, error in brick.raises.items() if error}
    info = info_of(driver_volume_type)
    driver = make(driver_volume_type)

    with pytest.raises(exception.LeftoversFound, match='left sdb behind'):
        driver.disconnect_volume(info, 'guest')
    host.remove('sdb')
    driver.disconnect_volume(info, 'guest')
