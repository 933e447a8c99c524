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

"""Modules of this kernel under another name: where a vendor's module cannot be had.

The bytes of a module of the running kernel are copied with names in them
exchanged; sizes and symbols stay, so the kernel loads it like the original.
Its signature would be wrong and is cut off; the kernels of distributions load
such modules unless Secure Boot is on.
"""

import os
import pathlib
import subprocess
import tempfile

_SIGNED = b'~Module signature appended~\n'
# After the signer's block: struct module_signature, which ends in its length.
_SIGNATURE_INFO = 12


class NoSuchModule(Exception):
    """The running kernel does not have the module that is to be copied."""


def load(name: str, original: str, exchange: tuple[tuple[bytes, bytes], ...]) -> None:
    """Load a copy of a module of the running kernel, unless it is loaded.

    It is not added to the tables of modprobe: to compute those takes a minute
    in an emulated machine.

    :param exchange: which bytes become which
    :raises NoSuchModule
    """
    if pathlib.Path('/sys/module', name).is_dir():
        return
    *needed, file = _files_of(original)
    for each in needed:
        subprocess.run(['modprobe', each.name.partition('.')[0]], check=True)
    with tempfile.TemporaryDirectory() as directory:
        # The kernel takes none that somebody may still write to.
        copy = pathlib.Path(directory, f'{name}.ko')
        copy.write_bytes(renamed(file.read_bytes(), exchange))
        subprocess.run(['insmod', str(copy)], check=True)


def renamed(module: bytes, exchange: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """Return a module without its signature and with bytes exchanged.

    :raises ValueError: it has not what is to be exchanged, or would become another size
    """
    module = unsigned(module)
    for old, new in exchange:
        if len(old) != len(new):
            raise ValueError(f'{old!r} and {new!r} are not of one length')
        if old not in module:
            raise ValueError(f'the module has no {old!r}')
        module = module.replace(old, new)
    return module


def unsigned(module: bytes) -> bytes:
    """Return a module without its signature."""
    if not module.endswith(_SIGNED):
        return module
    info = module[: -len(_SIGNED)][-_SIGNATURE_INFO:]
    length = int.from_bytes(info[-4:], 'big')
    return module[: -len(_SIGNED) - _SIGNATURE_INFO - length]


def _files_of(name: str) -> list[pathlib.Path]:
    """Return the files of the modules that a module needs, and at last its own."""
    found = subprocess.run(
        ['modprobe', '--ignore-install', '--show-depends', name],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    files = [pathlib.Path(words[1]) for words in map(str.split, found.splitlines()) if words[1:]]
    if not files or not files[-1].is_file():
        raise NoSuchModule(f'kernel {os.uname().release} has no module {name}')
    return files
