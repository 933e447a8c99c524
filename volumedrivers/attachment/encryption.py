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

"""Open and close encrypted volumes: in QEMU where it can, else on this host.

QEMU decrypts LUKS version 1 on every source, and version 2 by librbd; it gets
the passphrase from a libvirt secret that is named after the volume.  Anything
else on a block device is decrypted by dm-crypt on this host.  Nothing is ever
formatted because a check failed.
"""

import dataclasses
import typing

from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.attachment import encrypted_header
from volumedrivers.attachment.keys import CastellanKeys
from volumedrivers.attachment.keys import Keys
from volumedrivers.attachment.record import Opened
from volumedrivers.attachment.volume_encryption import VolumeEncryption
from volumedrivers.conf import opts
from volumedrivers.host import luks
from volumedrivers.host.crypt_devices import CryptDevices
from volumedrivers.libvirt import encryption_support
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import Remainder
from volumedrivers.libvirt.driver import DiskEncryption

if typing.TYPE_CHECKING:
    from oslo_config import cfg

    from volumedrivers.attachment.encrypted_header import Look
    from volumedrivers.connection_info import ConnectionInfo
    from volumedrivers.host.block_device import BlockDevices
    from volumedrivers.libvirt.hypervisor import Hypervisor

__all__ = ['CastellanKeys', 'Encryptor', 'Keys', 'VolumeEncryption', 'disk_encryption', 'seen_by']

LOG = logging.getLogger(__name__)

#: libvirt's usage type of a volume's passphrase; the volume's id is the usage
USAGE_TYPE = 'volume'
_VERSIONS = {'luks': 'luks1', 'luks2': 'luks2'}


def disk_encryption(opened: Opened | None) -> DiskEncryption | None:
    """Return what the guest's disk says of it; None: QEMU decrypts nothing."""
    if opened is None or opened.secret_uuid is None:
        return None
    return DiskEncryption(opened.secret_uuid, opened.provider, opened.engine)


def seen_by(volume: ConnectedVolume, opened: Opened | None) -> ConnectedVolume:
    """Return the volume as the guest is given it."""
    if opened is None or opened.path is None:
        return volume
    return dataclasses.replace(volume, path=opened.path)


class Encryptor:
    """Opens and closes the encrypted volumes of this host.

    Whoever calls it holds the volume's lock and has a deadline.

    :param hypervisor: whose QEMU is to decrypt, and who keeps the secrets
    :param keys: None: there is no key manager; then only what this host can
        decrypt already can be opened
    """

    def __init__(
        self,
        conf: 'cfg.ConfigOpts',
        hypervisor: 'Hypervisor',
        devices: 'BlockDevices',
        keys: Keys | None,
    ) -> None:
        self._conf = conf
        self._hypervisor = hypervisor
        self._keys = keys
        self._crypt = CryptDevices(conf, devices)

    def open(
        self,
        info: 'ConnectionInfo',
        volume: ConnectedVolume,
        encryption: VolumeEncryption | None,
        *,
        allow_format: bool,
    ) -> Opened:
        """Make sure that the volume can be decrypted.

        It can be called again, after it failed or was killed as well.  Where
        libvirt has the volume's secret, or this host its decrypted device,
        the key manager is not asked.

        :param encryption: what Cinder says; None: only what this host has
            already can be used, as after a reboot and without a token
        :param allow_format: a volume that is blank may be given a header
        :raises InvalidEncryption: there is no metadata, and it is needed
        :raises EncryptionNotSupported: says what would have to be changed
        :raises FormatRefused: it has no header, and is not given one
        :raises KeyUnavailable, IdentityMismatch, EncryptionFailed
        :raises HypervisorUnavailable, HypervisorError: libvirt could not say
            whether there is a secret
        """
        if encryption is not None and not encryption.is_ours:
            return Opened(provider=encryption.provider, by='storage')
        volume_id = _id_of(info, volume)
        key = _Key(self._keys, volume_id, encryption)
        # An error is no answer: the volume could look as if it had no secret.
        secret = self._hypervisor.secrets.find_complete(USAGE_TYPE, volume_id)
        if encryption is None and secret is None and not self._crypt.is_open(volume_id):
            raise _metadata_needed(volume_id)
        found = self._look(info, volume)
        provider = encrypted_header.provider_of(volume_id, encryption, found)
        if encryption is None and secret is None and found.header is None:
            # What is decrypted without having a header.
            provider = 'plain'
        way = encryption_support.choose(self._hypervisor, volume, provider)
        if provider != 'plain' and not found.usable:
            found = self._format(volume, provider, found, key, allow_format=allow_format)
        if way.by == 'host':
            return self._open_on_host(volume, provider, found, key)
        if secret is None or key.was_asked:
            # It outlives a reboot: the guest may be started without a token.
            secret = self._hypervisor.secrets.ensure(
                USAGE_TYPE, volume_id, key.passphrase(), ephemeral=False
            )
        return Opened(
            provider=provider,
            by='qemu',
            secret_uuid=secret,
            engine=way.engine,
            header_size=found.payload_offset,
        )

    def close(
        self,
        info: 'ConnectionInfo',
        opened: Opened | None,
        *,
        volume: ConnectedVolume | None,
        last: bool,
    ) -> None:
        """Take away what ``open`` made; what is not there is fine.

        :param opened: what ``open`` returned; None: it did not come to that,
            and whatever is there of the volume is taken away
        :param volume: what was opened, where that is known
        :param last: no other guest of this host uses it; otherwise everything
            stays
        :raises Busy, IdentityMismatch: the decrypted device was left alone
        :raises EncryptionFailed, HypervisorUnavailable, HypervisorError
        """
        if not last or (opened is not None and opened.by == 'storage'):
            return
        volume_id = _id_of(info, volume)
        if (opened is None or opened.by == 'host') and self._crypt.found(volume_id):
            self._crypt.close(volume_id, None if volume is None else volume.path)
        if opened is None or opened.by == 'qemu':
            self._delete_secret(volume_id, opened)

    def grow(
        self,
        info: 'ConnectionInfo',
        opened: Opened,
        volume: ConnectedVolume | None,
        size: int,
        *,
        encryption: VolumeEncryption | None = None,
        running: bool = True,
    ) -> int:
        """Let an open volume be as big as it has become.

        :param size: bytes of the volume, header included
        :param encryption: names the key, which LUKS2 on this host asks for
        :param running: whether the guest's QEMU is to be told of the new size
        :returns: bytes that the guest may have
        :raises ExtendVolumeFailed: nobody knows how long the header is, or
            QEMU cannot be told
        :raises KeyUnavailable, EncryptionFailed
        """
        if opened.by == 'storage':
            return size
        volume_id = _id_of(info, volume)
        if opened.by == 'host':
            passphrase = None
            if opened.provider == 'luks2':
                passphrase = _Key(self._keys, volume_id, encryption).passphrase()
            return self._crypt.resize(volume_id, passphrase)
        if opened.engine == 'librbd' and running:
            # librbd 16.2.15 makes the whole image as long as QEMU says the data
            # is, which cuts off its end; later ones add the header.
            raise exception.ExtendVolumeFailed(
                volume_id=volume_id,
                reason='librbd decrypts it, and not every release grows such an image without '
                'cutting off its end; start the guest again, which then has the new size',
            )
        if volume is not None and volume.format != 'raw':
            # The size of the image is that of what is in it.
            return size
        header_size = opened.header_size
        why = f'{size} bytes are less than it'
        if not header_size and volume is not None:
            found = self._look(info, volume)
            header_size, why = found.payload_offset, found.why
        if not 0 < header_size < size:
            raise exception.ExtendVolumeFailed(
                volume_id=volume_id,
                reason=f'how long its LUKS header is is not known: {why}',
            )
        return size - header_size

    def remains(self, volume_id: str, opened: Opened | None = None) -> tuple[Remainder, ...]:
        """Look for what is here of a volume's decryption, changing nothing.

        :param opened: what it was opened as; None: that is not known
        :raises HypervisorUnavailable, HypervisorError: libvirt could not say
        """
        found = [
            Remainder('dm-crypt' if path == self._crypt.path(volume_id) else 'link', path)
            for path in self._crypt.found(volume_id)
        ]
        if opened is None or opened.by == 'qemu':
            uuid = self._hypervisor.secrets.find(USAGE_TYPE, volume_id)
            if uuid is not None:
                found.append(Remainder('secret', f'{USAGE_TYPE} {volume_id}', uuid))
        return tuple(found)

    def plan_open(
        self,
        info: 'ConnectionInfo',
        volume: ConnectedVolume | None,
        encryption: VolumeEncryption | None,
        *,
        allow_format: bool = False,
        way: encryption_support.Way | None = None,
    ) -> tuple[str, ...]:
        """Say what ``open`` would do, one action a line, without a secret.

        Looks at the volume where it is connected, changes nothing.

        :param volume: None: it is not connected yet
        :param way: who would decrypt one that is not connected, where that is
            known
        :raises InvalidEncryption, EncryptionNotSupported, and as ``open``
        """
        if encryption is not None and not encryption.is_ours:
            return ('leave the decryption to the storage',)
        volume_id = _id_of(info, volume)
        secret = self._hypervisor.secrets.find_complete(USAGE_TYPE, volume_id)
        is_open = self._crypt.is_open(volume_id)
        if encryption is None and secret is None and not is_open:
            raise _metadata_needed(volume_id)
        found = encrypted_header.Look(known=False)
        by, engine = 'qemu', None
        provider: str = 'luks' if encryption is None else encryption.provider
        if volume is not None:
            found = self._look(info, volume)
            provider = encrypted_header.provider_of(volume_id, encryption, found)
            by, engine = encryption_support.choose(self._hypervisor, volume, provider)
        elif way is not None:
            by, engine = way
        elif provider != 'luks':
            by = 'host'
        ask = f'ask the key manager for key {encryption.key_id if encryption else "?"}'
        steps = []
        if provider != 'plain' and not found.usable:
            steps.append(
                f'format it as {provider}, if it is blank'
                if allow_format
                else 'refuse it: it has no header that a key could open'
            )
        if by == 'host':
            name = self._crypt.path(volume_id).rpartition('/')[2]
            link = self._crypt.link(volume_id)
            device = volume.path if volume is not None else 'the device'
            if not is_open:
                verb = 'open --type plain' if provider == 'plain' else 'luksOpen'
                steps += [ask, f'ln -s {device} {link}', f'cryptsetup {verb} {link} {name}']
            return (*steps, f'give the guest {self._crypt.path(volume_id)}')
        if secret is None:
            steps += [ask, f'define the libvirt secret of {USAGE_TYPE} {volume_id}']
        else:
            steps.append(f'use libvirt secret {secret}')
        engine_text = f' engine="{engine}"' if engine else ''
        return (*steps, f'let QEMU decrypt: <encryption format="{provider}"{engine_text}>')

    def plan_close(
        self,
        info: 'ConnectionInfo',
        opened: Opened | None,
        *,
        volume: ConnectedVolume | None = None,
        last: bool = True,
    ) -> tuple[str, ...]:
        """Say what ``close`` would do, one action a line; changes nothing."""
        if opened is not None and opened.by == 'storage':
            return ()
        if not last:
            return ('leave the decryption as it is: another guest uses it',)
        words = {'dm-crypt': 'cryptsetup luksClose', 'link': 'rm', 'secret': 'undefine libvirt'}
        return tuple(
            f'{words[each.kind]} {"secret " if each.kind == "secret" else ""}{each.name}'
            for each in self.remains(_id_of(info, volume), opened)
        )

    def _look(self, info: 'ConnectionInfo', volume: ConnectedVolume) -> 'Look':
        return encrypted_header.look(
            self._hypervisor, info, volume, seconds=self._options.encrypt_timeout
        )

    @property
    def _options(self) -> typing.Any:
        return self._conf[opts.GROUP.name]

    def _open_on_host(
        self, volume: ConnectedVolume, provider: str, found: 'Look', key: '_Key'
    ) -> Opened:
        assert volume.path is not None  # noqa: S101
        encryption = key.encryption
        path = self._crypt.open(
            key.volume_id,
            volume.path,
            provider,
            key.passphrase,
            cipher=None if encryption is None else encryption.cipher,
            key_size=None if encryption is None else encryption.key_size,
        )
        return Opened(provider=provider, by='host', path=path, header_size=found.payload_offset)

    def _format(
        self,
        volume: ConnectedVolume,
        provider: str,
        found: 'Look',
        key: '_Key',
        *,
        allow_format: bool,
    ) -> 'Look':
        """Give a volume that is blank its first header; refuse any other."""
        volume_id = key.volume_id
        refused = {'volume_id': volume_id, 'provider': provider}
        if volume.path is None or volume.format != 'raw':
            raise exception.FormatRefused(
                path=volume.path or (volume.source.name if volume.source else '?'),
                reason='it is not encrypted, and it is Cinder that formats such volumes',
                **refused,
            )
        seconds = self._options.encrypt_timeout
        if not allow_format:
            if found.header is not None:
                what: str | None = 'its header has no key: it was being formatted, or wiped'
            else:
                what = luks.contents(volume.path, seconds=seconds, volume_id=volume_id)
            raise exception.FormatRefused(
                path=volume.path,
                reason=what or 'it is blank; to format it was not asked for',
                **refused,
            )
        LOG.info('Formatting volume %s (%s) with %s', volume_id, volume.path, provider)
        luks.format_blank(
            volume.path,
            _VERSIONS[provider],
            key.passphrase(),
            cipher=key.encryption.cipher if key.encryption else None,
            key_size=key.encryption.key_size if key.encryption else None,
            seconds=seconds,
            volume_id=volume_id,
        )
        header = luks.read(volume.path, seconds=seconds, volume_id=volume_id)
        return encrypted_header.Look(known=True, header=header)

    def _delete_secret(self, volume_id: str, opened: Opened | None) -> None:
        secrets = self._hypervisor.secrets
        uuid = secrets.find(USAGE_TYPE, volume_id)
        if uuid is None:
            return
        if opened is not None and opened.secret_uuid not in (None, uuid):
            LOG.warning(
                'libvirt has secret %s for volume %s, not %s as was recorded; it stays',
                uuid,
                volume_id,
                opened.secret_uuid,
            )
            return
        secrets.delete(USAGE_TYPE, volume_id)


class _Key:
    """The passphrase of one volume, asked for once, and only if it is needed."""

    def __init__(
        self, keys: Keys | None, volume_id: str, encryption: VolumeEncryption | None
    ) -> None:
        self._keys = keys
        self.volume_id = volume_id
        self.encryption = encryption
        self._value: bytes | None = None

    def __repr__(self) -> str:
        return '***'

    @property
    def was_asked(self) -> bool:
        """Whether the key manager has been asked."""
        return self._value is not None

    def passphrase(self) -> bytes:
        """Return the passphrase.

        :raises InvalidEncryption, KeyUnavailable
        """
        if self._value is None:
            if self.encryption is None:
                raise _metadata_needed(self.volume_id)
            if self._keys is None:
                raise exception.KeyUnavailable(
                    key_id=self.encryption.key_id,
                    volume_id=self.volume_id,
                    reason='no key manager is configured',
                )
            self._value = self._keys.passphrase(self.encryption.key_id, self.volume_id)
        return self._value


def _id_of(info: 'ConnectionInfo', volume: ConnectedVolume | None) -> str:
    volume_id = info.volume_id or (volume.volume_id if volume is not None else None)
    if not volume_id:
        raise exception.InvalidConnectionInfo(
            driver_volume_type=info.driver_volume_type,
            key='data.volume_id',
            found='missing',
            expected='the id of the volume, which its secret is found by',
        )
    return volume_id


def _metadata_needed(volume_id: str) -> exception.InvalidEncryption:
    return exception.InvalidEncryption(
        volume_id=volume_id,
        key='metadata',
        found='missing',
        expected="what Cinder's GET /volumes/{id}/encryption answers, since this host has "
        'neither a secret nor a decrypted device of it',
    )
