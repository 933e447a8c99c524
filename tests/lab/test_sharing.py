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

"""A volume that is read-only, and one that two guests have."""

from collections.abc import Iterator
import typing

import pytest

from tests.lab.hosts.host import Host
from tests.lab.life import MIB
from tests.lab.life import Life
from tests.lab.rows import Row
from tests.lab.rpc.client import RemoteError


@pytest.fixture
def life(row: Row, host: Host) -> Iterator[Life]:
    """A volume of its own for each test."""
    with Life(row, host) as begun:
        yield begun


def fill(life: Life, byte: int, offset: int, length: int) -> int:
    """Have data on the volume; return how many bytes before them a guest does not see."""
    if life.row.encryption is None:
        life.storage.write(volume_id=life.volume_id, offset=offset, data=bytes([byte]) * length)
        return 0
    # What is behind a key only a guest can write.
    life.attached()
    header = life.header
    life.bench.write(volume_id=life.volume_id, byte=byte, offset=offset, length=length)
    life.detached()
    return header


def stored(life: Life, header: int, offset: int, length: int) -> bytes:
    """Return what the back end has there."""
    found = life.storage.read(volume_id=life.volume_id, offset=header + offset, length=length)
    return typing.cast(bytes, found)


def test_read_only(life: Life) -> None:
    """A guest cannot write to a volume that Cinder gives read-only, and reads it."""
    place = {'offset': MIB, 'length': MIB // 16}
    header = fill(life, 0x21, **place)
    data = stored(life, header, **place)
    arguments = life.attach_arguments()
    arguments['connection_info']['data']['access_mode'] = 'ro'
    life.result = life.bench.attach(**arguments)
    with pytest.raises(RemoteError):
        life.bench.write(volume_id=life.volume_id, byte=0x99, offset=MIB, length=4096)
    assert life.bench.reads(volume_id=life.volume_id, byte=0x21, **place)
    life.detached()
    assert stored(life, header, **place) == data
    assert life.bench.traces() == []


def test_two_guests(life: Life) -> None:
    """Two guests share a volume; the host keeps it until the last one has let go."""
    life.volume['connection_info']['multiattach'] = True
    life.attached()
    life.bench.attach(**{**life.attach_arguments(), 'guest': 'second', 'bus': 'scsi'})
    life.bench.write(volume_id=life.volume_id, byte=0x77, offset=2 * MIB, length=MIB // 16)
    assert life.bench.reads(
        volume_id=life.volume_id, byte=0x77, offset=2 * MIB, length=MIB // 16, guest='second'
    )
    first = life.bench.detach(volume_id=life.volume_id)
    life.result = None
    assert first['still_used_by'] == ['second']
    assert life.bench.reads(
        volume_id=life.volume_id, byte=0x77, offset=2 * MIB, length=MIB // 16, guest='second'
    )
    life.bench.detach(volume_id=life.volume_id, guest='second')
    assert life.bench.traces() == []
    assert life.storage.seen_by_target(volume_id=life.volume_id) == []
