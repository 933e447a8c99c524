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

"""Somebody's own host and volumes under test, as a file describes them."""

from collections.abc import Sequence
import contextlib
import pathlib
import subprocess
import typing

from tests.lab.hosts.bundle import bundle
from tests.lab.hosts.description import INSTALLED
from tests.lab.hosts.description import POWER_CUT
from tests.lab.hosts.description import SMALL_LINUX
from tests.lab.hosts.description import Description
from tests.lab.hosts.description import read_description
from tests.lab.hosts.host import Host
from tests.lab.hosts.host import HostError
from tests.lab.hosts.named_storage import NamedStorage
from tests.lab.hosts.reach import Local
from tests.lab.hosts.reach import Ssh
from tests.lab.hosts.sessions import BENCH
from tests.lab.hosts.sessions import Sessions
from tests.lab.rows import Row
from tests.lab.rpc.client import RpcServer
from tests.lab.rpc.client import Session
from tests.lab.rpc.client import Stream
from tests.lab.waiting import wait_until

BENCH_THERE = 'tests.lab.bench.elsewhere:BenchElsewhere'
GUESTS_THERE = 'tests.lab.bench.elsewhere:Guests'

# A server with much memory tests it before it starts.
BOOT_TIMEOUT = 1800.0  # seconds


def open_described(path: str) -> 'DescribedHost':
    """Return the host of a file, not entered yet.

    :raises DescriptionError
    """
    return DescribedHost(read_description(path))


class DescribedHost(Host):
    """This machine or another one, with guests of its own and volumes that exist already."""

    def __init__(self, description: Description) -> None:
        self.description = description
        machine = description.machine
        self.name = machine.name
        self._reach = (
            Local(machine.become)
            if machine.destination is None
            else Ssh(machine.ssh, machine.destination, machine.become)
        )
        self._directory = ''
        self._guests: Session
        self._sessions = Sessions(self._start)
        self._storage = NamedStorage(description, self._open_bench)
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> typing.Self:
        with contextlib.ExitStack() as entered:
            entered.callback(self._sessions.end)
            self._begin()
            entered.callback(self._remove_directory)
            entered.callback(self._remove_guests)
            entered.callback(self._storage.close)
            self._exit = entered.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._exit.close()

    def storage(self) -> Session:
        return typing.cast(Session, self._storage)

    def benches(self) -> RpcServer:
        return self._sessions.benches()

    def rows(self) -> Sequence[Row]:
        return self.description.rows

    def session(self, what: str) -> tuple[str, dict[str, typing.Any]]:
        if what != f'{BENCH}:Bench':
            return what, {}
        return BENCH_THERE, {'uri': self.description.machine.uri, 'place': self._place()}

    def can(self, what: str) -> str | None:
        if what in self.description.allowed:
            return None
        return f'{self.description.path.name} does not allow: {what}'

    def power_cut(self, backends: Sequence[str] = ()) -> None:
        reason = self.can(POWER_CUT)
        if reason:
            raise HostError(reason)
        before = self._boot_id()
        self._sessions.end()
        command = list(self.description.power_cut)
        done = subprocess.run(command, check=False, capture_output=True, timeout=BOOT_TIMEOUT)
        if done.returncode:
            said = done.stderr.decode(errors='replace').strip()
            raise HostError(f'{command[0]} ended with {done.returncode}: {said}')
        wait_until(
            lambda: self._has_booted(before),
            f'{self.name} to start again',
            timeout=BOOT_TIMEOUT,
            interval=2.0,
        )
        self._begin()

    def left_behind(self) -> list[str]:
        return self._sessions.left_behind()

    def about(self) -> dict[str, str]:
        return self._sessions.versions()

    def take_log(self) -> list[str]:
        return self._sessions.take_log()

    def _begin(self) -> None:
        """Bring the code to the host, start the guests and note what is there."""
        self._directory = (
            self._reach.run(['mktemp', '-d', '/tmp/volumedrivers-XXXXXX']).decode().strip()
        )
        archive = bundle(package=self.description.machine.package != INSTALLED)
        self._reach.run(['tar', '-x', '-C', self._directory], archive.read_bytes())
        self._guests = self.benches().open(
            GUESTS_THERE, uri=self.description.machine.uri, place=self._place()
        )
        self._guests.call('start', timeout=600.0)
        what, arguments = self.session(f'{BENCH}:Bench')
        state_path = self.description.machine.state_path
        options = {'state_path': state_path, 'lock_path': f'{state_path}/lock'}
        self._sessions.begin(what, {**arguments, 'options': options}, storage=False)

    def _open_bench(self, row: Row) -> Session:
        what, arguments = self.session(f'{BENCH}:Bench')
        return self.benches().open(what, options=dict(row.options), **arguments)

    def _place(self) -> dict[str, typing.Any]:
        machine = self.description.machine
        return {
            'logs': machine.logs,
            'sockets': str(pathlib.PurePosixPath(machine.state_path, 'guests')),
            'state': machine.state_path,
            'linux': machine.guests == SMALL_LINUX,
        }

    def _remove_guests(self) -> None:
        self._guests.call('remove')

    def _remove_directory(self) -> None:
        self._reach.run(['rm', '-rf', self._directory])

    def _start(self, arguments: Sequence[str]) -> Stream:
        python = self.description.machine.python
        started = self._reach.start(
            ['env', f'PYTHONPATH={self._directory}', python, '-m', *arguments]
        )
        return typing.cast(Stream, started)

    def _boot_id(self) -> bytes:
        return self._reach.run(['cat', '/proc/sys/kernel/random/boot_id'])

    def _has_booted(self, before: bytes) -> bool:
        try:
            return self._boot_id() != before
        except HostError:
            return False
