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

"""Which software is on this host, for the report."""

from collections.abc import Sequence
import importlib.metadata
import os
import pathlib
import platform
import re
import shutil
import subprocess

PACKAGES = ('volumedrivers', 'os-brick', 'libvirt-python')
# Programs beside Python's packages: name, arguments that print a version.
PROGRAMS = {
    'libvirt': ('libvirtd', '--version'),
    'QEMU': ('qemu-system-x86_64', '--version'),
}
PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'


class About:
    """Answers what is installed; a session of the RPC."""

    def versions(self) -> dict[str, str]:
        """Return versions by name; what is not installed is left out."""
        found = {
            'system': _system(),
            'kernel': platform.release(),
            'processors': str(os.cpu_count()),
            'Python': platform.python_version(),
        }
        for name in PACKAGES:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
        for name, command in PROGRAMS.items():
            version = _version(command)
            if version:
                found[name] = version
        return found


def _system() -> str:
    try:
        lines = pathlib.Path('/etc/os-release').read_text(encoding='utf-8').splitlines()
    except FileNotFoundError:
        return platform.system()
    names = dict(line.partition('=')[::2] for line in lines)
    return names.get('PRETTY_NAME', platform.system()).strip('"')


def _version(command: Sequence[str]) -> str | None:
    program = shutil.which(command[0], path=PATH)
    if program is None:
        return None
    done = subprocess.run(
        [program, *command[1:]], check=False, capture_output=True, text=True, timeout=60
    )
    found = re.search(r'\d+(\.\d+)+', done.stdout)
    return found.group() if found else None
