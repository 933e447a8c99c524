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

"""A host whose processes die while Cinder is asked; and what Cinder, guest and host have."""

import contextlib
import itertools
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import time
import typing

from tests.functional import crash_points
from tests.functional import crash_table
from tests.functional import crash_zygote
from tests.functional.cinder import clock
from tests.functional.cinder import crash_child
from tests.functional.cinder.made_volumes import MadeVolume
from tests.functional.cinder.made_volumes import VolumeMaker
from tests.functional.cinder.storage_crash_points import Point
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.results import Outcome
from volumedrivers.host import boot
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing.cinder.backends import IscsiBackend
from volumedrivers.testing.cinder.backends import NfsBackend
from volumedrivers.testing.cinder.embedded import EmbeddedCinder
from volumedrivers.testing.cinder.faults import Answer
from volumedrivers.testing.cinder.faults import Exchange
from volumedrivers.testing.cinder.faults import Fault
from volumedrivers.testing.cinder.faults import Faults

# Seconds that a request may be late; the least that can be configured.
LATE = 1.0

_numbers = itertools.count(1)


class CrashBench:
    """Cinder, a guest, the zygote, and a manager that lives on when children die.

    :ivar volumes: one of each back end, by its name
    """

    def __init__(
        self,
        directory: pathlib.Path,
        mounts: pathlib.Path,
        cinder: EmbeddedCinder,
        faults: Faults,
        hypervisor: Hypervisor,
    ) -> None:
        guest = guests.start_guest(hypervisor, f'crashes{next(_numbers)}', persistent=True)
        self.directory = directory
        self.mounts = mounts
        self.cinder = cinder
        self.faults = faults
        self.hypervisor = hypervisor
        self.guest = guest
        self.state = directory / 'state'
        self.options: dict[str, object] = {
            'state_path': str(self.state),
            'lock_path': str(self.state / 'lock'),
            'host': crash_child.HOST,
            'iscsi_client': 'qemu',
            'iscsi_initiator_name': 'iqn.2020-01.test:this-host',
            'nfs_mount_point_base': str(mounts),
            'mount_timeout': 8,
            'lock_timeout': 5,
            'cinder_timeout': LATE,
        }
        self.conf = crash_zygote.make_conf(self.options)
        self.exports = {
            one.export: str(one.files) for one in cinder.backends if isinstance(one, NfsBackend)
        }
        assert cinder.url is not None
        self.storage = crash_child.connect(cinder.url)
        self.manager = crash_child.make_manager(self.conf, hypervisor, self.storage, self.exports)
        self._has_waited = False
        self._pid_file = directory / 'child.pid'
        self._zygote = subprocess.Popen(
            [sys.executable, '-m', 'tests.functional.cinder.crash_child'],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._tell(self.options)
        self.end()
        make = VolumeMaker(self.storage.proxy)
        self.volumes: dict[str, MadeVolume] = {one.name: make(one) for one in cinder.backends}

    def close(self) -> None:
        for volume in self.volumes.values():
            volume.delete()
        self._zygote.communicate(timeout=30)
        guests.remove_guest(self.guest)

    @contextlib.contextmanager
    def boot(self, name: str) -> typing.Iterator[None]:
        """Let it be another boot of this host; what is mounted is gone after it."""
        usual = boot.current
        boot.current = lambda: name
        try:
            yield
        finally:
            boot.current = usual
        for place in self.mounts.iterdir():
            subprocess.run(['umount', str(place)], check=True)
            place.rmdir()

    def child(
        self,
        *calls: crash_zygote.Call,
        kill: dict[str, object] | None = None,
        fail: str | None = None,
    ) -> dict[str, typing.Any]:
        """Let a child carry calls out."""
        self.begin(*calls, kill=kill, fail=fail)
        return self.end()

    def begin(
        self,
        *calls: crash_zygote.Call,
        kill: dict[str, object] | None = None,
        fail: str | None = None,
    ) -> None:
        """Let a child begin."""
        self._tell(
            {
                'uri': self.hypervisor.uri,
                'url': self.cinder.url,
                'exports': self.exports,
                'guest': self.guest.uuid,
                'pid file': str(self._pid_file),
                'calls': calls,
                'kill': kill,
                'fail': fail,
            }
        )

    def is_at_it(self) -> bool:
        """Ask whether the child that was begun has not ended."""
        return not select.select([self._zygote.stdout], [], [], 0)[0]

    def end(self) -> dict[str, typing.Any]:
        """Wait for the child; return how it ended."""
        assert self._zygote.stdout is not None
        line = self._zygote.stdout.readline()
        assert line, 'the zygote has died'
        return typing.cast(dict[str, typing.Any], json.loads(line))

    def kill(self, point: Point, *call: object) -> None:
        """Let a child begin the call, and die at the point."""
        if point.request:
            self.faults.add(point.request, self._killing(point.moment), times=1)
        ended = self.child(call, kill=point.kill or None, fail=point.fail)
        assert ended['killed'], (str(point), ended)
        self.faults.wait_idle()
        self.faults.clear()

    def perform(self, *call: object) -> typing.Any:
        """Do it in this process."""
        return crash_child.perform(self.manager, self.guest.uuid, call)

    def recover(self, volume: MadeVolume, point: Point) -> str:
        """Recover until it is certain what Cinder does, and once more; return what was done."""
        outcomes = self.settle()
        of_volume = [one for one in outcomes if one.volume_id == volume.id]
        assert of_volume == list(outcomes), (str(point), outcomes)
        done = of_volume[-1].action if of_volume else crash_points.NOTHING
        assert done == point.expected, (str(point), outcomes)
        assert self.manager.recover() == (), str(point)
        crash_table.add(volume.backend.name, point, done)
        return done

    def settle(self) -> tuple[Outcome, ...]:
        """Recover; where it is too early, again when it is not.

        For that it waits the first time, and then puts the clock forward.
        """
        outcomes = self._recover_or_wait()
        if outcomes is not None:
            return outcomes
        if self._has_waited:
            with clock.put_forward(LATE):
                return self.manager.recover()
        self._has_waited = True
        end = time.monotonic() + 3 * LATE
        while outcomes is None:
            assert time.monotonic() < end
            time.sleep(0.1)
            outcomes = self._recover_or_wait()
        return outcomes

    def _recover_or_wait(self) -> tuple[Outcome, ...] | None:
        """Recover; None: Cinder may still be at it, and the row stays."""
        outcomes = self.manager.recover()
        early = [one for one in outcomes if 'may still do' in one.detail]
        if not early:
            return outcomes
        assert self.manager.context.reservations.find(volume_id=early[0].volume_id)
        return None

    def seen(self, volume: MadeVolume) -> dict[str, object]:
        """Return what everybody has of a volume."""
        context = self.manager.context
        connection = self.hypervisor.connection()
        uses = self.state / 'share-users' / boot.current()
        return {
            'status': volume.status,
            'attachments': [(one.status, one.instance) for one in volume.attachments()],
            'live': [disk.alias for disk in self.guest.disks()],
            'defined': [disk.alias for disk in self.guest.disks(persistent=True)],
            'rows': [
                (one.key, one.operation, one.problem)
                for one in (*context.host.journal.find(), *context.reservations.find())
            ],
            'mounts': sum(
                f' {self.mounts}/' in line
                for line in pathlib.Path('/proc/self/mountinfo').read_text().splitlines()
            ),
            'users': sum(len(names) for _, _, names in os.walk(uses)),
            'secrets': len(connection.listAllSecrets()),
            'targets': bool(targets(self._iscsi.files)),
        }

    def require_nothing(self, volume: MadeVolume, why: object) -> None:
        """Make sure that nothing is left, in Cinder nor here."""
        seen = self.seen(volume)
        assert seen == {
            'status': 'available',
            'attachments': [],
            'live': [],
            'defined': [],
            'rows': [],
            'mounts': 0,
            'users': 0,
            'secrets': 0,
            'targets': False,
        }, (str(why), seen)

    def require_attached(self, volume: MadeVolume, why: object) -> None:
        """Make sure that Cinder, both tables, guest and host agree that it is attached."""
        key = make_key(self.guest.uuid, volume.id)
        is_iscsi = volume.backend is self._iscsi
        seen = self.seen(volume)
        assert seen == {
            'status': 'in-use',
            'attachments': [('attached', self.guest.uuid)],
            'live': [volume.alias],
            'defined': [volume.alias],
            'rows': [(key, None, '')] * 2,
            'mounts': int(not is_iscsi),
            'users': 2 * (not is_iscsi),
            'secrets': int(is_iscsi),
            'targets': is_iscsi,
        }, (str(why), seen)
        (row,) = self.manager.context.reservations.find()
        assert [one.id for one in volume.attachments()] == [row.attachment_id], str(why)

    @property
    def _iscsi(self) -> IscsiBackend:
        (found,) = [one for one in self.cinder.backends if isinstance(one, IscsiBackend)]
        return found

    def _killing(self, moment: str) -> Fault:
        """Return what kills the child that asks."""

        def fault(exchange: Exchange) -> Answer:
            if moment == 'after':
                exchange.forward()
            os.kill(int(self._pid_file.read_text()), signal.SIGKILL)
            if moment == 'late':
                exchange.forward()
            raise ConnectionResetError(104, 'the client is dead')

        return fault

    def _tell(self, order: object) -> None:
        assert self._zygote.stdin is not None
        self._zygote.stdin.write(json.dumps(order) + '\n')
        self._zygote.stdin.flush()


def targets(directory: pathlib.Path) -> set[str]:
    """Return the files below a directory that a tgtd has open: what is exported."""
    found = set()
    for process in pathlib.Path('/proc').glob('[0-9]*'):
        with contextlib.suppress(OSError):  # it has ended
            if (process / 'comm').read_text().strip() == 'tgtd':
                found |= {os.readlink(link) for link in (process / 'fd').iterdir()}
    return {name for name in found if name.startswith(f'{directory}/')}
