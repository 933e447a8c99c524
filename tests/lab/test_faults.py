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

"""What goes wrong with storage and on the way to it, and what becomes of the volume."""

from collections.abc import Iterator
import contextlib
import time
import typing

import pytest

from tests.lab.hosts.host import Host
from tests.lab.life import MIB
from tests.lab.life import Life
from tests.lab.rows import Row
from tests.lab.rpc.client import RemoteError
from tests.lab.waiting import wait_until

# What a dead way may cost more than a healthy attach.
EXTRA = 3.0  # seconds
RETRIES = 2
BACK = 30.0  # seconds

# What says that the volume cannot be reached, whatever the protocol calls it; a port of
# Fibre Channel nobody can ask, so that there is no device is all that is known.
UNREACHABLE = {
    'EndpointUnreachable',
    'DeadlineExceeded',
    'ConnectFailed',
    'MountFailed',
    'VolumeDeviceNotFound',
}
# What says that what is in the volume's place is not the volume, or that it is gone
# from there: the kernel drops a namespace itself once another one has its number,
# also under os-brick's hands, and os-brick looks for the volume's own.
REFUSED = {
    'IdentityMismatch',
    'VolumeNotConnected',
    'ExtendVolumeFailed',
    'VolumeDeviceNotFound',
}


@pytest.fixture
def life(row: Row, host: Host) -> Iterator[Life]:
    """A volume of its own for each test."""
    with Life(row, host) as begun:
        yield begun


@contextlib.contextmanager
def broken(life: Life, fault: str, **where: typing.Any) -> Iterator[None]:
    """Let something be wrong with the row's back end; it is mended at the end."""
    reason = life.host.can(fault)
    if reason:
        pytest.skip(f'does not apply: {reason}')
    if fault not in life.storage.faults(backend=life.row.backend):
        pytest.skip(f'does not apply: the back end has no fault "{fault}"')
    life.storage.break_(backend=life.row.backend, fault=fault, where=where)
    try:
        yield
    finally:
        life.storage.mend(backend=life.row.backend)


def works(life: Life, byte: int) -> None:
    """See that what the guest writes arrives."""
    life.bench.write(volume_id=life.volume_id, byte=byte, offset=MIB, length=4096)
    assert life.is_stored(byte, offset=MIB, length=4096)


def seconds_of_attach(life: Life) -> float:
    """Attach; return what it took."""
    began = time.monotonic()
    life.attached()
    return time.monotonic() - began


def test_dead_portal(life: Life, record_property: typing.Any) -> None:
    """One portal of two is dead: the attach takes 3 s more at most, and repair finds it again."""
    if life.row.paths < 2:
        pytest.skip('does not apply: there is one path only')
    healthy = seconds_of_attach(life)
    life.detached()
    with broken(life, 'portal drops', portal=1):
        dead = seconds_of_attach(life)
        # Emulated, the same attach may take twice as long the next time.
        for _ in range(RETRIES):
            if dead > healthy + EXTRA:
                life.detached()
                dead = seconds_of_attach(life)
        assert life.result is not None
        assert life.result['degraded']
        assert (life.result['paths_asked'], life.result['paths_found']) == (2, 1)
        assert len(life.result['paths_failed']) == 1
        works(life, 0x61)
    record_property('figure.attach, all portals alive', round(healthy, 2))
    record_property('figure.attach, one portal of two dead', round(dead, 2))
    assert dead <= healthy + EXTRA
    # Emulated, a path may take longer to come than a repair waits for it.
    wait_until(lambda: is_repaired(life), 'the second path to be back', timeout=BACK)
    works(life, 0x62)
    life.detached()
    assert life.bench.traces() == []
    assert life.storage.seen_by_target(volume_id=life.volume_id) == []


def is_repaired(life: Life) -> bool:
    """Repair; say whether both paths are there now."""
    found = life.bench.repair(volume_id=life.volume_id, connection_info=life.connection_info)
    return (found['paths_found'], found['degraded']) == (2, False)


def test_portal_refuses(life: Life) -> None:
    """Nobody listens: the attach says so, and nothing is left of it."""
    with broken(life, 'portal refuses'):
        with pytest.raises(RemoteError) as caught:
            life.bench.attach(**life.attach_arguments())
        assert UNREACHABLE & set(caught.value.types), caught.value
    assert life.bench.traces() == []
    life.attached()
    works(life, 0x63)


def test_portal_drops(life: Life) -> None:
    """Nobody answers: the attach ends in its deadline and says so, and nothing is left."""
    with broken(life, 'portal drops'):
        with pytest.raises(RemoteError) as caught:
            life.bench.attach(**life.attach_arguments())
        assert UNREACHABLE & set(caught.value.types), caught.value
        assert life.bench.traces() == []
    # A port of Fibre Channel that comes back is scanned by the kernel itself.
    assert life.row.protocol == 'fibre_channel' or life.bench.traces() == []
    life.attached()
    works(life, 0x64)


def test_path_lost_in_io(life: Life) -> None:
    """A way is lost while the guest writes: not one block that it wrote is lost."""
    if life.row.paths < 2:
        pytest.skip('does not apply: there is one path only')
    life.attached()
    life.bench.begin_writing(volume_id=life.volume_id)
    with broken(life, 'portal drops', portal=0):
        # Blocks that were begun after the way was lost.
        life.bench.wait_written(more=20)
    life.bench.wait_written(more=20)
    written = life.bench.end_writing()
    blocks = life.storage.read(volume_id=life.volume_id, offset=0, length=512 * written)
    wrong = [
        number
        for number in range(written)
        if blocks[512 * number : 512 * number + 8] != b'%08d' % number
    ]
    assert written >= 40
    assert wrong == []


@pytest.mark.spoils_guest
def test_withdrawn(life: Life) -> None:
    """The storage takes the volume away in use; detach still leaves nothing on the host."""
    life.attached()
    life.storage.withdraw(volume_id=life.volume_id)
    try:
        life.bench.detach(volume_id=life.volume_id, force=True)
        life.result = None
        assert life.bench.traces() == []
    finally:
        life.storage.give_back(volume_id=life.volume_id)
    # Where the kernel took the device away at once, libvirt could not clear what it
    # had made of it inside the first guest, and refuses to give it to that one again.
    life.bench.attach(**{**life.attach_arguments(), 'guest': 'second', 'bus': 'scsi'})
    life.bench.write(volume_id=life.volume_id, byte=0x65, offset=MIB, length=4096, guest='second')
    life.bench.detach(volume_id=life.volume_id, guest='second')
    assert set(life.storage.read(volume_id=life.volume_id, offset=MIB, length=4096)) == {0x65}
    assert life.bench.traces() == []


@pytest.mark.spoils_guest
def test_place_taken(life: Life) -> None:
    """Another volume has got this one's place: it is refused, and its data are not touched."""
    other = life.make_volume()
    data = b'\x7e' * MIB
    life.storage.write(volume_id=other['volume_id'], offset=0, data=data)
    life.attached()
    life.storage.give_place_to(volume_id=life.volume_id, other=other['volume_id'])
    try:
        with pytest.raises(RemoteError) as caught:
            life.bench.extend(volume_id=life.volume_id, size=2 * life.size)
        assert set(caught.value.types) & REFUSED, caught.value
        with pytest.raises(RemoteError) as caught:
            life.bench.reconnect(volume_id=life.volume_id, connection_info=life.connection_info)
        assert set(caught.value.types) & REFUSED, caught.value
        found = life.storage.read(volume_id=other['volume_id'], offset=0, length=len(data))
        assert found == data
    finally:
        life.storage.give_back(volume_id=life.volume_id)
        life.storage.delete(volume_id=other['volume_id'])
    life.detached()
    assert life.bench.traces() == []


def test_server_hangs(life: Life) -> None:
    """The server stops answering while the guest has the volume, and goes on later."""
    life.attached()
    works(life, 0x66)
    with broken(life, 'server hangs'):
        with pytest.raises(RemoteError) as caught:
            life.bench.extend(volume_id=life.volume_id, size=2 * life.size)
        assert UNREACHABLE & set(caught.value.types), caught.value
    works(life, 0x67)
    life.detached()
    assert life.bench.traces() == []


def test_daemon_killed(life: Life) -> None:
    """The daemon of the protocol is killed while the guest has the volume, and comes back."""
    life.attached()
    with broken(life, 'daemon killed'):
        pass
    works(life, 0x68)
    life.detached()
    assert life.bench.traces() == []


def test_libvirtd_killed(life: Life) -> None:
    """libvirtd is killed while the guest has the volume; the next operations find their way."""
    life.attached()
    life.bench.restart_libvirtd()
    works(life, 0x69)
    life.detached()
    assert life.bench.traces() == []
