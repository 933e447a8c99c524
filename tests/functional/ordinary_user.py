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

"""A user of this machine for a test, who may run rootwrap as root and nothing else.

The user's processes run in a mount namespace of their own, so that what they
mount is nobody else's; there, too, the interpreter and the clone are readable
for the user even where they lie in a directory that is closed to others, such
as /root.
"""

import os
import pathlib
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time

from volumedrivers.host import bootstrap

ROOT = pathlib.Path(__file__).parents[2]
SUDOERS = pathlib.Path('/etc/sudoers.d')
PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

ROOTWRAP_CONF = """\
[DEFAULT]
filters_path={filters}
exec_dirs={scripts},/usr/sbin,/usr/bin,/sbin,/bin
use_syslog=False
"""

# With debug a helper logs every answer it gives, which is what one of them
# must keep to itself.
VOLUMEDRIVERS_CONF = """\
[DEFAULT]
debug = true

[volumedrivers]
state_path = {state}
lock_path = {state}/locks
rootwrap_config = {rootwrap}
mount_timeout = 20
virt_type = qemu
connection_uri = qemu:///embed?root={state}/e
"""

# Runs as root in the new namespace, then becomes the user.
ENTER = """\
set -e
{reach}
readlink /proc/self/ns/mnt >{directory}/namespace
exec setpriv --reuid={name} --regid={name} --clear-groups --inh-caps=-all \\
    env -i PATH={path} HOME={state} LANG=C.UTF-8 {command}
"""

# Lays an empty, readable directory over one that is closed, with only what is
# needed in it.
REACH = """\
mkdir -p {keep}
mount --rbind {closed} {keep}
mount -t tmpfs -o mode=755 tmpfs {closed}
{binds}
umount -l {keep}
"""


class OrdinaryUser:
    """A context manager; everything it makes is removed at the end.

    :ivar conf_file: a configuration that only root can write
    :ivar state: a directory of the user
    """

    def __init__(self) -> None:
        # sudo reads no file with a dot in its name.
        self.name = f'vdtest{secrets.token_hex(4)}'
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix='vd-', dir='/run'))
        self.state = self.directory / 'state'
        self.conf_file = self.directory / 'volumedrivers.conf'
        self.rootwrap_conf = self.directory / 'rootwrap.conf'
        self.sudoers = SUDOERS / self.name

    def __enter__(self) -> 'OrdinaryUser':
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._end_processes()
        self.sudoers.unlink(missing_ok=True)
        subprocess.run(['userdel', self.name], check=False, capture_output=True)
        shutil.rmtree(self.directory)

    def _make(self) -> None:
        subprocess.run(
            [
                'useradd',
                '--system',
                '--user-group',
                '--no-create-home',
                '--shell=/usr/sbin/nologin',
                self.name,
            ],
            check=True,
        )
        self.directory.chmod(0o755)
        self.state.mkdir()
        shutil.chown(self.state, self.name, self.name)
        self.rootwrap_conf.write_text(
            ROOTWRAP_CONF.format(
                filters=ROOT / 'etc/rootwrap.d', scripts=pathlib.Path(bootstrap.rootwrap()).parent
            )
        )
        self.conf_file.write_text(
            VOLUMEDRIVERS_CONF.format(state=self.state, rootwrap=self.rootwrap_conf)
        )
        rule = f'{self.name} ALL=(root) NOPASSWD: {bootstrap.rootwrap()} {self.rootwrap_conf} *\n'
        draft = self.directory / 'sudoers'
        draft.write_text(rule)
        draft.chmod(0o440)
        subprocess.run(['visudo', '--check', '--quiet', f'--file={draft}'], check=True)
        shutil.copyfile(draft, self.sudoers)
        self.sudoers.chmod(0o440)

    def run(self, *command: str, timeout: float = 60) -> 'subprocess.CompletedProcess[str]':
        """Run a program as the user; what it leaves behind is ended."""
        script = ENTER.format(
            reach=self._reach(),
            directory=self.directory,
            name=self.name,
            path=PATH,
            state=self.state,
            command=shlex.join(command),
        )
        try:
            return subprocess.run(
                ['unshare', '--mount', '--propagation=private', 'sh', '-c', script],
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
                cwd='/',
            )
        finally:
            self._end_processes()

    def python(self, code: str, *, timeout: float = 60) -> 'subprocess.CompletedProcess[str]':
        """Run Python code as the user, with this package."""
        script = self.directory / 'script.py'
        script.write_text(textwrap.dedent(code))
        return self.run(sys.executable, str(script), timeout=timeout)

    def _reach(self) -> str:
        """Return the commands that make the interpreter and the clone readable."""
        needed = {ROOT, pathlib.Path(sys.prefix), pathlib.Path(sys.base_prefix).resolve()}
        by_closed: dict[pathlib.Path, list[pathlib.Path]] = {}
        for path in needed:
            for above in reversed(path.parents):
                if not above.stat().st_mode & 0o001:
                    by_closed.setdefault(above, []).append(path)
                    break
        commands = []
        for number, (closed, paths) in enumerate(by_closed.items()):
            keep = self.directory / f'keep{number}'
            binds = [
                f'mkdir -p {path} && mount --rbind {keep / path.relative_to(closed)} {path}'
                for path in sorted(paths)
            ]
            commands.append(REACH.format(keep=keep, closed=closed, binds='\n'.join(binds)))
        return '\n'.join(commands)

    def _end_processes(self) -> None:
        """End what still runs in the namespace: FUSE clients, a guest after a failure."""
        recorded = self.directory / 'namespace'
        if not recorded.exists():
            return
        namespace = recorded.read_text().strip()
        end = time.monotonic() + 10
        while time.monotonic() < end:
            left = [pid for pid in _processes() if _namespace_of(pid) == namespace]
            if not left:
                break
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.05)
        recorded.unlink()


def _processes() -> list[int]:
    return [int(name) for name in os.listdir('/proc') if name.isdigit()]


def _namespace_of(pid: int) -> str | None:
    try:
        return os.readlink(f'/proc/{pid}/ns/mnt')
    except OSError:
        return None
