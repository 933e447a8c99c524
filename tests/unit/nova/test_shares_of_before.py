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

"""Shares that Nova had mounted before the switch, as real mounts; the tests run as root."""

from collections.abc import Iterator
import dataclasses
import os
import pathlib
import types
import typing

import nova.conf
from nova.virt.libvirt.volume import nfs as nova_nfs
import pytest

from tests.unit import fake_hypervisor as fake
from tests.unit import real_mounts
from tests.unit.network_fakes import FakeProbe
from tests.unit.test_users import file_disk
from volumedrivers.attachment.context import AttachmentContext
from volumedrivers.attachment.host_manager import HostManager
from volumedrivers.attachment.journal import Journal
from volumedrivers.attachment.users import Users
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import bootstrap
from volumedrivers.host import mount_table
from volumedrivers.host.fair_lock import FairLocks
from volumedrivers.host.share import Share
from volumedrivers.host.shares import ShareMounts
from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.drivers.nfs import NfsVolumeDriver
from volumedrivers.nova import drivers
from volumedrivers.nova import services
from volumedrivers.nova.adapter import NovaVolumeDriver

EXPORT = 'server.example:/export'
SIZE = 1 << 20


class TmpfsAsNfs(NfsVolumeDriver):
    """Takes a tmpfs for its file system."""

    API_VERSION = (1, 1)

    def make_share(self, connection_info: ConnectionInfo, data: typing.Any) -> Share:
        share = super().make_share(connection_info, data)
        return dataclasses.replace(share, mounted_fstypes=('tmpfs',))


@dataclasses.dataclass
class Room:
    """A host with one share, and two servers of Nova's with a volume each."""

    adapter: NovaVolumeDriver
    novas: typing.Any
    guests: dict[str, fake.FakeGuest]
    mounter: real_mounts.TmpfsMounter
    journal: Journal

    def info(self, guest: str) -> dict[str, typing.Any]:
        return {
            'driver_volume_type': 'nfs',
            'serial': f'volume-of-{guest}',
            'data': {'export': EXPORT, 'name': f'volume-{guest}'},
        }

    def attached_before(self, guest: str) -> dict[str, typing.Any]:
        """Attach a volume as Nova's own driver does."""
        info = self.info(guest)
        path = self.novas._get_device_path(info)
        place = os.path.dirname(path)
        if mount_table.find(place) is None:
            os.makedirs(place)
            real_mounts.mount_tmpfs(EXPORT, place)
        self.make_file(path)
        info['data']['device_path'] = path
        self.put_into_guest(guest, info)
        return info

    def make_file(self, path: str) -> None:
        with open(path, 'wb') as file:
            file.truncate(SIZE)

    def put_into_guest(self, guest: str, info: dict[str, typing.Any]) -> None:
        disk = file_disk(info['data']['device_path'], alias=f'ua-{info["serial"]}')
        self.guests[guest].present.append(disk)

    def instance(self, guest: str) -> typing.Any:
        return types.SimpleNamespace(uuid=self.guests[guest].uuid, name=guest)

    def detach(self, guest: str, info: dict[str, typing.Any]) -> None:
        self.guests[guest].present.clear()
        self.adapter.disconnect_volume(info, self.instance(guest))

    @property
    def is_mounted(self) -> bool:
        path = self.novas._get_device_path(self.info('a'))
        return mount_table.find(os.path.dirname(path)) is not None


@pytest.fixture
def room(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    base = str(tmp_path / 'mnt')
    monkeypatch.setattr(bootstrap, 'lock_path', lambda conf: str(tmp_path / 'locks'))
    nova.conf.CONF.set_override('nfs_mount_point_base', base, group='libvirt')
    conf = fake.make_conf()
    conf.set_override('nfs_mount_point_base', base, group='volumedrivers')
    conf.set_override('state_path', str(tmp_path / 'state'), group='volumedrivers')
    conf.set_override('mount_timeout', 5, group='volumedrivers')
    guests = {
        'a': fake.FakeGuest(fake.Calls(), 'a', fake.GUEST_UUID),
        'b': fake.FakeGuest(fake.Calls(), 'b', fake.OTHER_UUID),
    }
    hypervisor: typing.Any = fake.FakeHypervisor(*guests.values())
    journal = Journal(str(tmp_path / 'attachments.sqlite'))
    mounter = real_mounts.TmpfsMounter()
    shares = ShareMounts(
        conf,
        mounter=mounter,
        elsewhere=Users(journal, hypervisor).of_directory,
        takes_over=True,
    )
    driver = TmpfsAsNfs(
        DriverContext(
            conf=conf,
            devices=typing.cast(typing.Any, fake.FakeDevices()),
            shares=shares,
            endpoints=typing.cast(typing.Any, FakeProbe()),
        )
    )
    registry: typing.Any = types.SimpleNamespace(
        get=lambda name: driver, why_not=lambda name: None, context=driver.context
    )
    context = AttachmentContext(
        options=conf.volumedrivers,
        registry=registry,
        hypervisor=hypervisor,
        journal=journal,
        locks=FairLocks(str(tmp_path / 'fair')),
        encryptor=typing.cast(typing.Any, fake.FakeEncryptor(fake.Calls())),
    )
    manager = HostManager(context, services.MANAGER)
    secrets: typing.Any = types.SimpleNamespace(find=lambda usage, name: None)
    services.use(services.Services(conf, registry, manager, secrets))
    adapter = getattr(drivers, 'LibvirtVolumeDriver_nfs')(None)  # noqa: B009
    yield Room(adapter, nova_nfs.LibvirtNFSVolumeDriver(None), guests, mounter, journal)
    services.use(None)
    nova.conf.CONF.clear_override('nfs_mount_point_base', group='libvirt')
    real_mounts.remove_all_below(tmp_path)


def test_last_volume_of_before_unmounts(room: Room) -> None:
    first, second = room.attached_before('a'), room.attached_before('b')
    room.detach('a', first)
    assert room.is_mounted
    room.detach('b', second)
    assert not room.is_mounted
    assert not os.path.exists(os.path.dirname(first['data']['device_path']))
    assert room.mounter.count('unmount') == 1


@pytest.mark.parametrize('first', ['a', 'b'])
def test_volumes_of_before_and_after(room: Room, first: str) -> None:
    infos = {'a': room.attached_before('a'), 'b': room.info('b')}
    room.make_file(room.novas._get_device_path(infos['b']))
    room.adapter.connect_volume(infos['b'], room.instance('b'))
    room.put_into_guest('b', infos['b'])
    # Where Nova's own driver has it, so that it can go on from there.
    assert infos['b']['data']['device_path'] == room.novas._get_device_path(infos['b'])
    assert room.mounter.count('mount') == 0

    room.detach(first, infos.pop(first))
    assert room.is_mounted
    ((last, info),) = infos.items()
    room.detach(last, info)
    assert not room.is_mounted
    assert room.journal.find() == ()


def test_server_that_is_deleted(room: Room) -> None:
    """Nova takes its volumes off the host while libvirt still has its definition."""
    info = room.attached_before('a')
    room.guests['a'].running = False
    room.adapter.disconnect_volume(info, room.instance('a'), force=True)
    assert not room.is_mounted


def test_server_that_is_rebooted_hard(room: Room) -> None:
    info = room.attached_before('a')
    other = room.attached_before('b')
    room.guests['a'].running = False
    room.adapter.disconnect_volume(info, room.instance('a'), force=True)
    assert room.is_mounted
    room.adapter.connect_volume(info, room.instance('a'))
    room.guests['a'].running = True
    (row,) = room.journal.find()
    assert row.source == info['data']['device_path']
    room.detach('b', other)
    assert room.is_mounted
    room.detach('a', info)
    assert not room.is_mounted


def test_directory_of_a_share_of_manilas_keeps_it(room: Room) -> None:
    info = room.attached_before('a')
    place = os.path.dirname(info['data']['device_path'])
    room.guests['b'].others.append(
        f"<filesystem><driver type='virtiofs'/><source dir='{place}'/></filesystem>"
    )
    room.detach('a', info)
    assert room.is_mounted


def test_running_guest_keeps_its_own(room: Room) -> None:
    info = room.attached_before('a')
    with pytest.raises(Exception, match='runs and has it'):
        room.adapter.disconnect_volume(info, room.instance('a'))
    assert room.is_mounted
