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

"""A connection_info without its secrets is enough to take a volume away."""

import json

from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from oslo_config import cfg
import pytest

from tests.unit.connection_infos import DATA
from tests.unit.connection_infos import REPLICATED
from tests.unit.connection_infos import sample
from volumedrivers import exception
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import mount_table
from volumedrivers.libvirt import pretend
from volumedrivers.libvirt.client_choice import ClientChoiceDriver

SAMPLES = [
    *(sample(name) for name in DATA),
    sample('nvmeof', **REPLICATED),
    sample('iscsi', auth_method=None, auth_username=None, auth_password=None),
    sample(
        'iscsi',
        discovery_auth_method='CHAP',
        discovery_auth_username='bob',
        discovery_auth_password='discovery-99',
    ),
    sample('smbfs', options='-o user=bob%sharesecret-99'),
    sample('smbfs', options=['-o', 'user=DOM\\bob%a,password=sharesecret-99,ro']),
    sample('smbfs', options='-o username=bob,password='),
    sample('glusterfs', options='-o key=sharesecret-99'),
    sample('vzstorage', export='cluster1'),
    sample('vzstorage', export='cluster1:clustersecret-99'),
    sample('rbd', keyring=None),
    sample('rbd', secret_uuid=None, secret_type=None, auth_username=None),
    {'driver_volume_type': 'vendor', 'data': {'address': 'a', 'api_key': 'vendorsecret-99'}},
]
IDS = [f'{position}-{info["driver_volume_type"]}' for position, info in enumerate(SAMPLES)]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3)
    ),
    max_leaves=8,
)
keys = st.text(max_size=12) | st.sampled_from(
    ['password', 'x_secret', 'apiKey', 'token', 'options', 'keyring', 'PASSPHRASE']
)


@pytest.fixture(name='conf')
def _conf(tmp_path):
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], default_config_files=[])
    conf.set_override('state_path', str(tmp_path), group='volumedrivers')
    return conf


def journaled(info):
    """As it comes out of the journal."""
    return ConnectionInfo.parse(json.loads(json.dumps(info.to_dict())))


@pytest.mark.parametrize('raw', SAMPLES, ids=IDS)
def test_it_parses_and_is_the_same_volume_without_a_secret(raw):
    info = ConnectionInfo.parse(raw)
    again = journaled(info)
    assert '-99' not in json.dumps(again.to_dict())
    assert again.to_dict() == info.to_dict()
    assert again.volume_id == info.volume_id
    assert (again.multiattach, again.access_mode) == (info.multiattach, info.access_mode)
    # It still tells whether there were secrets: without them it cannot connect.
    assert bool(again.secrets()) is bool(info.secrets())
    assert all('***' in secret for secret in again.secrets())


def test_a_password_that_comes_with_a_name():
    info = ConnectionInfo.parse(sample('smbfs', options='-o user=bob%sharesecret-99,ro'))
    assert info.to_dict()['data']['options'] == '-o user=bob%***,ro'
    assert 'sharesecret-99' in info.secrets()


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(sorted(DATA)),
    st.dictionaries(keys, json_values, max_size=4),
    st.dictionaries(keys, json_values, max_size=3),
)
def test_whatever_else_is_sent(name, inside, beside):
    raw = sample(name)
    raw['data'] = {**inside, **raw['data']}
    raw = {**beside, **raw}
    try:
        info = ConnectionInfo.parse(raw)
    except exception.VolumeDriversError:
        # An "options" of a wrong type, for example: it never gets anywhere.
        return
    again = journaled(info)
    assert again.to_dict() == info.to_dict()
    assert again.volume_id == info.volume_id
    assert bool(again.secrets()) is bool(info.secrets())


@pytest.mark.parametrize('raw', SAMPLES[:-1], ids=IDS[:-1])
def test_a_driver_names_the_same_things(raw, conf):
    info = ConnectionInfo.parse(raw)
    again = journaled(info)
    driver = pretend.make_registry(conf).get(info.driver_volume_type)
    assert driver.lock_names(again) == driver.lock_names(info)


@pytest.mark.parametrize('raw', [SAMPLES[0], sample('glusterfs')], ids=['iscsi', 'glusterfs'])
def test_so_does_the_client_in_qemu(raw, conf):
    info = ConnectionInfo.parse(raw)
    again = journaled(info)
    for name in ('iscsi_client', 'glusterfs_client'):
        conf.set_override(name, 'qemu', group='volumedrivers')
    driver = pretend.make_registry(conf).get(info.driver_volume_type).client()
    assert driver.lock_names(again) == driver.lock_names(info)
    secrets = [driver.make_secret(each, 'guest') for each in (info, again)]
    names = [secret and (secret.usage_type, secret.usage_id) for secret in secrets]
    assert names[0] == names[1]
    assert (names[0] is not None) is (info.driver_volume_type == 'iscsi')


SHARES = [
    raw
    for raw in SAMPLES
    if raw['driver_volume_type'] in ('nfs', 'smbfs', 'glusterfs', 'quobyte', 'vzstorage')
]


@pytest.mark.parametrize('raw', SHARES, ids=lambda raw: raw['driver_volume_type'])
def test_a_share_is_found_where_it_is_mounted(raw, conf, monkeypatch):
    info = ConnectionInfo.parse(raw)
    driver = pretend.make_registry(conf).get(info.driver_volume_type)
    if isinstance(driver, ClientChoiceDriver):
        driver = driver.client()
    share = driver.make_share(info, info.data)
    source = share.mounted_sources[0] if share.mounted_sources else share.source
    mount = mount_table.Mount(7, '/', share.mount_point, share.mounted_fstypes[0], source)
    monkeypatch.setattr(mount_table, 'read', lambda: (mount,))
    again = journaled(info)
    found = driver.make_share(again, again.data)
    assert (found.mount_point, found.source) == (share.mount_point, share.source)


def test_a_cluster_without_its_password(conf, monkeypatch):
    driver = pretend.make_registry(conf).get('vzstorage')
    info = journaled(ConnectionInfo.parse(sample('vzstorage')))
    base = conf.volumedrivers.vzstorage_mount_point_base

    def mounted(*places):
        table = [
            mount_table.Mount(7, '/', place, 'fuse.vstorage', 'vstorage://cluster1')
            for place in places
        ]
        monkeypatch.setattr(mount_table, 'read', lambda: tuple(table))

    mounted('/elsewhere/a')
    assert driver.make_share(info, info.data).mount_point.startswith(base)
    mounted('/elsewhere/a', f'{base}/b')
    assert driver.make_share(info, info.data).mount_point == f'{base}/b'
    mounted(f'{base}/a', f'{base}/b')
    with pytest.raises(exception.MountFailed, match='password that tells'):
        driver.make_share(info, info.data)

    def unreadable():
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(mount_table, 'read', unreadable)
    with pytest.raises(exception.MountFailed, match='cannot be read: Permission denied'):
        driver.make_share(info, info.data)
