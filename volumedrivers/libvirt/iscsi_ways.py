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

"""Through which portals an iSCSI volume is reached, beyond those Cinder names.

With one portal in the connection_info and multipath, os-brick asks that portal
for others, logs in to all of them, and takes 124 s for one that is down.  So
they are asked for here first; os-brick is given those that answer, as lists,
and asks for no others then.  A removal is told of them again, as the kernel's
sessions show them.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import typing

from volumedrivers.connection_info import IscsiData
from volumedrivers.connection_info import IscsiTarget
from volumedrivers.host import iscsi_discovery
from volumedrivers.host import iscsi_session
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.volume_devices import known_identity
from volumedrivers.libvirt.volume_devices import readable

LISTS = ('target_portals', 'target_iqns', 'target_luns')


def has_lists(properties: Mapping[str, object]) -> bool:
    """Tell whether Cinder names all portals itself, as os-brick decides it."""
    return 'target_portals' in properties and 'target_iqns' in properties


def chosen(target: IscsiTarget, found: Sequence[iscsi_discovery.Found]) -> tuple[IscsiTarget, ...]:
    """Return the ways to a volume among all that a portal tells of.

    Where each portal has one target, of its own, they are all the volume's: so
    are some arrays.  Elsewhere it is the volume's target alone; another one on
    the same portal has other volumes, which os-brick would connect as well.
    """
    mine = [way for way in found if way.iqn == target.iqn]
    portals = {way.portal for way in found}
    if len(mine) != 1 or len(portals) != len(found):
        found = mine
    ways = [IscsiTarget(way.portal, way.iqn, target.lun) for way in found]
    if target not in ways:
        # Cinder knows it by an address of its own.
        ways.insert(0, target)
    return tuple(ways)


def write(properties: dict[str, typing.Any], ways: Sequence[IscsiTarget]) -> None:
    """Let os-brick take exactly these ways."""
    properties['target_portals'] = [str(way.portal) for way in ways]
    properties['target_iqns'] = [way.iqn for way in ways]
    properties['target_luns'] = [way.lun for way in ways]


def leave_out(
    properties: dict[str, typing.Any], data: IscsiData, dead: Mapping[str | None, str]
) -> None:
    """Take dead portals out of the lists that os-brick is told."""
    alive = [index for index, way in enumerate(data.targets) if str(way.portal) not in dead]
    for key in LISTS:
        if dead and isinstance(properties.get(key), list):
            properties[key] = [properties[key][index] for index in alive]


def connected(
    devices: BlockDevices, data: IscsiData, volume: ConnectedVolume | None
) -> tuple[IscsiTarget, ...]:
    """Return the asked way, and others that the volume came through.

    Known by the volume's identity; without a record by target and LUN, as are
    logins that a connection was interrupted after.  Nothing where the kernel
    has no session that could be of the volume.

    :raises HostUnreadable
    """
    (target,) = data.targets
    recorded = known_identity(volume)
    ways: list[IscsiTarget] = []
    with readable('/sys/class/iscsi_session'):
        for session in iscsi_session.sessions(devices.sysfs):
            lun = _lun_of(devices, session, target, recorded)
            portal = session.portal and iscsi_discovery.parse_portal(session.portal)
            if lun is None or not portal or session.target is None:
                continue
            way = IscsiTarget(portal, session.target, lun)
            if way not in ways:
                ways.append(way)
    return tuple(dict.fromkeys((target, *ways))) if ways else ()


def _lun_of(
    devices: BlockDevices,
    session: iscsi_session.Session,
    target: IscsiTarget,
    recorded: tuple[str, str] | None,
) -> int | None:
    """Return the LUN of the volume in a session; None: it is not behind it."""
    if session.is_empty:
        return target.lun if session.target == target.iqn else None
    for lun, disk in session.disks:
        if recorded is not None and devices.identity_of_name(disk) == recorded:
            return lun
        if recorded is None and (session.target, lun) == (target.iqn, target.lun):
            return lun
    return None
