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

"""A cloud as clouds.yaml or the environment describes it, as the SDK's configuration."""

from collections.abc import Iterator
import os
import typing

from volumedrivers import exception
from volumedrivers import secret_names

if typing.TYPE_CHECKING:
    from openstack.config import cloud_region

#: what says that the environment describes a cloud by itself
VARIABLES: typing.Final = (
    'OS_AUTH_URL',
    'OS_AUTH_TYPE',
    'OS_AUTH_PLUGIN',
    'OS_ENDPOINT',
    'OS_BLOCK_STORAGE_ENDPOINT_OVERRIDE',
)
# The same, where a configuration file would say it.
_FILE_VARIABLES: typing.Final = ('OS_CLIENT_CONFIG_FILE', 'OS_CLIENT_SECURE_FILE')
_ENVIRONMENT = 'envvars'


def named(cloud: str, source: str) -> 'tuple[cloud_region.CloudRegion, str]':
    """Return a cloud of clouds.yaml, and what it is called in errors.

    OS_REGION_NAME chooses among its regions, as for the openstack command.

    :param source: what named it, such as --os-cloud
    :raises CinderNotConfigured: names the file, or those that are looked for
    """
    found = _Clouds()
    if cloud not in found.names:
        known = ', '.join(found.file_names) or 'none'
        where = found.path or f'none of {", ".join(found.searched)} exists; a file'
        raise exception.CinderNotConfigured(
            reason=f'{where} has no cloud {cloud!r}, which {source} names; it has {known}'
        )
    return found.region(cloud, f'cloud {cloud!r} of {found.path}')


def environment() -> 'tuple[cloud_region.CloudRegion, str] | None':
    """Return the cloud that the OS_* variables describe; None: they describe none.

    :raises CinderNotConfigured: names the variables
    """
    given = [name for name in VARIABLES if os.environ.get(name)]
    if not given:
        return None
    found = _Clouds()
    name = os.environ.get('OS_CLOUD_NAME') or _ENVIRONMENT
    return found.region(name, f'the environment ({", ".join(given)} and others)', chosen=True)


def only_one() -> 'tuple[cloud_region.CloudRegion, str] | None':
    """Return the cloud of a clouds.yaml that has one only; None: there is none, or more.

    :raises CinderNotConfigured: it is wrong
    """
    found = _Clouds()
    if len(found.file_names) != 1:
        return None
    name = found.file_names[0]
    return found.region(name, f'cloud {name!r} of {found.path}')


class _Clouds:
    """What the files and the environment say.

    The files are read before the SDK reads them: it logs what is wrong with
    one together with the lines around it, which may be a password's, and goes
    on as if it were not there.
    """

    def __init__(self) -> None:
        from openstack.config import loader  # noqa: PLC0415 - slow to import

        self.searched = _candidates(_FILE_VARIABLES[0], loader.CONFIG_FILES)
        self._secrets: set[str] = set()
        self.path, content = self._first(self.searched)
        _, secure = self._first(_candidates(_FILE_VARIABLES[1], loader.SECURE_FILES))
        variables = {name: value for name, value in os.environ.items() if name.startswith('OS_')}
        for part in (content, secure, variables):
            self._secrets.update(_secrets(part))
        self.file_names = _names(self.path, content)
        self._loader: loader.OpenStackConfig = self._told(
            self.path or 'the environment', loader.OpenStackConfig
        )

    @property
    def names(self) -> tuple[str, ...]:
        """All that can be asked for."""
        return tuple(map(str, self._loader.get_cloud_names()))

    def region(
        self, cloud: str, source: str, *, chosen: bool = False
    ) -> 'tuple[cloud_region.CloudRegion, str]':
        """Return the configuration of a cloud.

        :param chosen: its region is, too
        """
        region = None if chosen else os.environ.get('OS_REGION_NAME') or None
        return (
            self._told(source, lambda: self._loader.get_one(cloud=cloud, region_name=region)),
            source,
        )

    def _first(self, paths: tuple[str, ...]) -> tuple[str, typing.Any]:
        import yaml  # type: ignore[import-untyped] # noqa: PLC0415 - the SDK's

        for path in paths:
            if not os.path.exists(path):
                continue
            try:
                with open(path, encoding='utf-8') as opened:
                    # JSON is YAML, too.
                    return path, yaml.safe_load(opened)
            except PermissionError:
                continue  # as the SDK does
            except OSError as error:
                raise exception.CinderNotConfigured(
                    reason=f'{path} cannot be read ({error.strerror})'
                ) from error
            except (yaml.YAMLError, UnicodeDecodeError) as error:
                # The error itself has the lines around the place.
                raise exception.CinderNotConfigured(
                    reason=f'{path} is not YAML: look at {_place(error)}'
                ) from None
        return '', None

    def _told(self, source: str, call: typing.Any) -> typing.Any:
        try:
            return call()
        except Exception as error:
            text = ' '.join(str(error).split())
            for secret in self._secrets:
                text = text.replace(secret, '***')
            if not _is_theirs(error):
                # Python's own words: about a value that has another type.
                text = f'a value in it is wrong ({type(error).__name__}: {text})'
            raise exception.CinderNotConfigured(reason=f'{source}: {text}') from None


def _candidates(variable: str, paths: list[str]) -> tuple[str, ...]:
    given = os.environ.get(variable)
    return (*((given,) if given else ()), *paths)


def _names(path: str, content: typing.Any) -> tuple[str, ...]:
    if not path:
        return ()
    if content is not None and not isinstance(content, dict):
        raise exception.CinderNotConfigured(
            reason=f'{path} has no "clouds:" with a cloud below it, but a {type(content).__name__}'
        )
    clouds = (content or {}).get('clouds') or {}
    if not isinstance(clouds, dict) or not all(isinstance(one, dict) for one in clouds.values()):
        raise exception.CinderNotConfigured(
            reason=f'"clouds:" of {path} is no mapping of names to settings'
        )
    return tuple(map(str, clouds))


def _secrets(part: typing.Any, name: str = '') -> Iterator[str]:
    if isinstance(part, dict):
        for key, value in part.items():
            yield from _secrets(value, str(key))
    elif isinstance(part, list):
        for value in part:
            yield from _secrets(value, name)
    elif part and secret_names.is_secret_name(name):
        yield str(part)


def _place(error: Exception) -> str:
    mark = getattr(error, 'problem_mark', None)
    if mark is not None:
        return f'line {mark.line + 1}, column {mark.column + 1}'
    return 'what is no UTF-8 in it'


def _is_theirs(error: Exception) -> bool:
    return type(error).__module__.split('.')[0] in ('openstack', 'keystoneauth1')
