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

"""Run a command in a virtual machine that runs, as ssh does.

    python -m tests.lab.vm.exec [--terminal] DIRECTORY -- COMMAND [ARGUMENT...]

Input, output and exit status are the command's.  When this process ends, the
command is ended.  255 is also the status where the machine does not answer.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import sys
import termios
import threading
import tty
import typing

from tests.lab.vm import agent_client
from tests.lab.vm import machine


def execute(vm: machine.VirtualMachine, argv: list[str], *, terminal: bool = False) -> int:
    """Run a command with this process's input and output; return its exit status.

    :param terminal: give it a terminal; this process must have one
    :raises agent_client.AgentError
    :raises OSError: it cannot be started
    """
    if not terminal:
        return _relay(vm.popen(argv))
    size = shutil.get_terminal_size()
    environment = {'TERM': os.environ.get('TERM', 'dumb')}
    process = vm.popen(argv, env=environment, terminal=(size.lines, size.columns))

    def resize(*_: object) -> None:
        fresh = shutil.get_terminal_size()
        process.resize(fresh.lines, fresh.columns)

    signal.signal(signal.SIGWINCH, resize)
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        return _relay(process)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _relay(process: agent_client.RemoteProcess) -> int:
    threading.Thread(target=_feed, args=(process,), daemon=True).start()
    outputs = [
        threading.Thread(target=_copy, args=(process.stdout, sys.stdout.fileno())),
        threading.Thread(target=_copy, args=(process.stderr, sys.stderr.fileno())),
    ]
    for thread in outputs:
        thread.start()
    for thread in outputs:
        thread.join()
    return process.wait()


def _feed(process: agent_client.RemoteProcess) -> None:
    with contextlib.suppress(OSError):
        while data := os.read(sys.stdin.fileno(), 1 << 16):
            process.stdin.write(data)
            process.stdin.flush()
        process.stdin.close()


def _copy(stream: typing.BinaryIO, target: int) -> None:
    while data := os.read(stream.fileno(), 1 << 16):
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(target, rest) :]


def main() -> int:
    parser = argparse.ArgumentParser(prog='exec', description=__doc__)
    parser.add_argument('--terminal', action='store_true', help='give it a terminal')
    parser.add_argument('directory', type=pathlib.Path, help='of the virtual machine')
    parser.add_argument('command', nargs='+')
    options = parser.parse_args()
    try:
        vm = machine.VirtualMachine.running(options.directory)
        status = execute(vm, options.command, terminal=options.terminal)
    except (agent_client.AgentError, machine.MachineError, OSError) as error:
        print(error, file=sys.stderr)
        return agent_client.LOST
    return 128 - status if status < 0 else status


if __name__ == '__main__':
    status = main()
    sys.stdout.flush()
    # A thread that still reads input would keep the process.
    os._exit(status)
