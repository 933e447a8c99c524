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

"""Encrypted volumes of Cinder: the key from the key manager, ciphertext on the storage."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import os
import pathlib
import typing
import uuid

from oslo_config import cfg
import pytest

from tests.functional.cinder import looks
from tests.functional.cinder.looks import GIB
from tests.functional.cinder.made_volumes import MadeVolume
from tests.functional.cinder.made_volumes import VolumeMaker
from tests.long import only
from volumedrivers import exception
from volumedrivers.attachment.block_storage.manager import VolumeManager
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.attachment.volume_encryption import VolumeEncryption
from volumedrivers.cinder import volumes
from volumedrivers.cinder.block_storage import BlockStorage
from volumedrivers.libvirt.guest import Guest
from volumedrivers.testing.cinder import keys
from volumedrivers.testing.cinder import volume_types
from volumedrivers.testing.cinder.backends import Backend
from volumedrivers.testing.cinder.backends import IscsiBackend
from volumedrivers.testing.cinder.backends import NfsBackend
from volumedrivers.testing.cinder.embedded import EmbeddedCinder
from volumedrivers.testing.qemu_io import GuestIO

MIB = 2**20
SCSI = DiskRequest(bus='scsi')
MakeEncrypted = Callable[..., MadeVolume]


@pytest.fixture
def conf(conf: cfg.ConfigOpts, cinder: EmbeddedCinder) -> cfg.ConfigOpts:
    """The host has Cinder's key manager."""
    keys.configure(conf, directory(cinder))
    return conf


@pytest.fixture(autouse=True)
def alone(volume_manager: VolumeManager) -> Iterator[None]:
    """Leave nothing to the next test."""
    yield
    looks.detach_all(volume_manager)


def directory(cinder: EmbeddedCinder) -> pathlib.Path:
    return cinder.directory / 'keys'


@pytest.fixture
def make_encrypted(storage: BlockStorage, make_volume: VolumeMaker) -> MakeEncrypted:
    """Makes volumes with a key each; the SDK's proxy makes their type."""

    def make(backend: Backend, provider: str = 'luks') -> MadeVolume:
        name = f'{backend.name}-{provider}-{uuid.uuid4()}'
        volume_types.encrypted(storage.proxy, name, backend.name, provider=provider)
        for _ in range(20):
            # On some kernels qemu-img fails now and then to measure how long a key takes.
            with contextlib.suppress(AssertionError):
                return make_volume(backend, volume_type=name)
        raise AssertionError('no volume came about')

    return make


@pytest.mark.parametrize('backend', only(['iscsi'], ['nfs', 'iscsi']), indirect=True)
def test_there_and_back(
    volume_manager: VolumeManager,
    storage: BlockStorage,
    make_encrypted: MakeEncrypted,
    backend: Backend,
    guest: Guest,
    guest_io: GuestIO,
    cinder: EmbeddedCinder,
    tmp_path: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level('DEBUG', 'volumedrivers')
    volume = make_encrypted(backend)
    metadata = volumes.encryption(storage, volume.id)
    assert VolumeEncryption.parse(metadata).provider == 'luks'
    key = directory(cinder) / f'{metadata["encryption_key_id"]}.symmetric'
    digits = key.read_bytes().hex()

    done = volume_manager.attach(guest.name, volume.id, SCSI)
    assert done.encryption == 'luks (qemu)'
    encryption = looks.disk(guest, volume).encryption
    assert encryption is not None
    assert encryption.format == 'luks'
    guest_io.write(volume.alias, 0x5A, 8 * MIB, 65536)
    guest_io.read(volume.alias, 0x5A, 8 * MIB, 65536)
    volume_manager.detach(guest.name, volume.id)
    assert b'\x5a' * 512 not in stored(volume)
    assert guest.hypervisor.secrets.find('volume', volume.id) is None

    # What it is opened with is not what was left from before.
    volume_manager.attach(guest.name, volume.id, SCSI)
    guest_io.read(volume.alias, 0x5A, 8 * MIB, 65536)
    written = b''.join(
        path.read_bytes() for path in (tmp_path / 'host').rglob('*') if path.is_file()
    )
    assert volume.id.encode() in written
    assert digits.encode() not in written
    assert volume.id in caplog.text
    assert digits not in caplog.text
    volume_manager.detach(guest.name, volume.id)
    volume.delete()
    assert not key.exists()


def test_it_grows(
    volume_manager: VolumeManager,
    make_encrypted: MakeEncrypted,
    iscsi: IscsiBackend,
    guest: Guest,
    guest_io: GuestIO,
) -> None:
    volume = make_encrypted(iscsi)
    volume_manager.attach(guest.name, volume.id, SCSI)
    before = looks.capacity(guest, volume)
    assert GIB - 8 * MIB < before < GIB  # the header is not the guest's
    done = volume_manager.extend(volume.id, 2 * GIB)
    assert done.size == 2 * GIB
    assert looks.capacity(guest, volume) == before + GIB
    guest_io.write(volume.alias, 0x5A, GIB + MIB, 65536)
    guest_io.read(volume.alias, 0x5A, GIB + MIB, 65536)
    volume_manager.detach(guest.name, volume.id)
    assert b'\x5a' * 512 not in stored(volume)


def test_one_on_a_share_that_cinder_has_grown(
    volume_manager: VolumeManager,
    make_encrypted: MakeEncrypted,
    nfs: NfsBackend,
    guest: Guest,
    guest_io: GuestIO,
) -> None:
    """Cinder takes the file for a raw one there, too: the guest would not see the new size."""
    volume = make_encrypted(nfs)
    volume_manager.attach(guest.name, volume.id, SCSI)
    guest_io.write(volume.alias, 0x5A, 8 * MIB, 65536)
    volume_manager.detach(guest.name, volume.id)
    volume_manager.extend(volume.id, 2 * GIB)
    volume_manager.attach(guest.name, volume.id, SCSI)
    assert looks.capacity(guest, volume) == GIB
    volume_manager.extend(volume.id, 2 * GIB)
    assert looks.capacity(guest, volume) == 2 * GIB
    guest_io.read(volume.alias, 0x5A, 8 * MIB, 65536)
    guest_io.write(volume.alias, 0x66, 2 * GIB - MIB, 65536)
    volume_manager.detach(guest.name, volume.id)
    volume_manager.attach(guest.name, volume.id, SCSI)
    assert looks.capacity(guest, volume) == 2 * GIB
    guest_io.read(volume.alias, 0x66, 2 * GIB - MIB, 65536)


def test_a_key_that_is_gone(
    volume_manager: VolumeManager,
    storage: BlockStorage,
    make_encrypted: MakeEncrypted,
    iscsi: IscsiBackend,
    guest: Guest,
    cinder: EmbeddedCinder,
) -> None:
    volume = make_encrypted(iscsi)
    key_id = volumes.encryption(storage, volume.id)['encryption_key_id']
    (directory(cinder) / f'{key_id}.symmetric').unlink()
    with pytest.raises(exception.KeyUnavailable, match='no such key'):
        volume_manager.attach(guest.name, volume.id, SCSI)
    assert guest.all_disks() == ()
    assert volume.attachments() == []
    assert volume.status == 'available'


def test_a_key_that_cinder_does_not_name(
    volume_manager: VolumeManager,
    make_encrypted: MakeEncrypted,
    iscsi: IscsiBackend,
    guest: Guest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with its key manager of one fixed key, whose id it does not show."""
    volume = make_encrypted(iscsi)
    encryption = volumes.encryption

    def without(*args: typing.Any) -> Mapping[str, typing.Any]:
        return {**encryption(*args), 'encryption_key_id': None}

    monkeypatch.setattr(volumes, 'encryption', without)
    with pytest.raises(exception.InvalidEncryption, match='encryption_key_id'):
        volume_manager.attach(guest.name, volume.id, SCSI)
    assert volume.attachments() == []
    assert volume.status == 'available'


def stored(volume: MadeVolume) -> bytes:
    """Return what the storage holds of a sparse file, without the holes."""
    held = b''
    with volume.image.open('rb') as image:
        end = os.fstat(image.fileno()).st_size
        stop = 0
        while stop < end:
            try:
                start = os.lseek(image.fileno(), stop, os.SEEK_DATA)
            except OSError:
                break  # nothing but a hole
            stop = os.lseek(image.fileno(), start, os.SEEK_HOLE)
            image.seek(start)
            held += image.read(stop - start)
    assert held
    return held
