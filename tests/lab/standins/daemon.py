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

"""Processes of stand-ins: daemons that outlive whoever starts them, with their code up to date."""

import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import typing

from tests.lab.storage.server_process import comm
from tests.lab.storage.server_process import send
from tests.lab.waiting import wait_until

RUN = pathlib.Path('/run/lab/standins')
ROOT = pathlib.Path(__file__).resolve().parents[3]
CODE = pathlib.Path(__file__).resolve().parent

# Python starts slowly in an emulated machine.
_DEADLINE = 120.0  # seconds


class Daemon:
    """A module of this package that runs in a process of its own.

    The process may have been started by other code than today's: by whoever
    froze the machine.  Then it is replaced by a new one.

    :ivar name: of its files below ``RUN``
    :ivar module: what is run, with ``arguments``
    """

    def __init__(self, name: str, module: str, *arguments: str) -> None:
        self.name = name
        self.module = module
        self.arguments = arguments
        self._file = RUN / f'{name}.json'

    def pid(self) -> int | None:
        """Return the process id; None: it does not run."""
        record = self._record()
        pid = record.get('pid')
        if not isinstance(pid, int) or comm(pid) is None:
            return None
        # After a power cut the number may be another process's.
        return pid if record.get('started') == started(pid) else None

    def is_current(self) -> bool:
        """Say whether it runs, with today's code and these arguments."""
        return self.pid() is not None and self._record().get('code') == self._code()

    def start(self, ready: typing.Callable[[], bool]) -> None:
        """Start it unless it runs as it should; wait until it is ready.

        :param ready: whether it serves
        """
        if not self.is_current():
            self.stop()
            RUN.mkdir(parents=True, exist_ok=True)
            with (RUN / f'{self.name}.log').open('ab') as log:
                process = subprocess.Popen(
                    [sys.executable, '-m', self.module, *self.arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd='/',
                    env={**os.environ, 'PYTHONPATH': str(ROOT)},
                    start_new_session=True,
                )
            record = {
                'pid': process.pid,
                'started': started(process.pid),
                'code': self._code(),
            }
            new = self._file.with_suffix('.new')
            new.write_text(json.dumps(record))
            new.rename(self._file)
        wait_until(
            lambda: self._ended() or ready(), f'stand-in {self.name} to serve', timeout=_DEADLINE
        )
        if self._ended():
            log_lines = (RUN / f'{self.name}.log').read_text(errors='replace').splitlines()
            raise RuntimeError(f'stand-in {self.name} ended: {" | ".join(log_lines[-5:])}')

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it; once more is fine."""
        pid = self.pid()
        if pid is not None:
            send(pid, number)
            wait_until(
                lambda: comm(pid) is None, f'stand-in {self.name} to end', timeout=_DEADLINE
            )
        self._file.unlink(missing_ok=True)

    def _ended(self) -> bool:
        return self.pid() is None

    def _record(self) -> dict[str, typing.Any]:
        try:
            return typing.cast(dict[str, typing.Any], json.loads(self._file.read_text()))
        except (FileNotFoundError, ValueError):
            return {}

    def _code(self) -> str:
        digest = hashlib.sha256(repr((self.module, self.arguments)).encode())
        for path in sorted(CODE.glob('*.py')):
            digest.update(path.read_bytes())
        return digest.hexdigest()


def started(pid: int) -> str | None:
    """Return when a process began, in the kernel's ticks, with the boot it was in."""
    try:
        stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    boot = pathlib.Path('/proc/sys/kernel/random/boot_id').read_text().strip()
    return f'{boot} {stat.rpartition(")")[2].split()[19]}'
