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

"""Values of a connection_info: how each kind is checked and written down.

A check is a function that takes what Cinder sent and returns it typed, or
raises Unfit with what was expected.  ``Keys`` calls them, names the key in
the error, and remembers which keys somebody knows.
"""

from collections.abc import Callable
from collections.abc import Mapping
import ipaddress
import re
import typing
import unicodedata
import uuid

from volumedrivers import exception
from volumedrivers.protocol_data import FrozenMapping
from volumedrivers.protocol_data import NvmePortal
from volumedrivers.protocol_data import Portal
from volumedrivers.protocol_data import Secret
from volumedrivers.secret_names import is_secret_name
from volumedrivers.secret_names import url_passwords

T = typing.TypeVar('T')
Check = Callable[[object], T]

ABSENT: typing.Final = object()  # what is found where there is no key

_LABEL = r'[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?'
_HOST_NAME = re.compile(rf'{_LABEL}(\.{_LABEL})*\.?', re.I)
_TARGET_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9._:+@%=-]{0,222}')
_FC_ADDRESS = re.compile(r'nn-0x[0-9a-f]{16}:pn-0x[0-9a-f]{16}', re.I)
_FILE_NAME = re.compile(r'[A-Za-z0-9_.][A-Za-z0-9_.:@+=-]*')
_FORMAT = re.compile(r'[A-Za-z0-9][A-Za-z0-9_-]*')
_DIGITS = re.compile(r'[0-9]{1,20}', re.ASCII)


class Unfit(Exception):
    """A value is not what was expected.

    :ivar where: where inside the value, such as ``[1]``
    :ivar value: the part that is wrong; ABSENT: the whole value
    :ivar conceal: the value may hold a secret
    """

    def __init__(
        self, expected: str, *, where: str = '', value: object = ABSENT, conceal: bool = False
    ) -> None:
        super().__init__(expected)
        self.expected = expected
        self.where = where
        self.value = value
        self.conceal = conceal


def shorten(text: str, limit: int = 60) -> str:
    """Cut a text for a message, on one line and in characters that can be shown."""
    text = text if is_printable(text) else ascii(text)[1:-1]
    return text if len(text) <= limit else f'{text[:limit]}...'


def describe(value: object, *, conceal: bool = False) -> str:
    """Say in a few words what was found; never what is inside a container."""
    found = f'a value of type {type(value).__name__}'
    if value is ABSENT:
        found = 'missing'
    elif value is None or isinstance(value, bool):
        found = repr(value)
    elif isinstance(value, Mapping):
        found = f'a mapping of {len(value)} keys'
    elif isinstance(value, list | tuple):
        found = f'a list of {len(value)} items'
    elif isinstance(value, str):
        found = f'a string of {len(value)} characters'
        if not value or not (conceal or url_passwords(value)):
            found = shorten(ascii(value)) if value else 'an empty string'
    elif isinstance(value, int | float) and not conceal and abs(value) < 2**64:
        found = repr(value)
    return found


class Keys:
    """The keys of one mapping, read one by one."""

    def __init__(
        self, driver_volume_type: str, values: Mapping[str, object], where: str = 'data'
    ) -> None:
        self.driver_volume_type = driver_volume_type
        self._values = values
        self._where = where
        self._known: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def required(self, key: str, check: Check[T]) -> T:
        """Return the checked value of a key that has to be there."""
        self._known.add(key)
        if key not in self._values:
            raise self.refuse(key, self._expectation(check))
        return self._checked(key, check)

    def optional(self, key: str, check: Check[T]) -> T | None:
        """Return the checked value; None when there is none, or it is None."""
        self._known.add(key)
        if self._values.get(key) is None:
            return None
        return self._checked(key, check)

    def known(self, *keys: str) -> None:
        """Keys that os-brick reads, or nobody; passed on as they are."""
        self._known.update(keys)

    def rest(self) -> dict[str, object]:
        """Return what nobody asked for."""
        return {key: value for key, value in self._values.items() if key not in self._known}

    def refuse(self, key: str, expected: str, *, conceal: bool = False) -> exception.BadInput:
        """Make the error for a key."""
        return self._error(key, self._values.get(key, ABSENT), expected, conceal)

    def _checked(self, key: str, check: Check[T]) -> T:
        value = self._values[key]
        try:
            return check(value)
        except Unfit as unfit:
            found = value if unfit.value is ABSENT else unfit.value
            error = self._error(
                key + unfit.where, found, unfit.expected, unfit.conceal or is_secret_name(key)
            )
        raise error

    def _error(
        self, key: str, found: object, expected: str, conceal: bool
    ) -> exception.InvalidConnectionInfo:
        return exception.InvalidConnectionInfo(
            driver_volume_type=shorten(self.driver_volume_type),
            key=f'{self._where}.{shorten(key)}' if self._where else shorten(key),
            found=describe(found, conceal=conceal or is_secret_name(key)),
            expected=expected,
        )

    def _expectation(self, check: Check[T]) -> str:
        # What a check wants is what it says when it is given nothing.
        try:
            check(ABSENT)
        except Unfit as unfit:
            return unfit.expected
        return 'a value'


# Plain values


def text(value: object) -> str:
    """Check a string that may go into XML, a path or an argument list."""
    if not isinstance(value, str) or not value or not is_printable(value):
        raise Unfit('a non-empty string without control characters')
    return value


def is_printable(value: str) -> bool:
    """Tell whether XML 1.0 and a C string can hold the value on one line."""
    return not any(
        unicodedata.category(char) in {'Cc', 'Cs'} or char in '\ufffe\uffff' for char in value
    )


def word(value: object) -> str:
    """Check a string that must not be taken for an option, nor split."""
    if (
        not isinstance(value, str)
        or not value
        or value.startswith('-')
        or not is_printable(value)
        or any(char.isspace() for char in value)
    ):
        raise Unfit('one word that does not begin with "-"')
    return value


def file_name(value: object) -> str:
    """Check a string that becomes part of a file name."""
    if not isinstance(value, str) or not _FILE_NAME.fullmatch(value) or '..' in value:
        raise Unfit('a name of letters, digits and _ . : @ + = -')
    return value


def identifier(value: object) -> str | None:
    """Check a volume id or serial; Nova also takes a number, and '' for none."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return str(value)
    if value == '':
        return None
    if not isinstance(value, str) or not is_printable(value):
        raise Unfit('a string without control characters')
    return value


def boolean(value: object) -> bool:
    """Check true or false; "False" is not, since it would count as true."""
    if not isinstance(value, bool):
        raise Unfit('true or false')
    return value


def integer(low: int, high: int) -> Check[int]:
    """Make the check for a number, also written as a string of digits."""

    def check(value: object) -> int:
        number = value
        if isinstance(value, str) and _DIGITS.fullmatch(value):
            number = int(value)
        if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
            raise Unfit(f'an integer from {low} to {high}')
        return number

    return check


port = integer(1, 65535)
count = integer(0, 2**63 - 1)
block_size = integer(1, 2**31 - 1)
lun = integer(0, 2**32 - 1)


def number(value: object) -> int:
    """Check a LUN that os-brick wants as a number, not as a string."""
    if not isinstance(value, int):
        raise Unfit('an integer from 0 to 4294967295')
    return lun(value)


def uuid_text(value: object) -> str:
    """Check a UUID in any usual writing; returned lower case, with hyphens."""
    try:
        if isinstance(value, str) and is_printable(value):
            return str(uuid.UUID(value))
    except ValueError:
        pass
    raise Unfit('a UUID')


def uuid_or_empty(value: object) -> str:
    """Check the UUID of a libvirt secret as it is written; '' stays ''."""
    if value != '':
        uuid_text(value)
    return typing.cast(str, value)


def image_format(value: object) -> str:
    """Check the name of an image format, such as raw."""
    if not isinstance(value, str) or not _FORMAT.fullmatch(value):
        raise Unfit('the name of an image format, such as raw or qcow2')
    return value


def absolute_path(value: object) -> str:
    """Check a path that means the same wherever it is used."""
    if (
        not isinstance(value, str)
        or not value.startswith('/')
        or not is_printable(value)
        or '..' in value.split('/')
    ):
        raise Unfit('an absolute path without ".."')
    return value


# Secrets


def secret(value: object) -> Secret:
    """Check and wrap a secret that goes into an argument or a file of one line."""
    if not isinstance(value, str) or not value or not is_printable(value):
        raise Unfit('a non-empty string without control characters', conceal=True)
    return Secret(value)


def secret_text(value: object) -> Secret:
    """Check and wrap a secret of several lines."""
    if (
        not isinstance(value, str)
        or not value
        or not is_printable(value.translate({9: None, 10: None, 13: None}))
    ):
        raise Unfit('a non-empty string without control characters', conceal=True)
    return Secret(value)


# Lists


def list_of(check: Check[T], *, empty: bool = False) -> Check[tuple[T, ...]]:
    """Make the check for a list."""

    def check_list(value: object) -> tuple[T, ...]:
        if not isinstance(value, list | tuple) or not (value or empty):
            raise Unfit('a list' if empty else 'a list with at least one item')
        result = []
        for index, item in enumerate(value):
            try:
                result.append(check(item))
            except Unfit as unfit:
                raise Unfit(
                    unfit.expected,
                    where=f'[{index}]{unfit.where}',
                    value=item if unfit.value is ABSENT else unfit.value,
                    conceal=unfit.conceal,
                ) from None
        return tuple(result)

    return check_list


def one_or_list_of(check: Check[T]) -> Check[tuple[T, ...]]:
    """Make the check for one value, or a list of them."""
    check_list = list_of(check)

    def check_one_or_list(value: object) -> tuple[T, ...]:
        return check_list(value) if isinstance(value, list | tuple) else (check(value),)

    return check_one_or_list


def mapping_of(check: Check[T]) -> Check[FrozenMapping[T]]:
    """Make the check for a mapping with any keys."""

    def check_mapping(value: object) -> FrozenMapping[T]:
        if not isinstance(value, Mapping):
            raise Unfit('a mapping')
        result = {}
        for key, item in value.items():
            try:
                result[key] = check(item)
            except Unfit as unfit:
                raise Unfit(
                    unfit.expected,
                    where=f'[{shorten(key)}]{unfit.where}',
                    value=item if unfit.value is ABSENT else unfit.value,
                    conceal=unfit.conceal or is_secret_name(key),
                ) from None
        return FrozenMapping(result)

    return check_mapping


# Addresses and names of the fabrics


def host(value: object) -> str:
    """Check a host name or address; brackets are cut off, lower case but the zone."""
    if isinstance(value, str):
        bare = value[1:-1] if value.startswith('[') and value.endswith(']') else value
        address, percent, zone = bare.partition('%')
        if ':' in address:
            if _is_address(address) and (not percent or _FILE_NAME.fullmatch(zone)):
                return address.lower() + percent + zone
        elif bare is value and (_is_address(bare) or _is_host_name(bare)):
            return bare.lower()
    raise Unfit('a host name, an IPv4 or an IPv6 address')


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _is_host_name(value: str) -> bool:
    # All digits and dots would be an address, and it is none.
    return (
        len(value) <= 255
        and _HOST_NAME.fullmatch(value) is not None
        and not value.replace('.', '').isdigit()
    )


def monitor_host(value: object) -> str:
    """Check a host; returned as it is spelled, without brackets."""
    host(value)
    return typing.cast(str, value).strip('[]')


def portal(value: object) -> Portal:
    """Check ``host:port``, with or without brackets and ``,tpgt``."""
    if isinstance(value, str):
        address, comma, tpgt = value.partition(',')
        name, colon, number_text = address.rpartition(':')
        if colon and (not comma or _DIGITS.fullmatch(tpgt)):
            try:
                return Portal(host(name), port(number_text))
            except Unfit:
                pass
    raise Unfit('host:port, an IPv6 address in brackets')


def target_name(value: object) -> str:
    """Check an IQN, EUI or NAA name.

    os-brick puts it into paths and patterns, so only what such names are made
    of is let through.
    """
    if not isinstance(value, str) or not _TARGET_NAME.fullmatch(value):
        raise Unfit('the name of an iSCSI target, such as iqn.2010-10.org.example:volume')
    return value


def nqn(value: object) -> str:
    """Check the name of an NVMe subsystem or host."""
    if not isinstance(value, str) or not _TARGET_NAME.fullmatch(value):
        raise Unfit('an NVMe qualified name, such as nqn.2014-08.org.example:volume')
    return value


def wwn(value: object) -> str:
    """Check a WWN; returned as 16 lower-case digits.

    os-brick puts it into a shell command.
    """
    if isinstance(value, str):
        digits = value.lower().removeprefix('0x')
        if re.fullmatch(r'[0-9a-f]{2}(:[0-9a-f]{2}){7}', digits):
            digits = digits.replace(':', '')
        if re.fullmatch(r'[0-9a-f]{16}', digits):
            return digits
    raise Unfit('a WWN of 16 hexadecimal digits')


def transport(value: object) -> str:
    """Check an NVMe transport, in the spellings that os-brick tells apart."""
    if value in ('rdma', 'RoCEv2'):
        return 'rdma'
    if isinstance(value, str) and value.lower() in ('tcp', 'fc'):
        return value.lower()
    raise Unfit('tcp, rdma, RoCEv2 or fc')


def nvme_portal(value: object) -> NvmePortal:
    """Check (address, port, transport)."""
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise Unfit('a list of address, port and transport')
    kind = _item(value, 2, transport)
    address = _item(value, 0, fc_address if kind == 'fc' else host)
    return NvmePortal(Portal(address, _item(value, 1, fc_port if kind == 'fc' else port)), kind)


def _item(value: list[object] | tuple[object, ...], index: int, check: Check[T]) -> T:
    try:
        return check(value[index])
    except Unfit as unfit:
        raise Unfit(unfit.expected, where=f'[{index}]', value=value[index]) from None


def fc_address(value: object) -> str:
    """Check the address of an NVMe port on Fibre Channel."""
    if not isinstance(value, str) or not _FC_ADDRESS.fullmatch(value):
        raise Unfit('nn-0x<16 digits>:pn-0x<16 digits>')
    return value.lower()


def fc_port(value: object) -> int:
    """Fibre Channel has no ports; Cinder fills in nothing, or anything."""
    if value is not None and not isinstance(value, str | int):
        raise Unfit('nothing')
    return 0
