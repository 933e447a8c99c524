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

"""What a dry run says of each protocol; and that it neither does anything nor tells a secret."""

from oslo_config import cfg
import pytest

from tests.unit.connection_infos import DATA
from tests.unit.connection_infos import IQN
from tests.unit.connection_infos import NQN
from tests.unit.connection_infos import VOLUME_ID
from tests.unit.connection_infos import sample
from tests.unit.made_up_host import MadeUpHost
from tests.unit.network_fakes import FakeSecrets
from volumedrivers import exception
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.host.mount_table import Mount
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.registry import Registry
from volumedrivers.testing.shares import FakeShareMounts

A, B = '60014051111', '60014052222'
ONE, TWO = '10.0.2.15:3260', '[fd00::a]:3260'
UDEV = f'/disk/by-path/ip-{ONE}-iscsi-{IQN}-lun-1'
LOGIN = f'iscsiadm -m node -T {IQN} -p {ONE} --login'
DEFAULT = 'device_scan_attempts=5, enforce_multipath=False, '


@pytest.fixture
def host(tmp_path):
    return MadeUpHost(tmp_path)


@pytest.fixture
def context(host):
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], project='volumedrivers', default_config_files=[])
    conf.set_override('state_path', '/var/lib/x', group='volumedrivers')
    conf.set_override('iscsi_initiator_name', 'iqn.2020-01.example:me', group='volumedrivers')
    conf.set_override('rbd_ceph_conf', '/nonexistent', group='volumedrivers')
    return DriverContext(
        conf=conf,
        devices=BlockDevices(sysfs=str(host.sysfs), dev=str(host.dev), udev=str(host.udev)),
        shares=FakeShareMounts(),
        # Nobody may be asked.
        endpoints=None,
        secrets=FakeSecrets(),
    )


@pytest.fixture
def get(context):
    registry = Registry(context)

    def get(driver_volume_type, **options):
        for name, value in options.items():
            context.conf.set_override(name, value, group='volumedrivers')
        return registry.get(driver_volume_type)

    return get


def info_of(driver_volume_type, **data):
    return ConnectionInfo.parse(sample(driver_volume_type, **data))


def block(host, wwid=A, **more):
    return ConnectedVolume(
        'iscsi',
        None,
        'block',
        path=str(host.dev / f'disk/by-id/wwn-0x{wwid}'),
        identity=Identity('wwn', f'3{wwid}'),
        **more,
    )


@pytest.mark.parametrize(
    ('driver_volume_type', 'expected'),
    [
        (
            'scaleio',
            (
                'let the gateway map volume 3a3d9ad500000001 unless the back end has',
                'device: /dev/disk/by-id/emc-vol-*3a3d9ad500000001',
            ),
        ),
        (
            'storpool',
            (
                f'let the StorPool API assign volume {VOLUME_ID} to this host',
                'device: /dev/storpool-byid/*',
            ),
        ),
        (
            'huaweisdshypervisor',
            (
                '/usr/local/bin/sds/sds_cli -c attach -v volume-1',
                '/usr/local/bin/sds/sds_cli -c querydev -v volume-1',
            ),
        ),
    ],
)
def test_agents_of_vendors(get, driver_volume_type, expected):
    plan = get(driver_volume_type).plan_connect(info_of(driver_volume_type), 'guest')
    assert plan[1:] == expected


@pytest.mark.parametrize(
    ('driver_volume_type', 'options'),
    [
        *((name, {}) for name in DATA),
        ('iscsi', {'iscsi_client': 'qemu'}),
        ('glusterfs', {'glusterfs_client': 'qemu'}),
        ('rbd', {'rbd_client': 'kernel'}),
    ],
)
def test_every_driver_has_a_plan_without_secrets(get, driver_volume_type, options):
    info = info_of(
        driver_volume_type, **({'format': 'raw'} if 'glusterfs_client' in options else {})
    )
    driver = get(driver_volume_type, **options)
    plans = [
        driver.plan_connect(info, 'guest'),
        driver.plan_disconnect(info, 'guest'),
        driver.plan_disconnect(ConnectionInfo.parse(info.to_dict()), 'guest'),
    ]

    for lines in plans:
        assert lines
        assert all(line.strip() and '\n' not in line for line in lines)
        assert not any('secret-99' in line for line in lines)
    assert plans[1] == plans[2]
    assert plans[1][0].startswith('nothing: ')


class TestIscsi:
    def test_connect(self, get, host):
        assert get('iscsi').plan_connect(info_of('iscsi'), 'guest') == (
            f'connect to {ONE}',
            f'os-brick ISCSI connector: {DEFAULT}transport=default, use_multipath=False',
            LOGIN,
            f'device: {host.dev}{UDEV}',
        )

    def test_connect_to_what_is_there(self, get, host):
        host.session(4, ONE, IQN, lun1='sdb')
        host.device('sdb', links=[UDEV[1:]])

        lines = get('iscsi', volume_use_multipath=True).plan_connect(info_of('iscsi'), 'guest')

        assert lines[2:] == (
            f'ask {ONE} for other portals (SendTargets)',
            f'session4 of {ONE} {IQN} is there',
            f'device: {host.dev}{UDEV} is there: sdb',
        )

    def test_second_portal_is_for_multipath_or_a_failure(self, get):
        lines = get('iser').plan_connect(info_of('iser', encrypted=True), 'guest')
        assert f'if there is no disk yet: iscsiadm -m node -T {IQN} -p {TWO} --login' in lines
        assert lines[-1].startswith('link to the device: ')
        lines = get('iser', iser_use_multipath=True).plan_connect(info_of('iser'), 'guest')
        assert f'iscsiadm -m node -T {IQN} -p {TWO} --login' in lines

    @pytest.mark.parametrize('with_record', [True, False])
    def test_disconnect(self, get, host, with_record):
        for number, (name, portal) in enumerate((('sdb', ONE), ('sdc', TWO)), 1):
            address = portal.strip('[').replace(']', '')
            host.device(
                name,
                device__wwid=f'naa.{A}',
                links=[f'disk/by-path/ip-{address}-iscsi-{IQN}-lun-{number}'],
            )
        host.device('sdd', device__wwid=f'naa.{B}')
        host.device('dm-2', dm__uuid=f'mpath-3{A}', slaves=['sdb', 'sdc'])
        host.session(1, ONE, IQN, lun1='sdb')
        host.session(2, TWO, IQN, lun2='sdc', lun7='sdd')
        host.session(3, '10.9.9.9:3260', IQN)
        known = {'volume': block(host, use_multipath=True)} if with_record else {}

        lines = get('iser').plan_disconnect(info_of('iser'), 'guest', **known)

        assert lines == (
            f'os-brick ISER connector: {DEFAULT}transport=iser, use_multipath=True',
            f'multipath -f 3{A} (dm-2)',
            'delete SCSI devices sdb sdc',
            f'iscsiadm -m node -T {IQN} -p {ONE} --logout',
            f'session stays: {TWO} {IQN} has other LUNs (7)',
        )

    def test_disconnect_that_would_be_refused(self, get, host):
        host.device('sdb', device__wwid=f'naa.{B}', links=[UDEV[1:]])

        with pytest.raises(exception.IdentityMismatch):
            get('iscsi').plan_disconnect(info_of('iscsi'), 'guest', volume=block(host))

    def test_login_without_a_disk(self, get, host):
        host.session(1, ONE, IQN)

        lines = get('iscsi').plan_disconnect(info_of('iscsi'), 'guest')

        assert lines[1:] == (f'iscsiadm -m node -T {IQN} -p {ONE} --logout',)

    def test_by_qemu(self, get, context):
        driver = get('iscsi', iscsi_client='qemu')
        info = info_of('iscsi')

        assert driver.plan_connect(info, 'guest') == (
            f'connect to {ONE}',
            f'define libvirt secret iscsi {VOLUME_ID}/guest',
            f'QEMU opens iscsi {IQN}/1',
        )
        assert context.secrets.values == {}
        context.secrets.ensure('iscsi', f'{VOLUME_ID}/guest', b'x')
        (line,) = driver.plan_disconnect(info, 'guest')
        assert line.startswith(f'undefine libvirt secret iscsi {VOLUME_ID}/guest (')


def test_fibre_channel(get, host):
    lines = get('fibre_channel').plan_connect(info_of('fibre_channel'), 'guest')

    assert lines[1] == 'scan for LUN 1 of target port 50014380186b3f65'
    assert lines[-1] == f'device: {host.dev}/disk/by-path/*-fc-0x50014380186b3f67-lun-1'


def test_nvme(get, host):
    info = info_of('nvmeof')
    assert get('nvmeof').plan_connect(info, 'guest')[1:] == (
        f'nvme connect -t tcp -a 10.0.2.16 -s 4420 -n {NQN}',
        f'nvme connect -t rdma -a 10.0.3.16 -s 4420 -n {NQN}',
    )
    host.device('nvme0n1', wwid=f'uuid.{VOLUME_ID}', uuid=VOLUME_ID, device__subsysnqn=NQN)
    host.controller('nvme0', NQN, '10.0.2.16:4420', 'nvme0c0n1')
    host.controller('nvme1', NQN, '10.0.3.16:4420', 'nvme0c1n1', 'nvme0c1n2')

    assert get('nvmeof').plan_connect(info, 'guest')[1] == (
        f'controller nvme0 of 10.0.2.16:4420 {NQN} is there'
    )
    assert get('nvmeof').plan_disconnect(info, 'guest')[1:] == (
        f'delete controller nvme0 ({NQN})',
        'controller stays: nvme1 has other namespaces (nvme0n2)',
    )


def test_lightos(get, host):
    info = info_of('lightos')
    assert get('lightos').plan_connect(info, 'guest') == (
        'connect to 10.0.0.30:4420',
        'os-brick LIGHTOS connector: device_scan_attempts=5',
        f'tell the discovery client of {info.data.uuid} in {info.data.subsystem_nqn}',
    )
    path = host.device('nvme0n1', wwid=f'uuid.{info.data.uuid}', links=['disk/by-id/nvme-x'])
    volume = ConnectedVolume(
        'lightos', None, 'block', path=path, identity=Identity('uuid', info.data.uuid)
    )
    lines = get('lightos').plan_disconnect(info, 'guest', volume=volume)
    assert lines[1] == f'device: {path} goes when the storage takes it back'


class TestShares:
    PLACE = '/var/lib/x/mnt/7238cae27f24b2984e2f10903a9c78a6'

    @pytest.fixture
    def info(self):
        return info_of('nfs', export='192.168.1.1:/nfs/share1', options='-o vers=3,hard')

    def test_connect(self, get, info):
        assert get('nfs', nfs_mount_options='ro').plan_connect(info, 'guest') == (
            f'make directory {self.PLACE}',
            f'mount -t nfs -o ro,vers=3,hard 192.168.1.1:/nfs/share1 {self.PLACE}',
            f'inspect {self.PLACE}/volume-1',
        )

    def test_credentials_are_not_shown(self, get):
        lines = get('smbfs').plan_connect(info_of('smbfs'), 'guest')
        assert ' -o vers=3.0,credentials=*** //192.168.1.1/volumes ' in lines[1]

    def test_connect_to_what_is_there(self, get, info, context, monkeypatch):
        driver = get('nfs')
        driver.connect_volume(info, 'guest')
        assert driver.plan_connect(info, 'other')[0] == (
            f'already mounted: 192.168.1.1:/nfs/share1 at {self.PLACE}'
        )
        other = Mount(1, '/', self.PLACE, 'nfs', 'other:/x')
        monkeypatch.setattr(context.shares, 'mount_of', lambda share: other)
        assert driver.plan_connect(info, 'other')[0] == (
            f'refused: {self.PLACE} holds other:/x (nfs)'
        )

    def test_disconnect_where_a_guest_may_have_more(self, get, info, context, monkeypatch):
        driver = get('nfs')
        driver.connect_volume(info, 'guest')
        context.shares.users.claim(self.PLACE, 'mark')
        monkeypatch.setattr(
            context.shares, 'elsewhere', lambda share, user: frozenset(('web2', 'web1'))
        )
        assert driver.plan_disconnect(info, 'guest') == (
            f'unmount {self.PLACE}, unless web1, web2 has something else on it',
            f'remove directory {self.PLACE}',
        )

    def test_disconnect(self, get, info, context):
        driver = get('nfs')
        driver.connect_volume(info, 'guest')
        driver.connect_volume(info, 'other')
        assert driver.plan_disconnect(info, 'guest') == (
            f'stays mounted: {self.PLACE} is used by other/{VOLUME_ID}',
        )
        driver.disconnect_volume(info, 'other')
        assert driver.plan_disconnect(info, 'guest') == (
            f'stays mounted: {self.PLACE} was mounted by somebody else',
        )
        context.shares.users.claim(self.PLACE, 'mark')
        assert driver.plan_disconnect(info, 'guest') == (
            f'unmount {self.PLACE}',
            f'remove directory {self.PLACE}',
        )
        assert context.shares.mounted

    def test_vzstorage_is_mounted_by_os_brick(self, get):
        lines = get('vzstorage').plan_connect(info_of('vzstorage'), 'guest')
        assert lines[1].startswith(
            'os-brick VZSTORAGE connector mounts mds1:2510,mds2:/cluster1 at'
        )


def test_librbd(get):
    assert get('rbd').plan_connect(info_of('rbd', ports=['6789', None]), 'guest') == (
        'connect to 192.168.10.1:6789',
        'connect to [::1] (3300 or 6789)',
        'QEMU opens rbd volumes/volume-1',
    )
