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

"""Volumes of a real Cinder in a real guest, by their names; each step is shown.

A Cinder and a libvirtd of its own are started.  A volume on a GlusterFS share
and one on an iSCSI target are created, attached with the command line, written
through the guest, one is grown live, and they are detached; one detach is
killed in the middle, and recovered.  All of it is real and runs on loopback;
nothing is left.
"""

import contextlib
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import typing
import warnings

# Read when libvirt is imported: errors only, else it talks to the terminal.
os.environ.setdefault('LIBVIRT_DEBUG', '4')
from oslo_config import cfg
from rich.console import Console

from volumedrivers import exception
from volumedrivers.attachment.block_storage.manager import make_volume_manager
from volumedrivers.attachment.manager import make_manager
from volumedrivers.cinder.connection import connect
from volumedrivers.cmd.main import main as volumedrivers
from volumedrivers.conf import opts
from volumedrivers.host import bootstrap
from volumedrivers.libvirt.disk_of_volume import alias_of_volume
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing.cinder.backends import Backend
from volumedrivers.testing.cinder.backends import IscsiBackend
from volumedrivers.testing.cinder.embedded import EmbeddedCinder
from volumedrivers.testing.cinder.gluster_backend import GlusterBackend
from volumedrivers.testing.gluster import GlusterServer
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.qemu_io import GuestIO

MIB = 2**20
GIB = 2**30
GUEST = 'web1'
ON_SHARE, ON_TARGET = 'documents', 'database'
console = Console(highlight=False, soft_wrap=True)


def say(what: str, how: str, seconds: float | None = None) -> None:
    took = '' if seconds is None else f'[dim]  {seconds:.2f} s[/dim]'
    console.print(f'  [bold]{what:<10}[/bold]{how}{took}')


def title(text: str) -> None:
    console.print(f'\n[bold cyan]{text}[/bold cyan]')


class Settings:
    """What an operator would have in /etc and in the environment."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.state = directory / 'state'
        self.file = directory / 'volumedrivers.conf'
        self.clouds = directory / 'clouds.yaml'

    def write(self, *, libvirt: str, cinder: str) -> None:
        self.file.write_text(
            '[volumedrivers]\n'
            f'connection_uri = {libvirt}\n'
            f'state_path = {self.state}\n'
            'virt_type = qemu\n'
            'iscsi_client = qemu\n'
            'iscsi_initiator_name = iqn.2020-01.org.volumedrivers:demo\n'
        )
        self.clouds.write_text(
            'clouds:\n'
            '  demo:\n'
            '    auth_type: none\n'
            f'    block_storage_endpoint_override: {cinder}\n'
        )

    def use(self) -> None:
        os.environ.update(OS_CLIENT_CONFIG_FILE=str(self.clouds), OS_CLOUD='demo')

    def conf(self) -> cfg.ConfigOpts:
        conf = cfg.ConfigOpts()
        opts.register_opts(conf)
        conf([], project='volumedrivers', default_config_files=[str(self.file)])
        return conf


@contextlib.contextmanager
def seen_by_libvirtd(directory: pathlib.Path) -> typing.Iterator[None]:
    """Let what is mounted below be seen in libvirtd's own mount namespace."""
    subprocess.run(['mount', '--bind', str(directory), str(directory)], check=True)
    try:
        subprocess.run(['mount', '--make-shared', str(directory)], check=True)
        yield
    finally:
        subprocess.run(['umount', '--lazy', str(directory)], check=True)


def be_killed(directory: pathlib.Path, volume: str) -> None:
    """Detach, and die without a word when the guest has let go."""

    def die(operation: str, step: str, moment: str) -> None:
        if (operation, step, moment) == ('detach', 'detach', 'after'):
            os.kill(os.getpid(), signal.SIGKILL)

    conf = Settings(directory).conf()
    bootstrap.setup(conf)
    with Hypervisor(conf.volumedrivers.connection_uri) as hypervisor:
        manager = make_manager(conf, hypervisor, observer=die)
        make_volume_manager(conf, connect(conf), manager).detach(GUEST, volume)


class Demo:
    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.settings = Settings(directory)

    def run(self) -> None:
        begin = time.monotonic()
        with contextlib.ExitStack() as stack:
            stack.enter_context(seen_by_libvirtd(self.directory))
            title('Storage, and a Cinder in front of it')
            clock = time.monotonic()
            self.share = stack.enter_context(GlusterServer(self.directory / 'gluster'))
            say('share', f'GlusterFS {self.share.export}', time.monotonic() - clock)
            clock = time.monotonic()
            self.backends: dict[str, Backend] = {
                ON_SHARE: GlusterBackend(server=self.share),
                ON_TARGET: IscsiBackend(),
            }
            cinder = stack.enter_context(
                EmbeddedCinder(self.directory / 'cinder', list(self.backends.values()), serve=True)
            )
            say(
                'Cinder',
                f'API, scheduler and volume manager at {cinder.url}; '
                f'types {" and ".join(cinder.volume_types)}',
                time.monotonic() - clock,
            )
            title('Guest')
            clock = time.monotonic()
            hypervisor, guest = self.start_guest(stack)
            say(
                GUEST,
                'QEMU in a libvirtd of its own; empty, QEMU does its I/O',
                time.monotonic() - clock,
            )
            self.settings.write(libvirt=hypervisor.uri, cinder=str(cinder.url))
            self.settings.use()
            self.storage: typing.Any = cinder.connection.block_storage

            title('Volumes')
            ids = {name: self.create(name) for name in self.backends}
            for name, volume_id in ids.items():
                title(f'{name}: {self.backends[name].name}')
                self.shell('volume', 'attach', GUEST, name, '--bus', 'scsi')
                self.write(volume_id, MIB)
                say('write', f"1 MiB to the guest's disk; {self.where(name)} holds the same")
            title('Grown while the guest runs')
            self.shell('volume', 'extend', ON_TARGET, '2G')
            self.write(ids[ON_TARGET], 2 * GIB - MIB)
            say('write', f'its new end was written, and {self.where(ON_TARGET)} holds it')
            title('What there is')
            self.shell('volume', 'list')
            self.shell('list')
            self.shell('show', GUEST, 'sdb', '--tree')
            self.kill_and_recover(ON_SHARE)
            title('Detach')
            self.shell('volume', 'detach', GUEST, ON_TARGET)
            self.prove_that_nothing_is_left(hypervisor, guest)
        console.print(
            f'\nAll of it took {time.monotonic() - begin:.1f} s. Next: '
            '[bold].venv/bin/volumedrivers --help[/bold], and doc/source/shell.rst.'
        )

    def start_guest(self, stack: contextlib.ExitStack) -> tuple[Hypervisor, Guest]:
        daemon = stack.enter_context(PrivateLibvirtd(self.directory / 'libvirt'))
        hypervisor = stack.enter_context(Hypervisor(daemon.uri))
        guest = guests.start_guest(hypervisor, GUEST)
        self.io = GuestIO(guest, lambda: daemon.guest_log(GUEST))
        return hypervisor, guest

    def create(self, name: str) -> str:
        kind = self.backends[name].name
        clock = time.monotonic()
        made = self.storage.create_volume(name=name, size=1, volume_type=kind)
        self.storage.wait_for_status(made, 'available', interval=0.05, wait=20)
        say(name, f'1 GiB of type {kind}', time.monotonic() - clock)
        return str(made.id)

    def shell(self, *words: str) -> None:
        """Run a command line as it would be typed, and show what it prints."""
        console.print(f'[bold]$ volumedrivers {shlex.join(words)}[/bold]')
        code = volumedrivers(['--config-file', str(self.settings.file), *words])
        if code:
            raise SystemExit(f'volumedrivers {shlex.join(words)} ended with {code}')

    def write(self, volume_id: str, offset: int) -> None:
        """Write through the guest, and look for it past the guest's QEMU."""
        self.io.write(alias_of_volume(volume_id), 0x5A, offset, MIB)
        backend = next(one for one in self.backends.values() if one.image(volume_id).exists())
        with backend.image(volume_id).open('rb') as image:
            image.seek(offset)
            if image.read(MIB) != b'\x5a' * MIB:
                raise SystemExit(f'{image.name} does not hold what the guest wrote')

    def where(self, name: str) -> str:
        return "the server's brick" if name == ON_SHARE else "the target's backing file"

    def kill_and_recover(self, name: str) -> None:
        title('Killed in the middle')
        done = subprocess.run(
            [sys.executable, __file__, 'be-killed', str(self.directory), name], check=False
        )
        if done.returncode != -signal.SIGKILL:
            raise SystemExit('the process that should have been killed was not')
        say('kill -9', f'a detach of {name}, when the guest had let go of it')
        self.shell('recover')

    def prove_that_nothing_is_left(self, hypervisor: Hypervisor, guest: Guest) -> None:
        conf = self.settings.conf()
        manager = make_manager(conf, hypervisor)
        both = make_volume_manager(conf, connect(conf), manager)
        states = sorted({volume.status for volume in self.storage.volumes()})
        left = {
            'attachments in Cinder': len(list(self.storage.attachments())),
            'rows of the journal': len(
                manager.context.journal.find() + both.context.reservations.find()
            ),
            'problems in an audit': len(both.audit()),
            'secrets in libvirt': len(hypervisor.connection().listAllSecrets()),
            'disks in the guest': len(guest.disks()),
            'mounts of the share': sum(
                str(self.settings.state) in place for place in self.share.mounted_at()
            ),
        }
        title('Left behind')
        clean = not any(left.values()) and states == ['available']
        say(
            'nothing' if clean else 'LEFT',
            ', '.join(f'{count} {what}' for what, count in left.items())
            + f'; both volumes are {", ".join(states)}',
        )
        if not clean:
            raise SystemExit(1)


def main() -> int:
    if os.geteuid() != 0:
        console.print('The demonstration mounts a share, so it needs root.')
        return 3
    # What Cinder and its libraries say to their developers.
    warnings.simplefilter('ignore')
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
        be_killed(pathlib.Path(sys.argv[2]), sys.argv[3])
    sys.exit(main())
