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

"""Vendors' programs: names under which this host finds stand-ins of them."""

import pathlib
import sys

from tests.lab.standins.daemon import ROOT

_SCRIPT = """\
#!/bin/sh
# Stand-in of a vendor's program, in the lab of volumedrivers.
exec env PYTHONPATH={root} {python} -S -m {module} "$@"
"""


def install(path: str, module: str) -> None:
    """Let a module of this package be a program."""
    place = pathlib.Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    if not is_installed(path, module):
        place.write_text(_script(module))
        place.chmod(0o755)


def is_installed(path: str, module: str) -> bool:
    """Say whether the program is there, and is this module."""
    place = pathlib.Path(path)
    return place.is_file() and place.read_text() == _script(module)


def _script(module: str) -> str:
    # Without site-packages, which are slow to start with.
    return _SCRIPT.format(root=ROOT, python=sys.executable, module=module)
