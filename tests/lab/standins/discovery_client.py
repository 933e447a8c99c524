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

"""Stand-in of Lightbits' discovery client: what it is told in files, it connects.

    python -m tests.lab.standins.discovery_client

The vendor's is open source (LightBitsLabs/discovery-client), and this one does
what its README and ``conf_parser.go`` say: files ``*.conf`` below discovery.d
have one endpoint a line, as nvme-cli's discovery.conf; each endpoint is asked
for its log page, and every controller in it of the subsystem that the line
names is connected; ``/metrics`` answers at port 6060.  A file with an unknown
flag is refused as a whole, a line without one of its fields is left out.

It differs in two things.  The vendor's asks one endpoint of a cluster, which
knows all others; nvmet knows one port, so here all are asked.  And the
vendor's never disconnects: LightOS takes the volume away when Cinder revokes
it, after the host has let go.  Nobody revokes anything here, so this one
disconnects what no file names any more.
"""

from collections.abc import Callable
from collections.abc import Iterator
import dataclasses
import ipaddress
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

from tests.lab.standins import http_service
from tests.lab.storage.configfs import read
from tests.lab.storage.configfs import write

FILES = pathlib.Path('/etc/discovery-client/discovery.d')
METRICS = ('127.0.0.1', 6060)

_CONTROLLERS = pathlib.Path('/sys/class/nvme')
_FABRICS = pathlib.Path('/dev/nvme-fabrics')
_HOST_ID = pathlib.Path('/etc/nvme/hostid')
_FLAGS = {
    '-a': 'traddr',
    '--traddr': 'traddr',
    '-t': 'transport',
    '--transport': 'transport',
    '-s': 'trsvcid',
    '--trsvcid': 'trsvcid',
    '-q': 'hostnqn',
    '--hostnqn': 'hostnqn',
    '-n': 'subsysnqn',
    '--subsysnqn': 'subsysnqn',
}
_POLL = 0.2  # seconds; the vendor's hears of files by inotify
_AGAIN = 5.0  # seconds, the vendor's reconnectInterval


class BadFile(Exception):
    """A file that the client does not understand."""


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """A discovery service, and the subsystem that is wanted of it."""

    transport: str
    traddr: str
    trsvcid: str
    hostnqn: str
    subsysnqn: str


def parse(text: str) -> list[Endpoint]:
    """Return the endpoints of a file.

    :raises BadFile
    """
    found = []
    for line in text.splitlines():
        words = line.partition('#')[0].replace('=', ' ').split()
        fields: dict[str, str] = {}
        while words:
            flag, *words = words
            if flag not in _FLAGS:
                raise BadFile(f'{flag} is not a valid flag')
            if not words:
                raise BadFile(f'{flag} has no value')
            fields[_FLAGS[flag]], *words = words
        if fields.get('transport', 'tcp') != 'tcp':
            raise BadFile(f'{fields["transport"]} is not a valid transport')
        if not fields.get('trsvcid', '1').isdigit():
            raise BadFile(f'{fields["trsvcid"]} is not a valid int')
        if 'traddr' in fields:
            try:
                ipaddress.ip_address(fields['traddr'])
            except ValueError as error:
                raise BadFile(str(error)) from None
        if len(fields) == len(set(_FLAGS.values())):
            found.append(Endpoint(**fields))
    return found


def wanted() -> list[Endpoint]:
    """Return the endpoints of all files, each once."""
    found: dict[Endpoint, None] = {}
    for path in sorted(FILES.glob('*.conf')):
        if path.name.startswith('tmp.dc.'):
            continue
        try:
            found.update(dict.fromkeys(parse(path.read_text())))
        except FileNotFoundError:
            continue
        except BadFile as error:
            say(f'{path.name}: {error}')
    return list(found)


def connected() -> Iterator[tuple[pathlib.Path, str, str]]:
    """Yield the controllers that there are: where, their subsystem, their address."""
    for path in _CONTROLLERS.glob('nvme*'):
        nqn, address = read(path / 'subsysnqn'), read(path / 'address')
        if nqn is not None and address is not None and read(path / 'transport') == 'tcp':
            yield path, nqn, address


def is_connected(traddr: str, trsvcid: str, nqn: str) -> bool:
    """Say whether there is a controller of the subsystem at an address."""
    wants = {f'traddr={traddr}', f'trsvcid={trsvcid}'}
    return any(
        found == nqn and wants <= set(address.split(',')) for _, found, address in connected()
    )


def controllers(endpoint: Endpoint) -> list[tuple[str, str]]:
    """Ask a discovery service; return where the subsystem's controllers are.

    :raises subprocess.CalledProcessError: it does not answer
    """
    answer = subprocess.run(
        [
            *('nvme', 'discover', '-t', endpoint.transport, '-a', endpoint.traddr),
            *('-s', endpoint.trsvcid, '-q', endpoint.hostnqn, '-o', 'json'),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [
        (record['traddr'].strip(), record['trsvcid'].strip())
        for record in json.loads(answer).get('records', [])
        if record['subnqn'] == endpoint.subsysnqn and record['subtype'] == 'nvme subsystem'
    ]


def connect(endpoint: Endpoint) -> None:
    """Connect what a discovery service names, unless it is connected.

    :raises OSError, subprocess.CalledProcessError, ValueError: it does not answer
    """
    for traddr, trsvcid in controllers(endpoint):
        if is_connected(traddr, trsvcid, endpoint.subsysnqn):
            continue
        options = {
            'transport': endpoint.transport,
            'traddr': traddr,
            'trsvcid': trsvcid,
            'nqn': endpoint.subsysnqn,
            'hostnqn': endpoint.hostnqn,
            'hostid': read(_HOST_ID),
            'ctrl_loss_tmo': '-1',
        }
        write(_FABRICS, ','.join(f'{key}={value}' for key, value in options.items() if value))
        say(f'connected {endpoint.subsysnqn} at {traddr}:{trsvcid}')


def _disconnect(path: pathlib.Path, nqn: str) -> None:
    try:
        write(path / 'delete_controller', 1)
        say(f'disconnected {nqn} ({path.name})')
    except OSError as error:
        say(f'{path.name}: {error.strerror}')


class Client:
    """Keeps what the files name connected.

    :ivar ours: subsystems that some file has named
    """

    def __init__(self) -> None:
        self.ours: set[str] = set()
        self._at_work: dict[object, threading.Thread] = {}
        self._tried: dict[Endpoint, float] = {}

    def run(self) -> None:
        """Follow the files for ever."""
        while True:
            self.follow(wanted())
            time.sleep(_POLL)

    def follow(self, endpoints: list[Endpoint]) -> None:
        """Connect what is named and disconnect what was."""
        named = {endpoint.subsysnqn for endpoint in endpoints}
        self.ours |= named
        for path, nqn, _ in list(connected()):
            if nqn in self.ours - named:
                self._begin(path, _disconnect, path, nqn)
        for endpoint in endpoints:
            due = self._tried.get(endpoint, 0.0) + _AGAIN <= time.monotonic()
            if due and self._begin(endpoint, self._attempt, endpoint):
                self._tried[endpoint] = time.monotonic()
        for gone in set(self._tried) - set(endpoints):
            del self._tried[gone]

    def _begin(self, about: object, work: Callable[..., None], *arguments: object) -> bool:
        """Work in a thread of its own, unless one is at that still: each may take a minute."""
        before = self._at_work.get(about)
        if before is not None and before.is_alive():
            return False
        worker = threading.Thread(target=work, args=arguments, daemon=True)
        self._at_work[about] = worker
        worker.start()
        return True

    def _attempt(self, endpoint: Endpoint) -> None:
        if is_connected(endpoint.traddr, endpoint.trsvcid, endpoint.subsysnqn):
            return
        try:
            connect(endpoint)
        except (OSError, subprocess.CalledProcessError, ValueError, KeyError) as error:
            say(f'{endpoint.traddr}:{endpoint.trsvcid}: {error}')


class Metrics(http_service.Handler):
    """What os-brick looks for to know that the client runs."""

    def respond(self, method: str, path: str, body: bytes) -> object:
        if path != '/metrics':
            raise http_service.Refusal(404, {'message': 'not found'})
        return {'go_goroutines': threading.active_count()}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    os.environ.setdefault('PATH', '/usr/sbin:/usr/bin:/sbin:/bin')
    FILES.mkdir(parents=True, exist_ok=True)
    server = http_service.Server(METRICS, Metrics)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Client().run()


if __name__ == '__main__':
    main()
