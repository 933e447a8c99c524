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

"""Many attaches of one process at once, and some that hang."""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import typing

import pytest

from tests.functional import load_host
from volumedrivers import exception
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.attachment.manager import make_manager
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.attachment.volume_encryption import VolumeEncryption
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host.deadline import Call

ROOT = pathlib.Path(__file__).parents[2]
SCSI = DiskRequest(bus='scsi')
# Seconds after which something that has to happen has not; a machine that is
# slow may take long.
LONG = 60.0


@pytest.fixture(scope='module')
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[load_host.Host]:
    with load_host.Host(tmp_path_factory.mktemp('load')) as host:
        yield host


@pytest.fixture
def host(started: load_host.Host) -> Iterator[load_host.Host]:
    yield started
    # What a test that failed has left is not to fail the next.
    for record in started.manager.context.journal.find():
        with contextlib.suppress(exception.VolumeDriversError):
            started.manager.detach(record.domain_uuid, record.volume_id)
    # A share that QEMU had not yet closed when the last volume went.
    started.manager.recover()
    assert started.disagreements() == []


class Blocked:
    """Lets connect_volume of one volume wait, as a storage that does not answer.

    :ivar inside: set when it waits
    :ivar go_on: set it to let it go on
    """

    def __init__(self, manager: AttachmentManager, volume: ConnectionInfo) -> None:
        self.inside = threading.Event()
        self.go_on = threading.Event()
        self._driver: typing.Any = manager.context.driver(volume)
        self._volume_id = volume.volume_id

    def __enter__(self) -> typing.Self:
        connect: Callable[..., typing.Any] = self._driver.connect_volume

        def wait(info: ConnectionInfo, attachment: str) -> typing.Any:
            if info.volume_id == self._volume_id:
                self.inside.set()
                assert self.go_on.wait(LONG)
            return connect(info, attachment)

        self._driver.connect_volume = wait
        return self

    def __exit__(self, *exc: object) -> None:
        self.go_on.set()
        del self._driver.connect_volume


def manager_of(
    host: load_host.Host,
    *,
    observer: Callable[[str, str, str], None] | None = None,
    **options: object,
) -> AttachmentManager:
    conf = load_host.make_conf({**host.options, **options})
    return make_manager(conf, host.hypervisor, observer=observer)


def attaching(manager: AttachmentManager, info: ConnectionInfo, guest: str) -> Call[typing.Any]:
    return Call(lambda: manager.attach(info, guest, SCSI), what=f'attach to {guest}')


def attach_and_detach(manager: AttachmentManager, info: ConnectionInfo, guest: str) -> None:
    manager.attach(info, guest, SCSI)
    manager.detach(guest, info.volume_id)


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_thirty_two_attaches_to_eight_guests_overlap(host: load_host.Host) -> None:
    """Four a guest; all are asked of libvirt at the same time."""
    together = threading.Barrier(32)
    intervals: dict[int, list[float]] = {}

    def observe(operation: str, step: str, moment: str) -> None:
        if (operation, step) == ('attach', 'attach'):
            if moment == 'before':
                together.wait(LONG)
            intervals.setdefault(threading.get_ident(), []).append(time.monotonic())

    manager = manager_of(host, observer=observe)
    calls = []
    for number, guest in enumerate(load_host.GUESTS):
        for more in range(3):
            calls.append(attaching(manager, host.info(f'more-{3 * number + more}'), guest))
        # Another volume to us, and the same unit to the target.
        raw = {one['id']: one['info'] for one in host.volumes}[f'iscsi-{number % 2}']
        name = f'unit-{number}'
        data = {**raw['data'], 'volume_id': name}
        info = ConnectionInfo.parse({**raw, 'data': data, 'serial': name, 'volume_id': name})
        calls.append(attaching(manager, info, guest))
    for call in calls:
        call.wait(LONG)

    assert len(intervals) == 32
    begins, ends = zip(*intervals.values(), strict=True)
    assert max(begins) < min(ends)
    assert host.disagreements() == []
    assert len(host.manager.context.journal.find()) == 32
    for guest in load_host.GUESTS:
        assert len(host.hypervisor.guest(guest).disks()) == 4
    leaving = [
        Call(lambda row=row: manager.detach(row.domain_name, row.volume_id), what='detach')
        for row in host.manager.context.journal.find()
    ]
    for one in leaving:
        one.wait(LONG)
    assert host.manager.context.journal.find() == ()


def test_a_connect_that_hangs_delays_only_its_target(host: load_host.Host) -> None:
    manager = manager_of(host, lock_timeout=0.2)
    with Blocked(manager, host.info('raw-0')) as blocked:
        hanging = attaching(manager, host.info('raw-0'), 'load1')
        assert blocked.inside.wait(LONG)
        # Another target, to the same guest and to another one; by this
        # process, and by another manager.
        attach_and_detach(manager, host.info('iscsi-0'), 'load1')
        attach_and_detach(host.manager, host.info('local'), 'load2')
        # The same share, and the same volume.
        with pytest.raises(exception.LockHeld, match='attach of volume raw-0 and guest load1'):
            manager.attach(host.info('raw-1'), 'load2', SCSI)
        with pytest.raises(exception.LockHeld, match='attach of volume raw-0 and guest load1'):
            manager.detach('load1', 'raw-0')
        running = host.manager.recover()
        assert [(one.volume_id, one.action) for one in running] == [('raw-0', 'running')]
        assert not hanging.ended.is_set()
        blocked.go_on.set()
        hanging.wait(LONG)
    assert host.disagreements() == []
    manager.attach(host.info('raw-1'), 'load2', SCSI)
    assert host.disagreements() == []


def test_a_portal_that_never_answers_delays_nobody_else(host: load_host.Host) -> None:
    manager = manager_of(host, endpoint_timeout=LONG)
    with socket.create_server(('127.0.0.1', 0)) as silent:
        raw = {one['id']: one['info'] for one in host.volumes}['iscsi-0']
        portal = f'127.0.0.1:{silent.getsockname()[1]}'
        info = ConnectionInfo.parse({**raw, 'data': {**raw['data'], 'target_portal': portal}})
        hanging = attaching(manager, info, 'load1')
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(1)  # it is in the middle of asking
            attach_and_detach(manager, host.info('iscsi-1'), 'load1')
            attach_and_detach(manager, host.info('raw-0'), 'load2')
            assert not hanging.ended.is_set()
    with pytest.raises(exception.EndpointUnreachable):
        hanging.wait(LONG)
    assert host.manager.context.journal.find() == ()


def test_a_file_system_that_hangs_delays_nobody_else(host: load_host.Host) -> None:
    host.manager.attach(host.info('raw-0'), 'load1', SCSI)
    client = host.client()
    os.kill(client, signal.SIGSTOP)
    try:
        hanging = attaching(host.manager, host.info('raw-1'), 'load2')
        wait_until(lambda: host.manager.context.journal.find(volume_id='raw-1'))
        attach_and_detach(host.manager, host.info('iscsi-0'), 'load2')
        attach_and_detach(host.manager, host.info('local'), 'load3')
        assert not hanging.ended.is_set()
    finally:
        os.kill(client, signal.SIGCONT)
    hanging.wait(LONG)
    assert host.disagreements() == []


def test_an_attach_that_passes_its_deadline(host: load_host.Host) -> None:
    manager = manager_of(host, connect_timeout=0.3, lock_timeout=0.0)
    key = make_key(host.hypervisor.guest('load1').uuid, 'raw-0')
    journal, locks = manager.context.journal, manager.context.locks
    with Blocked(manager, host.info('raw-0')) as blocked:
        with pytest.raises(exception.DeadlineExceeded, match='connect of attach of volume raw-0'):
            manager.attach(host.info('raw-0'), 'load1', SCSI)
        record = journal.get(key)
        assert record is not None
        assert (record.operation, record.step) == ('attach', 'connect')
        assert 'gave up after 0.3 s waiting for step connect' in record.problem
        for other in (manager, host.manager):
            with pytest.raises(exception.LockHeld, match='past its deadline'):
                lock_at_once(other, 'raw-0')
        with pytest.raises(exception.LockHeld, match='past its deadline'):
            manager.attach(host.info('raw-1'), 'load2', SCSI)
        (running,) = host.manager.recover()
        assert running.action == 'running'
        assert 'past its deadline' in running.detail
        blocked.go_on.set()
        # It still connects the volume, and only then lets its locks go.
        wait_until(lambda: locks.holder('volume raw-0') is None)
    assert host.server.mounted_at()
    (undone,) = host.manager.recover()
    assert (undone.volume_id, undone.action) == ('raw-0', 'undone')
    assert host.manager.recover() == ()
    assert journal.get(key) is None
    assert not host.server.mounted_at()


def test_a_secret_that_another_guest_left_meanwhile(host: load_host.Host) -> None:
    """The process was killed when it had deleted the secret, and had not written that."""
    manager, info = host.manager, host.info('luks')
    encryption = VolumeEncryption.parse(load_host.ENCRYPTION)
    manager.attach(info, 'load1', SCSI, encryption=encryption)
    (record,) = manager.context.journal.find()
    host.hypervisor.guest('load1').detach_disk(alias='ua-luks', target=record.target)
    host.hypervisor.secrets.delete('volume', 'luks')
    manager.context.journal.put(
        dataclasses.replace(record, operation=Operation.DETACH, step='decrypt', was_attached=True)
    )
    manager.attach(info, 'load2', SCSI, encryption=encryption)
    manager.detach('load2', 'luks')
    (outcome,) = manager.recover()
    assert outcome.action == 'finished', outcome.detail
    assert host.hypervisor.secrets.find('volume', 'luks') is None
    assert manager.context.journal.find() == ()


def lock_at_once(manager: AttachmentManager, volume: str) -> None:
    manager.context.lock_volume(volume, 'test', 'load1', seconds=0).release()


def test_processes_get_a_volume_in_the_order_of_asking(
    host: load_host.Host, tmp_path: pathlib.Path
) -> None:
    directory = host.manager.context.locks.directory
    order = tmp_path / 'order'
    program = (
        'import os, sys\n'
        'from volumedrivers.host.fair_lock import FairLocks\n'
        'directory, name, path = sys.argv[1:]\n'
        f"with FairLocks(directory).acquire(('volume raw-0',), what=name, seconds={LONG}):\n"
        '    done = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n'
        "    os.write(done, name.encode() + b'\\n')\n"
    )
    names = [f'process{number}' for number in range(6)]
    with contextlib.ExitStack() as stack:
        held = host.manager.context.lock_volume('raw-0', 'test', 'load1')
        stack.callback(held.release)
        processes = []
        for number, name in enumerate(names):
            process = subprocess.Popen(
                [sys.executable, '-c', program, directory, name, str(order)], cwd=ROOT
            )
            stack.callback(process.kill)
            processes.append(process)
            # Its ticket is there when it has asked.
            wait_until(lambda queued=number + 2: len(tickets(directory)) == queued)
        held.release()
        for process in processes:
            assert process.wait(LONG) == 0
    assert order.read_text().split() == names


def tickets(directory: str) -> list[str]:
    return [
        name
        for name in os.listdir(directory)
        if not name.startswith('gate-') and not name.endswith('.new')
    ]
