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

"""Stand-in of StorPool: its management API, and storpool_block of this host.

The API is a HTTP server where os-brick looks for it; the devices of
storpool_block are loop devices that udev names below /dev/storpool and
/dev/storpool-byid.
"""

import http.client
import json
import typing

from tests.lab.standins import storpool_books as books
from tests.lab.standins.daemon import Daemon
from tests.lab.storage import backend
from tests.lab.storage import cinder_info
from tests.lab.storage import image_volume

_CONF = f"""\
SP_API_HTTP_HOST={books.ADDRESS}
SP_API_HTTP_PORT={books.PORT}
SP_AUTH_TOKEN={books.TOKEN}
SP_OURID={books.CLIENT}
SP_OPENSTACK_VOLUME_PREFIX={books.PREFIX}
"""


class StorPoolVolume(image_volume.ImageVolume):
    """A volume of the stand-in."""

    def connection_info(self) -> dict[str, typing.Any]:
        return cinder_info.connection_info(
            'storpool', self.volume_id, {'client_id': books.CLIENT, 'volume': self.volume_id}
        )

    def grow(self, size: int) -> None:
        """Let it grow; storpool_block sees it by itself."""
        self.resize_image(size)
        self._device.notice_size()

    def identity(self) -> str:
        return f'path:/dev/storpool-byid/{self.record["global_id"]}'

    def seen_by_target(self) -> list[str]:
        rights = books.VOLUMES.load(self.volume_id)['rights']
        return [f'attached to client {books.CLIENT} {rights}'] if rights else []

    def secrets(self) -> list[str]:
        return [books.TOKEN]

    def withdraw(self) -> None:
        """Detach it by force, as an administrator can."""
        books.set_attached(self.volume_id, None, force=True)

    def give_back(self) -> None:
        """Do nothing: whoever wants it attaches it again."""

    def delete(self) -> None:
        if self.volume_id in books.VOLUMES.names():
            books.set_attached(self.volume_id, None, force=True)
            books.VOLUMES.forget(self.volume_id)
        image_volume.remove_image(books.VOLUMES, self.volume_id)

    @property
    def _device(self) -> typing.Any:
        return books.device(self.record, self.volume_id)


class StorPoolBackend(backend.Backend):
    """Stand-in of a StorPool cluster that this host is a client of."""

    name = 'storpool'
    faults = ('portal refuses', 'daemon killed')

    def __init__(self) -> None:
        self.api = Daemon('storpool-api', 'tests.lab.standins.storpool_api')

    def up(self) -> None:
        books.CONF.write_text(_CONF)
        books.CONF.chmod(0o640)
        books.DEV.mkdir(exist_ok=True)
        self._serve()
        for volume_id, record in books.VOLUMES.all().items():
            if record['rights']:
                books.device(record, volume_id).appear(read_only=record['rights'] == 'ro')

    def is_up(self) -> bool:
        return self.api.is_current() and answers()

    def make_volume(self, volume_id: str, size: int) -> StorPoolVolume:
        self._serve()
        image_volume.make_image(books.VOLUMES, volume_id, size)
        record = {
            'name': books.name_of(volume_id),
            'global_id': f'lab.b.{volume_id.replace("-", "")[:10]}',
            'rights': None,
        }
        books.VOLUMES.save(volume_id, record)
        return StorPoolVolume(books.VOLUMES, volume_id)

    def find_volume(self, volume_id: str) -> StorPoolVolume:
        return StorPoolVolume(books.VOLUMES, volume_id)

    def break_(self, fault: str, **where: typing.Any) -> None:
        if fault not in self.faults:
            raise backend.Unreachable(f'{self.name} does not know how to {fault}')
        self.api.stop()

    def mend(self) -> None:
        self._serve()

    def _serve(self) -> None:
        self.api.start(answers)


def answers() -> bool:
    """Say whether the API answers to this host."""
    connection = http.client.HTTPConnection(books.ADDRESS, books.PORT, timeout=10)
    try:
        connection.request(
            'GET',
            '/ctrl/1.0/AttachmentsList',
            headers={'Authorization': f'Storpool v1:{books.TOKEN}'},
        )
        return 'data' in json.load(connection.getresponse())
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
