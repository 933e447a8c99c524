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

"""The secrets of volumes that somebody names: in a file or the environment, never in the open."""

from collections.abc import Mapping
import copy
import json
import os
import pathlib
import typing

from tests.lab.hosts.checked import DescriptionError
from tests.lab.hosts.checked import Section
from tests.lab.hosts.checked import read_yaml
from volumedrivers import exception
from volumedrivers import secret_names
from volumedrivers.connection_info import ConnectionInfo

FROM_FILE = 'from_secrets_file'
FROM_ENVIRONMENT = 'from_environment'


class KnownSecrets:
    """Puts secrets into connection_infos, and remembers all of them.

    :param description: the file that describes the host
    :param secrets_file: a YAML mapping of names to secrets, beside it or absolute
    """

    def __init__(self, description: pathlib.Path, secrets_file: str | None) -> None:
        self._description = description
        self._file: pathlib.Path | None = None
        self._names: dict[str, str] = {}
        self._found: set[str] = set()
        if secrets_file is not None:
            self._file = description.parent / secrets_file
            self._read(self._file)

    @property
    def all(self) -> tuple[str, ...]:
        """Every secret that was used so far."""
        return tuple(sorted(self._found))

    def connection_info(self, section: Section) -> tuple[str, dict[str, typing.Any]]:
        """Return id and connection_info of a volume, from here or from a file of its own.

        :raises DescriptionError: it is none, or has a secret in the open
        """
        inline = section.take('connection_info', dict, None)
        name = section.take('connection_info_file', str, None)
        if (inline is None) == (name is None):
            raise section.wrong('connection_info', 'is needed, or connection_info_file; not both')
        if inline is not None:
            info = self._filled(section, 'connection_info', copy.deepcopy(inline))
        else:
            info = self._from_file(section, self._description.parent / name)
        try:
            parsed = ConnectionInfo.parse(info)
        except exception.VolumeDriversError as error:
            raise section.wrong('connection_info', f'is none: {error}') from None
        if not parsed.volume_id:
            raise section.wrong('connection_info', 'has no volume_id')
        self._found |= parsed.secrets()
        return parsed.volume_id, info

    def _from_file(self, section: Section, path: pathlib.Path) -> dict[str, typing.Any]:
        try:
            found = json.loads(path.read_text(encoding='utf-8'))
        except OSError as error:
            raise section.wrong('connection_info_file', f'cannot be read: {error}') from error
        except ValueError:
            raise section.wrong('connection_info_file', f'{path} is no JSON') from None
        if not isinstance(found, dict):
            raise section.wrong('connection_info_file', f'{path} holds no JSON object')
        # As Cinder's API answers, or what is in there.
        inner = found.get('connection_info', found)
        return typing.cast(dict[str, typing.Any], inner)

    def _filled(self, section: Section, key: str, value: typing.Any) -> typing.Any:
        """Return a part of a connection_info with the secrets that it refers to."""
        if isinstance(value, dict) and set(value) in ({FROM_FILE}, {FROM_ENVIRONMENT}):
            secret = self._look_up(section, key, value)
            self._found.add(secret)
            return secret
        if isinstance(value, dict):
            return {
                name: self._filled(section, f'{key}.{name}', part) for name, part in value.items()
            }
        if isinstance(value, list):
            return [
                self._filled(section, f'{key}[{place}]', part) for place, part in enumerate(value)
            ]
        last = key.rpartition('.')[2].partition('[')[0]
        open_secret = isinstance(value, str) and (
            (value and secret_names.is_secret_name(last)) or secret_names.url_passwords(value)
        )
        if open_secret:
            raise section.wrong(
                key,
                f'is a secret, which is not written here: say {{{FROM_FILE}: NAME}} or '
                f'{{{FROM_ENVIRONMENT}: NAME}}',
            )
        return value

    def _look_up(self, section: Section, key: str, where: Mapping[str, typing.Any]) -> str:
        ((source, name),) = where.items()
        if source == FROM_ENVIRONMENT:
            found = os.environ.get(str(name))
            if not found:
                raise section.wrong(key, f'{name} is not in the environment')
            return found
        if self._file is None:
            raise section.wrong(key, 'there is no secrets_file in this description')
        if name not in self._names:
            raise section.wrong(key, f'{name} is not in {self._file}')
        return self._names[str(name)]

    def _read(self, path: pathlib.Path) -> None:
        content = read_yaml(path)
        if path.stat().st_mode & 0o077:
            raise DescriptionError(path, '', 'others than its owner can read it; chmod 600 helps')
        for name in content.names():
            self._names[name] = content.take(name, str)
