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

"""How many ways to a volume were asked for, and which of them are there."""

from collections.abc import Mapping
import time
import types
import typing

from volumedrivers.connection_info import FibreChannelData
from volumedrivers.connection_info import IscsiData
from volumedrivers.connection_info import LightOSData
from volumedrivers.connection_info import NvmeData
from volumedrivers.connection_info import ProtocolData
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.libvirt.connected_volume import FailedPath
from volumedrivers.libvirt.connected_volume import PathReport

_NO_REASONS: Mapping[str | None, str] = types.MappingProxyType({})


# Seconds that the portals of a volume get once one of them has answered: the
# volume is usable, and what comes later is added by a repair.  A lost packet is
# sent again after one second.
GRACE = 2.0
_POLL = 0.1


class AskedPath(typing.NamedTuple):
    """One way to a volume.

    :ivar name: what a person knows it by
    :ivar portal: ``host:port`` as endpoints are written; None for Fibre Channel
    :ivar link: how udev's name of it under /dev/disk/by-path ends; None where
        udev gives none
    """

    name: str
    link: str | None = None
    portal: str | None = None


class Ways(typing.NamedTuple):
    """The ways that a connection goes.

    :ivar asked: all; none where one is enough
    :ivar dead: why a portal is not even tried, by ``host:port``
    """

    asked: tuple[AskedPath, ...] = ()
    dead: Mapping[str | None, str] = _NO_REASONS


def asked_paths(data: ProtocolData, *, use_multipath: bool) -> tuple[AskedPath, ...]:
    """Return the ways that a connection_info names; one where one is enough."""
    # LightOS always connects all of its nodes.
    if not use_multipath and not isinstance(data, LightOSData):
        return ()
    if isinstance(data, IscsiData):
        return tuple(
            AskedPath(
                f'{target.portal} {target.iqn}',
                f'ip-{target.portal.host}:{target.portal.port}'
                f'-iscsi-{target.iqn}-lun-{_lun(target.lun)}',
                str(target.portal),
            )
            for target in data.targets
        )
    if isinstance(data, FibreChannelData):
        return tuple(
            AskedPath(wwpn, f'-fc-0x{wwpn}-lun-{_lun(lun)}')
            for wwpn, lun in zip(data.wwpns, data.luns, strict=True)
        )
    if isinstance(data, NvmeData):
        return tuple(
            AskedPath(str(way.portal), portal=str(way.portal))
            for target in data.targets
            for way in target.portals
        )
    if isinstance(data, LightOSData):
        return tuple(AskedPath(str(way.portal), portal=str(way.portal)) for way in data.portals)
    return ()


def report(
    devices: BlockDevices,
    path: str,
    asked: tuple[AskedPath, ...],
    dead: Mapping[str | None, str] = _NO_REASONS,
) -> PathReport:
    """Compare what was asked for with what the kernel has.

    :param asked: nothing: one path is enough
    :param dead: portals that were not even tried, and why
    :raises VolumeNotConnected: there is no such device
    """
    there = devices.paths(path)
    broken = dict(there.failed)
    failed = [FailedPath(name, state) for name, state in there.failed]
    if not asked:
        return PathReport(
            asked=1,
            found=0 if broken and len(broken) == len(there.names) else 1,
            failed=tuple(failed),
        )
    found = len(there.names) - len(broken)
    links = _links(devices, asked)
    if any(links.values()):
        found = 0
        for way, names in links.items():
            if set(names) & set(there.names) - set(broken):
                found += 1
            elif not set(names) & set(there.names):
                failed.append(FailedPath(way.name, _why_missing(way, names, dead)))
    else:
        failed += [FailedPath(way.name, dead[way.portal]) for way in asked if way.portal in dead]
    return PathReport(asked=len(asked), found=min(found, len(asked)), failed=tuple(failed))


def report_all(devices: BlockDevices, path: str, ways: Ways, seconds: float) -> PathReport:
    """Do as ``report`` does, once those that are about to come have come.

    :param seconds: that they may take
    :raises VolumeNotConnected: there is no such device
    """
    deadline = time.monotonic() + seconds
    while True:
        found = report(devices, path, ways.asked, ways.dead)
        if (
            found.found >= found.asked
            or time.monotonic() >= deadline
            or not is_growing(devices, path, ways.asked)
        ):
            return found
        time.sleep(_POLL)


def is_growing(devices: BlockDevices, path: str, asked: tuple[AskedPath, ...]) -> bool:
    """Tell whether more of the ways may be in use in a moment.

    os-brick returns as soon as a multipath map has one path; multipathd adds
    the others when udev is done with them.

    :raises VolumeNotConnected: there is no such device
    """
    there = set(devices.paths(path).names)
    return devices.is_changing() or any(
        names and not set(names) & there for names in _links(devices, asked).values()
    )


def _links(
    devices: BlockDevices, asked: tuple[AskedPath, ...]
) -> dict[AskedPath, tuple[str, ...]]:
    """Return the devices of each way, if udev names the devices of all of them."""
    if any(way.link is None for way in asked):
        return {}
    return {way: devices.by_path(way.link) for way in asked if way.link is not None}


def _why_missing(way: AskedPath, names: tuple[str, ...], dead: Mapping[str | None, str]) -> str:
    if way.portal in dead:
        return dead[way.portal]
    return f'{names[0]} is not in the multipath map' if names else 'no device appeared'


def _lun(lun: int) -> str:
    # The kernel writes luns beyond the peripheral addressing as 64 bits.
    return str(lun) if lun < 256 else f'0x{lun & 0xFFFF:04x}{lun >> 16 & 0xFFFF:04x}00000000'
