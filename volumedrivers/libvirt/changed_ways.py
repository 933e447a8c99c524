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

"""The ways to a volume, before and after the storage has changed them.

Pure: nothing of this host is looked at.  Only of protocols whose paths this
host can add and take away one by one: iSCSI, Fibre Channel and NVMe.
"""

from collections.abc import Iterable
import typing

from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.connection_info import FibreChannelData
from volumedrivers.connection_info import IscsiData
from volumedrivers.connection_info import IscsiTarget
from volumedrivers.connection_info import NvmeData
from volumedrivers.connection_info import NvmePortal
from volumedrivers.libvirt import iscsi_ways


class FcWay(typing.NamedTuple):
    """One way of Fibre Channel."""

    wwpn: str
    lun: int

    def __str__(self) -> str:
        return self.wwpn


class NvmeWay(typing.NamedTuple):
    """One way of NVMe."""

    nqn: str
    portal: NvmePortal

    def __str__(self) -> str:
        return str(self.portal.portal)


Way = IscsiTarget | FcWay | NvmeWay

# Where an earlier connection of a volume was; no way to it.
_RESULTS = ('device_path', 'multipath_id')


def ways(connection_info: ConnectionInfo) -> tuple[Way, ...]:
    """Return the ways that a connection_info names; none: they are not such paths."""
    data = connection_info.data
    if isinstance(data, IscsiData):
        return data.targets
    if isinstance(data, FibreChannelData):
        return tuple(FcWay(*way) for way in zip(data.wwpns, data.luns, strict=True))
    if isinstance(data, NvmeData) and len(data.targets) == 1 and data.alias is None:
        (target,) = data.targets
        return tuple(NvmeWay(target.nqn, portal) for portal in target.portals)
    return ()


def written(way: Way) -> str:
    """Return what a person knows a way by."""
    return f'{way.portal} {way.iqn}' if isinstance(way, IscsiTarget) else str(way)


def gone(old: ConnectionInfo, new: ConnectionInfo, also: Iterable[str] = ()) -> tuple[Way, ...]:
    """Return the ways that were named, and are not any more.

    :param also: ways that are found by way of the new ones, as ``written``
    """
    still = {written(way) for way in ways(new)} | set(also)
    return tuple(way for way in ways(old) if written(way) not in still)


def are_of_one_device(old: ConnectionInfo, new: ConnectionInfo) -> bool:
    """Tell whether this host makes one device of both.

    Of NVMe only the paths of one subsystem come together; of SCSI whatever
    tells the same identity.
    """
    if type(old.data) is not type(new.data) or not ways(old) or not ways(new):
        return False
    if isinstance(new.data, NvmeData):
        return {way.nqn for way in ways(old) if isinstance(way, NvmeWay)} == {
            way.nqn for way in ways(new) if isinstance(way, NvmeWay)
        }
    return True


def with_ways(connection_info: ConnectionInfo, named: Iterable[Way]) -> ConnectionInfo:
    """Return a connection_info of the same volume that names exactly these ways.

    Its secrets are ``***``: it is for the journal, and for a removal.

    :param named: at least one, of the same protocol; of NVMe, of one subsystem
    """
    shown = typing.cast(dict[str, typing.Any], connection_info.to_dict())
    data = {key: value for key, value in shown['data'].items() if key not in _RESULTS}
    found = tuple(dict.fromkeys(named))
    first = found[0]
    if isinstance(first, IscsiTarget):
        targets = [way for way in found if isinstance(way, IscsiTarget)]
        iscsi_ways.write(data, targets)
        data.update(target_portal=str(first.portal), target_iqn=first.iqn, target_lun=first.lun)
    elif isinstance(first, FcWay):
        _name_ports(data, [way for way in found if isinstance(way, FcWay)])
    else:
        _name_portals(
            data, connection_info, [way.portal for way in found if isinstance(way, NvmeWay)]
        )
    return ConnectionInfo.parse({**shown, 'data': data})


def _name_ports(data: dict[str, typing.Any], named: list[FcWay]) -> None:
    for key in ('target_wwn', 'target_lun'):
        data.pop(key, None)
    data['target_wwns'] = [way.wwpn for way in named]
    data['target_luns'] = [way.lun for way in named]
    initiators = data.get('initiator_target_map')
    if initiators:
        # Which adapter sees which port is not known of those that were added.
        data['initiator_target_map'] = dict.fromkeys(initiators, data['target_wwns'])
        data.pop('initiator_target_lun_map', None)


def _name_portals(
    data: dict[str, typing.Any], connection_info: ConnectionInfo, named: list[NvmePortal]
) -> None:
    assert isinstance(connection_info.data, NvmeData)  # noqa: S101
    (target,) = connection_info.data.targets
    if 'target_nqn' not in data:
        # The older form has one portal.
        for key in ('nqn', 'target_portal', 'target_port', 'transport_type'):
            data.pop(key, None)
        data['target_nqn'] = target.nqn
    data['portals'] = [
        [portal.portal.host, portal.portal.port, portal.transport] for portal in named
    ]
