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

"""Encrypted volumes in real guests: real headers, libvirt secrets and QEMU."""

from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
import json
import os
import pathlib
import subprocess
import typing
import uuid

from castellan.common.objects import passphrase as castellan_passphrase
from castellan.common.objects import symmetric_key
import libvirt
from oslo_config import cfg
import pytest

from tests import file_key_manager
from tests import rng
from tests.functional import ordinary_user
from tests.functional import test_ordinary_user
from volumedrivers import exception
from volumedrivers.attachment.encryption import CastellanKeys
from volumedrivers.attachment.encryption import Encryptor
from volumedrivers.attachment.encryption import VolumeEncryption
from volumedrivers.attachment.encryption import disk_encryption
from volumedrivers.attachment.record import Opened
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import bootstrap
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.libvirt import encryption_support
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.context import make_context
from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.disk_of_volume import disk_of_volume
from volumedrivers.libvirt.driver import DiskInfo
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.libvirt.registry import Registry
from volumedrivers.privsep import commands
from volumedrivers.testing.ceph import CephCluster
from volumedrivers.testing.libvirtd import find_program
from volumedrivers.testing.qemu_io import GuestIO
from volumedrivers.testing.tgt import IscsiTarget

MIB = 2**20
KEY = bytes(range(32))
PASSPHRASE = KEY.hex().encode()
#: derive quickly: how well the passphrase is stretched is not what is tested
QUICK = ('--pbkdf-force-iterations', '1000')


@pytest.fixture
def conf(tmp_path: pathlib.Path) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([])
    conf.set_override('state_path', str(tmp_path), opts.GROUP.name)
    conf.set_override('lock_path', str(tmp_path / 'locks'), opts.GROUP.name)
    conf.set_override('iscsi_client', 'qemu', opts.GROUP.name)
    conf.set_override('iscsi_initiator_name', 'iqn.2020-01.test:host', opts.GROUP.name)
    bootstrap.setup(conf)
    return conf


@pytest.fixture
def store(conf: cfg.ConfigOpts, tmp_path: pathlib.Path) -> file_key_manager.FileKeyManager:
    """A key manager with files, which castellan loads like any other."""
    return file_key_manager.configure(conf, tmp_path / 'keys')


@pytest.fixture
def key_id(store: file_key_manager.FileKeyManager) -> str:
    return store.store(None, symmetric_key.SymmetricKey('AES', 256, KEY))


@pytest.fixture
def metadata(key_id: str) -> dict[str, object]:
    return {
        'provider': 'luks',
        'encryption_key_id': key_id,
        'cipher': 'aes-xts-plain64',
        'key_size': 256,
        'control_location': 'front-end',
    }


@pytest.fixture
def encryptor(conf: cfg.ConfigOpts, hypervisor: Hypervisor, store: object) -> Encryptor:
    return Encryptor(conf, hypervisor, BlockDevices(), CastellanKeys(conf))


class Volume:
    """An encrypted volume, and the steps by which a guest gets it."""

    def __init__(
        self,
        encryptor: Encryptor,
        conf: cfg.ConfigOpts,
        guest: Guest,
        raw: dict[str, object],
        connected: ConnectedVolume | None = None,
    ) -> None:
        self.encryptor = encryptor
        self.conf = conf
        self.guest = guest
        self.info = ConnectionInfo.parse(raw)
        self.volume_id = str(self.info.volume_id)
        self.alias = f'ua-{self.volume_id}'
        self.target: str | None = None
        self.opened: Opened | None = None
        if connected is None:
            context = make_context(conf, guest.hypervisor.secrets)
            driver = Registry(context).get(self.info.driver_volume_type)
            connected = driver.connect_volume(self.info, 'attachment')
        self.connected = connected

    def open(self, metadata: dict[str, object] | None, *, allow_format: bool = False) -> Opened:
        encryption = (
            None
            if metadata is None
            else VolumeEncryption.parse(metadata, volume_id=self.volume_id)
        )
        self.opened = self.encryptor.open(
            self.info, self.connected, encryption, allow_format=allow_format
        )
        return self.opened

    def attach(self) -> Disk:
        assert self.opened is not None
        self.target = self.guest.free_target('scsi')
        disk = disk_of_volume(
            self.conf[opts.GROUP.name],
            self.info,
            self.connected,
            DiskInfo('scsi', self.target, encryption=disk_encryption(self.opened)),
        )
        rng.validate_disk(disk.to_xml())
        self.guest.attach_disk(disk)
        return disk

    def size_in_qemu(self) -> int:
        domain = self.guest.hypervisor.domain(self.guest.uuid)
        return int(domain.blockInfo(self.target)[0])

    def detach(self) -> None:
        self.guest.detach_disk(alias=self.alias, target=self.target, attempts=3, timeout=5)

    def close(self) -> None:
        self.encryptor.close(self.info, self.opened, volume=self.connected, last=True)

    @property
    def secret(self) -> str | None:
        return self.guest.hypervisor.secrets.find('volume', self.volume_id)


def cryptsetup(*arguments: str, passphrase: bytes = PASSPHRASE) -> None:
    subprocess.run(
        [find_program('cryptsetup', 'cryptsetup-bin'), '--batch-mode', *arguments],
        input=passphrase,
        check=True,
        capture_output=True,
        timeout=60,
    )


def format_luks1(path: pathlib.Path | str) -> None:
    cryptsetup('luksFormat', '--type', 'luks1', *QUICK, '--key-file=-', str(path))


def make_luks1(path: pathlib.Path, size: int) -> None:
    with path.open('wb') as file:
        file.truncate(size)
    format_luks1(path)


def make_qcow2(path: pathlib.Path, size: int) -> None:
    secret = path.with_name('passphrase')
    secret.write_bytes(PASSPHRASE)
    options = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=200'
    command = [find_program('qemu-img', 'qemu-utils'), 'create', '-q', '-f', 'qcow2']
    command += ['--object', f'secret,id=s,file={secret}', '-o', options, str(path), str(size)]
    for _ in range(50):
        made = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        # On some kernels CPU time comes in steps too long for QEMU to measure.
        if 'accurate CPU usage' not in made.stderr:
            break
    assert made.returncode == 0, made.stderr
    secret.unlink()


def raw_of(kind: str, volume_id: str | None = None, **data: object) -> dict[str, object]:
    volume_id = volume_id or str(uuid.uuid4())
    return {
        'driver_volume_type': kind,
        'serial': volume_id,
        'data': {'volume_id': volume_id, 'encrypted': True, **data},
    }


MakeVolume = Callable[..., Volume]


@pytest.fixture
def make(encryptor: Encryptor, conf: cfg.ConfigOpts, guest: Guest) -> Iterator[MakeVolume]:
    made: list[Volume] = []

    def volume(raw: dict[str, object], connected: ConnectedVolume | None = None) -> Volume:
        made.append(Volume(encryptor, conf, guest, raw, connected))
        return made[-1]

    yield volume
    for each in made:
        guest.hypervisor.secrets.delete('volume', each.volume_id)


@pytest.fixture
def make_file(make: MakeVolume) -> Callable[..., Volume]:
    def volume(path: pathlib.Path, image_format: str = 'raw') -> Volume:
        raw = raw_of('nfs', export='127.0.0.1:/share', name=path.name)
        connected = ConnectedVolume(
            driver_volume_type='nfs',
            volume_id=str(raw['serial']),
            source_type='file',
            path=str(path),
            format=image_format,
        )
        return make(raw, connected)

    return volume


@pytest.fixture
def device(tmp_path: pathlib.Path) -> Iterator[str]:
    image = tmp_path / 'device.raw'
    with image.open('wb') as file:
        file.truncate(64 * MIB)
    losetup = find_program('losetup', 'mount')
    made = subprocess.run(
        [losetup, '--find', '--show', str(image)], check=True, capture_output=True, text=True
    ).stdout.strip()
    yield made
    subprocess.run([losetup, '--detach', made], check=True)


def round_trip(volume: Volume, guest_io: GuestIO, metadata: dict[str, object] | None) -> Disk:
    """Write, detach, open again without metadata, read, and take all away."""
    volume.open(metadata)
    disk = volume.attach()
    guest_io.write(volume.alias, 0x5A, 3 * MIB, 65536)
    volume.detach()
    # As after a reboot: the secret is there, and nobody asks for a token.
    volume.open(None)
    volume.attach()
    guest_io.read(volume.alias, 0x5A, 3 * MIB, 65536)
    volume.detach()
    volume.close()
    assert volume.secret is None
    assert volume.encryptor.remains(volume.volume_id, volume.opened) == ()
    volume.open(metadata)
    volume.attach()
    guest_io.read(volume.alias, 0x5A, 3 * MIB, 65536)
    volume.detach()
    volume.close()
    volume.close()
    assert volume.secret is None
    assert volume.guest.disks() == volume.guest.disks(persistent=True) == ()
    return disk


def test_raw_file(
    make_file: Callable[..., Volume],
    guest_io: GuestIO,
    metadata: dict[str, object],
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / 'volume.raw'
    make_luks1(path, 16 * MIB)
    volume = make_file(path)
    disk = round_trip(volume, guest_io, metadata)
    assert disk.encryption is not None
    assert (disk.encryption.format, disk.encryption.engine) == ('luks', None)
    assert b'\x5a' * 512 not in path.read_bytes()


def test_qcow2_file(
    make_file: Callable[..., Volume],
    guest_io: GuestIO,
    metadata: dict[str, object],
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / 'volume.qcow2'
    make_qcow2(path, 16 * MIB)
    volume = make_file(path, 'qcow2')
    round_trip(volume, guest_io, metadata)
    assert b'\x5a' * 512 not in path.read_bytes()
    assert volume.opened is not None
    assert volume.opened.header_size == 0
    assert volume.encryptor.grow(volume.info, volume.opened, volume.connected, 32 * MIB) == (
        32 * MIB
    )


def test_plain_qcow2_is_not_taken_for_an_encrypted_one(
    make_file: Callable[..., Volume], metadata: dict[str, object], tmp_path: pathlib.Path
) -> None:
    path = tmp_path / 'volume.qcow2'
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', str(path), '16M'], check=True)
    volume = make_file(path, 'qcow2')
    before = path.read_bytes()
    with pytest.raises(exception.FormatRefused, match='not encrypted'):
        volume.open(metadata, allow_format=True)
    assert path.read_bytes() == before
    assert volume.secret is None


@pytest.fixture
def quick_format(monkeypatch: pytest.MonkeyPatch) -> None:
    run = commands.run

    def quickly(argv: list[str], **options: typing.Any) -> commands.Result:
        at = argv.index('luksFormat') + 1
        return run([*argv[:at], *QUICK, *argv[at:]], **options)

    monkeypatch.setattr(commands, 'run', quickly)


@pytest.mark.usefixtures('quick_format')
def test_device_is_formatted_attached_and_grown(
    make: MakeVolume, guest_io: GuestIO, metadata: dict[str, object], device: str
) -> None:
    volume = make(raw_of('local', device_path=device))
    with pytest.raises(exception.FormatRefused, match='it is blank'):
        volume.open(metadata)
    assert volume.secret is None
    opened = volume.open(metadata, allow_format=True)
    dump = subprocess.run(
        ['cryptsetup', 'luksDump', device], check=True, capture_output=True, text=True
    ).stdout
    assert 'Version:       \t1' in dump
    assert 'xts-plain64' in dump
    assert 'MK bits:       \t256' in dump
    assert opened.header_size == 2 * MIB
    volume.attach()
    assert volume.size_in_qemu() == 62 * MIB
    image = subprocess.run(
        ['losetup', '--noheadings', '--output', 'BACK-FILE', device],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    os.truncate(image, 96 * MIB)
    subprocess.run(['losetup', '--set-capacity', device], check=True)
    for_guest = volume.encryptor.grow(volume.info, opened, volume.connected, 96 * MIB)
    assert for_guest == 94 * MIB
    assert volume.target is not None
    volume.guest.resize_disk(volume.target, for_guest)
    assert volume.size_in_qemu() == 94 * MIB
    guest_io.write(volume.alias, 0x77, 93 * MIB, 65536)
    volume.detach()
    volume.close()
    assert volume.secret is None


def test_device(
    make: MakeVolume, guest_io: GuestIO, metadata: dict[str, object], device: str
) -> None:
    format_luks1(device)
    volume = make(raw_of('local', device_path=device))
    # It has a header: to be allowed to format it changes nothing.
    assert volume.open(metadata, allow_format=True).header_size == 2 * MIB
    volume.close()
    round_trip(volume, guest_io, metadata)


def test_device_with_data_is_never_formatted(
    make: MakeVolume, metadata: dict[str, object], device: str
) -> None:
    volume = make(raw_of('local', device_path=device))
    subprocess.run(
        [find_program('mkfs.ext4', 'e2fsprogs'), '-q', '-F', device], check=True, timeout=60
    )
    before = pathlib.Path(device).read_bytes()
    for allowed in (False, True):
        with pytest.raises(exception.FormatRefused, match='ext2/3/4 file system is on it'):
            volume.open(metadata, allow_format=allowed)
    assert pathlib.Path(device).read_bytes() == before
    assert volume.secret is None


def test_iscsi_by_qemu(
    make: MakeVolume,
    guest_io: GuestIO,
    metadata: dict[str, object],
    tmp_path: pathlib.Path,
) -> None:
    with IscsiTarget(tmp_path / 'target', size=32 * MIB, chap=('user', 'a-password-14')) as target:
        format_luks1(target.image)
        raw = target.connection_info()
        volume = make(raw)
        round_trip(volume, guest_io, metadata)
        opened = volume.open(metadata)
        assert opened.header_size == 2 * MIB
        volume.attach()
        assert volume.size_in_qemu() == 30 * MIB
        target.grow(48 * MIB)
        size = volume.encryptor.grow(volume.info, opened, volume.connected, 48 * MIB)
        assert volume.target is not None
        volume.guest.resize_disk(volume.target, size)
        assert volume.size_in_qemu() == 46 * MIB
        volume.detach()
        volume.close()
        assert target.sessions() == 0


def test_blank_network_volume_is_refused(
    make: MakeVolume, metadata: dict[str, object], tmp_path: pathlib.Path
) -> None:
    with IscsiTarget(tmp_path / 'target', size=32 * MIB) as target:
        volume = make(target.connection_info())
        with pytest.raises(exception.FormatRefused, match='Cinder that formats'):
            volume.open(metadata, allow_format=True)
        assert volume.secret is None
        assert target.image.read_bytes() == bytes(32 * MIB)


def test_luks2_on_iscsi_by_qemu_says_what_to_do(
    make: MakeVolume, metadata: dict[str, object], tmp_path: pathlib.Path
) -> None:
    with IscsiTarget(tmp_path / 'target', size=32 * MIB) as target:
        volume = make(target.connection_info())
        cryptsetup(
            *('luksFormat', '--type', 'luks2', '--pbkdf', 'pbkdf2', *QUICK),
            *('--key-file=-', str(target.image)),
        )
        metadata['provider'] = 'luks2'
        with pytest.raises(exception.EncryptionNotSupported, match='iscsi_client=kernel'):
            volume.open(metadata)
        assert volume.secret is None


def test_wrong_key_leaves_nothing(
    make_file: Callable[..., Volume],
    guest_io: GuestIO,
    metadata: dict[str, object],
    store: file_key_manager.FileKeyManager,
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / 'volume.raw'
    make_luks1(path, 16 * MIB)
    volume = make_file(path)
    wrong = 'another passphrase'
    key = castellan_passphrase.Passphrase(wrong.encode())
    metadata['encryption_key_id'] = store.store(None, key)
    volume.open(metadata)
    with pytest.raises(exception.AttachRefused, match='unlock') as caught:
        volume.attach()
    assert wrong not in repr(caught.value) + repr(caught.value.__cause__)
    volume.close()
    assert volume.secret is None
    assert guest_io.node_names() == set()
    assert volume.guest.disks() == volume.guest.disks(persistent=True) == ()


def test_close_without_knowing_what_open_came_to(
    make_file: Callable[..., Volume], metadata: dict[str, object], tmp_path: pathlib.Path
) -> None:
    path = tmp_path / 'volume.raw'
    make_luks1(path, 16 * MIB)
    volume = make_file(path)
    volume.open(metadata)
    volume.opened = None
    volume.encryptor.close(volume.info, None, volume=volume.connected, last=False)
    assert volume.secret is not None
    # libvirt tells nobody what is in it.
    assert volume.guest.hypervisor.secrets.value(volume.secret) is None
    assert [each.kind for each in volume.encryptor.remains(volume.volume_id)] == ['secret']
    volume.close()
    assert volume.secret is None


def test_secret_is_completed_after_a_crash(
    hypervisor: Hypervisor,
    make_file: Callable[..., Volume],
    guest_io: GuestIO,
    metadata: dict[str, object],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / 'volume.raw'
    make_luks1(path, 16 * MIB)
    volume = make_file(path)
    with monkeypatch.context() as patched:

        def die(*args: object) -> None:
            raise SystemExit

        patched.setattr(libvirt.virSecret, 'setValue', die)
        with pytest.raises(SystemExit):
            volume.open(metadata)
    assert volume.secret is not None
    with pytest.raises(exception.InvalidEncryption):
        volume.open(None)
    round_trip(volume, guest_io, metadata)


# RBD


@pytest.fixture(scope='module')
def ceph_secret(hypervisor: Hypervisor, cluster: CephCluster) -> Iterator[str]:
    """The secret as operators make it: libvirt tells its value."""
    with hypervisor.translated('define a secret'):
        secret = hypervisor.connection().secretDefineXML(
            "<secret ephemeral='yes' private='no'><usage type='ceph'>"
            '<name>client.cinder encrypted</name></usage></secret>'
        )
        secret.setValue(cluster.key)
    yield secret.UUIDString()
    secret.undefine()


def rbd_info(cluster: CephCluster, name: str, secret: str) -> dict[str, object]:
    raw = cluster.connection_info(name, str(uuid.uuid4()), secret_uuid=secret)
    raw['data']['encrypted'] = True
    return raw


def test_rbd_luks1_and_growth_with_its_own_user_and_monitors(
    make: MakeVolume,
    guest_io: GuestIO,
    metadata: dict[str, object],
    cluster: CephCluster,
    ceph_secret: str,
    tmp_path: pathlib.Path,
) -> None:
    make_luks1(tmp_path / 'luks1', 16 * MIB)
    cluster.rbd('import', '--no-progress', str(tmp_path / 'luks1'), f'{cluster.pool}/luks1')
    try:
        volume = make(rbd_info(cluster, 'luks1', ceph_secret))
        round_trip(volume, guest_io, metadata)
        opened = volume.open(metadata)
        header = opened.header_size
        assert header == 2 * MIB
        volume.attach()
        assert volume.size_in_qemu() == 14 * MIB
        cluster.resize('luks1', 32 * MIB)
        grown = dataclasses.replace(opened, header_size=0)  # as if it had not been known
        size = volume.encryptor.grow(volume.info, grown, volume.connected, 32 * MIB)
        assert size == 32 * MIB - header
        assert volume.target is not None
        volume.guest.resize_disk(volume.target, size)
        assert volume.size_in_qemu() == size
        assert json.loads(cluster.rbd('info', '--format', 'json', 'volumes/luks1'))['size'] == (
            32 * MIB
        )
        volume.detach()
        volume.close()
    finally:
        cluster.remove('luks1')


@pytest.fixture
def luks2_image(cluster: CephCluster, tmp_path: pathlib.Path) -> Iterator[str]:
    path = tmp_path / 'luks2'
    with path.open('wb') as file:
        file.truncate(48 * MIB)
    cryptsetup(
        *('luksFormat', '--type', 'luks2', '--pbkdf', 'pbkdf2', *QUICK),
        *('--cipher', 'aes-xts-plain64', '--key-size', '512', '--sector-size', '4096'),
        *('--key-file=-', str(path)),
    )
    cluster.rbd('import', '--no-progress', str(path), f'{cluster.pool}/luks2')
    yield 'luks2'
    cluster.remove('luks2')


def test_rbd_luks2_by_librbd(
    make: MakeVolume,
    guest_io: GuestIO,
    metadata: dict[str, object],
    cluster: CephCluster,
    ceph_secret: str,
    luks2_image: str,
    tmp_path: pathlib.Path,
) -> None:
    metadata['provider'] = 'luks2'
    volume = make(rbd_info(cluster, luks2_image, ceph_secret))
    opened = volume.open(metadata)
    assert (opened.provider, opened.engine, opened.header_size) == ('luks2', 'librbd', 16 * MIB)
    domain = volume.guest.hypervisor.domain(volume.guest.uuid)
    domain.destroy()
    disk = volume.attach()
    assert disk.encryption is not None
    assert (disk.encryption.format, disk.encryption.engine) == ('luks2', 'librbd')
    domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    guest_io.write(volume.alias, 0x5A, 3 * MIB, 65536)
    assert volume.size_in_qemu() == 32 * MIB

    cluster.resize(luks2_image, 64 * MIB)
    with pytest.raises(exception.ExtendVolumeFailed, match='start the guest again'):
        volume.encryptor.grow(volume.info, opened, volume.connected, 64 * MIB)
    size = volume.encryptor.grow(volume.info, opened, volume.connected, 64 * MIB, running=False)
    assert size == 48 * MIB
    domain.destroy()
    domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
    assert volume.size_in_qemu() == 48 * MIB
    guest_io.read(volume.alias, 0x5A, 3 * MIB, 65536)
    volume.detach()
    volume.close()
    assert volume.secret is None
    assert b'\x5a' * 512 not in cluster.read(luks2_image, tmp_path)


def test_rbd_luks2_where_libvirt_cannot_plug_it(
    make: MakeVolume,
    guest_io: GuestIO,
    metadata: dict[str, object],
    cluster: CephCluster,
    ceph_secret: str,
    luks2_image: str,
) -> None:
    metadata['provider'] = 'luks2'
    volume = make(rbd_info(cluster, luks2_image, ceph_secret))
    opened = volume.open(metadata)
    try:
        volume.attach()
    except exception.AttachRefused as error:
        # libvirt 9.0 gives QEMU the passphrase after the image.
        explained = encryption_support.explain(error, volume.connected, opened.engine)
        assert 'rbd_client=kernel' in str(explained)
        assert guest_io.node_names() == set()
    else:
        guest_io.read(volume.alias, 0, 0, 65536)
        volume.detach()
    volume.close()
    assert volume.secret is None
    assert volume.guest.disks() == volume.guest.disks(persistent=True) == ()
    assert cluster.watchers(luks2_image) == 0


# An ordinary user, whose helper reads and writes the header


AS_USER = """
from volumedrivers import exception
from volumedrivers.host import luks
from volumedrivers.privsep import crypt

path = {path!r}
found = [os.access(path, os.R_OK), luks.read(path, seconds=20)]
found.append(luks.contents(path, seconds=20))
for _ in range(2):
    luks.format_blank(
        path, 'luks1', {passphrase!r}, cipher='aes-xts-plain64', key_size=256, seconds=60
    )
found.append(luks.read(path, seconds=20)[:3])
found.append(luks.contents(path, seconds=20))
try:
    luks.format_blank(path, 'luks2', b'other', cipher=None, key_size=None, seconds=60)
except exception.FormatRefused as error:
    found.append(str(error))
link = crypt.make_link({name!r}, path)
found += [link, os.readlink(link), crypt.remove_link({name!r}), os.path.lexists(link)]
print(json.dumps(found))
"""


def test_ordinary_user_formats_by_the_helper(device: str) -> None:
    name = str(uuid.uuid4())
    with ordinary_user.OrdinaryUser() as user:
        log = user.state / 'log'
        setup = test_ordinary_user.SETUP.format(log=str(log), conf=str(user.conf_file))
        code = AS_USER.format(path=device, passphrase=PASSPHRASE, name=name)
        done = user.python(setup + code, timeout=90)
        assert done.returncode == 0, done.stderr
        logged = log.read_text()
    link = f'/dev/volumedrivers/{name}'
    assert json.loads(done.stdout) == [
        *(False, None, None, ['luks1', 2 * MIB, 1], 'a LUKS header is on it'),
        f'volume None ({device}) was not formatted with luks2: it has a luks1 header',
        *(link, device, True, False),
    ]
    # The helper logs at DEBUG what it answers.
    assert 'privsep: reply[' in logged
    assert PASSPHRASE.decode() not in logged + done.stdout + done.stderr
    pathlib.Path(link).parent.rmdir()
