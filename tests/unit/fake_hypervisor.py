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
import pathlib
import types
import typing

from lxml import etree
from oslo_config import cfg

from volumedrivers import exception
from volumedrivers.attachment.context import AttachmentContext
from volumedrivers.attachment.context import Observer
from volumedrivers.attachment.journal import Journal
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.attachment.record import Opened
from volumedrivers.conf import opts
from volumedrivers.host.block_device import DevicePaths
from volumedrivers.host.fair_lock import FairLocks
from volumedrivers.libvirt import guest_sources
from volumedrivers.libvirt import target_names
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import FailedPath
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import PathReport
from volumedrivers.libvirt.connected_volume import Remainder
from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.disk import Driver
from volumedrivers.libvirt.disk import IOTune
from volumedrivers.libvirt.disk import Source
from volumedrivers.libvirt.disk import Target

VOLUME_ID = 'c1b2d3e4-0001-4aaa-8bbb-000000000001'
OTHER_ID = 'c1b2d3e4-0002-4aaa-8bbb-000000000002'
GUEST_UUID = '00000000-0000-4000-8000-00000000000a'
OTHER_UUID = '00000000-0000-4000-8000-00000000000b'
PATH = '/dev/disk/by-id/wwn-0x1'
SECRET_UUID = '00000000-0000-4000-8000-00000000005e'
GIB = 2**30


@dataclasses.dataclass
class Calls:
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

    def __init__(self, fakes: Calls, name: str = 'web1', uuid: str = GUEST_UUID) -> None:
        self.fakes = fakes
        self.name = name
        self.uuid = uuid
        self.present: list[Disk] = []
        self.defined: list[Disk] | None = None  # where the persistent definition differs
        self.running = True
        self.others: list[str] = []  # devices that are no disks
        self.limits = IOTune()
        self.when_idle: typing.Callable[[], None] = lambda: None

    def is_running(self) -> bool:
        return self.running

    def wait_until_idle(self) -> None:
        self.when_idle()

    def disks(self, *, persistent: bool = False) -> tuple[Disk, ...]:
        if 'disks' in self.fakes.fail:
            raise self.fakes.fail['disks']
        if persistent and self.defined is not None:
            return tuple(self.defined)
        return tuple(self.present)

    def all_disks(self) -> tuple[Disk, ...]:
        return self.disks() + self.disks(persistent=True)

    def sources(self) -> guest_sources.GuestSources:
        if 'disks' in self.fakes.fail:
            raise self.fakes.fail['disks']
        defined = self.present if self.defined is None else self.defined
        roots = []
        for live, disks in ((True, self.present), (False, defined)):
            if live and not self.running:
                continue
            root = etree.Element('domain', {'id': '1'} if live else {})
            etree.SubElement(root, 'name').text = self.name
            etree.SubElement(root, 'uuid').text = self.uuid
            devices = etree.SubElement(root, 'devices')
            devices.extend([etree.fromstring(disk.to_xml()) for disk in disks])
            devices.extend([etree.fromstring(other) for other in self.others])
            roots.append(root)
        return guest_sources.of_definitions(roots, is_persistent=True)

    def names(self) -> target_names.Names:
        targets = [disk.target for disk in self.present if disk.target is not None]
        return target_names.Names(
            targets=frozenset(target.dev or '' for target in targets),
            scsi_units=frozenset(range(sum(target.bus == 'scsi' for target in targets))),
        )

    def definitions(self) -> typing.Any:
        return types.SimpleNamespace(names=self.names, disks=self.all_disks)

    def attach_disk(self, disk: Disk, *, seen: typing.Any = None) -> None:
        self.fakes.note('attach_disk')
        self.present.append(disk)

    def detach_disk(self, **options: typing.Any) -> None:
        self.fakes.note('detach_disk')
        self.detach_options = options
        kept = [disk for disk in self.present if disk.alias != options['alias']]
        if len(kept) == len(self.present):
            raise exception.DiskNotFound(guest=self.name, disk=str(options['alias']))
        self.present = kept

    def redefine_disk(self, disk: Disk) -> bool:
        self.fakes.note('redefine_disk')
        defined = self.present if self.defined is None else self.defined
        targets = [each.target.dev if each.target else None for each in defined]
        defined[targets.index(disk.target.dev if disk.target else None)] = disk
        return True

    def resize_disk(self, target: str, size: int) -> None:
        self.fakes.note(f'resize_disk {target} {size}')

    def iotune(self, target: str) -> IOTune:
        return self.limits

    def set_iotune(self, target: str, iotune: IOTune) -> None:
        self.fakes.note(f'set_iotune {target}')
        self.limits = iotune


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

    failed: tuple[tuple[str, str], ...] = ()

    def stable_path(self, path: str, *, wait: float = 5.0) -> str | None:
        return path if path.startswith('/dev/disk/') else None

    def identity(self, path: str) -> tuple[str, str] | None:
        return ('wwn', '3600')

    def size(self, path: str) -> int:
        raise exception.VolumeNotConnected(volume_id=None)

    def paths(self, path: str) -> DevicePaths:
        return DevicePaths(('sda', 'sdb'), self.failed)


class FakeDriver:
    """A driver of a block protocol."""

    CAPABILITIES = frozenset(())

    def __init__(self, fakes: Calls) -> None:
        self.fakes = fakes
        self.failed_paths: tuple[FailedPath, ...] = ()
        self.size = GIB
        self.source_type: typing.Literal['block', 'file'] = 'block'
        self.identity: Identity | None = Identity('wwn', '3600')
        self.left: list[Remainder] = []

    def lock_names(self, info: typing.Any, **options: typing.Any) -> tuple[str, ...]:
        return ('iscsi 192.0.2.1:3260',)

    def current_identity(self, info: typing.Any, volume: ConnectedVolume) -> Identity | None:
        self.fakes.note('current_identity')
        return self.identity

    def remains(
        self, info: typing.Any, attachment: str, **options: typing.Any
    ) -> tuple[Remainder, ...]:
        self.fakes.note('remains')
        return tuple(self.left)

    def plan_connect(self, info: typing.Any, attachment: str) -> tuple[str, ...]:
        return ('log in to 192.0.2.1:3260',)

    def plan_disconnect(
        self, info: typing.Any, attachment: str, *, volume: ConnectedVolume | None = None
    ) -> tuple[str, ...]:
        return (f'flush {PATH}', 'log out of 192.0.2.1:3260')

    def connect_volume(self, info: typing.Any, attachment: str) -> ConnectedVolume:
        self.fakes.note('connect')
        self.attachment = attachment
        return ConnectedVolume(
            driver_volume_type='iscsi',
            volume_id=info.volume_id,
            source_type=self.source_type,
            path=PATH,
            identity=self.identity,
            paths=PathReport(2, 2 - len(self.failed_paths), self.failed_paths),
        )

    def disconnect_volume(self, info: typing.Any, attachment: str, **options: typing.Any) -> None:
        self.fakes.note('disconnect')
        self.attachment = attachment
        self.disconnect_options = options

    def extend_volume(
        self, info: typing.Any, attachment: str, size: int, **options: typing.Any
    ) -> int:
        self.fakes.note('extend')
        return self.size

    def get_disk(self, info: typing.Any, volume: ConnectedVolume, disk_info: typing.Any) -> Disk:
        self.fakes.note('get_disk')
        self.disk_info = disk_info
        return make_disk(info.volume_id, disk_info.dev, bus=disk_info.bus)


class FakeEncryptor:
    """Enough of volumedrivers.attachment.encryption.Encryptor."""

    def __init__(self, fakes: Calls) -> None:
        self.fakes = fakes
        self.opened = Opened('luks', 'qemu', secret_uuid=SECRET_UUID)

    def open(self, *arguments: typing.Any, allow_format: bool) -> Opened:
        self.fakes.note('open')
        self.allow_format = allow_format
        return self.opened

    def close(self, info: typing.Any, opened: Opened | None, **options: typing.Any) -> None:
        self.fakes.note('close')

    def grow(self, info: typing.Any, opened: Opened, volume: typing.Any, size: int) -> int:
        self.fakes.note('grow')
        return size - opened.header_size

    def remains(self, volume_id: str, opened: Opened | None) -> tuple[Remainder, ...]:
        return ()

    def plan_open(self, *arguments: typing.Any, **options: typing.Any) -> tuple[str, ...]:
        return ('ask the key manager for key k', 'let QEMU decrypt')

    def plan_close(
        self, info: typing.Any, opened: Opened | None, **options: typing.Any
    ) -> tuple[str, ...]:
        return ('undefine the secret',) if opened is not None else ()


class FakeRegistry:
    """One driver for everything."""

    def __init__(self, driver: FakeDriver, conf: cfg.ConfigOpts | None = None) -> None:
        self.driver = driver
        shares = types.SimpleNamespace(idle=tuple)  # none is mounted
        self.context = types.SimpleNamespace(devices=FakeDevices(), conf=conf, shares=shares)

    def get(self, driver_volume_type: str) -> FakeDriver:
        return self.driver


def make_conf() -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([])
    return conf


def make_manager(
    conf: cfg.ConfigOpts,
    directory: pathlib.Path,
    driver: FakeDriver,
    *guests: FakeGuest,
    observer: Observer | None = None,
) -> AttachmentManager:
    """Return a manager of fakes with a real journal and real locks."""
    return AttachmentManager(
        AttachmentContext(
            options=conf.volumedrivers,
            registry=typing.cast(typing.Any, FakeRegistry(driver, conf)),
            hypervisor=typing.cast(typing.Any, FakeHypervisor(*guests)),
            journal=Journal(str(directory / 'attachments.sqlite')),
            locks=FairLocks(str(directory / 'locks')),
            encryptor=typing.cast(typing.Any, FakeEncryptor(driver.fakes)),
            observer=observer or (lambda operation, step, moment: None),
        )
    )


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
