#!/usr/bin/env python3
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

"""Attach real volumes to a real guest, and show each step.

A libvirtd of its own runs a QEMU guest.  A raw file and a qcow2 file on a
GlusterFS share, and a LUN of an iSCSI target that QEMU itself logs in to, are
attached, written through, grown and detached; one detach is killed in the
middle, and recovered.  All of it is real and runs on loopback; nothing is left.
"""

from collections.abc import Callable
import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid

# Read when libvirt is imported: errors only, else it talks to the terminal.
os.environ.setdefault('LIBVIRT_DEBUG', '4')

from oslo_config import cfg
from rich.console import Console

from volumedrivers import exception
from volumedrivers.attachment.manager import make_manager
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import bootstrap
from volumedrivers.libvirt.disk_of_volume import alias_of_volume
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing.gluster import GlusterServer
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.qemu_io import GuestIO
from volumedrivers.testing.tgt import IscsiTarget

MIB = 2**20
PATTERN = 0x5A
console = Console(highlight=False, soft_wrap=True)


def say(what: str, how: str, seconds: float | None = None) -> None:
    took = '' if seconds is None else f'[dim]  {seconds:.2f} s[/dim]'
    console.print(f'  [bold]{what:<9}[/bold]{how}{took}')


def title(text: str) -> None:
    console.print(f'\n[bold cyan]{text}[/bold cyan]')


@dataclasses.dataclass
class Volume:
    """A volume of a back end: how Cinder would describe it, and how it is looked into."""

    what: str
    where: str
    connection_info: dict[str, object]
    image: pathlib.Path
    format: str
    size: int
    grow: Callable[[int], object]

    def holds(self, pattern: int, offset: int, length: int) -> bool:
        """Whether the storage holds these bytes, asked past the guest's QEMU."""
        read = f'read -P {pattern:#x} {offset} {length}'
        command = ['qemu-io', '-r', '-U', '-f', self.format, '-c', read, str(self.image)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0


def file_on_share(server: GlusterServer, image_format: str) -> Volume:
    volume_id = str(uuid.uuid4())
    name = f'volume-{volume_id}'
    path = server.brick / name
    subprocess.run(
        ['qemu-img', 'create', '-q', '-f', image_format, str(path), str(64 * MIB)], check=True
    )
    info = {
        'driver_volume_type': 'glusterfs',
        'serial': volume_id,
        'volume_id': volume_id,
        'data': {
            'export': server.export,
            'name': name,
            'format': image_format,
            'options': None,
            'volume_id': volume_id,
            'access_mode': 'rw',
            'qos_specs': None,
            'encrypted': False,
        },
    }
    # libvirt grows a file itself when the guest's disk is resized.
    return Volume(
        f'a {image_format} file on a GlusterFS share',
        "the server's brick",
        info,
        path,
        image_format,
        64 * MIB,
        lambda size: None,
    )


def lun_of_target(target: IscsiTarget) -> Volume:
    info = target.connection_info(str(uuid.uuid4()))
    return Volume(
        "a LUN of an iSCSI target, through QEMU's own initiator",
        "the target's backing file",
        info,
        target.image,
        'raw',
        target.size,
        target.grow,
    )


def configuration(directory: pathlib.Path) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], project='volumedrivers', default_config_files=[])
    for name, value in (
        ('state_path', str(directory / 'state')),
        ('virt_type', 'qemu'),
        ('iscsi_client', 'qemu'),
        ('iscsi_initiator_name', 'iqn.2020-01.org.volumedrivers:demo'),
    ):
        conf.set_override(name, value, group='volumedrivers')
    return conf


@contextlib.contextmanager
def seen_by_libvirtd(directory: pathlib.Path):
    """Let what is mounted below be seen in libvirtd's own mount namespace."""
    subprocess.run(['mount', '--bind', str(directory), str(directory)], check=True)
    try:
        subprocess.run(['mount', '--make-shared', str(directory)], check=True)
        yield
    finally:
        subprocess.run(['umount', '--lazy', str(directory)], check=True)


def be_killed(directory: pathlib.Path, uri: str, guest: str, volume_id: str) -> None:
    """Detach, and die without a word when the guest has let go."""

    def die(operation: str, step: str, moment: str) -> None:
        if (step, moment) == ('detach', 'after'):
            os.kill(os.getpid(), signal.SIGKILL)

    conf = configuration(directory)
    bootstrap.setup(conf)
    with Hypervisor(uri) as hypervisor:
        make_manager(conf, hypervisor, observer=die).detach(guest, volume_id)


class Demo:
    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.conf = configuration(directory)

    def run(self) -> None:
        begin = time.monotonic()
        with contextlib.ExitStack() as stack:
            bootstrap.setup(self.conf)
            stack.enter_context(seen_by_libvirtd(self.directory))
            title('Storage')
            clock = time.monotonic()
            server = stack.enter_context(GlusterServer(self.directory / 'gluster'))
            say('share', f'GlusterFS {server.export}', time.monotonic() - clock)
            clock = time.monotonic()
            target = stack.enter_context(
                IscsiTarget(self.directory / 'tgt', size=64 * MIB, chap=('demo', 'worth-nothing'))
            )
            say('target', f'tgt at {target.portal}, with CHAP', time.monotonic() - clock)

            title('Guest')
            clock = time.monotonic()
            hypervisor, guest = self.start_guest(stack)
            version = subprocess.run(
                ['qemu-system-x86_64', '--version'], check=True, capture_output=True, text=True
            ).stdout.split()[3]
            say(
                'guest',
                f'QEMU {version} in a libvirtd of its own; empty, QEMU does its I/O',
                time.monotonic() - clock,
            )

            manager = make_manager(self.conf, hypervisor)
            volumes = [
                file_on_share(server, 'raw'),
                file_on_share(server, 'qcow2'),
                lun_of_target(target),
            ]
            for number, volume in enumerate(volumes, 1):
                title(f'Volume {number}: {volume.what}')
                self.attach_write_grow(manager, guest, volume)
            self.show(manager, guest)
            self.kill_and_recover(manager, guest, volumes[0])
            title('Detach')
            for volume in volumes[1:]:
                self.detach(manager, guest, server, volume)
            self.prove_that_nothing_is_left(manager, guest, server, target)
        console.print(
            f'\nAll of it took {time.monotonic() - begin:.1f} s. Next: '
            '[bold].venv/bin/volumedrivers --help[/bold], and doc/.'
        )

    def start_guest(self, stack: contextlib.ExitStack):
        daemon = stack.enter_context(PrivateLibvirtd(self.directory / 'libvirt'))
        hypervisor = stack.enter_context(Hypervisor(daemon.uri))
        guest = guests.start_guest(hypervisor, 'demo')
        self.io = GuestIO(guest, lambda: daemon.guest_log('demo'))
        return hypervisor, guest

    def attach_write_grow(self, manager, guest, volume: Volume) -> None:
        info = ConnectionInfo.parse(volume.connection_info)
        attached = manager.attach(info, guest.name, DiskRequest(bus='scsi'))
        say('connect', self.short(attached.source), attached.seconds['connect'])
        say(
            'attach',
            f'as {attached.target}, format {attached.format}',
            attached.seconds['attach'],
        )

        alias = alias_of_volume(attached.volume_id)
        clock = time.monotonic()
        self.io.write(alias, PATTERN, MIB, MIB)
        if not volume.holds(PATTERN, MIB, MIB):
            raise SystemExit(f'{volume.image} does not hold what the guest wrote')
        say(
            'write',
            f"1 MiB to the guest's disk; {volume.where} holds the same",
            time.monotonic() - clock,
        )

        size = 2 * volume.size
        clock = time.monotonic()
        volume.grow(size)
        manager.extend(guest.name, attached.target, size)
        self.io.write(alias, PATTERN, size - MIB, MIB)
        if not volume.holds(PATTERN, size - MIB, MIB):
            raise SystemExit(f'{volume.image} does not hold what the guest wrote at its end')
        say(
            'grow',
            f'from {volume.size // MIB} to {size // MIB} MiB while attached; '
            'its new end was written, too',
            time.monotonic() - clock,
        )

    def show(self, manager, guest) -> None:
        title('What the guest has')
        for attached in manager.list(guest.name):
            kind = f'{attached.source_type}, {attached.format}'
            console.print(f'  {attached.target}  {kind:<15}{self.short(attached.source)}')

    def kill_and_recover(self, manager, guest, volume: Volume) -> None:
        title('Killed in the middle')
        volume_id = str(volume.connection_info['serial'])
        arguments = (str(self.directory), guest.hypervisor.uri, guest.name, volume_id)
        done = subprocess.run([sys.executable, __file__, 'be-killed', *arguments], check=False)
        if done.returncode != -signal.SIGKILL:
            raise SystemExit('the process that should have been killed was not')
        say('kill -9', 'a process that was detaching a volume, when the guest had let go of it')
        (record,) = manager.context.journal.find(volume_id=volume_id)
        say('journal', f'{record.operation} stopped after step {record.step}')
        for finding in manager.audit():
            if finding.volume_id == volume_id:
                say('audit', f'{finding.severity}: {finding.kind}')
        clock = time.monotonic()
        for outcome in manager.recover():
            say('recover', f'{outcome.action}: {outcome.detail}', time.monotonic() - clock)

    def detach(self, manager, guest, server: GlusterServer, volume: Volume) -> None:
        done = manager.detach(guest.name, volume.connection_info['serial'])
        after = ''
        if done.driver_volume_type == 'glusterfs':
            after = ' and the share ' + ('stays' if server.mounted_at() else 'is unmounted')
        say(done.target, f'the guest let go{after}', sum(done.seconds.values()))

    def short(self, source: str) -> str:
        """Cut what would not fit on a line: the temporary directory and most of the ids."""
        source = source.replace(str(self.directory / 'state' / 'mnt'), 'mnt')
        return re.sub(r'([0-9a-f]{8})[0-9a-f-]{24,28}', r'\1...', source)

    def prove_that_nothing_is_left(
        self, manager, guest, server: GlusterServer, target: IscsiTarget
    ) -> None:
        left = {
            'rows of the journal': len(manager.context.journal.find()),
            'problems in an audit': len(manager.audit()),
            'secrets in libvirt': len(guest.hypervisor.connection().listAllSecrets()),
            'disks in the guest': len(guest.disks()),
            'mounts of the share': len(server.mounted_at()),
            'iSCSI sessions': target.sessions(),
            'mount points': len(list((self.directory / 'state' / 'mnt').glob('*'))),
        }
        title('Left behind')
        say(
            'nothing' if not any(left.values()) else 'LEFT',
            ', '.join(f'{count} {what}' for what, count in left.items()),
        )
        if any(left.values()):
            raise SystemExit(1)


def main() -> int:
    if os.geteuid() != 0:
        console.print('The demonstration mounts a share, so it needs root.')
        return 3
    directory = pathlib.Path(tempfile.mkdtemp(prefix='vd-'))
    try:
        Demo(directory).run()
    except exception.VolumeDriversError as error:
        console.print(f'\n[bold red]{type(error).__name__}[/bold red]: {error}')
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(directory)
    return 0


if __name__ == '__main__':
    if sys.argv[1:2] == ['be-killed']:
        be_killed(pathlib.Path(sys.argv[2]), *sys.argv[3:])
    sys.exit(main())
