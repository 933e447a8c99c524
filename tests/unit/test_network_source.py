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

"""The family of volumes that QEMU opens itself."""

import json
import logging

import pytest

from tests.unit import network_fakes
from volumedrivers import exception
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import FailedPath
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import NetworkHost
from volumedrivers.libvirt.connected_volume import NetworkSource
from volumedrivers.libvirt.connected_volume import PathReport
from volumedrivers.libvirt.driver import Capability
from volumedrivers.libvirt.network_source import NetworkSourceDriver
from volumedrivers.libvirt.network_source import SourceSecret
from volumedrivers.libvirt.network_source import probe_hosts
from volumedrivers.libvirt.network_source import written

PASSWORD = 'the-password'


class Toy(NetworkSourceDriver):
    """The least a driver has to say."""

    PROTOCOL = 'nbd'
    HOSTS = (NetworkHost('192.0.2.1', 10809), NetworkHost('2001:db8::1', 10809))

    def make_source(self, connection_info):
        return NetworkSource('nbd', 'export', self.HOSTS)

    def identify(self, connection_info, source):
        return Identity('path', 'nbd:export')


class ToyWithSecret(Toy):
    def make_secret(self, connection_info, attachment):
        return SourceSecret('iscsi', f'toy/{attachment}', PASSWORD.encode())


@pytest.fixture
def info():
    return network_fakes.iscsi()


def test_all_endpoints_answer(info):
    context = network_fakes.make_context(endpoint_timeout=3.5)
    volume = Toy(context).connect_volume(info, 'a')
    assert context.endpoints.asked == [('nbd', ['192.0.2.1:10809', '[2001:db8::1]:10809'])]
    assert context.endpoints.timeouts == [3.5]
    assert volume.source == NetworkSource('nbd', 'export', Toy.HOSTS)
    assert volume.source_type == 'network'
    assert volume.path is None
    assert volume.paths == PathReport(2, 2)
    assert not volume.degraded
    assert volume.volume_id == network_fakes.VOLUME_ID
    assert volume.seconds >= 0


def test_an_endpoint_that_is_dead_is_reported_and_kept(info, caplog):
    context = network_fakes.make_context()
    context.endpoints.dead['[2001:db8::1]:10809'] = 'no answer within 5 s'
    with caplog.at_level(logging.WARNING):
        volume = Toy(context).connect_volume(info, 'a')
    assert volume.degraded
    assert volume.paths == PathReport(
        2, 1, (FailedPath('[2001:db8::1]:10809', 'no answer within 5 s'),)
    )
    assert volume.source.hosts == Toy.HOSTS
    assert '[2001:db8::1]:10809' in caplog.text
    assert 'no answer within 5 s' in caplog.text


def test_no_endpoint_answers_and_nothing_was_made(info):
    secrets = network_fakes.FakeSecrets()
    context = network_fakes.make_context(secrets=secrets)
    context.endpoints.dead = {'192.0.2.1:10809': 'x', '[2001:db8::1]:10809': 'y'}
    with pytest.raises(exception.EndpointUnreachable):
        ToyWithSecret(context).connect_volume(info, 'a')
    assert secrets.values == {}


def test_secret_of_an_attachment(info):
    secrets = network_fakes.FakeSecrets()
    driver = ToyWithSecret(network_fakes.make_context(secrets=secrets))
    volume = driver.connect_volume(info, 'a')
    driver.connect_volume(info, 'a')
    driver.connect_volume(info, 'b')
    assert volume.source.secret_uuid == network_fakes.SECRET_UUID
    assert volume.source.secret_type == 'iscsi'
    assert secrets.values == {
        ('iscsi', 'toy/a'): b'the-password',
        ('iscsi', 'toy/b'): b'the-password',
    }
    # A guest has to start again after libvirt was restarted.
    assert secrets.ephemeral is False
    driver.disconnect_volume(info, 'a', volume=volume)
    assert list(secrets.values) == [('iscsi', 'toy/b')]
    driver.disconnect_volume(info, 'a', volume=volume)
    driver.disconnect_volume(info, 'b')
    assert secrets.values == {}


def test_password_is_nowhere_to_be_seen(info, caplog):
    driver = ToyWithSecret(network_fakes.make_context(secrets=network_fakes.FakeSecrets()))
    with caplog.at_level(logging.DEBUG):
        volume = driver.connect_volume(info, 'a')
    shown = (
        repr(volume)
        + json.dumps(volume.to_dict())
        + repr(driver.make_secret(info, 'a'))
        + repr(driver.make_source(info))
        + caplog.text
    )
    assert PASSWORD not in shown


def test_no_libvirt_for_the_secret(info):
    driver = ToyWithSecret(network_fakes.make_context())
    with pytest.raises(exception.VolumeDriverNotSupported, match='libvirt secret'):
        driver.connect_volume(info, 'a')


@pytest.mark.parametrize('call', ['connect_volume', 'disconnect_volume'])
def test_libvirt_that_cannot_be_asked_is_no_success(info, call):
    secrets = network_fakes.FakeSecrets()
    secrets.broken = exception.HypervisorUnavailable(uri='x', reason='gone')
    driver = ToyWithSecret(network_fakes.make_context(secrets=secrets))
    with pytest.raises(exception.HypervisorUnavailable):
        getattr(driver, call)(info, 'a')


def test_disconnect_asks_nobody(info):
    context = network_fakes.make_context()
    context.endpoints.dead = {'192.0.2.1:10809': 'x', '[2001:db8::1]:10809': 'y'}
    Toy(context).disconnect_volume(info, 'a', force=True)
    assert context.endpoints.asked == []


def test_extend_returns_what_was_requested(info):
    driver = Toy(network_fakes.make_context())
    assert driver.extend_volume(info, 'a', 123456789) == 123456789


def test_extend_asks_the_storage_before_qemu_does(info):
    context = network_fakes.make_context()
    driver = Toy(context)
    volume = driver.connect_volume(info, 'a')
    context.endpoints.dead = {'192.0.2.1:10809': 'x'}
    assert driver.extend_volume(info, 'a', 123456789, volume=volume) == 123456789
    context.endpoints.dead['[2001:db8::1]:10809'] = 'y'
    with pytest.raises(exception.EndpointUnreachable):
        driver.extend_volume(info, 'a', 123456789, volume=volume)


def test_capabilities():
    assert {Capability.EXTEND, Capability.MULTIATTACH, Capability.UNPRIVILEGED} == (
        Toy.CAPABILITIES
    )


def test_volume_survives_json(info):
    driver = ToyWithSecret(network_fakes.make_context(secrets=network_fakes.FakeSecrets()))
    volume = driver.connect_volume(info, 'a')
    assert ConnectedVolume.from_dict(json.loads(json.dumps(volume.to_dict()))) == volume


class TestHostWithoutPort:
    HOSTS = (NetworkHost('mon1'), NetworkHost('mon2', 7000))

    def probe(self, **dead):
        probe = network_fakes.FakeProbe()
        probe.dead = dict.fromkeys(dead.get('dead', ()), 'refused')
        answer = probe_hosts(probe, 'rbd', self.HOSTS, default_ports=(3300, 6789), timeout=1)
        assert probe.asked == [('rbd', ['mon1:3300', 'mon1:6789', 'mon2:7000'])]
        return answer

    def test_any_default_port_will_do(self):
        assert self.probe(dead=['mon1:3300']) == (self.HOSTS, ())
        assert self.probe(dead=['mon1:6789']) == (self.HOSTS, ())

    def test_none_of_them_answers(self):
        assert self.probe(dead=['mon1:3300', 'mon1:6789']) == (
            self.HOSTS[1:],
            (FailedPath('mon1', 'refused'),),
        )


def test_a_host_named_twice_is_asked_once():
    probe = network_fakes.FakeProbe()
    host = NetworkHost('a', 1)
    answered, _ = probe_hosts(probe, 'rbd', (host, host), default_ports=(), timeout=1)
    assert answered == (host,)
    assert probe.asked == [('rbd', ['a:1'])]


@pytest.mark.parametrize(
    ('host', 'text'),
    [
        (NetworkHost('a', 1), 'a:1'),
        (NetworkHost('a'), 'a'),
        (NetworkHost('::1', 1), '[::1]:1'),
        (NetworkHost('::1'), '[::1]'),
    ],
)
def test_written(host, text):
    assert written(host) == text
