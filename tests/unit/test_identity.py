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


"""What a device is counts, and not what it is called: two known security holes.

OSSA-2023-003 (CVE-2023-2088): a LUN is given to another volume while this host
still has its device.  OSSA-2020-006 (CVE-2020-17376): the definition of a guest
names the device of another one's volume.  The drivers, the journal and the
locks are real; os-brick, libvirt and the kernel are made up.
"""

import dataclasses
import pathlib
import typing

import pytest

from tests.unit import fake_hypervisor as fake
from tests.unit import made_up_host
from tests.unit.fake_brick import FakeBrick
from tests.unit.network_fakes import FakeProbe
from volumedrivers import exception
from volumedrivers.attachment.context import AttachmentContext
from volumedrivers.attachment.journal import Journal
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import boot
from volumedrivers.host import bootstrap
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.host.fair_lock import FairLocks
from volumedrivers.libvirt import block_leftovers
from volumedrivers.libvirt.disk import IOTune
from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.registry import Registry
from volumedrivers.testing.shares import FakeShareMounts

WWN_A = '60014051111111111111111111111111'
WWN_B = '60014052222222222222222222222222'


class Host:
    """A host with a manager, two guests, and the disks that a test puts there."""

    def __init__(self, directory: pathlib.Path, brick: FakeBrick) -> None:
        self.kernel = made_up_host.MadeUpHost(directory)
        self.brick = brick
        self.calls = fake.Calls()
        self.guest = fake.FakeGuest(self.calls)
        self.other = fake.FakeGuest(self.calls, 'web2', fake.OTHER_UUID)
        conf = fake.make_conf()
        conf.set_override('device_name_timeout', 0, 'volumedrivers')
        devices = BlockDevices(
            sysfs=str(self.kernel.sysfs), dev=str(self.kernel.dev), udev=str(self.kernel.udev)
        )
        drivers = DriverContext(
            conf=conf,
            devices=devices,
            shares=FakeShareMounts(),
            endpoints=FakeProbe(),
        )
        self.manager = AttachmentManager(
            AttachmentContext(
                options=conf.volumedrivers,
                registry=Registry(drivers),
                hypervisor=typing.cast(typing.Any, fake.FakeHypervisor(self.guest, self.other)),
                journal=Journal(str(directory / 'attachments.sqlite')),
                locks=FairLocks(str(directory / 'locks')),
                encryptor=typing.cast(typing.Any, fake.FakeEncryptor(self.calls)),
            )
        )

    def disk(self, name: str, wwn: str) -> str:
        """Let os-brick find a disk; return its lasting name."""
        link = f'disk/by-id/wwn-0x{wwn}'
        path = self.kernel.device(name, links=[link], device__wwid=f'naa.{wwn}', size=fake.GIB)
        self.brick.found = {'type': 'block', 'path': path}
        return str(self.kernel.dev / link)

    def becomes(self, name: str, wwn: str) -> None:
        """Let the storage put another volume behind a disk that stays there."""
        self.kernel.write(f'block/{name}/device/wwid', f'naa.{wwn}\n')

    def removals(self) -> list[typing.Any]:
        return [call for call in self.brick.calls if call[0] == 'disconnect']


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    brick = FakeBrick()
    connector = bootstrap.load_os_brick()
    monkeypatch.setattr(connector.InitiatorConnector, 'factory', staticmethod(brick.factory))
    monkeypatch.setattr(block_leftovers, 'REMOVAL_TIME', 0.0)
    return Host(tmp_path, brick)


def info_of(volume_id: str, lun: int = 1) -> ConnectionInfo:
    raw = fake.connection_info(volume_id)
    raw['data']['target_lun'] = lun
    return ConnectionInfo.parse(raw)


A = info_of(fake.VOLUME_ID)
B = info_of(fake.OTHER_ID)


def test_lun_that_was_reused_is_not_given_to_the_next_volume(host: Host) -> None:
    """os-brick finds the device that the first volume left, with its identity."""
    host.disk('sdb', WWN_A)
    host.manager.attach(A, 'web1')

    with pytest.raises(exception.IdentityMismatch) as caught:
        host.manager.attach(B, 'web2')

    assert WWN_A in str(caught.value)
    assert fake.VOLUME_ID in str(caught.value)
    assert host.other.present == []
    assert [record.volume_id for record in host.manager.context.journal.find()] == [
        fake.VOLUME_ID,
    ]
    assert host.removals() == []


def test_lun_that_was_reused_is_not_removed(host: Host) -> None:
    host.disk('sdb', WWN_A)
    host.manager.attach(A, 'web1')
    host.becomes('sdb', WWN_B)

    for _ in range(2):
        with pytest.raises(exception.IdentityMismatch) as caught:
            host.manager.detach('web1', fake.VOLUME_ID)
        assert WWN_A in str(caught.value)
        assert WWN_B in str(caught.value)

    assert host.removals() == []
    # The guest does not keep a disk that is another tenant's.
    assert host.guest.present == []
    (record,) = host.manager.context.journal.find()
    assert WWN_B in record.problem


def test_recover_does_not_remove_a_lun_that_was_reused(host: Host) -> None:
    host.disk('sdb', WWN_A)
    host.manager.attach(A, 'web1')
    host.becomes('sdb', WWN_B)
    with pytest.raises(exception.IdentityMismatch):
        host.manager.detach('web1', fake.VOLUME_ID)

    (outcome,) = host.manager.recover()

    assert outcome.action == 'failed'
    assert WWN_A in outcome.detail
    assert WWN_B in outcome.detail
    assert host.removals() == []


def test_lun_that_was_reused_does_not_grow(host: Host) -> None:
    host.disk('sdb', WWN_A)
    host.manager.attach(A, 'web1')
    host.becomes('sdb', WWN_B)

    with pytest.raises(exception.IdentityMismatch):
        host.manager.extend('web1', fake.VOLUME_ID, 2 * fake.GIB)

    assert [call for call in host.brick.calls if call[0] == 'extend'] == []
    assert not any(call.startswith('resize') for call in host.calls.calls)


def test_device_that_changes_before_the_guest_gets_it_is_refused(host: Host) -> None:
    host.disk('sdb', WWN_A)

    def change(operation: str, step: str, moment: str) -> None:
        if (step, moment) == ('connect', 'after'):
            host.becomes('sdb', WWN_B)

    object.__setattr__(host.manager.context, 'observer', change)
    with pytest.raises(exception.IdentityMismatch) as caught:
        host.manager.attach(A, 'web1')

    assert WWN_A in str(caught.value)
    assert WWN_B in str(caught.value)
    assert host.guest.present == []
    assert host.removals() == []  # it is somebody else's


def test_guest_whose_disk_is_another_ones_device_is_not_believed(host: Host) -> None:
    """Only the volume's own device is removed, whatever the definition names."""
    path_b = host.disk('sdc', WWN_B)
    host.manager.attach(B, 'web2')
    path_a = host.disk('sdb', WWN_A)
    host.manager.attach(A, 'web1')
    host.guest.present = [fake.make_disk(fake.VOLUME_ID, 'vda', path=path_b)]

    with pytest.raises(exception.IdentityMismatch) as caught:
        host.manager.attach(A, 'web1')
    assert path_a in str(caught.value)
    assert path_b in str(caught.value)

    host.kernel.remove('sdb')  # as os-brick would, if it were real
    host.manager.detach('web1', fake.VOLUME_ID)
    assert host.guest.present == []
    (removal,) = host.removals()
    assert removal[1].get('device_path') != path_b
    assert [disk.path for disk in host.other.present] == [path_b]


def test_unrecorded_disk_that_is_another_ones_device_is_left_alone(host: Host) -> None:
    """As after a migration: the definition names what is somebody else's here."""
    path_b = host.disk('sdc', WWN_B)
    host.manager.attach(B, 'web2')
    host.other.present = []  # not even the other guest's definition tells
    host.guest.present = [fake.make_disk(fake.VOLUME_ID, 'vda', path=path_b)]

    with pytest.raises(exception.IdentityMismatch) as caught:
        host.manager.detach('web1', connection_info=A)

    assert fake.OTHER_ID in str(caught.value)
    assert host.removals() == []


@pytest.mark.parametrize('operation', ['attach', 'extend', 'set_qos'])
def test_nor_is_it_believed_to_be_the_volume(host: Host, operation: str) -> None:
    """It is not attached already, and not grown or limited in its stead."""
    path_b = host.disk('sdc', WWN_B)
    host.manager.attach(B, 'web2')
    host.guest.present = [fake.make_disk(fake.VOLUME_ID, 'vda', path=path_b)]
    before = list(host.calls.calls), list(host.brick.calls)

    manager = host.manager
    operate = {
        'attach': lambda: manager.attach(A, 'web1'),
        'extend': lambda: manager.extend('web1', None, 2 * fake.GIB, connection_info=A),
        'set_qos': lambda: manager.set_qos(
            'web1', None, IOTune(read_iops_sec=1), connection_info=A
        ),
    }[operation]
    with pytest.raises(exception.IdentityMismatch) as caught:
        operate()

    assert fake.OTHER_ID in str(caught.value)
    assert (host.calls.calls, host.brick.calls) == before


def test_reconnect_refuses_a_definition_that_names_another_device(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    path_b = host.disk('sdc', WWN_B)
    path_a = host.disk('sdb', WWN_A)
    host.manager.attach(A, 'web1', DiskRequest(target='vdb'))
    monkeypatch.setattr(boot, 'current', lambda: 'another-boot')
    host.guest.running = False
    host.guest.present = [fake.make_disk(fake.VOLUME_ID, 'vdb', path=path_b)]

    with pytest.raises(exception.IdentityMismatch) as caught:
        host.manager.reconnect('web1', fake.VOLUME_ID, connection_info=A)

    assert path_a in str(caught.value)
    assert path_b in str(caught.value)


def killed_while_connecting(host: Host) -> None:
    """Leave the row of an attach that does not know what it connected."""
    host.disk('sdb', WWN_A)
    host.manager.attach(A, 'web1')
    host.guest.present = []
    (record,) = host.manager.context.journal.find()
    host.manager.context.journal.put(
        dataclasses.replace(
            record,
            operation=Operation.ATTACH,
            step='connect',
            was_attached=False,
            target=None,
            source='',
            volume=None,
        )
    )
    host.kernel.remove('sdb')


def lun_of_a_is_b(host: Host) -> str:
    """Let the LUN that the connection_info of A names be B's by now."""
    path = host.disk('sdc', WWN_B)
    data = A.to_connector()
    host.kernel.session(1, data['target_portal'], data['target_iqn'], lun1='sdc')
    return path


@pytest.mark.parametrize('interrupted', [False, True])
def test_what_nobody_recorded_is_not_removed_if_it_is_another_volume(
    host: Host, interrupted: bool
) -> None:
    """Only the LUN tells which device is A's, and by now it is B's."""
    if interrupted:
        killed_while_connecting(host)
    lun_of_a_is_b(host)
    host.manager.attach(B, 'web2')

    if interrupted:
        (outcome,) = host.manager.recover()
        assert outcome.action == 'failed'
        assert fake.OTHER_ID in outcome.detail
    with pytest.raises(exception.IdentityMismatch) as caught:
        host.manager.detach('web1', connection_info=A)

    assert WWN_B in str(caught.value)
    assert fake.OTHER_ID in str(caught.value)
    assert host.removals() == []


def test_nor_if_a_guest_has_it_that_was_not_recorded(host: Host) -> None:
    lun_of_a_is_b(host)
    host.other.present = [fake.make_disk(fake.OTHER_ID, 'vda', path=str(host.kernel.dev / 'sdc'))]

    assert host.manager.detach('web1', connection_info=A).still_used_by == ('web2',)
    assert host.removals() == []


def test_nor_if_it_has_its_name_since_the_last_boot(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_while_connecting(host)
    monkeypatch.setattr(boot, 'current', lambda: 'another-boot')
    lun_of_a_is_b(host)
    host.manager.attach(B, 'web2')

    (outcome,) = host.manager.recover()

    assert outcome.action == 'undone'
    assert host.removals() == []


def test_interrupted_connect_does_not_remove_another_volume(host: Host) -> None:
    lun_of_a_is_b(host)
    host.manager.attach(B, 'web2')
    host.brick.raises['connect'] = KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        host.manager.attach(A, 'web1')

    assert host.removals() == []
