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

"""A back end of the embedded Cinder with a real share: GlusterFS on loopback.

Whoever attaches a volume mounts the share as any other.
"""

import dataclasses
import pathlib

from volumedrivers.testing.cinder.backends import NfsBackend
from volumedrivers.testing.gluster import GlusterServer


@dataclasses.dataclass
class GlusterBackend(NfsBackend):
    """Files on the share of a server that runs; Cinder is on the same host as its brick.

    :ivar server: gives the files to whoever attaches them
    """

    name: str = 'glusterfs'
    server: GlusterServer = dataclasses.field(kw_only=True)

    def prepare(self, directory: pathlib.Path) -> dict[str, str]:
        """Bind the brick where Cinder mounts the share; it takes root."""
        self.export = self.server.export
        options = super().prepare(directory)
        return {
            **options,
            'volume_driver': 'volumedrivers.testing.cinder.gluster_driver.GlusterDriver',
        }

    def directory_of_files(self, own: pathlib.Path) -> pathlib.Path:
        """Return the brick."""
        return self.server.brick
