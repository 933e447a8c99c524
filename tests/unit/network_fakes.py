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

"""What stands for storage and libvirt in the tests of network sources."""

import copy

from oslo_config import cfg

from volumedrivers import exception
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import block_device
from volumedrivers.host import endpoint
from volumedrivers.host import shares
from volumedrivers.libvirt.driver import DriverContext

VOLUME_ID = 'c0ffee00-0000-4000-8000-000000000001'
SECRET_UUID = '457eb676-33da-42ec-9a8c-9293d545c337'


class FakeProbe(endpoint.Probe):
    """Every endpoint answers but those in ``dead``; remembers who was asked."""

    def __init__(self):
        self.dead = {}
        self.asked = []
        self.timeouts = []

    def check(self, protocol, endpoints, *, timeout, **options):
        endpoints = [
            f'[{host}]:{port}' if ':' in host else f'{host}:{port}' for host, port in endpoints
        ]
        self.asked.append((protocol, endpoints))
        self.timeouts.append(timeout)
        failed = tuple((name, self.dead[name]) for name in endpoints if name in self.dead)
        answered = tuple(name for name in endpoints if name not in self.dead)
        if not answered:
            raise exception.EndpointUnreachable(
                protocol=protocol, endpoint=', '.join(endpoints), reason='silent'
            )
        return endpoint.ProbeResult(answered, failed)


class FakeSecrets:
    def __init__(self):
        self.values = {}
        self.ephemeral = None
        self.broken = None

    def ensure(self, usage_type, usage_id, value, *, ephemeral=True):
        if self.broken:
            raise self.broken
        self.values[usage_type, usage_id] = value
        self.ephemeral = ephemeral
        return SECRET_UUID

    def find(self, usage_type, usage_id):
        return SECRET_UUID if (usage_type, usage_id) in self.values else None

    def delete(self, usage_type, usage_id):
        if self.broken:
            raise self.broken
        return self.values.pop((usage_type, usage_id), None) is not None


def make_context(*, secrets=None, **options):
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], default_config_files=[])
    for name, value in options.items():
        conf.set_override(name, value, opts.GROUP.name)
    return DriverContext(
        conf=conf,
        devices=block_device.BlockDevices(),
        shares=shares.ShareMounts(conf),
        endpoints=FakeProbe(),
        secrets=secrets,
    )


def parse(raw):
    """Parse, and make sure that what was given stays as it was given."""
    before = copy.deepcopy(raw)
    parsed = ConnectionInfo.parse(raw)
    assert raw == before
    return parsed


def rbd(*, drop=(), **data):
    given = {
        'name': 'volumes/volume-1',
        'hosts': ['192.0.2.1', '192.0.2.2'],
        'ports': ['6789', '6789'],
        'cluster_name': 'ceph',
        'auth_enabled': True,
        'auth_username': 'cinder',
        'secret_type': 'ceph',
        'secret_uuid': SECRET_UUID,
        'volume_id': VOLUME_ID,
        'access_mode': 'rw',
    }
    given.update(data)
    for name in drop:
        del given[name]
    return parse(
        {
            'driver_volume_type': 'rbd',
            'data': given,
            'serial': VOLUME_ID,
            'volume_id': VOLUME_ID,
        }
    )


def iscsi(*, chap=True, **data):
    given = {
        'target_portal': '192.0.2.1:3260',
        'target_iqn': 'iqn.2010-10.org.openstack:volume-1',
        'target_lun': 1,
        'volume_id': VOLUME_ID,
        'access_mode': 'rw',
    }
    if chap:
        given.update(auth_method='CHAP', auth_username='user', auth_password='the-password')
    given.update(data)
    return parse(
        {
            'driver_volume_type': 'iscsi',
            'data': given,
            'serial': VOLUME_ID,
            'volume_id': VOLUME_ID,
        }
    )
