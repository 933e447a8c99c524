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

"""Three processes at once do anything with six volumes and three guests, and are killed.

What is asked for, and when who is sent which signal, is made from one number:
VOLUMEDRIVERS_FUZZ_SEED, else a new one; VOLUMEDRIVERS_FUZZ_OPERATIONS says how
many there are.  Who comes first the machine says.  After recover Cinder, guests
and journal have to agree, and when all is detached nothing may be left.
"""

from collections.abc import Iterator
import concurrent.futures
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
import traceback
import typing

import pytest

from tests.functional import crash_zygote
from tests.functional.cinder import crash_child
from tests.functional.cinder.crash_bench import CrashBench
from tests.functional.cinder.made_volumes import VolumeMaker
from tests.long import only
from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.cmd import signals
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing.cinder.embedded import EmbeddedCinder
from volumedrivers.testing.cinder.faults import Faults

PROCESSES = 3
# Seconds after which Cinder is believed not to do any more what it was asked for.
LATE = 4.0
WHAT = ('attach',) * 6 + ('detach',) * 5 + ('refresh',) * 2 + ('recover',)
HOW = (None,) * 3 + ('SIGKILL',) * 4 + ('SIGTERM', 'SIGINT', 'SIGSTOP')
Answer = dict[str, typing.Any]


def child(order: Answer, conf: typing.Any) -> Answer:
    """Carry one operation out; what may be raised is an answer as well."""
    try:
        with signals.like_interrupts(), Hypervisor(order['uri']) as hypervisor:
            storage = crash_child.connect(order['url'])
            manager = crash_child.make_manager(conf, hypervisor, storage, order['exports'])
            crash_child.perform(manager, order['guest'], order['call'])
    except KeyboardInterrupt:
        return {'interrupted': True}
    except exception.VolumeDriversError as error:
        return {'refused': f'{type(error).__name__}: {error}'}
    except Exception:
        return {'raw': traceback.format_exc()}
    return {}


def fork(order: Answer, conf: typing.Any) -> Answer:
    """Let a child do it, and send it a signal; return what it says, if it can."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        os.write(writing, json.dumps(child(order, conf)).encode()[:60000])
        os._exit(0)
    os.close(writing)
    if order['how'] is not None:
        time.sleep(order['after'])
        os.kill(pid, signal.Signals[order['how']])
        if order['how'] == 'SIGSTOP':
            time.sleep(order['after'])
            os.kill(pid, signal.SIGCONT)
    with os.fdopen(reading) as opened:
        said = opened.read()
    os.waitpid(pid, 0)
    return json.loads(said) if said else {'died': True}


def main() -> int:
    conf = crash_zygote.make_conf(json.loads(sys.stdin.readline()))
    for name in crash_child.PRELOADED:
        __import__(name)
    for line in sys.stdin:
        print(json.dumps(fork(json.loads(line), conf)), flush=True)
    return 0


class Worker:
    """A process that forks the children of one line of work."""

    def __init__(self, options: dict[str, object]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'tests.functional.cinder.test_fuzz'],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._write(options)

    def work(self, orders: list[Answer]) -> list[Answer]:
        """Do all, one after another."""
        return [self._one(order) for order in orders]

    def _one(self, order: Answer) -> Answer:
        self._write(order)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, order
        return order | typing.cast(Answer, json.loads(line))

    def _write(self, what: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what) + '\n')
        self.process.stdin.flush()


class Fuzz(CrashBench):
    """Three guests and six volumes."""

    def __init__(self, *arguments: typing.Any) -> None:
        super().__init__(*arguments)
        more = [guests.start_guest(self.hypervisor, f'fuzz{one}', persistent=True) for one in '12']
        self.guests = [self.guest, *more]
        make = VolumeMaker(self.storage.proxy)
        for backend in self.cinder.backends:
            for number in range(2):
                self.volumes[f'{backend.name}{number}'] = make(backend)
        self.conf.set_override('cinder_timeout', LATE, group='volumedrivers')
        options = self.options | {'cinder_timeout': LATE}
        self.workers = [Worker(options) for _ in range(PROCESSES)]

    def close(self) -> None:
        for worker in self.workers:
            worker.process.communicate(timeout=60)
        super().close()
        for guest in self.guests[1:]:
            guests.remove_guest(guest)

    def orders(self, chance: random.Random, count: int) -> list[Answer]:
        """Return what is to be done."""
        common = {'uri': self.hypervisor.uri, 'url': self.cinder.url, 'exports': self.exports}
        volumes = [one.id for one in self.volumes.values()]
        return [
            common
            | {
                'guest': chance.choice(self.guests).uuid,
                'call': (chance.choice(WHAT), chance.choice(volumes)),
                'how': chance.choice(HOW),
                'after': chance.uniform(0.0, 0.8),
            }
            for _ in range(count)
        ]

    def recover_all(self) -> None:
        """Recover until Cinder can be at nothing any more; then once more, for nothing."""
        self.faults.wait_idle()
        end = time.monotonic() + 3 * LATE
        while early := [one for one in self.manager.recover() if one.action == 'failed']:
            assert time.monotonic() < end, early
            assert all('may still' in one.detail for one in early), early
            time.sleep(0.3)
        assert self.manager.recover() == ()

    def require_agreement(self) -> None:
        """Make sure that all who know of attachments know of the same."""
        context = self.manager.context
        in_cinder, in_guests = set(), set()
        for volume in self.volumes.values():
            found = volume.attachments()
            assert {one.status for one in found} <= {'attached'}, found
            assert volume.status == ('in-use' if found else 'available'), volume.get()
            in_cinder |= {(f'{one.instance}/{volume.id}', one.id) for one in found}
        for guest in self.guests:
            for persistent in (False, True):
                disks = guest.disks(persistent=persistent)
                names = {(persistent, guest_disks.volume_id_of(one)) for one in disks}
                in_guests |= {(*name, guest.uuid) for name in names}
        keys = {key for key, _ in in_cinder}
        rows = context.reservations.find()
        assert {(one.key, one.attachment_id) for one in rows} == in_cinder
        assert {one.key for one in context.host.journal.find()} == keys
        for persistent in (False, True):
            here = {f'{uuid}/{name}' for how, name, uuid in in_guests if how is persistent}
            assert here == keys
        assert [one for one in self.manager.audit() if one.severity == 'problem'] == []


@pytest.fixture
def fuzz(
    mounts: pathlib.Path,
    hypervisor: Hypervisor,
    cinder: EmbeddedCinder,
    all_faults: Faults,
    tmp_path: pathlib.Path,
) -> Iterator[Fuzz]:
    made = Fuzz(tmp_path, mounts, cinder, all_faults, hypervisor)
    yield made
    made.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize('operations', only([5], [5, 20]))
def test_anything(fuzz: Fuzz, operations: int) -> None:
    seed = os.environ.get('VOLUMEDRIVERS_FUZZ_SEED') or str(random.randrange(10**6))
    print(f'VOLUMEDRIVERS_FUZZ_SEED={seed}')
    count = int(os.environ.get('VOLUMEDRIVERS_FUZZ_OPERATIONS', operations))
    chance = random.Random(seed)
    lines = [fuzz.orders(chance, count) for _ in fuzz.workers]
    with concurrent.futures.ThreadPoolExecutor(PROCESSES) as pool:
        done = list(pool.map(Worker.work, fuzz.workers, lines))
    for one in (one for line in done for one in line):
        ended = {
            name: one[name] for name in ('interrupted', 'refused', 'died', 'raw') if name in one
        }
        print(one['guest'][:4], *one['call'], one['how'], round(one['after'], 2), ended)
        assert 'raw' not in one, one['raw']
    fuzz.recover_all()
    fuzz.require_agreement()
    for row in fuzz.manager.context.reservations.find():
        fuzz.manager.detach(row.domain_uuid, row.volume_id)
    for volume in fuzz.volumes.values():
        fuzz.require_nothing(volume, seed)


if __name__ == '__main__':
    sys.exit(main())
