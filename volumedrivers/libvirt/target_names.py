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
"""Names and SCSI units of disks in a guest.

The target's name is a label that libvirt keeps disks apart by and derives
default addresses from; what the guest calls the disk is its own affair.
"""

from collections.abc import Iterable
import dataclasses
import itertools
import re
import typing

from volumedrivers import exception

PREFIXES: typing.Final[typing.Mapping[str, str]] = {
    'virtio': 'vd',
    'scsi': 'sd',
    'sata': 'sd',
    'usb': 'sd',
    'sd': 'sd',
    'ide': 'hd',
    'fdc': 'fd',
    'xen': 'xvd',
    'uml': 'ubd',
}

# Since libvirt 11.5.  A serial belongs to the controller there, so each disk
# is the first namespace of a controller of its own.
NVME_BUS: typing.Final = 'nvme'

# virtio-scsi: LUNs of one target.  libvirt puts all disks of a controller on
# target 0, where the other models have as many units as the bus has ids.
SCSI_UNITS: typing.Final[typing.Mapping[str, int]] = {
    'virtio-scsi': 16384,
    'virtio-transitional': 16384,
    'virtio-non-transitional': 16384,
    'lsilogic': 8,
}
DEFAULT_SCSI_UNITS: typing.Final = 16

# The id of the host adapter itself on a parallel bus.
SCSI_HOST_UNIT: typing.Final = 7

# What libvirt gives a disk without an address: seven units on each
# controller, however many the model has.
_NARROW: typing.Final = 7

_NAME: typing.Final = re.compile('(vd|sd|hd|fd|xvd|ubd)([a-z]+)')
_NVME_NAME: typing.Final = re.compile('nvme(0|[1-9][0-9]*)n1')


def prefix(bus: str) -> str:
    """Return what names on a bus begin with.

    :raises InvalidDiskInfo: no disk can be on that bus
    """
    if bus == NVME_BUS:
        return 'nvme'
    try:
        return PREFIXES[bus]
    except KeyError:
        raise exception.InvalidDiskInfo(
            key='bus', found=repr(bus), expected=f'one of {", ".join((*PREFIXES, NVME_BUS))}'
        ) from None


def name_of(bus: str, index: int) -> str:
    """Return the name of the disk with an index: vda for 0, vdz, vdaa, vdab.

    :raises InvalidDiskInfo: an unknown bus, a negative index
    """
    if index < 0:
        raise exception.InvalidDiskInfo(
            key='dev', found=f'index {index}', expected='an index from 0'
        )
    if bus == NVME_BUS:
        return f'nvme{index}n1'
    letters = ''
    # Bijective base 26: there is no letter for zero.
    rest = index + 1
    while rest:
        rest, digit = divmod(rest - 1, 26)
        letters = chr(ord('a') + digit) + letters
    return prefix(bus) + letters


def index_of(name: str) -> int:
    """Return the index of a name: 0 for vda, 26 for vdaa.

    :raises InvalidDiskInfo: it is not the name of a disk
    """
    nvme = _NVME_NAME.fullmatch(name)
    if nvme is not None:
        return int(nvme[1])
    match = _NAME.fullmatch(name)
    if match is None:
        raise exception.InvalidDiskInfo(
            key='dev', found=repr(name), expected='a target name, such as vdb'
        )
    index = 0
    for letter in match[2]:
        index = index * 26 + ord(letter) - ord('a') + 1
    return index - 1


def first_free_name(bus: str, used: Iterable[str]) -> str:
    """Return the first name on a bus that is not used.

    :param used: all names in the guest, of any bus
    :raises InvalidDiskInfo: an unknown bus
    """
    taken = frozenset(used)
    # One more candidate than there are names, so one of them is free.
    return next(
        name
        for name in (name_of(bus, index) for index in range(len(taken) + 1))
        if name not in taken
    )


def default_scsi_address(index: int) -> tuple[int, int]:
    """Return the controller and unit that libvirt's QEMU driver gives a disk.

    It does so for a disk that has no address, from its name alone, so that
    sdh (index 7) needs a second controller.
    """
    return divmod(index, _NARROW)


def first_free_unit(used: Iterable[int], *, model: str = 'virtio-scsi', least: int = 0) -> int:
    """Return the first unit on a SCSI controller that is not used.

    The host adapter's own id is left out on models that are a parallel bus.

    :param used: the units in use on this controller
    :param model: the controller's model in libvirt
    :param least: the first unit to think of; past all that are used is what
        Nova takes when it adds a disk to a running guest
    :raises InvalidDiskInfo: the controller is full
    """
    units = SCSI_UNITS.get(model, DEFAULT_SCSI_UNITS)
    taken = set(used)
    if units <= DEFAULT_SCSI_UNITS:
        taken.add(SCSI_HOST_UNIT)
    for unit in range(least, units):
        if unit not in taken:
            return unit
    raise exception.InvalidDiskInfo(
        key='unit', found=f'none free of {units}', expected=f'room on the {model} controller'
    )


@dataclasses.dataclass(frozen=True)
class Names:
    """What the disks of a guest are called and where they sit.

    :ivar targets: the target names that are taken, of any bus
    :ivar scsi_units: the units that are taken on SCSI controller 0
    :ivar scsi_model: that controller's model
    """

    targets: frozenset[str]
    scsi_units: frozenset[int]
    scsi_model: str = 'virtio-scsi'

    def free_target(
        self, bus: str, *, prefix: str | None = None, taken: Iterable[str] = ()
    ) -> str:
        """Return the first name of the bus that is free (vdb, sdaa).

        :param prefix: instead of the bus's own
        :param taken: names that are about to be taken
        :raises InvalidDiskInfo: no disk can be on that bus
        """
        used = self.targets | frozenset(taken)
        if prefix is None:
            return first_free_name(bus, used)
        # Any name will do for its letters.
        skip = len(PREFIXES['virtio'])
        names = (prefix + name_of('virtio', index)[skip:] for index in itertools.count())
        return next(name for name in names if name not in used)

    def free_scsi_unit(self, *, taken: Iterable[int] = ()) -> int:
        """Return the first unit of SCSI controller 0 that is free.

        :param taken: units that are about to be taken
        :raises InvalidDiskInfo: the controller is full
        """
        return first_free_unit(self.scsi_units | frozenset(taken), model=self.scsi_model)
