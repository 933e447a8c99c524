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

"""What a connection_info says, as types: one class a protocol.

Nothing here reads a dictionary; ``connection_schema`` does that.  Every type
is frozen, and none shows a secret in its repr.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import typing

T_co = typing.TypeVar('T_co', covariant=True)


class Secret:
    """A value that no log, exception, repr or JSON shows."""

    __slots__ = ('_value',)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself; call it where it is handed over, not before."""
        return self._value

    def __repr__(self) -> str:
        return '***'

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return '***'

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)


class Concealed(str):
    """A string with a secret in it; a repr does not show it.

    So a log of the properties, or a traceback with locals, does not either.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class FrozenMapping(Mapping[str, T_co]):
    """A mapping that nobody can change; unlike mappingproxy it can be copied."""

    __slots__ = ('_items',)

    def __init__(self, items: Mapping[str, T_co] | None = None) -> None:
        self._items = dict(items or {})

    def __getitem__(self, key: str) -> T_co:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return repr(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))


@dataclasses.dataclass(frozen=True)
class Portal:
    """One address of a target; ``host`` without brackets, lower case.

    The zone of a link-local address keeps its case: it names an interface.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f'[{self.host}]:{self.port}' if ':' in self.host else f'{self.host}:{self.port}'


@dataclasses.dataclass(frozen=True)
class Monitor:
    """One Ceph monitor; ``host`` as Cinder spells it, without brackets."""

    host: str
    port: int | None = None  # None: the client's default


@dataclasses.dataclass(frozen=True)
class Chap:
    """CHAP credentials."""

    username: str
    password: Secret


@dataclasses.dataclass(frozen=True)
class IscsiTarget:
    """One way to an iSCSI or iSER logical unit."""

    portal: Portal
    iqn: str
    lun: int


@dataclasses.dataclass(frozen=True)
class IscsiData:
    targets: tuple[IscsiTarget, ...]
    auth: Chap | None = None
    discovery_auth: Chap | None = None


@dataclasses.dataclass(frozen=True)
class FibreChannelData:
    wwpns: tuple[str, ...]  # 16 lower-case hexadecimal digits each
    luns: tuple[int, ...]  # as many as wwpns
    initiator_target_map: Mapping[str, tuple[str, ...]] = FrozenMapping()


@dataclasses.dataclass(frozen=True)
class NvmePortal:
    portal: Portal  # fc: the nn-0x...:pn-0x... address, port 0
    transport: str  # tcp, rdma or fc


@dataclasses.dataclass(frozen=True)
class NvmeTarget:
    nqn: str
    portals: tuple[NvmePortal, ...]
    vol_uuid: str | None = None  # lower case with hyphens, as sysfs shows it
    nguid: str | None = None  # the same
    ns_id: int | None = None


@dataclasses.dataclass(frozen=True)
class NvmeData:
    targets: tuple[NvmeTarget, ...]  # more than one: a replicated volume
    replica_count: int = 1
    alias: str | None = None
    host_nqn: str | None = None


@dataclasses.dataclass(frozen=True)
class LightOSData:
    subsystem_nqn: str
    uuid: str
    portals: tuple[NvmePortal, ...]


@dataclasses.dataclass(frozen=True)
class ScaleIOData:
    volume_name: str
    scaleio_volume_id: str | None = None


@dataclasses.dataclass(frozen=True)
class StorPoolData:
    volume: str
    client_id: int


@dataclasses.dataclass(frozen=True)
class HuaweiSdsData:
    volume_id: str


@dataclasses.dataclass(frozen=True)
class LocalData:
    """A path that Cinder itself names: drivers local and gpfs."""

    device_path: str  # absolute


@dataclasses.dataclass(frozen=True)
class ShareData:
    """A file on a share: nfs, smbfs, glusterfs, quobyte, vzstorage, scality.

    ``options`` are single mount options without ``-o``, such as ``vers=4``;
    for vzstorage they are the words of a command line.  ``secret_options``
    holds those that carry a secret, in the same form, joined by commas.
    """

    export: str  # as Cinder gave it; a VZ password is cut out
    name: str  # relative, without ``..``
    format: str | None = None  # None: Cinder did not say
    options: tuple[str, ...] = ()
    secret_options: Secret | None = None
    password: Secret | None = None  # of a VZ cluster


@dataclasses.dataclass(frozen=True)
class RbdData:
    pool: str
    namespace: str | None
    image: str
    monitors: tuple[Monitor, ...]  # empty: ceph.conf of the host names them
    auth_enabled: bool = False
    auth_username: str | None = None
    secret_uuid: str | None = None  # '' when Cinder sent an empty one
    secret_type: str | None = None
    cluster_name: str | None = None
    keyring: Secret | None = None

    @property
    def name(self) -> str:
        """pool[/namespace]/image, as QEMU and libvirt write it."""
        return '/'.join(part for part in (self.pool, self.namespace, self.image) if part)


ProtocolData = (
    IscsiData
    | FibreChannelData
    | NvmeData
    | LightOSData
    | ScaleIOData
    | StorPoolData
    | HuaweiSdsData
    | LocalData
    | ShareData
    | RbdData
    | None
)
