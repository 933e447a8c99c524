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

"""A key manager that keeps keys in files, behind castellan's own interface."""

import pathlib
import typing
import uuid

from castellan.common import exception
from castellan.common.objects import opaque_data
from castellan.common.objects import passphrase
from castellan.common.objects import symmetric_key
from castellan.key_manager import key_manager
from oslo_config import cfg

GROUP = 'file_key_manager'


class FileKeyManager(key_manager.KeyManager):
    """Each secret is a file named after its id, its type in the suffix."""

    def __init__(self, configuration: cfg.ConfigOpts) -> None:
        super().__init__(configuration)
        configuration.register_opts([cfg.StrOpt('directory')], group=GROUP)
        self.directory = pathlib.Path(configuration[GROUP].directory)
        self.asked: list[str] = []

    def store(self, context: object, managed_object: typing.Any, expiration: object = None) -> str:
        key_id = str(uuid.uuid4())
        path = self.directory / f'{key_id}.{managed_object.managed_type()}'
        path.write_bytes(managed_object.get_encoded())
        return key_id

    def get(
        self, context: object, managed_object_id: str, metadata_only: bool = False
    ) -> typing.Any:
        self.asked.append(managed_object_id)
        (self.directory / 'asked').open('a').write(f'{managed_object_id}\n')
        for path in self.directory.glob(f'{managed_object_id}.*'):
            value = path.read_bytes()
            if path.suffix == '.passphrase':
                return passphrase.Passphrase(value)
            if path.suffix == '.symmetric':
                return symmetric_key.SymmetricKey('AES', len(value) * 8, value)
            return opaque_data.OpaqueData(value)
        raise exception.ManagedObjectNotFoundError(uuid=managed_object_id)

    def create_key_pair(self, *args: object, **kwargs: object) -> typing.NoReturn:
        raise _more_than_tests_need()

    def create_key(self, *args: object, **kwargs: object) -> typing.NoReturn:
        raise _more_than_tests_need()

    def delete(self, context: object, managed_object_id: str, force: bool = False) -> None:
        for path in self.directory.glob(f'{managed_object_id}.*'):
            path.unlink()

    def add_consumer(self, *args: object) -> typing.NoReturn:
        raise _more_than_tests_need()

    def remove_consumer(self, *args: object) -> typing.NoReturn:
        raise _more_than_tests_need()


def _more_than_tests_need() -> exception.KeyManagerError:
    return exception.KeyManagerError(reason='keys are stored, read and deleted here only')


def configure(conf: cfg.ConfigOpts, directory: pathlib.Path) -> FileKeyManager:
    """Let castellan use such a key manager; return another one of the same files."""
    from castellan import key_manager as castellan

    directory.mkdir(exist_ok=True)
    conf.register_opts([cfg.StrOpt('directory')], group=GROUP)
    conf.set_override('directory', str(directory), GROUP)
    conf.register_opts(castellan.key_manager_opts, group='key_manager')
    conf.set_override('backend', f'{__name__}.FileKeyManager', 'key_manager')
    return FileKeyManager(conf)
