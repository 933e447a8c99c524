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

"""Attach and detach as whole operations against libvirt-python itself.

Needs root, libvirtd and QEMU.  All do the same work on the same guest in
turns: attach a block device (a loop device over a file) to virtio-scsi, live
and persistently; detach it and wait for DEVICE_REMOVED.  Guest also looks
first and knows afterwards; the driver (local, the one that has least to do)
connects, describes and disconnects the volume, too; and the manager does all
of that in steps, with locks, deadlines and a journal on disk.  The goals: driver
and Guest together cost at most 5 %, the whole operation at most 10 %.

    python benchmarks/attach_detach.py [rounds]
"""

from collections.abc import Iterator
import contextlib
import pathlib
import queue
import statistics
import subprocess
import sys
import tempfile
import time
import typing

import libvirt
from oslo_config import cfg
from rich import console
from rich import table

from volumedrivers.attachment.manager import make_manager
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.context import make_context
from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.driver import DiskInfo
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.libvirt.registry import Registry
from volumedrivers.testing import guests
from volumedrivers.testing.libvirtd import PrivateLibvirtd

VOLUME_ID = 'c0ffee00-0000-4000-8000-000000000001'
ALIAS = f'ua-{VOLUME_ID}'
RAW = 'libvirt-python'
DRIVER = 'driver and Guest'
WHOLE = 'manager, journaled'
GOALS = {DRIVER: 1.05, WHOLE: 1.10}


class Raw:
    """libvirt-python and nothing around it."""

    FLAGS = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG

    def __init__(self, hypervisor: Hypervisor, guest: Guest, disk: Disk) -> None:
        self.connection = libvirt.open(hypervisor.uri)
        self.domain = self.connection.lookupByUUIDString(guest.uuid)
        self.xml = disk.to_xml()
        self.removed: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.connection.domainEventRegisterAny(
            None,
            libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
            lambda connection, domain, alias, opaque: self.removed.put(alias),
            None,
        )

    def attach(self) -> None:
        self.domain.attachDeviceFlags(self.xml, self.FLAGS)

    def detach(self) -> None:
        self.domain.detachDeviceFlags(self.xml, self.FLAGS)
        self.removed.get(timeout=10)

    def settle(self) -> None:
        """Forget the events of what the other one did."""
        while not self.removed.empty():
            self.removed.get()


class Ours:
    """Guest."""

    def __init__(self, guest: Guest, disk: Disk) -> None:
        self.guest = guest
        self.disk = disk

    def attach(self) -> None:
        self.guest.attach_disk(self.disk)

    def detach(self) -> None:
        self.guest.detach_disk(alias=ALIAS, target='sda')

    def settle(self) -> None:
        """Nothing to forget."""


class Driven:
    """From connection_info to the guest, and back; nothing is written down."""

    def __init__(self, conf: cfg.ConfigOpts, guest: Guest, raw: dict[str, typing.Any]) -> None:
        self.registry = Registry(make_context(conf, guest.hypervisor.secrets))
        self.guest = guest
        self.raw = raw
        self.volume: ConnectedVolume

    def attach(self) -> None:
        info = ConnectionInfo.parse(self.raw)
        driver = self.registry.get(info.driver_volume_type)
        self.volume = driver.connect_volume(info, guests_use(self.guest))
        disk = driver.get_disk(info, self.volume, DiskInfo(bus='scsi', dev='sda'))
        self.guest.attach_disk(disk)

    def detach(self) -> None:
        info = ConnectionInfo.parse(self.raw)
        driver = self.registry.get(info.driver_volume_type)
        self.guest.detach_disk(alias=ALIAS, target='sda')
        driver.disconnect_volume(info, guests_use(self.guest), volume=self.volume)

    def settle(self) -> None:
        """Nothing to forget."""


class Managed:
    """The whole operation; what a caller of the package does.

    :ivar steps: milliseconds by operation and step, without what is around them
    """

    def __init__(self, conf: cfg.ConfigOpts, guest: Guest, raw: dict[str, typing.Any]) -> None:
        self.manager = make_manager(conf, guest.hypervisor, observer=self.observe)
        self.guest = guest
        self.raw = raw
        self.steps: dict[tuple[str, str], list[float]] = {}
        self.began = 0.0

    def observe(self, operation: str, step: str, moment: str) -> None:
        if moment == 'before':
            self.began = time.perf_counter()
        else:
            times = self.steps.setdefault((operation, step), [])
            times.append((time.perf_counter() - self.began) * 1000)

    def attach(self) -> None:
        info = ConnectionInfo.parse(self.raw)
        self.manager.attach(info, self.guest.name, DiskRequest(bus='scsi'))

    def detach(self) -> None:
        self.manager.detach(self.guest.name, VOLUME_ID)

    def settle(self) -> None:
        """Nothing to forget."""

    def report(self, rounds: int) -> None:
        """Print what each step takes."""
        shown = table.Table(title=f'the steps, medians of {rounds} rounds, ms')
        for heading in ('operation', 'step', 'ms'):
            shown.add_column(heading, justify='right' if heading == 'ms' else 'left')
        for (operation, step), times in self.steps.items():
            shown.add_row(operation, step, f'{statistics.median(times):.2f}')
        out: typing.Any = console.Console()
        out.print(shown)


Contestant = Raw | Ours | Driven | Managed


def guests_use(guest: Guest) -> str:
    """Return how the guest's use of the volume is called."""
    return f'{guest.uuid}/{VOLUME_ID}'


@contextlib.contextmanager
def loop_device(image: pathlib.Path) -> Iterator[str]:
    """Make a block device of a file."""
    device = subprocess.run(
        ['losetup', '--find', '--show', str(image)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(['losetup', '--detach', device], check=True)


def measure(who: Contestant, times: dict[str, list[float]]) -> None:
    """Do one round; add its milliseconds."""
    who.settle()
    before = time.perf_counter()
    who.attach()
    between = time.perf_counter()
    who.detach()
    after = time.perf_counter()
    times['attach'].append((between - before) * 1000)
    times['detach'].append((after - between) * 1000)
    times['both'].append((after - before) * 1000)


def configuration(directory: pathlib.Path) -> cfg.ConfigOpts:
    """Return the options, with state and locks on disk in the directory."""
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], project='volumedrivers', default_config_files=[])
    conf.set_override('state_path', str(directory / 'state'), opts.GROUP.name)
    return conf


def run(rounds: int) -> float:
    """Measure, print the tables, return the ratio of the whole."""
    with tempfile.TemporaryDirectory(prefix='vd-bench') as name:
        directory = pathlib.Path(name)
        image = directory / 'volume.raw'
        image.write_bytes(bytes(2**20))
        with (
            loop_device(image) as device,
            PrivateLibvirtd(directory) as libvirtd,
            Hypervisor(libvirtd.uri) as hypervisor,
        ):
            guest = guests.start_guest(hypervisor, 'benchmark', persistent=True)
            raw = {
                'driver_volume_type': 'local',
                'serial': VOLUME_ID,
                'data': {'device_path': device, 'volume_id': VOLUME_ID},
            }
            conf = configuration(directory)
            managed = Managed(conf, guest, raw)
            managed.attach()
            (disk,) = guest.disks(persistent=True)
            managed.detach()
            managed.steps.clear()
            contestants: dict[str, Contestant] = {
                RAW: Raw(hypervisor, guest, disk),
                'Guest': Ours(guest, disk),
                DRIVER: Driven(conf, guest, raw),
                WHOLE: managed,
            }
            times: dict[str, dict[str, list[float]]] = {
                who: {'attach': [], 'detach': [], 'both': []} for who in contestants
            }
            for round_ in range(rounds + 1):
                # Taking turns at being first, too.
                first = round_ % len(contestants)
                for who in [*contestants][first:] + [*contestants][:first]:
                    warm_up: dict[str, list[float]] = {'attach': [], 'detach': [], 'both': []}
                    measure(contestants[who], times[who] if round_ else warm_up)
            managed.report(rounds)
    return report(times, rounds)


def report(times: dict[str, dict[str, list[float]]], rounds: int) -> float:
    """Print medians and ratios."""
    shown = table.Table(title=f'attach + detach, medians of {rounds} rounds, ms')
    for heading in ('', 'attach', 'detach', 'both'):
        shown.add_column(heading, justify='right' if heading else 'left')
    medians: dict[str, dict[str, float]] = {
        who: {what: statistics.median(values) for what, values in columns.items()}
        for who, columns in times.items()
    }
    for who, columns in medians.items():
        shown.add_row(who, *(f'{value:.2f}' for value in columns.values()))
    ratios = {
        who: {what: value / medians[RAW][what] for what, value in columns.items()}
        for who, columns in medians.items()
    }
    for who in medians:
        if who != RAW:
            shown.add_row(f'{who}, ratio', *(f'{one:.3f}' for one in ratios[who].values()))
    out: typing.Any = console.Console()
    out.print(shown)
    for who, goal in GOALS.items():
        out.print(f'goal: {who}, both at most {goal} x; it is {ratios[who]["both"]:.3f} x')
    return ratios[WHOLE]['both']


if __name__ == '__main__':
    run(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
