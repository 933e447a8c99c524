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

"""Fibre Channel: LIO's tcm_fc behind two fabrics."""

import pathlib
import typing

from tests.lab.storage import backend
from tests.lab.storage import daemons
from tests.lab.storage import fcoe
from tests.lab.storage import lio
from tests.lab.storage import lio_volume
from tests.lab.storage.cinder_info import connection_info
from tests.lab.storage.records import Records

FABRIC = lio.ROOT / 'fc'


class FibreChannelVolume(lio_volume.LioVolume):
    """A unit at the target ports of one or both fabrics, under the same LUN.

    Its record has beside LIO's: ``fabrics`` (how many).
    """

    def groups(self) -> list[tuple[lio.PortalGroup, str]]:
        """There is one in each fabric."""
        return [
            (group_of(fabric), fcoe.with_colons(fabric.host_port)) for fabric in self._fabrics()
        ]

    def prepare(self) -> None:
        """The ports are all there is, and they are there."""

    def connection_info(self) -> dict[str, typing.Any]:
        """Return what Cinder's drivers of arrays say, zones made."""
        fabrics = self._fabrics()
        data = {
            'target_discovered': True,
            'target_lun': self.record['lun'],
            'target_wwn': [fabric.target_port for fabric in fabrics],
            'initiator_target_map': {fabric.host_port: [fabric.target_port] for fabric in fabrics},
            'discard': False,
        }
        return connection_info(
            'fibre_channel',
            self.volume_id,
            data,
            encrypted=self.record['encrypted'],
            multiattach=self.record['multiattach'],
        )

    def seen_by_target(self) -> list[str]:
        """Return the host's reservations.

        Ports log in to the fabric once for all units and for good, and SCSI has
        no word for opening a unit: nothing else of the host is at the target.
        """
        return self.store.reservations()

    def _fabrics(self) -> tuple[fcoe.Fabric, ...]:
        return fcoe.FABRICS[: self.record['fabrics']]


class FibreChannelBackend(backend.Backend):
    """Two fabrics, with a target port on each."""

    name = 'fibre_channel'
    faults = ('portal drops', 'portal down', 'daemon killed')

    def __init__(self, state: pathlib.Path = backend.STATE) -> None:
        self.records = Records(state / self.name)

    def up(self) -> None:
        """Bring up the targets, every volume there was, then the fabrics."""
        daemons.loop_rules_up()
        lio.up('tcm_fc')
        daemons.multipathd_up()
        # The fabric's directory is the module's order to begin.
        FABRIC.mkdir(exist_ok=True)
        for fabric in fcoe.FABRICS:
            group = group_of(fabric)
            group.up()
            group.allow(fcoe.with_colons(fabric.host_port))
        volumes = [self.find_volume(name) for name in self.records.names()]
        for volume in volumes:
            volume.serve()
        for volume in volumes:
            volume.show()
        fcoe.plug_in()

    def is_up(self) -> bool:
        """Look for the logins and multipathd."""
        return daemons.multipathd_answers() and all(map(fcoe.is_logged_in, fcoe.FABRICS))

    def make_volume(self, volume_id: str, size: int, **variant: typing.Any) -> FibreChannelVolume:
        """Make a volume.

        :param variant: ``portals`` (1 or 2: in how many fabrics it is),
            ``encrypted``, ``multiattach``
        """
        record = make_record(**variant)
        lio_volume.new_record(self.records, volume_id, size, None, **record)
        volume = self.find_volume(volume_id)
        volume.serve()
        volume.show()
        return volume

    def find_volume(self, volume_id: str) -> FibreChannelVolume:
        """Return a volume that was made before."""
        return FibreChannelVolume(self.records, volume_id)

    def break_(self, fault: str, **where: typing.Any) -> None:
        """Let fabrics fail, or multipathd end.

        :param where: ``portal``: 0 or 1; none: both fabrics
        """
        number = where.get('portal')
        fabrics = fcoe.FABRICS if number is None else fcoe.FABRICS[number : number + 1]
        if fault == 'portal drops':
            for fabric in fabrics:
                fcoe.drop(fabric)
        elif fault == 'portal down':
            for fabric in fabrics:
                fcoe.pull(fabric)
        elif fault == 'daemon killed':
            daemons.MULTIPATHD.kill()
        else:
            super().break_(fault, **where)

    def mend(self) -> None:
        """Let frames pass, plug the cables in, start the daemon, wait for the logins."""
        fcoe.pass_all()
        self.up()


def group_of(fabric: fcoe.Fabric) -> lio.PortalGroup:
    """Return the group of the target port of a fabric."""
    return lio.PortalGroup(FABRIC / fcoe.with_colons(fabric.target_port) / 'tpgt_1')


def make_record(
    *, portals: int = 1, encrypted: bool = False, multiattach: bool = False
) -> dict[str, typing.Any]:
    """Return what a volume's record has beside LIO's part."""
    return {'fabrics': portals, 'encrypted': encrypted, 'multiattach': multiattach}
