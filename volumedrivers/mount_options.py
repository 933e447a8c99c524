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

"""Mount options and exports as Cinder sends them, and the secrets in them."""

import re
import typing

from volumedrivers.connection_values import Unfit
from volumedrivers.connection_values import is_printable
from volumedrivers.connection_values import is_secret_name
from volumedrivers.protocol_data import Secret

# A value ends at a comma, as mount(8) and mount.cifs see it.
_OPTION = re.compile(r'(?P<lead>(?:^|[\s,])(?:-o)?)(?P<name>[^\s,=-][^\s,=]*)=(?P<value>[^,]*)')
_CLUSTER = re.compile(r'(?:(?P<mds>[^\s/]+):/)?(?P<cluster>[A-Za-z0-9_-]+)(?::(?P<password>\S+))?')
_SECRET_OPTIONS = frozenset({'pass', 'password2', 'key'})
_FILE_OPTIONS = frozenset({'credentials', 'cred', 'secretfile'})


class Options(typing.NamedTuple):
    """Mount options without ``-o``; secret ones apart."""

    public: tuple[str, ...]
    secret: tuple[str, ...]

    def secret_options(self) -> Secret | None:
        """Return the secret options joined by commas, as ShareData holds them."""
        return Secret(','.join(self.secret)) if self.secret else None


def split_options(value: object) -> Options:
    """Split ``-o a,b -o c``, or a list of such.

    Any other flag of mount(8) is refused: it could name another device, or
    another type.
    """
    public: list[str] = []
    secret: list[str] = []
    after_flag = False
    for item in _items(value):
        # In a list an item is an option already; in a string spaces separate.
        words = item.split() if isinstance(value, str) or item.startswith('-o') else [item]
        for word in words:
            if word == '-o':
                after_flag = True
                continue
            if not after_flag and word.startswith('-') and not word.startswith('-o'):
                raise Unfit('mount options as in "-o a,b"', conceal=True)
            after_flag = False
            for option in word.removeprefix('-o').split(','):
                if option:
                    (secret if _is_secret(option) else public).append(option)
    return Options(tuple(public), tuple(secret))


def command_words(value: object) -> tuple[str, ...]:
    """Split the words of a vstorage-mount command line; they are not looked at."""
    return tuple(word for item in _items(value) for word in item.split())


def mask_options(value: object) -> object:
    """Return options, in the form they have, with ``***`` for what is secret."""
    if isinstance(value, str):
        return _OPTION.sub(_mask, value)
    if isinstance(value, list | tuple):
        return [mask_options(item) for item in value]
    return value


def secrets_in_options(value: object) -> frozenset[str]:
    """Return the secret values in options."""
    if isinstance(value, list | tuple):
        return frozenset().union(*(secrets_in_options(item) for item in value))
    if not isinstance(value, str):
        return frozenset()
    return frozenset(
        match['value']
        for match in _OPTION.finditer(value)
        if _is_secret(f'{match["name"]}={match["value"]}')
    )


def split_cluster(value: object) -> tuple[str, Secret | None]:
    """Split the export of a Virtuozzo cluster, ``[mds[,mds]:/]cluster[:password]``.

    :returns: the export without the password, and the password
    """
    match = None
    if isinstance(value, str) and is_printable(value) and not value.startswith('-'):
        match = _CLUSTER.fullmatch(value)
    if match is None:
        raise Unfit('[mds[,mds]:/]cluster[:password]', conceal=True)
    password = match['password']
    if password is None:
        return match[0], None
    return match[0][: match.start('password') - 1], Secret(password)


def _items(value: object) -> list[str]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise Unfit('mount options, as a string or a list', conceal=True)
    for index, item in enumerate(items):
        # A tabulator separates words as a space does.
        if not isinstance(item, str) or not is_printable(item.replace('\t', ' ')):
            raise Unfit(
                'mount options without control characters',
                where=f'[{index}]' if items is value else '',
                value=item,
                conceal=True,
            )
    return list(items)


def _is_secret(option: str) -> bool:
    name, _, value = option.partition('=')
    name = name.lower()
    if name in _FILE_OPTIONS or not value:
        return False
    # mount.cifs also takes user=name%password.
    return (
        name in _SECRET_OPTIONS
        or is_secret_name(name)
        or (name in ('user', 'username') and '%' in value)
    )


def _mask(match: re.Match[str]) -> str:
    if not _is_secret(f'{match["name"]}={match["value"]}'):
        return match[0]
    return f'{match["lead"]}{match["name"]}=***'
