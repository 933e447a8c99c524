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

"""A libvirtd of its own, which touches nothing of the machine's.

It runs in a private mount and UTS namespace with own directories in the place
of libvirt's, needs no systemd, and is reached from outside by its socket.  It
needs root.  Two of them on one machine are two hosts to libvirt, so that one
can migrate to the other.
"""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import types
import typing
import uuid

from volumedrivers import exception
from volumedrivers.testing import libvirtd_keeper

# As root and without cgroups, AppArmor or virtlogd around; QEMU opens what the
# tests own.
QEMU_CONF = """\
stdio_handler = "file"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
seccomp_sandbox = 0
"""

LIBVIRTD_CONF = """\
unix_sock_dir = "/run/libvirt"
unix_sock_group = "root"
unix_sock_rw_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
host_uuid = "{host_uuid}"
log_outputs = "3:file:{log}"
"""

# Longer paths do not fit into a socket address (108 bytes); libvirt puts
# sockets some 60 characters below its directory, but inside the namespace,
# where the path is short.  From outside only our own socket counts.
_LONGEST_DIRECTORY = 80

# How often libvirtd is asked whether it is there, and after how many of these its keeper is
# asked whether it still runs.
_TRIES = 3000
_LOOKS = 100


def cache_directory() -> pathlib.Path:
    """Return where things that are slow to make are kept between runs."""
    base = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    path = pathlib.Path(base) / 'volumedrivers' / 'testing'
    path.mkdir(parents=True, exist_ok=True)
    return path


def find_program(name: str, package: str) -> str:
    """Return the path of a program.

    :raises ToolMissing: says which Debian package has it
    """
    found = shutil.which(name, path=f'{os.environ.get("PATH", "")}:/usr/sbin:/sbin')
    if found is None:
        raise exception.ToolMissing(tool=name, package=package)
    return found


def prepare_embed_root(root: pathlib.Path) -> str:
    """Write the configuration an embedded QEMU driver needs below ``root``.

    Keep the path short: libvirt's sockets are in it.

    :returns: the URI to open
    """
    etc = root / 'etc'
    etc.mkdir(parents=True, exist_ok=True)
    # Who is not root cannot give QEMU to another user, and may not even say so.
    conf = QEMU_CONF if os.geteuid() == 0 else 'stdio_handler = "file"\n'
    (etc / 'qemu.conf').write_text(conf)
    _seed_capabilities(root / 'cache' / 'qemu' / 'capabilities')
    return f'qemu:///embed?root={root}'


def keep_capabilities(capabilities: pathlib.Path) -> None:
    """Remember what libvirt found out about QEMU, for the next run.

    Asking a QEMU binary takes libvirt some 4 seconds; libvirt checks itself
    whether the answer still holds.
    """
    kept = cache_directory() / 'capabilities'
    kept.mkdir(exist_ok=True)
    for path in capabilities.glob('*.xml'):
        there = kept / path.name
        if not there.exists() or there.stat().st_mtime < path.stat().st_mtime:
            fresh = kept / f'.{path.name}.{os.getpid()}'
            shutil.copy2(path, fresh)
            fresh.replace(there)


def _seed_capabilities(capabilities: pathlib.Path) -> None:
    capabilities.mkdir(parents=True, exist_ok=True)
    for path in (cache_directory() / 'capabilities').glob('*.xml'):
        shutil.copy2(path, capabilities / path.name)


class PrivateLibvirtd:
    """A libvirtd in its own namespaces; a context manager.

    :ivar uri: for Hypervisor
    :ivar address: where guests arrive that migrate here
    :ivar directory: holds its configuration, its log ``libvirtd.log`` and,
        below log/qemu, those of its guests
    """

    def __init__(
        self, directory: pathlib.Path, *, name: str = 'testhost', address: str = '127.0.0.2'
    ) -> None:
        if len(str(directory)) > _LONGEST_DIRECTORY:
            raise exception.InvalidOption(
                option='directory of a private libvirtd',
                found=str(directory),
                expected=f'a path of at most {_LONGEST_DIRECTORY} characters',
            )
        self.directory = directory
        self.name = name
        self.address = address
        self.host_uuid = str(uuid.uuid4())
        self.socket = directory / 'run' / 'libvirt-sock'
        self.uri = f'qemu+unix:///system?socket={self.socket}'
        self._keeper: subprocess.Popen[str] | None = None

    @property
    def log(self) -> str:
        """What libvirtd logged so far (warnings and errors)."""
        path = self.directory / 'libvirtd.log'
        return path.read_text(errors='replace') if path.exists() else ''

    @property
    def pid(self) -> int:
        """Process id of libvirtd."""
        return int((self.directory / 'libvirtd.pid').read_text())

    def guest_log(self, name: str) -> str:
        """What QEMU of a guest wrote so far."""
        path = self.directory / 'log' / 'qemu' / f'{name}.log'
        return path.read_text(errors='replace') if path.exists() else ''

    def start(self) -> None:
        """Start it and wait until it answers (0.2 s).

        :raises ToolMissing, HypervisorUnavailable
        """
        program = find_program('libvirtd', 'libvirt-daemon-system')
        find_program('qemu-system-x86_64', 'qemu-system-x86')
        self._write_configuration()
        pid_file = self.directory / 'libvirtd.pid'
        command = [program, '-f', '/etc/libvirt/libvirtd.conf', '-p', str(pid_file)]
        given = {
            'host_name': self.name,
            'binds': self._binds(),
            'command': command,
            'log': str(self.directory / 'libvirtd.out'),
        }
        self._keeper = subprocess.Popen(
            [sys.executable, '-I', '-S', libvirtd_keeper.__file__, json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read_answer()
        self._tell('start')
        self._wait_until_it_answers()

    def stop(self) -> None:
        """End it and every guest that is left in it."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        keeper.communicate(timeout=30)
        keep_capabilities(self.directory / 'cache' / 'qemu' / 'capabilities')

    def restart(self, *, kill: bool = False) -> None:
        """Stop libvirtd and start it again; its guests go on running."""
        self.stop_daemon(kill=kill)
        self.start_daemon()

    def stop_daemon(self, *, kill: bool = False) -> None:
        """Stop libvirtd only, politely or not; its guests go on running."""
        self._tell('kill' if kill else 'terminate')

    def start_daemon(self) -> None:
        """Start libvirtd after stop_daemon."""
        self._tell('start')
        self._wait_until_it_answers()

    def __enter__(self) -> typing.Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self.stop()

    def _binds(self) -> dict[str, str]:
        return {
            str(self.directory / 'run'): '/run/libvirt',
            str(self.directory / 'etc'): '/etc/libvirt',
            str(self.directory / 'lib'): '/var/lib/libvirt',
            str(self.directory / 'log'): '/var/log/libvirt',
            str(self.directory / 'cache'): '/var/cache/libvirt',
        }

    def _write_configuration(self) -> None:
        for source in self._binds():
            pathlib.Path(source).mkdir(parents=True, exist_ok=True)
        etc = self.directory / 'etc'
        # Anything of loopback but 127.0.0.1, which libvirt refuses for this.
        received = f'migration_address = "{self.address}"\n'
        (etc / 'qemu.conf').write_text(QEMU_CONF + received)
        (etc / 'libvirtd.conf').write_text(
            LIBVIRTD_CONF.format(host_uuid=self.host_uuid, log=self.directory / 'libvirtd.log')
        )
        _seed_capabilities(self.directory / 'cache' / 'qemu' / 'capabilities')

    def _tell(self, command: str) -> dict[str, typing.Any]:
        if self._keeper is None or self._keeper.stdin is None:
            raise exception.HypervisorUnavailable(uri=self.uri, reason='it was not started')
        self._keeper.stdin.write(command + '\n')
        self._keeper.stdin.flush()
        return self._read_answer()

    def _read_answer(self) -> dict[str, typing.Any]:
        line = ''
        if self._keeper is not None and self._keeper.stdout is not None:
            line = self._keeper.stdout.readline()
        answer: dict[str, typing.Any] = json.loads(line) if line else {'error': 'its keeper ended'}
        if 'error' in answer:
            raise exception.HypervisorUnavailable(uri=self.uri, reason=answer['error'])
        return answer

    def _wait_until_it_answers(self) -> None:
        # Tries, not the clock, which leaps where the machine is itself a paused guest.
        for number in range(_TRIES):
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(self.socket)) == 0:
                    return
            if number % _LOOKS == _LOOKS - 1 and self._tell('status')['pid'] is None:
                break
            time.sleep(0.01)
        output = self.directory / 'libvirtd.out'
        said = output.read_text(errors='replace') if output.exists() else ''
        raise exception.HypervisorUnavailable(
            uri=self.uri,
            reason=f'libvirtd did not start; it wrote:\n{said[-2000:]}{self.log[-2000:]}',
        )
