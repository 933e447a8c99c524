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
    :ivar advice: what to do where no kernel module of the distribution has it
    """

    name: str
    advice: str | None = None
    table: str = '/proc/filesystems'

    def missing(self) -> str | None:
        """Look among the kernel's file systems, then for a module."""
        with open(self.table, encoding='ascii') as lines:
            if self.name in {line.split()[-1] for line in lines}:
                return None
        if self.advice is not None:
            return f'the kernel has no file system {self.name}; {self.advice}'
        return requirements.KernelModule(self.name).missing()
