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

"""The host under test that comes with the project: a virtual machine."""

from collections.abc import Sequence
import contextlib
import os
import pathlib
import tempfile
import typing

from tests.lab.hosts.bundle import bundle
from tests.lab.hosts.host import Host
from tests.lab.hosts.host import HostError
from tests.lab.hosts.sessions import BENCH
from tests.lab.hosts.sessions import Sessions
from tests.lab.rpc.client import RpcServer
from tests.lab.rpc.client import Session
from tests.lab.rpc.client import Stream
from tests.lab.vm.machine import VirtualMachine

PYTHON = '/opt/lab/venv/bin/python'
SITE = '/opt/lab/site'
TIMEOUT = 900.0  # seconds, to bring everything up

# Directories of the image, and of the frozen machine if there is one.
IMAGE = 'VOLUMEDRIVERS_LAB_IMAGE'
FROZEN = 'VOLUMEDRIVERS_LAB_FROZEN'


class VirtualHost(Host):
    """A machine that is restored from the frozen state; its sessions live in it.

    :ivar machine: to look at by hand
    """

    def __init__(self) -> None:
        self.machine: VirtualMachine
        self.name = 'virtual machine'
        self._sessions = Sessions(self._start)
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> typing.Self:
        archive = bundle()
        with contextlib.ExitStack() as entered:
            self.machine = entered.enter_context(open_machine(entered))
            entered.callback(self._sessions.end)
            self._begin(archive)
            self._exit = entered.pop_all()
        self.name = f'virtual machine ({self.machine.accelerator.upper()})'
        return self

    def __exit__(self, *exc: object) -> None:
        self._exit.close()

    def storage(self) -> Session:
        return self._sessions.storage()

    def benches(self) -> RpcServer:
        return self._sessions.benches()

    def can(self, what: str) -> str | None:
        """Everything may be done to it."""
        return None

    def power_cut(self, backends: Sequence[str] = ()) -> None:
        self._sessions.end()
        self.machine.power_cut()
        self._push(bundle())
        self._python(['tests.lab.storage.up', *backends])
        self._python(['tests.lab.bench.up', '--without-linux'])
        self._sessions.begin(f'{BENCH}:Bench', {'options': {}}, storage=True)

    def set_link(self, name: str, up: bool) -> None:
        self.machine.set_link(name, up)

    def restore(self) -> None:
        self._sessions.end()
        self.machine.stop()
        self._begin(bundle())

    def left_behind(self) -> list[str]:
        return self._sessions.left_behind()

    def about(self) -> dict[str, str]:
        return self._sessions.versions()

    def take_log(self) -> list[str]:
        return self._sessions.take_log()

    def _begin(self, archive: pathlib.Path) -> None:
        if self.machine.frozen is None:
            self.machine.boot()
            self._push(archive)
            self._python(['tests.lab.storage.up'])
            self._python(['tests.lab.bench.up'])
        else:
            self.machine.restore()
            self._push(archive)
        self._sessions.begin(f'{BENCH}:Bench', {'options': {}}, storage=True)

    def _push(self, archive: pathlib.Path) -> None:
        """Replace the package and the lab's code there by those of the working tree."""
        self._run(['rm', '-rf', SITE])
        self._run(['mkdir', '-p', SITE])
        self._run(['tar', '-x', '-C', SITE], archive.read_bytes())

    def _python(self, arguments: Sequence[str]) -> None:
        self._run([*_python(), *arguments])

    def _run(self, argv: Sequence[str], data: bytes = b'') -> None:
        done = self.machine.run(argv, input=data, timeout=TIMEOUT)
        if done.returncode:
            said = (done.stdout + done.stderr).decode(errors='replace')
            raise HostError(f'{self.name}: {" ".join(argv)}: {done.returncode}: {said[-2000:]}')

    def _start(self, arguments: Sequence[str]) -> Stream:
        return typing.cast(Stream, self.machine.popen([*_python(), *arguments]))


def _python() -> list[str]:
    """Return the beginning of a command that runs a module over there."""
    return ['env', f'PYTHONPATH={SITE}', PYTHON, '-m']


def open_machine(entered: contextlib.ExitStack) -> VirtualMachine:
    """Return a machine of this process's own, not started yet.

    :param entered: takes what has to be cleared away after it
    :raises HostError: nobody says what to start it from
    """
    image = os.environ.get(IMAGE)
    if image is None:
        raise HostError(f'the virtual machine is started by tools/lab.sh run; {IMAGE} is not set')
    frozen = os.environ.get(FROZEN)
    directory = entered.enter_context(tempfile.TemporaryDirectory(prefix='volumedrivers-lab-'))
    return VirtualMachine(
        pathlib.Path(directory),
        pathlib.Path(image),
        pathlib.Path(frozen) if frozen else None,
    )
