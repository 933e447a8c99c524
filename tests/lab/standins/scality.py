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

"""Stand-in of Scality's SOFS: its client is a file system in user space."""

import json
import pathlib
import typing

from tests.lab.standins import program
from tests.lab.standins.shared_file import SharedFileBackend
from tests.lab.standins.shared_file import SharedFileVolume

PROGRAM = '/usr/sbin/mount.sofs'
CONFIGURATION = pathlib.Path('/etc/sfused.conf')
_MODULE = 'tests.lab.standins.mount_sofs'
_SETTINGS = json.dumps({'ring': 'lab'}) + '\n'


class ScalityBackend(SharedFileBackend):
    """Stand-in of a Scality ring with its scale-out file system."""

    name = 'scality'
    protocol = 'scality'
    export = 'cinder/volumes'

    def up(self) -> None:
        for name in ('sys', f'{self.export}/00'):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        CONFIGURATION.write_text(_SETTINGS)
        program.install(PROGRAM, _MODULE)

    def is_up(self) -> bool:
        return CONFIGURATION.exists() and program.is_installed(PROGRAM, _MODULE)

    def place_of(self, name: str) -> pathlib.Path:
        return self.directory / self.export / '00' / name

    def data(self, volume: SharedFileVolume) -> dict[str, typing.Any]:
        return {**super().data(volume), 'sofs_path': f'{self.export}/00/{volume.name}'}
