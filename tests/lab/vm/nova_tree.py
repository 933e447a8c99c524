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

"""Nova, and what of its packages the image has not, for a machine that is to run it.

The image has what the package needs; this is brought into a machine when a
test asks for Nova, so that all others need not wait for it.
"""

import compileall
import pathlib
import py_compile
import shutil
import tarfile

from tests.lab.vm import python_tree
from tests.lab.vm.cache import Cache
from tests.lab.vm.cache import content_of
from tests.lab.vm.cache import key_of
from tests.lab.vm.wheel import PROJECT

EXTRAS = (*python_tree.EXTRAS, 'nova', 'novatest')
# Large, and only for the proxies of Nova's consoles.
WITHOUT = frozenset(('numpy', 'redis', 'websockify'))
_ARCHIVE = 'nova.tar'
_NOVA = 'nova'

# Of Nova's own tests only what their fixtures need: the files up here, and those of
# the directories named.
_DEPTH = 4
_FIXTURES = ('nova/tests/fixtures/', 'nova/tests/functional/api/')


def archive(cache: Cache | None = None) -> pathlib.Path:
    """Return a tar file of directories to import from.

    :raises python_tree.WrongPython: something is missing here
    """
    cache = cache or Cache()
    wanted = [f'{found.name}=={found.version}' for found in python_tree.distributions(EXTRAS)]
    source = content_of([pathlib.Path(__file__)], PROJECT)
    entry = cache.get('nova', key_of([*wanted, *source]), _make)
    return entry / _ARCHIVE


def _make(directory: pathlib.Path) -> None:
    site = directory / 'site'
    known = set(python_tree.versions())
    for distribution in python_tree.distributions(EXTRAS):
        if distribution.name in WITHOUT or f'{distribution.name}=={distribution.version}' in known:
            continue
        for path in distribution.files or ():
            if path.suffix == '.pyc' or '..' in path.parts or not _is_wanted(path.as_posix()):
                continue
            target = site / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(str(path.locate()), target)
    compileall.compile_dir(
        site,
        quiet=2,
        stripdir=str(site),
        workers=2,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    with tarfile.open(directory / _ARCHIVE, 'w') as tar:
        tar.add(site, '.')
    shutil.rmtree(site)


def _is_wanted(path: str) -> bool:
    if '/locale/' in path:
        return False
    if '/tests/' not in path:
        return True
    if not path.startswith(f'{_NOVA}/'):
        return False
    return path.count('/') < _DEPTH or path.startswith(_FIXTURES)
