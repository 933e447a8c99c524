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

import abc
import contextlib
import glob
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import typing

import libvirt

from tests.functional import crash_zygote
from tests.functional.volumes import run
from volumedrivers import exception
from volumedrivers.attachment import manager as manager_module
from volumedrivers.attachment.record import Record
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import boot
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing.gluster import GlusterServer
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.libvirtd import find_program
from volumedrivers.testing.qemu_io import GuestIO
from volumedrivers.testing.tgt import IscsiTarget

MIB = 2**20
SIZE = 8 * MIB
BLOCK = 65536
PASSPHRASE = 'a-passphrase-of-the-tests'
CHAP_PASSWORD = 'a-password-14'
KEY_ID = 'key-1'


class Volume(abc.ABC):
    """A volume with a pattern in its first block, and how it is seen from the storage.

    :ivar name: of the kind, for the table
    :ivar secrets: how many libvirt secrets it has while it is attached
    :ivar mounts: how many mounts
    """

    name: str
    secrets = 0
    mounts = 0
    can_grow = True
    encryption: dict[str, object] | None = None

    def __init__(self, host: 'Host', number: int) -> None:
        self.host = host
        self.id = f'c1b2d3e4-0000-4aaa-8bbb-{number:012x}'
        self.size = SIZE

    @property
    @abc.abstractmethod
    def info(self) -> dict[str, object]:
        """What Cinder says."""

    @abc.abstractmethod
    def image(self) -> str:
        """Return what qemu-io opens, while no guest has it open."""

    def write(self, pattern: int, block: int) -> None:
        self._qemu_io(f'write -P {pattern:#x} {block * BLOCK} {BLOCK}')

    def holds(self, pattern: int, block: int) -> bool:
        said = self._qemu_io(f'read -P {pattern:#x} {block * BLOCK} {BLOCK}')
        assert f'read {BLOCK}/{BLOCK}' in said, said
        return 'verification failed' not in said

    def grow(self, size: int) -> None:
        """Let the storage have more; QEMU does it for files."""
        self.size = size

    def sessions(self) -> int:
        """Return how many log-ins the storage sees."""
        return 0

    def close(self) -> None:  # noqa: B027 - a file on a server has nothing
        """Take the storage away."""

    def to_dict(self) -> dict[str, object]:
        # By its UUID also a guest that is gone.
        return {'info': self.info, 'guest': self.host.guest.uuid, 'encryption': self.encryption}

    def _qemu_io(self, command: str) -> str:
        # Its code is 1 as well for a pattern that differs.
        return subprocess.run(
            [
                'qemu-io',
                '--object',
                f'secret,id=key,data={PASSPHRASE}',
                '--image-opts',
                '-c',
                command,
                self.image(),
            ],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30,
        ).stdout


class ShareVolume(Volume):
    """A file on a GlusterFS that is mounted here."""

    name = 'raw'
    format = 'raw'
    mounts = 1
    create: tuple[str, ...] = ()

    def __init__(self, host: 'Host', number: int) -> None:
        super().__init__(host, number)
        # Through the servers, or GlusterFS would not know the file.
        place = host.server.directory / 'cinder'
        place.mkdir(exist_ok=True)
        run_root('mount', '-t', 'glusterfs', host.server.export, str(place))
        try:
            self._create(place / self.id)
        finally:
            run_root('umount', str(place))
        self.write(0x11, 0)

    def _create(self, path: pathlib.Path) -> None:
        run('qemu-img', 'create', '-q', '-f', self.format, str(path), str(SIZE))

    @property
    def info(self) -> dict[str, object]:
        return {
            'driver_volume_type': 'glusterfs',
            'serial': self.id,
            'data': {
                'export': self.host.server.export,
                'name': self.id,
                'format': self.format,
                'volume_id': self.id,
                'encrypted': self.encryption is not None,
            },
        }

    def image(self) -> str:
        return f'driver={self.format},file.filename={self.host.server.brick / self.id}'


class Qcow2Volume(ShareVolume):
    name = format = 'qcow2'


class EncryptedVolume(ShareVolume):
    """LUKS in a raw file, which QEMU decrypts."""

    name = 'luks'
    secrets = 1
    encryption: typing.ClassVar[dict[str, object]] = {
        'provider': 'luks',
        'encryption_key_id': KEY_ID,
        'cipher': 'aes-xts-plain64',
        'key_size': 256,
        'control_location': 'front-end',
    }

    def _create(self, path: pathlib.Path) -> None:
        with path.open('wb') as image:
            image.truncate(SIZE + 4 * MIB)
        subprocess.run(
            [
                find_program('cryptsetup', 'cryptsetup-bin'),
                *('luksFormat', '--batch-mode', '--type', 'luks1'),
                *('--pbkdf-force-iterations', '1000', '--key-file', '-', str(path)),
            ],
            input=PASSPHRASE.encode(),
            check=True,
            capture_output=True,
            timeout=30,
        )
        self.size = path.stat().st_size

    def image(self) -> str:
        path = self.host.server.brick / self.id
        return f'driver=luks,key-secret=key,file.filename={path}'


class IscsiVolume(Volume):
    """A LUN that QEMU logs in to, with CHAP."""

    name = 'iscsi'
    secrets = 1

    def __init__(self, host: 'Host', number: int) -> None:
        super().__init__(host, number)
        self.target = IscsiTarget(
            host.directory / f'target{number}',
            size=SIZE,
            iqn=f'iqn.2020-01.org.volumedrivers:target{number}',
            chap=('user', CHAP_PASSWORD),
        )
        self.target.start()
        self.write(0x11, 0)

    @property
    def info(self) -> dict[str, object]:
        return self.target.connection_info(self.id)

    def image(self) -> str:
        return f'driver=raw,file.filename={self.target.image}'

    def grow(self, size: int) -> None:
        super().grow(size)
        self.target.grow(size)

    def sessions(self) -> int:
        return self.target.sessions()

    def close(self) -> None:
        self.target.stop()


class LocalVolume(Volume):
    """A block device that stays on this host."""

    name = 'block'
    can_grow = False

    def __init__(self, host: 'Host', number: int) -> None:
        super().__init__(host, number)
        self.path = host.directory / f'local{number}'
        with self.path.open('wb') as image:
            image.truncate(SIZE)
        losetup = find_program('losetup', 'mount')
        self.device = run(losetup, '--find', '--show', str(self.path)).strip()
        self.write(0x11, 0)

    @property
    def info(self) -> dict[str, object]:
        return {
            'driver_volume_type': 'local',
            'serial': self.id,
            'data': {'device_path': self.device, 'volume_id': self.id},
        }

    def image(self) -> str:
        return f'driver=raw,file.driver=host_device,file.filename={self.device}'

    def close(self) -> None:
        run_root('losetup', '--detach', self.device)


KINDS: dict[str, type[Volume]] = {
    kind.name: kind
    for kind in (ShareVolume, Qcow2Volume, EncryptedVolume, IscsiVolume, LocalVolume)
}


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
        self._ask(self.options)
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
        order = {
            'uri': self.hypervisor.uri,
            'keys': str(self.keys),
            'volume': volume.to_dict(),
            'calls': calls,
            'kill': kill,
            'fail': fail,
        }
        return self._ask(order)

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

    def _ask(self, order: object) -> dict[str, typing.Any]:
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.write(json.dumps(order) + '\n')
        self._zygote.stdin.flush()
        line = self._zygote.stdout.readline()
        assert line, 'the zygote has died'
        return typing.cast(dict[str, typing.Any], json.loads(line))


def run_root(program: str, *arguments: str) -> None:
    subprocess.run([program, *arguments], check=True, capture_output=True, timeout=60)
