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
from volumedrivers.protocol_data import Secret
from volumedrivers.secret_names import is_secret_name

# A value ends at a comma, as mount(8) and mount.cifs see it, or at the next -o.
_OPTION = re.compile(
    r'(?P<lead>(?:^|[\s,])(?:-o)?)(?P<name>[^\s,=-][^\s,=]*)=(?P<value>(?:(?!\s+-o)[^,])*)'
)
_CLUSTER = re.compile(r'(?:(?P<mds>[^\s/]+):/)?(?P<cluster>[A-Za-z0-9_-]+)(?::(?P<password>\S+))?')
_SECRET_OPTIONS = frozenset({'pass', 'password2', 'key'})
_FILE_OPTIONS = frozenset({'credentials', 'cred', 'secretfile'})


class Options(typing.NamedTuple):
    """Mount options without ``-o``; secret ones apart."""

    public: tuple[str, ...] = ()
    secret: tuple[str, ...] = ()

    def secret_options(self) -> Secret | None:
        """Return the secret options joined by commas, as ShareData holds them."""
        return Secret(','.join(self.secret)) if self.secret else None


def split_options(value: object) -> Options:
    """Split ``-o a,b -o c``, or a list of such.

    Anything else on the command line of mount(8) is refused: it could name
    another device, another directory or another type.
    """
    groups: list[str] = []
    for item in _items(value):
        words = iter(item.split() if isinstance(value, str) or item.startswith('-') else [item])
        for position, word in enumerate(words):
            if word.startswith('-o'):
                groups.append(word[2:] or next(words, ''))
            elif position == 0 and not word.startswith('-') and not list(words):
                groups.append(word)
            else:
                raise Unfit('mount options as in "-o a,b"', conceal=True)
    return _sort(option for group in groups for option in group.split(',') if option)


def split_words(value: object) -> Options:
    """Split the words of a vstorage-mount command line; they are not looked at."""
    return _sort(word for item in _items(value) for word in item.split())


def mask(options: str) -> str:
    """Return options as they are written, with ``***`` for what is secret."""
    return _OPTION.sub(_masked, options)


def secrets(options: str) -> frozenset[str]:
    """Return the secret values in options."""
    found = set()
    for match in _OPTION.finditer(options):
        if _is_secret(match):
            value = match['value'].strip()
            found.add(value)
            # Of user=name%password somebody may print the password alone.
            password = value.partition('%')[2]
            if password and _user_of(match) is not None:
                found.add(password)
    return frozenset(found)


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


def _sort(options: typing.Iterable[str]) -> Options:
    public: list[str] = []
    secret: list[str] = []
    for option in options:
        (secret if secrets(option) else public).append(option)
    return Options(tuple(public), tuple(secret))


def _masked(option: re.Match[str]) -> str:
    if not _is_secret(option):
        return option[0]
    # It must look like a secret still: who reads it later has to know that
    # there was one.
    user = _user_of(option)
    return f'{option["lead"]}{option["name"]}=' + ('***' if user is None else f'{user}%***')


def _user_of(option: re.Match[str]) -> str | None:
    """Return who mounts, if mount.cifs gets that as user=name%password."""
    name, value = option['name'].lower(), option['value']
    return value.partition('%')[0] if name in ('user', 'username') and '%' in value else None


def _is_secret(option: re.Match[str]) -> bool:
    name, value = option['name'].lower(), option['value']
    if name in _FILE_OPTIONS or not value.strip():
        return False
    return name in _SECRET_OPTIONS or is_secret_name(name) or _user_of(option) is not None
