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

"""What a ceph.conf says of its cluster: the fsid and the monitors.

Format: https://docs.ceph.com/en/latest/rados/configuration/ceph-conf/
"""

import dataclasses
import re

DEFAULT = '/etc/ceph/ceph.conf'

_ADDRESS = re.compile(
    r"""(?:(?:v1|v2|any):)?                                # the messenger's version
        (?:\[(?P<v6>[0-9A-Fa-f]*:[0-9A-Fa-f:.]+)\]
          |(?P<bare>[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*)  # IPv6 without a port
          |(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*))
        (?::(?P<port>[0-9]+))?
        (?:/[0-9]+)?                                       # a nonce""",
    re.VERBOSE,
)


@dataclasses.dataclass(frozen=True)
class CephConf:
    """What is needed of it; empty when there is no such file.

    :ivar monitors: (host, port) of each address; port None: the default ones
    """

    fsid: str | None = None
    monitors: tuple[tuple[str, int | None], ...] = ()

    def names_any(self, hosts: frozenset[str]) -> bool:
        """Tell whether one of the hosts is a monitor of this cluster."""
        return any(host in hosts for host, _ in self.monitors)


def read(path: str = DEFAULT) -> CephConf:
    """Read section [global]; a file that is not there says nothing.

    :raises OSError: it is there and cannot be read
    """
    try:
        with open(path, encoding='utf-8', errors='surrogateescape') as lines:
            options = _global_options(lines.read())
    except FileNotFoundError:
        return CephConf()
    return CephConf(options.get('fsid') or None, parse_monitors(options.get('mon_host', '')))


def _global_options(text: str) -> dict[str, str]:
    section = 'global'
    options: dict[str, str] = {}
    for written in text.replace('\\\n', ' ').splitlines():
        line = re.split(r'(?<!\\)[#;]', written, maxsplit=1)[0].strip()
        if line.startswith('['):
            section = line.strip('[] \t')
        elif section == 'global' and '=' in line:
            name, value = line.split('=', 1)
            # 'mon host', 'mon_host' and 'mon-host' are the same option.
            options[re.sub(r'[\s_-]+', '_', name.strip())] = value.strip().strip('"\'')
    return options


def parse_monitors(text: str) -> tuple[tuple[str, int | None], ...]:
    """Read the value of mon_host: addresses, also ``[v2:a:p/0,v1:a:p/0]``."""
    found: list[tuple[str, int | None]] = []
    for match in _ADDRESS.finditer(text):
        host = match['v6'] or match['bare'] or match['name']
        address = (host.lower(), int(match['port'] or 0) or None)
        if address not in found:
            found.append(address)
    return tuple(found)
