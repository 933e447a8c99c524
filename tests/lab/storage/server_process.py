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

"""A server that outlives whoever started it, known by the file with its process id."""

import os
import pathlib
import signal
import socket
import subprocess

from tests.lab.waiting import wait_until

_COMM_LENGTH = 15  # the kernel keeps no more of a name
_DEADLINE = 400.0  # seconds


class CommandFailed(Exception):
    """A program did not do what it was asked; the sentence has what it said."""


def run(*argv: str, input: bytes | None = None, timeout: float = _DEADLINE) -> str:
    """Run a program, and return what it printed.

    :param input: what it reads; secrets go this way
    :raises CommandFailed
    """
    try:
        done = subprocess.run(
            argv,
            input=b'' if input is None else input,
            capture_output=True,
            check=False,
            timeout=timeout,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandFailed(f'{argv[0]}: {error}') from error
    if done.returncode != 0:
        said = done.stderr.decode(errors='replace').strip()
        raise CommandFailed(f'{" ".join(argv)} ended with {done.returncode}: {said}')
    return done.stdout.decode(errors='replace')


def succeeds(*argv: str) -> bool:
    """Run a program, and say whether it ended well."""
    try:
        run(*argv)
    except CommandFailed:
        return False
    return True


class ServerProcess:
    """A daemon, found again by its pid file and its name.

    :ivar name: of the process, as /proc/PID/comm has it
    """

    def __init__(self, name: str, pid_file: pathlib.Path) -> None:
        self.name = name
        self.pid_file = pid_file

    def pid(self) -> int | None:
        """Return the process id; None: it does not run.

        A file that was left by a power cut may have the number of another process.
        """
        try:
            pid = int(self.pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if comm(pid) == self.name[:_COMM_LENGTH] else None

    def start(self, *argv: str) -> None:
        """Start it if it does not run; it goes to the background by itself.

        :raises CommandFailed
        """
        if self.pid() is None:
            self.pid_file.parent.mkdir(parents=True, exist_ok=True)
            self.pid_file.unlink(missing_ok=True)
            launch(*argv)

    def kill(self) -> None:
        """End it with SIGKILL, and the children that it has in its session."""
        pid = self.pid()
        if pid is None:
            return
        doomed = [pid, *in_session(pid)]
        for each in doomed:
            send(each, signal.SIGKILL)
        ended = f'the end of {self.name} ({pid})'
        wait_until(lambda: not any(map(comm, doomed)), ended, timeout=_DEADLINE)


def launch(*argv: str) -> None:
    """Start a program that goes to the background; wait until it has.

    Its output goes nowhere: it would hold a pipe open for as long as it runs.

    :raises CommandFailed
    """
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=_DEADLINE,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandFailed(f'{argv[0]}: {error}') from error
    if done.returncode != 0:
        raise CommandFailed(f'{" ".join(argv)} ended with {done.returncode}')


def comm(pid: int) -> str | None:
    """Return the name of a process; None: it has ended."""
    try:
        stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    name, _, rest = stat.partition('(')[2].rpartition(')')
    # A zombie that its parent has not asked after has ended.
    return None if rest.split()[0] in ('Z', 'X') else name


def in_session(pid: int) -> list[int]:
    """Return the other processes whose session a process leads."""
    found = []
    for entry in pathlib.Path('/proc').iterdir():
        if entry.name.isdigit() and int(entry.name) != pid:
            try:
                fields = (entry / 'stat').read_text().rpartition(')')[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[3]) == pid:
                found.append(int(entry.name))
    return found


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def listens(port: int, address: str = '127.0.0.1') -> bool:
    """Say whether somebody takes connections there."""
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex((address, port)) == 0
