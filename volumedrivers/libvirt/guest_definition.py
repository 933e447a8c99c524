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

"""What libvirt says a domain's disks are, now and at its next start."""

import dataclasses
import typing

import libvirt
from lxml import etree

from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.disk import Host
from volumedrivers.libvirt.disk import Source
from volumedrivers.libvirt.target_names import Names


@dataclasses.dataclass(frozen=True)
class Definition:
    """The disks of one definition of a domain.

    :ivar scsi_model: model of SCSI controller 0; None when there is none
    """

    disks: tuple[Disk, ...]
    scsi_model: str | None = None

    def find(self, *, alias: str | None = None, target: str | None = None) -> Disk | None:
        """Return the disk with the alias; if there is none, that with the target.

        Target names are given again to other disks.  So a disk at the target
        whose user alias is another one is another volume's, and not returned.
        """
        if alias is not None:
            for disk in self.disks:
                if disk.alias == alias:
                    return disk
        if target is not None:
            for disk in self.disks:
                if disk.target is not None and disk.target.dev == target:
                    other = disk.alias or ''
                    if alias is not None and other.startswith('ua-'):
                        return None
                    return disk
        return None


@dataclasses.dataclass(frozen=True)
class Definitions:
    """A domain's definitions, read together.

    :ivar live: None when it does not run
    :ivar persistent: None when it is transient
    """

    live: Definition | None
    persistent: Definition | None

    def disks(self) -> tuple[Disk, ...]:
        """The disks of the live and then of the persistent definition."""
        return tuple(self._disks())

    def targets(self) -> set[str]:
        """The target names that are taken, now or at the next start."""
        return {
            disk.target.dev
            for disk in self._disks()
            if disk.target is not None and disk.target.dev is not None
        }

    def scsi_units(self) -> set[int]:
        """The units that are taken on SCSI controller 0, now or at the next start."""
        found = set()
        for disk in self._disks():
            address, target = disk.address, disk.target
            if address is None or target is None or target.bus != 'scsi':
                continue
            if address.type == 'drive' and not address.controller and address.unit is not None:
                found.add(address.unit)
        return found

    def scsi_model(self) -> str:
        """The model of SCSI controller 0; the usual one when there is none yet."""
        for definition in (self.live, self.persistent):
            if definition is not None and definition.scsi_model is not None:
                return definition.scsi_model
        return 'virtio-scsi'

    def names(self) -> Names:
        """Return the names that are taken, now or at the next start."""
        return Names(frozenset(self.targets()), frozenset(self.scsi_units()), self.scsi_model())

    def _disks(self) -> typing.Iterator[Disk]:
        for definition in (self.live, self.persistent):
            if definition is not None:
                yield from definition.disks


def read(domain: libvirt.virDomain) -> Definitions:
    """Ask libvirt for the definitions.

    :raises libvirt.libvirtError: raw
    """
    root = _parse(domain.XMLDesc(0))
    persistent = bool(domain.isPersistent())
    # Only a running domain has an id.  Read off the document itself, this
    # cannot contradict what the document says about disks.
    if root.get('id') is None:
        return Definitions(live=None, persistent=_disks(root))
    if not persistent:
        return Definitions(live=_disks(root), persistent=None)
    next_start = _parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    return Definitions(live=_disks(root), persistent=_disks(next_start))


def _parse(xml: str) -> etree._Element:
    return etree.fromstring(
        xml, etree.XMLParser(resolve_entities=False, no_network=True, remove_blank_text=True)
    )


def _disks(root: etree._Element) -> Definition:
    controller = root.find("./devices/controller[@type='scsi'][@index='0']")
    return Definition(
        disks=tuple(Disk.view(element) for element in root.iterfind('./devices/disk')),
        scsi_model=None if controller is None else controller.get('model'),
    )


def same_source(one: Disk, other: Disk) -> bool:
    """Tell whether two disks have the same data behind them.

    Compares what names the data only: libvirt adds default ports, indexes and
    addresses to what it was given.
    """
    if (one.type or 'file') != (other.type or 'file'):
        return False
    a, b = one.source, other.source
    if a is None or b is None:
        return a is b
    return _names(a) == _names(b) and _same_hosts(a.hosts, b.hosts)


def _names(source: Source) -> tuple[object, ...]:
    address = source.address
    return (
        source.file,
        source.dev,
        source.dir,
        source.protocol,
        source.name,
        source.query,
        source.snapshot,
        source.pool,
        source.volume,
        source.path,
        source.namespace,
        address and (address.domain or 0, address.bus, address.slot, address.function),
    )


def _same_hosts(ones: tuple[Host, ...], others: tuple[Host, ...]) -> bool:
    if len(ones) != len(others):
        return False
    return all(
        (a.name, a.socket) == (b.name, b.socket) and (None in (a.port, b.port) or a.port == b.port)
        for a, b in zip(ones, others, strict=True)
    )
