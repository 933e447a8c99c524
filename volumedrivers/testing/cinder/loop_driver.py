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

"""A volume driver of Cinder whose volumes are loop devices of this host, over files."""

import pathlib
import typing

from cinder import interface

from volumedrivers.testing import server
from volumedrivers.testing.cinder import tgt_driver


@interface.volumedriver
class LoopDriver(tgt_driver.TgtDriver):
    """Files as TgtDriver's; exported is a block device, to its own host only."""

    CI_WIKI_NAME = 'none'

    def __init__(self, *args: typing.Any, **kwargs: typing.Any) -> None:
        super().__init__(*args, **kwargs)
        self._devices: dict[str, str] = {}

    def do_setup(self, context: object) -> None:
        """Find what is needed."""
        server.find_tool('losetup', 'mount')

    def stop(self) -> None:
        """Take all devices away; the files stay."""
        super().stop()
        with self._lock:
            while self._devices:
                _losetup('--detach', self._devices.popitem()[1])

    def extend_volume(self, volume: typing.Any, new_size: int) -> None:
        """Make the file longer, and let its device see that."""
        super().extend_volume(volume, new_size)
        with self._lock:
            if volume.id in self._devices:
                _losetup('--set-capacity', self._devices[volume.id])

    def validate_connector(self, connector: dict[str, typing.Any]) -> None:
        """Any host will do that is this one."""

    def create_export(self, context: object, volume: typing.Any, connector: object) -> None:
        """Make the device unless there is one."""
        with self._lock:
            if volume.id not in self._devices:
                image: pathlib.Path = self._image(volume)
                self._devices[volume.id] = _losetup('--find', '--show', str(image))

    def remove_export(self, context: object, volume: typing.Any) -> None:
        """Take the device away, if there is one."""
        with self._lock:
            device = self._devices.pop(volume.id, None)
            if device is not None:
                _losetup('--detach', device)

    def initialize_connection(
        self, volume: typing.Any, connector: object, **kwargs: object
    ) -> dict[str, typing.Any]:
        """Say what the device is called."""
        device = self._devices[volume.id]
        return {'driver_volume_type': 'local', 'data': {'device_path': device}}


def _losetup(*arguments: str) -> str:
    return server.run(server.find_tool('losetup', 'mount'), *arguments).strip()
