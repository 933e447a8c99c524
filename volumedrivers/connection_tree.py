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

"""A connection_info as a tree: copied, frozen, shown, searched for secrets.

Which values are secret follows from the names of the keys, also of those that
no schema knows, and from mount options and URLs, which may hold a password.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import math
import re
import typing

from volumedrivers import mount_options
from volumedrivers.connection_values import Unfit
from volumedrivers.connection_values import describe
from volumedrivers.connection_values import shorten
from volumedrivers.protocol_data import Concealed
from volumedrivers.protocol_data import FrozenMapping
from volumedrivers.protocol_data import Secret
from volumedrivers.secret_names import is_secret_name
from volumedrivers.secret_names import mask_urls
from volumedrivers.secret_names import url_passwords

_DEPTH = 32  # deeper nesting is no connection_info
_TOO_LARGE = 2**64
KEY_IN_KEYRING = re.compile(r'^\s*key\s*=\s*(\S+)', re.MULTILINE)
_OPTION_KEYS = frozenset({'options', 'mount_options'})


def plain_copy(value: object, where: str = '', depth: int = 0) -> object:
    """Copy what JSON can hold; raises Unfit for anything else.

    Nothing that was handed in is shared with anybody.
    """
    if depth > _DEPTH:
        raise Unfit(f'at most {_DEPTH} levels', where=where, value=value)
    if isinstance(value, Mapping):
        result = {}
        # At once: another thread may be changing it.
        for key, item in list(value.items()):
            if not isinstance(key, str):
                raise Unfit('a string as key', where=f'{where}[{describe(key)}]', value=key)
            name = str.__str__(key)
            inside = f'{where}.{shorten(name)}' if where else shorten(name)
            result[name] = plain_copy(item, inside, depth + 1)
        return result
    if isinstance(value, list | tuple):
        items = [
            plain_copy(item, f'{where}[{index}]', depth + 1) for index, item in enumerate(value)
        ]
        return items if isinstance(value, list) else tuple(items)
    if value is None or isinstance(value, bool):
        return value
    # Of a class derived from these only the plain value is taken.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int) and abs(number := int.__int__(value)) < _TOO_LARGE:
        return number
    if isinstance(value, float) and math.isfinite(value):
        return float.__float__(value)
    raise Unfit('a value that JSON has', where=where, value=value)


def freeze(value: object, name: str = '', *, conceal: bool = False) -> object:
    """Return the tree with nothing in it that can be changed; secrets are wrapped."""
    conceal = conceal or is_secret_name(name)
    if isinstance(value, Mapping):
        return FrozenMapping(
            {key: freeze(item, key, conceal=conceal) for key, item in value.items()}
        )
    if isinstance(value, list | tuple):
        return tuple(freeze(item, name, conceal=conceal) for item in value)
    if (conceal and _can_be_secret(value)) or _secrets_in(value, name):
        return Secret(str(value))
    return value


def shown(value: object, name: str = '', *, conceal: bool = False) -> typing.Any:
    """Return the tree for JSON, with ``***`` for what is secret."""
    conceal = conceal or is_secret_name(name)
    if isinstance(value, Mapping):
        return {key: shown(item, key, conceal=conceal) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shown(item, name, conceal=conceal) for item in value]
    if conceal and _can_be_secret(value):
        # That there is none is no secret, and has to be known later.
        return '***' if value != '' else ''
    if isinstance(value, str) and _secrets_in(value, name):
        return mask_urls(mount_options.mask(value) if name in _OPTION_KEYS else value)
    return value


def for_connector(value: object, name: str = '', *, conceal: bool = False) -> typing.Any:
    """Return a copy that is equal, in which no repr of a string shows a secret."""
    conceal = conceal or is_secret_name(name)
    if isinstance(value, Mapping):
        return {key: for_connector(item, key, conceal=conceal) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(for_connector(item, name, conceal=conceal) for item in value)
    if isinstance(value, str) and (conceal or _secrets_in(value, name)):
        return Concealed(value)
    return value


def secrets(value: object, name: str = '', *, conceal: bool = False) -> Iterator[str]:
    """Yield the secret values of the tree."""
    conceal = conceal or is_secret_name(name)
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from secrets(item, key, conceal=conceal)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from secrets(item, name, conceal=conceal)
    elif conceal and _can_be_secret(value):
        yield str(value)
        # Of a Ceph keyring a tool may print the key alone.
        yield from KEY_IN_KEYRING.findall(str(value))
    else:
        yield from _secrets_in(value, name)


def _can_be_secret(value: object) -> bool:
    return value is not None and not isinstance(value, bool)


def _secrets_in(value: object, name: str) -> frozenset[str]:
    """Return the secrets that are parts of a value."""
    if not isinstance(value, str):
        return frozenset()
    found = url_passwords(value)
    return found | mount_options.secrets(value) if name in _OPTION_KEYS else found
