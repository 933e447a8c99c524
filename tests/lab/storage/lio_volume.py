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

"""A volume that LIO serves, whatever the fabric."""

import abc
import typing
import uuid

from tests.lab.storage import loop
from tests.lab.storage import records
from tests.lab.storage.image_volume import ImageVolume
from tests.lab.storage.image_volume import make_image
from tests.lab.storage.image_volume import remove_image
from tests.lab.storage.lio import BackStore
from tests.lab.storage.lio import PortalGroup
from tests.lab.storage.lio import naa

OWN = 'own'
NOTHING = 'nothing'


class LioVolume(ImageVolume):
    """One unit, served by one or more target portal groups.

    Its record has ``serial``, ``unit`` (its number in the groups), ``lun``
    (what the host calls it) and ``shows``: what is under that LUN: its own
    unit, nothing, or the volume whose id it is.
    """

    @property
    def store(self) -> BackStore:
        return BackStore(f'{self.records.directory.name}-{self.volume_id}', self.image)

    @abc.abstractmethod
    def groups(self) -> list[tuple[PortalGroup, str]]:
        """Return the groups that serve it, each with the host's name there."""

    @abc.abstractmethod
    def prepare(self) -> None:
        """Make what it needs beside its unit and its back store."""

    def serve(self) -> None:
        """Serve it as its record says; twice is fine."""
        self.store.up(self.record['serial'])
        self.prepare()
        for group, _ in self.groups():
            group.add(self.record['unit'], self.store)

    def show(self) -> None:
        """Let the host see what its record says, once all units are there."""
        shows = self.record['shows']
        for group, host in self.groups():
            if shows == NOTHING:
                group.show(host, self.record['lun'], None)
            elif shows == OWN:
                group.show(host, self.record['lun'], self.record['unit'])
            else:
                self._show_other(group, host, shows)

    def _show_other(self, group: PortalGroup, host: str, volume_id: str) -> None:
        try:
            other = type(self)(self.records, volume_id)
        except KeyError:
            # It was deleted meanwhile, and its unit with it.
            group.show(host, self.record['lun'], None)
            return
        number = _borrowed(self.record['unit'])
        group.add(number, other.store)
        group.show(host, self.record['lun'], number)

    def grow(self, size: int) -> None:
        """Let file, loop device and unit grow; the host asks when it is told to."""
        self.resize_image(size)
        loop.grow(self.image)

    def identity(self) -> str:
        """Return the name in VPD page 0x83, as scsi_id prints it."""
        return f'wwn:3{naa(self.record["serial"])}'

    def withdraw(self) -> None:
        """Unmap the LUN."""
        self.save(shows=NOTHING)
        self.show()

    def give_back(self) -> None:
        """Map the LUN again."""
        self.save(shows=OWN)
        self.show()
        for group, _ in self.groups():
            group.drop(_borrowed(self.record['unit']))

    def give_place_to(self, other: typing.Any) -> None:
        """Map the other one under this one's LUN."""
        self.save(shows=other.volume_id)
        self.show()

    def delete(self) -> None:
        """Take the unit from the groups, and remove what is behind it."""
        for group, _ in self.groups():
            group.drop(_borrowed(self.record['unit']))
            group.drop(self.record['unit'])
        for other in others_with(self.records, self.volume_id):
            volume = type(self)(self.records, other)
            for group, _ in volume.groups():
                group.drop(_borrowed(volume.record['unit']))
        self.store.down()
        remove_image(self.records, self.volume_id)
        self.records.forget(self.volume_id)


def others_with(kept: records.Records, volume_id: str) -> list[str]:
    """Return the volumes whose place a volume has."""
    return [name for name, record in kept.all().items() if record['shows'] == volume_id]


def new_record(
    kept: records.Records, volume_id: str, size: int, lun: int | None, **more: typing.Any
) -> None:
    """Write down a new volume, and make its file.

    :param lun: None: the same number as the unit's
    :param more: what the fabric has to know
    """
    with kept.locked():
        taken = [record['unit'] for record in kept.all().values()]
        unit = records.smallest_free(taken, 1)
        kept.save(
            volume_id,
            {
                'serial': str(uuid.uuid4()),
                'unit': unit,
                'lun': unit if lun is None else lun,
                'shows': OWN,
                **more,
            },
        )
    make_image(kept, volume_id, size)


def _borrowed(unit: int) -> int:
    """Return the number under which a group has the unit of another volume."""
    return 10000 + unit
