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

"""What this host is to storage, read from the kernel and its files, past os-brick."""

import pathlib
import re
import socket
import typing


def initiator() -> dict[str, typing.Any]:
    """Return the names that storage lets in, under the keys of the connector properties."""
    return {
        'initiator': _setting('/etc/iscsi/initiatorname.iscsi', 'InitiatorName='),
        'nqn': _line('/etc/nvme/hostnqn'),
        'host': socket.gethostname(),
        'wwpns': sorted(
            path.read_text().strip().removeprefix('0x')
            for path in pathlib.Path('/sys/class/fc_host').glob('*/port_name')
        ),
        'nvme_native_multipath': _line('/sys/module/nvme_core/parameters/multipath') == 'Y',
    }


def _line(path: str) -> str | None:
    try:
        return pathlib.Path(path).read_text().strip()
    except FileNotFoundError:
        return None


def _setting(path: str, name: str) -> str | None:
    for line in (_line(path) or '').splitlines():
        if line.startswith(name):
            return line.removeprefix(name).strip()
    return None


def paths(device: str) -> int:
    """Return how many ways lead to a block device: of a map, or of NVMe's own multipath."""
    known = pathlib.Path('/sys/class/block', pathlib.Path(device).resolve().name)
    joined = list((known / 'slaves').iterdir())
    if joined:
        return len(joined)
    above = (known / 'device').resolve()
    controllers = [path for path in above.iterdir() if re.fullmatch(r'nvme\d+', path.name)]
    return max(1, len(controllers))
