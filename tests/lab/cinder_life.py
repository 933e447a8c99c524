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

"""A real Cinder on the host under test, and a row's volume in it on its way through the tests."""

import contextlib
import typing

from tests.lab.bench import guests
from tests.lab.hosts.host import Host
from tests.lab.life import MIB
from tests.lab.rows import Row
from tests.lab.rpc.client import RemoteEnded
from tests.lab.rpc.client import Session

BENCH = 'tests.lab.cinder.bench:CinderBench'
GIB = 1 << 30

# Cinder starts programs for each step, and each of those Python, all of it emulated.
TIMEOUT = 900.0  # seconds

# Where a test writes and reads.
OFFSET = MIB
LENGTH = MIB // 4


class LabCinder:
    """Cinder on a host, for all rows one after the other; a context manager.

    It starts when the first volume is asked for.

    :param backends: names of the rows that there are
    """

    def __init__(self, host: Host, backends: list[str]) -> None:
        self._host = host
        self._backends = backends
        self._bench: Session | None = None
        self._volume: CinderVolume | None = None

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self.forget()
        finally:
            if self._bench is not None:
                self._bench.end(TIMEOUT)

    def volume(self, row: Row) -> 'CinderVolume':
        """Return the volume of a row; a new one where the last one was of another."""
        if self._volume is None or self._volume.row.name != row.name or not self._runs():
            self.forget()
            self._volume = CinderVolume(row, self._running())
        return self._volume

    def forget(self) -> None:
        """Let the next test have a new volume; nothing is left of this one."""
        ended, self._volume = self._volume, None
        if ended is not None and self._runs():
            ended.clear()

    def _running(self) -> Session:
        if self._bench is None or not self._runs():
            self._bench = self._host.benches().open(
                BENCH, TIMEOUT, options={}, backends=self._backends
            )
        return self._bench

    def _runs(self) -> bool:
        """Say whether it runs; somebody may have cut the power."""
        if self._bench is None:
            return False
        with contextlib.suppress(RemoteEnded):
            self._bench.seconds()
            return True
        return False


class CinderVolume:
    """A volume in Cinder, made by the first test that needs it.

    Every test can also run alone: ``attached()`` and ``detached()`` bring it
    there.

    :ivar size: GiB
    :ivar result: of the last attach; None: it is not attached
    """

    def __init__(self, row: Row, bench: Session) -> None:
        self.row = row
        self.bench = bench
        self.name = f'a volume of {row.name}'
        self.size = 1
        self.result: dict[str, typing.Any] | None = None
        self._id: str | None = None
        self._others: list[str] = []
        self.stored_before = bench.contents(backend=row.name)

    def call(self, call: str, /, **arguments: object) -> typing.Any:
        """Call the bench, and give it time."""
        return self.bench.call(call, TIMEOUT, **arguments)

    @property
    def id(self) -> str:
        """Its id in Cinder; it is created if it was not."""
        if self._id is None:
            self._id = self.create(self.name)
            # With what the back end, which is on the same host, has of it there.
            self.bench.remember_traces()
        return self._id

    def create(self, name: str, snapshot_id: str | None = None) -> str:
        """Create a volume of the same kind, empty or from a snapshot; return its id."""
        made = self.call(
            'create', backend=self.row.name, name=name, size=self.size, snapshot_id=snapshot_id
        )
        volume_id = typing.cast(str, made['volume_id'])
        self._others.append(volume_id)
        return volume_id

    def delete(self, volume_id: str | None = None) -> None:
        """Delete it, or another one."""
        doomed = volume_id or self.id
        self.call('delete', volume_id=doomed)
        self._others.remove(doomed)
        if doomed == self._id:
            self._id = None

    def clear(self) -> None:
        """Leave nothing of it and of others that were created."""
        for volume_id in reversed(self._others):
            self.call('clear', volume_id=volume_id)
        self._others.clear()

    def attached(self) -> dict[str, typing.Any]:
        """Attach it, by its name, unless it is; return the result of that."""
        if self.result is None:
            assert self.id
            self.result = self.call('attach_volume', name=self.name, bus=self.row.bus)
        assert self.result is not None
        return self.result

    def detached(self) -> None:
        """Detach it if it is attached; it is in Cinder in any case."""
        assert self.id
        if self.result is not None:
            self.call('detach_volume', name=self.name)
            self.result = None

    def in_cinder(self) -> dict[str, typing.Any]:
        """Return what Cinder says of it."""
        return typing.cast(dict[str, typing.Any], self.call('in_cinder', volume_id=self.id))

    # What the guest sees.

    def write(self, byte: int) -> None:
        """Let the guest write."""
        self.call('write', volume_id=self.id, byte=byte, offset=OFFSET, length=LENGTH)

    def reads(self, byte: int) -> bool:
        """Say whether the guest reads that."""
        found = self.call('reads', volume_id=self.id, byte=byte, offset=OFFSET, length=LENGTH)
        return typing.cast(bool, found)

    def size_in_guest(self) -> int:
        """Return the bytes that the guest sees."""
        return typing.cast(int, self.call('size', volume_id=self.id, guest=guests.LINUX))

    # What the back end has.

    def holds(self, byte: int, volume_id: str | None = None) -> bool:
        """Say whether the back end has stored what ``write`` writes, of it or another one."""
        found = self.call(
            'stored_bytes',
            backend=self.row.name,
            volume_id=volume_id or self.id,
            offset=OFFSET,
            length=LENGTH,
        )
        return bool(found == bytes([byte]) * LENGTH)

    def stored_size(self) -> int:
        """Return its bytes at the back end."""
        return typing.cast(int, self.call('stored_size', backend=self.row.name, volume_id=self.id))

    def stored_identity(self) -> str:
        """Return the name that the back end gives it."""
        return typing.cast(
            str, self.call('stored_identity', backend=self.row.name, volume_id=self.id)
        )

    def served(self) -> list[str]:
        """Return what the back end serves of it, and to whom."""
        return typing.cast(
            list[str], self.call('served', backend=self.row.name, volume_id=self.id)
        )

    def stored(self) -> list[str]:
        """Return what the back end has and had not before this volume."""
        found = self.call('contents', backend=self.row.name)
        return [name for name in found if name not in self.stored_before]
