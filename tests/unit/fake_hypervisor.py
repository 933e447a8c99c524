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

"""Guests, drivers and a registry that keep in memory what was done to them."""

import dataclasses
import types
import typing

from volumedrivers import exception
from volumedrivers.libvirt import target_names
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import FailedPath
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import PathReport
from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.disk import Driver
from volumedrivers.libvirt.disk import Source
from volumedrivers.libvirt.disk import Target

VOLUME_ID = 'c1b2d3e4-0001-4aaa-8bbb-000000000001'
OTHER_ID = 'c1b2d3e4-0002-4aaa-8bbb-000000000002'
GUEST_UUID = '00000000-0000-4000-8000-00000000000a'
OTHER_UUID = '00000000-0000-4000-8000-00000000000b'
PATH = '/dev/disk/by-id/wwn-0x1'
GIB = 2**30


@dataclasses.dataclass
class Journal:
    """What was called, in order; and what shall fail.

    :ivar fail: the error that a call of this name raises
    """

    calls: list[str] = dataclasses.field(default_factory=list)
    fail: dict[str, BaseException] = dataclasses.field(default_factory=dict)

    def note(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fail:
            raise self.fail[name]


class FakeGuest:
    """Enough of volumedrivers.libvirt.guest.Guest."""

    def __init__(self, journal: Journal, name: str = 'web1', uuid: str = GUEST_UUID) -> None:
        self.journal = journal
        self.name = name
        self.uuid = uuid
        self.present: list[Disk] = []
        self.defined: list[Disk] | None = None  # where the persistent definition differs
        self.running = True
        self.when_idle: typing.Callable[[], None] = lambda: None

    def is_running(self) -> bool:
        return self.running

    def wait_until_idle(self) -> None:
        self.when_idle()

    def disks(self, *, persistent: bool = False) -> tuple[Disk, ...]:
        if 'disks' in self.journal.fail:
            raise self.journal.fail['disks']
        if persistent and self.defined is not None:
            return tuple(self.defined)
        return tuple(self.present)

    def all_disks(self) -> tuple[Disk, ...]:
        return self.disks() + self.disks(persistent=True)

    def free_target(self, bus: str, *, prefix: str | None = None) -> str:
        taken = [disk.target.dev or '' for disk in self.present if disk.target is not None]
        return target_names.first_free_name(bus, taken)

    def next_scsi_unit(self) -> int:
        return len(self.present)

    def definitions(self) -> typing.Any:
        return types.SimpleNamespace(names=self.names)

    def attach_disk(self, disk: Disk, *, seen: typing.Any = None) -> None:
        self.journal.note('attach_disk')
        self.present.append(disk)

    def detach_disk(self, **options: typing.Any) -> None:
        self.journal.note('detach_disk')
        self.detach_options = options
        kept = [disk for disk in self.present if disk.alias != options['alias']]
        if len(kept) == len(self.present):
            raise exception.DiskNotFound(guest=self.name, disk=str(options['alias']))
        self.present = kept

    def resize_disk(self, target: str, size: int) -> None:
        self.journal.note(f'resize_disk {target} {size}')


class FakeHypervisor:
    """Enough of volumedrivers.libvirt.hypervisor.Hypervisor."""

    uri = 'fake:///'
    secrets = None

    def __init__(self, *guests: FakeGuest) -> None:
        self._guests = guests

    def guest(self, name: str) -> FakeGuest:
        for guest in self._guests:
            if name in (guest.name, guest.uuid):
                return guest
        raise exception.GuestNotFound(guest=name, uri=self.uri)

    def guests(self) -> tuple[FakeGuest, ...]:
        return self._guests

    def close(self) -> None:
        pass


class FakeDevices:
    """Enough of volumedrivers.host.block_device.BlockDevices."""

    def stable_path(self, path: str, *, wait: float = 5.0) -> str | None:
        return path if path.startswith('/dev/disk/') else None

    def identity(self, path: str) -> tuple[str, str] | None:
        return ('wwn', '3600')

    def size(self, path: str) -> int:
        raise exception.VolumeNotConnected(volume_id=None)


class FakeDriver:
    """A driver of a block protocol."""

    CAPABILITIES = frozenset(())

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.failed_paths: tuple[FailedPath, ...] = ()
        self.size = GIB
        self.source_type: typing.Literal['block', 'file'] = 'block'

    def connect_volume(self, info: typing.Any, attachment: str) -> ConnectedVolume:
        self.journal.note('connect')
        self.attachment = attachment
        return ConnectedVolume(
            driver_volume_type='iscsi',
            volume_id=info.volume_id,
            source_type=self.source_type,
            path=PATH,
            identity=Identity('wwn', '3600'),
            paths=PathReport(2, 2 - len(self.failed_paths), self.failed_paths),
        )

    def disconnect_volume(self, info: typing.Any, attachment: str, **options: typing.Any) -> None:
        self.journal.note('disconnect')
        self.attachment = attachment
        self.disconnect_options = options

    def extend_volume(
        self, info: typing.Any, attachment: str, size: int, **options: typing.Any
    ) -> int:
        self.journal.note('extend')
        return self.size

    def get_disk(self, info: typing.Any, volume: ConnectedVolume, disk_info: typing.Any) -> Disk:
        self.journal.note('get_disk')
        self.disk_info = disk_info
        return make_disk(info.volume_id, disk_info.dev, bus=disk_info.bus)


class FakeRegistry:
    """One driver for everything."""

    def __init__(self, driver: FakeDriver) -> None:
        self.driver = driver
        self.context = types.SimpleNamespace(devices=FakeDevices())

    def get(self, driver_volume_type: str) -> FakeDriver:
        return self.driver


def make_disk(
    volume_id: str | None, target: str, *, bus: str = 'virtio', path: str = PATH
) -> Disk:
    return Disk(
        type='block',
        device='disk',
        driver=Driver(name='qemu', type='raw'),
        source=Source(dev=path),
        target=Target(dev=target, bus=bus),
        alias=None if volume_id is None else f'ua-{volume_id}',
        serial=volume_id,
    )


def connection_info(volume_id: str = VOLUME_ID) -> dict[str, typing.Any]:
    return {
        'driver_volume_type': 'iscsi',
        'serial': volume_id,
        'data': {
            'volume_id': volume_id,
            'target_portal': '192.0.2.1:3260',
            'target_iqn': 'iqn.2010-10.org.openstack:volume-1',
            'target_lun': 1,
            'auth_method': 'CHAP',
            'auth_username': 'chapuser',
            'auth_password': 'chapsecret-99',
        },
    }
