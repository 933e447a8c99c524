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

"""The kernel's NFS server, by its files in /proc."""

from collections.abc import Iterator
import os
import pathlib
import re

from tests.lab.storage import service_connections
from tests.lab.storage.configfs import read
from tests.lab.storage.configfs import write
from tests.lab.storage.server_process import run

PORT = 2049
PROC = pathlib.Path('/proc/fs/nfsd')
RMTAB = pathlib.Path('/var/lib/nfs/rmtab')
LEASE = 10  # seconds, the least that the kernel takes
# Of a line in states: { type: open, access: rw, ..., superblock: "07:00:13", ...}
_STATE = re.compile(r'type: (?P<type>\w+).*superblock: "(?P<device>[^"]*):(?P<inode>\d+)"')
_ADDRESS = re.compile(r'^address: "(?P<address>[^"]+)"', re.MULTILINE)
_LOCK = re.compile(
    r'POSIX +\w+ +(?P<type>\w+) +\d+ (?P<major>[0-9a-f]+):(?P<minor>[0-9a-f]+):(?P<inode>\d+) '
)


def mount(place: pathlib.Path, kind: str) -> None:
    """Mount one of the kernel's own file systems, unless it is there."""
    if not place.exists():
        place.mkdir(parents=True)
    if not place.is_mount():
        run('mount', '-t', kind, kind, str(place))


def threads() -> int:
    """Return how many threads serve."""
    return int(read(PROC / 'threads') or 0)


def was_started() -> bool:
    """Say whether the server ran since the machine did; a client may know it then."""
    return (PROC / 'threads').exists()


def set_times() -> None:
    """Shorten what clients and server wait for each other after a restart.

    The kernel takes it only while nothing serves.
    """
    if threads() == 0:
        write(PROC / 'nfsv4leasetime', LEASE)
        write(PROC / 'nfsv4gracetime', LEASE)
        # Of version 3; the least that the kernel takes.
        write(pathlib.Path('/proc/sys/fs/nfs/nlm_timeout'), 3)
        write(pathlib.Path('/proc/sys/fs/nfs/nlm_grace_period'), LEASE)


def end_grace() -> None:
    """Let clients open files at once: there is none from before."""
    write(PROC / 'v4_end_grace', 'Y')


def programs(rpcinfo: str) -> Iterator[str]:
    """Yield the services in what ``rpcinfo -s`` prints."""
    for line in rpcinfo.splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 4:
            yield fields[3]


def opened() -> dict[int, list[str]]:
    """Return what clients have of each file, by its inode: opens, locks, delegations."""
    found: dict[int, list[str]] = {}
    for client in _client_directories():
        where = _address(client)
        for line in (read(client / 'states') or '').splitlines():
            match = _STATE.search(line)
            if match:
                what = f'{match["type"]} by {where}'
                found.setdefault(int(match['inode']), []).append(what)
    return found


def locked(locks: str, device: int) -> dict[int, list[str]]:
    """Return the locks of a file system's files, by inode; version 3 has no opens.

    :param locks: what /proc/locks has
    :param device: st_dev of the file system, on the server
    """
    found: dict[int, list[str]] = {}
    for match in _LOCK.finditer(locks):
        if os.makedev(int(match['major'], 16), int(match['minor'], 16)) == device:
            found.setdefault(int(match['inode']), []).append(f'lock {match["type"].lower()}')
    return found


def clients() -> list[str]:
    """Return the clients of version 4, and the connections of version 3."""
    known = {_address(client) for client in _client_directories()}
    others = [
        line
        for line in service_connections.tcp(PORT)
        if not any(f' {address} ' in line for address in known)
    ]
    mounted = {f'mounted by {line}' for line in (read(RMTAB) or '').splitlines()}
    return [f'client {address}' for address in sorted(known)] + others + sorted(mounted)


def _client_directories() -> list[pathlib.Path]:
    directory = PROC / 'clients'
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _address(client: pathlib.Path) -> str:
    match = _ADDRESS.search(read(client / 'info') or '')
    return match['address'] if match else client.name
