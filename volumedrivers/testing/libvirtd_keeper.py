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

"""The process that a private libvirtd lives under; started by testing.libvirtd.

It runs as a program of its own, with the standard library only, because it
changes what belongs to a whole process: its mount and UTS namespace, and the
reaping of orphans.  It gets one JSON object as its argument and one command a
line on standard input; every command is answered by one JSON line::

    start     start libvirtd (again)
    terminate stop libvirtd politely; guests keep running
    kill      stop libvirtd with SIGKILL; guests keep running
    status    tell whether it runs: its process id, or null

At the end of its input, so also when its parent dies, it kills the libvirtd
and every guest that is left, and with the last process of the namespace all
its mounts go.
"""

import ctypes
import json
import os
import pathlib
import signal
import socket
import sys
import threading
import time
import typing

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_SLAVE = 0x80000
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f'{what}: {os.strerror(number)}')


def _mount(source: str, target: str, flags: int) -> None:
    _check(
        _libc.mount(source.encode(), target.encode(), None, ctypes.c_ulong(flags), None),
        f'mount {source} on {target}',
    )


def enter_namespaces(host_name: str, binds: typing.Mapping[str, str]) -> None:
    """Make a private view: its own host name, own directories over libvirt's."""
    _check(_libc.unshare(CLONE_NEWNS | CLONE_NEWUTS), 'unshare')
    # What is mounted here goes nowhere; what is mounted in a shared place, as
    # every place is under systemd, is seen here too: shares with volumes.
    _mount('none', '/', MS_REC | MS_SLAVE)
    socket.sethostname(host_name)
    for source, target in binds.items():
        pathlib.Path(target).mkdir(parents=True, exist_ok=True)
        _mount(source, target, MS_BIND)


class Keeper:
    """Starts and stops libvirtd, and reaps it and the guests it leaves."""

    def __init__(self, command: list[str], log: str) -> None:
        self.command = command
        self.log = log
        self.pid: int | None = None
        self.ended = threading.Condition()
        self.stopping = False

    def reap(self) -> None:
        """Wait for children for ever.

        QEMU daemonizes and becomes our child; where nobody reaps it at once,
        destroying a guest takes libvirt until somebody does.
        """
        while True:
            try:
                pid, _ = os.waitpid(-1, 0)
            except ChildProcessError:
                if self.stopping:
                    return
                time.sleep(0.02)
                continue
            with self.ended:
                if pid == self.pid:
                    self.pid = None
                    self.ended.notify_all()

    def start(self) -> None:
        """Start libvirtd."""
        with self.ended, open(self.log, 'ab') as log:
            if self.pid is None:
                self.pid = os.posix_spawn(
                    self.command[0],
                    self.command,
                    os.environ,
                    file_actions=[
                        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                        (os.POSIX_SPAWN_DUP2, log.fileno(), 1),
                        (os.POSIX_SPAWN_DUP2, log.fileno(), 2),
                    ],
                )

    def stop(self, number: int) -> None:
        """Signal libvirtd and wait until it has ended."""
        with self.ended:
            if self.pid is None:
                return
            os.kill(self.pid, number)
            if not self.ended.wait_for(lambda: self.pid is None, timeout=10):
                os.kill(self.pid, signal.SIGKILL)
                self.ended.wait_for(lambda: self.pid is None, timeout=10)

    def children(self) -> list[int]:
        """Return the process ids of all our children."""
        found = pathlib.Path(f'/proc/{os.getpid()}/task').glob('*/children')
        return [int(pid) for path in found for pid in path.read_text().split()]

    def finish(self) -> None:
        """Stop libvirtd and kill every guest that is left."""
        self.stop(signal.SIGTERM)
        self.stopping = True
        deadline = time.monotonic() + 10
        while self.children() and time.monotonic() < deadline:
            for pid in self.children():
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)


def answer(**what: object) -> None:
    """Answer a command."""
    sys.stdout.write(json.dumps(what) + '\n')
    sys.stdout.flush()


def main() -> int:
    """Serve commands until the end of the input."""
    given = json.loads(sys.argv[1])
    # Ctrl-C in a terminal goes to the whole group; the parent decides when.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        enter_namespaces(given['host_name'], given['binds'])
        _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 'prctl')
    except OSError as e:
        answer(error=str(e))
        return 1
    keeper = Keeper(given['command'], given['log'])
    reaper = threading.Thread(target=keeper.reap, daemon=True)
    reaper.start()
    commands: dict[str, typing.Callable[[], None]] = {
        'start': keeper.start,
        'terminate': lambda: keeper.stop(signal.SIGTERM),
        'kill': lambda: keeper.stop(signal.SIGKILL),
        'status': lambda: None,
    }
    answer(ready=True)
    try:
        for line in sys.stdin:
            try:
                commands[line.strip()]()
                answer(pid=keeper.pid)
            except OSError as e:
                answer(error=str(e))
    finally:
        keeper.finish()
    return 0


if __name__ == '__main__':
    sys.exit(main())
