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

"""Cinder's connection_info, read once.

The only place that knows Cinder's keys.  ``ConnectionInfo.parse`` checks and
freezes; the caller's dictionary is never changed, and os-brick gets a copy of
its own from ``to_connector``.
"""

from collections.abc import Mapping
import dataclasses
import logging
import re
import typing

from volumedrivers import connection_tree
from volumedrivers import connection_values as values
from volumedrivers import exception
from volumedrivers.connection_schema import SCHEMAS
from volumedrivers.connection_values import Keys
from volumedrivers.protocol_data import Chap
from volumedrivers.protocol_data import Concealed
from volumedrivers.protocol_data import FibreChannelData
from volumedrivers.protocol_data import FrozenMapping
from volumedrivers.protocol_data import HuaweiSdsData
from volumedrivers.protocol_data import IscsiData
from volumedrivers.protocol_data import IscsiTarget
from volumedrivers.protocol_data import LightOSData
from volumedrivers.protocol_data import LocalData
from volumedrivers.protocol_data import Monitor
from volumedrivers.protocol_data import NvmeData
from volumedrivers.protocol_data import NvmePortal
from volumedrivers.protocol_data import NvmeTarget
from volumedrivers.protocol_data import Portal
from volumedrivers.protocol_data import ProtocolData
from volumedrivers.protocol_data import RbdData
from volumedrivers.protocol_data import ScaleIOData
from volumedrivers.protocol_data import Secret
from volumedrivers.protocol_data import ShareData
from volumedrivers.protocol_data import StorPoolData

__all__ = [
    'Chap',
    'ConnectionInfo',
    'FibreChannelData',
    'FrozenMapping',
    'HuaweiSdsData',
    'IscsiData',
    'IscsiTarget',
    'LightOSData',
    'LocalData',
    'Monitor',
    'NvmeData',
    'NvmePortal',
    'NvmeTarget',
    'Portal',
    'ProtocolData',
    'RbdData',
    'ScaleIOData',
    'Secret',
    'ShareData',
    'StorPoolData',
]

LOG = logging.getLogger(__name__)

_LIMIT = re.compile(r'(total|read|write)_(bytes|iops)_sec(_max(_length)?)?|size_iops_sec')


class _Sealed:
    """Holds what Cinder sent, so that repr, asdict and JSON cannot show it."""

    __slots__ = ('_value',)

    def __init__(self, value: dict[str, typing.Any]) -> None:
        self._value = value

    def open(self) -> dict[str, typing.Any]:
        return self._value

    def __repr__(self) -> str:
        return '***'

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Sealed) and self._value == other._value

    __hash__ = None  # type: ignore[assignment]


@dataclasses.dataclass(frozen=True)
class ConnectionInfo:
    """One volume as Cinder describes it to this host.

    ``data`` is None for a driver_volume_type that this package has no schema
    for (a vendor's): its keys are all in ``unknown``.
    """

    driver_volume_type: str
    data: ProtocolData
    volume_id: str | None  # data.volume_id, or the serial, as Nova has it
    serial: str | None
    multiattach: bool
    access_mode: typing.Literal['rw', 'ro'] | None
    qos_specs: Mapping[str, str]  # unknown ones are kept
    discard: bool
    cacheable: bool
    encrypted: bool
    logical_block_size: int | None  # bytes
    physical_block_size: int | None  # bytes
    device_path: str | None  # where an earlier connect left it (Nova stores it)
    multipath_id: str | None
    enforce_multipath: bool | None
    unknown: Mapping[str, object]  # keys of data that no schema knows
    _raw: _Sealed = dataclasses.field(repr=False, hash=False)

    @classmethod
    def parse(cls, raw: Mapping[str, object]) -> 'ConnectionInfo':
        """Check and freeze what Cinder sent.

        :param raw: ``{'driver_volume_type': str, 'data': {...}, ...}`` as
            Cinder's attachment or initialize_connection gives it
        :raises InvalidConnectionInfo: names the key, what was there (secrets
            by their type and length only) and what is expected
        :raises InvalidVolumeAccessMode: access_mode is neither rw nor ro
        :raises PathOutsideShare: the name of a file leads out of its share
        """
        copied = _copy(raw)
        top = Keys(_type_of(copied), copied, where='')
        driver_volume_type = top.required('driver_volume_type', values.text)
        data = Keys(driver_volume_type, top.required('data', _data))
        schema = SCHEMAS.get(driver_volume_type)
        serial = top.optional('serial', values.identifier)
        volume_id = data.optional('volume_id', values.identifier)
        common: dict[str, typing.Any] = {
            'driver_volume_type': driver_volume_type,
            'serial': serial,
            'volume_id': volume_id or serial,
            'multiattach': top.optional('multiattach', values.boolean) or False,
            'access_mode': _access_mode(data),
            'qos_specs': _qos_specs(data),
            'discard': _discard(data),
            'cacheable': data.optional('cacheable', values.boolean) or False,
            'encrypted': data.optional('encrypted', values.boolean) or False,
            'logical_block_size': data.optional('logical_block_size', values.block_size),
            'physical_block_size': data.optional('physical_block_size', values.block_size),
            'device_path': data.optional('device_path', values.text),
            'multipath_id': data.optional('multipath_id', values.text),
            'enforce_multipath': data.optional('enforce_multipath', values.boolean),
        }
        typed = schema(data) if schema is not None else None
        unknown = connection_tree.freeze(data.rest() if schema is not None else copied['data'])
        return cls(
            data=typed,
            unknown=typing.cast(FrozenMapping[object], unknown),
            _raw=_Sealed(copied),
            **common,
        )

    def data_as(self, driver_volume_type: str) -> ProtocolData:
        """Read ``data`` by the keys of a type that this package has a schema for.

        For a vendor's driver whose volumes are described as those of, say,
        nfs or iscsi are.

        :raises InvalidConnectionInfo, PathOutsideShare: as ``parse`` does
        """
        keys = Keys(self.driver_volume_type, self._raw.open()['data'])
        return SCHEMAS[driver_volume_type](keys)

    def updated(self, top: Mapping[str, object], data: Mapping[str, object]) -> 'ConnectionInfo':
        """Return another one, with these keys beside the others, secrets and all.

        :param top: beside driver_volume_type
        :param data: within ``data``
        :raises InvalidConnectionInfo: as ``parse`` does
        """
        raw = self._raw.open()
        return ConnectionInfo.parse({**raw, **top, 'data': {**raw['data'], **data}})

    def to_connector(self) -> dict[str, object]:
        """Return a new copy of ``data`` for os-brick.

        Secrets revealed, though not in a repr; everything as Cinder sent it,
        but for spellings that os-brick would not recognise later: portals
        and WWNs.  The receiver may change it.
        """
        data: dict[str, typing.Any] = connection_tree.for_connector(self._raw.open()['data'])
        if isinstance(self.data, IscsiData):
            # iscsiadm lists sessions in this form, and os-brick's disconnect
            # compares it letter by letter.
            _respell(
                data,
                ('target_portal', 'target_portals'),
                lambda portal: str(values.portal(portal)),
            )
        elif isinstance(self.data, FibreChannelData):
            # os-brick makes the names of devices from them.
            _respell(data, ('target_wwn', 'target_wwns'), _plain_wwn)
        elif isinstance(self.data, ShareData) and self.data.password is not None:
            data['export'] = Concealed(data['export'])
        return data

    def to_dict(self) -> dict[str, object]:
        """Return the whole connection_info, JSON-able, secrets shown as ``***``."""
        shown = connection_tree.shown(self._raw.open())
        if isinstance(self.data, ShareData) and self.data.password is not None:
            shown['data']['export'] = f'{self.data.export}:***'
        return typing.cast(dict[str, object], shown)

    def secrets(self) -> frozenset[str]:
        """Return every secret value, to take them out of what others print."""
        found = set(connection_tree.secrets(self._raw.open()))
        if isinstance(self.data, ShareData) and self.data.password is not None:
            found.add(self.data.password.reveal())
        return frozenset(value for value in found if value)


def _copy(raw: object) -> dict[str, typing.Any]:
    if not isinstance(raw, Mapping):
        raise exception.InvalidConnectionInfo(
            driver_volume_type='?',
            key='connection_info',
            found=values.describe(raw, conceal=True),
            expected='a mapping with driver_volume_type and data',
        )
    try:
        return typing.cast(dict[str, typing.Any], connection_tree.plain_copy(raw))
    except values.Unfit as unfit:
        error = exception.InvalidConnectionInfo(
            driver_volume_type=_type_of(raw),
            key=unfit.where,
            found=values.describe(unfit.value, conceal=True),
            expected=unfit.expected,
        )
    raise error


def _type_of(raw: Mapping[str, object]) -> str:
    name = raw.get('driver_volume_type')
    return values.shorten(name) if isinstance(name, str) and name else '?'


def _data(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        # It could be the whole of it as JSON, passwords included.
        raise values.Unfit('a mapping', conceal=True)
    return value


def _access_mode(data: Keys) -> str | None:
    def check(value: object) -> str | None:
        if value not in ('rw', 'ro', ''):
            raise values.Unfit('rw or ro')
        return str(value) or None

    try:
        return data.optional('access_mode', check)
    except exception.InvalidConnectionInfo as error:
        refused = exception.InvalidVolumeAccessMode(error.details)
    raise refused


def _discard(data: Keys) -> bool:
    # Only true counts for Nova.  A guest that was started with anything else
    # has no discard, so this is no reason to refuse it.
    value = data.optional('discard', _as_it_is)
    if value is not None and not isinstance(value, bool):
        LOG.warning(
            'data.discard is %s; expected true or false; treated as false', values.describe(value)
        )
    return value is True


def _qos_specs(data: Keys) -> Mapping[str, str]:
    specs = data.optional('qos_specs', _as_it_is)
    if specs is None:
        return FrozenMapping()
    if not isinstance(specs, Mapping):
        # Nova goes on without limits; an existing guest has to be taken over.
        LOG.warning(
            'data.qos_specs is %s; expected a mapping; treated as none', values.describe(specs)
        )
        return FrozenMapping()
    keys = Keys(data.driver_volume_type, specs, 'data.qos_specs')
    limits = {key: keys.optional(key, _limit if _LIMIT.fullmatch(key) else _spec) for key in specs}
    return FrozenMapping({key: limit for key, limit in limits.items() if limit is not None})


def _limit(value: object) -> str:
    values.count(value)
    return str(value)


def _spec(value: object) -> str:
    if not isinstance(value, str | int | float) or not values.is_printable(str(value)):
        raise values.Unfit('a string or a number')
    return str(value)


def _as_it_is(value: object) -> object:
    return value


def _respell(
    data: dict[str, typing.Any], keys: tuple[str, ...], spell: typing.Callable[[object], str]
) -> None:
    for key in keys:
        value = data.get(key)
        if isinstance(value, list | tuple):
            data[key] = type(value)(spell(item) for item in value)
        elif value is not None:
            data[key] = spell(value)


def _plain_wwn(value: object) -> str:
    plain = values.wwn(value)
    return str(value) if str(value).lower() == plain else plain
