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

"""The package under test and the lab's own code, as one archive for a host under test."""

import atexit
import compileall
import importlib.metadata
import os
import pathlib
import py_compile
import shutil
import tarfile
import tempfile
import zipfile

from tests.lab.vm import wheel
from tests.lab.vm.imports import closure

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
# Packages and modules elsewhere below tests/ that the lab uses.
COMMON = ['tests.functional', 'tests.functional.nova', 'tests.functional.nova.driver_room']
# A run makes each once; its other processes are told where they are.
PACKAGE = 'VOLUMEDRIVERS_LAB_BUNDLE'
LAB = 'VOLUMEDRIVERS_LAB_BUNDLE_OF_TESTS'

# Whose python3 it is follows from PATH there, what it finds from its own place.
_SCRIPT = """\
#!/usr/bin/env python3
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from {module} import {function}

sys.exit({function}())
"""


def bundle(*, package: bool = True) -> pathlib.Path:
    """Return the archive of this run, a tar file.

    The package is a wheel of the working tree, so what a user would install is
    what is tested, entry points included.

    :param package: False: only ``tests/lab``
    :raises programs.ProgramFailed
    """
    variable = PACKAGE if package else LAB
    known = os.environ.get(variable)
    if known and pathlib.Path(known).exists():
        return pathlib.Path(known)
    directory = tempfile.mkdtemp(prefix='volumedrivers-bundle-')
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    made = make_bundle(pathlib.Path(directory), package=package)
    os.environ[variable] = str(made)
    return made


def make_bundle(directory: pathlib.Path, *, package: bool) -> pathlib.Path:
    """Make the archive in an empty directory."""
    site = directory / 'site'
    site.mkdir()
    if package:
        with zipfile.ZipFile(wheel.build()) as packed:
            packed.extractall(site)
        _write_scripts(site)
    tests = site / 'tests'
    tests.mkdir()
    shutil.copy2(REPOSITORY / 'tests' / '__init__.py', tests)
    shutil.copytree(
        REPOSITORY / 'tests' / 'lab', tests / 'lab', ignore=shutil.ignore_patterns('__pycache__')
    )
    # What the lab has in common with other tests.
    for file in closure(COMMON, below='tests.functional'):
        target = site / file.relative_to(REPOSITORY)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target)
    # Of no use to another Python than this one, and no harm either.
    compileall.compile_dir(
        site,
        quiet=2,
        stripdir=str(site),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    archive = directory / 'bundle.tar'
    with tarfile.open(archive, 'w') as tar:
        tar.add(site, '.')
    shutil.rmtree(site)
    return archive


def _write_scripts(site: pathlib.Path) -> None:
    """Make the commands of the package, as an installation would."""
    (site / 'bin').mkdir()
    for found in importlib.metadata.distributions(path=[str(site)]):
        for script in found.entry_points.select(group='console_scripts'):
            path = site / 'bin' / script.name
            path.write_text(_SCRIPT.format(module=script.module, function=script.attr))
            path.chmod(0o755)
