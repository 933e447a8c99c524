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

"""Stand-in of Virtuozzo Storage: its two programs, and a file system with its name."""

import shutil
import typing

from tests.lab.standins import program
from tests.lab.standins import vz_cluster
from tests.lab.standins.shared_file import SharedFileBackend
from tests.lab.standins.shared_file import SharedFileVolume

PROGRAMS = {
    '/usr/bin/pstorage': 'tests.lab.standins.pstorage',
    '/usr/bin/pstorage-mount': 'tests.lab.standins.pstorage_mount',
}


class VzstorageBackend(SharedFileBackend):
    """Stand-in of a Virtuozzo Storage cluster."""

    name = 'vzstorage'
    protocol = 'vzstorage'
    export = f'{",".join(vz_cluster.MDS)}:/{vz_cluster.CLUSTER}'
    passwords = (vz_cluster.PASSWORD,)

    def up(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        # Its package makes this directory; what is below is each host's.
        vz_cluster.CONFIGURATION.mkdir(parents=True, exist_ok=True)
        for path, module in PROGRAMS.items():
            program.install(path, module)

    def is_up(self) -> bool:
        return self.directory.is_dir() and all(
            program.is_installed(path, module) for path, module in PROGRAMS.items()
        )

    def data(self, volume: SharedFileVolume) -> dict[str, typing.Any]:
        """Return it with the password in the export, where Cinder has it."""
        return {**super().data(volume), 'export': f'{self.export}:{vz_cluster.PASSWORD}'}

    def make_volume(self, volume_id: str, size: int) -> SharedFileVolume:
        if not self._clients():
            # Every host is let in anew.
            shutil.rmtree(vz_cluster.CONFIGURATION / vz_cluster.CLUSTER, ignore_errors=True)
        return super().make_volume(volume_id, size)
