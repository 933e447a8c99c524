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

"""The process that works on a volume is killed, and another one recovers."""

from collections.abc import Iterator

import pytest

from tests.lab.hosts.host import Host
from tests.lab.life import Life
from tests.lab.rows import Row
from tests.lab.rpc.client import RemoteEnded

KILLED = -9


@pytest.fixture
def life(row: Row, host: Host) -> Iterator[Life]:
    """A volume of its own for each test."""
    with Life(row, host) as begun:
        yield begun


def killed(
    life: Life, operation: str, step: str, moment: str, call: str, **arguments: object
) -> None:
    """Let a process of its own begin an operation, and die in the middle of it."""
    doomed = life.session(die={'operation': operation, 'step': step, 'moment': moment})
    with pytest.raises(RemoteEnded) as caught:
        doomed.call(call, **arguments)
    assert caught.value.status == KILLED


def recovered(life: Life) -> None:
    """Recover in another process; nothing may be unfinished after it."""
    # What the one that was killed had asked of QEMU goes on without it.
    life.bench.wait_until_idle()
    outcomes = life.bench.recover(connection_infos={life.volume_id: life.connection_info})
    assert [outcome for outcome in outcomes if outcome['action'] == 'failed'] == []
    assert [row for row in life.bench.rows() if row['operation']] == []


def test_crash_after_connect(life: Life) -> None:
    """Killed when the host has the device and the guest not yet: all of it is undone."""
    killed(life, 'attach', 'connect', 'after', 'attach', **life.attach_arguments())
    recovered(life)
    assert life.bench.traces() == []
    assert life.storage.seen_by_target(volume_id=life.volume_id) == []


def test_crash_after_attach(life: Life) -> None:
    """Killed when the guest has the disk and nobody noted it: it is noted, and works."""
    killed(life, 'attach', 'attach', 'after', 'attach', **life.attach_arguments())
    recovered(life)
    life.bench.write(volume_id=life.volume_id, byte=0x44, offset=0, length=4096)
    assert life.is_stored(0x44, offset=0, length=4096)
    life.bench.detach(volume_id=life.volume_id)
    assert life.bench.traces() == []


def test_crash_in_detach(life: Life) -> None:
    """Killed when the guest has let go and the host not: the rest goes as well."""
    life.bench.attach(**life.attach_arguments())
    killed(life, 'detach', 'detach', 'after', 'detach', volume_id=life.volume_id)
    recovered(life)
    assert life.bench.traces() == []
    assert life.storage.seen_by_target(volume_id=life.volume_id) == []


def test_crash_in_extend(life: Life) -> None:
    """Killed when the host sees the new size and the guest not: calling again finishes it."""
    life.bench.attach(**life.attach_arguments())
    header = life.header
    life.storage.grow(volume_id=life.volume_id, size=2 * life.size)
    killed(
        life, 'extend', 'extend', 'after', 'extend', volume_id=life.volume_id, size=2 * life.size
    )
    life.bench.extend(volume_id=life.volume_id, size=2 * life.size)
    assert life.bench.size(volume_id=life.volume_id) == 2 * life.size - header
    life.bench.detach(volume_id=life.volume_id)
    assert life.bench.traces() == []
