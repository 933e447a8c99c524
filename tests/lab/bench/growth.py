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

"""What a process and a host have more of after a hundred volumes came and went."""

import gc
import os
import pathlib
import threading
import time
import typing

# How long what was started for a volume may take to end.
SETTLED = 30.0  # seconds
# The kernel and udev start and end theirs as they see fit.
_KTHREADD = 2
_UDEV_WORKER = '(udev-worker)'


def now() -> dict[str, int]:
    """Return what this process has, in numbers, and the host's processes; memory in KiB.

    Of the host's processes those of the kernel, and the workers of udev, are left out.
    """
    gc.collect()
    status = dict(
        line.split(':', 1) for line in pathlib.Path('/proc/self/status').read_text().splitlines()
    )
    return {
        'file descriptors': len(os.listdir('/proc/self/fd')),
        'threads': threading.active_count(),
        'kernel threads of the process': int(status['Threads']),
        'memory': int(status['VmRSS'].split()[0]),
        'processes': sum(1 for name in os.listdir('/proc') if name.isdigit() and _lasts(name)),
    }


def settled(before: typing.Mapping[str, int]) -> dict[str, int]:
    """Return what there is now, once nothing is left that ends by itself.

    Such as a process that has been told to, or a thread that waits for more work.
    """
    deadline = time.monotonic() + SETTLED
    while True:
        found = now()
        if more(before, found).keys() <= {'memory'} or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def more(before: typing.Mapping[str, int], after: typing.Mapping[str, int]) -> dict[str, int]:
    """Return what there is more of."""
    return {name: after[name] - before[name] for name in after if after[name] > before[name]}


def _lasts(pid: str) -> bool:
    try:
        stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
    except OSError:
        # It has ended meanwhile.
        return False
    name, rest = stat[stat.index('(') + 1 : stat.rindex(')')], stat[stat.rindex(')') + 2 :]
    state, parent = rest.split()[:2]
    return state != 'Z' and int(parent) not in (0, _KTHREADD) and name != _UDEV_WORKER
