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

"""Volumes that dm-crypt decrypts on this host, opened by os-brick's encryptors.

/dev/volumedrivers/<volume id> leads to the volume, /dev/mapper/crypt-<volume
id> is what a guest gets; both mean the same after a reboot.  os-brick names
its device after the link that it is given, and replaces that link, so it gets
one of ours and never one of udev's.
"""

import os
import re
import traceback
import typing

from volumedrivers import exception
from volumedrivers.host import bootstrap
from volumedrivers.host import brick_errors
from volumedrivers.host import brick_logs
from volumedrivers.host.sysfs import listdir
from volumedrivers.host.sysfs import read
from volumedrivers.privsep import crypt

if typing.TYPE_CHECKING:
    from oslo_config import cfg

    from volumedrivers.host.block_device import BlockDevices

_PROVIDERS = ('luks', 'luks2', 'plain')
_FITTING = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.-]{0,99}', re.ASCII)
# cryptsetup's exit codes, as its manual has them.
_NO_KEY = 2
_BUSY = 5


class CryptDevices:
    """The decrypted devices of this host.

    :param sysfs: where sysfs is mounted
    :param execute: runs commands for os-brick; None: as os-brick does
    """

    def __init__(
        self,
        conf: 'cfg.ConfigOpts',
        devices: 'BlockDevices',
        *,
        sysfs: str = '/sys',
        execute: typing.Any = None,
    ) -> None:
        self._conf = conf
        self._devices = devices
        self._block = os.path.join(sysfs, 'block')
        self._execute = execute

    @staticmethod
    def path(volume_id: str) -> str:
        """Return what the decrypted device is called."""
        return f'{crypt.MAPPER}/{crypt.PREFIX}{volume_id}'

    @staticmethod
    def link(volume_id: str) -> str:
        """Return the link to the encrypted device."""
        return f'{crypt.LINKS}/{volume_id}'

    def is_open(self, volume_id: str) -> bool:
        """Tell whether the volume's decrypted device is there."""
        return self._kernel_name(volume_id) is not None

    def found(self, volume_id: str) -> tuple[str, ...]:
        """Return what is here of a volume: decrypted device, link."""
        if not _FITTING.fullmatch(volume_id):
            return ()  # nothing could be made for it
        link = self.link(volume_id)
        return (
            *((self.path(volume_id),) if self.is_open(volume_id) else ()),
            *((link,) if os.path.lexists(link) else ()),
        )

    def open(
        self,
        volume_id: str,
        device: str,
        provider: str,
        passphrase: typing.Callable[[], bytes],
        *,
        cipher: str | None = None,
        key_size: int | None = None,
    ) -> str:
        """Decrypt a device; return the path of the decrypted one.

        One that is there already, and on that device, is used.

        :param device: the volume, under its lasting name
        :param provider: luks or luks2, which must have a header; or plain
        :param passphrase: is called only if it is needed
        :raises IdentityMismatch: the decrypted device is that of another device
        :raises EncryptionFailed
        """
        check_name(volume_id)
        if not self.is_open(volume_id):
            link = crypt.make_link(volume_id, device)
            secret = passphrase()
            encryptor = self._encryptor(volume_id, link, provider, secret)
            text = secret.decode('utf-8', 'surrogateescape')
            try:
                with brick_logs.without((text,)):
                    encryptor.attach_volume(
                        None,
                        cipher=cipher,
                        key_size=None if key_size is None else str(key_size),
                    )
            except Exception as error:
                failure = _of(error, volume_id, 'opened', (text,))
                raise failure from (None if failure is error else error)
        self.require_on(volume_id, device)
        return self.path(volume_id)

    def require_on(self, volume_id: str, device: str) -> None:
        """Make sure that the decrypted device is on a device, and on it alone.

        :raises IdentityMismatch: it is on another
        :raises EncryptionFailed: it is not there
        """
        name = self._kernel_name(volume_id)
        if name is None:
            raise exception.EncryptionFailed(
                volume_id=volume_id, reason=f'{self.path(volume_id)} is not there'
            )
        below = listdir(self._block, name, 'slaves')
        kernel_path = self._devices.kernel_path(device)
        wanted = None if kernel_path is None else os.path.basename(kernel_path)
        if below != [wanted]:
            raise exception.IdentityMismatch(
                path=self.path(volume_id),
                found=f'on {" and ".join(below) or "nothing"}',
                expected=f'on {device} ({wanted or "not there"})',
                volume_id=volume_id,
            )

    def close(self, volume_id: str, device: str | None) -> None:
        """Take the decrypted device and the link away; what is not there is fine.

        :param device: the volume that it must be on; None: it is not known
        :raises IdentityMismatch: it is on another; it was left alone
        :raises Busy: somebody has it open
        :raises EncryptionFailed
        """
        check_name(volume_id)
        if self.is_open(volume_id):
            if device is not None and self._devices.kernel_path(device) is not None:
                self.require_on(volume_id, device)
            # It goes by the name alone, and so does without a device.
            encryptor = self._encryptor(volume_id, self.link(volume_id), 'luks', None)
            try:
                encryptor.detach_volume()
            except Exception as error:
                failure = _of(error, volume_id, 'closed', ())
                raise failure from (None if failure is error else error)
            if self.is_open(volume_id):
                raise exception.EncryptionFailed(
                    volume_id=volume_id,
                    reason=f'{self.path(volume_id)} is still there after it was closed',
                )
        if os.path.lexists(self.link(volume_id)):
            crypt.remove_link(volume_id)

    def resize(self, volume_id: str, passphrase: bytes | None) -> int:
        """Let the decrypted device be as big as it can; return its bytes.

        :param passphrase: for LUKS2; None: do without
        :raises EncryptionFailed
        """
        check_name(volume_id)
        crypt.resize(volume_id, passphrase)
        name = self._kernel_name(volume_id)
        sectors = None if name is None else read(self._block, name, 'size')
        if sectors is None:
            raise exception.EncryptionFailed(
                volume_id=volume_id, reason=f'{self.path(volume_id)} is not there'
            )
        return int(sectors) * 512

    def _kernel_name(self, volume_id: str) -> str | None:
        """Return dm-N; asked of sysfs, for udev may not have made the name yet."""
        wanted = f'{crypt.PREFIX}{volume_id}'
        for name in listdir(self._block):
            if name.startswith('dm-') and read(self._block, name, 'dm', 'name') == wanted:
                return name
        return None

    def _encryptor(
        self, volume_id: str, link: str, provider: str, secret: bytes | None
    ) -> typing.Any:
        if provider not in _PROVIDERS:
            # os-brick would import it.
            raise exception.EncryptionFailed(
                volume_id=volume_id, reason=f'there is no provider {provider!r}'
            )
        bootstrap.load_os_brick()
        from os_brick import encryptors  # noqa: PLC0415

        encryptor = encryptors.get_volume_encryptor(
            bootstrap.root_helper(self._conf),
            {
                'driver_volume_type': 'block',
                'serial': volume_id,
                'data': {'device_path': link, 'volume_id': volume_id},
            },
            _OneKey(secret),
            self._execute,
            control_location='front-end',
            provider=provider,
            encryption_key_id=volume_id,
        )

        def refuse(*args: object, **kwargs: object) -> typing.NoReturn:
            raise exception.FormatRefused(
                volume_id=volume_id,
                path=link,
                provider=provider,
                reason='cryptsetup found no header on it, where there was one before',
            )

        # It formats what it takes for blank, by an exit code alone.
        encryptor._format_volume = refuse
        encryptor._format_luks_volume = refuse
        return encryptor


class _OneKey:
    """The key manager os-brick asks: hands out one passphrase, as Castellan would."""

    def __init__(self, secret: bytes | None) -> None:
        self._secret = secret

    def __repr__(self) -> str:
        return '***'

    def get(self, context: object, key_id: object) -> '_OneKey':
        """Return the secret, which is this object too."""
        return self

    def managed_type(self) -> str:
        """Tell that the value is a passphrase as it is."""
        return 'passphrase'

    def get_encoded(self) -> bytes:
        """Return the value."""
        return self._secret or b''


def check_name(volume_id: str) -> None:
    """:raises EncryptionFailed: a device cannot be named after the volume"""
    if not _FITTING.fullmatch(volume_id):
        raise exception.EncryptionFailed(
            volume_id=volume_id, reason='a device cannot be named after a volume of that id'
        )


def _of(
    error: Exception, volume_id: str, what: str, secrets: tuple[str, ...]
) -> exception.VolumeDriversError:
    """Return the error of os-brick in our words."""
    if isinstance(error, exception.VolumeDriversError):
        traceback.clear_frames(error.__traceback__)
        return error
    brick_errors.scrub(error, secrets)
    code = getattr(error, 'exit_code', None)
    reason = brick_errors.describe(error, secrets)
    if code == _BUSY and what == 'closed':
        return exception.Busy(what=CryptDevices.path(volume_id), reason='somebody has it open')
    if code == _NO_KEY and what == 'opened':
        reason = f'the key does not open it ({reason})'
    return exception.EncryptionFailed(
        volume_id=volume_id, reason=f'it could not be {what}: {reason}'
    )
