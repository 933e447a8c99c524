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

"""Run commands on somebody's host: this machine, or another one by ssh."""

from collections.abc import Sequence
import shlex
import subprocess

from tests.lab.hosts.host import HostError

TIMEOUT = 300.0  # seconds


class Local:
    """This machine.

    :param become: put in front of every command
    """

    name = 'this machine'

    def __init__(self, become: Sequence[str] = ()) -> None:
        self.become = list(become)

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return what is started here so that a command runs there."""
        return [*self.become, *argv]

    def run(self, argv: Sequence[str], data: bytes = b'') -> bytes:
        """Run a command to its end; return what it wrote.

        :raises HostError: it failed, or the host cannot be reached
        """
        try:
            done = subprocess.run(
                self.command(argv), check=False, input=data, capture_output=True, timeout=TIMEOUT
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise HostError(f'{self.name}: {argv[0]}: {error}') from error
        if done.returncode:
            said = done.stderr.decode(errors='replace').strip()[-2000:]
            raise HostError(
                f'{self.name}: {shlex.join(argv)} ended with {done.returncode}: {said}'
            )
        return done.stdout

    def start(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a command; its three streams are pipes."""
        try:
            return subprocess.Popen(
                self.command(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # Ctrl-C is for pytest, which ends it in order.
                start_new_session=True,
            )
        except OSError as error:
            raise HostError(f'{self.name}: {argv[0]}: {error}') from error


class Ssh(Local):
    """Another machine.

    :param program: ssh and its options
    :param destination: such as root@host
    """

    def __init__(
        self, program: Sequence[str], destination: str, become: Sequence[str] = ()
    ) -> None:
        super().__init__(become)
        self.program = list(program)
        self.destination = destination
        self.name = destination

    def command(self, argv: Sequence[str]) -> list[str]:
        # ssh joins its arguments for the shell over there.
        return [*self.program, self.destination, shlex.join(super().command(argv))]
