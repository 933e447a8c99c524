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

"""What is wrong is refused, before anything is done.

A row is a connection_info that is spoilt in one way, and the error it has to
give.  Python's own audit events say whether anything was executed, connected,
written or removed; os-brick's factory and the privileged functions are
watched as well.
"""

import collections
import contextlib
import copy
import errno
import importlib.metadata
import os
import struct
import sys

from oslo_config import cfg
from oslo_privsep import priv_context
import pytest

from tests.unit.connection_infos import DATA
from tests.unit.connection_infos import IQN
from tests.unit.connection_infos import REPLICATED
from tests.unit.connection_infos import VOLUME_ID
from tests.unit.connection_infos import sample
from volumedrivers import exception
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import bootstrap
from volumedrivers.host import mount_table
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.host.endpoint import Probe
from volumedrivers.host.share_users import MemoryUsers
from volumedrivers.host.shares import ShareMounts
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import NetworkHost
from volumedrivers.libvirt.connected_volume import NetworkSource
from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.driver import DiskInfo
from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.registry import Registry
from volumedrivers.privsep import context
from volumedrivers.privsep import mount

INFO = exception.InvalidConnectionInfo
MODE = exception.InvalidVolumeAccessMode
OUTSIDE = exception.PathOutsideShare
IMAGE = exception.UnsafeImage

BLOCK = (
    'iscsi',
    'iser',
    'fibre_channel',
    'nvmeof',
    'nvme',
    'lightos',
    'scaleio',
    'storpool',
    'huaweisdshypervisor',
    'local',
)
SHARES = ('nfs', 'smbfs', 'glusterfs', 'quobyte', 'scality', 'vzstorage')
WWNS = ['50014380186b3f65', '50014380186b3f67']
FORBIDDEN = ('\0', '\n', '\r', '\x1b', '\x7f', '\x85', '\ud800', '\ufffe')


# The rows: type, changes of data (... takes a key away), error, key


def _every_type():
    for kind in sorted(DATA):
        yield kind, {'access_mode': 'bar'}, MODE, 'data.access_mode'
        yield kind, {'access_mode': 'RO'}, MODE, 'data.access_mode'
        yield kind, {'qos_specs': {'total_iops_sec': '-1'}}, INFO, 'data.qos_specs.total_iops_sec'
        yield kind, {'encrypted': 'False'}, INFO, 'data.encrypted'
        yield kind, {'logical_block_size': -512}, INFO, 'data.logical_block_size'
        yield kind, {'physical_block_size': '4k'}, INFO, 'data.physical_block_size'
        yield kind, {'multipath_id': 'a\nb'}, INFO, 'data.multipath_id'
        if kind != 'huaweisdshypervisor':
            yield kind, {'volume_id': 'a\0b'}, INFO, 'data.volume_id'
        if kind not in ('local', 'gpfs'):
            yield kind, {'device_path': ''}, INFO, 'data.device_path'


COMMON_ROWS = [
    ('rbd', {'access_mode': ['rw']}, MODE, 'data.access_mode'),
    ('rbd', {'access_mode': True}, MODE, 'data.access_mode'),
    ('rbd', {'access_mode': 'rw\n'}, MODE, 'data.access_mode'),
    ('nfs', {'qos_specs': {'read_bytes_sec': 1.5}}, INFO, 'data.qos_specs.read_bytes_sec'),
    ('nfs', {'qos_specs': {'read_bytes_sec': 'many'}}, INFO, 'data.qos_specs.read_bytes_sec'),
    ('nfs', {'qos_specs': {'size_iops_sec': True}}, INFO, 'data.qos_specs.size_iops_sec'),
    ('nfs', {'qos_specs': {'group_name': 'a\0'}}, INFO, 'data.qos_specs.group_name'),
    ('nfs', {'qos_specs': {'group_name': ['a']}}, INFO, 'data.qos_specs.group_name'),
    ('rbd', {'encrypted': 1}, INFO, 'data.encrypted'),
    ('rbd', {'cacheable': 'yes'}, INFO, 'data.cacheable'),
    ('rbd', {'logical_block_size': 0}, INFO, 'data.logical_block_size'),
    ('rbd', {'logical_block_size': True}, INFO, 'data.logical_block_size'),
    ('rbd', {'logical_block_size': 512.0}, INFO, 'data.logical_block_size'),
    ('rbd', {'physical_block_size': '٤٠٩٦'}, INFO, 'data.physical_block_size'),
    ('rbd', {'physical_block_size': '9' * 5000}, INFO, 'data.physical_block_size'),
    ('rbd', {'physical_block_size': 10**400}, INFO, 'data.physical_block_size'),
    ('iscsi', {'device_path': 7}, INFO, 'data.device_path'),
    ('iscsi', {'enforce_multipath': 'true'}, INFO, 'data.enforce_multipath'),
    ('iscsi', {'volume_id': True}, INFO, 'data.volume_id'),
    ('iscsi', {'volume_id': -1}, INFO, 'data.volume_id'),
    ('iscsi', {'volume_id': ['a']}, INFO, 'data.volume_id'),
    ('acme', {'access_mode': 'wr'}, MODE, 'data.access_mode'),
    ('acme', {'deep': {'bytes': b'x'}}, INFO, 'data.deep.bytes'),
    ('acme', {'deep': [1, {2, 3}]}, INFO, 'data.deep[1]'),
    ('acme', {'nan': float('nan')}, INFO, 'data.nan'),
    ('acme', {'keys': {1: 2}}, INFO, 'data.keys[1]'),
]
ISCSI_ROWS = [
    ('iscsi', {'target_portal': ...}, INFO, 'data.target_portal'),
    ('iscsi', {'target_iqn': ...}, INFO, 'data.target_iqn'),
    ('iscsi', {'target_lun': ...}, INFO, 'data.target_lun'),
    ('iscsi', {'target_portal': None}, INFO, 'data.target_portal'),
    *[
        ('iscsi', {'target_portal': portal}, INFO, 'data.target_portal')
        for portal in (
            '',
            7,
            [],
            '10.0.0.1',
            '10.0.0.1:',
            '10.0.0.1:0',
            '10.0.0.1:65536',
            '10.0.0.1:-1',
            '10.0.0.256:3260',
            'a b:3260',
            '10.0.0.1:3260\n',
            '10.0.0.1:3260,x',
            '[fd00::g]:3260',
            '[fd00::a:3260',
            '-x:3260',
            '[10.0.0.1]:3260',
            '[fe80::1%a/b]:3260',
            'a..b:3260',
            '/etc/passwd:1',
            '$(id):3260',
            '10.0.0.1:3260 --op=delete',
        )
    ],
    *[
        ('iscsi', {'target_iqn': name}, INFO, 'data.target_iqn')
        for name in (
            '',
            5,
            None,
            [IQN],
            '-T',
            'iqn.a b',
            'iqn.a/../b',
            'iqn.a*',
            'iqn.a\n',
            'iqn.a\0',
            'iqn.a;id',
            'iqn.' + 'a' * 300,
        )
    ],
    *[
        ('iscsi', {'target_lun': lun}, INFO, 'data.target_lun')
        for lun in (-1, '-1', 'one', 1.0, True, None, [1], '', 2**32)
    ],
    ('iscsi', {'target_portals': [], 'target_iqns': [IQN]}, INFO, 'data.target_portals'),
    ('iscsi', {'target_portals': '10.0.0.1:1', 'target_iqns': [IQN]}, INFO, 'data.target_portals'),
    ('iscsi', {'auth_username': ...}, INFO, 'data.auth_username'),
    ('iscsi', {'auth_password': ...}, INFO, 'data.auth_password'),
    ('iscsi', {'auth_password': ''}, INFO, 'data.auth_password'),
    ('iscsi', {'auth_password': 'a\nb'}, INFO, 'data.auth_password'),
    ('iscsi', {'auth_username': 'a\0b'}, INFO, 'data.auth_username'),
    ('iscsi', {'auth_method': ['CHAP']}, INFO, 'data.auth_method'),
    ('iscsi', {'discovery_auth_method': 'CHAP'}, INFO, 'data.discovery_auth_username'),
    ('iser', {'target_portals': ...}, INFO, 'data.target_portal'),
    ('iser', {'target_iqns': ...}, INFO, 'data.target_portal'),
    ('iser', {'target_luns': ...}, INFO, 'data.target_lun'),
    ('iser', {'target_portals': ['10.0.0.1:1']}, INFO, 'data.target_iqns'),
    ('iser', {'target_iqns': [IQN]}, INFO, 'data.target_iqns'),
    ('iser', {'target_iqns': []}, INFO, 'data.target_iqns'),
    ('iser', {'target_iqns': [IQN, IQN + ' ']}, INFO, 'data.target_iqns[1]'),
    ('iser', {'target_luns': [1]}, INFO, 'data.target_luns'),
    ('iser', {'target_luns': []}, INFO, 'data.target_luns'),
    ('iser', {'target_luns': [1, -2]}, INFO, 'data.target_luns[1]'),
    ('iser', {'target_luns': [1, None]}, INFO, 'data.target_luns[1]'),
    ('iser', {'target_portals': ['10.0.0.1:1', {}]}, INFO, 'data.target_portals[1]'),
    ('iser', {'target_portals': {'10.0.0.1:1': 1}}, INFO, 'data.target_portals'),
]
FIBRE_CHANNEL_ROWS = [
    ('fibre_channel', {'target_wwn': ...}, INFO, 'data.target_wwn'),
    ('fibre_channel', {'target_lun': ...}, INFO, 'data.target_lun'),
    *[
        ('fibre_channel', {'target_wwn': wwn}, INFO, 'data.target_wwn')
        for wwn in (
            None,
            '',
            [],
            5,
            '5001',
            'g' * 16,
            '50014380186b3f65 ',
            '50014380186b3f65"; id; "',
            '$(reboot)',
            '0x50014380186b3f65ff',
            '50:014380186b3f65',
        )
    ],
    ('fibre_channel', {'target_wwn': [WWNS[0], '*']}, INFO, 'data.target_wwn[1]'),
    ('fibre_channel', {'target_wwns': [WWNS[0], '`id`']}, INFO, 'data.target_wwns[1]'),
    ('fibre_channel', {'target_wwns': WWNS[0]}, INFO, 'data.target_wwns'),
    ('fibre_channel', {'target_wwns': []}, INFO, 'data.target_wwns'),
    ('fibre_channel', {'target_luns': [1, 2, 3]}, INFO, 'data.target_luns'),
    ('fibre_channel', {'target_luns': [1, 2], 'target_wwn': WWNS[0]}, INFO, 'data.target_luns'),
    ('fibre_channel', {'target_luns': []}, INFO, 'data.target_luns'),
    ('fibre_channel', {'target_lun': '1'}, INFO, 'data.target_lun'),
    ('fibre_channel', {'target_lun': -1}, INFO, 'data.target_lun'),
    ('fibre_channel', {'target_lun': [1]}, INFO, 'data.target_lun'),
    ('fibre_channel', {'initiator_target_map': ['x']}, INFO, 'data.initiator_target_map'),
    ('fibre_channel', {'initiator_target_map': {'x': WWNS}}, INFO, 'data.initiator_target_map'),
    (
        'fibre_channel',
        {'initiator_target_map': {WWNS[0]: WWNS[1]}},
        INFO,
        f'data.initiator_target_map[{WWNS[0]}]',
    ),
    (
        'fibre_channel',
        {'initiator_target_map': {WWNS[0]: ['; id']}},
        INFO,
        f'data.initiator_target_map[{WWNS[0]}][0]',
    ),
]
_PORTAL = ['10.0.0.1', 4420, 'tcp']
NVME_ROWS = [
    ('nvmeof', {'target_nqn': ...}, INFO, 'data.transport_type'),
    ('nvmeof', {'portals': ...}, INFO, 'data.portals'),
    *[
        ('nvmeof', {'target_nqn': name}, INFO, 'data.target_nqn')
        for name in ('', None, 5, '-n', 'nqn.a b', 'nqn.a\n', 'nqn.a/b', 'nqn.' + 'a' * 230)
    ],
    *[
        ('nvmeof', {'portals': portals}, INFO, key)
        for portals, key in (
            ([], 'data.portals'),
            ('10.0.0.1', 'data.portals'),
            ([[]], 'data.portals[0]'),
            ([_PORTAL, _PORTAL[:2]], 'data.portals[1]'),
            ([['', 4420, 'tcp']], 'data.portals[0][0]'),
            ([['-a', 4420, 'tcp']], 'data.portals[0][0]'),
            ([['10.0.0.1', -1, 'tcp']], 'data.portals[0][1]'),
            ([['10.0.0.1', None, 'tcp']], 'data.portals[0][1]'),
            ([['10.0.0.1', 4420, 'udp']], 'data.portals[0][2]'),
            ([['10.0.0.1', 4420, 'RDMA']], 'data.portals[0][2]'),
            ([['10.0.0.1', 4420, None]], 'data.portals[0][2]'),
            ([['10.0.0.1', 4420, 'fc']], 'data.portals[0][0]'),
        )
    ],
    ('nvmeof', {'vol_uuid': 'volume-1'}, INFO, 'data.vol_uuid'),
    ('nvmeof', {'vol_uuid': ''}, INFO, 'data.vol_uuid'),
    ('nvmeof', {'volume_nguid': 'ff'}, INFO, 'data.volume_nguid'),
    ('nvmeof', {'ns_id': -1}, INFO, 'data.ns_id'),
    ('nvmeof', {'host_nqn': 'a b'}, INFO, 'data.host_nqn'),
    ('nvmeof', {'alias': '../sda'}, INFO, 'data.alias'),
    ('nvme', {'nqn': ...}, INFO, 'data.nqn'),
    ('nvme', {'nqn': 7}, INFO, 'data.nqn'),
    ('nvme', {'target_portal': ...}, INFO, 'data.target_portal'),
    ('nvme', {'target_portal': '10.0.0.1:4420'}, INFO, 'data.target_portal'),
    ('nvme', {'target_portal': '10.0.0.1 -x'}, INFO, 'data.target_portal'),
    ('nvme', {'target_port': ...}, INFO, 'data.target_port'),
    ('nvme', {'target_port': 0}, INFO, 'data.target_port'),
    ('nvme', {'target_port': '4420 '}, INFO, 'data.target_port'),
    ('nvme', {'transport_type': ...}, INFO, 'data.transport_type'),
    ('nvme', {'transport_type': 'loop'}, INFO, 'data.transport_type'),
    ('nvme', {'volume_nguid': 'x'}, INFO, 'data.volume_nguid'),
    *[
        ('nvmeof', {**REPLICATED, **changes}, INFO, key)
        for changes, key in (
            ({'volume_replicas': None}, 'data.volume_replicas'),
            ({'volume_replicas': []}, 'data.volume_replicas'),
            ({'volume_replicas': ['x']}, 'data.volume_replicas[0]'),
            ({'volume_replicas': [{}], 'replica_count': 1}, 'data.volume_replicas[0].target_nqn'),
            ({'vol_uuid': ...}, 'data.vol_uuid'),
            ({'vol_uuid': None}, 'data.vol_uuid'),
            ({'replica_count': ...}, 'data.replica_count'),
            ({'replica_count': 3}, 'data.replica_count'),
            ({'replica_count': -2}, 'data.replica_count'),
            ({'alias': ...}, 'data.alias'),
            ({'alias': None}, 'data.alias'),
            ({'alias': '/dev/sda'}, 'data.alias'),
        )
    ],
]
_NODE = {'target_portal': '10.0.0.1', 'target_port': 4420, 'transport_type': 'tcp'}
OTHER_BLOCK_ROWS = [
    *[
        ('lightos', {key: ...}, INFO, f'data.{key}')
        for key in ('lightos_nodes', 'subsysnqn', 'uuid')
    ],
    ('lightos', {'lightos_nodes': {}}, INFO, 'data.lightos_nodes'),
    ('lightos', {'lightos_nodes': [_NODE]}, INFO, 'data.lightos_nodes'),
    ('lightos', {'lightos_nodes': {'n': 'x'}}, INFO, 'data.lightos_nodes[n]'),
    *[
        (
            'lightos',
            {'lightos_nodes': {'n': {**_NODE, key: value}}},
            INFO,
            f'data.lightos_nodes[n].{key}',
        )
        for key, value in (
            ('target_portal', '10.0.0.1\n-t'),
            ('target_portal', None),
            ('target_port', -4420),
            ('target_port', '4420 -q x'),
            ('transport_type', 'x'),
        )
    ],
    ('lightos', {'uuid': '../../etc/cron.d/x'}, INFO, 'data.uuid'),
    ('lightos', {'uuid': 5}, INFO, 'data.uuid'),
    ('lightos', {'subsysnqn': 'nqn.x\n-t tcp'}, INFO, 'data.subsysnqn'),
    ('scaleio', {'scaleIO_volname': ...}, INFO, 'data.scaleIO_volname'),
    ('scaleio', {'scaleIO_volname': ''}, INFO, 'data.scaleIO_volname'),
    ('scaleio', {'scaleIO_volname': 'a\0'}, INFO, 'data.scaleIO_volname'),
    ('scaleio', {'scaleIO_volume_id': '../../sda'}, INFO, 'data.scaleIO_volume_id'),
    ('scaleio', {'scaleIO_volume_id': ''}, INFO, 'data.scaleIO_volume_id'),
    ('scaleio', {'iopsLimit': -1}, INFO, 'data.iopsLimit'),
    ('scaleio', {'bandwidthLimit': 'fast'}, INFO, 'data.bandwidthLimit'),
    ('scaleio', {'serverPort': 0}, INFO, 'data.serverPort'),
    ('scaleio', {'serverPassword': ['x']}, INFO, 'data.serverPassword'),
    ('scaleio', {'serverToken': 5}, INFO, 'data.serverToken'),
    ('storpool', {'volume': ...}, INFO, 'data.volume'),
    ('storpool', {'volume': '../sda'}, INFO, 'data.volume'),
    ('storpool', {'volume': ''}, INFO, 'data.volume'),
    ('storpool', {'volume': 5}, INFO, 'data.volume'),
    ('storpool', {'client_id': ...}, INFO, 'data.client_id'),
    ('storpool', {'client_id': -1}, INFO, 'data.client_id'),
    ('storpool', {'client_id': 'one'}, INFO, 'data.client_id'),
    ('storpool', {'client_id': None}, INFO, 'data.client_id'),
    ('huaweisdshypervisor', {'volume_id': ...}, INFO, 'data.volume_id'),
    ('huaweisdshypervisor', {'volume_id': ''}, INFO, 'data.volume_id'),
    ('huaweisdshypervisor', {'volume_id': '-c'}, INFO, 'data.volume_id'),
    ('huaweisdshypervisor', {'volume_id': 'a b'}, INFO, 'data.volume_id'),
    ('huaweisdshypervisor', {'volume_id': None}, INFO, 'data.volume_id'),
    *[
        (kind, {'device_path': path}, INFO, 'data.device_path')
        for kind in ('local', 'gpfs')
        for path in (
            ...,
            None,
            '',
            'dev/sda',
            '../sda',
            '/dev/../etc/passwd',
            '/dev/a\nb',
            '/dev/a\0',
            7,
            ['/dev/sda'],
        )
    ],
]


def _share_rows():
    for kind in SHARES:
        for key in ('export', 'name'):
            yield kind, {key: ...}, INFO, f'data.{key}'
            yield kind, {key: None}, INFO, f'data.{key}'
            yield kind, {key: ''}, INFO, f'data.{key}'
            yield kind, {key: 7}, INFO, f'data.{key}'
            yield kind, {key: 'a\0b'}, INFO, f'data.{key}'
            yield kind, {key: 'a\nb'}, INFO, f'data.{key}'
        yield kind, {'export': '-o bind'}, INFO, 'data.export'
        yield kind, {'export': ['192.168.1.1:/share']}, INFO, 'data.export'
        for name in ('/etc/passwd', '../x', 'a/../../x', '..', '/', 'a/..'):
            yield kind, {'name': name}, OUTSIDE, None
        for name in ('.', 'a/', './'):
            yield kind, {'name': name}, INFO, 'data.name'
        for form in ('', 'raw,readonly=off', '-f', 5, 'raw\n', ['raw']):
            yield kind, {'format': form}, INFO, 'data.format'
        yield kind, {'options': 5}, INFO, 'data.options'
        yield kind, {'options': {'vers': 3}}, INFO, 'data.options'
        yield kind, {'options': '-o a\nb'}, INFO, 'data.options'
        yield kind, {'options': ['-o', 5]}, INFO, 'data.options[1]'
        if kind != 'vzstorage':
            yield kind, {'options': '--bind'}, INFO, 'data.options'
            yield kind, {'options': '-t ext4'}, INFO, 'data.options'
            yield kind, {'options': '-o ro /etc /mnt'}, INFO, 'data.options'
            yield kind, {'options': 'ro /dev/sda'}, INFO, 'data.options'
    for export in (
        'a/b',
        'mds1, mds2:/cluster',
        'cluster:',
        'clus ter',
        ':/cluster',
        '../cluster',
    ):
        yield 'vzstorage', {'export': export}, INFO, 'data.export'
    yield 'quobyte', {'export': 'quobyte://-c'}, INFO, 'data.export'
    yield 'scality', {'sofs_path': '../x'}, OUTSIDE, None
    yield 'scality', {'sofs_path': '/x'}, OUTSIDE, None
    yield 'scality', {'sofs_path': 7}, INFO, 'data.sofs_path'


RBD_ROWS = [
    *[
        ('rbd', {'name': name}, INFO, 'data.name')
        for name in (
            ...,
            None,
            '',
            5,
            'image',
            'pool/',
            '/image',
            'pool//image',
            'a/b/c/d',
            '-p/image',
            'pool/im\nage',
            ['pool', 'image'],
        )
    ],
    ('rbd', {'hosts': ['10.0.0.1']}, INFO, 'data.ports'),
    ('rbd', {'hosts': ...}, INFO, 'data.ports'),
    ('rbd', {'ports': ...}, INFO, 'data.ports'),
    ('rbd', {'ports': []}, INFO, 'data.ports'),
    ('rbd', {'hosts': '10.0.0.1'}, INFO, 'data.hosts'),
    ('rbd', {'hosts': ['10.0.0.1', '']}, INFO, 'data.hosts[1]'),
    ('rbd', {'hosts': ['10.0.0.1', '-m x']}, INFO, 'data.hosts[1]'),
    ('rbd', {'hosts': ['10.0.0.1', '10.0.0.2:6789']}, INFO, 'data.hosts[1]'),
    ('rbd', {'hosts': [None, '10.0.0.2']}, INFO, 'data.hosts[0]'),
    ('rbd', {'ports': ['6789', -6789]}, INFO, 'data.ports[1]'),
    ('rbd', {'ports': ['6789', '0']}, INFO, 'data.ports[1]'),
    ('rbd', {'ports': ['6789', 65536]}, INFO, 'data.ports[1]'),
    ('rbd', {'ports': '6789'}, INFO, 'data.ports'),
    ('rbd', {'auth_enabled': 'true'}, INFO, 'data.auth_enabled'),
    *[
        ('rbd', {key: ...}, INFO, f'data.{key}')
        for key in ('auth_username', 'secret_type', 'secret_uuid')
    ],
    ('rbd', {'auth_username': ''}, INFO, 'data.auth_username'),
    ('rbd', {'auth_username': 'a\nb'}, INFO, 'data.auth_username'),
    ('rbd', {'auth_username': 5}, INFO, 'data.auth_username'),
    ('rbd', {'secret_uuid': 'no-uuid'}, INFO, 'data.secret_uuid'),
    ('rbd', {'secret_uuid': 5}, INFO, 'data.secret_uuid'),
    ('rbd', {'secret_type': ''}, INFO, 'data.secret_type'),
    ('rbd', {'cluster_name': '../ceph'}, INFO, 'data.cluster_name'),
    ('rbd', {'cluster_name': '--id=x'}, INFO, 'data.cluster_name'),
    ('rbd', {'keyring': 5}, INFO, 'data.keyring'),
    ('rbd', {'keyring': 'a\0b'}, INFO, 'data.keyring'),
]
ROWS = [
    *_every_type(),
    *COMMON_ROWS,
    *ISCSI_ROWS,
    *FIBRE_CHANNEL_ROWS,
    *NVME_ROWS,
    *OTHER_BLOCK_ROWS,
    *_share_rows(),
    *RBD_ROWS,
]

_DEEP = []
for _ in range(40):
    _DEEP = [_DEEP]
WHOLE_ROWS = [
    (None, INFO, 'connection_info'),
    ([], INFO, 'connection_info'),
    ('{"driver_volume_type": "iscsi"}', INFO, 'connection_info'),
    (7, INFO, 'connection_info'),
    ({}, INFO, 'driver_volume_type'),
    ({'data': {}}, INFO, 'driver_volume_type'),
    ({'driver_volume_type': None, 'data': {}}, INFO, 'driver_volume_type'),
    ({'driver_volume_type': '', 'data': {}}, INFO, 'driver_volume_type'),
    ({'driver_volume_type': ['iscsi'], 'data': {}}, INFO, 'driver_volume_type'),
    ({'driver_volume_type': 'iscsi\n', 'data': {}}, INFO, 'driver_volume_type'),
    ({'driver_volume_type': 'iscsi'}, INFO, 'data'),
    ({'driver_volume_type': 'iscsi', 'data': None}, INFO, 'data'),
    ({'driver_volume_type': 'iscsi', 'data': []}, INFO, 'data'),
    ({'driver_volume_type': 'iscsi', 'data': '{}'}, INFO, 'data'),
    ({**sample('rbd'), 'multiattach': 'False'}, INFO, 'multiattach'),
    ({**sample('rbd'), 'multiattach': 1}, INFO, 'multiattach'),
    ({**sample('rbd'), 'serial': ['x']}, INFO, 'serial'),
    ({**sample('rbd'), 'serial': 'a\x00'}, INFO, 'serial'),
    ({**sample('rbd'), 'serial': True}, INFO, 'serial'),
    ({**sample('rbd'), 5: 'x'}, INFO, '[5]'),
    ({**sample('rbd'), 'x': _DEEP}, INFO, 'x' + '[0]' * 32),
    (sample('aoe'), exception.VolumeDriverNotFound, None),
    (sample('cifs'), exception.VolumeDriverNotFound, None),
    (sample('ISCSI'), exception.VolumeDriverNotFound, None),
    (sample('../iscsi'), exception.VolumeDriverNotFound, None),
]


# Watching

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_EVENTS = frozenset(
    {
        'subprocess.Popen',
        'os.system',
        'os.exec',
        'os.posix_spawn',
        'os.fork',
        'os.forkpty',
        'socket.connect',
        'socket.bind',
        'socket.sendto',
        'os.mkdir',
        'os.rmdir',
        'os.remove',
        'os.rename',
        'os.link',
        'os.symlink',
        'os.chmod',
        'os.chown',
        'os.truncate',
    }
)


class Watch:
    """Notes what happens while it is armed."""

    def __init__(self):
        self.events = []
        self.armed = False
        sys.addaudithook(self._hear)

    def _hear(self, event, args):
        if not self.armed:
            return
        if event == 'open':
            path, _, flags = args
            if not (isinstance(flags, int) and flags & _WRITING) or '__pycache__' in str(path):
                return
        elif event not in _EVENTS:
            return
        self.events.append((event, str(args)))

    def note(self, what):
        if self.armed:
            self.events.append(what)

    @contextlib.contextmanager
    def listen(self):
        self.events = []
        self.armed = True
        try:
            yield
        finally:
            self.armed = False


# An audit hook cannot be taken away again; there is one, which mostly sleeps.
WATCH = Watch()


def start_helper(privileged):
    WATCH.note(('privsep', privileged.pypath))
    raise OSError(errno.EPERM, 'nothing is to be done as root')


@pytest.fixture(scope='module')
def host():
    """The drivers, with nothing behind them that does anything unheard."""
    with pytest.MonkeyPatch.context() as patch:
        connector = bootstrap.load_os_brick().InitiatorConnector
        patch.setattr(connector, 'factory', lambda *args, **kw: WATCH.note(('os-brick', args)))
        # As root they would run in this process; so every call has to start a helper.
        patch.setattr(context.sys_admin, 'client_mode', True)
        patch.setattr(context.sys_admin, 'channel', None)
        patch.setattr(priv_context.PrivContext, 'start', start_helper)
        conf = cfg.ConfigOpts()
        opts.register_opts(conf)
        conf([], default_config_files=[], default_config_dirs=[])
        registry = Registry(
            DriverContext(
                conf=conf, devices=BlockDevices(), shares=ShareMounts(conf), endpoints=Probe()
            )
        )
        for entry in registry.entries():
            registry.get(entry.name)
        yield registry


def same(left, right):
    """Equal, of the same types all the way down, NaN included."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right or left != left


def connect(registry, raw):
    info = ConnectionInfo.parse(raw)
    return registry.get(info.driver_volume_type).connect_volume(info, 'attachment-1')


def refused(registry, raw, error, key):
    before = copy.deepcopy(raw)
    with WATCH.listen(), pytest.raises(exception.VolumeDriversError) as caught:
        connect(registry, raw)
    assert type(caught.value) is error, str(caught.value)
    if key is not None:
        assert caught.value.key == key
    assert WATCH.events == []
    assert same(raw, before)
    # The sentence is for a person, on one line.
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(('kind', 'changes', 'error', 'key'), ROWS)
def test_spoilt_data_is_refused(host, kind, changes, error, key):
    refused(host, sample(kind, **changes), error, key)


@pytest.mark.parametrize(('raw', 'error', 'key'), WHOLE_ROWS)
def test_spoilt_whole_is_refused(host, raw, error, key):
    refused(host, raw, error, key)


@pytest.mark.parametrize('char', FORBIDDEN)
@pytest.mark.parametrize(
    ('kind', 'key'),
    [
        ('rbd', 'name'),
        ('rbd', 'auth_username'),
        ('rbd', 'secret_type'),
        ('rbd', 'cluster_name'),
        ('nfs', 'name'),
        ('nfs', 'export'),
        ('nfs', 'format'),
        ('nfs', 'options'),
        ('local', 'device_path'),
        ('iscsi', 'target_iqn'),
        ('iscsi', 'target_portal'),
        ('iscsi', 'auth_password'),
        ('vzstorage', 'export'),
        ('scaleio', 'scaleIO_volname'),
    ],
)
def test_control_characters_are_refused(host, kind, key, char):
    good = sample(kind)['data'][key] or '-o a'
    refused(host, sample(kind, **{key: f'{good}{char}x'}), INFO, f'data.{key}')


def test_the_table_is_about_all_drivers():
    registered = {
        entry.name
        for entry in importlib.metadata.entry_points(group='volumedrivers.libvirt')
        if entry.value.startswith('volumedrivers.')
    }
    rows = collections.Counter(row[0] for row in ROWS)
    assert registered == set(DATA)
    assert all(rows[name] >= 10 for name in registered)
    assert len(ROWS) + len(WHOLE_ROWS) >= 400


def test_the_watch_hears_everything(host, tmp_path):
    with WATCH.listen():
        (tmp_path / 'a').mkdir()
        (tmp_path / 'a' / 'b').write_text('x')
        os.system('true')
        with contextlib.suppress(exception.VolumeDriversError, AttributeError):
            connect(host, sample('fibre_channel'))
        with contextlib.suppress(exception.PrivilegedCallRefused):
            mount.make_mount_point('/nowhere')
    heard = {event[0] for event in WATCH.events}
    assert heard >= {'os.mkdir', 'open', 'os.system', 'os-brick', 'privsep'}


# Files on a share

OUTER = 'outside'


class Mounter:
    """Makes directories where mounts would be, with the files of a test."""

    def __init__(self, fill):
        self.fill = fill
        self.mounted = {}
        self.calls = []

    def make_mount_point(self, path):
        os.makedirs(path)

    def remove_mount_point(self, path):
        self.calls.append('remove')

    def mount(self, fstype, source, mount_point, options=(), credentials=None, *, timeout=60):
        self.calls.append('mount')
        shown = {'nfs': 'nfs4', 'sofs': 'fuse'}.get(fstype, fstype)
        shown = f'fuse.{fstype}' if fstype in ('glusterfs', 'quobyte') else shown
        self.mounted[mount_point] = mount_table.Mount(7, '/', mount_point, shown, source)
        self.fill(mount_point)

    def unmount(self, mount_point, lazy=False, *, timeout=60):
        self.calls.append('unmount')
        del self.mounted[mount_point]


@pytest.fixture
def share(host, tmp_path, monkeypatch):
    """Connect a file that ``fill`` makes; hand back the driver's answer and the mounts."""
    outside = tmp_path / OUTER
    outside.write_bytes(b'\0' * 1024)

    def connect(kind, fill, **changes):
        conf = cfg.ConfigOpts()
        opts.register_opts(conf)
        conf([], default_config_files=[], default_config_dirs=[])
        conf.set_override('state_path', str(tmp_path / 'state'), 'volumedrivers')
        mounter = Mounter(lambda place: fill(os.path.join(place, 'volume-1')))
        monkeypatch.setattr(mount_table, 'find', mounter.mounted.get)
        drivers_get = DriverContext(
            conf=conf,
            devices=BlockDevices(),
            endpoints=Probe(),
            shares=ShareMounts(conf, users=MemoryUsers(), mounter=mounter),
        )
        driver = type(host.get(kind))(drivers_get)
        raw = sample(kind, **changes)
        before = copy.deepcopy(raw)
        error, volume = None, None
        with WATCH.listen():
            try:
                volume = driver.connect_volume(ConnectionInfo.parse(raw), 'attachment-1')
            except exception.VolumeDriversError as raised:
                error = raised
        assert raw == before
        assert outside.read_bytes() == b'\0' * 1024
        assert [event for event in WATCH.events if str(tmp_path) not in event[1]] == []
        return volume, error, mounter

    return connect


def qcow2(backing=b'', *, version=3, incompatible=0, virtual_size=1 << 20):
    """A qcow2 header, as far as anybody looks."""
    offset = 512 if backing else 0
    header = struct.pack(
        '>4sIQIIQIIQQIIQQQQII',
        b'QFI\xfb',
        version,
        offset,
        len(backing),
        16,
        virtual_size,
        0,
        1,
        0x30000,
        0x10000,
        1,
        0,
        0,
        incompatible,
        0,
        0,
        4,
        104,
    )
    return header.ljust(512, b'\0') + backing.ljust(0x40000, b'\0')


def written(content):
    def fill(path):
        with open(path, 'wb') as file:
            file.write(content)

    return fill


def linked(target):
    return lambda path: os.symlink(target, path)


def chain(path):
    os.symlink('hop', path)
    os.symlink('../../../outside', os.path.join(os.path.dirname(path), 'hop'))


def inner(path):
    written(b'\0' * 512)(path + '.real')
    os.symlink('volume-1.real', path)


SHARE_ROWS = [
    (linked('/etc/passwd'), {}, OUTSIDE),
    (linked('/dev/null'), {}, OUTSIDE),
    (linked('../../../outside'), {}, OUTSIDE),
    (linked('.'), {}, OUTSIDE),
    (linked('..'), {}, OUTSIDE),
    (linked('volume-1'), {}, OUTSIDE),
    (chain, {}, OUTSIDE),
    (linked('nowhere'), {}, exception.VolumeDeviceNotFound),
    (lambda path: None, {}, exception.VolumeDeviceNotFound),
    (os.mkdir, {}, IMAGE),
    (os.mkfifo, {}, IMAGE),
    (written(b'\0' * 512), {'format': 'qcow2'}, IMAGE),
    (written(b''), {'format': 'qcow2'}, IMAGE),
    (written(qcow2()[:60]), {'format': 'qcow2'}, IMAGE),
    (written(b'KDMV' + b'\0' * 1020), {'format': 'qcow2'}, IMAGE),
    (written(qcow2()), {'format': 'vmdk'}, IMAGE),
    (written(qcow2()), {'format': 'vhdx'}, IMAGE),
    (written(qcow2()), {'format': 'ploop'}, IMAGE),
    (written(qcow2()), {'format': 'luks2'}, IMAGE),
    (written(qcow2()), {'format': None}, IMAGE),
    (written(b'KDMV' + b'\0' * 1020), {'format': None}, IMAGE),
    (written(qcow2(b'/etc/passwd')), {'format': 'qcow2'}, IMAGE),
    (written(qcow2(b'../../../outside')), {'format': 'qcow2'}, IMAGE),
    (written(qcow2(b'./../../../outside')), {'format': 'qcow2'}, IMAGE),
    (written(qcow2(b'nbd://10.0.0.1/x')), {'format': 'qcow2'}, IMAGE),
    (written(qcow2(b'json:{"driver":"file"}')), {'format': 'qcow2'}, IMAGE),
    (written(qcow2(b'fat:rw:/etc')), {'format': 'qcow2'}, IMAGE),
    (written(qcow2(b'volume-1')), {'format': 'qcow2'}, IMAGE),
    (written(qcow2(b'x' * 1024)), {'format': 'qcow2'}, IMAGE),
    (written(qcow2(incompatible=4)), {'format': 'qcow2'}, IMAGE),
    (written(qcow2(incompatible=1 << 60)), {'format': 'qcow2'}, IMAGE),
]


@pytest.mark.parametrize('kind', ['nfs', 'smbfs', 'glusterfs'])
@pytest.mark.parametrize(('fill', 'changes', 'error'), SHARE_ROWS)
def test_files_that_are_not_what_they_should_be(share, kind, fill, changes, error):
    changes = {'format': 'raw', **changes}
    volume, raised, mounter = share(kind, fill, **changes)
    assert volume is None
    assert type(raised) is error, str(raised)
    assert mounter.mounted == {}
    assert mounter.calls == ['mount', 'unmount', 'remove']


@pytest.mark.parametrize(
    ('fill', 'form'),
    [
        (written(b'\0' * 512), 'raw'),
        (written(b'\0' * 512), None),
        (inner, 'raw'),
        (written(qcow2()), 'qcow2'),
        (written(qcow2(version=2)), 'qcow2'),
        # What a guest wrote into its raw disk is its own affair.
        (written(qcow2(b'/etc/passwd')), 'raw'),
    ],
)
def test_files_that_are_what_they_should_be(share, fill, form):
    volume, raised, mounter = share('nfs', fill, format=form)
    assert raised is None
    assert volume.format == (form or 'raw')
    assert list(mounter.mounted) == [os.path.dirname(volume.path)]


# Sizes and disks


@pytest.mark.parametrize('size', [0, -1, -(2**40), True, '1073741824', 1.5, None])
@pytest.mark.parametrize('kind', sorted(set(DATA) - {'local', 'huaweisdshypervisor'}))
def test_sizes_that_no_volume_has(host, kind, size):
    info = ConnectionInfo.parse(sample(kind))
    with WATCH.listen(), pytest.raises(exception.InvalidSize):
        host.get(kind).extend_volume(info, 'attachment-1', size)
    assert WATCH.events == []


def connected(kind):
    """What connect_volume would have returned."""
    base = {'driver_volume_type': kind, 'volume_id': VOLUME_ID}
    if kind == 'rbd':
        return ConnectedVolume(
            **base,
            source_type='network',
            source=NetworkSource('rbd', 'pool/image', (NetworkHost('10.0.0.1', 6789),)),
        )
    return ConnectedVolume(**base, source_type='block' if kind in BLOCK else 'file', path='/dev/x')


@pytest.mark.parametrize('kind', sorted(DATA))
@pytest.mark.parametrize(
    ('changes', 'key'),
    [
        ({'bus': 'floppy'}, 'bus'),
        ({'bus': None}, 'bus'),
        ({'type': 'tape'}, 'type'),
        ({'dev': ''}, 'dev'),
        ({'dev': None}, 'dev'),
        ({'unit': -1}, 'unit'),
        ({'unit': '0'}, 'unit'),
        ({'boot_index': 0}, 'boot_index'),
        ({'boot_index': True}, 'boot_index'),
    ],
)
def test_disks_that_no_guest_has(host, kind, changes, key):
    info = ConnectionInfo.parse(sample(kind))
    disk_info = DiskInfo(**{'bus': 'virtio', 'dev': 'vdb', **changes})
    with WATCH.listen(), pytest.raises(exception.InvalidDiskInfo) as caught:
        host.get(kind).get_disk(info, connected(kind), disk_info)
    assert caught.value.key == key
    assert WATCH.events == []


# Metacharacters of XML are legal everywhere

MARKUP = '<&"\'>]]>&amp;<!--é'


@pytest.mark.parametrize('kind', sorted(DATA))
def test_markup_comes_out_as_it_went_in(host, kind):
    raw = sample(kind)
    raw['serial'] = MARKUP
    info = ConnectionInfo.parse(raw)
    volume = connected(kind)
    if volume.path is not None:
        volume = ConnectedVolume(**{**vars(volume), 'path': f'/dev/{MARKUP}'})
    xml = host.get(kind).get_disk(info, volume, DiskInfo(bus='virtio', dev='vdb')).to_xml()
    disk = Disk.parse(xml)
    assert disk.serial == MARKUP
    if volume.path is not None:
        assert (disk.source.dev or disk.source.file) == volume.path


@pytest.mark.parametrize(
    ('kind', 'changes'),
    [
        ('rbd', {'name': f'p{MARKUP}/i{MARKUP}', 'auth_username': MARKUP}),
        ('nfs', {'name': MARKUP, 'export': f'host:/{MARKUP}'}),
        ('local', {'device_path': f'/dev/{MARKUP}'}),
        ('iscsi', {'auth_username': MARKUP, 'auth_password': MARKUP}),
    ],
)
def test_markup_is_accepted(kind, changes):
    assert (
        ConnectionInfo.parse(sample(kind, **changes)).to_connector()
        == sample(kind, **changes)['data']
    )
