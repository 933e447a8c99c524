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

"""A host under load: storage, guests, processes at work, and whether all agree in the end."""

import collections
import contextlib
import json
import os
import pathlib
import random
import select
import signal
import subprocess
import sys
import time
import typing
import urllib.parse

import libvirt

from tests.functional.crash_zygote import FileKeys
from tests.functional.crash_zygote import make_conf
from tests.functional.volumes import make_luks
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment.manager import make_manager
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import boot
from volumedrivers.host.fair_lock import FairLocks
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing.gluster import GlusterServer
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.libvirtd import find_program
from volumedrivers.testing.tgt import IscsiTarget

MIB = 2**20
SIZE = 8 * MIB
PASSPHRASE = 'a-passphrase-of-the-tests'
CHAP_PASSWORD = 'a-password-14'
KEY_ID = 'key-1'
GUESTS = tuple(f'load{number}' for number in range(1, 9))
#: those among which processes attach and detach at random
BUSY_GUESTS = GUESTS[:4]
ENCRYPTION = {
    'provider': 'luks',
    'encryption_key_id': KEY_ID,
    'cipher': 'aes-xts-plain64',
    'key_size': 256,
    'control_location': 'front-end',
}
# What an operation may answer when others work on the same volumes and guests.
EXPECTED = frozenset(
    (
        'AlreadyAttached',
        'AttachRefused',  # QEMU of another guest has the image
        'Busy',
        'DiskNotFound',
        'LockHeld',
        'NotRecorded',
        'ExtendVolumeNotSupported',  # a device of this host
        'ShrinkRefused',
    )
)


class Host(contextlib.ExitStack):
    """Everything that the processes share; a context manager.

    :ivar volumes: what the zygote is told of each volume
    """

    def __init__(self, directory: pathlib.Path) -> None:
        super().__init__()
        self.directory = directory
        self.state = directory / 'state'
        self.mounts = directory / 'mnt'
        self.keys = directory / 'keys'
        self.volumes: list[dict[str, typing.Any]] = []

    def __enter__(self) -> typing.Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def _start(self) -> None:
        for path in (self.mounts, self.keys):
            path.mkdir(parents=True)
        (self.keys / KEY_ID).write_text(PASSPHRASE)
        # A place that the mount namespace of libvirtd sees.
        run('mount', '--bind', str(self.mounts), str(self.mounts))
        self.callback(run, 'umount', '--lazy', str(self.mounts))
        run('mount', '--make-shared', str(self.mounts))
        self.server = self.enter_context(GlusterServer(self.directory / 'gluster'))
        self.libvirtd = self.enter_context(PrivateLibvirtd(self.directory / 'libvirtd'))
        self.hypervisor = self.enter_context(Hypervisor(self.libvirtd.uri))
        for name in GUESTS:
            guest = guests.start_guest(self.hypervisor, name, persistent=True)
            self.callback(guests.remove_guest, guest)
        self._make_volumes()
        self.options: dict[str, object] = {
            'state_path': str(self.state),
            'lock_path': str(self.state / 'lock'),
            'glusterfs_mount_point_base': str(self.mounts),
            'iscsi_client': 'qemu',
            'iscsi_initiator_name': 'iqn.2020-01.test:host',
            'mount_timeout': 30,
            'lock_timeout': 30,
        }
        self.manager = make_manager(
            make_conf(self.options), self.hypervisor, keys=FileKeys(str(self.keys))
        )

    def _make_volumes(self) -> None:
        place = self.directory / 'cinder'
        place.mkdir()
        # Through the servers, or GlusterFS would not know the files.
        run('mount', '-t', 'glusterfs', self.server.export, str(place))
        try:
            for number in range(3):
                self._share_volume(place, f'raw-{number}', 'raw')
            for number in range(2):
                self._share_volume(place, f'qcow2-{number}', 'qcow2')
            self._share_volume(place, 'shared', 'raw', multiattach=True)
            self._share_volume(place, 'luks', 'luks')
            for number in range(24):
                self._share_volume(place, f'more-{number}', 'raw')
        finally:
            run('umount', str(place))
        for number in range(2):
            target = IscsiTarget(
                self.directory / f'target{number}',
                size=SIZE,
                iqn=f'iqn.2020-01.org.volumedrivers:load{number}',
                chap=('user', CHAP_PASSWORD),
            )
            self.enter_context(target)
            name = f'iscsi-{number}'
            self._add(name, target.connection_info(name), [SIZE])
        image = self.directory / 'local.img'
        image.write_bytes(bytes(SIZE))
        losetup = find_program('losetup', 'mount')
        device = run(losetup, '--find', '--show', str(image)).strip()
        self.callback(run, losetup, '--detach', device)
        data = {'device_path': device, 'volume_id': 'local'}
        info = {'driver_volume_type': 'local', 'serial': 'local', 'data': data}
        self._add('local', {**info, 'multiattach': True}, [SIZE])

    def _share_volume(
        self, place: pathlib.Path, name: str, kind: str, *, multiattach: bool = False
    ) -> None:
        if kind == 'luks':
            make_luks(place / name, SIZE + 4 * MIB, PASSPHRASE)
        elif kind == 'qcow2':
            run('qemu-img', 'create', '-q', '-f', kind, str(place / name), str(SIZE))
        else:
            with (place / name).open('wb') as image:
                image.truncate(SIZE)
        data = {
            'export': self.server.export,
            'name': name,
            'format': 'raw' if kind == 'luks' else kind,
            'volume_id': name,
            'encrypted': kind == 'luks',
        }
        info = {'driver_volume_type': 'glusterfs', 'serial': name, 'data': data}
        # QEMU makes an encrypted image larger by what its header takes.
        sizes = [SIZE + step * MIB for step in range(4 if kind == 'luks' else 0, 9)]
        self._add(
            name,
            {**info, 'multiattach': multiattach},
            sizes,
            encryption=ENCRYPTION if kind == 'luks' else None,
        )

    def _add(
        self, name: str, info: dict[str, typing.Any], sizes: list[int], **more: object
    ) -> None:
        self.volumes.append({'id': name, 'info': info, 'sizes': sizes, **more})

    def info(self, name: str) -> ConnectionInfo:
        """Return what Cinder says of a volume."""
        (raw,) = (one['info'] for one in self.volumes if one['id'] == name)
        return ConnectionInfo.parse(raw)

    def client(self) -> int:
        """Return the process that serves the mounted share."""
        (place,) = self.server.mounted_at()
        (pid,) = (
            int(path.parent.name)
            for path in pathlib.Path('/proc').glob('[0-9]*/cmdline')
            for argv in [path.read_bytes().decode(errors='replace').split('\0')]
            if place in argv and 'glusterfs' in argv[0]
        )
        return pid

    def recover(self) -> list[str]:
        """Recover until nothing is left to do; return what is not as it should be."""
        infos = {str(one['id']): ConnectionInfo.parse(one['info']) for one in self.volumes}
        for _ in range(2):
            outcomes = self.manager.recover(infos)
        return [
            f'the second recover still had to do: {outcome.to_dict()}' for outcome in outcomes
        ] + self.disagreements()

    def disagreements(self) -> list[str]:
        """Compare journal, libvirt and host."""
        rows = self.manager.context.journal.find()
        found = [
            f'unfinished: {row.key} {row.operation} {row.step} {row.problem}'
            for row in rows
            if not row.is_settled
        ]
        expected = {(row.domain_name, row.volume_id): (row.target, row.source) for row in rows}
        for persistent in (False, True):
            seen = []
            targets = []
            for name in GUESTS:
                for disk in self.hypervisor.guest(name).disks(persistent=persistent):
                    target = guest_disks.target_of(disk)
                    targets.append((name, target))
                    key = (name, guest_disks.volume_id_of(disk))
                    seen.append((key, (target, guest_disks.source_of(disk))))
            found += _differ(f'disks, persistent={persistent}', seen, list(expected.items()))
            found += _differ('targets', targets, list(set(targets)))
        on_share = [row for row in rows if row.driver_volume_type == 'glusterfs']
        users = [
            urllib.parse.unquote(name.removeprefix('user-'))
            for _, _, names in os.walk(self.state / 'share-users' / boot.current())
            for name in names
            if name.startswith('user-')
        ]
        found += _differ('users', users, [f'{row.key}/{row.volume_id}' for row in on_share])
        found += _differ('mounts', [bool(self.server.mounted_at())], [bool(on_share)])
        found += _differ('places', [bool(os.listdir(self.mounts))], [bool(on_share)])
        with self.hypervisor.translated('list the secrets'):
            connection: libvirt.virConnect = self.hypervisor.connection()
            secrets = [secret.usageID() for secret in connection.listAllSecrets()]
        found += _differ(
            'secrets',
            secrets,
            [f'{row.volume_id}/{row.key}' for row in rows if row.driver_volume_type == 'iscsi']
            + list({row.volume_id for row in rows if row.opened is not None}),
        )
        return found + _differ('tickets', self._tickets(), [])

    def _tickets(self) -> list[str]:
        """Return the places in queues that are left when each gate was passed once."""
        directory = self.manager.context.locks.directory
        locks = FairLocks(directory)
        for number in range(500):  # sixteen gates, by hash
            locks.acquire((f'nobody wants this {number}',), what='sweep', seconds=0).release()
        return [name for name in os.listdir(directory) if not name.startswith('gate-')]


class Load:
    """Processes at work.

    :ivar entries: what became of the operations
    """

    def __init__(self, host: Host, seed: int, *, processes: int, operations: int) -> None:
        self.host = host
        self.seed = seed
        self.choice = random.Random(seed)
        self.share = operations // processes
        self.logs = [host.directory / f'load-{seed}-{number}' for number in range(processes)]
        self.killed = dict.fromkeys(self.logs, 0)
        self.alive: dict[int, pathlib.Path] = {}
        self.failed: list[str] = []

    def run(self, *, kill_every: float | None = None) -> None:
        """Let them work until all is done; kill one of them again and again.

        :param kill_every: seconds between two kills
        """
        with subprocess.Popen(
            [sys.executable, '-m', 'tests.functional.load_zygote'],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as self.zygote:
            try:
                self._work(kill_every)
            finally:
                for pid in self.alive:
                    os.kill(pid, signal.SIGKILL)
                self.zygote.kill()

    @property
    def entries(self) -> list[dict[str, typing.Any]]:
        return [
            json.loads(line)
            for log in self.logs
            if log.exists()
            for line in log.read_text().splitlines()
        ]

    def outcomes(self) -> dict[str, int]:
        """Count them, for people."""
        counted = collections.Counter(
            f'{entry["operation"]}: {entry["outcome"]}' for entry in self.entries
        )
        counted['killed'] = sum(self.killed.values())
        return dict(sorted(counted.items()))

    def unexpected(self) -> list[dict[str, typing.Any]]:
        """Return what should not have happened."""
        return [
            entry
            for entry in self.entries
            if not entry['outcome'].startswith('done') and entry['outcome'] not in EXPECTED
        ]

    def told(self) -> str:
        """Return what should not have happened, a line each."""
        return '\n'.join(map(str, self.unexpected()))

    def _work(self, kill_every: float | None) -> None:
        assert self.zygote.stdout is not None
        pending = b''
        next_kill = None
        while True:
            timeout = None if next_kill is None else max(0.0, next_kill - time.monotonic())
            ready, _, _ = select.select([self.zygote.stdout], [], [], timeout)
            if not ready:
                self._kill_one()
                assert kill_every is not None
                next_kill = time.monotonic() + kill_every * self.choice.uniform(0.5, 1.5)
                continue
            read = os.read(self.zygote.stdout.fileno(), 2**16)
            assert read, 'the zygote has died'
            *lines, pending = (pending + read).split(b'\n')
            for line in lines:
                message = json.loads(line)
                if 'ready' in message:
                    for log in self.logs:
                        self._order(log)
                    next_kill = None if kill_every is None else time.monotonic() + kill_every
                elif 'began' in message:
                    self.alive[message['pid']] = pathlib.Path(message['began'])
                else:
                    self._ended(message)
            if not self.alive and all(self._left(log) <= 0 for log in self.logs):
                return

    def _left(self, log: pathlib.Path) -> int:
        lines = log.read_text().count('\n') if log.exists() else 0
        return self.share - lines - self.killed[log]

    def _order(self, log: pathlib.Path) -> None:
        order = {
            'name': str(log),
            'log': str(log),
            'seed': self.choice.randrange(2**32),
            'count': self._left(log),
            'guests': BUSY_GUESTS,
            'volumes': [one for one in self.host.volumes if not one['id'].startswith('more-')],
            'uri': self.host.hypervisor.uri,
            'keys': str(self.host.keys),
            'options': self.host.options,
        }
        assert self.zygote.stdin is not None
        self.zygote.stdin.write((json.dumps(order) + '\n').encode())
        self.zygote.stdin.flush()

    def _kill_one(self) -> None:
        if self.alive:
            os.kill(self.choice.choice(list(self.alive)), signal.SIGKILL)

    def _ended(self, message: dict[str, int]) -> None:
        log = self.alive.pop(message['ended'])
        if message['code'] == -signal.SIGKILL:
            # What it was at counts as an operation.
            self.killed[log] += 1
        elif message['code']:
            self.failed.append(f'{log.name} ended with {message["code"]}')
            self.killed[log] = self.share
        if self._left(log) > 0:
            self._order(log)


def _differ(what: str, found: list[typing.Any], expected: list[typing.Any]) -> list[str]:
    if sorted(map(repr, found)) == sorted(map(repr, expected)):
        return []
    more = [one for one in found if one not in expected]
    less = [one for one in expected if one not in found]
    return [f'{what}: not expected {more}, missing {less} (found {len(found)})']


def run(program: str, *arguments: str) -> str:
    """Run it as root; return what it says."""
    return subprocess.run(
        [program, *arguments],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    ).stdout
