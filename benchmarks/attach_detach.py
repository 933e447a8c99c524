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

"""Attach and detach through Guest against libvirt-python itself.

Needs root, libvirtd and QEMU.  Both do the same work on the same guest in
turns: attach a raw file to virtio-scsi, live and persistently; detach it and
wait for DEVICE_REMOVED.  Guest also looks first and knows afterwards; the goal
is that this costs at most 5 %.

    python benchmarks/attach_detach.py [rounds]
"""

import pathlib
import queue
import statistics
import sys
import tempfile
import time
import typing

import libvirt
from rich import console
from rich import table

from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.disk import Driver
from volumedrivers.libvirt.disk import Source
from volumedrivers.libvirt.disk import Target
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing.libvirtd import PrivateLibvirtd

ALIAS = 'ua-volume'
GOAL = 1.05


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


def measure(who: Raw | Ours, times: dict[str, list[float]]) -> None:
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


def run(rounds: int) -> float:
    """Measure, print the table, return the ratio of the sum."""
    with tempfile.TemporaryDirectory(prefix='vd-bench') as name:
        directory = pathlib.Path(name)
        image = directory / 'volume.raw'
        image.write_bytes(bytes(2**20))
        disk = Disk(
            type='file',
            device='disk',
            driver=Driver(name='qemu', type='raw'),
            source=Source(file=str(image)),
            target=Target(dev='sda', bus='scsi'),
            alias=ALIAS,
        )
        with PrivateLibvirtd(directory) as libvirtd, Hypervisor(libvirtd.uri) as hypervisor:
            guest = guests.start_guest(hypervisor, 'benchmark', persistent=True)
            contestants: dict[str, Raw | Ours] = {
                'libvirt-python': Raw(hypervisor, guest, disk),
                'Guest': Ours(guest, disk),
            }
            times: dict[str, dict[str, list[float]]] = {
                who: {'attach': [], 'detach': [], 'both': []} for who in contestants
            }
            for round_ in range(rounds + 1):
                # Taking turns at being first, too.
                for who in sorted(contestants, reverse=bool(round_ % 2)):
                    warm_up: dict[str, list[float]] = {'attach': [], 'detach': [], 'both': []}
                    measure(contestants[who], times[who] if round_ else warm_up)
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
        what: medians['Guest'][what] / raw for what, raw in medians['libvirt-python'].items()
    }
    shown.add_row('ratio', *(f'{ratio:.3f}' for ratio in ratios.values()))
    out: typing.Any = console.Console()
    out.print(shown)
    out.print(f'goal: both at most {GOAL} x; it is {ratios["both"]:.3f} x')
    return ratios['both']


if __name__ == '__main__':
    run(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
