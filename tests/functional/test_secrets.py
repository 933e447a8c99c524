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

"""No secret is in anything that a run writes, prints, logs or starts."""

import base64
from collections.abc import Iterator
import json
import os
import pathlib
import secrets
import signal
import subprocess
import sys
import typing

import libvirt
import pytest

from tests.functional.evidence import Evidence
from tests.functional.evidence import Sampler
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing.ceph import CephCluster
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.libvirtd import find_program
from volumedrivers.testing.tgt import IscsiTarget

ROOT = pathlib.Path(__file__).parents[2]
MIB = 2**20
SIZE = 16 * MIB
GUEST = 'keeper'
IMAGE = 'secret-image'


def new(kind: str) -> str:
    """Return a secret of 14 characters that changes when it is quoted or escaped."""
    return f'{kind}%&/{secrets.token_hex(4)}'


class Run:
    """One life of volumes with secrets of every kind, and everything that is seen of it.

    :ivar secrets: what must not be seen, by what it is
    :ivar planted: what is put everywhere, and has to be found
    """

    def __init__(self, directory: pathlib.Path, cluster: CephCluster) -> None:
        self.directory = directory
        self.cluster = cluster
        self.evidence = Evidence()
        self.secrets = {name: new('Ch') for name in ('CHAP', 'wrong CHAP')}
        for name in ('LUKS', 'wrong LUKS', 'SMB', 'vzstorage', 'unknown 1', 'unknown 2'):
            self.secrets[name] = new('Pw')
        self.secrets['cephx'] = base64.b64encode(cluster.key).decode()
        other = cluster.key[:-16] + secrets.token_bytes(16)
        self.secrets['wrong cephx'] = base64.b64encode(other).decode()
        self.planted = new('Pl')
        self.state = directory / 'state'
        self.log = directory / 'library.log'
        self.config = directory / 'volumedrivers.conf'
        self.keys = directory / 'keys'
        self.said: list[str] = []
        self.samples = 0

    def prepare(
        self, hypervisor: Hypervisor, libvirtd: PrivateLibvirtd, target: IscsiTarget
    ) -> None:
        """Make what is there before anybody looks: tools of storage get secrets as arguments."""
        self.hypervisor = hypervisor
        self.libvirtd = libvirtd
        self.target = target
        self.guest = guests.start_guest(hypervisor, GUEST, persistent=True)
        self.keys.mkdir()
        for name in ('LUKS', 'wrong LUKS'):
            key = self.keys / f'{name.replace(" ", "-")}.passphrase'
            key.write_text(self.secrets[name])
        store = hypervisor.secrets
        self.ceph = store.ensure('ceph', 'right', base64.b64decode(self.secrets['cephx']))
        self.wrong_ceph = store.ensure(
            'ceph', 'wrong', base64.b64decode(self.secrets['wrong cephx'])
        )
        self.config.write_text(
            '[DEFAULT]\ndebug = true\n'
            '[volumedrivers]\n'
            f'state_path = {self.state}\n'
            f'lock_path = {self.state / "lock"}\n'
            f'smbfs_mount_point_base = {self.directory / "smb"}\n'
            f'vzstorage_mount_point_base = {self.directory / "vz"}\n'
            f'rbd_ceph_conf = {self.cluster.conf}\n'
            'iscsi_client = qemu\n'
            'iscsi_initiator_name = iqn.2020-01.test:host\n'
            'endpoint_timeout = 5\nmount_timeout = 5\n'
            'device_detach_attempts = 2\n'
            '[key_manager]\nbackend = tests.file_key_manager.FileKeyManager\n'
            f'[file_key_manager]\ndirectory = {self.keys}\n'
        )

    # What Cinder says.

    def luks(self, *, key: str = 'LUKS', password: str = 'CHAP') -> dict[str, typing.Any]:
        """An encrypted volume behind CHAP: two secrets."""
        return {
            'info': self.target.connection_info('luks', password=self.secrets[password]),
            'encryption': {
                'provider': 'luks',
                'encryption_key_id': key.replace(' ', '-'),
                'cipher': 'aes-xts-plain64',
                'key_size': 256,
                'control_location': 'front-end',
            },
        }

    def rbd(self, secret_uuid: str) -> dict[str, typing.Any]:
        info = self.cluster.connection_info(IMAGE, 'rbd', secret_uuid=secret_uuid)
        info['data']['keyring'] = self.secrets['cephx']
        return {'info': info}

    def smb(self) -> dict[str, typing.Any]:
        options = f'-o username=user,password={self.secrets["SMB"]}'
        return self._file('smbfs', '//127.0.0.1/share', options=options)

    def vz(self) -> dict[str, typing.Any]:
        return self._file('vzstorage', f'127.0.0.1:/cluster:{self.secrets["vzstorage"]}')

    def unknown(self, device: str) -> dict[str, typing.Any]:
        """What no driver has ever heard of."""
        data = {
            'device_path': device,
            'volume_id': 'unknown',
            'vendor_admin_password': self.secrets['unknown 1'],
            'session': {'api_token': self.secrets['unknown 2']},
        }
        return {'info': {'driver_volume_type': 'local', 'serial': 'unknown', 'data': data}}

    def _file(self, kind: str, export: str, **more: object) -> dict[str, typing.Any]:
        data = {'export': export, 'name': 'volume', 'volume_id': kind, 'format': 'raw', **more}
        return {'info': {'driver_volume_type': kind, 'serial': kind, 'data': data}}

    # What is done.

    def library(self, *calls: dict[str, typing.Any], **order: object) -> str:
        """Let a process do it with the library; return what it prints."""
        given = {
            'config': str(self.config),
            'log': str(self.log),
            'uri': self.hypervisor.uri,
            'calls': calls,
            **order,
        }
        killed = -signal.SIGKILL if order.get('kill') else 0
        return self._run([sys.executable, '-m', 'tests.functional.secrets_worker'], given, killed)

    def command(
        self, *words: str, code: int | None = 0, info: object = None, more: object = None
    ) -> str:
        """Let the command do it, with all that it can log."""
        files = []
        for option, content in (('--connection-info', info), ('--encryption', more)):
            if content is not None:
                path = self.directory / f'given{option}.json'
                path.write_text(json.dumps(content))
                path.chmod(0o600)
                files += [option, str(path)]
        script = pathlib.Path(sys.executable).parent / 'volumedrivers'
        fixed = ('--debug', f'--connect={self.hypervisor.uri}', f'--config-file={self.config}')
        return self._run([str(script), *fixed, *words, *files], None, code)

    def _run(self, words: list[str], given: object, code: int | None) -> str:
        done = subprocess.run(
            words,
            input=None if given is None else json.dumps(given),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
            cwd=ROOT,
            env={**os.environ, 'PYTHONPATH': str(ROOT)},
        )
        self.evidence.add('output', done.stdout)
        self.said.append(done.stdout)
        self.look()
        assert code in (None, done.returncode), done.stdout[-3000:]
        return done.stdout

    def look(self) -> None:
        """Read all that there is by now."""
        self.evidence.add_files('state', self.state)
        for path in (self.log, self.libvirtd.directory / 'libvirtd.log'):
            if path.exists():
                self.evidence.add('log', path.read_bytes())
        self.evidence.add_files('libvirt log', self.libvirtd.directory / 'log')
        with self.hypervisor.translated('read the definitions'):
            domain = self.hypervisor.domain(self.guest.uuid)
            for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE):
                self.evidence.add('xml', domain.XMLDesc(flags))

    def start_again(self) -> None:
        """Let QEMU get its disks as arguments."""
        with self.hypervisor.translated('start the guest again'):
            domain = self.hypervisor.domain(self.guest.uuid)
            domain.destroy()
            domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        self.look()

    def live(self, device: str) -> None:
        """Do all that can be done with volumes, well and badly."""
        luks, rbd, unknown = self.luks(), self.rbd(self.ceph), self.unknown(device)
        on = {'guest': GUEST}
        said = self.library(
            {'do': 'plan', **on, **luks},
            {'do': 'attach', **on, **self.luks(password='wrong CHAP')},
            {'do': 'attach', **on, **self.luks(key='wrong LUKS')},
            {'do': 'attach', **on, **self.rbd(self.wrong_ceph)},
            {'do': 'attach', **on, **self.smb()},
            {'do': 'attach', **on, **self.vz()},
            {'do': 'list'},
            {'do': 'recover', **luks},
        )
        assert said.count('attach failed: ') == 5, said
        said = self.library(
            {'do': 'attach', **on, **luks},
            {'do': 'attach', **on, **rbd},
            {'do': 'attach', **on, **unknown},
            {'do': 'list'},
            *({'do': 'show', **on, 'volume': one} for one in ('luks', 'rbd', 'unknown')),
        )
        assert 'failed: ' not in said, said
        self.start_again()
        self.target.grow(2 * SIZE)
        self.cluster.resize(IMAGE, 2 * SIZE)
        said = self.library(
            {'do': 'extend', **on, 'volume': 'luks', 'size': 2 * SIZE},
            {'do': 'extend', **on, 'volume': 'rbd', 'size': 2 * SIZE},
            {'do': 'audit'},
            {'do': 'detach', **on, 'volume': 'luks'},
            {'do': 'detach', **on, 'volume': 'rbd'},
            {'do': 'detach', **on, 'volume': 'unknown'},
        )
        assert 'failed: ' not in said, said
        for step in ('encrypt', 'attach'):
            self.library(
                {'do': 'attach', **on, **luks}, kill=['attach', step, 'after'], plant=self.planted
            )
            said = self.library(
                {'do': 'audit'},
                {'do': 'list'},
                {'do': 'recover', **luks},
                {'do': 'detach', **on, **luks, 'volume': 'luks'},
            )
            assert 'failed: ' not in said, said
            assert "action='failed'" not in said, said

    def use_the_command(self, device: str) -> None:
        """Do it at the shell."""
        luks, wrong = self.luks(), self.luks(password='wrong CHAP')
        attach = ('attach', GUEST, '--bus', 'scsi')
        self.command(*attach, info=luks['info'], more=luks['encryption'])
        self.command(*attach, info=self.unknown(device)['info'])
        self.command(*attach, info=self.rbd(self.ceph)['info'])
        for words in (
            ('list',),
            ('show', GUEST, 'luks', '--tree'),
            ('audit', '-f', 'json'),
            ('extend', GUEST, 'luks', '32M'),
            ('recover',),
            ('detach', GUEST, 'luks'),
            ('detach', GUEST, 'unknown'),
            ('detach', GUEST, 'rbd'),
        ):
            self.command(*words)
        self.command(*attach, code=1, info=wrong['info'], more=wrong['encryption'])
        self.command(*attach, '--dry-run', info=luks['info'], more=luks['encryption'])
        self.command(*attach, code=None, info=self.smb()['info'])

    def plant(self) -> None:
        """Put a secret where none may be, in many shapes."""
        coded = self.planted.encode().hex()
        subprocess.run(
            [sys.executable, '-c', 'import time; time.sleep(0.3)', coded],
            check=True,
            env={**os.environ, 'PLANTED': self.planted},
        )
        (self.state / 'share-users').mkdir(parents=True, exist_ok=True)
        (self.state / 'share-users' / 'planted').write_text(f'user:{self.planted}')
        with (self.libvirtd.directory / 'log' / 'qemu' / f'{GUEST}.log').open('a') as log:
            log.write(self.planted)
        with self.hypervisor.translated('describe the guest'):
            self.hypervisor.domain(self.guest.uuid).setMetadata(
                libvirt.VIR_DOMAIN_METADATA_DESCRIPTION,
                self.planted,
                None,
                None,
                libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG,
            )
        self.look()


@pytest.fixture(scope='module')
def done(tmp_path_factory: pytest.TempPathFactory, cluster: CephCluster) -> Iterator[Run]:
    """All of it, once."""
    directory = tmp_path_factory.mktemp('secrets')
    run = Run(directory, cluster)
    cluster.create_image(IMAGE, SIZE)
    image = directory / 'target' / 'lun.img'
    image.parent.mkdir()
    make_luks(image, run.secrets['LUKS'])
    local = directory / 'local.img'
    local.write_bytes(bytes(MIB))
    target = IscsiTarget(image.parent, size=SIZE, chap=('user', run.secrets['CHAP']))
    with (
        target,
        PrivateLibvirtd(tmp_path_factory.mktemp('libvirtd')) as libvirtd,
        Hypervisor(libvirtd.uri) as hypervisor,
    ):
        run.prepare(hypervisor, libvirtd, target)
        losetup = find_program('losetup', 'mount')
        device = subprocess.run(
            [losetup, '--find', '--show', str(local)], check=True, capture_output=True, text=True
        ).stdout.strip()
        try:
            with Sampler(run.evidence) as sampler:
                run.live(device)
                run.use_the_command(device)
                run.plant()
            run.samples = sampler.samples
            yield run
        finally:
            guests.remove_guest(run.guest)
            subprocess.run([losetup, '--detach', device], check=True)
            cluster.remove(IMAGE)


def make_luks(path: pathlib.Path, passphrase: str) -> None:
    with path.open('wb') as image:
        image.truncate(SIZE)
    subprocess.run(
        [
            find_program('cryptsetup', 'cryptsetup-bin'),
            *('luksFormat', '--batch-mode', '--type', 'luks1'),
            *('--pbkdf-force-iterations', '1000', '--key-file', '-', str(path)),
        ],
        input=passphrase.encode(),
        check=True,
        capture_output=True,
        timeout=30,
    )


def test_no_secret_is_anywhere(done: Run) -> None:
    found = {name: done.evidence.places_of(secret) for name, secret in done.secrets.items()}
    assert not any(found.values()), {name: where for name, where in found.items() if where}


def test_a_planted_secret_is_found_wherever_it_is(done: Run) -> None:
    found = done.evidence.places_of(done.planted)
    assert set(found) == {'cmdline', 'environ', 'libvirt log', 'log', 'output', 'state', 'xml'}


def test_it_was_looked_at_what_matters(done: Run) -> None:
    """The search would find nothing where there is nothing."""
    seen = done.evidence.seen
    arguments = b'\0'.join(seen['cmdline'])
    assert b'secrets_worker' in arguments
    assert b'--connection-info' in arguments
    # QEMU was started with the secrets, which only libvirt can read.
    assert b'"qom-type":"secret"' in arguments
    log = b''.join(seen['log'])
    for name in (b'DEBUG volumedrivers.', b'DEBUG os_brick.', b' castellan.', b'DEBUG oslo_'):
        assert name in log
    state = b''.join(seen['state'])
    assert b'attachments.sqlite-wal' in state
    assert b'"auth_password":"***"' in state
    assert b'"vendor_admin_password":"***"' in state
    assert any(b'<encryption' in xml for xml in seen['xml'])
    assert done.samples > 100
