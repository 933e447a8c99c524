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

"""The package under test as a wheel of the working tree."""

import importlib.metadata
import pathlib
import shutil
import sys
import tempfile
import tomllib

from tests.lab.vm import programs
from tests.lab.vm.cache import Cache
from tests.lab.vm.cache import content_of
from tests.lab.vm.cache import key_of

PROJECT = pathlib.Path(__file__).parents[3]

# What the wheel is made of.
SOURCES = (
    'LICENSE',
    'README.rst',
    'etc',
    'pyproject.toml',
    'requirements.txt',
    'setup.cfg',
    'setup.py',
    'volumedrivers',
)

_BUILD = """\
import sys
from pbr import build
build.build_wheel(sys.argv[1])
"""


def build(cache: Cache | None = None) -> pathlib.Path:
    """Return the wheel; it is built again when a source has changed.

    :raises programs.ProgramFailed
    """
    cache = cache or Cache()
    files = sources()
    key = key_of([*content_of(files, PROJECT), sys.version])
    entry = cache.get('wheel', key, lambda directory: _build(directory, files, cache))
    return next(entry.glob('*.whl'))


def sources() -> list[pathlib.Path]:
    """Return the files that the wheel is made of."""
    found = []
    for name in SOURCES:
        path = PROJECT / name
        inside = path.rglob('*') if path.is_dir() else [path]
        found += [file for file in inside if file.is_file() and '__pycache__' not in file.parts]
    return found


def _build(directory: pathlib.Path, files: list[pathlib.Path], cache: Cache) -> None:
    # In a copy: a build leaves things in its tree, and the next one takes them.
    with tempfile.TemporaryDirectory() as copy:
        for file in files:
            target = pathlib.Path(copy) / file.relative_to(PROJECT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, target)
        programs.run(
            [sys.executable, '-c', _BUILD, directory],
            cwd=pathlib.Path(copy),
            env={'PBR_VERSION': _version(), 'PYTHONPATH': str(_tools(cache))},
        )


def _version() -> str:
    """Return the version that is installed here; without a repository pbr knows none."""
    try:
        return importlib.metadata.version('volumedrivers')
    except importlib.metadata.PackageNotFoundError:
        return '0.0.0'


def _tools(cache: Cache) -> pathlib.Path:
    """Return where what pyproject.toml wants for a build is installed, apart from all else."""
    wanted = tomllib.loads((PROJECT / 'pyproject.toml').read_text())['build-system']['requires']
    place = cache.root / f'tools-{key_of([*wanted, sys.version])}'
    if place.exists():
        return place
    fresh = pathlib.Path(tempfile.mkdtemp(prefix='partial-wheel-tools-', dir=cache.root))
    options = ['--disable-pip-version-check', '--quiet', '--target', fresh]
    programs.run([sys.executable, '-m', 'pip', 'install', *options, *wanted])
    fresh.rename(place)
    return place
