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

"""iSCSI by QEMU's own initiator."""

import dataclasses
import os

import pytest

from tests import rng
from tests.unit import network_fakes
from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import initiator
from volumedrivers.libvirt.driver import DiskInfo
from volumedrivers.libvirt.drivers.iscsi import IscsiVolumeDriver
from volumedrivers.libvirt.qemu_iscsi import QemuInitiator

IQN = 'iqn.2010-10.org.openstack:volume-1'
ME = 'iqn.2020-01.example:host'
SECRET = ('iscsi', f'{network_fakes.VOLUME_ID}/a')
PORTALS = {
    'target_portals': ['192.0.2.1:3260', '[2001:DB8::1]:3260'],
    'target_iqns': [IQN, f'{IQN}-b'],
    'target_luns': [1, 2],
}


@pytest.fixture
def secrets():
    return network_fakes.FakeSecrets()


@pytest.fixture
def driver(secrets):
    return QemuInitiator(network_fakes.make_context(secrets=secrets, iscsi_initiator_name=ME))


def disk_of(driver, info):
    volume = driver.connect_volume(info, 'a')
    disk = driver.get_disk(info, volume, DiskInfo('scsi', 'sda'))
    rng.validate_disk(disk.to_xml())
    return volume, disk.build()


def test_disk(driver, secrets):
    volume, disk = disk_of(driver, network_fakes.iscsi())
    assert disk.get('type') == 'network'
    source = disk.find('source')
    assert source.attrib == {'protocol': 'iscsi', 'name': f'{IQN}/1'}
    assert dict(source.find('host').attrib) == {'name': '192.0.2.1', 'port': '3260'}
    assert source.find('initiator/iqn').get('name') == ME
    assert disk.find('.//auth').get('username') == 'user'
    assert dict(disk.find('.//auth/secret').attrib) == {
        'type': 'iscsi',
        'uuid': network_fakes.SECRET_UUID,
    }
    assert secrets.values == {SECRET: b'the-password'}
    assert 'the-password' not in repr(volume)


def test_target_without_chap(secrets):
    """Needs no libvirt connection and makes no secret."""
    driver = QemuInitiator(network_fakes.make_context(iscsi_initiator_name=ME))
    info = network_fakes.iscsi(chap=False)
    volume, disk = disk_of(driver, info)
    assert disk.find('.//auth') is None
    driver.disconnect_volume(info, 'a', volume=volume)


def test_secret_goes_with_the_attachment(driver, secrets):
    info = network_fakes.iscsi()
    volume = driver.connect_volume(info, 'a')
    driver.disconnect_volume(info, 'a', volume=volume)
    assert secrets.values == {}
    driver.disconnect_volume(info, 'a')


def test_secret_remains_until_it_is_removed_without_the_password(driver, secrets):
    info = network_fakes.iscsi()
    redacted = ConnectionInfo.parse(info.to_dict())
    driver.connect_volume(info, 'guest')

    (found,) = driver.remains(redacted, 'guest')
    assert (found.kind, found.name) == ('secret', f'iscsi {network_fakes.VOLUME_ID}/guest')
    assert driver.remains(redacted, 'another') == ()
    driver.disconnect_volume(redacted, 'guest')
    assert driver.remains(redacted, 'guest') == ()
    assert secrets.values == {}


def test_source_of_another_volume_is_not_grown(driver):
    info = network_fakes.iscsi()
    volume = driver.connect_volume(info, 'guest')
    source = dataclasses.replace(volume.source, name='iqn.2010-10.org.openstack:volume-2/1')

    assert driver.extend_volume(info, 'guest', 1 << 30, volume=volume) == 1 << 30
    with pytest.raises(exception.IdentityMismatch, match='volume-2'):
        driver.extend_volume(
            info, 'guest', 1 << 30, volume=dataclasses.replace(volume, source=source)
        )


def test_first_portal_that_answers(driver):
    info = network_fakes.iscsi(**PORTALS)
    volume = driver.connect_volume(info, 'a')
    assert volume.source.name == f'{IQN}/1'
    assert [host.name for host in volume.source.hosts] == ['192.0.2.1']
    assert driver.context.endpoints.asked == [('iscsi', ['192.0.2.1:3260', '[2001:db8::1]:3260'])]


def test_second_portal_has_a_target_and_a_number_of_its_own(driver):
    driver.context.endpoints.dead = {'192.0.2.1:3260': 'connection refused'}
    volume, disk = disk_of(driver, network_fakes.iscsi(**PORTALS))
    assert disk.find('source').get('name') == f'{IQN}-b/2'
    assert [dict(host.attrib) for host in disk.findall('source/host')] == [
        {'name': '2001:db8::1', 'port': '3260'}
    ]
    assert volume.degraded
    assert volume.paths.failed[0].name == '192.0.2.1:3260'


def test_identity_does_not_depend_on_the_portal(driver):
    info = network_fakes.iscsi(**PORTALS)
    first = driver.connect_volume(info, 'a').identity
    driver.context.endpoints.dead = {'192.0.2.1:3260': 'connection refused'}
    assert driver.connect_volume(info, 'a').identity == first


def test_no_portal_answers(driver, secrets):
    driver.context.endpoints.dead = {'192.0.2.1:3260': 'no answer within 5 s'}
    with pytest.raises(exception.EndpointUnreachable):
        driver.connect_volume(network_fakes.iscsi(), 'a')
    assert secrets.values == {}


def test_name_with_a_slash(driver):
    with pytest.raises(exception.InvalidConnectionInfo, match='target_iqn'):
        driver.connect_volume(network_fakes.iscsi(target_iqn='iqn.2010-10.org:a/7'), 'a')


def test_other_data_is_refused(driver):
    with pytest.raises(exception.InvalidConnectionInfo, match='iSCSI target'):
        driver.connect_volume(network_fakes.rbd(), 'a')


def test_driver_uses_it_when_told(secrets):
    context = network_fakes.make_context(
        secrets=secrets, iscsi_initiator_name=ME, iscsi_client='qemu'
    )
    volume = IscsiVolumeDriver(context).connect_volume(network_fakes.iscsi(), 'a')
    assert volume.source_type == 'network'


class TestInitiatorName:
    def test_option_comes_first(self, tmp_path):
        assert initiator.initiator_name(ME, str(tmp_path / 'absent')) == ME

    @pytest.mark.parametrize(
        'text',
        [
            'InitiatorName=iqn.1993-08.org.debian:01:abc\n',
            '# InitiatorName=iqn.wrong\n\nInitiatorName = iqn.1993-08.org.debian:01:abc',
        ],
    )
    def test_file_of_open_iscsi(self, tmp_path, text):
        path = tmp_path / 'initiatorname.iscsi'
        path.write_text(text)
        assert initiator.initiator_name(None, str(path)) == 'iqn.1993-08.org.debian:01:abc'

    @pytest.mark.parametrize('text', ['', '# InitiatorName=iqn.x\n', 'InitiatorName=\n'])
    def test_file_without_a_name(self, tmp_path, text):
        path = tmp_path / 'initiatorname.iscsi'
        path.write_text(text)
        with pytest.raises(exception.VolumeDriverNotSupported, match='holds no InitiatorName'):
            initiator.initiator_name(None, str(path))

    def test_no_file(self, tmp_path):
        with pytest.raises(exception.VolumeDriverNotSupported, match='set iscsi_initiator_name'):
            initiator.initiator_name(None, str(tmp_path / 'absent'))

    def test_file_that_only_root_reads(self, monkeypatch):
        def refuse(*args, **more):
            raise PermissionError(13, os.strerror(13))

        monkeypatch.setattr('builtins.open', refuse)
        with pytest.raises(
            exception.VolumeDriverNotSupported, match='Permission denied; set iscsi_init'
        ):
            initiator.initiator_name(None)
