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

"""Attach and detach a volume of Cinder against the bare calls that it takes.

Needs root, libvirtd, QEMU and the extra ``cinder``.  Both do the same in turns:
a volume of a real Cinder in this process (loop devices over files, reached by
the SDK without a socket) into a running guest and out again.  The bare calls
are the SDK's (find, attachment create, update, complete, begin detaching,
delete), os-brick's connector properties and connector, and libvirt-python's
attach, detach and the event that tells of it.  Ours is VolumeManager: the same
with names, checks, locks, deadlines, and a journal on disk.  The goal: at most
10 % more than the bare calls together.

    python benchmarks/cinder_flow.py [rounds]
"""

import pathlib
import queue
import statistics
import sys
import tempfile
import time
import typing
import warnings

import libvirt
from oslo_config import cfg
from rich import console
from rich import table

from volumedrivers.attachment.block_storage.manager import VolumeManager
from volumedrivers.attachment.block_storage.manager import make_volume_manager
from volumedrivers.attachment.manager import make_manager
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.cinder.block_storage import BlockStorage
from volumedrivers.conf import opts
from volumedrivers.host import bootstrap
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing.cinder.embedded import EmbeddedCinder
from volumedrivers.testing.cinder.loop_backend import LoopBackend
from volumedrivers.testing.libvirtd import PrivateLibvirtd

BARE = 'bare calls'
OURS = 'VolumeManager'
GOAL = 1.10
VOLUME = 'data'
FLAGS = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG


class Bare:
    """The SDK, os-brick and libvirt-python, and nothing around them."""

    def __init__(self, proxy: typing.Any, guest: Guest, xml: str) -> None:
        self.proxy = proxy
        self.xml = xml
        connection = libvirt.open(guest.hypervisor.uri)
        self.domain = connection.lookupByUUIDString(guest.uuid)
        self.removed: queue.SimpleQueue[str] = queue.SimpleQueue()
        connection.domainEventRegisterAny(
            None,
            libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
            lambda connection, domain, alias, opaque: self.removed.put(alias),
            None,
        )
        self.connection = connection

    def attach(self) -> None:
        from os_brick.initiator import connector  # noqa: PLC0415 - after bootstrap

        self.volume = self.proxy.find_volume(VOLUME, ignore_missing=False)
        self.attachment = self.proxy.create_attachment(
            self.volume.id, instance=self.domain.UUIDString()
        )
        properties = connector.get_connector_properties('', '127.0.0.1', False, False, host='here')
        info = self.proxy.update_attachment(
            self.attachment.id, connector=properties
        ).connection_info
        self.brick = connector.InitiatorConnector.factory('local', '')
        self.brick.connect_volume(info)
        xml = self.xml.replace('DEVICE', info['device_path'])
        self.attached = xml
        self.domain.attachDeviceFlags(xml, FLAGS)
        self.proxy.complete_attachment(self.attachment)

    def detach(self) -> None:
        volume = self.proxy.find_volume(VOLUME, ignore_missing=False)
        self.proxy.begin_volume_detaching(volume.id)
        self.domain.detachDeviceFlags(self.attached, FLAGS)
        self.removed.get(timeout=10)
        self.brick.disconnect_volume({'device_path': ''}, None)
        self.proxy.delete_attachment(self.attachment.id)

    def settle(self) -> None:
        """Forget the events of what the other one did."""
        while not self.removed.empty():
            self.removed.get()


class Ours:
    """What a caller of the package does."""

    def __init__(self, manager: VolumeManager, guest: Guest) -> None:
        self.manager = manager
        self.guest = guest
        self.steps: dict[str, list[float]] = {}

    def attach(self) -> None:
        done = self.manager.attach(self.guest.name, VOLUME, DiskRequest(bus='scsi'))
        self._note('attach', done.seconds)

    def detach(self) -> None:
        self._note('detach', self.manager.detach(self.guest.name, VOLUME).seconds)

    def settle(self) -> None:
        """Nothing to forget."""

    def _note(self, operation: str, seconds: dict[str, float]) -> None:
        for step, value in seconds.items():
            self.steps.setdefault(f'{operation}: {step}', []).append(value * 1000)


def configuration(directory: pathlib.Path) -> cfg.ConfigOpts:
    """Return the options, with state and locks on disk in the directory."""
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], project='volumedrivers', default_config_files=[])
    for name, value in (('state_path', str(directory / 'state')), ('host', 'here')):
        conf.set_override(name, value, opts.GROUP.name)
    bootstrap.setup(conf)
    return conf


def measure(who: Bare | Ours, times: dict[str, list[float]]) -> None:
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
    """Measure, print the tables, return the ratio of both."""
    warnings.simplefilter('ignore')  # Cinder's and the SDK's own
    with tempfile.TemporaryDirectory(prefix='vd-bench') as name:
        directory = pathlib.Path(name)
        conf = configuration(directory)
        with (
            PrivateLibvirtd(directory / 'libvirt') as libvirtd,
            Hypervisor(libvirtd.uri) as hypervisor,
            EmbeddedCinder(directory / 'cinder', [LoopBackend()]) as cinder,
        ):
            guest = guests.start_guest(hypervisor, 'benchmark', persistent=True)
            proxy = typing.cast(typing.Any, cinder.connection.block_storage)
            volume = proxy.create_volume(name=VOLUME, size=1)
            proxy.wait_for_status(volume, 'available', interval=0.1, wait=20)
            storage = BlockStorage(cinder.connection)
            ours = Ours(make_volume_manager(conf, storage, make_manager(conf, hypervisor)), guest)
            ours.attach()
            (disk,) = guest.disks(persistent=True)
            xml = disk.to_xml().replace(str(disk.source.dev), 'DEVICE')
            ours.detach()
            ours.steps.clear()
            contestants: dict[str, Bare | Ours] = {BARE: Bare(proxy, guest, xml), OURS: ours}
            times: dict[str, dict[str, list[float]]] = {
                who: {'attach': [], 'detach': [], 'both': []} for who in contestants
            }
            for round_ in range(rounds + 1):
                # Taking turns at being first, too.
                for who in [*contestants][:: 1 if round_ % 2 else -1]:
                    warm_up: dict[str, list[float]] = {'attach': [], 'detach': [], 'both': []}
                    measure(contestants[who], times[who] if round_ else warm_up)
            typing.cast(Bare, contestants[BARE]).connection.close()
    return report(times, ours.steps, rounds)


def report(
    times: dict[str, dict[str, list[float]]], steps: dict[str, list[float]], rounds: int
) -> float:
    """Print medians and the ratio."""
    out: typing.Any = console.Console()
    shown = table.Table(title=f'the steps, medians of {rounds} rounds, ms')
    shown.add_column('step')
    shown.add_column('ms', justify='right')
    for step, values in steps.items():
        shown.add_row(step, f'{statistics.median(values):.1f}')
    out.print(shown)
    shown = table.Table(title=f'attach + detach, medians of {rounds} rounds, ms')
    for heading in ('', 'attach', 'detach', 'both'):
        shown.add_column(heading, justify='right' if heading else 'left')
    medians = {
        who: {what: statistics.median(values) for what, values in columns.items()}
        for who, columns in times.items()
    }
    for who, columns in medians.items():
        shown.add_row(who, *(f'{value:.1f}' for value in columns.values()))
    ratios = {what: medians[OURS][what] / medians[BARE][what] for what in medians[OURS]}
    shown.add_row('ratio', *(f'{one:.3f}' for one in ratios.values()))
    out.print(shown)
    out.print(f'goal: both at most {GOAL} x; it is {ratios["both"]:.3f} x')
    return ratios['both']


if __name__ == '__main__':
    run(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
