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

"""iSCSI: LIO over TCP, on one portal or on two, with or without CHAP."""

import pathlib
import secrets
import typing

from tests.lab.storage import backend
from tests.lab.storage import daemons
from tests.lab.storage import lio
from tests.lab.storage import lio_volume
from tests.lab.storage import networks
from tests.lab.storage import packet_filter
from tests.lab.storage.cinder_info import connection_info
from tests.lab.storage.configfs import read
from tests.lab.storage.configfs import write
from tests.lab.storage.image_volume import settled
from tests.lab.storage.records import Records

FABRIC = lio.ROOT / 'iscsi'
PREFIX = 'iqn.2026-01.org.volumedrivers.lab'
# The back ends whose targets are all one to who discovers.
_FABRIC_USERS = ('iscsi', 'iser')


class IscsiVolume(lio_volume.LioVolume):
    """A volume on a target of its own, as Cinder's LIO has it, or on one with others.

    Its record has beside LIO's: ``target`` (None: its own), ``portals``
    (addresses), ``named`` (how many of them Cinder names), ``chap`` and
    ``discovery_chap`` (user and password), ``upper``, ``client``.
    """

    PROTOCOL: typing.ClassVar[str] = 'iscsi'
    PORT: typing.ClassVar[int] = 3260

    @property
    def iqn(self) -> str:
        target = self.record['target']
        return f'{PREFIX}:{f"volume-{self.volume_id}" if target is None else target}'

    @property
    def group(self) -> lio.PortalGroup:
        return lio.PortalGroup(FABRIC / self.iqn / 'tpgt_1')

    def groups(self) -> list[tuple[lio.PortalGroup, str]]:
        """There is one."""
        return [(self.group, daemons.initiator_name())]

    def prepare(self) -> None:
        """Make the target, its portals and the way in for this host."""
        group = self.group
        group.up()
        access = group.allow(daemons.initiator_name())
        chap = self.record['chap']
        write(group.path / 'attrib/authentication', 1 if chap else 0)
        write(group.path / 'attrib/generate_node_acls', 0)
        if chap:
            write(access / 'auth/userid', chap[0])
            write(access / 'auth/password', chap[1])
        for address in self.record['portals']:
            self.listen(group.path / 'np' / portal(address, self.PORT))
        write(group.path / 'enable', 1)
        discovery_authentication(self.records)

    def listen(self, place: pathlib.Path) -> None:
        """Make a portal of the group."""
        place.mkdir(exist_ok=True)

    def connection_info(self) -> dict[str, typing.Any]:
        """Return what Cinder's LIO target says; for discovery CHAP, what NetApp's says."""
        portals = [portal(address, self.PORT) for address in self.record['portals']]
        if self.record['upper']:
            portals = [name.upper() for name in portals]
        lun = self.record['lun']
        data: dict[str, typing.Any] = {
            'target_discovered': False,
            'target_portal': portals[0],
            'target_iqn': self.iqn,
            'target_lun': lun,
            'discard': False,
        }
        named = portals[: self.record['named']]
        if len(named) > 1:
            data.update(
                target_portals=named,
                target_iqns=[self.iqn] * len(named),
                target_luns=[lun] * len(named),
            )
        for prefix, chap in (('', 'chap'), ('discovery_', 'discovery_chap')):
            if self.record[chap]:
                user, password = self.record[chap]
                data[f'{prefix}auth_method'] = 'CHAP'
                data[f'{prefix}auth_username'] = user
                data[f'{prefix}auth_password'] = password
        return connection_info(
            self.PROTOCOL,
            self.volume_id,
            data,
            encrypted=self.record['encrypted'],
            multiattach=self.record['multiattach'],
        )

    def identity(self) -> str:
        """Return the unit's name; QEMU as initiator knows target and LUN only."""
        if self.record['client'] == 'qemu':
            return f'path:iscsi:{self.iqn}/{self.record["lun"]}'
        return super().identity()

    def secrets(self) -> list[str]:
        """Return the passwords."""
        return [self.record[key][1] for key in ('chap', 'discovery_chap') if self.record[key]]

    def seen_by_target(self) -> list[str]:
        """Return the host's session; a target with several volumes has one for all."""
        return settled(self._sessions)

    def _sessions(self) -> list[str]:
        found = []
        for initiator in self.group.initiators():
            info = read(self.group.path / 'acls' / initiator / 'info') or ''
            if info and not info.startswith('No active'):
                found.append(f'session of {initiator} with {self.iqn}: {summary(info)}')
        return found

    def delete(self) -> None:
        """Remove the target too, once no volume is on it."""
        group = self.group
        super().delete()
        if group.is_empty():
            if group.path.is_dir():
                write(group.path / 'enable', 0)
            group.down()
        discovery_authentication(self.records)


class IscsiBackend(backend.Backend):
    """iSCSI targets of LIO, with iscsid and multipathd on the same machine."""

    name = 'iscsi'
    faults = ('portal drops', 'portal refuses', 'portal down', 'daemon killed')
    VOLUME: typing.ClassVar[type[IscsiVolume]] = IscsiVolume

    def __init__(self, state: pathlib.Path = backend.STATE) -> None:
        self.records = Records(state / self.name)

    def up(self) -> None:
        """Bring up networks, LIO, daemons, and every volume there was."""
        self.network_up()
        daemons.loop_rules_up()
        lio.up('iscsi_target_mod')
        daemons.iscsid_up()
        daemons.multipathd_up()
        # The fabric's directory loads what else it needs.
        FABRIC.mkdir(exist_ok=True)
        volumes = [self.find_volume(name) for name in self.records.names()]
        for volume in volumes:
            volume.serve()
        for volume in volumes:
            volume.show()

    def network_up(self) -> None:
        """Bring up what the portals are on."""
        networks.up()

    def is_up(self) -> bool:
        """Look for the networks, the fabric and the daemons."""
        return (
            networks.is_up()
            and FABRIC.is_dir()
            and daemons.iscsid_answers()
            and daemons.multipathd_answers()
        )

    def make_volume(self, volume_id: str, size: int, **variant: typing.Any) -> IscsiVolume:
        """Make a volume.

        :param variant: ``portals`` (1 or 2), ``named`` (how many of them Cinder
            names; the others have to be discovered), ``chap``,
            ``discovery_chap``, ``ipv6``, ``upper`` (hexadecimal digits of a
            portal), ``target`` (name of a target that has several volumes),
            ``client`` (``qemu``), ``encrypted``, ``multiattach``
        """
        record = make_record(**variant)
        if record['target'] is not None:
            # Whoever logs in to a target does so once for all of its volumes.
            for other in self.records.all().values():
                if other['target'] == record['target']:
                    record.update(portals=other['portals'], chap=other['chap'])
        lun = 0 if record['target'] is None else None
        lio_volume.new_record(self.records, volume_id, size, lun, **record)
        volume = self.find_volume(volume_id)
        volume.serve()
        volume.show()
        return volume

    def find_volume(self, volume_id: str) -> IscsiVolume:
        """Return a volume that was made before."""
        return self.VOLUME(self.records, volume_id)

    def break_(self, fault: str, **where: typing.Any) -> None:
        """Let portals fail, or a daemon end.

        :param where: ``portal`` (0 or 1; none: both), or ``daemon``
        """
        portal_numbers = chosen_portals(where)
        if fault == 'portal drops':
            self.drop(addresses_of(portal_numbers))
        elif fault == 'portal refuses':
            packet_filter.refuse(self.name, addresses_of(portal_numbers), [self.VOLUME.PORT])
        elif fault == 'portal down':
            for number in portal_numbers:
                networks.pull(number + 1)
        elif fault == 'daemon killed':
            {'iscsid': daemons.ISCSID, 'multipathd': daemons.MULTIPATHD}[
                where.get('daemon', 'iscsid')
            ].kill()
        else:
            super().break_(fault, **where)

    def drop(self, addresses: list[str]) -> None:
        """Let packets to these addresses vanish."""
        packet_filter.drop(self.name, addresses, [self.VOLUME.PORT])

    def mend(self) -> None:
        """Let packets pass, plug the cables in, start the daemons."""
        packet_filter.clear(self.name)
        self.up()


def make_record(
    *,
    portals: int = 1,
    named: int | None = None,
    chap: bool = False,
    discovery_chap: bool = False,
    ipv6: bool = False,
    upper: bool = False,
    target: str | None = None,
    client: str = 'kernel',
    encrypted: bool = False,
    multiattach: bool = False,
) -> dict[str, typing.Any]:
    """Return what a volume's record has beside LIO's part, with new passwords."""
    addresses = backend.NETWORKS6 if ipv6 else backend.NETWORKS
    return {
        'portals': list(addresses[:portals]),
        'named': portals if named is None else named,
        'chap': new_chap() if chap else None,
        'discovery_chap': new_chap() if discovery_chap else None,
        'upper': upper,
        'target': target,
        'client': client,
        'encrypted': encrypted,
        'multiattach': multiattach,
    }


def new_chap() -> tuple[str, str]:
    """Return a user and a password, as long as every initiator takes them."""
    return f'lab{secrets.token_hex(6)}', secrets.token_hex(8)


def portal(address: str, port: int) -> str:
    """Return address and port as one name."""
    return f'[{address}]:{port}' if ':' in address else f'{address}:{port}'


def summary(info: str) -> str:
    """Return what is worth knowing of an ACL's ``info``: states and addresses."""
    words = [
        line.strip()
        for line in info.splitlines()
        if 'State:' in line or 'Address' in line or 'SessionType' in line
    ]
    return ', '.join(' '.join(word.split()) for word in words)


def chosen_portals(where: dict[str, typing.Any]) -> list[int]:
    """Return the numbers of the portals that a fault is for."""
    number = where.get('portal')
    return [0, 1] if number is None else [number]


def addresses_of(numbers: list[int]) -> list[str]:
    """Return all addresses of portals."""
    return [address[n] for n in numbers for address in (backend.NETWORKS, backend.NETWORKS6)]


def discovery_authentication(kept: Records) -> None:
    """Ask who discovers for a password while a volume wants it; LIO has one for all targets."""
    wanted = [
        record['discovery_chap']
        for name in _FABRIC_USERS
        for record in Records(kept.directory.parent / name).all().values()
    ]
    chap = next((each for each in wanted if each), None)
    place = FABRIC / 'discovery_auth'
    if chap:
        write(place / 'userid', chap[0])
        write(place / 'password', chap[1])
    if (read(place / 'enforce_discovery_auth') == '1') != bool(chap):
        write(place / 'enforce_discovery_auth', int(bool(chap)))
