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

"""What SCSI disks say they are when they are asked now.

sysfs has what each said when the kernel found it.  The kernel does not ask
again when a LUN is given to another volume: the disk keeps its name and its
old identity, and what is written to it goes to the new volume.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import itertools
import os
import time

from volumedrivers import exception
from volumedrivers.host import deadline
from volumedrivers.host import device_identity
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.volume_devices import readable
from volumedrivers.privsep import scsi

# Seconds that all the disks of one volume may take to say what they are.
ANSWER_TIME = 2.5
_AT_ONCE = 64


def changed(
    devices: BlockDevices, names: Iterable[str], *, seconds: float | None = None
) -> tuple[tuple[str, Identity, Identity], ...]:
    """Ask all disks at once; return those that are not what sysfs or their map says.

    A disk that does not answer tells nothing, nor does one whose path is
    down, which is not asked: it would keep whoever asks waiting.

    :param names: the kernel's; what is no SCSI disk is not asked
    :param seconds: that all may take together; default: ANSWER_TIME
    :returns: (name, what it is, what it was taken for)
    :raises HostUnreadable
    """
    end = time.monotonic() + (ANSWER_TIME if seconds is None else seconds)
    waiting = iter(dict.fromkeys(names))
    found: list[tuple[str, Identity, Identity]] = []
    while time.monotonic() < end and (group := tuple(itertools.islice(waiting, _AT_ONCE))):
        found += _changed(devices, group, end)
    return tuple(found)


def refuse_changed(devices: BlockDevices, names: Iterable[str], volume_id: str | None) -> None:
    """Refuse disks that are another volume than they were when they were found.

    :raises DeviceReused
    :raises HostUnreadable
    """
    for name, found, known in changed(devices, names):
        raise exception.DeviceReused(
            path=os.path.join(devices.dev, name),
            found=str(found),
            expected=str(known),
            volume_id=volume_id,
        )


def disks_under(devices: BlockDevices, *paths: str) -> tuple[str, ...]:
    """Return the disks that devices are made of, by the kernel's names.

    :raises HostUnreadable
    """
    names: list[str] = []
    for path in paths:
        with contextlib.suppress(exception.VolumeNotConnected), readable(path):
            names += devices.paths(path).names
    return tuple(names)


def _changed(
    devices: BlockDevices, names: Iterable[str], end: float
) -> Iterator[tuple[str, Identity, Identity]]:
    asked: dict[str, tuple[bytes, deadline.Call[bytes | None]]] = {}
    for name in names:
        with readable('sysfs'):
            other = _of_map_over(devices, name)
            known = devices.page_83(name)
        if other is not None:
            yield name, *other
        elif known is not None:
            asked[name] = known, deadline.Call(_question(name), what=f'disk {name}')
    for name, (known, call) in asked.items():
        try:
            page = call.wait(max(0.0, end - time.monotonic()))
        except exception.DeadlineExceeded:
            continue
        if page is not None and _identity(page) != _identity(known):
            yield name, _identity(page), _identity(known)


def _of_map_over(devices: BlockDevices, name: str) -> tuple[Identity, Identity] | None:
    """Return what a disk is and its map is, if that is not the same.

    The kernel has asked the disk again since it was put into the map.
    """
    own = devices.identity_of_name(name)
    for above in devices.holders(name):
        of_map = devices.identity_of_name(above)
        # Only this kind is written in the same way by the kernel and by multipathd.
        if own and of_map and own != of_map and all(_is_naa(one) for one in (own, of_map)):
            return Identity(*own), Identity(*of_map)
    return None


def _is_naa(identity: tuple[str, str]) -> bool:
    return identity[0] == 'wwn' and identity[1].startswith('3')


def _question(name: str) -> Callable[[], bytes | None]:
    return lambda: scsi.read_page_83(name)


def _identity(page: bytes) -> Identity:
    return Identity('wwn', device_identity.of_page_83(page) or 'without identity')
