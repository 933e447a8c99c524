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
import pathlib
import tempfile
import typing

from tests.lab.hosts.host import Host
from tests.lab.hosts.host import HostError
from tests.lab.hosts.sessions import BENCH
from tests.lab.hosts.sessions import Sessions
from tests.lab.rpc.client import RpcServer
from tests.lab.rpc.client import Session
from tests.lab.rpc.client import Stream
from tests.lab.vm.build import PYTHON
from tests.lab.vm.build import SITE
from tests.lab.vm.build import build
from tests.lab.vm.build import push
from tests.lab.vm.build import push_nova
from tests.lab.vm.machine import VirtualMachine

TIMEOUT = 900.0  # seconds, to bring everything up
CONSOLE_LINES = 200  # of a machine that is given up


class VirtualHost(Host):
    """A machine that is restored from the frozen state; its sessions live in it.

    :ivar machine: to look at by hand
    """

    def __init__(self) -> None:
        self.machine: VirtualMachine
        self.name = 'virtual machine'
        self._sessions = Sessions(self._start)
        self._exit = contextlib.ExitStack()
        self._has_nova = False
        self._heard: list[str] = []

    def __enter__(self) -> typing.Self:
        with contextlib.ExitStack() as entered:
            directory = tempfile.TemporaryDirectory(prefix='volumedrivers-lab-')
            self.machine = build().machine(pathlib.Path(entered.enter_context(directory)))
            entered.enter_context(self.machine)
            entered.callback(self._sessions.end)
            self._begin()
            self._exit = entered.pop_all()
        self.name = f'virtual machine ({self.machine.accelerator.upper()})'
        return self

    def __exit__(self, *exc: object) -> None:
        self._exit.close()

    def storage(self) -> Session:
        return self._sessions.storage()

    def benches(self) -> RpcServer:
        return self._sessions.benches()

    def nova(self) -> RpcServer:
        if not self._has_nova:
            push_nova(self.machine)
            self._has_nova = True
        return self._sessions.nova()

    def can(self, what: str) -> str | None:
        """Everything may be done to it."""
        return None

    def power_cut(self, backends: Sequence[str] = ()) -> None:
        # Before any session can end in order.
        self.machine.power_cut()
        self._sessions.end()
        self._has_nova = False
        push(self.machine)
        self._python(['tests.lab.storage.up', *backends])
        self._python(['tests.lab.bench.up', '--without-linux'])
        self._sessions.begin(f'{BENCH}:Bench', {'options': {}}, storage=True)

    def set_link(self, name: str, up: bool) -> None:
        self.machine.set_link(name, up)

    def restore(self) -> None:
        # Whether its kernel died, for one, is said nowhere else.
        said = self.machine.console.read_text(errors='replace').splitlines()
        self._heard += [f'console {line}' for line in said[-CONSOLE_LINES:]]
        self.machine.stop()
        self._sessions.end()
        self._begin()

    def left_behind(self) -> list[str]:
        return self._sessions.left_behind()

    def about(self) -> dict[str, str]:
        return self._sessions.versions()

    def take_log(self) -> list[str]:
        heard, self._heard = self._heard, []
        return [*heard, *self._sessions.take_log()]

    def _begin(self) -> None:
        self.machine.restore()
        self._has_nova = False
        push(self.machine)
        self._sessions.begin(f'{BENCH}:Bench', {'options': {}}, storage=True)

    def _python(self, arguments: Sequence[str]) -> None:
        argv = [PYTHON, '-m', *arguments]
        done = self.machine.run(argv, timeout=TIMEOUT, env={'PYTHONPATH': SITE})
        if done.returncode:
            said = (done.stdout + done.stderr).decode(errors='replace')
            raise HostError(f'{self.name}: {" ".join(argv)}: {done.returncode}: {said[-2000:]}')

    def _start(self, arguments: Sequence[str]) -> Stream:
        argv = [PYTHON, '-m', *arguments]
        return typing.cast(Stream, self.machine.popen(argv, env={'PYTHONPATH': SITE}))
