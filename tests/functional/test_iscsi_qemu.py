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

"""iSCSI by QEMU's own initiator, against a real target with CHAP."""

from collections.abc import Iterator
import pathlib
import socket

import pytest

from tests import rng
from tests.functional import network_sources
from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.drivers.iscsi import IscsiVolumeDriver
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing.guests import CooperatingGuest
from volumedrivers.testing.qemu_io import GuestIO
from volumedrivers.testing.tgt import IscsiTarget

PASSWORD = 'a-password-14'
MIB = 2**20


@pytest.fixture
def target(tmp_path: pathlib.Path) -> Iterator[IscsiTarget]:
    with IscsiTarget(tmp_path / 'target', size=16 * MIB, chap=('user', PASSWORD)) as started:
        yield started


@pytest.fixture
def context(hypervisor: Hypervisor, tmp_path: pathlib.Path) -> DriverContext:
    return network_sources.context(
        hypervisor,
        tmp_path,
        iscsi_client='qemu',
        iscsi_initiator_name='iqn.2020-01.test:host',
        endpoint_timeout=2.0,
    )


def secret_of(hypervisor: Hypervisor, attached: network_sources.Attached) -> str | None:
    return hypervisor.secrets.find(
        'iscsi', f'{attached.info.volume_id}/{network_sources.ATTACHMENT}'
    )


def fill(path: pathlib.Path, value: int, offset: int, length: int = 65536) -> None:
    with path.open('r+b') as image:
        image.seek(offset)
        image.write(bytes([value]) * length)


def holds(path: pathlib.Path, value: int, offset: int, length: int = 65536) -> bool:
    with path.open('rb') as image:
        image.seek(offset)
        return image.read(length) == bytes([value]) * length


def test_scsi_disk_with_chap(
    context: DriverContext, guest: Guest, guest_io: GuestIO, target: IscsiTarget
) -> None:
    fill(target.image, 0x11, 0)
    attached = network_sources.Attached(context, target.connection_info(), guest)

    disk = attached.attach('scsi')
    rng.validate_disk(disk.to_xml())
    assert target.sessions() == 1
    assert secret_of(guest.hypervisor, attached) is not None
    guest_io.read(attached.alias, 0x11, 0, 65536)
    guest_io.write(attached.alias, 0x5A, MIB, 65536)
    assert holds(target.image, 0x5A, MIB)

    target.grow(32 * MIB)
    attached.extend(32 * MIB)
    assert attached.size_in_qemu() == 32 * MIB
    guest_io.write(attached.alias, 0x77, 31 * MIB, 65536)
    assert holds(target.image, 0x77, 31 * MIB)

    attached.detach()
    assert guest.disks() == guest.disks(persistent=True) == ()
    assert target.sessions() == 0
    assert guest_io.node_names() == set()
    assert secret_of(guest.hypervisor, attached) is None


def test_linux_sees_a_virtio_disk_and_its_growth(
    context: DriverContext, linux_guest: CooperatingGuest, target: IscsiTarget
) -> None:
    fill(target.image, 0x41, 0)
    attached = network_sources.Attached(context, target.connection_info(), linux_guest.guest)
    attached.attach('virtio')
    serial = str(attached.info.serial)
    device = linux_guest.device_of(serial[:20])

    assert linux_guest.check(f'head -c 8 /dev/{device}') == 'A' * 8
    linux_guest.check(
        f'head -c 65536 /dev/zero | tr "\\000" "Z" | dd of=/dev/{device} bs=64k seek=1 '
        f'2>/dev/null && sync'
    )
    assert holds(target.image, ord('Z'), 65536)

    target.grow(24 * MIB)
    attached.extend(24 * MIB)
    assert int(linux_guest.check(f'cat /sys/block/{device}/size')) * 512 == 24 * MIB

    attached.detach()
    assert target.sessions() == 0
    assert linux_guest.guest.disks() == ()
    assert secret_of(linux_guest.guest.hypervisor, attached) is None


def test_wrong_password_is_refused_and_leaves_nothing(
    context: DriverContext, guest: Guest, guest_io: GuestIO, target: IscsiTarget
) -> None:
    wrong = 'not-this-one-1'
    attached = network_sources.Attached(context, target.connection_info(password=wrong), guest)
    with pytest.raises(exception.AttachRefused) as caught:
        attached.attach('scsi')
    assert wrong not in repr(caught.value) + repr(caught.value.__cause__)
    attached.disconnect()

    assert guest.disks() == guest.disks(persistent=True) == ()
    assert guest_io.node_names() == set()
    assert target.sessions() == 0
    assert secret_of(guest.hypervisor, attached) is None


def test_disconnect_may_be_called_again(
    context: DriverContext, guest: Guest, target: IscsiTarget
) -> None:
    attached = network_sources.Attached(context, target.connection_info(), guest)
    attached.disconnect()
    attached.attach('scsi')
    attached.detach()
    attached.disconnect()
    assert secret_of(guest.hypervisor, attached) is None


def test_two_guests_have_a_secret_each(
    context: DriverContext, guest: Guest, target: IscsiTarget
) -> None:
    attached = network_sources.Attached(context, target.connection_info(), guest)
    first = attached.driver.connect_volume(attached.info, 'first')
    second = attached.driver.connect_volume(attached.info, 'second')
    secrets = guest.hypervisor.secrets
    volume_id = attached.info.volume_id
    attached.driver.disconnect_volume(attached.info, 'first', volume=first)
    assert secrets.find('iscsi', f'{volume_id}/first') is None
    assert second.source is not None
    assert secrets.find('iscsi', f'{volume_id}/second') == second.source.secret_uuid
    attached.driver.disconnect_volume(attached.info, 'second', volume=second)
    assert secrets.find('iscsi', f'{volume_id}/second') is None


def test_silent_portal_is_refused_before_libvirt_hears_of_it(
    context: DriverContext, guest: Guest, target: IscsiTarget
) -> None:
    raw = target.connection_info()
    with socket.create_server(('127.0.0.1', 0)) as silent:
        raw['data']['target_portal'] = f'127.0.0.1:{silent.getsockname()[1]}'
        attached = network_sources.Attached(context, raw, guest)
        with pytest.raises(exception.EndpointUnreachable, match='no answer within 2 s'):
            attached.attach('scsi')
    assert guest.disks() == ()
    assert secret_of(guest.hypervisor, attached) is None


def test_portal_that_answers_is_used(
    context: DriverContext, guest: Guest, guest_io: GuestIO, target: IscsiTarget
) -> None:
    fill(target.image, 0x22, 0)
    raw = target.connection_info()
    with socket.create_server(('127.0.0.1', 0)) as closed:
        dead = f'127.0.0.1:{closed.getsockname()[1]}'
    raw['data'].update(
        target_portals=[dead, target.portal],
        target_iqns=[target.iqn, target.iqn],
        target_luns=[target.lun, target.lun],
        target_portal=dead,
    )
    attached = network_sources.Attached(context, raw, guest)
    attached.attach('scsi')
    assert attached.volume is not None
    assert attached.volume.degraded
    assert [path.name for path in attached.volume.paths.failed] == [dead]
    guest_io.read(attached.alias, 0x22, 0, 65536)
    attached.detach()


def test_secret_of_an_interrupted_connection_is_found_without_the_password(
    context: DriverContext, target: IscsiTarget
) -> None:
    driver = IscsiVolumeDriver(context)
    info = ConnectionInfo.parse(target.connection_info())
    redacted = ConnectionInfo.parse(info.to_dict())
    driver.connect_volume(info, 'killed')

    (found,) = driver.remains(redacted, 'killed')
    assert found.kind == 'secret'
    assert driver.remains(redacted, 'another') == ()
    assert driver.plan_disconnect(redacted, 'killed') == (
        f'undefine libvirt secret {found.name} ({found.detail})',
    )
    driver.disconnect_volume(redacted, 'killed')
    assert driver.remains(redacted, 'killed') == ()
