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

"""Nova's LibvirtDriver on the lab's libvirtd; a session of the RPC."""

import typing

from tests.functional.nova.driver_room import DriverRoom
from tests.lab.bench.bench import DEVICE_NAME_TIMEOUT
from tests.lab.bench.bench import STATE

DIRECTORY = STATE / 'nova'


class LabRoom(DriverRoom):
    """Begins with the drivers of this package, whose journal is the bench's too.

    :param options: of nova.conf, by group
    """

    def __init__(
        self, options: dict[str, dict[str, typing.Any]], uri: str = 'qemu:///system'
    ) -> None:
        ours = {'state_path': str(STATE), 'device_name_timeout': DEVICE_NAME_TIMEOUT}
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        super().__init__(
            {
                'directory': str(DIRECTORY),
                'uri': uri,
                'options': {**options, 'volumedrivers': ours},
                'register': True,
                'exports': {},
            }
        )
        try:
            self.setUp()
        except BaseException:
            self.doCleanups()
            raise

    def close(self) -> None:
        """Undo what the fixtures did."""
        self.doCleanups()
