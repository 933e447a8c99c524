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

"""Run a program as root with a deadline, a clean environment and no shell."""

import contextlib
import os
import signal
import subprocess
import tempfile
import typing

from volumedrivers import exception

# Nothing of the caller's environment reaches a program that runs as root;
# mount.cifs for one reads a password from PASSWD.
ENVIRONMENT = {
    'PATH': '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    'LC_ALL': 'C',
}
_OUTPUT_LIMIT = 2000


class Result(typing.NamedTuple):
    """How a program ended, and what it said on both outputs, cut short."""

    code: int
    output: str


def run(
    argv: typing.Sequence[str],
    *,
    what: str,
    timeout: float,
    keep: typing.Sequence[int] = (),
) -> Result:
    """Run a program and wait for it.

    :param what: what is waited for, for the message of DeadlineExceeded
    :param timeout: seconds; then the program and its children are killed
    :param keep: file descriptors that it inherits
    :raises ToolMissing, DeadlineExceeded
    """
    # A file, not a pipe: a FUSE client goes on running in the background and
    # would keep a pipe open for ever.
    with tempfile.TemporaryFile() as sink:
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                cwd='/',
                env=ENVIRONMENT,
                pass_fds=tuple(keep),
                start_new_session=True,
                umask=0o022,
            )
        except FileNotFoundError as error:
            raise exception.ToolMissing(tool=argv[0], package='that brings it') from error
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            _kill(process)
            raise exception.DeadlineExceeded(what=what, seconds=float(timeout)) from error
        sink.seek(0)
        output = sink.read(_OUTPUT_LIMIT).decode(errors='replace')
    return Result(code, ' '.join(output.split()))


def _kill(process: 'subprocess.Popen[bytes]') -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    # A process that hangs in the kernel does not even die; it is left to die
    # when the server answers, and nobody waits for it.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1)
