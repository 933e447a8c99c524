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

"""Recover after a crash in the middle of a hundred attachments.

Needs root, libvirtd and QEMU.  The journal says of each of a hundred volumes
that its attach stopped: half of them after the guest had got the disk, half
before.  ``recover`` looks at each in libvirt and on this host, finishes the
one half and undoes the other; then it is run again, and finds nothing to do.
For comparison, the same number of attachments is done and undone one by one.

    python benchmarks/recover.py [rows]
"""

import contextlib
import dataclasses
import pathlib
import sys
import tempfile
import time
import typing

from oslo_config import cfg
from rich import console
from rich import table

from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.attachment.manager import make_manager
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.server import run as run_tool

GUESTS = 8
SIZE = 2**20


def volume_id(number: int) -> str:
    return f'c0ffee00-0000-4000-8000-{number:012x}'


def connection_info(number: int, device: str) -> ConnectionInfo:
    name = volume_id(number)
    data = {'device_path': device, 'volume_id': name}
    return ConnectionInfo.parse({'driver_volume_type': 'local', 'serial': name, 'data': data})


def interrupt(manager: AttachmentManager, *, half: bool) -> None:
    """Write the rows as processes that were killed leave them.

    :param half: the guest has not got every other disk
    """
    journal = manager.context.journal
    for number, record in enumerate(journal.find()):
        if half and number % 2:
            manager.context.hypervisor.guest(record.domain_uuid).detach_disk(
                alias=f'ua-{record.volume_id}', target=record.target
            )
        journal.put(
            dataclasses.replace(
                record, operation=Operation.ATTACH, step='attach', was_attached=False
            )
        )


def seconds(function: typing.Callable[[], object]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def measure(manager: AttachmentManager, names: list[str], devices: list[str]) -> dict[str, float]:
    """Return seconds by what was done."""
    infos = [connection_info(number, device) for number, device in enumerate(devices)]

    def attach() -> None:
        for number, info in enumerate(infos):
            manager.attach(info, names[number % len(names)], DiskRequest(bus='scsi'))

    def detach() -> None:
        for record in manager.context.journal.find():
            manager.detach(record.domain_uuid, record.volume_id)

    times = {'attach one by one': seconds(attach), 'detach one by one': seconds(detach)}
    attach()
    interrupt(manager, half=False)
    times['recover: guests have all'] = seconds(manager.recover)
    assert not manager.context.journal.find(unfinished=True)
    interrupt(manager, half=True)
    times['recover: guests have half'] = seconds(manager.recover)
    assert len(manager.context.journal.find()) == (len(infos) + 1) // 2
    times['recover: nothing to do'] = seconds(manager.recover)
    detach()
    return times


def run(rows: int) -> None:
    """Measure, and print the table."""
    with contextlib.ExitStack() as stack:
        directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix='vd-re')))
        devices = []
        for number in range(rows):
            image = directory / f'volume{number}'
            image.write_bytes(bytes(SIZE))
            device = run_tool('losetup', '--find', '--show', str(image)).strip()
            stack.callback(run_tool, 'losetup', '--detach', device)
            devices.append(device)
        libvirtd = stack.enter_context(PrivateLibvirtd(directory))
        hypervisor = stack.enter_context(Hypervisor(libvirtd.uri))
        names = [f'recover{number}' for number in range(GUESTS)]
        for name in names:
            guests.start_guest(hypervisor, name, persistent=True)
        conf = cfg.ConfigOpts()
        opts.register_opts(conf)
        conf([], project='volumedrivers', default_config_files=[])
        conf.set_override('state_path', str(directory / 'state'), opts.GROUP.name)
        times = measure(make_manager(conf, hypervisor), names, devices)
    shown = table.Table(title=f'{rows} attachments of {GUESTS} guests')
    for heading in ('', 's', 'ms each'):
        shown.add_column(heading, justify='right' if heading else 'left')
    for what, value in times.items():
        shown.add_row(what, f'{value:.2f}', f'{value / rows * 1000:.1f}')
    out: typing.Any = console.Console()
    out.print(shown)


if __name__ == '__main__':
    run(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
