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

"""Programs of the controller: find them, run them, say what was wrong."""

from collections.abc import Mapping
from collections.abc import Sequence
import os
import pathlib
import shutil
import subprocess
import typing

from tests.lab.vm.errors import LabError

_SHOWN = 20


class ProgramMissing(LabError):
    """A program that the lab needs is not installed."""


class ProgramFailed(LabError):
    """A program ended with an error."""


def find(name: str, package: str) -> str:
    """Return the path of a program.

    :raises ProgramMissing: says which Debian package has it
    """
    path = f'{os.environ.get("PATH", "")}:/usr/local/sbin:/usr/sbin:/sbin'
    found = shutil.which(name, path=path)
    if found is None:
        raise ProgramMissing(f'{name} is missing: install the Debian package {package}')
    return found


def run(
    arguments: Sequence[str | pathlib.Path],
    *,
    cwd: pathlib.Path | None = None,
    stdin: typing.Any = subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a program and return what it wrote to stdout.

    :param env: variables beside those of this process
    :raises ProgramFailed: with the end of what it wrote
    """
    done = subprocess.run(
        arguments,
        cwd=cwd,
        stdin=stdin,
        capture_output=True,
        text=True,
        errors='replace',
        env={**os.environ, **(env or {})},
        check=False,
    )
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        said = '\n'.join(lines[-_SHOWN:])
        name = pathlib.PurePath(arguments[0]).name
        raise ProgramFailed(f'{name} ended with {done.returncode}:\n{said}')
    return done.stdout


def tail(path: pathlib.Path, lines: int = _SHOWN) -> str:
    """Return the last lines of a log, nothing where there is none."""
    try:
        text = path.read_text(errors='replace')
    except OSError:
        return ''
    return '\n'.join(text.splitlines()[-lines:])
