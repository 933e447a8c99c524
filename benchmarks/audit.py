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
"""How long an audit takes, and a recover, on a host with many volumes.

The journal, its rows, the block devices below a made-up /sys and /dev, and the
shares' counts are real files; the guests' definitions are read by the code
that reads libvirt's.  libvirt itself is not asked: add two round trips for each
running guest, some 1 ms.

    python benchmarks/audit.py [--attachments N] [--guests N] [--unfinished N]
"""

import argparse
from collections.abc import Iterator
import contextlib
import dataclasses
import json
import os
import pathlib
import sys
import tempfile
import time
import types
import typing

from oslo_config import cfg

from volumedrivers.attachment.audit import audit
from volumedrivers.attachment.context import AttachmentContext
from volumedrivers.attachment.journal import Journal
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.record import make_key
from volumedrivers.conf import opts
from volumedrivers.host import boot
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.host.fair_lock import FairLocks
from volumedrivers.host.shares import ShareMounts
from volumedrivers.libvirt import guest_sources
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import NetworkSource
from volumedrivers.libvirt.connected_volume import PathReport
from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.disk import Source
from volumedrivers.libvirt.disk import Target

AUDIT_GOAL = 2.0
GIB = 2**30


class Guest:
    """A guest that has what it was given."""

    def __init__(self, number: int) -> None:
        self.name = f'guest{number}'
        self.uuid = f'00000000-0000-4000-8000-{number:012d}'
        self.given: list[Disk] = []

    def wait_until_idle(self) -> None:
        """It has no QEMU that could be busy."""

    def is_running(self) -> bool:
        """It does."""
        return True

    def disks(self, *, persistent: bool = False) -> tuple[Disk, ...]:
        """What it was given."""
        return tuple(self.given)

    def all_disks(self) -> tuple[Disk, ...]:
        """Those of both definitions."""
        return self.disks() + self.disks(persistent=True)

    def sources(self) -> guest_sources.GuestSources:
        """Read both definitions as from libvirt."""
        roots = []
        for live in (True, False):
            document = f'<domain{" id=" + repr("1") if live else ""}><name>{self.name}</name>'
            document += f'<uuid>{self.uuid}</uuid><devices>'
            document += ''.join(disk.to_xml() for disk in self.given) + '</devices></domain>'
            roots.append(guest_sources.parse(document))
        return guest_sources.of_definitions(roots, is_persistent=True)


class Hypervisor:
    """What is asked of a hypervisor here."""

    uri = 'none:///'

    def __init__(self, guests: list[Guest]) -> None:
        self._guests = {guest.uuid: guest for guest in guests}
        self.sizes: dict[str, dict[str, int]] = {}

    def guests(self) -> tuple[Guest, ...]:
        """All."""
        return tuple(self._guests.values())

    def guest(self, name: str) -> Guest:
        """One, by its UUID."""
        return self._guests[name]

    def domain(self, uuid: str) -> Guest:
        """One."""
        return self._guests[uuid]

    def ask(self, action: str, question: typing.Any) -> typing.Any:
        """Ask this."""
        return question(self)

    def within_deadline(self, action: str, function: typing.Any, *, seconds: float) -> typing.Any:
        """Call it."""
        return function()

    def listAllSecrets(self) -> list[typing.Any]:
        """None."""
        return []

    def domainListGetStats(self, domains: list[Guest], *flags: int) -> list[typing.Any]:
        """Tell all disks' sizes."""
        found = []
        for domain in domains:
            stats: dict[str, typing.Any] = {'block.count': len(domain.given)}
            for number, disk in enumerate(domain.given):
                stats[f'block.{number}.name'] = disk.target.dev if disk.target else ''
                stats[f'block.{number}.capacity'] = GIB
            found.append((types.SimpleNamespace(UUIDString=lambda uuid=domain.uuid: uuid), stats))
        return found


class Driver:
    """A driver with nothing left to remove."""

    def lock_names(self, info: typing.Any, **options: typing.Any) -> tuple[str, ...]:
        """One target for all."""
        return ('benchmark',)

    def current_identity(self, info: typing.Any, volume: ConnectedVolume) -> Identity | None:
        """What was recorded."""
        return volume.identity

    def remains(self, info: typing.Any, attachment: str, **options: typing.Any) -> tuple[()]:
        """Nothing."""
        return ()

    def disconnect_volume(self, info: typing.Any, attachment: str, **options: typing.Any) -> None:
        """Do nothing."""


class Encryptor:
    """One for volumes that are not encrypted."""

    def remains(self, volume_id: str, opened: typing.Any) -> tuple[()]:
        """Nothing."""
        return ()


class Host:
    """A host with its journal, below a directory."""

    def __init__(self, root: pathlib.Path, guests: int) -> None:
        self.block = root / 'sys/block'
        self.dev = root / 'dev'
        self.by_id = self.dev / 'disk/by-id'
        for directory in (self.block, self.by_id):
            directory.mkdir(parents=True)
        self.share = root / 'share'
        self.share.mkdir()
        conf = cfg.ConfigOpts()
        opts.register_opts(conf)
        conf([], default_config_files=[])
        conf.set_override('state_path', str(root / 'state'), group='volumedrivers')
        self.guests = [Guest(number) for number in range(guests)]
        self.journal = Journal(str(root / 'attachments.sqlite'))
        self.shares = ShareMounts(conf)
        drivers = types.SimpleNamespace(
            conf=conf,
            devices=BlockDevices(str(root / 'sys'), str(self.dev), str(root / 'udev')),
            shares=self.shares,
            endpoints=None,
        )
        driver = Driver()
        self.context = AttachmentContext(
            options=conf.volumedrivers,
            registry=typing.cast(
                typing.Any, types.SimpleNamespace(context=drivers, get=lambda name: driver)
            ),
            hypervisor=typing.cast(typing.Any, Hypervisor(self.guests)),
            journal=self.journal,
            locks=FairLocks(str(root / 'locks')),
            encryptor=typing.cast(typing.Any, Encryptor()),
        )

    def attach(self, number: int, **changes: typing.Any) -> None:
        """Attach and record a volume: a multipath map of two paths, a file, or of Ceph."""
        guest = self.guests[number % len(self.guests)]
        volume_id = f'c1b2d3e4-0000-4000-8000-{number:012d}'
        volume = (self._map, self._file, self._image)[max(0, number % 10 - 7)](volume_id, number)
        kind = volume.source_type
        if volume.source is not None:
            source = Source(protocol='rbd', name=volume.source.name)
            written = f'rbd:{volume.source.name}'
        else:
            written = str(volume.path)
            source = Source(dev=written) if kind == 'block' else Source(file=written)
        target = f'vd{number // len(self.guests)}'
        guest.given.append(
            Disk(
                type=kind,
                source=source,
                target=Target(dev=target, bus='virtio'),
                serial=volume_id,
                alias=f'ua-{volume_id}',
            )
        )
        record = Record(
            key=make_key(guest.uuid, volume_id),
            boot_id=boot.current(),
            host='here',
            domain_uuid=guest.uuid,
            domain_name=guest.name,
            volume_id=volume_id,
            driver_volume_type={'block': 'iscsi', 'file': 'nfs', 'network': 'rbd'}[kind],
            connection_info=_connection_info(volume_id),
            target=target,
            source=written,
            volume=volume,
        )
        self.journal.put(dataclasses.replace(record, **changes))

    def _map(self, volume_id: str, number: int) -> ConnectedVolume:
        wwn = f'36001405{number:025x}'
        for path in (0, 1):
            name = f'sd{2 * number + path}'
            self._device(name, {'device/wwid': f'naa.{wwn[1:]}', 'device/state': 'running'})
        name = f'dm-{number}'
        self._device(name, {'dm/uuid': f'mpath-{wwn}', 'dm/name': f'mpath{number}'})
        for path in (0, 1):
            (self.block / name / 'slaves' / f'sd{2 * number + path}').mkdir(parents=True)
        link = self.by_id / f'dm-uuid-mpath-{wwn}'
        link.symlink_to(f'../../{name}')
        return ConnectedVolume(
            'iscsi',
            volume_id,
            'block',
            path=str(link),
            identity=Identity('wwn', wwn),
            multipath_id=wwn,
            paths=PathReport(2, 2),
            use_multipath=True,
        )

    def _device(self, name: str, attributes: dict[str, str]) -> None:
        (self.dev / name).touch()
        for attribute, text in {'size': str(GIB // 512), **attributes}.items():
            file = self.block / name / attribute
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text + '\n')

    def _file(self, volume_id: str, number: int) -> ConnectedVolume:
        path = self.share / f'volume-{volume_id}'
        path.touch()
        inode = path.stat().st_ino
        identity = Identity('file', f'server:/export/{path.name}#{inode}')
        return ConnectedVolume('nfs', volume_id, 'file', path=str(path), identity=identity)

    def _image(self, volume_id: str, number: int) -> ConnectedVolume:
        source = NetworkSource('rbd', f'volumes/volume-{volume_id}')
        identity = Identity('rbd', f'fsid/volumes/volume-{volume_id}')
        return ConnectedVolume('rbd', volume_id, 'network', source=source, identity=identity)


def _connection_info(volume_id: str) -> dict[str, typing.Any]:
    return {
        'driver_volume_type': 'iscsi',
        'serial': volume_id,
        'data': {
            'volume_id': volume_id,
            'target_portal': '192.0.2.1:3260',
            'target_iqn': f'iqn.2010-10.org.openstack:volume-{volume_id}',
            'target_lun': 1,
        },
    }


@contextlib.contextmanager
def timed(times: dict[str, float], name: str) -> Iterator[None]:
    """Note how long the block takes."""
    started = time.perf_counter()
    yield
    times[name] = time.perf_counter() - started


def measure(attachments: int, guests: int, unfinished: int) -> dict[str, float]:
    """Return the seconds of each."""
    times: dict[str, float] = {}
    # In memory, as sysfs and /dev are.
    directory = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=directory) as root:
        host = Host(pathlib.Path(root), guests)
        for number in range(attachments):
            host.attach(number)
        with timed(times, f'audit of {attachments} attachments'):
            found = audit(host.context)
        if found:
            raise SystemExit(f'the made-up host is wrong: {found[0]}')
        for number in range(unfinished):
            host.attach(attachments + number, operation=Operation.ATTACH, step='attach')
        with timed(times, f'audit, and {unfinished} of them unfinished'):
            found = audit(host.context)
        if len(found) != unfinished:
            raise SystemExit(f'{unfinished} are unfinished, and {len(found)} were found')
        with timed(times, f'recover of {unfinished} unfinished'):
            outcomes = AttachmentManager(host.context).recover()
        if [one.action for one in outcomes] != ['finished'] * unfinished:
            raise SystemExit(f'not finished: {outcomes[:1]}')
    return times


def main() -> int:
    """Print a table; exit with 1 if the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--attachments', type=int, default=1000)
    parser.add_argument('--guests', type=int, default=50)
    parser.add_argument('--unfinished', type=int, default=100)
    parser.add_argument('--json', action='store_true', help='for a machine')
    arguments = parser.parse_args()
    times = measure(arguments.attachments, arguments.guests, arguments.unfinished)
    if arguments.json:
        print(json.dumps({name: round(seconds, 3) for name, seconds in times.items()}))
    else:
        for name, seconds in times.items():
            print(f'{name:45} {seconds:7.3f} s')
        print(f'goal of an audit: {AUDIT_GOAL:g} s')
    return int(next(iter(times.values())) > AUDIT_GOAL)


if __name__ == '__main__':
    sys.exit(main())
