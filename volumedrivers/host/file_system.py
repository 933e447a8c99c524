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

"""What a driver needs of this host's kernel to mount its shares."""

import dataclasses

from volumedrivers.host import requirements


@dataclasses.dataclass(frozen=True)
class FileSystem:
    """A file system that is built in, loaded, or has a module; a Requirement.

    :ivar name: as /proc/filesystems has it: nfs, cifs, fuse
    :ivar module: what modprobe calls it, where that is another name
    """

    name: str
    module: str | None = None
    table: str = '/proc/filesystems'

    def missing(self) -> str | None:
        """Look among the kernel's file systems, then for a module."""
        with open(self.table, encoding='ascii') as lines:
            if self.name in {line.split()[-1] for line in lines}:
                return None
        return requirements.KernelModule(self.module or self.name).missing()
