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

"""Who is connected to a service of this machine's kernel: sockets and RDMA's likes of them."""

import json
import pathlib
import socket

from tests.lab.storage.server_process import run

_TCP = ('tcp', 'tcp6')
_PROC = pathlib.Path('/proc/net')
_ESTABLISHED = '01'


def tcp(service: int) -> list[str]:
    """Return the established connections at a TCP port, one line each.

    :param service: number of the port, at this end
    """
    return [
        f'connection from {address(remote)} to port {service}'
        for name in _TCP
        for local, remote, state in _sockets(name)
        if state == _ESTABLISHED and int(local.partition(':')[2], 16) == service
    ]


def rdma(service: int) -> list[str]:
    """Return the established connections at a port of RDMA's connection manager."""
    return established(run('rdma', '-j', 'resource', 'show', 'cm_id'), service)


def established(said: str, service: int) -> list[str]:
    """Read what ``rdma -j resource show cm_id`` says."""
    return [
        f'RDMA connection from {each["dst-addr"]} to port {service}'
        for each in json.loads(said or '[]')
        if each.get('state') == 'CONNECT'
        and each.get('src-addr', '').rpartition(':')[2] == str(service)
    ]


def _sockets(name: str) -> list[tuple[str, str, str]]:
    lines = (_PROC / name).read_text().splitlines()[1:]
    return [tuple(line.split()[1:4]) for line in lines]  # type: ignore[misc]


def address(text: str) -> str:
    """Return ``0201000A:1F90``, words in the machine's order, as people write it."""
    host, _, port = text.partition(':')
    packed = b''.join(bytes.fromhex(host[at : at + 8])[::-1] for at in range(0, len(host), 8))
    if len(packed) == 4:
        return f'{socket.inet_ntop(socket.AF_INET, packed)}:{int(port, 16)}'
    return f'[{socket.inet_ntop(socket.AF_INET6, packed)}]:{int(port, 16)}'
