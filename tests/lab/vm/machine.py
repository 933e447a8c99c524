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

"""A virtual machine of the lab: QEMU, its disk, and commands run inside."""

from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import fcntl
import json
import os
import pathlib
import re
import secrets
import signal
import subprocess
import tempfile
import time
import typing

from tests.lab.vm import agent
from tests.lab.vm import agent_client
from tests.lab.vm import image
from tests.lab.vm import memory
from tests.lab.vm import programs
from tests.lab.vm import qemu
from tests.lab.vm import qmp
from tests.lab.vm.errors import LabError

# In the directory of a machine.
_OVERLAY = 'overlay.qcow2'
_QEMU_LOG = 'qemu.log'
_FACTS = 'machine.json'

# In the directory of a frozen machine.
FROZEN_DISK = 'disk.qcow2'
FROZEN_MEMORY = 'memory'
FROZEN_DEVICES = 'devices'

# Memory is not written to the stream of a migration but kept in a file of its
# own, which a restored machine maps and reads as it needs it.
_CAPABILITIES = [{'capability': 'x-ignore-shared', 'state': True}]


# Ends a machine whose process has gone.
_WATCH = 'read -r nothing; kill -9 "$1"'


class MachineError(LabError):
    """The virtual machine does not start, answer or stop."""


class VirtualMachine:
    """One virtual machine; leaving the context ends it, whatever it does.

    :param directory: of this machine: overlay, logs, sockets; made if missing
    :param image_directory: with disk, kernel and initrd (image.py)
    :param frozen: directory of a frozen machine, to restore or to boot its disk
    :param accelerator: 'kvm' or 'tcg'
    :param size: of its memory, MiB
    :param freezable: memory is kept so that it can be frozen
    :param lasting: it goes on when this process ends
    :param in_use: files that QEMU keeps locked (shared) as long as it runs
    """

    def __init__(
        self,
        directory: pathlib.Path,
        image_directory: pathlib.Path,
        frozen: pathlib.Path | None = None,
        *,
        accelerator: str = 'tcg',
        size: int = 4096,
        processors: int = 2,
        freezable: bool = False,
        lasting: bool = False,
        in_use: Sequence[pathlib.Path] = (),
    ) -> None:
        self.directory = directory.absolute()
        self.image_directory = image_directory.absolute()
        self.frozen = frozen.absolute() if frozen else None
        self.accelerator = accelerator
        self.size = size
        self.processors = processors
        self._memory = memory.Memory(size << 20) if freezable else None
        self._in_use = in_use
        self._lasting = lasting
        self._watcher: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._monitor: qmp.QmpClient | None = None
        self._address: agent_client.Address = ('', 0)
        self._token = ''

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @classmethod
    def running(cls, directory: pathlib.Path) -> 'VirtualMachine':
        """Return the machine that runs in a directory, which another process started.

        :raises MachineError: none does
        """
        try:
            facts = json.loads((directory / _FACTS).read_text())
        except OSError as error:
            raise MachineError(f'no virtual machine runs in {directory}') from error
        frozen = facts['frozen']
        machine = cls(
            directory,
            pathlib.Path(facts['image']),
            pathlib.Path(frozen) if frozen else None,
            accelerator=facts['accelerator'],
            size=facts['size'],
            processors=facts['processors'],
            lasting=True,
        )
        machine._pid = facts['pid']
        machine._address = ('127.0.0.1', facts['port'])
        machine._token = facts['token']
        if not machine.alive():
            raise MachineError(f'the virtual machine of {directory} has ended')
        return machine

    @property
    def console(self) -> pathlib.Path:
        """The log of its serial console."""
        return self.directory / qemu.CONSOLE

    @property
    def qemu_log(self) -> pathlib.Path:
        """What QEMU said."""
        return self.directory / _QEMU_LOG

    def alive(self) -> bool:
        """Tell whether QEMU runs."""
        if self._process is not None:
            return self._process.poll() is None
        if not self._pid:
            return False
        try:
            command = pathlib.Path(f'/proc/{self._pid}/cmdline').read_bytes()
            where = pathlib.Path(f'/proc/{self._pid}/cwd').readlink()
        except OSError:
            return False
        return b'qemu-system' in command and where == self.directory.resolve()

    def boot(self, *, timeout: float = 180.0) -> None:
        """Start it cold, on the disk it left if it ran before, and wait for its agent.

        :param timeout: seconds
        :raises MachineError
        """
        overlay = self.directory / _OVERLAY
        if not overlay.exists():
            self._make_overlay()
        self._start([])
        self._await_agent(timeout, booting=True)

    def restore(self, *, timeout: float = 60.0) -> None:
        """Go on from the frozen state, on its disk, and wait for the agent.

        What the machine did before, if it ran, is gone.

        :param timeout: seconds
        :raises MachineError
        """
        if self.frozen is None:
            raise MachineError('there is no frozen state to restore')
        self.stop()
        self._make_overlay()
        self._start(['-incoming', 'defer'], memory_file=self.frozen / FROZEN_MEMORY)
        with self._explained(), (self.frozen / FROZEN_DEVICES).open('rb') as file:
            monitor = self.monitor()
            monitor.execute('migrate-set-capabilities', {'capabilities': _CAPABILITIES})
            monitor.execute('getfd', {'fdname': 'devices'}, descriptor=file.fileno())
            monitor.execute('migrate-incoming', {'uri': 'fd:devices'})
            self._await_status({'paused', 'running', 'prelaunch', 'postmigrate'}, timeout)
            monitor.execute('cont')
        self._await_agent(timeout)

    def freeze(self, directory: pathlib.Path) -> None:
        """Stop it for ever and keep disk, memory and devices in a directory.

        :raises MachineError
        """
        if self._memory is None:
            raise MachineError('this machine was not made to be frozen')
        directory.mkdir(parents=True, exist_ok=True)
        with self._explained():
            monitor = self.monitor()
            monitor.execute('stop')
            monitor.execute('migrate-set-capabilities', {'capabilities': _CAPABILITIES})
            with (directory / FROZEN_DEVICES).open('wb') as file:
                monitor.execute('getfd', {'fdname': 'devices'}, descriptor=file.fileno())
                monitor.execute('migrate', {'uri': 'fd:devices'})
                self._await_migration()
            self._memory.save(directory / FROZEN_MEMORY)
            monitor.execute('quit')
        self._ended()
        (self.directory / _OVERLAY).rename(directory / FROZEN_DISK)

    def power_cut(self, *, timeout: float = 180.0) -> None:
        """Take the power away without a warning, give it back and wait for the agent.

        What the machine had not told its disk to keep may be lost.

        :param timeout: seconds
        :raises MachineError
        """
        self.stop()
        self.boot(timeout=timeout)

    def stop(self) -> None:
        """End it at once; its directory stays."""
        if self.alive():
            pid = self._process.pid if self._process else self._pid
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._ended()

    def set_link(self, name: str, up: bool) -> None:
        """Let a Fibre Channel port lose all frames in both directions, or none.

        As behind a switch that has failed: the card keeps its carrier, the
        host only misses answers.

        :param name: a key of qemu.FABRICS
        :raises MachineError
        """
        if name not in qemu.FABRICS:
            raise MachineError(f'no port {name}; there are {", ".join(qemu.FABRICS)}')
        with self._explained():
            self.monitor().execute('set_link', {'name': name, 'up': up})

    def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes = b'',
        timeout: float | None = 120.0,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        check: bool = False,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command inside to its end.

        :param timeout: seconds
        :param env: variables beside those the agent has
        :param check: an exit status other than 0 is an error
        :raises agent_client.AgentError
        :raises MachineError: with what it wrote to stderr, if checked
        :raises subprocess.TimeoutExpired
        """
        done = agent_client.run(
            self._address, self._token, argv, input=input, timeout=timeout, env=env, cwd=cwd
        )
        if check and done.returncode != 0:
            said = done.stderr.decode(errors='replace').strip()[-2000:]
            raise MachineError(f'{argv[0]} ended with {done.returncode} in the machine: {said}')
        return done

    def popen(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        terminal: tuple[int, int] | None = None,
    ) -> agent_client.RemoteProcess:
        """Start a command inside.

        :raises agent_client.AgentError
        """
        return agent_client.RemoteProcess(
            self._address, self._token, argv, env=env, cwd=cwd, terminal=terminal
        )

    def push(self, local_directory: pathlib.Path, remote_directory: str) -> None:
        """Put a copy of a directory into the machine, in the place of what was there.

        :raises MachineError
        """
        with tempfile.TemporaryFile() as archive:
            packed = ['tar', '-C', local_directory, '--owner=0', '--group=0', '-c', '.']
            subprocess.run(packed, stdout=archive, check=True)
            archive.seek(0)
            script = 'rm -rf "$1" && mkdir -p "$1" && exec tar -C "$1" -x'
            self.run(
                ['sh', '-c', script, 'push', remote_directory], input=archive.read(), check=True
            )

    def monitor(self) -> qmp.QmpClient:
        """Return the connection to QEMU's monitor."""
        if self._monitor is None:
            self._monitor = qmp.connect(self.directory / qemu.MONITOR, self.alive)
        return self._monitor

    def _make_overlay(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.frozen:
            backing, kind = self.frozen / FROZEN_DISK, 'qcow2'
        else:
            backing, kind = self.image_directory / image.DISK, 'raw'
        overlay = self.directory / _OVERLAY
        overlay.unlink(missing_ok=True)
        tool = programs.find('qemu-img', 'qemu-utils')
        programs.run([tool, 'create', '-q', '-f', 'qcow2', '-b', backing, '-F', kind, overlay])

    def _start(self, arguments: Sequence[str], *, memory_file: pathlib.Path | None = None) -> None:
        if self.alive():
            raise MachineError(f'the virtual machine of {self.directory} runs already')
        for name in (qemu.MONITOR, qemu.CONSOLE, _FACTS):
            (self.directory / name).unlink(missing_ok=True)
        self._token = secrets.token_hex(16)
        token = self.directory / qemu.TOKEN
        token.unlink(missing_ok=True)
        with os.fdopen(os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), 'w') as file:
            file.write(self._token)
        held = [file.open('rb') for file in self._in_use]
        for file in held:
            fcntl.flock(file, fcntl.LOCK_SH)
        descriptors = [file.fileno() for file in held]
        if self._memory is not None:
            descriptors.append(self._memory.descriptor)
        with self.qemu_log.open('wb') as log:
            self._process = subprocess.Popen(
                [
                    *qemu.arguments(
                        self.accelerator,
                        kernel=self.image_directory / image.KERNEL,
                        initrd=self.image_directory / image.INITRD,
                        disk=_OVERLAY,
                        size=self.size,
                        processors=self.processors,
                        memory=self._backend(memory_file),
                    ),
                    *arguments,
                ],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=descriptors,
                start_new_session=True,
            )
        for file in held:
            file.close()
        self._pid = self._process.pid
        if not self._lasting:
            # Its input ends when this process does, however that comes.
            self._watcher = subprocess.Popen(
                ['sh', '-c', _WATCH, 'lab-watch', str(self._pid)],
                stdin=subprocess.PIPE,
                start_new_session=True,
            )
        with self._explained():
            self._address = ('127.0.0.1', self._find_port())
        facts = {
            'pid': self._pid,
            'port': self._address[1],
            'token': self._token,
            'image': str(self.image_directory),
            'frozen': str(self.frozen) if self.frozen else None,
            'accelerator': self.accelerator,
            'size': self.size,
            'processors': self.processors,
        }
        path = self.directory / _FACTS
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), 'w') as file:
            json.dump(facts, file)

    def _backend(self, file: pathlib.Path | None) -> str:
        if self._memory is not None:
            return f'memory-backend-file,mem-path={self._memory.path},share=on'
        if file is not None:
            # It gets a copy of each page that it writes; the others are shared
            # by all machines that were restored from this state.
            return f'memory-backend-file,mem-path={file},share=off'
        return 'memory-backend-ram'

    def _find_port(self) -> int:
        # QEMU took a free one; no other way leaves it to nobody else meanwhile.
        text = self.monitor().execute('human-monitor-command', {'command-line': 'info usernet'})
        forward = rf'HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+{qemu.AGENT_PORT}\b'
        found = re.search(forward, text)
        if not found:
            raise MachineError(f'QEMU forwards no port to the agent: {text}')
        return int(found[1])

    def _await_agent(self, timeout: float, *, booting: bool = False) -> None:
        deadline = time.monotonic() + timeout
        patience = 0.5
        while True:
            # A question that comes too early is answered late: it is sent again
            # at longer and longer intervals.
            early = time.monotonic() + 10.0
            while booting and time.monotonic() < early and self.alive() and not self._listens():
                time.sleep(0.05)
            try:
                agent_client.ask(
                    self._address, self._token, set_clock=time.time(), timeout=patience
                )
            except agent_client.AgentError as error:
                if not self.alive():
                    raise MachineError(f'QEMU ended\n{self.said()}') from error
                if time.monotonic() > deadline:
                    raise MachineError(
                        f'no agent within {timeout:g} s ({error})\n{self.said()}'
                    ) from error
                patience = min(patience * 1.5, 10.0)
                time.sleep(0.05)
            else:
                return

    def _listens(self) -> bool:
        return agent.READY in self.console.read_text(errors='replace')

    def _await_status(self, wanted: set[str], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while True:
            status = self.monitor().execute('query-status')['status']
            if status in wanted:
                return
            if time.monotonic() > deadline:
                raise MachineError(f'still {status} after {timeout:g} s\n{self.said()}')
            time.sleep(0.02)

    def _await_migration(self, timeout: float = 120.0) -> None:
        deadline = time.monotonic() + timeout
        while True:
            found = self.monitor().execute('query-migrate')
            status = found.get('status', 'none')
            if status == 'completed':
                return
            if status in {'failed', 'cancelled'} or time.monotonic() > deadline:
                reason = found.get('error-desc', 'too slow')
                raise MachineError(f'freezing: {status}: {reason}\n{self.said()}')
            time.sleep(0.05)

    def _ended(self) -> None:
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.communicate()
            self._watcher = None
        deadline = time.monotonic() + 30.0
        if self._process is not None:
            self._process.wait(30.0)
            self._process = None
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        self._pid = 0
        (self.directory / _FACTS).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _explained(self) -> typing.Iterator[None]:
        """Add what QEMU and the console said to an error of the monitor."""
        try:
            yield
        except qmp.QmpError as error:
            raise MachineError(f'{error}\n{self.said()}') from error

    def said(self) -> str:
        """Return the last lines of its console, and of QEMU."""
        parts = [programs.tail(self.qemu_log), programs.tail(self.console)]
        return '\n'.join(part for part in parts if part)
