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

"""A back end of the embedded Cinder with real block devices: loop devices of this host."""

import dataclasses
import pathlib

from volumedrivers.testing.cinder.backends import IscsiBackend


@dataclasses.dataclass
class LoopBackend(IscsiBackend):
    """Loop devices over files; there are some in every kernel."""

    name: str = 'loop'

    def prepare(self, directory: pathlib.Path) -> dict[str, str]:
        """Make the directory of the files."""
        return {
            **super().prepare(directory),
            'volume_driver': 'volumedrivers.testing.cinder.loop_driver.LoopDriver',
        }
