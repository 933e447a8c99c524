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
import typing


def now() -> dict[str, int]:
    """Return what this process has, in numbers, and the host's processes; memory in KiB."""
    gc.collect()
    status = dict(
        line.split(':', 1) for line in pathlib.Path('/proc/self/status').read_text().splitlines()
    )
    return {
        'file descriptors': len(os.listdir('/proc/self/fd')),
        'threads': threading.active_count(),
        'kernel threads of the process': int(status['Threads']),
        'memory': int(status['VmRSS'].split()[0]),
        'processes': sum(name.isdigit() for name in os.listdir('/proc')),
    }


def more(before: typing.Mapping[str, int], after: typing.Mapping[str, int]) -> dict[str, int]:
    """Return what there is more of."""
    return {name: after[name] - before[name] for name in after if after[name] > before[name]}
