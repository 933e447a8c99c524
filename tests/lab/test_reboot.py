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

"""The power of the host is cut while volumes are in use and while one is being attached.

There is one power cut for all rows, and one boot.
"""

from collections.abc import Iterator
import dataclasses
import typing

import pytest

from tests.lab.hosts.host import Host
from tests.lab.life import MIB
from tests.lab.life import Life
from tests.lab.rows import Row
from tests.lab.waiting import wait_until

# Bytes that only one row writes.
FIRST_BYTE = 0x10
FORGOTTEN = 90.0  # seconds


@dataclasses.dataclass
class Cut:
    """A row that has gone through the power cut.

    :ivar used: its volume was attached, and written to
    :ivar begun: its volume was being attached
    :ivar failed: why the row could not be prepared, or not be recovered
    """

    used: Life
    begun: Life
    byte: int
    failed: BaseException | None = None
    outcomes: list[dict[str, typing.Any]] = dataclasses.field(default_factory=list)

    def prepare(self) -> None:
        """Have one volume in use, and stop in the middle of attaching the other."""
        self.used.__enter__()
        self.used.bench.attach(**on_second(self.used))
        self.used.bench.write(
            volume_id=self.used.volume_id,
            byte=self.byte,
            offset=MIB,
            length=MIB // 16,
            guest='second',
        )
        self.begun.__enter__()
        hanging = self.begun.session(
            hang={'operation': 'attach', 'step': 'attach', 'moment': 'before'}
        )
        hanging.begin('attach', **on_second(self.begun))
        wait_until(self.begun.bench.hangs, f'attach of {self.begun.row.name} to reach the guest')

    def recover(self) -> None:
        """Find the volumes again, and recover as an operator would."""
        for life in (self.used, self.begun):
            life.after_power_cut()
        infos = {life.volume_id: life.connection_info for life in (self.used, self.begun)}
        self.outcomes = self.used.bench.recover(connection_infos=infos)

    def is_forgotten(self) -> bool:
        """Wait until the target has nothing of what was being attached."""
        seen_by_target = self.begun.storage.seen_by_target

        def seen() -> bool:
            found = seen_by_target(volume_id=self.begun.volume_id)
            if not self.begun.row.shared_way:
                return not found
            return set(found) <= set(seen_by_target(volume_id=self.used.volume_id))

        # A target hears nothing of a power cut, and takes its time to see it.
        return wait_until(seen, 'the target to forget the volume', timeout=FORGOTTEN)

    def close(self) -> None:
        for life in (self.used, self.begun):
            if life.volume:
                life.__exit__(None, None, None)


def on_second(life: Life) -> dict[str, typing.Any]:
    """Return how to attach to the guest that is persistent."""
    return {**life.attach_arguments(), 'guest': 'second', 'bus': 'scsi'}


@pytest.fixture(scope='module')
def power_cut(request: pytest.FixtureRequest, host: Host) -> Iterator[dict[str, Cut]]:
    """Every row that is asked for, after the power was cut and the host is up again."""
    reason = host.can('power cut')
    if reason:
        pytest.skip(f'does not apply: {reason}')
    asked: dict[str, Row] = {}
    for item in request.session.items:
        if item.module is request.module:
            row = item.callspec.params['row']
            if not row.why_not('reboot', item.path.name):
                asked[row.name] = row
    cuts = {}
    for number, row in enumerate(asked.values()):
        # Rows have their own options, and recover has those of all volumes in its journal.
        options = {'state_path': f'/var/lib/lab-{row.name}'}
        cuts[row.name] = Cut(
            Life(row, host, options), Life(row, host, options), FIRST_BYTE + number
        )
    for cut in cuts.values():
        attempt(cut, cut.prepare)
    host.power_cut()
    for cut in cuts.values():
        attempt(cut, cut.recover)
    yield cuts
    for cut in cuts.values():
        cut.close()
    # Its guest with a Linux was not started again.
    if host.can('restore') is None:
        host.restore()


def attempt(cut: Cut, step: typing.Callable[[], None]) -> None:
    """Do a step for a row; one that fails is told by its own cells alone."""
    if cut.failed is None:
        try:
            step()
        except Exception as error:
            cut.failed = error


@pytest.fixture
def cut(row: Row, power_cut: dict[str, Cut]) -> Cut:
    """The row after the power cut."""
    found = power_cut[row.name]
    if found.failed is not None:
        raise found.failed
    return found


def test_reboot(cut: Cut) -> None:
    """After a power cut the volume is on the host again, and holds what was flushed."""
    actions = {outcome['volume_id']: outcome['action'] for outcome in cut.outcomes}
    assert actions[cut.used.volume_id] == 'reconnected'
    cut.used.bench.start_guest(guest='second')
    assert cut.used.bench.reads(
        volume_id=cut.used.volume_id,
        byte=cut.byte,
        offset=MIB,
        length=MIB // 16,
        guest='second',
    )


def test_reboot_in_attach(cut: Cut) -> None:
    """What was being attached when the power went is nowhere, and can be attached."""
    volume_id = cut.begun.volume_id
    assert volume_id not in [row['volume_id'] for row in cut.begun.bench.rows()]
    assert volume_id not in [disk['volume_id'] for disk in cut.begun.bench.disks(guest='second')]
    assert cut.is_forgotten()
    cut.used.bench.start_guest(guest='second')
    cut.begun.bench.attach(**on_second(cut.begun))
    cut.begun.bench.detach(volume_id=volume_id, guest='second')
