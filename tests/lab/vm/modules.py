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

"""A tree of kernel modules: which files a module needs."""

import pathlib

from tests.lab.vm.errors import LabError


class ModuleMissing(LabError):
    """The kernel has no such module."""


def needed(tree: pathlib.Path, names: tuple[str, ...]) -> list[pathlib.Path]:
    """Return the files of modules and of those they need, in the order to load them.

    :param tree: lib/modules/VERSION with its modules.dep
    :param names: of modules, with underscores or dashes
    :raises ModuleMissing
    """
    known: dict[str, tuple[str, list[str]]] = {}
    for line in (tree / 'modules.dep').read_text().splitlines():
        path, _, others = line.partition(':')
        known[_name(path)] = (path, others.split())
    built_in = {_name(line) for line in (tree / 'modules.builtin').read_text().splitlines()}
    files: list[pathlib.Path] = []
    for name in names:
        if _name(name) in built_in:
            continue
        if _name(name) not in known:
            raise ModuleMissing(f'{name} in {tree.name}')
        path, others = known[_name(name)]
        # The table has them from the nearest to the farthest.
        for file in (*reversed(others), path):
            if tree / file not in files:
                files.append(tree / file)
    return files


def _name(path: str) -> str:
    return pathlib.PurePath(path.strip()).name.split('.')[0].replace('-', '_')
