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

"""A host whose processes are killed: storage, guest, zygote, and what is left on it."""

import contextlib
import glob
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import typing

import libvirt

from tests.functional import crash_zygote
from tests.functional.crash_volumes import KEY_ID
from tests.functional.crash_volumes import KINDS
from tests.functional.crash_volumes import PASSPHRASE
from tests.functional.crash_volumes import Volume
from tests.functional.crash_volumes import run_root
from volumedrivers import exception
from volumedrivers.attachment import manager as manager_module
from volumedrivers.attachment.record import Record
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import boot
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing import server as server_module
from volumedrivers.testing.gluster import GlusterServer
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.qemu_io import GuestIO


class Host:
    """All of it; a context manager is around it in test_crash.

    :ivar manager: of this process, which lives on when children die
    """

    def __init__(
        self,
        directory: pathlib.Path,
        mounts: pathlib.Path,
        server: GlusterServer,
        libvirtd: PrivateLibvirtd,
        hypervisor: Hypervisor,
        guest: Guest,
    ) -> None:
        self.directory = directory
        self.mounts = mounts
        self.server = server
        self.libvirtd = libvirtd
        self.hypervisor = hypervisor
        self.guest = guest
        self.keys = directory / 'keys'
        self.keys.mkdir()
        (self.keys / KEY_ID).write_text(PASSPHRASE)
        self.state = directory / 'state'
        self.options: dict[str, object] = {
            'state_path': str(self.state),
            'lock_path': str(self.state / 'lock'),
            'glusterfs_mount_point_base': str(mounts),
            'iscsi_client': 'qemu',
            'iscsi_initiator_name': 'iqn.2020-01.test:host',
            'mount_timeout': 8,
            'lock_timeout': 5,
        }
        self.conf = crash_zygote.make_conf(self.options)
        self.manager = manager_module.make_manager(
            self.conf, hypervisor, keys=crash_zygote.FileKeys(str(self.keys))
        )
        self._zygote = subprocess.Popen(
            [sys.executable, '-m', 'tests.functional.crash_zygote'],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._tell(self.options)
        self.end()
        self._numbers = 0
        self._volume: Volume | None = None

    @property
    def io(self) -> GuestIO:
        """What reads and writes the disks of the guest."""
        return GuestIO(self.guest, lambda: self.libvirtd.guest_log(self.guest.name))

    def close(self) -> None:
        self._zygote.communicate(timeout=30)

    @contextlib.contextmanager
    def other_guest(self, guest: Guest) -> typing.Iterator[Guest]:
        """Do everything with another guest, and remove it."""
        usual, self.guest = self.guest, guest
        try:
            yield guest
        finally:
            self.guest = usual
            guests.remove_guest(guest)

    @contextlib.contextmanager
    def boot(self, name: str) -> typing.Iterator[None]:
        """Let it be another boot of this host; everything that is mounted is gone after it."""
        usual = boot.current
        boot.current = lambda: name
        try:
            yield
        finally:
            boot.current = usual
        for place in self.server.mounted_at():
            run_root('umount', place)
            os.rmdir(place)

    @contextlib.contextmanager
    def volume(self, kind: str) -> typing.Iterator[Volume]:
        self._numbers += 1
        volume = self._volume = KINDS[kind](self, self._numbers)
        try:
            yield volume
        finally:
            self._clean()
            self._volume = None
            volume.close()

    def child(
        self,
        volume: Volume,
        *calls: crash_zygote.Call,
        kill: dict[str, object] | None = None,
        fail: str | None = None,
    ) -> dict[str, typing.Any]:
        """Let a child carry calls out, and die in the last of them."""
        self.begin(volume, *calls, kill=kill, fail=fail)
        return self.end()

    def begin(
        self,
        volume: Volume,
        *calls: crash_zygote.Call,
        kill: dict[str, object] | None = None,
        fail: str | None = None,
    ) -> None:
        """Let a child begin."""
        order = {
            'uri': self.hypervisor.uri,
            'keys': str(self.keys),
            'volume': volume.to_dict(),
            'calls': calls,
            'kill': kill,
            'fail': fail,
        }
        self._tell(order)

    def is_at_it(self) -> bool:
        """Ask whether the child that was begun has not ended."""
        return not select.select([self._zygote.stdout], [], [], 0)[0]

    def end(self) -> dict[str, typing.Any]:
        """Wait for the child; return how it ended."""
        assert self._zygote.stdout is not None
        line = self._zygote.stdout.readline()
        assert line, 'the zygote has died'
        return typing.cast(dict[str, typing.Any], json.loads(line))

    def perform(self, volume: Volume, *call: object) -> typing.Any:
        """Do it in this process."""
        return crash_zygote.perform(self.manager, volume.to_dict(), call)

    def record(self, volume: Volume) -> Record | None:
        found = self.manager.context.journal.find(volume_id=volume.id)
        return found[0] if found else None

    def disks(self) -> tuple[list[str | None], list[str | None]]:
        """Return the aliases in the live and in the persistent definition."""
        return (
            [disk.alias for disk in self.guest.disks()],
            [disk.alias for disk in self.guest.disks(persistent=True)],
        )

    def seen(self, *, with_disks: bool = True) -> dict[str, object]:
        """Return everything that an attachment may leave on a host.

        :param with_disks: also in the guest, which may be gone
        """
        with self.hypervisor.translated('list the secrets'):
            connection: libvirt.virConnect = self.hypervisor.connection()
            secrets = [secret.usageID() for secret in connection.listAllSecrets()]
        journal = self.manager.context.journal
        return {
            'disks': self.disks() if with_disks else ([], []),
            'secrets': sorted(secrets),
            'sessions': 0 if self._volume is None else self._volume.sessions(),
            'mounts': self.server.mounted_at(),
            'mount points': os.listdir(self.mounts),
            'users': sorted(
                name
                for _, _, names in os.walk(self.state / 'share-users' / boot.current())
                for name in names
            ),
            'links': glob.glob('/dev/disk/by-id/os-brick*'),
            'rows': [
                (record.volume_id, record.operation, record.step, record.problem)
                for record in journal.find()
            ],
        }

    def nothing(self) -> dict[str, object]:
        """Return what ``seen`` is when nothing is left."""
        return {
            'disks': ([], []),
            'secrets': [],
            'sessions': 0,
            'mounts': [],
            'mount points': [],
            'users': [],
            'links': [],
            'rows': [],
        }

    def wait_for_sessions_to_end(self) -> None:
        """QEMU ends its session a moment after libvirt has taken the disk off its list."""
        if self._volume is not None:
            volume = self._volume
            server_module.wait_until(
                lambda: volume.sessions() == 0, what='session to end', timeout=10
            )

    @contextlib.contextmanager
    def stopped_qemu(self) -> typing.Iterator[None]:
        """Stop QEMU of the guest, as one that hangs."""
        pid = int((self.libvirtd.directory / 'run/qemu' / f'{self.guest.name}.pid').read_text())
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def mounted(self) -> list[str]:
        """Return where the share is mounted."""
        return self.server.mounted_at()

    def require_unlocked(self, volume: Volume) -> None:
        """Make sure that the locks of a process that was killed died with it."""
        info = ConnectionInfo.parse(volume.info)
        context = self.manager.context
        names = (f'volume {volume.id}', *context.driver(info).lock_names(info))
        context.locks.acquire(names, what='test', seconds=0).release()

    def clients(self) -> list[str]:
        """Return the processes that serve mounts of this host, and should end with them."""
        found = []
        for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
            with contextlib.suppress(OSError):
                if str(self.mounts) in path.read_bytes().decode(errors='replace'):
                    found.append(path.parent.name)
        return found

    def _clean(self) -> None:
        """Take away what a test that failed has left: it is not to fail the next."""
        if self.seen(with_disks=False) == self.nothing():
            return
        journal = self.manager.context.journal
        for record in journal.find():
            with contextlib.suppress(exception.VolumeDriversError):
                self.manager.detach(record.domain_uuid, record.volume_id, force=True)
            journal.remove(record.key)
        for place in self.server.mounted_at():
            run_root('umount', '--lazy', place)
        for place in self.mounts.iterdir():
            place.rmdir()
        shutil.rmtree(self.state / 'share-users', ignore_errors=True)
        with self.hypervisor.translated('remove the secrets'):
            for secret in self.hypervisor.connection().listAllSecrets():
                secret.undefine()

    def _tell(self, order: object) -> None:
        assert self._zygote.stdin is not None
        self._zygote.stdin.write(json.dumps(order) + '\n')
        self._zygote.stdin.flush()
