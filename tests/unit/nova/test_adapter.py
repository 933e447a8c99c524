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
from volumedrivers.libvirt.connected_volume import Identity
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
