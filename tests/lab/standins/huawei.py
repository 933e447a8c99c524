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

"""Stand-in of Huawei FusionStorage: the program by which its agent is asked.

The volumes are loop devices, which udev names below /dev/huaweisds.
"""

import typing

from tests.lab.standins import huawei_books as books
from tests.lab.standins import program
from tests.lab.storage import backend
from tests.lab.storage import cinder_info
from tests.lab.storage import image_volume

# Where os-brick looks for it.
PROGRAM = '/usr/local/bin/sds/sds_cli'


class HuaweiVolume(image_volume.ImageVolume):
    """A volume of the stand-in."""

    def connection_info(self) -> dict[str, typing.Any]:
        """Return it; data.volume_id is the name that the program is given."""
        return cinder_info.connection_info('huaweisdshypervisor', self.volume_id, {})

    def grow(self, size: int) -> None:
        """Let it grow; nothing tells a host, and os-brick has no way to ask."""
        self.resize_image(size)

    def identity(self) -> str:
        return f'path:/dev/huaweisds/{self.record["name"]}'

    def seen_by_target(self) -> list[str]:
        attached = books.VOLUMES.load(self.volume_id)['attached']
        return ['attached to this node'] if attached else []

    def withdraw(self) -> None:
        """Detach it from the node, whoever has it open."""
        self.save(attached=False)
        books.device(self.record, self.volume_id).disappear(force=True)

    def give_back(self) -> None:
        """Do nothing: whoever wants it attaches it again."""

    def delete(self) -> None:
        if self.volume_id in books.VOLUMES.names():
            self.withdraw()
            books.VOLUMES.forget(self.volume_id)
        image_volume.remove_image(books.VOLUMES, self.volume_id)


class HuaweiBackend(backend.Backend):
    """Stand-in of FusionStorage with its agent on this host."""

    name = 'huaweisds'

    def up(self) -> None:
        program.install(PROGRAM, 'tests.lab.standins.sds_cli')
        for volume_id, record in books.VOLUMES.all().items():
            if record['attached']:
                books.device(record, volume_id).appear()

    def is_up(self) -> bool:
        return program.is_installed(PROGRAM, 'tests.lab.standins.sds_cli')

    def make_volume(self, volume_id: str, size: int) -> HuaweiVolume:
        image_volume.make_image(books.VOLUMES, volume_id, size)
        books.VOLUMES.save(volume_id, {'name': volume_id, 'attached': False})
        return HuaweiVolume(books.VOLUMES, volume_id)

    def find_volume(self, volume_id: str) -> HuaweiVolume:
        return HuaweiVolume(books.VOLUMES, volume_id)
