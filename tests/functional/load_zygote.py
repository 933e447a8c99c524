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

"""Processes that attach, detach, extend and recover at random, and that can be killed.

    python -m tests.functional.load_zygote

Everything is imported once; a child is forked for each order (one JSON object
a line) and does what its seed says.  It appends what became of each operation
to a file, so that a killed one is counted too.
"""

import json
import os
import random
import select
import signal
import sys
import time
import traceback
import typing

from tests.functional.crash_zygote import PRELOADED
from tests.functional.crash_zygote import FileKeys
from tests.functional.crash_zygote import make_conf
from volumedrivers import exception
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.attachment.manager import make_manager
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.attachment.volume_encryption import VolumeEncryption
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.hypervisor import Hypervisor

OPERATIONS = ('attach',) * 9 + ('detach',) * 7 + ('extend',) * 2 + ('recover',) * 2


class Worker:
    """One process; ``order`` has seed, count, guests, volumes, uri, keys and log."""

    def __init__(self, order: dict[str, typing.Any], manager: AttachmentManager) -> None:
        self.order = order
        self.manager = manager
        self.choice = random.Random(order['seed'])
        self.volumes = {volume['id']: volume for volume in order['volumes']}
        self.infos = {
            name: ConnectionInfo.parse(volume['info']) for name, volume in self.volumes.items()
        }

    def run(self) -> None:
        log = os.open(self.order['log'], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for _ in range(self.order['count']):
            started = time.monotonic()
            operation, guest, volume = self.choose()
            entry: dict[str, typing.Any] = {
                'operation': operation,
                'guest': guest,
                'volume': volume,
            }
            try:
                entry['outcome'] = self.perform(operation, guest, volume)
            except exception.VolumeDriversError as error:
                notes = getattr(error, '__notes__', [])
                entry.update(outcome=type(error).__name__, detail=str(error), notes=notes)
            except Exception:
                entry.update(outcome='untyped', detail=traceback.format_exc())
            entry['seconds'] = round(time.monotonic() - started, 3)
            os.write(log, (json.dumps(entry) + '\n').encode())

    def choose(self) -> tuple[str, str, str]:
        operation = self.choice.choice(OPERATIONS)
        rows = self.manager.context.journal.find()
        if operation in ('detach', 'extend') and rows and self.choice.random() < 0.8:
            row = self.choice.choice(rows)
            return operation, row.domain_name, row.volume_id
        return (
            operation,
            self.choice.choice(self.order['guests']),
            self.choice.choice(list(self.volumes)),
        )

    def perform(self, operation: str, guest: str, volume: str) -> str:
        info = self.infos[volume]
        known = self.volumes[volume]
        if operation == 'attach':
            encryption = known.get('encryption')
            self.manager.attach(
                info,
                guest,
                DiskRequest(bus='scsi'),
                encryption=None if encryption is None else VolumeEncryption.parse(encryption),
            )
        elif operation == 'detach':
            self.manager.detach(guest, volume)
        elif operation == 'extend':
            self.manager.extend(guest, volume, self.choice.choice(known['sizes']))
        else:
            actions = {outcome.action for outcome in self.manager.recover(self.infos)}
            return f'done {"+".join(sorted(actions))}'.strip()
        return 'done'


def child(order: dict[str, typing.Any]) -> None:
    conf = make_conf(order['options'])
    with Hypervisor(order['uri']) as hypervisor:
        Worker(order, make_manager(conf, hypervisor, keys=FileKeys(order['keys']))).run()
    assert 'eventlet' not in sys.modules, 'nothing here needs it'


def fork(order: dict[str, typing.Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        child(order)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def tell(**message: object) -> None:
    os.write(1, (json.dumps(message) + '\n').encode())


def main() -> None:
    for name in PRELOADED:
        __import__(name)
    waking, woken = os.pipe()
    for end in (waking, woken):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(woken)
    tell(ready=True)
    pending = b''
    while True:
        ready, _, _ = select.select([0, waking], [], [])
        if 0 in ready:
            read = os.read(0, 2**20)
            if not read:
                return
            *lines, pending = (pending + read).split(b'\n')
            for line in lines:
                order = json.loads(line)
                tell(began=order['name'], pid=fork(order))
        if waking in ready:
            os.read(waking, 4096)
            while True:
                try:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    break
                if not pid:
                    break
                tell(ended=pid, code=os.waitstatus_to_exitcode(status))


if __name__ == '__main__':
    sys.exit(main())
