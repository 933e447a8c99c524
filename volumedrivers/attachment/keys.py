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

"""Where the keys of encrypted volumes come from."""

import binascii
import typing

from volumedrivers import exception
from volumedrivers.attachment import key_logs

if typing.TYPE_CHECKING:
    from oslo_config import cfg


class Keys(typing.Protocol):
    """Gives out passphrases."""

    def passphrase(self, key_id: str, volume_id: str | None) -> bytes:
        """Return what opens the volume.

        :raises KeyUnavailable
        """


class CastellanKeys:
    """A key manager that Castellan knows: Barbican, Vault and others.

    Group [key_manager] of the configuration says which, and how to log in.

    :param conf: read by Castellan
    :param context: a request context with a token; None: the credentials of
        group [key_manager], or none where it names none
    """

    def __init__(self, conf: 'cfg.ConfigOpts', context: typing.Any = None) -> None:
        self._conf = conf
        self._context = context

    def passphrase(self, key_id: str, volume_id: str | None) -> bytes:
        """Return what opens the volume; may take as long as the key manager does.

        A secret of type passphrase is one as it is.  Any other is a key, and
        its hexadecimal digits are the passphrase: so Cinder made the volume.

        :raises KeyUnavailable
        """
        try:
            value, kind = self._get(key_id)
        except Exception as error:
            failure = _unavailable(key_id, volume_id, _reason(error))
        else:
            if isinstance(value, str):
                # Barbican's, if it was stored as text.
                value = value.encode()
            if isinstance(value, bytes) and value:
                return value if kind == 'passphrase' else binascii.hexlify(value)
            failure = _unavailable(key_id, volume_id, 'the key manager holds an empty one')
        # Without the cause: what a back end puts into its errors nobody knows.
        raise failure

    def __repr__(self) -> str:
        return 'CastellanKeys()'

    def _get(self, key_id: str) -> tuple[object, object]:
        """Return the value and its type, such as passphrase or symmetric."""
        # Not at the top: it loads keystoneauth and the clients of all back ends.
        from castellan import key_manager  # noqa: PLC0415
        from castellan.common import utils  # noqa: PLC0415

        manager = key_manager.API(self._conf)
        context = self._context
        if context is None:
            self._conf.register_opts(utils.credential_opts, group=utils.OPT_GROUP)
            if self._conf[utils.OPT_GROUP].auth_type:
                context = utils.credential_factory(self._conf)
        with key_logs.quiet():
            secret = manager.get(context, key_id)
            # Barbican's is fetched only when it is looked at.
            return secret.get_encoded(), secret.managed_type()


def _unavailable(key_id: str, volume_id: str | None, reason: str) -> exception.KeyUnavailable:
    return exception.KeyUnavailable(key_id=key_id, volume_id=volume_id, reason=reason)


def _reason(error: Exception) -> str:
    """Say what happened, in words of our own: a back end's may hold anything."""
    name = type(error).__name__
    known = {
        'ManagedObjectNotFoundError': 'the key manager has no such key',
        'Forbidden': 'the key manager does not allow it; look at the roles and the ACL of the key',
        'AuthTypeInvalidError': 'auth_type in group [key_manager] is invalid',
        'InsufficientCredentialDataError': 'group [key_manager] lacks credentials',
        'ModuleNotFoundError': 'the key manager of group [key_manager] is not installed',
        'ImportError': 'the key manager of group [key_manager] is not installed',
    }
    return known.get(name, f'the key manager failed ({name})')
