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

"""NVMe over Fabrics: nvmet over TCP and over RDMA."""

import abc
import pathlib
import typing
import uuid

from tests.lab.storage import backend
from tests.lab.storage import daemons
from tests.lab.storage import loop
from tests.lab.storage import networks
from tests.lab.storage import nvmet_config
from tests.lab.storage import packet_filter
from tests.lab.storage import records
from tests.lab.storage import service_connections
from tests.lab.storage.cinder_info import connection_info
from tests.lab.storage.configfs import modprobe
from tests.lab.storage.image_volume import ImageVolume
from tests.lab.storage.image_volume import make_image
from tests.lab.storage.image_volume import remove_image
from tests.lab.storage.image_volume import settled
from tests.lab.storage.iscsi import addresses_of
from tests.lab.storage.iscsi import chosen_portals
from tests.lab.storage.iser import ROCE_PORT
from tests.lab.storage.lio_volume import NOTHING
from tests.lab.storage.lio_volume import OWN
from tests.lab.storage.lio_volume import others_with
from tests.lab.storage.records import Records

PREFIX = 'nqn.2026-01.org.volumedrivers.lab'
NONE = str(uuid.UUID(int=0))
SMALL = 512  # bytes of a block
# A subsystem has a service number of its own, so that the connections to it
# can be told from those to others.
SERVICES = {'tcp': range(4500, 4900), 'rdma': range(4900, 5300)}
# The one that Cinder gives the only namespace of a subsystem.
_NAMESPACE = 10


class NvmeVolume(ImageVolume):
    """A namespace, in a subsystem of its own as Cinder's nvmet has it, or with others.

    Its record: ``transport``, ``subsystem`` (None: its own), ``serial``,
    ``service``, ``portals`` (addresses), ``number`` (NSID), ``uuid`` and
    ``nguid``, ``block`` (bytes: 512 or 4096), ``form`` (old or new), ``shows``:
    what is under that number: its own file, nothing, or the volume whose id it is.
    """

    @property
    def subsystem(self) -> nvmet_config.Subsystem:
        name = self.record['subsystem']
        return nvmet_config.Subsystem(
            f'{PREFIX}:{f"volume-{self.volume_id}" if name is None else name}'
        )

    def ports(self) -> list[nvmet_config.Port]:
        """Return the ports of its subsystem."""
        service = self.record['service']
        return [nvmet_config.Port(10 * service + n) for n in range(len(self.record['portals']))]

    def serve(self) -> None:
        """Serve it as its record says; twice is fine."""
        subsystem = self.subsystem
        subsystem.up(self.record['serial'], daemons.host_nqn())
        self.show()
        for port, address in zip(self.ports(), self.record['portals'], strict=True):
            port.up(self.record['transport'], address, self.record['service'])
            port.serve(subsystem.nqn)

    def show(self) -> None:
        """Let the host see what its record says."""
        shows, number = self.record['shows'], self.record['number']
        other = self
        if shows not in (OWN, NOTHING):
            try:
                other = type(self)(self.records, shows)
            except KeyError:
                # It was deleted meanwhile.
                shows = NOTHING
        if shows == NOTHING:
            self.subsystem.hide(number)
        else:
            record = other.record
            self.subsystem.put(number, other.device(), record['uuid'], record['nguid'])

    def device(self) -> pathlib.Path:
        """Return what nvmet opens: a loop device has small blocks, a file large ones."""
        return loop.attach(self.image) if self.record['block'] == SMALL else self.image

    def connection_info(self) -> dict[str, typing.Any]:
        """Return what Cinder's nvmet target says, in its first form or its second."""
        record = self.record
        if record['form'] == 'old':
            data: dict[str, typing.Any] = {
                'target_portal': record['portals'][0],
                'target_port': str(record['service']),
                'nqn': self.subsystem.nqn,
                'transport_type': record['transport'],
                'ns_id': str(record['number']),
            }
        else:
            transport = {'tcp': 'tcp', 'rdma': 'RoCEv2'}[record['transport']]
            data = {
                'target_nqn': self.subsystem.nqn,
                'vol_uuid': None if record['uuid'] == NONE else record['uuid'],
                'portals': [
                    [address, str(record['service']), transport] for address in record['portals']
                ],
                'ns_id': str(record['number']),
            }
            if record['uuid'] == NONE:
                data['volume_nguid'] = record['nguid']
        return connection_info(
            'nvmeof',
            self.volume_id,
            {**data, 'discard': False},
            encrypted=record['encrypted'],
            multiattach=record['multiattach'],
        )

    def grow(self, size: int) -> None:
        """Let the file grow, and the target tell the host."""
        self.resize_image(size)
        if self.record['block'] == SMALL:
            loop.grow(self.image)
        self.subsystem.measure(self.record['number'])

    def identity(self) -> str:
        """Return the UUID, or the NGUID of a namespace without one."""
        if self.record['uuid'] == NONE:
            return f'nguid:{uuid.UUID(self.record["nguid"]).hex}'
        return f'uuid:{self.record["uuid"]}'

    def seen_by_target(self) -> list[str]:
        """Return the connections at the subsystem's ports; they are all of this host."""
        if self.record['transport'] == 'tcp':
            return settled(lambda: service_connections.tcp(self.record['service']))
        return settled(lambda: service_connections.rdma(self.record['service']))

    def withdraw(self) -> None:
        """Disable the namespace."""
        self.save(shows=NOTHING)
        self.show()

    def give_back(self) -> None:
        """Enable the namespace again, with its own file."""
        self.save(shows=OWN)
        self.show()

    def give_place_to(self, other: typing.Any) -> None:
        """Serve the other one under this one's number."""
        self.save(shows=other.volume_id)
        self.show()

    def delete(self) -> None:
        """Remove the namespace, and with the last one the subsystem and its ports."""
        subsystem = self.subsystem
        for other in others_with(self.records, self.volume_id):
            type(self)(self.records, other).withdraw()
        subsystem.drop(self.record['number'])
        if not subsystem.namespaces():
            for port in self.ports():
                port.down()
            subsystem.down()
        loop.detach(self.image)
        remove_image(self.records, self.volume_id)
        self.records.forget(self.volume_id)


class NvmeBackend(backend.Backend):
    """Subsystems of nvmet at addresses of the storage networks."""

    transport: typing.ClassVar[str]

    def __init__(self, state: pathlib.Path = backend.STATE) -> None:
        self.records = Records(state / self.name)

    def up(self) -> None:
        """Bring up the networks, nvmet and every volume there was."""
        self.network_up()
        daemons.host_nqn()
        daemons.loop_rules_up()
        modprobe('loop')
        modprobe('nvmet', f'nvmet-{self.transport}', 'nvme-core', f'nvme-{self.transport}')
        for name in self.records.names():
            self.find_volume(name).serve()

    @abc.abstractmethod
    def network_up(self) -> None:
        """Bring up what the ports are on."""

    def is_up(self) -> bool:
        """Look for the networks and nvmet."""
        return networks.is_up() and nvmet_config.ROOT.is_dir()

    def make_volume(self, volume_id: str, size: int, **variant: typing.Any) -> NvmeVolume:
        """Make a volume.

        :param variant: ``portals`` (1 or 2), ``ipv6``, ``form`` (``old``),
            ``block`` (4096), ``subsystem`` (name of one that has several
            volumes), ``known_by`` (``nguid``), ``encrypted``, ``multiattach``
        """
        record = make_record(volume_id, **variant)
        with self.records.locked():
            others = self.records.all().values()
            mates = [each for each in others if each['subsystem'] == record['subsystem']]
            if record['subsystem'] is not None and mates:
                record.update({key: mates[0][key] for key in ('serial', 'service', 'portals')})
            else:
                first = SERVICES[self.transport].start
                taken = [each['service'] for each in others]
                record['service'] = records.smallest_free(taken, first)
            if record['subsystem'] is not None:
                record['number'] = records.smallest_free((each['number'] for each in mates), 1)
            self.records.save(volume_id, {'transport': self.transport, **record})
        make_image(self.records, volume_id, size)
        volume = self.find_volume(volume_id)
        volume.serve()
        return volume

    def find_volume(self, volume_id: str) -> NvmeVolume:
        """Return a volume that was made before."""
        return NvmeVolume(self.records, volume_id)

    def break_(self, fault: str, **where: typing.Any) -> None:
        """Let portals fail.

        :param where: ``portal``: 0 or 1; none: both
        """
        portals = chosen_portals(where)
        if fault == 'portal down':
            for number in portals:
                networks.pull(number + 1)
        elif fault == 'portal refuses':
            self.refuse(portals)
        elif fault == 'portal drops':
            self.drop(addresses_of(portals))
        else:
            super().break_(fault, **where)

    @abc.abstractmethod
    def refuse(self, portals: list[int]) -> None:
        """Let portals refuse connections and end those that there are."""

    @abc.abstractmethod
    def drop(self, addresses: list[str]) -> None:
        """Let packets to these addresses vanish."""

    def mend(self) -> None:
        """Let packets pass, plug the cables in, make the ports again."""
        packet_filter.clear(self.name)
        self.up()


class NvmeTcpBackend(NvmeBackend):
    """NVMe/TCP."""

    name = 'nvme_tcp'
    transport = 'tcp'
    faults = ('portal drops', 'portal refuses', 'portal down')
    _PORTS = (f'{SERVICES["tcp"].start}-{SERVICES["tcp"].stop - 1}',)

    def network_up(self) -> None:
        """Bring up the storage networks."""
        networks.up()

    def refuse(self, portals: list[int]) -> None:
        """Answer with resets."""
        packet_filter.refuse(self.name, addresses_of(portals), self._PORTS)

    def drop(self, addresses: list[str]) -> None:
        """Let packets to all services of these addresses vanish."""
        packet_filter.drop(self.name, addresses, self._PORTS)


class NvmeRdmaBackend(NvmeBackend):
    """NVMe/RDMA, over RoCE v2 in software."""

    name = 'nvme_rdma'
    transport = 'rdma'
    faults = ('portal drops', 'portal refuses', 'portal down')

    def network_up(self) -> None:
        """Bring up the RDMA devices."""
        networks.rdma_up()

    def is_up(self) -> bool:
        """Look for the RDMA devices too."""
        return networks.rdma_is_up() and super().is_up()

    def refuse(self, portals: list[int]) -> None:
        """Take the ports away: RDMA refuses what nobody listens for."""
        for name in self.records.names():
            ports = self.find_volume(name).ports()
            for number in portals:
                if number < len(ports):
                    ports[number].down()

    def drop(self, addresses: list[str]) -> None:
        """Let RDMA packets vanish, those of iSER too."""
        packet_filter.drop(self.name, addresses, [ROCE_PORT], protocol='udp')


def make_record(
    volume_id: str,
    *,
    portals: int = 1,
    ipv6: bool = False,
    form: str = 'new',
    block: int = SMALL,
    subsystem: str | None = None,
    known_by: str = 'uuid',
    encrypted: bool = False,
    multiattach: bool = False,
) -> dict[str, typing.Any]:
    """Return what a volume's record has, but for its place among others."""
    addresses = backend.NETWORKS6 if ipv6 else backend.NETWORKS
    return {
        'subsystem': subsystem,
        'serial': uuid.uuid4().hex[:20],
        'portals': list(addresses[:portals]),
        'number': _NAMESPACE,
        'uuid': volume_id if known_by == 'uuid' else NONE,
        'nguid': str(uuid.uuid4()),
        'form': form,
        'block': block,
        'shows': OWN,
        'encrypted': encrypted,
        'multiattach': multiattach,
    }
