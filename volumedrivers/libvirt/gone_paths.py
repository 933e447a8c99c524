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

"""Take the paths of a volume away that lead to portals which are gone.

The volume stays, and whoever has it open notices nothing: the last path that
works is never taken.  os-brick removes a volume as a whole only, with the map
over it.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import functools
import os
import time
import typing

from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.connection_info import IscsiTarget
from volumedrivers.host import brick
from volumedrivers.host import iscsi_session
from volumedrivers.host import nvme_controller
from volumedrivers.host.sysfs import listdir
from volumedrivers.libvirt import changed_ways
from volumedrivers.libvirt import disk_answers
from volumedrivers.libvirt.asked_paths import asked_paths
from volumedrivers.libvirt.changed_ways import NvmeWay
from volumedrivers.libvirt.changed_ways import Way
from volumedrivers.libvirt.volume_devices import known_identity
from volumedrivers.libvirt.volume_devices import readable
from volumedrivers.privsep import nvme
from volumedrivers.privsep import scsi

if typing.TYPE_CHECKING:
    from volumedrivers.host.block_device import BlockDevices
    from volumedrivers.libvirt.connected_volume import ConnectedVolume
    from volumedrivers.libvirt.driver import VolumeDriver

LOG = logging.getLogger(__name__)

#: seconds that multipathd may take to drop a path that the kernel has forgotten
MAP_TIME = 5.0
_POLL = 0.1


@dataclasses.dataclass(frozen=True)
class Removal:
    """What became of the ways that are gone.

    :ivar removed: nothing of them is on this host
    :ivar left: (way, why it is still there)
    """

    removed: tuple[Way, ...] = ()
    left: tuple[tuple[Way, str], ...] = ()


def remove(
    driver: 'VolumeDriver',
    devices: 'BlockDevices',
    connection_info: ConnectionInfo,
    attachment: str,
    volume: 'ConnectedVolume',
    *,
    gone: Sequence[Way],
) -> Removal:
    """Remove the paths of these ways, and then what was made to get there.

    Only what is the recorded volume: another volume of the same target stays,
    and with it the session or controller.

    :param driver: that of the client which connected the volume
    :param connection_info: the one that names other ways
    :param volume: as it is connected now; it has an identity
    :raises IdentityMismatch: what is behind such a way is another volume by now
    :raises HostUnreadable, DisconnectFailed
    """
    if not gone or volume.path is None:
        return Removal()
    if isinstance(gone[0], NvmeWay):
        return _remove_controllers(devices, volume, gone)
    behind = {way: _disks(devices, connection_info, way) for way in gone}
    doomed = tuple(dict.fromkeys(name for names in behind.values() for name in names))
    _require_the_volume(devices, volume, doomed)
    if not _others_work(devices, volume.path, doomed):
        return Removal(left=tuple((way, 'no other path works') for way in gone))
    for name in doomed:
        scsi.delete_device(name)
    stays = _wait_until_dropped(devices, volume.path, doomed)
    left = tuple(
        (way, f'{", ".join(sorted(stays & set(names)))} is still in the map')
        for way, names in behind.items()
        if stays & set(names)
    )
    empty = [way for way in gone if way not in dict(left)]
    left += _log_out(driver, connection_info, attachment, empty)
    return Removal(tuple(way for way in gone if way not in dict(left)), left)


def _disks(devices: 'BlockDevices', connection_info: ConnectionInfo, way: Way) -> tuple[str, ...]:
    """Return the kernel's names of what is behind a way."""
    named = changed_ways.with_ways(connection_info, (way,))
    with readable('sysfs'):
        names = [
            name
            for asked in asked_paths(named.data, use_multipath=True)
            if asked.link is not None
            for name in devices.by_path(asked.link)
        ]
        if isinstance(way, IscsiTarget):
            names += [
                disk
                for session in iscsi_session.sessions(devices.sysfs)
                for lun, disk in session.disks
                if (session.portal, session.target, lun) == (str(way.portal), way.iqn, way.lun)
            ]
    return tuple(dict.fromkeys(names))


def _require_the_volume(
    devices: 'BlockDevices', volume: 'ConnectedVolume', names: Iterable[str]
) -> None:
    recorded = known_identity(volume)
    for name in names:
        with readable(name):
            found = devices.identity_of_name(name)
        # A path that never answered tells nothing.
        if found is not None and found != recorded:
            raise exception.IdentityMismatch(
                path=f'{devices.dev}/{name}',
                found=':'.join(found),
                expected=str(volume.identity),
                volume_id=volume.volume_id,
            )
    disk_answers.refuse_changed(devices, names, volume.volume_id)


def _others_work(devices: 'BlockDevices', path: str, doomed: Iterable[str]) -> bool:
    there = devices.paths(path)
    broken = dict(there.failed)
    return bool(set(there.names) - set(broken) - set(doomed))


def _wait_until_dropped(
    devices: 'BlockDevices', path: str, doomed: Iterable[str]
) -> frozenset[str]:
    """Return those that are still under the volume."""
    end = time.monotonic() + MAP_TIME
    while True:
        stays = frozenset(devices.paths(path).names) & frozenset(doomed)
        if not stays or time.monotonic() >= end:
            return stays
        time.sleep(_POLL)


def _log_out(
    driver: 'VolumeDriver',
    connection_info: ConnectionInfo,
    attachment: str,
    empty: Sequence[Way],
) -> tuple[tuple[Way, str], ...]:
    """Let os-brick log out of the sessions that lead to nothing any more."""
    if not empty or not isinstance(empty[0], IscsiTarget):
        return ()
    named = changed_ways.with_ways(connection_info, empty)
    # os-brick would look for its link to an encrypted volume, which stays.
    named = named.updated({}, {'encrypted': False})
    try:
        # Without the volume's record: by it all of the volume would go.
        driver.disconnect_volume(named, attachment)
    except exception.VolumeDriversError as error:
        LOG.warning('Logging out of %s: %s', ', '.join(map(changed_ways.written, empty)), error)
        return tuple((way, str(error)) for way in empty)
    return ()


def _remove_controllers(
    devices: 'BlockDevices', volume: 'ConnectedVolume', gone: Sequence[Way]
) -> Removal:
    recorded = known_identity(volume)
    assert volume.path is not None  # noqa: S101
    with readable('/sys/block'):
        known = () if recorded is None else devices.leftovers(recorded)
    mine = frozenset(os.path.basename(path) for path in known)
    removed: list[Way] = []
    left: list[tuple[Way, str]] = []
    for way in gone:
        assert isinstance(way, NvmeWay)  # noqa: S101
        through = _controllers(devices, way)
        others = {each for seen in through.values() for each in seen - mine}
        doomed = _paths_of(devices, volume.path, through)
        if others:
            left.append((way, f'it leads to {", ".join(sorted(others))} as well'))
        elif doomed and not _others_work(devices, volume.path, doomed):
            left.append((way, 'no other path works'))
        else:
            brick.under_connect_lock(functools.partial(_delete, tuple(through)))
            removed.append(way)
    return Removal(tuple(removed), tuple(left))


def _controllers(devices: 'BlockDevices', way: NvmeWay) -> dict[str, frozenset[str]]:
    address = (way.portal.portal.host, str(way.portal.portal.port))
    with readable('/sys/class/nvme'):
        return nvme_controller.controllers(way.nqn, {address}, sysfs=devices.sysfs)


def _paths_of(devices: 'BlockDevices', path: str, controllers: Iterable[str]) -> tuple[str, ...]:
    """Return which paths of a namespace lead through controllers, as they are counted."""
    names = frozenset(devices.paths(path).names)
    with readable('/sys/class/nvme'):
        through = {
            entry
            for controller in controllers
            for entry in (
                controller,
                *listdir(os.path.join(devices.sysfs, 'class', 'nvme', controller)),
            )
        }
    return tuple(sorted(names & through))


def _delete(names: Iterable[str]) -> None:
    for name in names:
        nvme.delete_controller(name)
