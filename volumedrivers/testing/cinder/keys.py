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

"""A key manager that Cinder and whoever attaches its volumes share: keys are files.

The embedded Cinder has it.  For a host of the same machine::

    conf.set_override('backend', 'volumedrivers.testing.cinder.keys.FileKeyManager', 'key_manager')
    conf.set_override('directory', str(cinder.directory / 'keys'), 'testing_keys')

after ``register_opts(conf)``; ``configure`` does all of it.
"""

import contextlib
import pathlib
import secrets
import typing
import uuid

from castellan import key_manager as castellan
from castellan.common import exception
from castellan.common.objects import passphrase
from castellan.common.objects import symmetric_key
from castellan.key_manager import key_manager
from oslo_config import cfg

from volumedrivers.testing.cinder import settings

OPTIONS = [cfg.StrOpt('directory', help='Where the keys are.')]


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register what ``configure`` sets; may be called again."""
    conf.register_opts(OPTIONS, group=settings.KEYS_GROUP)
    conf.register_opts(castellan.key_manager_opts, group='key_manager')


def configure(conf: cfg.ConfigOpts, directory: pathlib.Path) -> None:
    """Let a configuration find the keys that are in a directory."""
    register_opts(conf)
    conf.set_override('backend', settings.KEY_MANAGER, 'key_manager')
    conf.set_override('directory', str(directory), settings.KEYS_GROUP)


class FileKeyManager(key_manager.KeyManager):
    """Each key is a file for this user alone, named after its id; the suffix is its type."""

    def __init__(self, configuration: cfg.ConfigOpts) -> None:
        super().__init__(configuration)  # type: ignore[safe-super]
        register_opts(configuration)
        self.directory = pathlib.Path(configuration[settings.KEYS_GROUP].directory)

    def create_key(
        self,
        context: object,
        algorithm: str,
        length: int,
        expiration: object = None,
        name: str | None = None,
    ) -> str:
        """Make a key of so many bits; return its id."""
        value = secrets.token_bytes(length // 8)
        return self.store(context, symmetric_key.SymmetricKey(algorithm, length, value))

    def store(self, context: object, managed_object: typing.Any, expiration: object = None) -> str:
        """Keep a key or a passphrase; return its id."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key_id = str(uuid.uuid4())
        path = self.directory / f'{key_id}.{managed_object.managed_type()}'
        path.touch(0o600)
        path.write_bytes(managed_object.get_encoded())
        return key_id

    def get(
        self, context: object, managed_object_id: str, metadata_only: bool = False
    ) -> typing.Any:
        """Return it."""
        for path in self.directory.glob(f'{managed_object_id}.*'):
            value = path.read_bytes()
            if path.suffix == '.passphrase':
                return passphrase.Passphrase(value)
            return symmetric_key.SymmetricKey('AES', len(value) * 8, value)
        raise exception.ManagedObjectNotFoundError(uuid=managed_object_id)

    def delete(self, context: object, managed_object_id: str, force: bool = False) -> None:
        """Remove it; it may be gone."""
        for path in self.directory.glob(f'{managed_object_id}.*'):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def create_key_pair(self, *args: object, **kwargs: object) -> typing.NoReturn:
        """Not made; Cinder does not ask for it."""
        raise exception.KeyManagerError(reason='there are no key pairs here')

    def add_consumer(self, *args: object) -> None:
        """Nobody looks at who uses a key."""

    def remove_consumer(self, *args: object) -> None:
        """Nobody looks at who uses a key."""
