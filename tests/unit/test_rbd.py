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

"""RBD that QEMU opens by librbd."""

import json

import pytest

from tests import rng
from tests.unit import network_fakes
from volumedrivers import exception
from volumedrivers.host import ceph_conf
from volumedrivers.libvirt.connected_volume import NetworkHost
from volumedrivers.libvirt.driver import Capability
from volumedrivers.libvirt.driver import DiskInfo
from volumedrivers.libvirt.drivers.rbd import RbdVolumeDriver

FSID = '7fd9ba85-3a9c-4e33-9d09-b7a9cb0d9a0c'
HOST_UUID = '37152720-1785-11e2-a740-af0c1d8b8e4b'
BOTH = {'rbd_user': 'host-user', 'rbd_secret_uuid': HOST_UUID}


@pytest.fixture
def conf_file(tmp_path):
    path = tmp_path / 'ceph.conf'
    path.write_text(f'[global]\nfsid = {FSID}\nmon_host = 192.0.2.1,192.0.2.7:7000\n')
    return path


def make_driver(tmp_path, **options):
    return RbdVolumeDriver(
        network_fakes.make_context(**{'rbd_ceph_conf': str(tmp_path / 'absent.conf'), **options})
    )


def connect(driver, info):
    volume = driver.connect_volume(info, 'a')
    disk = driver.get_disk(info, volume, DiskInfo('virtio', 'vdb'))
    element = disk.build()
    rng.validate_disk(disk.to_xml())
    return volume, element


def test_disk(tmp_path):
    volume, disk = connect(make_driver(tmp_path), network_fakes.rbd())
    assert disk.get('type') == 'network'
    assert disk.find('driver').attrib == {'name': 'qemu', 'type': 'raw', 'cache': 'none'}
    assert disk.find('source').attrib == {'protocol': 'rbd', 'name': 'volumes/volume-1'}
    assert [dict(host.attrib) for host in disk.findall('source/host')] == [
        {'name': '192.0.2.1', 'port': '6789'},
        {'name': '192.0.2.2', 'port': '6789'},
    ]
    # libvirt takes it there or in <source>; Nova writes it here.
    assert disk.find('auth').attrib == {'username': 'cinder'}
    assert disk.find('auth/secret').attrib == {'type': 'ceph', 'uuid': network_fakes.SECRET_UUID}
    assert json.loads(json.dumps(volume.to_dict()))['source']['protocol'] == 'rbd'


def test_monitors_are_asked(tmp_path):
    driver = make_driver(tmp_path)
    driver.connect_volume(network_fakes.rbd(), 'a')
    assert driver.context.endpoints.asked == [('rbd', ['192.0.2.1:6789', '192.0.2.2:6789'])]


def test_silent_monitors(tmp_path):
    driver = make_driver(tmp_path)
    driver.context.endpoints.dead = {'192.0.2.1:6789': 'x', '192.0.2.2:6789': 'x'}
    with pytest.raises(exception.EndpointUnreachable):
        driver.connect_volume(network_fakes.rbd(), 'a')


def test_ipv6_monitor(tmp_path):
    driver = make_driver(tmp_path)
    _, disk = connect(driver, network_fakes.rbd(hosts=['2001:db8::1'], ports=['6789']))
    assert dict(disk.find('source/host').attrib) == {'name': '2001:db8::1', 'port': '6789'}
    assert driver.context.endpoints.asked == [('rbd', ['[2001:db8::1]:6789'])]


def test_monitor_without_a_port(tmp_path):
    driver = make_driver(tmp_path)
    _, disk = connect(driver, network_fakes.rbd(hosts=['mon.example'], ports=[None]))
    assert dict(disk.find('source/host').attrib) == {'name': 'mon.example'}
    assert driver.context.endpoints.asked == [('rbd', ['mon.example:3300', 'mon.example:6789'])]


def test_image_in_a_namespace(tmp_path):
    volume, disk = connect(make_driver(tmp_path), network_fakes.rbd(name='volumes/ns/image'))
    assert disk.find('source').get('name') == 'volumes/ns/image'
    assert volume.identity.value.endswith('/volumes/ns/image')


class TestCredentials:
    """(what Cinder says, options, user and secret in the disk or None)."""

    CINDER = ('cinder', network_fakes.SECRET_UUID)
    HOST = ('host-user', HOST_UUID)

    @pytest.mark.parametrize(
        ('data', 'options', 'expected'),
        [
            ({}, {}, CINDER),
            ({}, BOTH, CINDER),
            ({'secret_uuid': None}, BOTH, HOST),
            ({'secret_uuid': None, 'auth_username': None}, BOTH, HOST),
            ({'auth_enabled': False}, {}, None),
            ({'auth_enabled': False}, BOTH, HOST),
            ({'auth_enabled': False}, {'rbd_user': 'host-user'}, None),
        ],
    )
    def test_which_are_used(self, tmp_path, data, options, expected):
        volume, disk = connect(make_driver(tmp_path, **options), network_fakes.rbd(**data))
        if expected is None:
            assert disk.find('auth') is None
            assert volume.source.secret_type is None
        else:
            secret = disk.find('auth/secret')
            assert (disk.find('auth').get('username'), secret.get('uuid')) == expected
            assert secret.get('type') == 'ceph'

    @pytest.mark.parametrize(
        ('data', 'options', 'wrong'),
        [
            ({'secret_uuid': None}, {}, 'secret_uuid'),
            ({'secret_uuid': None}, {'rbd_user': 'host-user'}, 'secret_uuid'),
            ({'secret_uuid': None}, {'rbd_secret_uuid': HOST_UUID}, 'secret_uuid'),
            ({'auth_username': None}, {}, 'auth_username'),
            ({'auth_username': None}, BOTH, 'auth_username'),
            ({'auth_enabled': False}, {'rbd_secret_uuid': HOST_UUID}, 'rbd_user'),
        ],
    )
    def test_half_a_pair_is_refused(self, tmp_path, data, options, wrong):
        driver = make_driver(tmp_path, **options)
        with pytest.raises(exception.BadInput, match=wrong):
            driver.connect_volume(network_fakes.rbd(**data), 'a')
        assert driver.context.endpoints.asked == []

    def test_falling_back_without_being_asked_is_said(self, tmp_path, caplog):
        driver = make_driver(tmp_path, **BOTH)
        driver.connect_volume(network_fakes.rbd(auth_enabled=False), 'a')
        assert 'rbd_user' in caplog.text


class TestCephConf:
    def test_fsid_of_the_same_cluster(self, tmp_path, conf_file):
        driver = make_driver(tmp_path, rbd_ceph_conf=str(conf_file))
        volume = driver.connect_volume(network_fakes.rbd(), 'a')
        assert str(volume.identity) == f'rbd:{FSID}/volumes/volume-1'

    def test_fsid_of_another_cluster_is_not_taken(self, tmp_path, conf_file):
        driver = make_driver(tmp_path, rbd_ceph_conf=str(conf_file))
        info = network_fakes.rbd(hosts=['198.51.100.9', '198.51.100.8'])
        volume = driver.connect_volume(info, 'a')
        assert str(volume.identity) == 'rbd:198.51.100.8,198.51.100.9/volumes/volume-1'

    def test_order_of_monitors_does_not_matter(self, tmp_path):
        driver = make_driver(tmp_path)
        one = driver.connect_volume(network_fakes.rbd(hosts=['b', 'a']), 'a').identity
        other = driver.connect_volume(network_fakes.rbd(hosts=['a', 'b']), 'a').identity
        assert one == other

    def test_its_monitors_are_used_where_cinder_names_none(self, tmp_path, conf_file):
        driver = make_driver(tmp_path, rbd_ceph_conf=str(conf_file))
        volume = driver.connect_volume(network_fakes.rbd(drop=('hosts', 'ports')), 'a')
        assert volume.source.hosts == (NetworkHost('192.0.2.1'), NetworkHost('192.0.2.7', 7000))
        assert driver.context.endpoints.asked == [
            ('rbd', ['192.0.2.1:3300', '192.0.2.1:6789', '192.0.2.7:7000'])
        ]

    def test_the_default_one_is_read_by_librbd_itself(self, tmp_path, conf_file, monkeypatch):
        monkeypatch.setattr(ceph_conf, 'DEFAULT', str(conf_file))
        driver = make_driver(tmp_path, rbd_ceph_conf=str(conf_file))
        volume = driver.connect_volume(network_fakes.rbd(drop=('hosts', 'ports')), 'a')
        assert volume.source.hosts == ()
        assert volume.paths.asked == 2
        assert driver.context.endpoints.asked

    def test_nobody_names_a_monitor(self, tmp_path):
        driver = make_driver(tmp_path)
        volume = driver.connect_volume(network_fakes.rbd(drop=('hosts', 'ports')), 'a')
        assert volume.source.hosts == ()
        assert driver.context.endpoints.asked == []

    def test_one_that_cannot_be_read_is_an_error(self, tmp_path):
        driver = make_driver(tmp_path, rbd_ceph_conf=str(tmp_path))
        with pytest.raises(exception.VolumeDriverNotSupported, match='cannot be read'):
            driver.connect_volume(network_fakes.rbd(), 'a')


def test_extend_and_disconnect(tmp_path):
    driver = make_driver(tmp_path)
    info = network_fakes.rbd()
    volume = driver.connect_volume(info, 'a')
    assert driver.extend_volume(info, 'a', 2**31, volume=volume) == 2**31
    driver.disconnect_volume(info, 'a', volume=volume)
    driver.disconnect_volume(info, 'a')


def test_capabilities_are_of_the_client(tmp_path):
    assert Capability.UNPRIVILEGED in make_driver(tmp_path).CAPABILITIES
    kernel = make_driver(tmp_path, rbd_client='kernel').CAPABILITIES
    assert Capability.HOST_DEVICE in kernel
    assert Capability.UNPRIVILEGED not in kernel


def test_other_data_is_refused(tmp_path):
    with pytest.raises(exception.InvalidConnectionInfo, match='RBD image'):
        make_driver(tmp_path).connect_volume(network_fakes.iscsi(), 'a')
