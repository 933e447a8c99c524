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

"""Which of the lab's own modules a module imports, directly or by others."""

import ast
import pathlib

from tests.lab.vm.wheel import PROJECT


def closure(names: list[str], *, below: str = 'tests.lab') -> set[pathlib.Path]:
    """Return the files of modules and of all that they import, as far as they are the lab's.

    :param names: dotted
    :param below: modules of other packages are not followed
    """
    files: set[pathlib.Path] = set()
    waiting = list(names)
    while waiting:
        path = _file(waiting.pop())
        if path is None or path in files:
            continue
        files.add(path)
        for name in _imported(ast.parse(path.read_text())):
            if name == below or name.startswith(f'{below}.'):
                waiting.append(name)
    return files


def _file(name: str) -> pathlib.Path | None:
    base = PROJECT.joinpath(*name.split('.'))
    for path in (base.with_suffix('.py'), base / '__init__.py'):
        if path.exists():
            return path
    return None


def _imported(tree: ast.Module) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            # Of these some are modules.
            names += [f'{node.module}.{alias.name}' for alias in node.names]
    return names
