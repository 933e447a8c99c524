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

"""One server of Nova's on the host under test, and volumes that Nova attaches to it."""

import contextlib
import typing

from tests.lab.hosts.host import Host
from tests.lab.life import BENCH
from tests.lab.life import MIB
from tests.lab.life import SIZE
from tests.lab.rows import Row
from tests.lab.rpc.client import RemoteEnded
from tests.lab.rpc.client import RemoteError
from tests.lab.rpc.client import Session

ROOM = 'tests.lab.nova.room:LabRoom'

# Nova's imports and its databases, all of it emulated.
TIMEOUT = 300.0  # seconds

# Where a test writes and reads.
OFFSET = MIB
LENGTH = MIB // 4


class LabNova:
    """Nova's LibvirtDriver on a host, with one server; a context manager.

    :param root: connection_info of the volume that the server boots from
    :ivar bench: looks at the host and at the guest; the journal is the same
    :ivar guest: what the server is called in libvirt
    """

    def __init__(self, host: Host, root: dict[str, typing.Any]) -> None:
        self.host = host
        self.bench: Session
        self.guest = ''
        self._root = root
        self._room: Session
        self._uuid = ''
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> typing.Self:
        with contextlib.ExitStack() as entered:
            self._room = self.host.nova().open(
                ROOM, TIMEOUT, options={'libvirt': {'volume_use_multipath': True}}
            )
            entered.callback(self._room.end, TIMEOUT)
            self.bench = self.host.benches().open(BENCH, options={'volume_use_multipath': True})
            entered.callback(self.bench.end)
            self._uuid = self._room.call('spawn', TIMEOUT, root=self._root)
            entered.callback(self._destroy)
            self.guest = self.call('name')
            self.bench.remember_traces()
            self._exit = entered.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._exit.close()

    def call(self, call: str, /, **arguments: object) -> typing.Any:
        """Let Nova do something with the server."""
        return self._room.call(call, TIMEOUT, uuid=self._uuid, **arguments)

    def _destroy(self) -> None:
        # Nova's own drivers do not know of a row in the journal.
        self.use('ours')
        self.call('destroy')

    def use(self, drivers: str) -> None:
        """Let the volume drivers be 'ours' or 'nova', as after a restart of nova-compute."""
        self._room.call('restart', TIMEOUT, register=drivers == 'ours')

    def used(self, driver_volume_type: str) -> str:
        """Return the name of the class that Nova has for a type."""
        return typing.cast(str, self._room.drivers()[driver_volume_type])


class NovaVolume:
    """A volume of a row; a context manager, which leaves nothing of it.

    :ivar id: of the volume
    """

    def __init__(self, nova: LabNova, row: Row) -> None:
        self.nova = nova
        self.row = row
        self.id = ''
        self._made: dict[str, typing.Any] = {}

    def __enter__(self) -> typing.Self:
        self._made = self._storage.make_volume(
            backend=self.row.backend, size=SIZE, variant=dict(self.row.variant)
        )
        self.id = self._made['volume_id']
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            if self.in_guest():
                self.nova.call('detach', volume_id=self.id)
            for row in self.rows():
                if row['domain_name'] == self.nova.guest:
                    self.forgotten()
        except (RemoteError, RemoteEnded):
            # What it leaves is told by the test after the last one.
            return
        finally:
            self._storage.delete(volume_id=self.id)

    @property
    def _storage(self) -> Session:
        return self.nova.host.storage()

    @property
    def size(self) -> int:
        """Of the volume when it was made, in bytes."""
        return typing.cast(int, self._made['size'])

    @property
    def connection_info(self) -> dict[str, typing.Any]:
        """What Cinder gives to Nova."""
        return for_nova(self._made)

    def attach(self, device: str = 'sdb') -> None:
        """Let Nova attach it."""
        self.nova.call('attach', connection_info=self.connection_info, device=device)

    def grow(self, size: int) -> None:
        """Let the back end, and then Nova, make it larger."""
        self._storage.grow(volume_id=self.id, size=size)
        self.nova.call('extend', volume_id=self.id, size=size)

    def detach(self) -> None:
        """Let Nova detach it."""
        self.nova.call('detach', volume_id=self.id)

    def forgotten(self) -> None:
        """Take off the host, by this package's own command, what Nova's drivers have left."""
        self.nova.bench.detach(
            volume_id=self.id, guest=self.nova.guest, connection_info=self.connection_info
        )

    def in_guest(self) -> bool:
        """Say whether the guest has it."""
        disks = self.nova.bench.disks(guest=self.nova.guest)
        return self.id in [disk['volume_id'] for disk in disks]

    def size_in_guest(self) -> int:
        """Return the bytes that the guest sees."""
        found = self.nova.bench.size(volume_id=self.id, guest=self.nova.guest)
        return typing.cast(int, found)

    def write(self, byte: int, offset: int = OFFSET) -> None:
        """Let the guest write."""
        self.nova.bench.write(
            volume_id=self.id, byte=byte, offset=offset, length=LENGTH, guest=self.nova.guest
        )

    def reads(self, byte: int, offset: int = OFFSET) -> bool:
        """Say whether the guest reads that."""
        found = self.nova.bench.reads(
            volume_id=self.id, byte=byte, offset=offset, length=LENGTH, guest=self.nova.guest
        )
        return typing.cast(bool, found)

    def is_stored(self, byte: int, offset: int = OFFSET) -> bool:
        """Say whether the back end has that."""
        found = self._storage.read(volume_id=self.id, offset=offset, length=LENGTH)
        return bool(found == bytes([byte]) * LENGTH)

    def rows(self) -> list[dict[str, typing.Any]]:
        """Return what the journal has of it."""
        return [row for row in self.nova.bench.rows() if row['volume_id'] == self.id]

    def paths(self) -> int:
        """Return how many lead to it, by the kernel's account."""
        return typing.cast(int, self.nova.bench.paths(volume_id=self.id))

    def seen_by_target(self) -> list[str]:
        """Return what the target has of the host."""
        return typing.cast(list[str], self._storage.seen_by_target(volume_id=self.id))


def for_nova(made: dict[str, typing.Any]) -> dict[str, typing.Any]:
    """Return what Cinder gives to Nova of a volume that the storage has made."""
    volume_id = made['volume_id']
    return {**made['connection_info'], 'serial': volume_id, 'volume_id': volume_id}
