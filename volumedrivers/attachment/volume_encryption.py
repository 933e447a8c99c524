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

"""How a volume is encrypted, as Cinder says it."""

from collections.abc import Mapping
import dataclasses
import typing

from volumedrivers import exception

Provider = typing.Literal['luks', 'luks2', 'plain', 'none']

# Cinder's names, and the class names that older encryption types still have.
# Nothing else is believed: os-brick would import it.
_PROVIDERS: typing.Final[Mapping[str, Provider]] = {
    'luks': 'luks',
    'luks2': 'luks2',
    'plain': 'plain',
    'LuksEncryptor': 'luks',
    'Luks2Encryptor': 'luks2',
    'CryptsetupEncryptor': 'plain',
    'NoOpEncryptor': 'none',
    'NoopEncryptor': 'none',
    'nova.volume.encryptors.luks.LuksEncryptor': 'luks',
    'nova.volume.encryptors.cryptsetup.CryptsetupEncryptor': 'plain',
    'nova.volume.encryptors.nop.NoopEncryptor': 'none',
    'nova.volume.encryptors.nop.NoOpEncryptor': 'none',
    'os_brick.encryptors.luks.LuksEncryptor': 'luks',
    'os_brick.encryptors.luks.Luks2Encryptor': 'luks2',
    'os_brick.encryptors.cryptsetup.CryptsetupEncryptor': 'plain',
    'os_brick.encryptors.nop.NoopEncryptor': 'none',
    'os_brick.encryptors.nop.NoOpEncryptor': 'none',
}
_LONGEST = 255
_KEY_SIZES = range(64, 4097, 8)
# cryptsetup is told the cipher as an argument.
_CIPHER_CHARACTERS = frozenset(
    'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_:().,'
)


@dataclasses.dataclass(frozen=True)
class VolumeEncryption:
    """What Cinder's ``GET /volumes/{id}/encryption`` answers; nothing of it is secret.

    :ivar provider: luks is LUKS version 1; none needs no decryption
    :ivar key_id: of the key manager
    :ivar cipher: as dm-crypt writes it, such as aes-xts-plain64
    :ivar key_size: bits, as ``cryptsetup --key-size`` counts them: those of
        both keys of XTS together
    :ivar control_location: front-end (the hypervisor) or back-end (the storage)
    """

    provider: Provider
    key_id: str
    cipher: str | None = None
    key_size: int | None = None
    control_location: str = 'front-end'

    @property
    def is_ours(self) -> bool:
        """Whether it is this host that decrypts."""
        return self.control_location == 'front-end' and self.provider != 'none'

    @classmethod
    def parse(
        cls, metadata: Mapping[str, object], *, volume_id: str | None = None
    ) -> 'VolumeEncryption':
        """Check what Cinder answered, or what ``to_dict`` wrote.

        :raises InvalidEncryption: says which key is wrong
        """
        if not isinstance(metadata, Mapping):
            raise _wrong(volume_id, 'the whole', metadata, 'a mapping')
        location = _text(metadata, 'control_location', volume_id) or 'front-end'
        location = location.lower()
        if location not in ('front-end', 'back-end'):
            raise _wrong(volume_id, 'control_location', location, 'front-end or back-end')
        provider = _provider(metadata, volume_id)
        key_id = _text(metadata, 'encryption_key_id', volume_id) or ''
        if not key_id and location == 'front-end' and provider != 'none':
            raise _wrong(
                volume_id, 'encryption_key_id', metadata.get('encryption_key_id'), 'a key id'
            )
        cipher = _text(metadata, 'cipher', volume_id) or None
        if cipher is not None and not (cipher[0].isalnum() and set(cipher) <= _CIPHER_CHARACTERS):
            raise _wrong(volume_id, 'cipher', cipher, 'such as aes-xts-plain64')
        return cls(
            provider=provider,
            key_id=key_id,
            cipher=cipher,
            key_size=_key_size(metadata, volume_id),
            control_location=location,
        )

    def to_dict(self) -> dict[str, object]:
        """Return plain, JSON-able data; ``parse`` reads it back."""
        return {
            'provider': self.provider,
            'encryption_key_id': self.key_id,
            'cipher': self.cipher,
            'key_size': self.key_size,
            'control_location': self.control_location,
        }


def _provider(metadata: Mapping[str, object], volume_id: str | None) -> Provider:
    value = metadata.get('provider')
    if value == 'none':
        return 'none'
    if isinstance(value, str) and value in _PROVIDERS:
        return _PROVIDERS[value]
    raise _wrong(volume_id, 'provider', value, 'luks, luks2 or plain')


def _key_size(metadata: Mapping[str, object], volume_id: str | None) -> int | None:
    value = metadata.get('key_size')
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value not in _KEY_SIZES:
        raise _wrong(volume_id, 'key_size', value, 'a number of bits, such as 256')
    return value


def _text(metadata: Mapping[str, object], key: str, volume_id: str | None) -> str | None:
    value = metadata.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > _LONGEST or not value.isprintable():
        raise _wrong(volume_id, key, value, 'a short string')
    return value


def _wrong(
    volume_id: str | None, key: str, found: object, expected: str
) -> exception.InvalidEncryption:
    # It comes over the network, and nobody knows what it is.
    shown = repr(found) if isinstance(found, str | int) else type(found).__name__
    if found is None:
        shown = 'missing'
    if len(shown) > 80:
        shown = f'{shown[:77]}...'
    return exception.InvalidEncryption(
        volume_id=volume_id, key=key, found=shown, expected=expected
    )
