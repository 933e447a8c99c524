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

"""The Python packages of this environment that the virtual machine needs.

They are copied in the versions that are installed here, so the lab tests what
the other tests test; the package itself is left out, it comes with each run.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import importlib.metadata
import os
import pathlib
import re
import shutil
import sys

from packaging.requirements import Requirement

from tests.lab.vm import programs
from tests.lab.vm.errors import LabError

# Debian 12's, for which compiled modules and byte code are made.
VERSION = (3, 11)

ROOT = 'volumedrivers'
EXTRAS = ('cinder', 'libvirt')

# Where they are in the machine.
PLACE = 'opt/lab/venv'
SITE_PACKAGES = f'lib/python{VERSION[0]}.{VERSION[1]}/site-packages'

_PYVENV = """\
home = /usr/bin
include-system-site-packages = false
version = {0}.{1}
"""


class WrongPython(LabError):
    """This environment cannot be copied into the virtual machine."""


def distributions(wanted_extras: Sequence[str] = EXTRAS) -> list[importlib.metadata.Distribution]:
    """Return what the package needs to run, without the package, by name.

    :param wanted_extras: of the package
    :raises WrongPython: something is missing here
    """
    if sys.version_info[:2] != VERSION:
        raise WrongPython(
            f'the lab takes its Python packages from this environment, which has to be'
            f' Python {VERSION[0]}.{VERSION[1]}, not {sys.version_info[0]}.{sys.version_info[1]}'
        )
    found: dict[str, importlib.metadata.Distribution] = {}
    extras: dict[str, set[str]] = {}
    waiting: list[tuple[str, set[str], str]] = [(ROOT, set(wanted_extras), 'the lab')]
    while waiting:
        name, wanted, user = waiting.pop()
        key = _normal(name)
        new = wanted - extras.get(key, set())
        if key in found and not new:
            continue
        try:
            found[key] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError as error:
            raise WrongPython(f'{name}, which {user} needs, is not installed here') from error
        extras[key] = extras.get(key, set()) | wanted
        for line in found[key].requires or ():
            requirement = Requirement(line)
            marker = requirement.marker
            applies = marker is None or any(
                marker.evaluate({'extra': extra}) for extra in ('', *extras[key])
            )
            if applies:
                waiting.append((requirement.name, set(requirement.extras), name))
    del found[ROOT]
    return [found[key] for key in sorted(found)]


def versions() -> list[str]:
    """Return name==version of each, which is what the image depends on."""
    return [f'{found.name}=={found.version}' for found in distributions()]


def copy(directory: pathlib.Path) -> None:
    """Make the virtual environment of the machine and compile it.

    :param directory: becomes the machine's root; PLACE is made below
    :raises WrongPython
    """
    place = directory / PLACE
    packages = place / SITE_PACKAGES
    packages.mkdir(parents=True)
    (place / 'bin').mkdir()
    (place / 'pyvenv.cfg').write_text(_PYVENV.format(*VERSION))
    for name in ('python', 'python3', f'python{VERSION[0]}.{VERSION[1]}'):
        (place / 'bin' / name).symlink_to(f'/usr/bin/python{VERSION[0]}.{VERSION[1]}')
    for distribution in distributions():
        for source, relative in _files(distribution):
            target = pathlib.Path(os.path.normpath(packages / relative))
            if not target.is_relative_to(place):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.parent == place / 'bin':
                _copy_script(source, target)
            else:
                shutil.copy2(source, target)
    # Told where the files will be, so that tracebacks in the machine name files there.
    programs.run(
        [
            sys.executable,
            '-m',
            'compileall',
            '-q',
            '-j',
            '2',
            '-s',
            directory,
            '-p',
            '/',
            packages,
        ]
    )


def link_debian(directory: pathlib.Path) -> None:
    """Link Debian's compiled modules of Ceph into the environment.

    :param directory: the machine's root, with Debian's packages
    """
    packages = directory / PLACE / SITE_PACKAGES
    for name in ('rados', 'rbd'):
        for file in (directory / 'usr/lib/python3/dist-packages').glob(f'{name}.*.so'):
            (packages / file.name).symlink_to(f'/usr/lib/python3/dist-packages/{file.name}')


def _normal(name: str) -> str:
    return re.sub(r'[-_.]+', '-', name).lower()


def _files(
    distribution: importlib.metadata.Distribution,
) -> Iterator[tuple[pathlib.Path, pathlib.PurePath]]:
    for path in distribution.files or ():
        source = pathlib.Path(str(path.locate()))
        if path.suffix != '.pyc' and '/tests/' not in f'/{path}' and source.is_file():
            yield source, path


def _copy_script(source: pathlib.Path, target: pathlib.Path) -> None:
    content = source.read_bytes()
    if content.startswith(b'#!') and b'python' in content.split(b'\n', 1)[0]:
        _, _, rest = content.partition(b'\n')
        content = f'#!/{PLACE}/bin/python\n'.encode() + rest
    target.write_bytes(content)
    target.chmod(0o755)
