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

"""Real libvirt connections: secrets, and the other kinds of URI."""

from collections.abc import Iterator
import logging
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import pytest

from tests.functional import volumes
from volumedrivers import exception
from volumedrivers.libvirt.disk import Encryption
from volumedrivers.libvirt.disk import EncryptionSecret
from volumedrivers.libvirt.events import Verdict
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing import libvirtd as libvirtd_helpers
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.qemu_io import GuestIO

PASSPHRASE = b'wholly-secret-passphrase'


@pytest.fixture
def luks(tmp_path: pathlib.Path) -> volumes.Volume:
    """A raw volume with LUKS in it, whose disk refers to a secret by its UUID."""
    volume = volumes.RawVolume(tmp_path)
    key = tmp_path / 'passphrase'
    key.write_bytes(PASSPHRASE)
    command = [
        'qemu-img', 'create', '-q', '-f', 'luks', '--object', f'secret,id=s,file={key}',
        '-o', 'key-secret=s,iter-time=10', str(volume.path), str(volumes.SIZE),
    ]  # fmt: skip
    # QEMU measures how fast this CPU is, and now and then fails at it.
    for _ in range(20):
        made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        if made.returncode == 0 or 'accurate CPU usage' not in made.stderr:
            break
    assert made.returncode == 0, made.stderr
    key.unlink()
    return volume


def encrypted(disk: volumes.Disk, uuid: str) -> volumes.Disk:
    secret = EncryptionSecret(type='passphrase', uuid=uuid)
    disk.encryption = Encryption(format='luks', secrets=[secret])
    return disk


@pytest.mark.parametrize('usage_type', ['volume', 'ceph', 'iscsi', 'tls'])
@pytest.mark.parametrize('ephemeral', [True, False])
def test_secret_lives_as_long_as_it_should(
    libvirtd: PrivateLibvirtd, hypervisor: Hypervisor, usage_type: str, ephemeral: bool
) -> None:
    secrets = hypervisor.secrets
    usage_id = f'id-{usage_type}-{ephemeral}'
    assert secrets.find(usage_type, usage_id) is None
    uuid = secrets.ensure(usage_type, usage_id, PASSPHRASE, ephemeral=ephemeral)
    assert secrets.ensure(usage_type, usage_id, b'another', ephemeral=ephemeral) == uuid
    assert secrets.find(usage_type, usage_id) == uuid
    libvirtd.restart()
    assert secrets.find(usage_type, usage_id) == (None if ephemeral else uuid)
    assert secrets.delete(usage_type, usage_id) is not ephemeral
    assert secrets.delete(usage_type, usage_id) is False
    assert secrets.find(usage_type, usage_id) is None


def test_encrypted_disk_is_opened_with_its_secret(
    libvirtd: PrivateLibvirtd,
    hypervisor: Hypervisor,
    guest: Guest,
    guest_io: GuestIO,
    luks: volumes.Volume,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    uuid = hypervisor.secrets.ensure('volume', 'luks-volume', PASSPHRASE)
    guest.attach_disk(encrypted(luks.disk('scsi', 'sda'), uuid))
    guest_io.write('ua-volume', 0x5A, 0, 65536)
    guest_io.read('ua-volume', 0x5A, 0, 65536)
    xml = guest.disks()[0].to_xml()
    guest.detach_disk(alias='ua-volume', target='sda')
    assert hypervisor.secrets.delete('volume', 'luks-volume')

    # What the guest wrote is not in the volume as it wrote it.
    assert b'\x5a' * 512 not in luks.path.read_bytes()
    told = xml + caplog.text + libvirtd.log + libvirtd.guest_log(guest.name)
    assert 'ua-volume' in told
    assert PASSPHRASE.decode() not in told
    for path in libvirtd.directory.rglob('*'):
        if path.is_file():
            assert PASSPHRASE not in path.read_bytes(), path


def test_wrong_passphrase_is_refused_and_leaves_nothing(
    hypervisor: Hypervisor, guest: Guest, guest_io: GuestIO, luks: volumes.Volume
) -> None:
    uuid = hypervisor.secrets.ensure('volume', 'luks-volume', b'wrong')
    with pytest.raises(exception.AttachRefused, match='cannot unlock'):
        guest.attach_disk(encrypted(luks.disk('scsi', 'sda'), uuid))
    assert guest.disks() == guest.disks(persistent=True) == ()
    assert guest_io.node_names() == set()
    assert hypervisor.secrets.delete('volume', 'luks-volume')


def test_guests_are_found_by_name_and_uuid(hypervisor: Hypervisor, guest: Guest) -> None:
    assert hypervisor.guest(guest.name).uuid == guest.uuid
    assert hypervisor.guest(guest.uuid).name == guest.name
    assert guest.name in [other.name for other in hypervisor.guests()]
    for name in ('no-such-guest', 'd3f36d9b-3b2b-4f4a-a0dc-0a0a22c1c3a1'):
        with pytest.raises(exception.GuestNotFound):
            hypervisor.guest(name)


def test_nothing_at_the_other_end(tmp_path: pathlib.Path) -> None:
    uri = f'qemu+unix:///system?socket={tmp_path}/none'
    with Hypervisor(uri) as hypervisor, pytest.raises(exception.HypervisorUnavailable):
        hypervisor.guests()


# An embedded driver stays with its process, so it gets one of its own.
EMBEDDED = """
import pathlib, sys
from tests.functional import volumes
from volumedrivers import exception
from volumedrivers.libvirt.events import Verdict
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing import libvirtd

root = pathlib.Path(sys.argv[1])
uri = libvirtd.prepare_embed_root(root)
for again in range(2):
    with Hypervisor(uri) as hypervisor:
        guest = guests.start_guest(hypervisor, 'embedded')
        try:
            volume = volumes.RawVolume(root)
            guest.attach_disk(volume.disk('scsi', 'sda'))
            assert [disk.alias for disk in guest.disks()] == ['ua-volume']
            with hypervisor.events.waiter(guest.uuid, 'ua-volume') as waiter:
                guest.detach_disk(alias='ua-volume')
                assert waiter.wait(5) is Verdict.REMOVED
            assert guest.disks() == ()
        finally:
            guests.remove_guest(guest)
        assert hypervisor.secrets.find('volume', 'x') is None
        for change in (
            lambda: hypervisor.secrets.ensure('volume', 'x', b'value'),
            lambda: hypervisor.secrets.delete('volume', 'x'),
        ):
            try:
                change()
            except exception.SecretsNotSupported:
                pass
            else:
                raise AssertionError('secret accepted')
libvirtd.keep_capabilities(root / 'cache' / 'qemu' / 'capabilities')
print('done')
"""


def test_embedded_libvirt() -> None:
    # Sockets have to fit below the directory.
    with tempfile.TemporaryDirectory(prefix='vd-embed') as root:
        ran = subprocess.run(
            [sys.executable, '-c', EMBEDDED, root],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
    assert ran.stdout.endswith('done\n'), ran.stdout
    assert ran.returncode == 0


@pytest.fixture
def session_home() -> Iterator[pathlib.Path]:
    """A directory of user nobody, short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix='vd-session') as directory:
        home = pathlib.Path(directory)
        shutil.chown(home, 'nobody', 'nogroup')
        yield home


def test_libvirt_of_an_ordinary_user(session_home: pathlib.Path) -> None:
    runtime = session_home / 'run'
    runtime.mkdir()
    shutil.chown(runtime, 'nobody', 'nogroup')
    program = libvirtd_helpers.find_program('libvirtd', 'libvirt-daemon-system')
    daemon = subprocess.Popen(
        [program],
        user='nobody',
        group='nogroup',
        extra_groups=(),
        env={
            'PATH': os.environ['PATH'],
            'HOME': str(session_home),
            'XDG_RUNTIME_DIR': str(runtime),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        path = runtime / 'libvirt' / 'libvirt-sock'
        deadline = time.monotonic() + 20
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        volume = volumes.RawVolume(session_home)
        shutil.chown(volume.path, 'nobody', 'nogroup')
        with Hypervisor(f'qemu+unix:///session?socket={path}') as hypervisor:
            guest = guests.start_guest(hypervisor, 'session')
            try:
                guest.attach_disk(volume.disk('scsi', 'sda'))
                with hypervisor.events.waiter(guest.uuid, 'ua-volume') as waiter:
                    guest.detach_disk(alias='ua-volume', target='sda')
                    assert waiter.wait(5) is Verdict.REMOVED
                assert guest.disks() == ()
                uuid = hypervisor.secrets.ensure('volume', 'x', PASSPHRASE)
                assert hypervisor.secrets.find('volume', 'x') == uuid
            finally:
                guests.remove_guest(guest)
    finally:
        daemon.terminate()
        daemon.wait(10)
