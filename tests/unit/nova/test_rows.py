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

"""What audit, list, recover and the operations for guests make of Nova's rows."""

import dataclasses
import typing

import pytest

from tests.unit import fake_hypervisor as fake
from tests.unit.nova.conftest import Host
from volumedrivers import exception
from volumedrivers.attachment import host_volume
from volumedrivers.attachment.host_volume import HostGuest
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.record import Record
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.disk import IOTune

GUEST = HostGuest(fake.GUEST_UUID, 'instance-1')
INFO = ConnectionInfo.parse(fake.connection_info())


@pytest.fixture
def manager(host: Host) -> AttachmentManager:
    """The one of the command line, with a volume that Nova has attached."""
    host.manager.connect(INFO, GUEST)
    host.guest.present.append(fake.make_disk(fake.VOLUME_ID, 'vdb'))
    host.fakes.calls.clear()
    return AttachmentManager(host.manager.context)


def put(host: Host, **changes: typing.Any) -> Record:
    row = host.row()
    assert row is not None
    return host.journal.put(dataclasses.replace(row, **changes))


def test_list_shows_it_and_whose_it_is(manager: AttachmentManager) -> None:
    (found,) = manager.list('instance-1')
    assert (found.state, found.target) == ('attached', 'vdb')
    assert found.record is not None
    assert found.record.manager == 'nova'


@pytest.mark.parametrize(
    'change',
    [
        lambda manager: manager.attach(INFO, 'instance-1'),
        lambda manager: manager.extend('instance-1', 'vdb', fake.GIB),
        lambda manager: manager.set_qos('instance-1', 'vdb', IOTune(total_iops_sec=5)),
        lambda manager: manager.reconnect('instance-1', fake.VOLUME_ID, connection_info=INFO),
        lambda manager: manager.refresh('instance-1', 'vdb', INFO),
        lambda manager: manager.plan.extend('instance-1', 'vdb', fake.GIB),
    ],
    ids=['attach', 'extend', 'qos', 'reconnect', 'refresh', 'dry run'],
)
def test_guest_is_not_changed_behind_novas_back(
    host: Host,
    manager: AttachmentManager,
    change: typing.Callable[[AttachmentManager], object],
) -> None:
    with pytest.raises(exception.ManagedElsewhere, match='managed by nova'):
        change(manager)
    assert host.calls == []
    row = host.row()
    assert row is not None
    assert row.is_settled


def test_detach_is_refused_while_the_guest_runs_with_it(
    host: Host, manager: AttachmentManager
) -> None:
    with pytest.raises(exception.StillInUse):
        manager.detach('instance-1', 'vdb')
    assert host.calls == []


def test_detach_takes_what_nova_left_off_the_host(host: Host, manager: AttachmentManager) -> None:
    """Such as a volume whose attach failed after it was connected."""
    host.guest.present.clear()
    planned = manager.plan.detach(fake.GUEST_UUID, fake.VOLUME_ID)
    assert [step.name for step in planned.steps] == ['look', 'disconnect', 'prove', 'record']
    assert host.calls == []

    manager.detach(fake.GUEST_UUID, fake.VOLUME_ID)
    assert host.calls == ['disconnect']
    assert host.row() is None


def test_paths_may_be_repaired(host: Host, manager: AttachmentManager) -> None:
    row = host.row()
    assert row is not None
    assert row.volume is not None
    put(host, volume=dataclasses.replace(row.volume, paths=type(row.volume.paths)(3, 2)))
    manager.repair('instance-1', fake.VOLUME_ID, connection_info=INFO)
    assert host.calls == ['connect']
    row = host.row()
    assert row is not None
    assert row.manager == 'nova'


def test_reboot_is_novas_to_make_good(host: Host, manager: AttachmentManager) -> None:
    put(host, boot_id='earlier')
    assert manager.recover() == ()
    assert manager.plan.recover() == ()
    assert host.calls == []

    # Hard reboot disconnects, and connects again.
    host.guest.running = False
    host.manager.disconnect(INFO, GUEST, force=True)
    host.manager.connect(INFO, GUEST)
    row = host.row()
    assert row is not None
    assert row.boot_id == host.manager.context.boot_id


@pytest.mark.parametrize('step', ['connect', 'identify', 'undo connect'])
def test_interrupted_connect_is_undone(host: Host, manager: AttachmentManager, step: str) -> None:
    host.guest.present.clear()
    put(host, operation=Operation.ATTACH, step=step, was_attached=False)
    assert [one.action for one in manager.plan.recover()] == ['undone']
    assert [one.action for one in manager.recover()] == ['undone']
    assert host.calls == ['disconnect']
    assert host.row() is None


def test_interrupted_connect_of_what_the_guest_has_is_kept(
    host: Host, manager: AttachmentManager
) -> None:
    put(host, operation=Operation.ATTACH, step='record', was_attached=False)
    assert [one.action for one in manager.recover()] == ['finished']
    assert host.calls == []
    row = host.row()
    assert row is not None
    assert row.is_settled


def test_interrupted_disconnect_is_finished(host: Host, manager: AttachmentManager) -> None:
    host.guest.present.clear()
    put(host, operation=Operation.DETACH, step='disconnect', wanted={'force': True})
    (planned,) = manager.plan.recover()
    assert [step.name for step in planned.steps] == ['look', 'disconnect', 'prove', 'record']
    assert [one.action for one in manager.recover()] == ['finished']
    assert host.driver.disconnect_options['force'] is True
    assert host.row() is None


def test_interrupted_disconnect_under_a_running_guest_is_not_finished(
    host: Host, manager: AttachmentManager
) -> None:
    put(host, operation=Operation.DETACH, step='disconnect')
    (outcome,) = manager.recover()
    assert outcome.action == 'failed'
    assert 'runs and has it' in outcome.detail
    assert host.calls == []


def test_interrupted_extend_is_done_again_on_the_host_alone(
    host: Host, manager: AttachmentManager
) -> None:
    put(host, operation=Operation.EXTEND, step='extend', wanted={'size': fake.GIB})
    (planned,) = manager.plan.recover()
    assert [step.name for step in planned.steps] == ['identify', 'extend', 'record']
    assert [one.action for one in manager.recover()] == ['finished']
    assert host.calls == ['extend']
    row = host.row()
    assert row is not None
    assert row.is_settled


def test_interrupted_extend_of_an_earlier_boot_is_given_up(
    host: Host, manager: AttachmentManager
) -> None:
    put(
        host,
        operation=Operation.EXTEND,
        step='extend',
        wanted={'size': 5},
        was_attached=True,
        boot_id='earlier',
    )
    assert [one.action for one in manager.recover()] == ['undone']
    assert host.calls == []


def test_connect_after_a_crash_settles_it_first(host: Host, manager: AttachmentManager) -> None:
    host.guest.present.clear()
    put(host, operation=Operation.DETACH, step='disconnect')
    host.manager.connect(INFO, GUEST)
    assert host.calls == ['disconnect', 'connect']


def test_place_is_known_without_what_a_host_has_found() -> None:
    raw = fake.connection_info()
    raw['data'] |= {'device_path': '/dev/sdc', 'multipath_id': '3600', 'access_mode': 'rw'}
    shown = host_volume.without_results(ConnectionInfo.parse(raw))
    assert 'device_path' not in shown['data']
    assert shown['data']['access_mode'] == 'rw'


def test_path_of_a_local_device_is_cinders() -> None:
    raw = {'driver_volume_type': 'local', 'serial': 'v', 'data': {'device_path': '/dev/sdc'}}
    assert host_volume.without_results(ConnectionInfo.parse(raw))['data'] == raw['data']
