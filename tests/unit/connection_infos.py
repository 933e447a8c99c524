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

"""One good connection_info of every driver_volume_type, to be spoilt by tests."""

import copy

VOLUME_ID = 'c1b2d3e4-0001-4aaa-8bbb-000000000001'
SECRET_UUID = '457eb676-33da-42ec-9a8c-9293d545c337'
IQN = 'iqn.2010-10.org.openstack:volume-1'
NQN = 'nqn.2014-08.org.nvmexpress:volume-1'

_ISCSI = {
    'target_portal': '10.0.2.15:3260',
    'target_iqn': IQN,
    'target_lun': 1,
    'target_discovered': False,
    'auth_method': 'CHAP',
    'auth_username': 'chapuser',
    'auth_password': 'chapsecret-99',
}
_SHARE = {'export': '192.168.1.1:/share', 'name': 'volume-1', 'format': 'raw', 'options': None}
_NVME_NEW = {
    'target_nqn': NQN,
    'portals': [['10.0.2.16', 4420, 'tcp'], ['10.0.3.16', '4420', 'rdma']],
    'vol_uuid': VOLUME_ID,
    'volume_nguid': '4941ef7595b8ee978ccf096800f205c6',
    'ns_id': 2,
}

DATA = {
    'iscsi': _ISCSI,
    'iser': {
        'target_portals': ['10.0.2.15:3260', '[fd00::a]:3260'],
        'target_iqns': [IQN, IQN],
        'target_luns': [1, '2'],
    },
    'fibre_channel': {
        'target_wwn': ['50014380186b3f65', '50014380186b3f67'],
        'target_lun': 1,
        'initiator_target_map': {'21000024ff34c92d': ['50014380186b3f65', '50014380186b3f67']},
    },
    'nvmeof': _NVME_NEW,
    'nvme': {
        'nqn': NQN,
        'target_portal': '10.0.2.16',
        'target_port': 4420,
        'transport_type': 'tcp',
        'host_nqn': 'nqn.2014-08.org.nvmexpress:uuid:host1',
    },
    'lightos': {
        'lightos_nodes': {
            '10.0.0.30': {
                'target_portal': '10.0.0.30',
                'target_port': 4420,
                'transport_type': 'tcp',
            }
        },
        'subsysnqn': 'nqn.2016-01.com.lightbitslabs:uuid:sub',
        'uuid': '6b9c9a6d-9d0b-4c26-b8e2-000000000001',
        'nsid': 4,
    },
    'scaleio': {
        'scaleIO_volname': 'wbLT5gABSjawAQAAAAAAAQ==',
        'scaleIO_volume_id': '3a3d9ad500000001',
        'hostIP': '10.0.0.5',
        'serverIP': '10.0.0.9',
        'serverPort': 443,
        'serverUsername': 'admin',
        'serverPassword': 'gatewaysecret-99',
        'serverToken': 'tokensecret-99',
        'iopsLimit': None,
        'bandwidthLimit': None,
        'config_group': 'powerflex',
    },
    'storpool': {'volume': VOLUME_ID, 'client_id': '1', 'access_mode': 'rw'},
    'huaweisdshypervisor': {'volume_id': 'volume-1'},
    'local': {'device_path': '/dev/vg0/volume-1'},
    'gpfs': {'device_path': '/gpfs/volume-1', 'name': 'volume-1'},
    'nfs': _SHARE,
    'smbfs': {
        **_SHARE,
        'export': '//192.168.1.1/volumes',
        'options': '-o username=bob,password=sharesecret-99,vers=3.0',
    },
    'glusterfs': {**_SHARE, 'export': '192.168.1.1:/gv0', 'format': 'qcow2'},
    'quobyte': {**_SHARE, 'export': 'quobyte://192.168.1.1/volumes'},
    'scality': {**_SHARE, 'export': 'sofs', 'sofs_path': 'cinder/volumes'},
    'vzstorage': {**_SHARE, 'export': 'mds1:2510,mds2:/cluster1:clustersecret-99'},
    'rbd': {
        'name': 'volumes/volume-1',
        'hosts': ['192.168.10.1', '::1'],
        'ports': ['6789', 6789],
        'cluster_name': 'ceph',
        'auth_enabled': True,
        'auth_username': 'cinder',
        'secret_type': 'ceph',
        'secret_uuid': SECRET_UUID,
        'keyring': '[client.cinder]\n\tkey = keyringsecret-99\n',
    },
}
REPLICATED = {
    'vol_uuid': VOLUME_ID,
    'alias': 'raid1',
    'replica_count': 2,
    'volume_replicas': [_NVME_NEW, {**_NVME_NEW, 'target_nqn': NQN + '2'}],
}
COMMON = {
    'volume_id': VOLUME_ID,
    'qos_specs': None,
    'access_mode': 'rw',
    'encrypted': False,
    'cacheable': False,
}


def sample(driver_volume_type, **changes):
    """A new connection_info; ``changes`` are of data, ``...`` takes a key away."""
    data = {**COMMON, **copy.deepcopy(DATA.get(driver_volume_type, {})), **changes}
    return {
        'driver_volume_type': driver_volume_type,
        'serial': VOLUME_ID,
        'status': 'reserved',
        'attached_at': '',
        'data': {key: value for key, value in data.items() if value is not ...},
    }
