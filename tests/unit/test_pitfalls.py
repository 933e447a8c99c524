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

"""What is known to go wrong in os-brick 7, and what this package does about it.

One test a pitfall.  Where os-brick itself can be asked whether it still has
the pitfall, it is: a test that fails after an upgrade says that a defence may
go.

Of two the tests are elsewhere: P10, a chain of errors that cannot be shown, in
test_brick, and P13, that os-brick replaces time.sleep, in test_bootstrap.
"""

import functools
import pathlib
import typing

from os_brick import exception as brick_exception
from oslo_config import cfg
import pytest

from tests.unit.connection_infos import IQN
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
from volumedrivers.host import nvme_controller
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.libvirt import block_leftovers
from volumedrivers.libvirt import machines
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.drivers.fibre_channel import FibreChannelVolumeDriver
from volumedrivers.libvirt.drivers.iscsi import IscsiVolumeDriver
from volumedrivers.libvirt.drivers.iser import IserVolumeDriver
from volumedrivers.libvirt.drivers.lightos import LightOSVolumeDriver
from volumedrivers.libvirt.drivers.nvmeof import NvmeofVolumeDriver
from volumedrivers.libvirt.drivers.scaleio import ScaleIOVolumeDriver
from volumedrivers.libvirt.drivers.storpool import StorPoolVolumeDriver
from volumedrivers.privsep import device_link

NAA = '600140512345678901234567890abcde'
WWID = '3' + NAA


@pytest.fixture
def host(tmp_path):
    return MadeUpHost(tmp_path)


@pytest.fixture
def os_brick():
    return bootstrap.load_os_brick()


@pytest.fixture
def brick(monkeypatch, os_brick):
    brick = FakeBrick()
    monkeypatch.setattr(os_brick.InitiatorConnector, 'factory', staticmethod(brick.factory))
    return brick


@pytest.fixture
def context(tmp_path, host):
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], project='volumedrivers', default_config_files=[])
    conf.set_override('device_name_timeout', 0, group='volumedrivers')
    devices = BlockDevices(sysfs=str(host.sysfs), dev=str(host.dev), udev=str(host.udev))
    return DriverContext(conf=conf, devices=devices, shares=None, endpoints=FakeProbe())


def set_option(context, **options):
    for option, value in options.items():
        context.conf.set_override(option, value, group='volumedrivers')


def info_of(driver_volume_type, **data):
    return ConnectionInfo.parse(sample(driver_volume_type, **data))


def connected(driver_volume_type, path, identity=None, **values):
    return ConnectedVolume(
        driver_volume_type,
        VOLUME_ID,
        'block',
        path=path,
        identity=identity or Identity('wwn', WWID),
        **values,
    )


def test_p1_connectors_change_what_they_are_given(host, brick, context):
    brick.found['path'] = host.device(
        'sdb', links=[f'disk/by-id/wwn-0x{NAA}'], device__wwid=f'naa.{NAA}'
    )
    info = info_of('fibre_channel')
    before = info.to_connector()

    FibreChannelVolumeDriver(context).connect_volume(info, 'guest')

    assert info.to_connector() == before


def test_p2_encrypted_volume_leaks_when_its_link_cannot_be_made(brick, context, monkeypatch):
    monkeypatch.setattr(device_link, 'make_folder', lambda: None)
    brick.raises['connect'] = TypeError("missing 1 required positional argument: 'device_info'")
    driver = IscsiVolumeDriver(context)

    with pytest.raises(exception.ConnectFailed):
        driver.connect_volume(info_of('iscsi'), 'guest')
    assert [call[0] for call in brick.calls] == ['connect']

    with pytest.raises(exception.ConnectFailed):
        driver.connect_volume(info_of('iscsi', encrypted=True), 'guest')
    assert [call[0] for call in brick.calls] == ['connect', 'connect', 'disconnect']


@pytest.fixture
def controllers(host, monkeypatch, tmp_path):
    """NVMe controllers of a made-up host; the kernel deletes those it is told to."""
    sysfs = str(host.sysfs)
    deleted = []
    monkeypatch.setattr(
        'volumedrivers.libvirt.drivers.nvmeof.nvme_controller.idle_controllers',
        functools.partial(nvme_controller.idle_controllers, sysfs=sysfs),
    )
    monkeypatch.setattr(
        'volumedrivers.libvirt.drivers.nvmeof.nvme.delete_controller', deleted.append
    )
    bootstrap.load_os_brick()
    cfg.CONF.set_override('lock_path', str(tmp_path / 'lock'), group='os_brick')
    yield deleted
    cfg.CONF.clear_override('lock_path', group='os_brick')


def add_controller(host, name, nqn=NQN, address='traddr=10.0.2.16,trsvcid=4420', **entries):
    host.write(f'class/nvme/{name}/subsysnqn', nqn + '\n')
    host.write(f'class/nvme/{name}/address', address + ',src_addr=10.0.2.1\n')
    for entry in entries:
        host.write(f'class/nvme/{name}/{entry}/size', '8\n')


def test_p3_nvme_controller_stays_when_the_device_is_gone(host, brick, context, controllers):
    add_controller(host, 'nvme1')
    add_controller(host, 'nvme2', address='traddr=10.0.3.16,trsvcid=4420')

    NvmeofVolumeDriver(context).disconnect_volume(
        info_of('nvmeof'),
        'guest',
        volume=connected('nvmeof', '/dev/disk/by-id/nvme-uuid.1', Identity('uuid', '1')),
    )

    assert controllers == ['nvme1', 'nvme2']


@pytest.mark.parametrize('service', ['', ',trsvcid=none', ',trsvcid=4420'])
def test_p3_nvme_controller_on_fibre_channel(host, brick, context, controllers, service):
    port = 'nn-0x{0}00:pn-0x{0}01'.format('20000090fa0a5e')
    add_controller(host, 'nvme1', address=f'traddr={port}{service},host_traddr=nn-0x1:pn-0x2')
    add_controller(host, 'nvme2', address=f'traddr={port[:-1]}2{service}')

    NvmeofVolumeDriver(context).disconnect_volume(
        info_of('nvmeof', portals=[[port, 'none', 'fc']]), 'guest'
    )

    assert controllers == ['nvme1']


def test_p3_nvme_controller_stays_when_no_namespace_appears(host, brick, context, controllers):
    brick.raises['connect'] = brick_exception.VolumeDeviceNotFound(device='')
    add_controller(host, 'nvme1')
    add_controller(host, 'nvme2', nvme2n1=True, address='traddr=10.0.3.16,trsvcid=4420')

    with pytest.raises(exception.VolumeDeviceNotFound):
        NvmeofVolumeDriver(context).connect_volume(info_of('nvmeof'), 'guest')

    assert controllers == ['nvme1']


def test_p3_controllers_of_others_are_left_alone(host, brick, context, controllers):
    add_controller(host, 'nvme1', nvme1c1n1=True)
    add_controller(host, 'nvme2', nvme2n3=True)
    add_controller(host, 'nvme3', nqn='nqn.another')
    add_controller(host, 'nvme4', address='traddr=10.9.9.9,trsvcid=4420')
    add_controller(host, 'nvme5', address='traddr=10.0.2.16,trsvcid=4421')

    NvmeofVolumeDriver(context).disconnect_volume(info_of('nvmeof'), 'guest')

    assert controllers == []


def test_p3_controller_that_cannot_be_deleted_is_a_leftover(
    host, brick, context, controllers, monkeypatch
):
    def refuse(name):
        raise exception.PrivilegedCallRefused(function='delete_controller', reason='no')

    monkeypatch.setattr('volumedrivers.libvirt.drivers.nvmeof.nvme.delete_controller', refuse)
    add_controller(host, 'nvme1')

    with pytest.raises(exception.LeftoversFound, match='NVMe controller nvme1'):
        NvmeofVolumeDriver(context).disconnect_volume(info_of('nvmeof'), 'guest')


@pytest.mark.parametrize('portal', ['[FD00::A]:3260', '[fd00::a]:3260,1', 'fd00::a:3260'])
def test_p4_session_is_found_by_its_exact_spelling(brick, context, portal):
    try:
        info = info_of('iscsi', target_portal=portal)
    except exception.InvalidConnectionInfo:
        # An address without brackets cannot be told from its port.
        assert portal == 'fd00::a:3260'
        return

    IscsiVolumeDriver(context).disconnect_volume(info, 'guest')

    assert brick.calls[0][1]['target_portal'] == '[fd00::a]:3260'


class Multipathd:
    """Flushes maps of the made-up host."""

    def __init__(self, host):
        self.host = host
        self.flushed = []
        self.raises = None

    def __call__(self, wwid):
        self.flushed.append(wwid)
        if self.raises is not None:
            raise self.raises
        self.host.remove('dm-0')


@pytest.fixture
def multipathd(host, monkeypatch):
    multipathd = Multipathd(host)
    monkeypatch.setattr(block_leftovers.multipath, 'flush_map', multipathd)
    monkeypatch.setattr(block_leftovers, 'REMOVAL_TIME', 0.2)
    return multipathd


@pytest.mark.parametrize(
    ('driver', 'driver_volume_type'),
    [(FibreChannelVolumeDriver, 'fibre_channel'), (IscsiVolumeDriver, 'iscsi')],
)
def test_p5_map_without_paths_is_left(
    host, brick, context, multipathd, driver, driver_volume_type
):
    link = f'disk/by-id/dm-uuid-mpath-{WWID}'
    host.device('dm-0', dm__uuid=f'mpath-{WWID}', links=[link])

    driver(context).disconnect_volume(
        info_of(driver_volume_type),
        'guest',
        volume=connected(driver_volume_type, str(host.dev / link)),
        force=True,
    )

    assert multipathd.flushed == [WWID]


def test_p5_map_that_cannot_be_flushed_is_reported(host, brick, context, multipathd):
    link = f'disk/by-id/dm-uuid-mpath-{WWID}'
    host.device('dm-0', dm__uuid=f'mpath-{WWID}', links=[link])
    multipathd.raises = exception.FlushFailed(volume_id=None, reason='map in use')

    with pytest.raises(exception.LeftoversFound, match='dm-0'):
        FibreChannelVolumeDriver(context).disconnect_volume(
            info_of('fibre_channel'),
            'guest',
            volume=connected('fibre_channel', str(host.dev / link)),
        )


@pytest.mark.parametrize('recorded', [True, False])
@pytest.mark.parametrize(
    ('driver', 'driver_volume_type', 'option'),
    [
        (FibreChannelVolumeDriver, 'fibre_channel', 'volume_use_multipath'),
        (IscsiVolumeDriver, 'iscsi', 'volume_use_multipath'),
        (IserVolumeDriver, 'iser', 'iser_use_multipath'),
    ],
)
def test_p5_map_needs_the_option_it_was_connected_with(
    host, brick, context, multipathd, driver, driver_volume_type, option, recorded
):
    link = f'disk/by-id/dm-uuid-mpath-{WWID}'
    brick.found = {
        'type': 'block',
        'path': host.device('dm-0', dm__uuid=f'mpath-{WWID}', links=[link]),
        'multipath_id': WWID,
    }
    info = info_of(driver_volume_type)
    set_option(context, **{option: True})
    volume = driver(context).connect_volume(info, 'guest')
    if not recorded:
        volume = connected(driver_volume_type, volume.path)

    set_option(context, **{option: False})
    driver(context).extend_volume(info, 'guest', 1 << 30, volume=volume)
    host.remove('dm-0')
    driver(context).disconnect_volume(info, 'guest', volume=volume)

    assert [options['use_multipath'] for _, options in brick.made] == [True, True, True]


def test_p6_rbd_device_is_found_by_the_name_of_its_image_alone(os_brick, monkeypatch):
    """Why libvirt.kernel_rbd unmaps by number; test_kernel_rbd shows that it does."""
    connector = os_brick.InitiatorConnector.factory('RBD', '', do_local_attach=True)
    others = '[{"id": "0", "pool": "backups", "name": "volume-1", "device": "/dev/rbd0"}]'
    monkeypatch.setattr(connector, '_execute', lambda *command, **options: (others, ''))
    monkeypatch.setattr(connector, '_get_rbd_args', lambda *arguments: [])

    found = connector._find_root_device({'name': 'volumes/volume-1'}, None)

    assert found == '/dev/rbd0', 'it looks at the pool now; os-brick may unmap'


def test_p7_nvme_connector_does_not_read_the_number_of_attempts(os_brick, context):
    set_option(context, num_nvme_discover_tries=99)
    driver = NvmeofVolumeDriver(context)
    assert driver.connector_options()['device_scan_attempts'] == 99

    made = os_brick.InitiatorConnector.factory('NVME', '', device_scan_attempts=99)
    source = pathlib.Path(_source(type(made))).read_text()

    assert made.device_scan_attempts == 3
    assert 'self.device_scan_attempts' not in source, 'it does now; set the attribute in Brick'


def _source(cls: type) -> str:
    import sys

    return typing.cast(str, sys.modules[cls.__module__].__file__)


@pytest.mark.parametrize(
    ('driver', 'driver_volume_type'),
    [
        (IscsiVolumeDriver, 'iscsi'),
        (IserVolumeDriver, 'iser'),
        (FibreChannelVolumeDriver, 'fibre_channel'),
        (NvmeofVolumeDriver, 'nvmeof'),
    ],
)
def test_p8_enforcement_of_multipath_is_read_from_the_properties(
    host, brick, context, driver, driver_volume_type
):
    brick.found['path'] = host.device('sdb', links=['disk/by-id/wwn-0x1'])
    set_option(context, volume_use_multipath=True, iser_use_multipath=True)

    driver(context).connect_volume(info_of(driver_volume_type), 'guest')
    assert 'enforce_multipath' not in brick.calls[-1][1]

    set_option(context, volume_enforce_multipath=True)
    driver(context).connect_volume(info_of(driver_volume_type), 'guest')
    assert brick.calls[-1][1]['enforce_multipath'] is True


def test_p8_what_cinder_says_of_enforcement_stays(host, brick, context):
    brick.found['path'] = host.device('sdb', links=['disk/by-id/wwn-0x1'])

    IscsiVolumeDriver(context).connect_volume(info_of('iscsi', enforce_multipath=True), 'guest')

    assert brick.calls[-1][1]['enforce_multipath'] is True


@pytest.mark.parametrize('machine', sorted(machines.S390 | machines.PPC64))
def test_p9_fibre_channel_does_not_work_on_every_machine(context, monkeypatch, machine):
    monkeypatch.setattr('platform.machine', lambda: machine)

    assert machine in FibreChannelVolumeDriver(context).why_not()


@pytest.mark.parametrize('machine', ['x86_64', 'aarch64', *sorted(machines.S390 | machines.PPC64)])
@pytest.mark.parametrize(
    'driver',
    [
        FibreChannelVolumeDriver,
        IscsiVolumeDriver,
        IserVolumeDriver,
        LightOSVolumeDriver,
        NvmeofVolumeDriver,
        ScaleIOVolumeDriver,
        StorPoolVolumeDriver,
    ],
)
def test_p9_machines_without_a_connector_are_those_of_os_brick(
    os_brick, context, monkeypatch, driver, machine
):
    monkeypatch.setattr('platform.machine', lambda: machine)
    protocol = 'ISCSI' if driver is IscsiVolumeDriver else driver.PROTOCOL

    if protocol in os_brick.get_connector_mapping(machine):
        assert driver(context).context is context
    else:
        with pytest.raises(exception.VolumeDriverNotSupported, match=machine):
            driver(context)


def test_p11_kernel_name_means_another_device_after_a_reboot(host, brick, context):
    link = f'disk/by-id/dm-uuid-mpath-{WWID}'
    # Before the reboot it was dm-7; that is somebody else's map now.
    host.device('dm-7', dm__uuid='mpath-36000')
    today = host.device('dm-3', dm__uuid=f'mpath-{WWID}', links=[link])
    volume = connected('iscsi', str(host.dev / link), device_info={'path': '/dev/dm-7'})

    IscsiVolumeDriver(context).extend_volume(info_of('iscsi'), 'guest', 1, volume=volume)

    assert brick.calls[-1][1]['device_path'] == today


def test_p11_name_of_a_device_that_is_gone_is_still_that_of_its_volume(host, brick, context):
    link = str(host.dev / f'disk/by-id/dm-uuid-mpath-{WWID}')
    volume = connected('iscsi', link, device_info={'path': '/dev/dm-7'})

    IscsiVolumeDriver(context).disconnect_volume(info_of('iscsi'), 'guest', volume=volume)

    assert brick.calls[-1][1]['device_path'] == link


def test_p12_session_is_opened_again_after_a_reboot(os_brick):
    """A removal that finds no device has to end the session all the same.

    os-brick makes the login automatic, so after a reboot the host is logged in
    to targets whose volumes were not connected again.  So removal asks os-brick
    also where the recorded device is gone.
    """
    source = pathlib.Path(_source(os_brick.InitiatorConnector.factory('ISCSI', '').__class__))
    assert '"node.startup",\n                                  "automatic"' in source.read_text()


def test_p12_volume_whose_device_is_gone_is_removed_by_os_brick(host, brick, context):
    volume = connected('iscsi', str(host.dev / f'disk/by-id/wwn-0x{NAA}'))

    IscsiVolumeDriver(context).disconnect_volume(info_of('iscsi'), 'guest', volume=volume)

    assert [call[0] for call in brick.calls] == ['disconnect']


@pytest.mark.parametrize('wwn', ['50014380186b3f6', '$(reboot)', '50014380186b3f65" /etc; "'])
@pytest.mark.parametrize('key', ['target_wwn', 'target_wwns', 'initiator_target_map'])
def test_p14_wwn_goes_into_a_shell_command(brick, key, wwn):
    value = {'21000024ff34c92d': [wwn]} if key == 'initiator_target_map' else [wwn]

    with pytest.raises(exception.InvalidConnectionInfo, match=key):
        info_of('fibre_channel', **{key: value})

    assert brick.made == []


def test_p15_nobody_says_what_is_connected(host, brick, context):
    """Each call may be made again, and a second removal finds nothing to do."""
    brick.found['path'] = host.device(
        'sdb', links=[f'disk/by-id/wwn-0x{NAA}'], device__wwid=f'naa.{NAA}'
    )
    driver = IscsiVolumeDriver(context)
    first = driver.connect_volume(info_of('iscsi'), 'guest')
    second = driver.connect_volume(info_of('iscsi'), 'guest')
    assert (first.path, first.identity) == (second.path, second.identity)

    host.remove('sdb')
    driver.disconnect_volume(info_of('iscsi'), 'guest', volume=first)
    brick.raises['disconnect'] = brick_exception.VolumeDeviceNotFound(device='sdb')
    driver.disconnect_volume(info_of('iscsi'), 'guest', volume=first)


def test_p16_missing_path_is_silent(host, brick, context):
    way = f'disk/by-path/ip-10.0.2.15:3260-iscsi-{IQN}-lun-1'
    host.device('sdb', device__state='running', links=[way])
    path = host.device(
        'dm-0',
        dm__uuid=f'mpath-{WWID}',
        slaves=['sdb'],
        links=[f'disk/by-id/dm-uuid-mpath-{WWID}'],
    )
    brick.found['path'] = path
    set_option(context, iser_use_multipath=True)

    volume = IserVolumeDriver(context).connect_volume(info_of('iser'), 'guest')

    assert volume.degraded
    assert volume.paths.found == 1
    assert [(path.name, path.reason) for path in volume.paths.failed] == [
        (f'[fd00::a]:3260 {IQN}', 'no device appeared')
    ]


@pytest.mark.parametrize('force', [True, False])
def test_p17_device_that_stays_is_the_next_tenant_s(host, brick, context, multipathd, force):
    """A LUN that is mapped to another volume later would be read through it."""
    link = f'disk/by-id/wwn-0x{NAA}'
    host.device('sdb', links=[link], device__wwid=f'naa.{NAA}')
    volume = connected('iscsi', str(host.dev / link))

    with pytest.raises(exception.LeftoversFound, match='sdb'):
        IscsiVolumeDriver(context).disconnect_volume(
            info_of('iscsi'), 'guest', volume=volume, force=force
        )
