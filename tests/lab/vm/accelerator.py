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

"""Choose how the virtual machine runs: on the processor (KVM), or emulated (TCG)."""

import json
import os
import pathlib

from tests.lab.vm import qemu
from tests.lab.vm.cache import Cache
from tests.lab.vm.errors import LabError

VARIABLE = 'VOLUMEDRIVERS_LAB_ACCELERATOR'

_FACTS = 'accelerator.json'


class UnknownAccelerator(LabError):
    """The variable names none."""


def choose(cache: Cache, kernel: pathlib.Path) -> str:
    """Return 'kvm' where a machine starts with it, else 'tcg'.

    :param kernel: to try it with; what came out is kept until this machine boots again
    :raises UnknownAccelerator
    :raises programs.ProgramMissing
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        if chosen not in {'kvm', 'tcg'}:
            raise UnknownAccelerator(f'{VARIABLE} is {chosen!r}; it can be kvm or tcg')
        return chosen
    if not os.access('/dev/kvm', os.R_OK | os.W_OK):
        return 'tcg'
    boot = pathlib.Path('/proc/sys/kernel/random/boot_id').read_text().strip()
    circumstances = [boot, qemu.version(), str(kernel)]
    path = cache.root / _FACTS
    try:
        facts = json.loads(path.read_text())
        if facts['circumstances'] == circumstances:
            return str(facts['accelerator'])
    except (OSError, ValueError, KeyError):
        pass  # not tried yet, or written by another version of this
    found = 'kvm' if qemu.works('kvm', kernel) else 'tcg'
    fresh = path.with_name(f'{_FACTS}.{os.getpid()}')
    fresh.write_text(json.dumps({'circumstances': circumstances, 'accelerator': found}))
    fresh.replace(path)
    return found
