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

"""Stand-in of Lightbits LightOS: a discovery client over the kernel's own NVMe/TCP.

The volumes are namespaces of nvmet at the two storage networks, each in a
subsystem of its own.  In LightOS a cluster is one subsystem, and the volumes
that a host may see come and go as Cinder allows and revokes them.
"""

import http.client
import typing

from tests.lab.standins import discovery_client
from tests.lab.standins.daemon import Daemon
from tests.lab.storage import nvmet
from tests.lab.storage.cinder_info import connection_info
from tests.lab.storage.image_volume import make_image
from tests.lab.storage.records import smallest_free

# Services of nvmet that nobody else has.
_SERVICES = range(5300, 5700)


class LightOSVolume(nvmet.NvmeVolume):
    """A volume of the stand-in's cluster of two nodes."""

    def connection_info(self) -> dict[str, typing.Any]:
        """Return what Cinder's LightOS driver sends."""
        nodes = {
            address: {
                'target_portal': address,
                'target_port': self.record['service'],
                'transport_type': 'tcp',
            }
            for address in self.record['portals']
        }
        data = {
            'lightos_nodes': nodes,
            'subsysnqn': self.subsystem.nqn,
            'uuid': self.record['uuid'],
            'nsid': self.record['number'],
        }
        return connection_info('lightos', self.volume_id, data)


class LightOSBackend(nvmet.NvmeTcpBackend):
    """Stand-in of a LightOS cluster, with its discovery client on this host."""

    name = 'lightos'
    _PORTS = (f'{_SERVICES.start}-{_SERVICES.stop - 1}',)

    def __init__(self) -> None:
        super().__init__()
        self.client = Daemon('discovery-client', 'tests.lab.standins.discovery_client')

    def up(self) -> None:
        super().up()
        self._serve()

    def is_up(self) -> bool:
        return super().is_up() and self.client.is_current() and answers()

    def make_volume(self, volume_id: str, size: int, **variant: typing.Any) -> LightOSVolume:
        """Make a volume that is at as many nodes as ``portals`` says; two unless it does."""
        self._serve()
        record = nvmet.make_record(volume_id, **{'portals': 2, **variant})
        with self.records.locked():
            taken = [each['service'] for each in self.records.all().values()]
            record['service'] = smallest_free(taken, _SERVICES.start)
            self.records.save(volume_id, {'transport': 'tcp', **record})
        make_image(self.records, volume_id, size)
        volume = self.find_volume(volume_id)
        volume.serve()
        return volume

    def find_volume(self, volume_id: str) -> LightOSVolume:
        return LightOSVolume(self.records, volume_id)

    def _serve(self) -> None:
        discovery_client.FILES.mkdir(parents=True, exist_ok=True)
        self.client.start(answers)


def answers() -> bool:
    """Say whether the discovery client answers, as os-brick asks it."""
    connection = http.client.HTTPConnection(*discovery_client.METRICS, timeout=10)
    try:
        connection.request('HEAD', '/metrics')
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
