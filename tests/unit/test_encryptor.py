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

"""Who decrypts a volume, who is asked for the key, and what is never done."""

import dataclasses
import pathlib
import typing
import uuid

from oslo_config import cfg
import pytest

from volumedrivers import exception
from volumedrivers.attachment import encryption as module
from volumedrivers.attachment.encryption import Encryptor
from volumedrivers.attachment.encryption import VolumeEncryption
from volumedrivers.attachment.record import Opened
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import luks
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.libvirt import encryption_support
from volumedrivers.libvirt import network_header
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import NetworkHost
from volumedrivers.libvirt.connected_volume import NetworkSource
from volumedrivers.libvirt.driver import DiskEncryption

MIB = 2**20
VOLUME_ID = 'c1b2d3e4-0001-4aaa-8bbb-000000000001'
KEY_ID = 'c0ffee00-0000-4000-8000-00000000000e'
PASSPHRASE = b'a very secret passphrase'
LUKS = VolumeEncryption('luks', KEY_ID, 'aes-xts-plain64', 256)
LUKS2 = dataclasses.replace(LUKS, provider='luks2')
PLAIN = dataclasses.replace(LUKS, provider='plain')
LUKS1_HEADER = luks.Header('luks1', 2 * MIB, 1, 'uuid')
LUKS2_HEADER = luks.Header('luks2', 16 * MIB, 1, 'uuid')
NEW = (9_000_000, 7_002_000)


class Secrets:
    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.unfinished: set[str] = set()
        self.error: exception.VolumeDriversError | None = None
        self.uuid = str(uuid.uuid4())

    def find(self, usage_type: str, usage_id: str) -> str | None:
        assert usage_type == 'volume'
        if self.error is not None:
            raise self.error
        return self.uuid if usage_id in self.values else None

    def find_complete(self, usage_type: str, usage_id: str) -> str | None:
        return None if usage_id in self.unfinished else self.find(usage_type, usage_id)

    def ensure(self, usage_type: str, usage_id: str, value: bytes, *, ephemeral: bool) -> str:
        assert not ephemeral
        self.find(usage_type, usage_id)
        self.values[usage_id] = value
        self.unfinished.discard(usage_id)
        return self.uuid

    def delete(self, usage_type: str, usage_id: str) -> bool:
        return self.values.pop(usage_id, None) is not None


class Keys:
    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []

    def passphrase(self, key_id: str, volume_id: str | None) -> bytes:
        self.asked.append((key_id, volume_id))
        return PASSPHRASE


class Crypt:
    """Stands for CryptDevices."""

    def __init__(self) -> None:
        self.opened: dict[str, tuple[object, ...]] = {}
        self.calls: list[tuple[object, ...]] = []

    def path(self, volume_id: str) -> str:
        return f'/dev/mapper/crypt-{volume_id}'

    def link(self, volume_id: str) -> str:
        return f'/dev/volumedrivers/{volume_id}'

    def is_open(self, volume_id: str) -> bool:
        return volume_id in self.opened

    def found(self, volume_id: str) -> tuple[str, ...]:
        if volume_id not in self.opened:
            return ()
        return self.path(volume_id), self.link(volume_id)

    def open(
        self,
        volume_id: str,
        device: str,
        provider: str,
        passphrase: typing.Callable[[], bytes],
        **options: object,
    ) -> str:
        if volume_id not in self.opened:
            self.opened[volume_id] = (device, provider, passphrase(), options)
        return self.path(volume_id)

    def close(self, volume_id: str, device: str | None) -> None:
        self.calls.append(('close', volume_id, device))
        self.opened.pop(volume_id, None)

    def resize(self, volume_id: str, passphrase: bytes | None) -> int:
        self.calls.append(('resize', volume_id, passphrase))
        return 123


class Hypervisor:
    uri = 'fake:///'

    def __init__(self) -> None:
        self.secrets = Secrets()
        self.versions = NEW

    def ask(self, action: str, question: typing.Callable[[typing.Any], object]) -> object:
        versions = self.versions

        class Connection:
            def getLibVersion(self) -> int:
                return versions[0]

            def getVersion(self) -> int:
                return versions[1]

        return question(Connection())


@dataclasses.dataclass
class World:
    hypervisor: Hypervisor
    keys: Keys
    crypt: Crypt
    encryptor: Encryptor
    formatted: list[tuple[object, ...]]
    header: luks.Header | Exception | None = None
    contents: str | None = None

    def open(
        self,
        volume: ConnectedVolume,
        encryption: VolumeEncryption | None,
        *,
        allow_format: bool = False,
    ) -> Opened:
        return self.encryptor.open(info_of(volume), volume, encryption, allow_format=allow_format)

    @property
    def nothing_was_done(self) -> bool:
        return not (self.hypervisor.secrets.values or self.crypt.opened or self.formatted)


def info_of(volume: ConnectedVolume) -> ConnectionInfo:
    return ConnectionInfo.parse(
        {
            'driver_volume_type': 'a-vendor',
            'serial': VOLUME_ID,
            'data': {'volume_id': VOLUME_ID, 'encrypted': True},
        }
    )


def block() -> ConnectedVolume:
    return ConnectedVolume(
        'iscsi', VOLUME_ID, 'block', path='/dev/disk/by-id/wwn-0x1', format='raw'
    )


def file(image_format: str = 'raw') -> ConnectedVolume:
    return ConnectedVolume('nfs', VOLUME_ID, 'file', path='/mnt/share/volume', format=image_format)


def network(protocol: str) -> ConnectedVolume:
    source = NetworkSource(protocol, 'pool/image', (NetworkHost('10.0.0.1', 6789),))
    return ConnectedVolume(protocol, VOLUME_ID, 'network', source=source)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([])
    hypervisor, keys, crypt = Hypervisor(), Keys(), Crypt()
    encryptor = Encryptor(conf, hypervisor, BlockDevices(), keys)  # type: ignore[arg-type]
    monkeypatch.setattr(encryptor, '_crypt', crypt)
    world = World(hypervisor, keys, crypt, encryptor, [])

    def read(*args: object, **options: object) -> luks.Header | None:
        if isinstance(world.header, Exception):
            raise world.header
        return world.header

    def format_blank(path: str, version: str, passphrase: bytes, **options: object) -> None:
        if world.contents is not None:
            raise exception.FormatRefused(
                volume_id=VOLUME_ID, path=path, provider=version, reason=world.contents
            )
        world.formatted.append((path, version, passphrase, options))
        world.header = LUKS1_HEADER if version == 'luks1' else LUKS2_HEADER

    monkeypatch.setattr(luks, 'read', read)
    monkeypatch.setattr(luks, 'contents', lambda *args, **options: world.contents)
    monkeypatch.setattr(luks, 'format_blank', format_blank)
    monkeypatch.setattr(network_header, 'read', read)
    return world


NATIVE = [block(), file(), file('qcow2'), *map(network, ('rbd', 'iscsi', 'nbd', 'gluster'))]


def name_of(volume: ConnectedVolume) -> str:
    source = volume.source.protocol if volume.source else volume.source_type
    return f'{source}-{volume.format}'


@pytest.mark.parametrize('volume', NATIVE, ids=name_of)
def test_luks1_is_qemus_on_every_source(world: World, volume: ConnectedVolume) -> None:
    world.header = LUKS1_HEADER
    opened = world.open(volume, LUKS)
    secret = world.hypervisor.secrets.uuid
    assert opened == Opened('luks', 'qemu', secret_uuid=secret, header_size=2 * MIB)
    assert world.hypervisor.secrets.values == {VOLUME_ID: PASSPHRASE}
    assert world.keys.asked == [(KEY_ID, VOLUME_ID)]
    assert module.disk_encryption(opened) == DiskEncryption(secret, 'luks', None)
    assert module.seen_by(volume, opened) == volume

    # Again: the key manager is not asked, with and without metadata.
    assert world.open(volume, LUKS) == world.open(volume, None) == opened
    assert len(world.keys.asked) == 1
    assert not world.crypt.opened


def test_secret_that_may_have_no_value_is_made_again(world: World) -> None:
    world.header = LUKS1_HEADER
    world.hypervisor.secrets.values[VOLUME_ID] = b''
    world.hypervisor.secrets.unfinished.add(VOLUME_ID)
    with pytest.raises(exception.InvalidEncryption):
        world.open(block(), None)
    world.open(block(), LUKS)
    assert world.hypervisor.secrets.values == {VOLUME_ID: PASSPHRASE}


@pytest.mark.parametrize('encryption', [LUKS, LUKS2, None])
def test_secret_that_cannot_be_looked_up_is_not_absent(
    world: World, encryption: VolumeEncryption | None
) -> None:
    world.header = LUKS1_HEADER
    world.hypervisor.secrets.error = exception.HypervisorUnavailable(uri='x', reason='y')
    with pytest.raises(exception.HypervisorUnavailable):
        world.open(block(), encryption)
    assert world.keys.asked == []
    assert world.nothing_was_done


def test_no_metadata_and_no_secret(world: World) -> None:
    world.header = LUKS1_HEADER
    with pytest.raises(exception.InvalidEncryption, match='GET /volumes'):
        world.open(block(), None)
    assert world.nothing_was_done


def test_no_key_manager(world: World) -> None:
    world.header = LUKS1_HEADER
    world.encryptor._keys = None
    with pytest.raises(exception.KeyUnavailable, match='no key manager'):
        world.open(block(), LUKS)
    assert world.nothing_was_done


@pytest.mark.parametrize('location', ['back-end'])
def test_back_end_is_left_to_the_storage(world: World, location: str) -> None:
    encryption = dataclasses.replace(LUKS, control_location=location)
    opened = world.open(block(), encryption)
    assert opened == Opened('luks', 'storage')
    assert module.disk_encryption(opened) is None
    assert module.seen_by(block(), opened) == block()
    assert world.encryptor.grow(info_of(block()), opened, block(), 5) == 5
    world.encryptor.close(info_of(block()), opened, volume=block(), last=True)
    assert world.encryptor.plan_open(info_of(block()), block(), encryption) == (
        'leave the decryption to the storage',
    )
    assert world.encryptor.plan_close(info_of(block()), opened) == ()
    assert world.keys.asked == []
    assert world.nothing_was_done


@pytest.mark.parametrize(
    ('encryption', 'header'), [(LUKS2, LUKS2_HEADER), (PLAIN, None), (LUKS, LUKS2_HEADER)]
)
def test_the_host_decrypts_what_qemu_cannot(
    world: World, encryption: VolumeEncryption, header: luks.Header | None
) -> None:
    world.header = header
    opened = world.open(block(), encryption)
    provider = 'plain' if header is None else 'luks2'
    path = f'/dev/mapper/crypt-{VOLUME_ID}'
    assert opened == Opened(provider, 'host', path=path, header_size=16 * MIB if header else 0)
    options = {'cipher': 'aes-xts-plain64', 'key_size': 256}
    assert world.crypt.opened == {
        VOLUME_ID: ('/dev/disk/by-id/wwn-0x1', provider, PASSPHRASE, options)
    }
    assert world.hypervisor.secrets.values == {}
    assert module.disk_encryption(opened) is None
    assert module.seen_by(block(), opened) == dataclasses.replace(block(), path=path)
    # Again, without metadata as well: the device is there.
    assert world.open(block(), encryption) == opened
    assert world.open(block(), None) == opened
    assert len(world.keys.asked) == 1


def test_luks1_header_of_a_luks2_volume_is_qemus(world: World) -> None:
    world.header = LUKS1_HEADER
    assert world.open(block(), LUKS2).by == 'qemu'


def test_plain_with_a_header_is_refused(world: World) -> None:
    world.header = LUKS1_HEADER
    with pytest.raises(exception.EncryptionFailed, match='says that it is encrypted with plain'):
        world.open(block(), PLAIN)
    assert world.nothing_was_done


@pytest.mark.parametrize('encryption', [LUKS2, PLAIN], ids=['luks2', 'plain'])
@pytest.mark.parametrize(
    ('volume', 'advice'),
    [
        (file(), 'provider luks'),
        (file('qcow2'), 'provider luks'),
        (network('iscsi'), 'iscsi_client=kernel'),
        (network('nbd'), 'provider luks'),
        (network('gluster'), 'provider luks'),
    ],
    ids=['file', 'qcow2', 'iscsi', 'nbd', 'gluster'],
)
def test_what_nobody_can_decrypt_says_what_to_do(
    world: World, encryption: VolumeEncryption, volume: ConnectedVolume, advice: str
) -> None:
    world.header = LUKS2_HEADER if encryption is LUKS2 else None
    if volume.format == 'qcow2':
        world.header = None
    with pytest.raises(exception.EncryptionNotSupported, match=advice):
        world.open(volume, encryption)
    assert world.keys.asked == []
    assert world.nothing_was_done


def test_plain_on_rbd_needs_the_kernels_client(world: World) -> None:
    with pytest.raises(exception.EncryptionNotSupported, match='rbd_client=kernel'):
        world.open(network('rbd'), PLAIN)


def test_luks2_on_rbd_is_librbds(world: World) -> None:
    world.header = LUKS2_HEADER
    opened = world.open(network('rbd'), LUKS2)
    secret = world.hypervisor.secrets.uuid
    assert opened == Opened(
        'luks2', 'qemu', secret_uuid=secret, engine='librbd', header_size=16 * MIB
    )
    assert module.disk_encryption(opened) == DiskEncryption(secret, 'luks2', 'librbd')
    info = info_of(network('rbd'))
    with pytest.raises(exception.ExtendVolumeFailed, match='start the guest again'):
        world.encryptor.grow(info, opened, network('rbd'), 64 * MIB)
    assert world.encryptor.grow(info, opened, network('rbd'), 64 * MIB, running=False) == 48 * MIB


@pytest.mark.parametrize('versions', [(7_008_000, 7_002_000), (9_000_000, 6_000_001)])
def test_old_libvirt_or_qemu_has_no_librbd(world: World, versions: tuple[int, int]) -> None:
    world.header = LUKS2_HEADER
    world.hypervisor.versions = versions
    with pytest.raises(
        exception.EncryptionNotSupported, match=r'needs libvirt 7\.9\.0 .*rbd_client=kernel'
    ):
        world.open(network('rbd'), LUKS2)
    assert world.nothing_was_done


def test_other_image_formats(world: World) -> None:
    with pytest.raises(exception.EncryptionNotSupported, match='not vmdk'):
        world.open(file('vmdk'), LUKS)


# Headers


@pytest.mark.parametrize('volume', [block(), file()], ids=name_of)
@pytest.mark.parametrize('allowed', [False, True])
def test_header_that_cannot_be_read_is_an_error(
    world: World, volume: ConnectedVolume, allowed: bool
) -> None:
    world.header = exception.EncryptionFailed(volume_id=VOLUME_ID, reason='I/O error')
    with pytest.raises(exception.EncryptionFailed, match='I/O error'):
        world.open(volume, LUKS, allow_format=allowed)
    assert world.keys.asked == []
    assert world.nothing_was_done


def test_share_that_lets_only_qemu_in(world: World) -> None:
    world.header = exception.EncryptionFailed(volume_id=VOLUME_ID, reason='not permitted')
    world.header.__cause__ = PermissionError(13, 'Permission denied')
    opened = world.open(file(), LUKS, allow_format=True)
    assert (opened.by, opened.header_size) == ('qemu', 0)
    assert world.formatted == []
    with pytest.raises(exception.ExtendVolumeFailed, match='not permitted'):
        world.encryptor.grow(info_of(file()), opened, file(), 64 * MIB)
    with pytest.raises(exception.EncryptionFailed):
        world.open(block(), LUKS)


def test_network_volume_that_only_qemu_can_read(world: World) -> None:
    world.header = network_header.Unreadable('no key')
    opened = world.open(network('rbd'), LUKS, allow_format=True)
    assert (opened.by, opened.header_size) == ('qemu', 0)
    assert world.formatted == []
    with pytest.raises(exception.ExtendVolumeFailed, match='no key'):
        world.encryptor.grow(info_of(network('rbd')), opened, network('rbd'), 64 * MIB)
    world.header = LUKS1_HEADER
    size = world.encryptor.grow(info_of(network('rbd')), opened, network('rbd'), 64 * MIB)
    assert size == 62 * MIB


def test_blank_volume_is_formatted_only_when_asked(world: World) -> None:
    with pytest.raises(exception.FormatRefused, match='it is blank; to format it was not asked'):
        world.open(block(), LUKS)
    assert world.keys.asked == []
    assert world.nothing_was_done
    opened = world.open(block(), LUKS, allow_format=True)
    assert opened.header_size == 2 * MIB
    ((path, version, passphrase, options),) = world.formatted
    assert (path, version, passphrase) == ('/dev/disk/by-id/wwn-0x1', 'luks1', PASSPHRASE)
    assert isinstance(options, dict)
    assert (options['cipher'], options['key_size']) == ('aes-xts-plain64', 256)
    assert world.hypervisor.secrets.values == {VOLUME_ID: PASSPHRASE}
    assert len(world.keys.asked) == 1


def test_luks2_is_formatted_as_such(world: World) -> None:
    assert world.open(block(), LUKS2, allow_format=True).by == 'host'
    assert [call[1] for call in world.formatted] == ['luks2']
    assert len(world.keys.asked) == 1


@pytest.mark.parametrize('allowed', [False, True])
def test_volume_with_something_on_it_is_refused(world: World, allowed: bool) -> None:
    world.contents = 'an XFS file system is on it'
    with pytest.raises(exception.FormatRefused, match='XFS'):
        world.open(block(), LUKS, allow_format=allowed)
    assert world.nothing_was_done


def test_header_without_a_key_is_refused(world: World) -> None:
    world.header = LUKS1_HEADER._replace(key_slots=0)
    with pytest.raises(exception.FormatRefused, match='has no key'):
        world.open(block(), LUKS)
    world.open(block(), LUKS, allow_format=True)
    assert len(world.formatted) == 1


def test_plain_is_never_formatted(world: World) -> None:
    world.open(block(), PLAIN, allow_format=True)
    assert world.formatted == []


@pytest.mark.parametrize('volume', [network('rbd'), file('qcow2')], ids=name_of)
def test_what_cinder_formats_is_never_formatted_here(
    world: World, volume: ConnectedVolume
) -> None:
    with pytest.raises(exception.FormatRefused, match='Cinder that formats'):
        world.open(volume, LUKS, allow_format=True)
    assert world.nothing_was_done


def test_formatted_anew_the_secret_is_set_anew(world: World) -> None:
    world.hypervisor.secrets.values[VOLUME_ID] = b'of another time'
    world.open(block(), LUKS, allow_format=True)
    assert world.hypervisor.secrets.values == {VOLUME_ID: PASSPHRASE}


# Closing, growing, looking


def test_close(world: World) -> None:
    world.header = LUKS1_HEADER
    opened = world.open(block(), LUKS)
    close = world.encryptor.close
    close(info_of(block()), opened, volume=block(), last=False)
    assert VOLUME_ID in world.hypervisor.secrets.values
    assert [str(each) for each in world.encryptor.remains(VOLUME_ID, opened)] == [
        f'secret volume {VOLUME_ID} ({world.hypervisor.secrets.uuid})'
    ]
    for _ in range(2):
        close(info_of(block()), opened, volume=block(), last=True)
        assert world.hypervisor.secrets.values == {}
        assert world.encryptor.remains(VOLUME_ID, opened) == ()
    assert world.crypt.calls == []


def test_close_on_the_host(world: World) -> None:
    world.header = LUKS2_HEADER
    opened = world.open(block(), LUKS2)
    world.hypervisor.secrets.values[VOLUME_ID] = b'not ours'
    kinds = [each.kind for each in world.encryptor.remains(VOLUME_ID, opened)]
    assert kinds == ['dm-crypt', 'link']
    world.encryptor.close(info_of(block()), opened, volume=block(), last=False)
    assert world.crypt.calls == []
    world.encryptor.close(info_of(block()), opened, volume=block(), last=True)
    world.encryptor.close(info_of(block()), opened, volume=block(), last=True)
    assert world.crypt.calls == [('close', VOLUME_ID, '/dev/disk/by-id/wwn-0x1')]
    assert world.hypervisor.secrets.values == {VOLUME_ID: b'not ours'}


def test_close_without_knowing_takes_everything(world: World) -> None:
    world.header = LUKS2_HEADER
    world.open(block(), LUKS2)
    world.hypervisor.secrets.values[VOLUME_ID] = b''
    assert len(world.encryptor.remains(VOLUME_ID)) == 3
    world.encryptor.close(info_of(block()), None, volume=None, last=True)
    assert world.crypt.calls == [('close', VOLUME_ID, None)]
    assert world.hypervisor.secrets.values == {}
    assert world.encryptor.remains(VOLUME_ID) == ()


def test_secret_that_was_not_recorded_stays(world: World) -> None:
    world.header = LUKS1_HEADER
    opened = world.open(block(), LUKS)
    world.hypervisor.secrets.uuid = 'another'
    world.encryptor.close(info_of(block()), opened, volume=block(), last=True)
    assert VOLUME_ID in world.hypervisor.secrets.values


def test_close_that_cannot_ask_is_an_error(world: World) -> None:
    world.hypervisor.secrets.error = exception.HypervisorUnavailable(uri='x', reason='y')
    with pytest.raises(exception.HypervisorUnavailable):
        world.encryptor.close(info_of(block()), None, volume=block(), last=True)
    with pytest.raises(exception.HypervisorUnavailable):
        world.encryptor.remains(VOLUME_ID)


def test_growth(world: World) -> None:
    info = info_of(block())
    grow = world.encryptor.grow
    opened = Opened('luks', 'qemu', secret_uuid='u', header_size=2 * MIB)
    assert grow(info, opened, block(), 64 * MIB) == grow(info, opened, None, 64 * MIB) == 62 * MIB
    assert grow(info, opened, file('qcow2'), 64 * MIB) == 64 * MIB
    with pytest.raises(exception.ExtendVolumeFailed):
        grow(info, opened, block(), MIB)
    with pytest.raises(exception.ExtendVolumeFailed):
        grow(info, dataclasses.replace(opened, header_size=0), None, 64 * MIB)


def test_growth_on_the_host(world: World) -> None:
    info = info_of(block())
    grow = world.encryptor.grow
    assert grow(info, Opened('luks', 'host', path='/p'), block(), 5) == 123
    assert grow(info, Opened('plain', 'host', path='/p'), block(), 5) == 123
    assert grow(info, Opened('luks2', 'host', path='/p'), block(), 5, encryption=LUKS2) == 123
    assert [call[2] for call in world.crypt.calls] == [None, None, PASSPHRASE]
    with pytest.raises(exception.InvalidEncryption):
        grow(info, Opened('luks2', 'host', path='/p'), block(), 5)


def test_volume_without_an_id(world: World) -> None:
    info = ConnectionInfo.parse({'driver_volume_type': 'a-vendor', 'data': {}})
    volume = dataclasses.replace(block(), volume_id=None)
    with pytest.raises(exception.InvalidConnectionInfo, match='volume_id'):
        world.encryptor.open(info, volume, LUKS, allow_format=False)


# Plans


def test_plan_of_a_volume_that_qemu_decrypts(world: World) -> None:
    info = info_of(block())
    plan = world.encryptor.plan_open
    world.header = LUKS1_HEADER
    steps = (
        f'ask the key manager for key {KEY_ID}',
        f'define the libvirt secret of volume {VOLUME_ID}',
        'let QEMU decrypt: <encryption format="luks">',
    )
    assert plan(info, block(), LUKS) == plan(info, None, LUKS) == steps
    world.header = None
    assert plan(info, block(), LUKS)[0].startswith('refuse it')
    assert plan(info, block(), LUKS, allow_format=True)[0] == 'format it as luks, if it is blank'
    assert world.keys.asked == []
    assert world.nothing_was_done
    world.header = LUKS1_HEADER
    opened = world.open(block(), LUKS)
    secret = world.hypervisor.secrets.uuid
    assert plan(info, block(), None)[0] == f'use libvirt secret {secret}'
    assert world.encryptor.plan_close(info, opened) == (
        f'undefine libvirt secret volume {VOLUME_ID}',
    )
    assert world.encryptor.plan_close(info, opened, last=False) == (
        'leave the decryption as it is: another guest uses it',
    )


def test_plan_of_a_volume_that_the_host_decrypts(world: World) -> None:
    info = info_of(block())
    world.header = LUKS2_HEADER
    name = f'crypt-{VOLUME_ID}'
    link = f'/dev/volumedrivers/{VOLUME_ID}'
    assert world.encryptor.plan_open(info, block(), LUKS2) == (
        f'ask the key manager for key {KEY_ID}',
        f'ln -s /dev/disk/by-id/wwn-0x1 {link}',
        f'cryptsetup luksOpen {link} {name}',
        f'give the guest /dev/mapper/{name}',
    )
    assert world.nothing_was_done
    opened = world.open(block(), LUKS2)
    assert world.encryptor.plan_open(info, block(), LUKS2) == (
        f'give the guest /dev/mapper/{name}',
    )
    assert world.encryptor.plan_close(info, opened) == (
        f'cryptsetup luksClose /dev/mapper/{name}',
        f'rm {link}',
    )


def test_plan_says_what_open_would_refuse(world: World) -> None:
    with pytest.raises(exception.InvalidEncryption):
        world.encryptor.plan_open(info_of(block()), block(), None)
    world.header = LUKS2_HEADER
    with pytest.raises(exception.EncryptionNotSupported):
        world.encryptor.plan_open(info_of(file()), file(), LUKS2)


# What a refusal means


def test_refusals_are_explained() -> None:
    late = exception.AttachRefused(
        guest='g',
        disk='d',
        reason="No secret with id 'libvirt-1-format-encryption-secret0'",
    )
    other = exception.AttachRefused(guest='g', disk='d', reason='something else')
    volume = network('rbd')
    assert isinstance(
        encryption_support.explain(late, volume, 'librbd'), exception.EncryptionNotSupported
    )
    assert encryption_support.explain(late, volume, None) is late
    assert encryption_support.explain(other, volume, 'librbd') is other


def test_passphrase_is_in_no_repr(world: World) -> None:
    key = module._Key(world.keys, VOLUME_ID, LUKS)
    assert key.passphrase() == PASSPHRASE
    assert PASSPHRASE.decode() not in repr(key)


def test_loading_the_encryptor_loads_neither_castellan_nor_os_brick(
    tmp_path: pathlib.Path,
) -> None:
    import subprocess
    import sys

    code = (
        'import sys, volumedrivers.attachment.encryption\n'
        'print([name for name in ("castellan", "os_brick", "libvirt") if name in sys.modules])'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout == '[]\n'
