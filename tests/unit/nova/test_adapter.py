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

"""Nova's calls of a volume driver, and what comes of them on the host."""

import copy
import dataclasses
import threading
import types
import typing

from nova import exception as nova
from nova.virt.libvirt import driver as libvirt_driver
from os_brick import exception as brick
from oslo_utils import importutils
import pytest

from tests.unit import fake_hypervisor as fake
from tests.unit.nova.conftest import Host
from volumedrivers import exception
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import NetworkSource
from volumedrivers.libvirt.connected_volume import Remainder
from volumedrivers.nova import drivers
from volumedrivers.nova.adapter import NovaVolumeDriver


@pytest.fixture
def adapter(host: Host) -> NovaVolumeDriver:
    made: NovaVolumeDriver = importutils.import_class(drivers.path_of('iscsi'))(None)
    return made


@pytest.fixture
def info() -> dict[str, typing.Any]:
    return fake.connection_info()


def test_connect_tells_nova_the_path_and_the_journal_the_rest(
    host: Host, adapter: NovaVolumeDriver, info: dict[str, typing.Any]
) -> None:
    sent = copy.deepcopy(info)

    adapter.connect_volume(info, host.instance)

    assert info == {**sent, 'data': {**sent['data'], 'device_path': fake.PATH}}
    row = host.row()
    assert row is not None
    assert row.is_settled
    assert (row.manager, row.domain_name, row.source) == ('nova', 'instance-1', fake.PATH)
    assert 'device_path' not in row.connection_info['data']
    assert 'chapsecret-99' not in str(row)


def test_connect_needs_no_guest(
    host: Host, adapter: NovaVolumeDriver, info: dict[str, typing.Any]
) -> None:
    """Nova connects the volumes of a server before it defines the guest."""
    instance = types.SimpleNamespace(uuid='00000000-0000-4000-8000-0000000000cc', name='new')
    adapter.connect_volume(info, instance)
    assert host.calls == ['connect']
    assert [row.domain_name for row in host.journal.find()] == ['new']


def test_connect_again_is_the_same_volume_or_refused(
    host: Host, adapter: NovaVolumeDriver, info: dict[str, typing.Any]
) -> None:
    adapter.connect_volume(info, host.instance)
    adapter.connect_volume(info, host.instance)
    assert info['data']['device_path'] == fake.PATH

    host.driver.identity = Identity('wwn', '3699')
    with pytest.raises(nova.NovaException, match='3699') as caught:
        adapter.connect_volume(info, host.instance)

    assert isinstance(caught.value.__cause__, exception.IdentityMismatch)
    # It was there before, so it stays.
    assert 'disconnect' not in host.calls
    row = host.row()
    assert row is not None
    assert row.is_settled


def test_failed_connect_leaves_nothing(
    host: Host, adapter: NovaVolumeDriver, info: dict[str, typing.Any]
) -> None:
    sent = copy.deepcopy(info)
    host.fakes.fail['connect'] = exception.VolumeDeviceNotFound(volume_id='v', reason='none')
    with pytest.raises(brick.VolumeDeviceNotFound, match='none'):
        adapter.connect_volume(info, host.instance)
    assert info == sent
    assert host.row() is None


def test_disconnect_takes_it_off_the_host(
    host: Host, adapter: NovaVolumeDriver, info: dict[str, typing.Any]
) -> None:
    adapter.connect_volume(info, host.instance)
    adapter.disconnect_volume(info, host.instance, force=True)
    assert host.calls == ['connect', 'disconnect']
    assert host.driver.disconnect_options['force'] is True
    assert host.driver.disconnect_options['volume'].path == fake.PATH
    assert host.row() is None


def test_disconnect_of_what_novas_driver_attached(
    host: Host, adapter: NovaVolumeDriver, info: dict[str, typing.Any]
) -> None:
    """No row; what Nova stored is enough."""
    info['data']['device_path'] = '/dev/dm-3'
    info['data']['multipath_id'] = '3600'
    adapter.disconnect_volume(info, host.instance)
    assert host.calls == ['disconnect']
    assert host.driver.disconnect_options['volume'] is None
    assert host.row() is None


def test_disconnect_of_what_novas_driver_attached_under_a_lasting_name(
    host: Host, adapter: NovaVolumeDriver, info: dict[str, typing.Any]
) -> None:
    info['data']['device_path'] = fake.PATH
    adapter.disconnect_volume(info, host.instance)
    assert host.driver.disconnect_options['volume'].identity == Identity('wwn', '3600')


def test_disconnect_twice(
    host: Host, adapter: NovaVolumeDriver, info: dict[str, typing.Any]
) -> None:
    adapter.connect_volume(info, host.instance)
    adapter.disconnect_volume(info, host.instance)
    adapter.disconnect_volume(info, host.instance)
    assert host.row() is None


def test_volume_of_another_guest_stays(
    host: Host, adapter: NovaVolumeDriver, info: dict[str, typing.Any]
) -> None:
    theirs = copy.deepcopy(info)
    adapter.connect_volume(info, host.instance)
    adapter.connect_volume(theirs, host.neighbour)

    adapter.disconnect_volume(info, host.instance)
    assert 'disconnect' not in host.calls
    assert [row.domain_name for row in host.journal.find()] == ['instance-2']

    adapter.disconnect_volume(theirs, host.neighbour)
    assert host.calls.count('disconnect') == 1
    assert host.journal.find() == ()


def test_volume_that_another_guest_got_from_novas_driver_stays(
    host: Host, adapter: NovaVolumeDriver, info: dict[str, typing.Any]
) -> None:
    host.other.present.append(fake.make_disk(fake.VOLUME_ID, 'vdb'))
    adapter.connect_volume(info, host.instance)
    adapter.disconnect_volume(info, host.instance)
    assert 'disconnect' not in host.calls


def test_device_is_not_pulled_away_from_under_the_guest(
    host: Host, adapter: NovaVolumeDriver, info: dict[str, typing.Any]
) -> None:
    """Where Nova could not see the disk, such as for an error of libvirt."""
    adapter.connect_volume(info, host.instance)
    host.guest.present.append(fake.make_disk(fake.VOLUME_ID, 'vdb'))

    with pytest.raises(nova.NovaException, match='runs and has it as vdb') as caught:
        adapter.disconnect_volume(info, host.instance)

    assert isinstance(caught.value.__cause__, exception.StillInUse)
    assert 'disconnect' not in host.calls
    row = host.row()
    assert row is not None
    assert row.is_settled

    # A stopped guest may keep it in its definition: Nova undefines it later.
    host.guest.running = False
    adapter.disconnect_volume(info, host.instance)
    assert host.row() is None


def test_unknown_is_not_absent(
    host: Host, adapter: NovaVolumeDriver, info: dict[str, typing.Any]
) -> None:
    adapter.connect_volume(info, host.instance)
    host.fakes.fail['disks'] = exception.HypervisorUnavailable(uri='fake:///', reason='gone')
    with pytest.raises(nova.HypervisorUnavailable, match='gone'):
        adapter.disconnect_volume(info, host.instance)
    assert 'disconnect' not in host.calls


def test_what_is_left_is_an_error_unless_forced(
    host: Host, adapter: NovaVolumeDriver, info: dict[str, typing.Any]
) -> None:
    adapter.connect_volume(info, host.instance)
    host.driver.left = [Remainder('device', '/dev/sdb', 'wwn:3600')]
    with pytest.raises(nova.NovaException, match='/dev/sdb'):
        adapter.disconnect_volume(info, host.instance)
    adapter.disconnect_volume(info, host.instance, force=True)
    row = host.row()
    assert row is not None
    assert 'left behind' in row.problem


def test_row_is_found_after_cinder_has_renamed_the_volume(
    host: Host, adapter: NovaVolumeDriver, info: dict[str, typing.Any]
) -> None:
    adapter.connect_volume(info, host.instance)
    info['serial'] = info['data']['volume_id'] = fake.OTHER_ID
    # Only the id differs.
    row = host.row()
    assert row is not None
    host.journal.put(
        type(row)(**{**vars(row), 'connection_info': {**info, 'data': dict(info['data'])}})
    )
    adapter.disconnect_volume(info, host.instance)
    assert host.journal.find() == ()


def test_recorded_connection_counts(
    host: Host, adapter: NovaVolumeDriver, info: dict[str, typing.Any]
) -> None:
    """After an evacuation Nova has what the other host was told."""
    adapter.connect_volume(info, host.instance)
    info['data']['target_portal'] = '192.0.2.77:3260'
    seen = []
    disconnect = host.driver.disconnect_volume

    def look(told: typing.Any, attachment: str, **options: typing.Any) -> None:
        seen.append(str(told.data.targets[0].portal))
        disconnect(told, attachment, **options)

    host.driver.disconnect_volume = look  # type: ignore[method-assign]
    adapter.disconnect_volume(info, host.instance)
    assert seen == ['192.0.2.1:3260']


def test_extend_returns_what_the_host_sees(
    host: Host, adapter: NovaVolumeDriver, info: dict[str, typing.Any]
) -> None:
    adapter.connect_volume(info, host.instance)
    host.driver.size = 2 * fake.GIB
    assert adapter.extend_volume(info, host.instance, 2 * fake.GIB) == 2 * fake.GIB
    assert host.calls == ['connect', 'extend']
    row = host.row()
    assert row is not None
    assert row.is_settled


def test_extend_of_what_novas_driver_attached_leaves_no_row(
    host: Host, adapter: NovaVolumeDriver, info: dict[str, typing.Any]
) -> None:
    assert adapter.extend_volume(info, host.instance, fake.GIB) == fake.GIB
    assert host.row() is None


def test_host_that_sees_less_has_not_extended(
    host: Host, adapter: NovaVolumeDriver, info: dict[str, typing.Any]
) -> None:
    with pytest.raises(nova.VolumeExtendFailed, match='still sees'):
        adapter.extend_volume(info, host.instance, 2 * fake.GIB)


def test_extend_that_no_driver_can_is_what_nova_expects(
    host: Host, adapter: NovaVolumeDriver, info: dict[str, typing.Any]
) -> None:
    host.fakes.fail['extend'] = exception.ExtendVolumeNotSupported(driver_volume_type='iscsi')
    with pytest.raises(NotImplementedError):
        adapter.extend_volume(info, host.instance, fake.GIB)


@pytest.mark.parametrize(
    ('error', 'expected'),
    [
        (
            exception.VolumeDriverNotFound(driver_volume_type='x', known='y'),
            'VolumeDriverNotFound',
        ),
        (
            exception.VolumeDriverNotSupported(driver_volume_type='x', reason='y'),
            'VolumeDriverNotSupported',
        ),
        (exception.PluginRefused(name='x', value='y', reason='z'), 'VolumeDriverNotSupported'),
        (
            exception.InvalidOption(option='lock_path', found='x', expected='y'),
            'VolumeDriverNotSupported',
        ),
    ],
)
def test_driver_that_cannot_be_loaded(
    host: Host, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str
) -> None:
    def refuse(name: str) -> typing.NoReturn:
        raise error

    monkeypatch.setattr(host.manager.context.registry, 'get', refuse)
    with pytest.raises(getattr(nova, expected)) as caught:
        importutils.import_class(drivers.path_of('iscsi'))(None)
    assert caught.value.__cause__ is error


def test_bad_input_says_what_is_wrong(
    host: Host, adapter: NovaVolumeDriver, info: dict[str, typing.Any]
) -> None:
    del info['data']['target_portal']
    with pytest.raises(nova.InvalidVolume, match='target_portal'):
        adapter.connect_volume(info, host.instance)
    info = fake.connection_info()
    info['data']['access_mode'] = 'rx'
    with pytest.raises(nova.InvalidVolumeAccessMode):
        adapter.connect_volume(info, host.instance)


def test_nova_does_not_count_itself(
    host: Host, adapter: NovaVolumeDriver, info: dict[str, typing.Any]
) -> None:
    """Neither Cinder nor Nova's database is asked who still uses a volume."""
    decide = libvirt_driver.LibvirtDriver._should_disconnect_target
    assert decide(None, None, host.instance, True, adapter, fake.VOLUME_ID) is True


def test_libvirt_driver_makes_one_of_each_type(host: Host, table: dict[str, str]) -> None:
    nova_driver = types.SimpleNamespace(volume_drivers={}, _host=None)
    get = libvirt_driver.LibvirtDriver._get_volume_driver
    made = get(nova_driver, {'driver_volume_type': 'nfs'})
    assert isinstance(made, NovaVolumeDriver)
    assert made.driver_volume_type == 'nfs'
    assert get(nova_driver, {'driver_volume_type': 'nfs'}) is made
    assert type(get(nova_driver, {'driver_volume_type': 'rbd'})) is not type(made)
    with pytest.raises(nova.VolumeDriverNotFound):
        get(nova_driver, {'driver_volume_type': 'punched-cards'})


DISK_INFO = {'bus': 'virtio', 'dev': 'vdb', 'type': 'disk'}


def test_secret_that_cannot_be_looked_up_is_an_error(
    host: Host, adapter: NovaVolumeDriver, info: dict[str, typing.Any]
) -> None:
    adapter.connect_volume(info, host.instance)
    adapter.get_config(info, DISK_INFO)
    assert host.driver.disk_info.encryption is None

    host.secrets.uuids['volume', fake.VOLUME_ID] = fake.SECRET_UUID
    adapter.get_config(info, DISK_INFO)
    assert host.driver.disk_info.encryption.secret_uuid == fake.SECRET_UUID

    host.secrets.error = exception.HypervisorUnavailable(uri='fake:///', reason='gone')
    with pytest.raises(nova.HypervisorUnavailable):
        adapter.get_config(info, DISK_INFO)


def test_disk_is_described_from_what_the_other_host_has_told(
    host: Host,
    adapter: NovaVolumeDriver,
    info: dict[str, typing.Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A guest's host describes the disk as it is on the host that the guest moves to."""
    adapter.connect_volume(info, host.instance)
    there = copy.deepcopy(info)
    there['data']['device_path'] = '/dev/disk/by-id/wwn-0x2'
    described = []

    def get_disk(told: typing.Any, volume: typing.Any, disk_info: typing.Any) -> typing.Any:
        described.append(volume.path)
        return fake.make_disk(told.volume_id, disk_info.dev, path=volume.path)

    monkeypatch.setattr(host.driver, 'get_disk', get_disk)
    host.fakes.calls.clear()
    assert '/dev/disk/by-id/wwn-0x2' in adapter.get_config(there, DISK_INFO).to_xml()
    assert described == ['/dev/disk/by-id/wwn-0x2']
    # Nothing of this host was asked.
    assert host.fakes.calls == []


def test_both_let_go_at_once(
    host: Host, adapter: NovaVolumeDriver, info: dict[str, typing.Any]
) -> None:
    for instance in (host.instance, host.neighbour):
        adapter.connect_volume(info, instance)
    errors: list[BaseException] = []

    def let_go(instance: typing.Any) -> None:
        try:
            adapter.disconnect_volume(info, instance)
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=let_go, args=(instance,))
        for instance in (host.instance, host.neighbour)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert host.calls.count('disconnect') == 1
    assert host.journal.find() == ()


def test_encrypted_volume_keeps_the_link_that_is_decrypted(
    host: Host, adapter: NovaVolumeDriver, info: dict[str, typing.Any]
) -> None:
    """os-brick's encryptors let that link lead to the decrypted device."""
    info['data']['encrypted'] = True
    link = '/dev/disk/by-id/os-brick+dev+sdb'
    connect = host.driver.connect_volume

    def connected(told: typing.Any, attachment: str) -> typing.Any:
        return dataclasses.replace(connect(told, attachment), device_info={'path': link})

    host.driver.connect_volume = connected  # type: ignore[method-assign]
    adapter.connect_volume(info, host.instance)
    assert info['data']['device_path'] == link
    row = host.row()
    assert row is not None
    assert row.source == link
    assert row.volume is not None
    assert row.volume.path == fake.PATH
    # What decrypts it is Nova's to close.
    adapter.disconnect_volume(info, host.instance)
    assert 'close' not in host.calls


def test_what_another_client_has_left_is_not_told_on(
    host: Host, adapter: NovaVolumeDriver, info: dict[str, typing.Any]
) -> None:
    """The volume is opened by QEMU itself now."""
    info['data']['device_path'] = '/dev/sdb'
    source = NetworkSource('iscsi', 'iqn.2010-10.org.openstack:volume-1/1')

    def connected(told: typing.Any, attachment: str) -> ConnectedVolume:
        return ConnectedVolume(
            driver_volume_type='iscsi',
            volume_id=told.volume_id,
            source_type='network',
            source=source,
        )

    host.driver.connect_volume = connected  # type: ignore[method-assign]
    host.driver.identity = None
    adapter.connect_volume(info, host.instance)
    assert 'device_path' not in info['data']
    assert info['data']['volumedrivers_source']['protocol'] == 'iscsi'
    row = host.row()
    assert row is not None
    assert row.source == 'iscsi:iqn.2010-10.org.openstack:volume-1/1'
