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
import http
import json
import logging
import pickle
import traceback

from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from tests.unit.connection_infos import DATA
from tests.unit.connection_infos import IQN
from tests.unit.connection_infos import NQN
from tests.unit.connection_infos import REPLICATED
from tests.unit.connection_infos import VOLUME_ID
from tests.unit.connection_infos import sample
from volumedrivers import exception
from volumedrivers.connection_info import Chap
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.connection_info import FibreChannelData
from volumedrivers.connection_info import FrozenMapping
from volumedrivers.connection_info import IscsiTarget
from volumedrivers.connection_info import Monitor
from volumedrivers.connection_info import NvmePortal
from volumedrivers.connection_info import Portal
from volumedrivers.connection_info import Secret
from volumedrivers.connection_schema import SCHEMAS
from volumedrivers.host import bootstrap

TYPES = sorted(DATA)


def parse(driver_volume_type, **changes):
    return ConnectionInfo.parse(sample(driver_volume_type, **changes))


def typed(info):
    """Everything but the private copy."""
    return {
        field.name: getattr(info, field.name)
        for field in dataclasses.fields(info)
        if field.name != '_raw'
    }


def showings(info):
    """Every way in which an info may come to be read by somebody."""
    return '\n'.join(
        [
            repr(info),
            str(info),
            f'{info}',
            f'{info.data!r:>9}',
            json.dumps(info.to_dict()),
            repr(info.unknown),
            repr(dataclasses.asdict(info)),
            repr(vars(info)),
        ]
    )


def attempt(raw):
    """The info, or the error of this package; anything else fails the test."""
    try:
        return ConnectionInfo.parse(raw), None
    except exception.VolumeDriversError as error:
        return None, error


# Every type


def test_every_schema_has_a_sample():
    assert set(DATA) == set(SCHEMAS)


@pytest.mark.parametrize('kind', TYPES)
def test_connector_gets_a_copy_of_what_cinder_sent(kind):
    raw = sample(kind)
    before = copy.deepcopy(raw)
    info = ConnectionInfo.parse(raw)
    first = info.to_connector()
    assert first == before['data']
    first.clear()
    second = info.to_connector()
    for value in second.values():
        if isinstance(value, list | dict):
            value.clear()
    assert info.to_connector() == before['data']
    assert raw == before


@pytest.mark.parametrize('kind', TYPES)
def test_caller_may_change_its_dict_later(kind):
    raw = sample(kind)
    info = ConnectionInfo.parse(raw)
    expected = info.to_connector()
    raw['data'].clear()
    raw.clear()
    assert info.to_connector() == expected


@pytest.mark.parametrize('kind', TYPES)
def test_nothing_can_be_changed_and_everything_be_copied(kind):
    info = parse(kind, vendor_key={'a': [1, {'b': 2}]})
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.serial = 'x'
    with pytest.raises(TypeError):
        info.unknown['x'] = 1
    assert isinstance(hash(info), int)
    assert copy.deepcopy(info) == info
    assert pickle.loads(pickle.dumps(info)) == info
    assert info.unknown['vendor_key'] == {'a': (1, {'b': 2})}


@pytest.mark.parametrize('kind', TYPES)
def test_unknown_holds_only_what_no_schema_knows(kind):
    assert parse(kind).unknown == {}
    info = parse(kind, vendor_key='x', multiattach=True)
    assert info.unknown == {'vendor_key': 'x', 'multiattach': True}
    assert info.to_connector()['vendor_key'] == 'x'
    assert not info.multiattach


def test_type_without_schema_keeps_all_keys():
    info = parse('acme', wires=[1, 2], access_mode='ro', volume_id=7)
    assert info.data is None
    assert info.access_mode == 'ro'
    assert info.volume_id == '7'
    assert info.unknown['wires'] == (1, 2)
    assert info.unknown['access_mode'] == 'ro'
    assert info.to_connector()['wires'] == [1, 2]


# What all types share


@pytest.mark.parametrize(
    ('in_data', 'serial', 'expected'),
    [
        ('a', 'b', 'a'),
        (None, 'b', 'b'),
        ('', 'b', 'b'),
        (..., 'b', 'b'),
        (1, 'b', '1'),
        (..., None, None),
        ('', '', None),
        (0, 'b', '0'),
    ],
)
def test_volume_id_is_that_of_data_or_the_serial(in_data, serial, expected):
    raw = sample('iscsi', volume_id=in_data)
    raw['serial'] = serial
    raw['volume_id'] = 'top-level-does-not-count'
    assert ConnectionInfo.parse(raw).volume_id == expected


@pytest.mark.parametrize('serial', ['a<b>&"c\'é', '  a  b ', 'x' * 300])
def test_serial_is_kept_as_it_is(serial):
    raw = sample('local')
    raw['serial'] = serial
    assert ConnectionInfo.parse(raw).serial == serial


@pytest.mark.parametrize(
    ('mode', 'expected'), [('rw', 'rw'), ('ro', 'ro'), (None, None), ('', None), (..., None)]
)
def test_access_mode(mode, expected):
    assert parse('rbd', access_mode=mode).access_mode == expected


@pytest.mark.parametrize('mode', ['RO', 'bar', 'rw ', True, 1, ['rw'], {}])
def test_unknown_access_mode_is_refused(mode):
    with pytest.raises(exception.InvalidVolumeAccessMode) as caught:
        parse('rbd', access_mode=mode)
    assert caught.value.key == 'data.access_mode'


@pytest.mark.parametrize(
    ('specs', 'expected'),
    [
        (None, {}),
        ({}, {}),
        (
            {'total_iops_sec': 500, 'read_iops_sec': '0', 'write_iops_sec': None},
            {'total_iops_sec': '500', 'read_iops_sec': '0'},
        ),
        ({'group_name': 'g', 'minIOPS': 1}, {'group_name': 'g', 'minIOPS': '1'}),
    ],
)
def test_qos_specs(specs, expected):
    assert parse('nfs', qos_specs=specs).qos_specs == expected


@pytest.mark.parametrize('specs', ['bar', ['total_iops_sec'], 7, True])
def test_qos_specs_that_are_no_mapping_are_warned_of(specs, caplog):
    assert parse('nfs', qos_specs=specs).qos_specs == {}
    assert 'qos_specs' in caplog.text


@pytest.mark.parametrize(
    ('value', 'expected'),
    [(True, True), (False, False), (None, False), (1, False), ('True', False)],
)
def test_discard_is_true_only_when_it_is_true(value, expected, caplog):
    assert parse('rbd', discard=value).discard is expected
    assert ('data.discard' in caplog.text) is (not isinstance(value, bool | None))


@pytest.mark.parametrize(('value', 'expected'), [(512, 512), ('4096', 4096), (None, None)])
def test_block_sizes(value, expected):
    info = parse('rbd', logical_block_size=value, physical_block_size=value)
    assert (info.logical_block_size, info.physical_block_size) == (expected, expected)


def test_flags_and_what_an_earlier_connect_left():
    raw = sample(
        'iscsi',
        encrypted=True,
        cacheable=True,
        enforce_multipath=True,
        device_path='/dev/dm-3',
        multipath_id='360',
    )
    raw['multiattach'] = True
    info = ConnectionInfo.parse(raw)
    assert info.encrypted
    assert info.cacheable
    assert info.multiattach
    assert info.enforce_multipath is True
    assert (info.device_path, info.multipath_id) == ('/dev/dm-3', '360')


# iSCSI


@pytest.mark.parametrize(
    ('written', 'portal', 'handed_on'),
    [
        ('10.0.2.15:3260', Portal('10.0.2.15', 3260), '10.0.2.15:3260'),
        ('10.0.2.15:3260,1', Portal('10.0.2.15', 3260), '10.0.2.15:3260'),
        ('[FD00::A]:3260', Portal('fd00::a', 3260), '[fd00::a]:3260'),
        ('[fd00::a]:3260,1024', Portal('fd00::a', 3260), '[fd00::a]:3260'),
        ('fd00::a:3260', Portal('fd00::a', 3260), '[fd00::a]:3260'),
        ('[::ffff:10.0.0.1]:3260', Portal('::ffff:10.0.0.1', 3260), '[::ffff:10.0.0.1]:3260'),
        ('[FE80::1%Eth0]:3260', Portal('fe80::1%Eth0', 3260), '[fe80::1%Eth0]:3260'),
        (
            'Storage-1.Example.ORG:3260',
            Portal('storage-1.example.org', 3260),
            'storage-1.example.org:3260',
        ),
    ],
)
def test_portals_are_spelled_as_iscsiadm_lists_them(written, portal, handed_on):
    # os-brick finds a session to log out from by this very string.
    info = parse('iscsi', target_portal=written)
    assert info.data.targets[0].portal == portal
    assert info.to_connector()['target_portal'] == handed_on
    plural = parse('iser', target_portals=[written, '10.0.0.1:1'])
    assert plural.to_connector()['target_portals'] == [handed_on, '10.0.0.1:1']


def test_os_brick_logs_out_of_the_session_it_logged_in_to():
    bootstrap.load_os_brick()
    from os_brick.initiator.connectors import iscsi

    connector = iscsi.ISCSIConnector('', use_multipath=False)
    connector._get_iscsi_nodes = list
    connector._get_iscsi_sessions_full = lambda: [
        ('tcp:', '4294967295', '[fd00::a]:3260', '1', IQN)
    ]
    written = '[FD00::A]:3260,1'
    ours = parse('iscsi', target_portal=written).to_connector()
    as_cinder_sent = {**ours, 'target_portal': written}
    for properties, sessions in ((ours, [('[fd00::a]:3260', IQN)]), (as_cinder_sent, [])):
        targets = connector._get_all_targets(properties)
        assert list(connector._get_connection_devices(properties, targets)) == sessions


def test_one_iscsi_target():
    data = parse('iscsi').data
    assert data.targets == (IscsiTarget(Portal('10.0.2.15', 3260), IQN, 1),)
    assert data.auth == Chap('chapuser', Secret('chapsecret-99'))
    assert data.discovery_auth is None


def test_many_iscsi_targets_win_over_one():
    info = parse(
        'iscsi',
        target_portals=['10.0.0.1:3260', '10.0.0.2:3260'],
        target_iqns=[IQN, IQN + '.b'],
        target_luns=['3', 4],
    )
    assert [(str(target.portal), target.iqn, target.lun) for target in info.data.targets] == [
        ('10.0.0.1:3260', IQN, 3),
        ('10.0.0.2:3260', IQN + '.b', 4),
    ]
    assert info.to_connector()['target_luns'] == ['3', 4]
    assert info.to_connector()['target_portal'] == '10.0.2.15:3260'


def test_one_lun_counts_for_all_portals():
    info = parse('iser', target_luns=..., target_lun='7')
    assert [target.lun for target in info.data.targets] == [7, 7]


def test_discovery_has_credentials_of_its_own():
    info = parse(
        'iser',
        discovery_auth_method='CHAP',
        discovery_auth_username='du',
        discovery_auth_password='dp-secret',
    )
    assert info.data.auth is None
    assert info.data.discovery_auth == Chap('du', Secret('dp-secret'))


# Fibre Channel


@pytest.mark.parametrize(
    'written', ['50014380186B3F65', '0x50014380186b3f65', '50:01:43:80:18:6b:3f:65']
)
def test_wwns_in_any_writing(written):
    info = parse('fibre_channel', target_wwn=written, initiator_target_map={written: [written]})
    assert info.data == FibreChannelData(
        ('50014380186b3f65',), (1,), {'50014380186b3f65': ('50014380186b3f65',)}
    )
    assert info.to_connector()['target_wwn'].lower() == '50014380186b3f65'


def test_luns_of_fibre_channel():
    two = ['50014380186b3f65', '50014380186b3f67']
    assert parse('fibre_channel').data.luns == (1, 1)
    assert parse('fibre_channel', target_wwns=two, target_luns=[1, 2]).data.luns == (1, 2)
    assert parse('fibre_channel', target_luns=[5]).data.luns == (5, 5)


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'target_wwn': '0x50014380186B3F65'},
        {'target_wwns': ['50:01:43:80:18:6b:3f:65', '50014380186b3f67'], 'target_luns': [1, 2]},
    ],
)
def test_os_brick_reads_the_same_fibre_channel_targets(changes):
    bootstrap.load_os_brick()
    from os_brick.initiator.connectors import fibre_channel

    info = parse('fibre_channel', initiator_target_map=None, **changes)
    connector = fibre_channel.FibreChannelConnector('')
    properties = connector._add_targets_to_connection_properties(info.to_connector())
    assert properties['targets'] == list(zip(info.data.wwpns, info.data.luns, strict=True))


# NVMe over fabrics


def test_new_form_of_nvme():
    data = parse('nvmeof').data
    assert data.targets[0].portals == (
        NvmePortal(Portal('10.0.2.16', 4420), 'tcp'),
        NvmePortal(Portal('10.0.3.16', 4420), 'rdma'),
    )
    assert data.targets[0].vol_uuid == VOLUME_ID
    assert data.targets[0].nguid == '4941ef75-95b8-ee97-8ccf-096800f205c6'
    assert data.targets[0].ns_id == 2
    assert data.replica_count == 1


def test_old_form_of_nvme():
    data = parse('nvme').data
    assert data.targets[0].nqn == NQN
    assert data.targets[0].portals == (NvmePortal(Portal('10.0.2.16', 4420), 'tcp'),)
    assert data.host_nqn == 'nqn.2014-08.org.nvmexpress:uuid:host1'


def test_replicated_nvme():
    raw = sample('nvmeof')
    raw['data'] = copy.deepcopy(REPLICATED)
    data = ConnectionInfo.parse(raw).data
    assert [target.nqn for target in data.targets] == [NQN, NQN + '2']
    assert (data.replica_count, data.alias) == (2, 'raid1')


def test_nvme_over_fibre_channel_has_no_ports():
    address = 'nn-0x20000090fa942779:pn-0x10000090fa942779'
    info = parse(
        'nvme',
        target_portal=address.upper().replace('X', 'x').replace('NN', 'nn').replace('PN', 'pn'),
        target_port='none',
        transport_type='fc',
    )
    assert info.data.targets[0].portals == (NvmePortal(Portal(address, 0), 'fc'),)


@pytest.mark.parametrize('data', [DATA['nvmeof'], DATA['nvme'], REPLICATED])
def test_os_brick_reads_the_same_nvme_targets(data):
    bootstrap.load_os_brick()
    from os_brick.initiator.connectors import nvmeof

    raw = sample('nvmeof')
    raw['data'] = copy.deepcopy(data)
    info = ConnectionInfo.parse(raw)
    theirs = nvmeof.NVMeOFConnProps(info.to_connector())
    assert [
        (
            target.nqn,
            target.uuid,
            target.nguid,
            target.ns_id,
            [(portal.address, portal.port, portal.transport) for portal in target.portals],
        )
        for target in theirs.targets
    ] == [
        (
            target.nqn,
            target.vol_uuid,
            target.nguid,
            target.ns_id,
            [
                (portal.portal.host, str(portal.portal.port), portal.transport)
                for portal in target.portals
            ],
        )
        for target in info.data.targets
    ]


# Shares


@pytest.mark.parametrize(
    ('written', 'public', 'secret'),
    [
        (None, (), None),
        ('', (), None),
        ('nfsvers=4.1', ('nfsvers=4.1',), None),
        ('-o  vers=4', ('vers=4',), None),
        ('-o\tvers=4', ('vers=4',), None),
        ('-o vers=4 -o ro', ('vers=4', 'ro'), None),
        ('-overs=4', ('vers=4',), None),
        ('-o intr,nfsvers=3', ('intr', 'nfsvers=3'), None),
        (['-o', 'ro'], ('ro',), None),
        ('-o username=bob,', ('username=bob',), None),
        ('-o domain=D,user=D\\bob', ('domain=D', 'user=D\\bob'), None),
        ('-o username=bob,password=p,vers=3', ('username=bob', 'vers=3'), 'password=p'),
        ('-o PASS=p -o password2=q', (), 'PASS=p,password2=q'),
        ('-o user=bob%p', (), 'user=bob%p'),
        ('-o credentials=/etc/c', ('credentials=/etc/c',), None),
        (['name=n', 'secret=with space'], ('name=n',), 'secret=with space'),
        (['name=n', 'secretfile=/f'], ('name=n', 'secretfile=/f'), None),
    ],
)
def test_mount_options(written, public, secret):
    data = parse('nfs', options=written).data
    assert data.options == public
    assert data.secret_options == (None if secret is None else Secret(secret))


@pytest.mark.parametrize(
    ('export', 'cut', 'password'),
    [
        ('cluster1', 'cluster1', None),
        ('mds1,mds2:/cluster1:pw-99', 'mds1,mds2:/cluster1', 'pw-99'),
        ('mds1:2510,mds2:2510:/cluster1', 'mds1:2510,mds2:2510:/cluster1', None),
    ],
)
def test_password_of_a_cluster_is_cut_out(export, cut, password):
    info = parse('vzstorage', export=export)
    assert info.data.export == cut
    assert info.data.password == (None if password is None else Secret(password))
    assert info.to_connector()['export'] == export
    assert info.to_dict()['data']['export'] == (cut if password is None else cut + ':***')


def test_words_of_a_cluster_mount_are_kept():
    data = parse('vzstorage', options='-u stack -m 0770 -o password=pw').data
    assert data.options == ('-u', 'stack', '-m', '0770', '-o')
    assert data.secret_options == Secret('password=pw')


@pytest.mark.parametrize('name', ['volume-1', 'sub/dir/volume-1', 'a..b', 'é <&">'])
def test_names_of_files(name):
    assert parse('nfs', name=name).data.name == name


# Ceph


@pytest.mark.parametrize(
    ('name', 'parts'),
    [
        ('pool/image', ('pool', None, 'image')),
        ('pool/ns/image', ('pool', 'ns', 'image')),
        ('p&o<o>l/"v"', ('p&o<o>l', None, '"v"')),
    ],
)
def test_names_of_images(name, parts):
    data = parse('rbd', name=name).data
    assert (data.pool, data.namespace, data.image) == parts
    assert data.name == name


def test_monitors():
    data = parse(
        'rbd',
        hosts=['Example.com', '1.2.3.4', '::1', '[FD00::A]'],
        ports=[None, '6790', 6791, '1'],
    ).data
    assert data.monitors == (
        Monitor('Example.com'),
        Monitor('1.2.3.4', 6790),
        Monitor('::1', 6791),
        Monitor('FD00::A', 1),
    )
    assert parse('rbd', hosts=..., ports=...).data.monitors == ()
    assert parse('rbd', hosts=[], ports=[]).data.monitors == ()


def test_empty_secret_uuid_is_not_none():
    # Nova falls back to its own configuration only for None.
    assert parse('rbd', secret_uuid='').data.secret_uuid == ''
    assert parse('rbd', secret_uuid=None).data.secret_uuid is None


# Secrets

SECRETS = {
    'iscsi': {'chapsecret-99'},
    'scaleio': {'gatewaysecret-99', 'tokensecret-99'},
    'smbfs': {'sharesecret-99'},
    'vzstorage': {'clustersecret-99'},
    'rbd': {'[client.cinder]\n\tkey = keyringsecret-99\n', 'keyringsecret-99'},
}


@pytest.mark.parametrize('kind', TYPES)
def test_secrets_are_found_and_never_shown(kind, caplog):
    caplog.set_level(logging.DEBUG)
    info = parse(
        kind,
        vendor={'AdminPassword': 'vendorsecret-99', 'list': [{'token': 99990999}]},
        passphrases=['phrasesecret-99'],
    )
    expected = SECRETS.get(kind, set()) | {'vendorsecret-99', '99990999', 'phrasesecret-99'}
    assert info.secrets() == expected
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
        logging.getLogger('test').log(level, '%s %r %s', info, info.data, info.to_dict())
    text = caplog.text + showings(info)
    assert '99' not in text.replace('6b9c9a6d-9d0b', '')
    assert '***' in text
    assert 'reserved' in json.dumps(info.to_dict())


@pytest.mark.parametrize(
    'key',
    [
        'chap_pass',
        'userPass',
        'pass2',
        'pass-phrase',
        'auth_pwd',
        'sys_pswd',
        'private-key',
        'privateKey',
        'api key',
        'access_key',
        'encryption_key',
        'dhchap_key',
        'dhchapKey',
        'cephx_key',
        'tls_psk',
        'key',
        'Authorization',
        '\uff50\uff41\uff53\uff53\uff57\uff4f\uff52\uff44',
    ],
)
def test_secrets_by_unusual_names(key):
    info = parse('iscsi', **{key: 'unusual-99'})
    assert 'unusual-99' not in showings(info)
    assert 'unusual-99' in info.secrets()
    assert info.to_connector()[key] == 'unusual-99'


@pytest.mark.parametrize('key', ['encryption_key_id', 'keys', 'key_size', 'vendor_key', 'monkey'])
def test_names_that_only_look_like_a_secret_s(key):
    assert parse('iscsi', **{key: 'plain-99'}).unknown[key] == 'plain-99'


@pytest.mark.parametrize(
    'url', ['https://admin:url-99@array/api', 'see //u:url-99@h/s', '//:url-99@h/s/u:p/x']
)
def test_passwords_in_urls_are_not_shown(url):
    info = parse('iscsi', management=[url])
    assert 'url-99' not in showings(info)
    assert info.secrets() >= {'url-99'}
    assert info.to_connector()['management'] == [url]
    assert info.to_dict()['data']['management'] == [url.replace('url-99', '***')]


@pytest.mark.parametrize(
    ('kind', 'export'),
    [
        ('smbfs', '//user:url-99@server/share'),
        ('smbfs', '//user:url/99@server/share'),
        ('smbfs', '\\\\user:url-99@server\\share'),
        ('quobyte', 'quobyte://user:url-99@server/volume'),
        ('nfs', 'nfs://user:url-99@server/export'),
    ],
)
def test_a_password_in_an_export_is_refused(kind, export):
    with pytest.raises(exception.InvalidConnectionInfo) as caught:
        parse(kind, export=export)
    assert 'url' not in ''.join(traceback.format_exception(caught.value)).partition('Error')[2]
    assert caught.value.key == 'data.export'


def test_exports_without_a_password():
    assert parse('smbfs', export='//server/a@b:c@d').data.export == '//server/a@b:c@d'
    assert parse('quobyte', export='quobyte://h:7861/a@b').data.export == 'quobyte://h:7861/a@b'


@pytest.mark.parametrize('kind', sorted(SECRETS))
def test_what_os_brick_is_given_shows_no_secret_in_a_repr(kind):
    properties = parse(kind, vendor={'token': ['vendorsecret-99']}).to_connector()
    for shown in (repr(properties), repr(copy.deepcopy(properties)), f'{properties}'):
        assert 'secret-99' not in shown
    assert properties['vendor']['token'] == ['vendorsecret-99']
    assert json.loads(json.dumps(properties))['vendor'] == {'token': ['vendorsecret-99']}


class Strange(str):
    """A string that cannot be used as one."""

    __slots__ = ()

    def __repr__(self):
        raise RuntimeError

    __str__ = __eq__ = startswith = __repr__
    __hash__ = str.__hash__


@pytest.mark.parametrize('kind', TYPES)
def test_only_plain_values_are_kept(kind):
    given = {Strange('odd'): Strange('value'), 'flag': http.HTTPStatus.OK}
    info = parse(kind, vendor=given)
    assert repr(info.unknown['vendor']) == "{'odd': 'value', 'flag': 200}"
    assert json.dumps(info.to_dict())


def test_what_is_not_secret_is_shown():
    info = parse('rbd', has_password=True, token=None)
    assert info.to_dict()['data']['secret_type'] == 'ceph'
    assert info.to_dict()['data']['has_password'] is True
    assert info.to_dict()['data']['token'] is None
    assert parse('smbfs').to_dict()['data']['options'] == '-o username=bob,password=***,vers=3.0'


@pytest.mark.parametrize(
    ('kind', 'changes'),
    [
        ('iscsi', {'auth_password': 'top\nsecret-99'}),
        ('iscsi', {'auth_password': ['secret-99']}),
        ('iscsi', {'auth_password': {'is': 'secret-99'}}),
        (
            'iscsi',
            {
                'discovery_auth_method': 'CHAP',
                'discovery_auth_username': 'u',
                'discovery_auth_password': '\0secret-99',
            },
        ),
        ('scaleio', {'serverToken': 'secret-99\r'}),
        ('scaleio', {'serverPassword': 99.5}),
        ('rbd', {'keyring': 'secret-99\0'}),
        ('nfs', {'options': '--bind password=secret-99'}),
        ('nfs', {'options': '-o password=half secret-99'}),
        ('nfs', {'options': ['-o', 'password=secret-99\n']}),
        ('nfs', {'options': {'password': 'secret-99'}}),
        ('vzstorage', {'export': 'a b:/cluster:secret-99'}),
        ('acme', {'token': b'secret-99'}),
        ('acme', {'nested': {'token': [{b'secret-99'}]}}),
    ],
)
def test_errors_show_no_secret(kind, changes):
    with pytest.raises(exception.InvalidConnectionInfo) as caught:
        parse(kind, **changes)
    error = caught.value
    assert '99' not in f'{error} {error!r} {error.details} {error.args}'
    assert error.__cause__ is None
    assert error.__context__ is None


def test_data_that_came_as_text_is_not_shown():
    raw = {'driver_volume_type': 'iscsi', 'data': json.dumps(sample('iscsi')['data'])}
    with pytest.raises(exception.InvalidConnectionInfo) as caught:
        ConnectionInfo.parse(raw)
    assert 'chapsecret' not in str(caught.value)


def test_secret_keeps_its_value_to_itself():
    secret = Secret('hidden')
    assert f'{secret} {secret!r} {secret:>9} {[secret]}' == '*** *** *** [***]'
    assert pickle.loads(pickle.dumps(secret)) == copy.deepcopy(secret) == secret
    assert secret.reveal() == 'hidden'
    assert secret != 'hidden'
    assert not Secret('')


def test_frozen_mapping_is_a_mapping():
    mapping = FrozenMapping({'a': 1})
    assert mapping == {'a': 1}
    assert copy.deepcopy(mapping) == pickle.loads(pickle.dumps(mapping)) == mapping
    assert hash(mapping) == hash(FrozenMapping({'a': 1}))
    assert repr(mapping) == "{'a': 1}"


# Whatever comes

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(
    PLAIN | st.sampled_from(['10.0.0.1:3260', IQN, NQN, '0x50014380186b3f65', '-o a', '../x']),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=8)
            | st.sampled_from(['password', 'options', 'target_nqn', 'portals']),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
NOT_JSON = st.binary(max_size=3) | st.sets(st.integers(), max_size=2) | st.complex_numbers()


def spoilt(values):
    """Samples with some keys of data, or of the top, taken away or replaced."""

    @st.composite
    def build(draw):
        raw = sample(draw(st.sampled_from(TYPES)))
        keys = sorted(raw['data'])
        for key in draw(st.lists(st.sampled_from(keys), max_size=3, unique=True)):
            if draw(st.booleans()):
                del raw['data'][key]
            else:
                raw['data'][key] = draw(values)
        if draw(st.integers(0, 9)) == 0:
            raw[draw(st.sampled_from(sorted(raw)))] = draw(values)
        return raw

    return build()


def same(left, right):
    """Equal, of the same types all the way down, NaN included."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right or left != left


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(spoilt(JSON) | spoilt(NOT_JSON) | JSON | NOT_JSON)
def test_parse_raises_nothing_but_ours_and_changes_nothing(raw):
    before = copy.deepcopy(raw)
    info, error = attempt(raw)
    assert same(raw, before)
    if info is None:
        assert isinstance(error, exception.InvalidConnectionInfo | exception.PathOutsideShare)
        assert len(str(error).encode('utf-8')) < 800
        return
    json.dumps(info.to_dict())
    again = ConnectionInfo.parse({**raw, 'data': info.to_connector()})
    assert typed(again) == typed(info)
    assert again.to_connector() == info.to_connector()


MARK = 'QZXJKWV'
SECRET_VALUE = st.text(
    st.characters(codec='ascii', categories=['L', 'N', 'P']), min_size=1, max_size=8
).map(lambda text: MARK + text.replace(',', '') + MARK)
SECRET_KEY = st.sampled_from(['password', 'AUTH_TOKEN', 'my_secret', 'keyring2', 'credentials'])


@settings(max_examples=120, deadline=None)
@given(st.sampled_from([*TYPES, 'acme']), SECRET_KEY, SECRET_VALUE, JSON, st.integers(0, 5))
def test_no_secret_is_shown_wherever_it_stands(kind, key, value, other, place):
    raw = sample(kind)
    data = raw['data']
    if place == 0:
        data[key] = value
    elif place == 1:
        data['vendor'] = [{'deep': {key: [value, {'x': value}]}}]
    elif place == 2:
        raw[key] = {'x': value}
    elif place == 3:
        data['options'] = f'-o name=n,password={value},vers=3'
    elif place == 4:
        data['auth_method'], data['auth_username'] = 'CHAP', 'u'
        data['auth_password'] = value
    else:
        data['export'] = f'cluster1:{value}'
        raw['driver_volume_type'], data['name'] = 'vzstorage', 'volume-1'
    for spoil in (False, True):
        if spoil:
            data[sorted(data)[0]] = other
        info, error = attempt(raw)
        if info is None:
            assert MARK not in f'{error} {error!r} {error.details}'
        else:
            assert MARK not in showings(info)
            assert spoil or value in info.secrets()
