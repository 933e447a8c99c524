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

"""nvmet, the kernel's NVMe target: what is below /sys/kernel/config/nvmet."""

import pathlib

from tests.lab.storage.configfs import link
from tests.lab.storage.configfs import read
from tests.lab.storage.configfs import remove
from tests.lab.storage.configfs import unlink
from tests.lab.storage.configfs import write

ROOT = pathlib.Path('/sys/kernel/config/nvmet')


class Port:
    """An address at which subsystems are served.

    :param number: of nvmet's, one of its own
    """

    def __init__(self, number: int) -> None:
        self.path = ROOT / 'ports' / str(number)

    def up(self, transport: str, address: str, service: int) -> None:
        """Make it; it listens once a subsystem is there; twice is fine."""
        if self.path.is_dir():
            return
        self.path.mkdir()
        write(self.path / 'addr_trtype', transport)
        write(self.path / 'addr_adrfam', 'ipv6' if ':' in address else 'ipv4')
        write(self.path / 'addr_traddr', address)
        write(self.path / 'addr_trsvcid', service)

    def serve(self, nqn: str) -> None:
        """Serve a subsystem here; twice is fine."""
        link(self.path / 'subsystems' / nqn, ROOT / 'subsystems' / nqn)

    def down(self) -> None:
        """End the connections of whoever is here, and listen no more; once more is fine."""
        if self.path.is_dir():
            for entry in list((self.path / 'subsystems').iterdir()):
                unlink(entry)
            remove(self.path)


class Subsystem:
    """A subsystem: the hosts that may connect, and namespaces."""

    def __init__(self, nqn: str) -> None:
        self.nqn = nqn
        self.path = ROOT / 'subsystems' / nqn

    def up(self, serial: str, host_nqn: str) -> None:
        """Make it for one host; twice is fine."""
        host = ROOT / 'hosts' / host_nqn
        host.mkdir(exist_ok=True)
        if not self.path.is_dir():
            self.path.mkdir()
            write(self.path / 'attr_serial', serial)
            write(self.path / 'attr_allow_any_host', 0)
        link(self.path / 'allowed_hosts' / host_nqn, host)

    def namespaces(self) -> list[int]:
        """Return the numbers of the namespaces."""
        where = self.path / 'namespaces'
        return sorted(int(entry.name) for entry in where.iterdir()) if where.is_dir() else []

    def put(self, number: int, device: pathlib.Path, uuid: str, nguid: str) -> None:
        """Serve a device or file under a number, in place of what is there; twice is fine.

        :param uuid: with hyphens; all zeros: it has none
        :param nguid: the same
        """
        place = self.path / 'namespaces' / str(number)
        place.mkdir(exist_ok=True)
        if read(place / 'enable') == '1':
            if read(place / 'device_path') == str(device):
                return
            write(place / 'enable', 0)
        # A file through the page cache, so that who reads it sees what was written.
        # A device that is asked for so is taken for a file, with blocks of 4096
        # bytes, and Linux 6.1 fails reads of which the cache has a part.
        write(place / 'buffered_io', 0 if device.is_block_device() else 1)
        write(place / 'device_path', device)
        write(place / 'device_uuid', uuid)
        write(place / 'device_nguid', nguid)
        write(place / 'enable', 1)

    def hide(self, number: int) -> None:
        """Serve nothing under a number; its namespace goes at the host."""
        place = self.path / 'namespaces' / str(number)
        if read(place / 'enable') == '1':
            write(place / 'enable', 0)

    def measure(self, number: int) -> None:
        """Let hosts hear of the file's new size."""
        write(self.path / 'namespaces' / str(number) / 'revalidate_size', 1)

    def drop(self, number: int) -> None:
        """Remove a namespace; once more is fine."""
        remove(self.path / 'namespaces' / str(number))

    def down(self) -> None:
        """Remove it, when no port serves it any more; once more is fine."""
        for number in self.namespaces():
            self.drop(number)
        if self.path.is_dir():
            for entry in list((self.path / 'allowed_hosts').iterdir()):
                unlink(entry)
            remove(self.path)
