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

"""One volume of a row: made at the back end, brought to the host, and taken away again.

The tests call this; it holds what two of them need to know of each other.
"""

from collections.abc import Mapping
import copy
import typing

from tests.lab.hosts.host import Host
from tests.lab.keys import KEY_ID
from tests.lab.keys import PASSPHRASE
from tests.lab.rows import Row
from tests.lab.rpc.client import RemoteEnded
from tests.lab.rpc.client import RemoteError
from tests.lab.rpc.client import Session

BENCH = 'tests.lab.bench.bench:Bench'
MIB = 1 << 20
SIZE = 64 * MIB
BLOCK = 512  # bytes, of which each is encrypted for itself


class Life:
    """A volume, and a session of the bench that works with it; a context manager.

    ``attached()`` brings the volume into the guest if it is not there yet, so
    every test can also run alone.

    :param options: of the group [volumedrivers], besides the row's
    :ivar volume: what the storage says of it: volume_id, size,
        connection_info, identity, secrets
    :ivar result: of the attach that is; None: it is not attached
    :ivar was_attached: at any time
    """

    def __init__(
        self, row: Row, host: Host, options: Mapping[str, typing.Any] | None = None
    ) -> None:
        self.row = row
        self.host = host
        self.options = {**row.options, **(options or {})}
        self.bench: Session
        self.volume: dict[str, typing.Any] = {}
        self.result: dict[str, typing.Any] | None = None
        self.was_attached = False
        self._others: list[Session] = []
        self._header: int | None = None

    def __enter__(self) -> typing.Self:
        self.volume = self.make_volume()
        self.bench = self.session()
        self.bench.remember_traces()
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            if self.bench.ended:
                self.bench = self.session()
            self._clean()
        finally:
            for session in self._others:
                session.end()
            self.storage.delete(volume_id=self.volume_id)

    def after_power_cut(self) -> None:
        """Go on with the volume after the host has started again."""
        self._others.clear()
        self.volume = self.storage.find_volume(backend=self.row.backend, volume_id=self.volume_id)
        self.bench = self.session()

    @property
    def storage(self) -> Session:
        """The storage; after a power cut another session of it."""
        return self.host.storage()

    @property
    def volume_id(self) -> str:
        return typing.cast(str, self.volume['volume_id'])

    @property
    def size(self) -> int:
        """Of the volume when it was made, in bytes."""
        return typing.cast(int, self.volume['size'])

    @property
    def connection_info(self) -> dict[str, typing.Any]:
        return copy.deepcopy(typing.cast(dict[str, typing.Any], self.volume['connection_info']))

    def make_volume(self, size: int = SIZE, **variant: object) -> dict[str, typing.Any]:
        """Make a volume of the row at the back end; ``variant`` is added to the row's."""
        made = self.storage.make_volume(
            backend=self.row.backend, size=size, variant={**self.row.variant, **variant}
        )
        return typing.cast(dict[str, typing.Any], made)

    def session(self, **more: object) -> Session:
        """Open a session of the bench with the row's options.

        :param more: such as ``die`` and ``hang`` of Bench
        """
        session = self.host.benches().open(
            BENCH, options=self.options, passphrases={KEY_ID: PASSPHRASE}, **more
        )
        self._others.append(session)
        return session

    def attach_arguments(
        self, volume: dict[str, typing.Any] | None = None
    ) -> dict[str, typing.Any]:
        """Return what ``Bench.attach`` needs for the row's volume, or for another one."""
        arguments: dict[str, typing.Any] = {
            'connection_info': copy.deepcopy((volume or self.volume)['connection_info']),
            'bus': self.row.bus,
        }
        if self.row.encryption is not None:
            arguments['allow_format'] = True
            arguments['encryption'] = {
                'provider': self.row.encryption,
                'encryption_key_id': KEY_ID,
                'cipher': 'aes-xts-plain64',
                'key_size': 256,
                'control_location': 'front-end',
            }
        return arguments

    def attached(self) -> dict[str, typing.Any]:
        """Attach unless it is; return the result of that."""
        if self.result is None:
            self.result = self.bench.attach(**self.attach_arguments())
            self.was_attached = True
        return self.result

    @property
    def header(self) -> int:
        """Bytes of the volume that the guest does not see; the volume is attached."""
        if self.row.encryption is None:
            return 0
        if self._header is None:
            self._header = self.size - self.bench.size(volume_id=self.volume_id)
        return self._header

    def is_stored(self, byte: int, offset: int, length: int) -> bool:
        """Say whether the back end has what the guest has written there: one byte, all over.

        Of an encrypted volume it has something else, behind the header; that
        this is the cipher of it is shown by the guest, which reads it again.

        :param offset: as the guest counts
        """
        found = self.storage.read(
            volume_id=self.volume_id, offset=offset + self.header, length=length
        )
        if self.row.encryption is None:
            return bool(found == bytes([byte]) * length)
        clear = bytes([byte]) * BLOCK
        blocks = [found[place : place + BLOCK] for place in range(0, length, BLOCK)]
        if clear in blocks or bytes(BLOCK) in blocks:
            return False
        return bool(
            self.bench.reads(volume_id=self.volume_id, byte=byte, offset=offset, length=length)
        )

    def detached(self) -> None:
        """Detach if it is attached; what was never attached is so once before."""
        if not self.was_attached:
            self.attached()
        if self.result is not None:
            self.bench.detach(volume_id=self.volume_id)
            self.result = None

    def _clean(self) -> None:
        for guest in ('linux', 'second'):
            try:
                # An operation that ends because QEMU is still closing the disk leaves a row.
                self.bench.wait_until_idle(guest=guest)
                if self._is_with(guest):
                    self.bench.detach(
                        volume_id=self.volume_id,
                        guest=guest,
                        connection_info=self.connection_info,
                        force=True,
                    )
            except (RemoteError, RemoteEnded):
                # What it leaves is the next row's finding, not this one's.
                continue

    def _is_with(self, guest: str) -> bool:
        """Say whether the journal or the guest has the volume still."""
        rows, disks = self.bench.rows(), self.bench.disks(guest=guest)
        return self.volume_id in [
            *(row['volume_id'] for row in rows if row['domain_name'] == guest),
            *(disk['volume_id'] for disk in disks),
        ]
