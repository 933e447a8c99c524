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

"""Stand-in of Quobyte: its client is a file system in user space with its name."""

from tests.lab.standins import mount_quobyte
from tests.lab.standins import program
from tests.lab.standins.shared_file import SharedFileBackend

PROGRAM = '/usr/sbin/mount.quobyte'
_MODULE = 'tests.lab.standins.mount_quobyte'


class QuobyteBackend(SharedFileBackend):
    """Stand-in of a Quobyte volume."""

    name = 'quobyte'
    protocol = 'quobyte'
    export = f'quobyte://{mount_quobyte.REGISTRY}/{mount_quobyte.VOLUME}'

    def up(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        program.install(PROGRAM, _MODULE)

    def is_up(self) -> bool:
        return self.directory.is_dir() and program.is_installed(PROGRAM, _MODULE)
