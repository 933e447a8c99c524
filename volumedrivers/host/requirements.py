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

"""What a driver needs of this host, and what to do when it is not there.

Every check looks and changes nothing.  Its sentence names the thing that is
missing, and what an operator does about it on Debian.
"""

from collections.abc import Iterable
import dataclasses
import os
import platform
import shutil
import typing

# Tools of root are not on the search path of an ordinary user.
SEARCH_PATH = os.pathsep.join(
    (os.environ.get('PATH', os.defpath), '/usr/local/sbin', '/usr/sbin', '/sbin')
)


class Requirement(typing.Protocol):
    """One thing that a driver needs."""

    def missing(self) -> str | None:
        """Say what is missing and what to do; None: nothing is."""


@dataclasses.dataclass(frozen=True)
class Tool:
    """A program that is called.

    :ivar name: on the search path, or an absolute path
    :ivar package: where it is from: a Debian package, or words
    """

    name: str
    package: str

    def missing(self) -> str | None:
        """Look for the program."""
        if shutil.which(self.name, path=SEARCH_PATH) is not None:
            return None
        if ' ' in self.package:
            return f'{self.name} is not installed; it comes with {self.package}'
        return f'{self.name} is not installed; run "apt-get install {self.package}"'


@dataclasses.dataclass(frozen=True)
class KernelModule:
    """A module that is loaded, built in, or can be loaded.

    :ivar name: as modprobe takes it
    :ivar package: where it is from, when the running kernel has none
    """

    name: str
    package: str = 'linux-image-amd64 (cloud kernels leave it out)'
    sysfs: str = '/sys'
    modules: str = '/lib/modules'

    def missing(self) -> str | None:
        """Look among the loaded modules and those of the running kernel."""
        loaded = os.path.join(self.sysfs, 'module', self.name.replace('-', '_'))
        if os.path.isdir(loaded):
            return None
        release = platform.release()
        for index in ('modules.dep', 'modules.builtin'):
            if self._is_listed(os.path.join(self.modules, release, index)):
                return None
        lacks = f'kernel {release} has no module {self.name}'
        if self.package.startswith('linux-image-'):
            return f'{lacks}; boot a kernel that has it, such as that of {self.package}'
        return f'{lacks}; it comes with {self.package}, built for one kernel at a time'

    def _is_listed(self, index: str) -> bool:
        try:
            with open(index, encoding='utf-8') as lines:
                # kernel/drivers/scsi/iscsi_tcp.ko.xz: what it depends on
                names = [
                    os.path.basename(line.partition(':')[0]).split('.ko')[0].strip()
                    for line in lines
                ]
        except OSError:
            return False
        return self.name.replace('-', '_') in {name.replace('-', '_') for name in names}


@dataclasses.dataclass(frozen=True)
class Directory:
    """A directory that has something in it once hardware or a service is there."""

    path: str
    advice: str

    def missing(self) -> str | None:
        """Look whether it has an entry."""
        try:
            if os.listdir(self.path):
                return None
        except OSError:
            pass
        return self.advice


MULTIPATH = Tool('multipath', 'multipath-tools')


def unmet(requirements: Iterable[Requirement]) -> str | None:
    """Join what is missing into one sentence; None: nothing is."""
    missing = [reason for reason in (item.missing() for item in requirements) if reason]
    return '; '.join(missing) if missing else None
