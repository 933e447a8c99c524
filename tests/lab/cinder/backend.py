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

"""What Cinder keeps its volumes on in the lab, and a look at that past Cinder."""

import abc

from volumedrivers.testing.cinder.backends import Backend


class LabBackend(Backend):
    """One back end of Cinder, that can be looked at as its operator would."""

    @abc.abstractmethod
    def read(self, volume_id: str, offset: int, length: int) -> bytes:
        """Read what is stored, past the host that has the volume."""

    @abc.abstractmethod
    def size(self, volume_id: str) -> int:
        """Return the size in bytes of what is stored."""

    @abc.abstractmethod
    def identity(self, volume_id: str) -> str:
        """Return by what name the host has to know a volume that is attached to it."""

    @abc.abstractmethod
    def served(self, volume_id: str) -> list[str]:
        """Return what is served of a volume, and to whom, one line each; nothing: no one."""

    @abc.abstractmethod
    def contents(self) -> list[str]:
        """Return the names of all volumes and snapshots that are stored."""
