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

import json
import socket
import threading
import types

from oslo_concurrency import processutils
from oslo_config import cfg
import psutil
import pytest

from volumedrivers import exception
from volumedrivers.conf import opts
from volumedrivers.host import bootstrap
from volumedrivers.host import connector_properties as properties

bootstrap.load_os_brick()

from os_brick.initiator import connector  # noqa: E402
from os_brick.initiator import linuxscsi  # noqa: E402
from os_brick.initiator.connectors import lightos  # noqa: E402


@pytest.fixture
def conf():
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], default_config_files=[])
    conf.set_override('my_block_storage_ip', '192.0.2.7', group='volumedrivers')
    conf.set_override('host', 'compute-7', group='volumedrivers')
    return conf


@pytest.fixture
def host(monkeypatch, tmp_path):
    """A host on which os-brick finds what it finds, and runs nothing."""

    host = types.SimpleNamespace(
        found={
            'ISCSIConnector': {'initiator': 'iqn.1993-08.org.debian:01:abc'},
            'FibreChannelConnector': {'wwpns': ['50014380242b9750']},
            'NVMeOFConnector': {'nqn': 'nqn.x', 'nvme_hostid': 'y'},
            'LightOSConnector': AssertionError('asks without a deadline'),
        },
        nqn=tmp_path / 'hostnqn',
        hostid=tmp_path / 'hostid',
        multipathd=True,
        asked={},
    )
    host.nqn.write_text('nqn.x\n')
    host.hostid.write_text('y\n')
    monkeypatch.setattr(properties, 'HOST_NQN', str(host.nqn))
    monkeypatch.setattr(properties, 'HOST_ID', str(host.hostid))
    monkeypatch.setattr(properties.shutil, 'which', lambda name: f'/usr/sbin/{name}')
    monkeypatch.setattr(properties, '_discovery_client', lambda: 'found')
    monkeypatch.setattr(
        linuxscsi.LinuxSCSI, 'is_multipath_running', staticmethod(lambda helper: host.multipathd)
    )
    monkeypatch.setattr(
        lightos.LightOSConnector, 'get_ip_addresses', staticmethod(lambda: ['192.0.2.7'])
    )

    def answer(name):
        def get_connector_properties(root_helper, **arguments):
            host.asked[name] = arguments
            found = host.found.get(name, {})
            if isinstance(found, BaseException):
                raise found
            return found

        return staticmethod(get_connector_properties)

    for path in connector._get_connector_list():
        name = path.rpartition('.')[2]
        if name not in ('BaseLinuxConnector', 'RBDConnector'):
            monkeypatch.setattr(getattr(connector, name), 'get_connector_properties', answer(name))
    return host


def test_what_cinder_is_told(conf, host):
    found = properties.get_connector_properties(conf)
    assert {key: found[key] for key in sorted(found) if key not in ('platform', 'os_type')} == {
        'do_local_attach': False,
        'enforce_multipath': False,
        'found_dsc': 'found',
        'host': 'compute-7',
        'host_ips': ['192.0.2.7'],
        'initiator': 'iqn.1993-08.org.debian:01:abc',
        'ip': '192.0.2.7',
        'multipath': False,
        'nqn': 'nqn.x',
        'nvme_hostid': 'y',
        'wwpns': ['50014380242b9750'],
    }
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ('use', 'enforce', 'running', 'told'),
    [
        (False, False, True, (False, False)),
        (False, True, False, (False, True)),
        (True, False, True, (True, False)),
        (True, True, True, (True, True)),
        # Cinder must not map paths that nobody uses.
        (True, False, False, (False, False)),
    ],
)
def test_multipath_as_it_will_be_used(conf, host, use, enforce, running, told):
    conf.set_override('volume_use_multipath', use, group='volumedrivers')
    conf.set_override('volume_enforce_multipath', enforce, group='volumedrivers')
    host.multipathd = running
    found = properties.get_connector_properties(conf)
    assert (found['multipath'], found['enforce_multipath']) == told
    arguments = host.asked['ISCSIConnector']
    assert (arguments['multipath'], arguments['enforce_multipath']) == told


@pytest.mark.parametrize(
    ('client', 'told'), [('kernel', 'iqn.1993-08.org.debian:01:abc'), ('qemu', 'iqn.x:qemu')]
)
def test_name_of_the_initiator_that_will_be_used(conf, host, client, told):
    conf.set_override('iscsi_client', client, group='volumedrivers')
    conf.set_override('iscsi_initiator_name', 'iqn.x:qemu', group='volumedrivers')
    assert properties.get_connector_properties(conf)['initiator'] == told


def test_multipath_that_is_demanded_and_not_there_is_an_error(conf, host):
    conf.set_override('volume_use_multipath', True, group='volumedrivers')
    conf.set_override('volume_enforce_multipath', True, group='volumedrivers')
    host.multipathd = False
    with pytest.raises(exception.MultipathNotRunning):
        properties.get_connector_properties(conf)


@pytest.mark.parametrize('missing', ['nqn', 'hostid'])
def test_no_file_of_the_host_is_written_unless_asked(conf, host, caplog, missing):
    getattr(host, missing).unlink()
    found = properties.get_connector_properties(conf)
    assert 'NVMeOFConnector' not in host.asked
    assert 'nvme_hostid' not in found
    assert ('nqn' in found) is (missing == 'hostid')
    assert str(getattr(host, missing)) in caplog.text
    assert properties.missing_host_files() == (str(getattr(host, missing)),)
    properties.get_connector_properties(conf, write_host_files=True)
    assert 'NVMeOFConnector' in host.asked


def test_a_host_without_nvme_needs_no_host_id(host, monkeypatch):
    monkeypatch.setattr(properties.shutil, 'which', lambda name: None)
    host.hostid.unlink()
    assert properties.missing_host_files() == ()


def test_what_os_brick_raises_becomes_ours(conf, host):
    raised = processutils.ProcessExecutionError(stderr='no')
    host.found['ISCSIConnector'] = raised
    with pytest.raises(exception.PrivilegedCallRefused, match='ISCSIConnector') as caught:
        properties.get_connector_properties(conf)
    assert caught.value.__cause__ is raised


def test_os_brick_that_hangs_is_given_up(conf, host, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(properties, '_COLLECT_TIMEOUT', 0.05)
    monkeypatch.setattr(
        connector.ISCSIConnector,
        'get_connector_properties',
        staticmethod(lambda *args, **kwargs: release.wait(60)),
    )
    with pytest.raises(exception.DeadlineExceeded, match='ISCSIConnector'):
        properties.get_connector_properties(conf)
    release.set()


# The discovery client


@pytest.fixture
def client(monkeypatch):
    """A server in place of LightOS's discovery client: what it answers."""
    listening = socket.create_server(('127.0.0.1', 0))
    ended = threading.Event()
    served = []

    def serve(reply):
        def work():
            taken, _ = listening.accept()
            served.append(taken.recv(1000).decode())
            if reply is None:
                ended.wait(60)
            else:
                taken.sendall(reply)
            taken.close()

        threading.Thread(target=work, daemon=True).start()
        return served

    port = listening.getsockname()[1]
    cfg.CONF.set_override('lightos_discovery_client_address', '127.0.0.1', group='os_brick')
    cfg.CONF.set_override('lightos_discovery_client_port', port, group='os_brick')
    yield serve
    ended.set()
    listening.close()
    cfg.CONF.clear_override('lightos_discovery_client_address', group='os_brick')
    cfg.CONF.clear_override('lightos_discovery_client_port', group='os_brick')


@pytest.mark.parametrize(
    ('reply', 'expected'),
    [
        (b'HTTP/1.1 200 OK\r\n\r\n', 'found'),
        (b'HTTP/1.1 404 Not Found\r\n\r\n', ''),
        (b'nonsense\r\n\r\n', ''),
        (b'', ''),
    ],
)
def test_the_discovery_client_is_asked_as_os_brick_does(client, reply, expected):
    served = client(reply)
    assert properties._discovery_client() == expected
    assert served[0].startswith('HEAD /metrics HTTP/1.1\r\n')


def test_a_silent_discovery_client_is_not_waited_for(client, monkeypatch):
    monkeypatch.setattr(properties, '_DISCOVERY_TIMEOUT', 0.1)
    client(None)
    assert properties._discovery_client() == ''


# The address


@pytest.mark.parametrize(
    ('configured', 'told'),
    [('192.0.2.7', '192.0.2.7'), ('[2001:DB8::7]', '2001:db8::7'), ('2001:db8::7', '2001:db8::7')],
)
def test_the_configured_address_is_told(conf, configured, told):
    conf.set_override('my_block_storage_ip', configured, group='volumedrivers')
    assert properties.block_storage_ip(conf) == told


@pytest.mark.parametrize('configured', ['storage.example.org', '192.0.2.300', '192.0.2.1/24'])
def test_a_name_is_no_address(conf, configured):
    conf.set_override('my_block_storage_ip', configured, group='volumedrivers')
    with pytest.raises(exception.InvalidOption, match='my_block_storage_ip'):
        properties.block_storage_ip(conf)


class Routes:
    """A UDP socket of a host with some default routes."""

    by_family = None

    def __init__(self, family, kind):
        assert kind == socket.SOCK_DGRAM
        self.family = family

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return None

    def connect(self, address):
        if self.family not in self.by_family:
            raise OSError(101, 'Network is unreachable')

    def getsockname(self):
        return (self.by_family[self.family], 4000)


V4, V6 = socket.AF_INET, socket.AF_INET6


@pytest.mark.parametrize(
    ('routes', 'interfaces', 'told'),
    [
        ({V4: '192.0.2.9', V6: '2001:db8::9'}, {}, '192.0.2.9'),
        ({V6: '2001:db8::9'}, {}, '2001:db8::9'),
        (
            {},
            {'eth0': [(V6, 'fe80::1%eth0'), (V6, '2001:db8::8'), (V4, '192.0.2.8')]},
            '192.0.2.8',
        ),
        ({}, {'lo': [(V4, '127.0.0.1')], 'eth0': [(V6, 'fe80::1%eth0')]}, '127.0.0.1'),
    ],
)
def test_the_address_of_the_default_route(conf, monkeypatch, routes, interfaces, told):
    conf.clear_override('my_block_storage_ip', group='volumedrivers')
    monkeypatch.setattr(Routes, 'by_family', routes)
    monkeypatch.setattr(properties.socket, 'socket', Routes)
    address = type('Address', (), {})

    def made(family, text):
        entry = address()
        entry.family, entry.address = family, text
        return entry

    monkeypatch.setattr(
        psutil,
        'net_if_addrs',
        lambda: {
            name: [made(*entry) for entry in entries] for name, entries in interfaces.items()
        },
    )
    assert properties.block_storage_ip(conf) == told


# What has changed


THEN = {
    'host': 'compute-7',
    'ip': '192.0.2.7',
    'initiator': 'iqn.1993-08.org.debian:01:abc',
    'wwpns': ['50014380242B9750', '50014380242b9752'],
    'multipath': True,
    'nqn': 'nqn.x',
    'platform': 'x86_64',
}


def test_the_same_host_has_no_differences():
    now = {**THEN, 'wwpns': ['50014380242b9752', '50014380242b9750']}
    assert properties.compare({**THEN, 'mountpoint': '/dev/vdb', 'instance': 'x'}, now) == ()


@pytest.mark.parametrize(
    ('key', 'new', 'matters', 'does_not'),
    [
        ('initiator', 'iqn.y', 'iscsi', 'fibre_channel'),
        ('initiator', None, 'iser', 'nvmeof'),
        ('wwpns', ['50014380242b9750'], 'fibre_channel', 'iscsi'),
        ('multipath', False, 'nvmeof', 'nfs'),
        ('nqn', 'nqn.y', 'lightos', 'rbd'),
        ('sdc_guid', 'new', 'scaleio', 'iscsi'),
        ('host', 'other', 'rbd', None),
        ('ip', '192.0.2.8', 'nfs', None),
        ('platform', 'aarch64', None, 'iscsi'),
    ],
)
def test_what_a_change_matters_for(key, new, matters, does_not):
    now = {**THEN, key: new}
    if new is None:
        del now[key]
    (difference,) = properties.compare(THEN, now)
    assert difference[:3] == (key, THEN.get(key), new)
    assert matters is None or difference.matters_for(matters)
    assert does_not is None or not difference.matters_for(does_not)


def test_a_key_of_a_later_os_brick_matters_for_all():
    (difference,) = properties.compare({'new_key': 1}, {'new_key': 2})
    assert difference.matters_for('anything')
