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
import subprocess
import sys
import tarfile
import tempfile
import zipfile

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
# A run makes it once; its other processes are told where it is.
VARIABLE = 'VOLUMEDRIVERS_LAB_BUNDLE'
TIMEOUT = 300.0  # seconds
# As pyproject.toml wants it for building.
SETUPTOOLS = 77


class BundleError(Exception):
    """The package cannot be built; the end of what the builder said."""


def bundle() -> pathlib.Path:
    """Return the archive of this run: ``volumedrivers``, its metadata, and ``tests/lab``.

    A tar file.  The package is a wheel of the working tree, so what a user
    would install is what is tested, entry points included.

    :raises BundleError
    """
    known = os.environ.get(VARIABLE)
    if known and pathlib.Path(known).exists():
        return pathlib.Path(known)
    directory = tempfile.mkdtemp(prefix='volumedrivers-bundle-')
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    made = make_bundle(pathlib.Path(directory))
    os.environ[VARIABLE] = str(made)
    return made


def make_bundle(directory: pathlib.Path) -> pathlib.Path:
    """Make the archive in an empty directory."""
    site = directory / 'site'
    with zipfile.ZipFile(build_wheel(directory)) as wheel:
        wheel.extractall(site)
    tests = site / 'tests'
    tests.mkdir()
    shutil.copy2(REPOSITORY / 'tests' / '__init__.py', tests)
    shutil.copytree(
        REPOSITORY / 'tests' / 'lab', tests / 'lab', ignore=shutil.ignore_patterns('__pycache__')
    )
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


def build_wheel(directory: pathlib.Path) -> pathlib.Path:
    """Build the wheel of the working tree.

    :raises BundleError
    """
    command = [sys.executable, '-m', 'pip', 'wheel', '--disable-pip-version-check', '--no-deps']
    # Where the builder is installed it need not be fetched.
    if _has_builder():
        command.append('--no-build-isolation')
    done = subprocess.run(
        [*command, '--wheel-dir', str(directory), str(REPOSITORY)],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
    )
    found = sorted(directory.glob('volumedrivers-*.whl'))
    if done.returncode or not found:
        raise BundleError(f'no wheel of {REPOSITORY}: {done.stdout[-2000:]}')
    return found[0]


def _has_builder() -> bool:
    try:
        importlib.metadata.version('pbr')
        return int(importlib.metadata.version('setuptools').split('.')[0]) >= SETUPTOOLS
    except importlib.metadata.PackageNotFoundError:
        return False
