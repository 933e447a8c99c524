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

"""Guests that do not let go, and a libvirt that goes away meanwhile."""

from collections.abc import Iterator
import concurrent.futures
import os
import pathlib
import re
import signal
import threading
import time

import libvirt
import pytest

from tests.functional import volumes
from volumedrivers import exception
from volumedrivers.host.deadline import Call
from volumedrivers.libvirt.events import Verdict
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing.libvirtd import PrivateLibvirtd


@pytest.fixture
def stubborn(guest: Guest, raw_volume: volumes.Volume) -> Guest:
    """A guest that never lets go of its virtio-blk disk: nothing runs in it."""
    guest.attach_disk(raw_volume.disk('virtio', 'vda'))
    return guest


@pytest.fixture
def helper() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        yield thread


def wait_until_asked(guest: Guest) -> None:
    """Wait until the detach is done with the persistent definition and asks the guest."""
    waiters = guest.hypervisor.events._waiters
    deadline = time.monotonic() + 10
    while (guest.uuid, 'ua-volume') not in waiters and time.monotonic() < deadline:
        time.sleep(0.02)
    assert guest.disks(persistent=True) == ()


def reset_until_done(guest: Guest, detach: 'concurrent.futures.Future[None]') -> None:
    """Reset the guest until the detach is over: a reset before the question is no answer."""
    deadline = time.monotonic() + 30
    while not detach.done() and time.monotonic() < deadline:
        guests.reset_guest(guest)
        concurrent.futures.wait([detach], timeout=0.3)


def test_guest_that_does_not_let_go_keeps_the_disk(stubborn: Guest) -> None:
    with pytest.raises(exception.DetachTimeout) as caught:
        stubborn.detach_disk(alias='ua-volume', target='vda', attempts=2, timeout=0.3)
    assert caught.value.details['attempts'] == 2
    assert [disk.alias for disk in stubborn.disks()] == ['ua-volume']
    assert stubborn.disks(persistent=True) == ()


def test_asking_again_works_once_the_guest_gives_in(
    stubborn: Guest, helper: concurrent.futures.ThreadPoolExecutor
) -> None:
    with pytest.raises(exception.DetachTimeout):
        stubborn.detach_disk(alias='ua-volume', attempts=1, timeout=0.2)
    with stubborn.hypervisor.events.waiter(stubborn.uuid, 'ua-volume') as waiter:
        detach = helper.submit(stubborn.detach_disk, alias='ua-volume', attempts=1, timeout=40)
        waiters = stubborn.hypervisor.events._waiters[stubborn.uuid, 'ua-volume']
        deadline = time.monotonic() + 10
        while len(waiters) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        # libvirtd 9.0 crashes when a guest lets go while it is being asked again.
        time.sleep(0.5)
        reset_until_done(stubborn, detach)
        assert detach.result(0) is None
        assert waiter.wait(5) is Verdict.REMOVED
    assert stubborn.disks() == ()


def test_guest_that_ends_meanwhile_is_without_the_disk(
    stubborn: Guest, helper: concurrent.futures.ThreadPoolExecutor
) -> None:
    detach = helper.submit(stubborn.detach_disk, alias='ua-volume', attempts=1, timeout=30)
    wait_until_asked(stubborn)
    stubborn.hypervisor.domain(stubborn.uuid).destroy()
    assert detach.result(20) is None
    assert stubborn.disks() == stubborn.disks(persistent=True) == ()


def test_transient_guest_that_ends_meanwhile_is_gone(
    hypervisor: Hypervisor,
    raw_volume: volumes.Volume,
    helper: concurrent.futures.ThreadPoolExecutor,
) -> None:
    guest = guests.start_guest(hypervisor, 'short-lived')
    guest.attach_disk(raw_volume.disk('virtio', 'vda'))
    detach = helper.submit(guest.detach_disk, alias='ua-volume', attempts=1, timeout=30)
    timer = threading.Timer(0.3, guests.remove_guest, [guest])
    timer.start()
    assert detach.result(20) is None
    timer.join()
    with pytest.raises(exception.GuestNotFound):
        guest.disks()


@pytest.mark.parametrize('kill', [False, True], ids=['terminated', 'killed'])
def test_restarted_libvirtd_is_found_again(
    libvirtd: PrivateLibvirtd, guest: Guest, raw_volume: volumes.Volume, kill: bool
) -> None:
    guest.attach_disk(raw_volume.disk('scsi', 'sda'))
    libvirtd.restart(kill=kill)
    assert [disk.alias for disk in guest.disks()] == ['ua-volume']
    with guest.hypervisor.events.waiter(guest.uuid, 'ua-volume') as waiter:
        guest.detach_disk(alias='ua-volume', target='sda')
        assert waiter.wait(5) is Verdict.REMOVED
    assert guest.disks() == ()


def test_libvirtd_restarts_while_a_guest_is_asked(
    libvirtd: PrivateLibvirtd, stubborn: Guest, helper: concurrent.futures.ThreadPoolExecutor
) -> None:
    detach = helper.submit(stubborn.detach_disk, alias='ua-volume', attempts=1, timeout=60)
    wait_until_asked(stubborn)
    libvirtd.stop_daemon(kill=True)
    try:
        time.sleep(0.7)
        assert not detach.done()
    finally:
        libvirtd.start_daemon()
    reset_until_done(stubborn, detach)
    assert detach.result(0) is None
    assert stubborn.disks() == ()


def test_silence_is_not_absence(
    libvirtd: PrivateLibvirtd, guest: Guest, raw_volume: volumes.Volume
) -> None:
    guest.attach_disk(raw_volume.disk('scsi', 'sda'))
    libvirtd.stop_daemon()
    try:
        for ask in (
            guest.disks,
            guest.is_running,
            guest.hypervisor.guests,
            lambda: guest.hypervisor.guest(guest.name),
            lambda: guest.hypervisor.guest('no-such-guest'),
            lambda: guest.attach_disk(raw_volume.disk('scsi', 'sda')),
            lambda: guest.detach_disk(alias='ua-volume', target='sda'),
            lambda: guest.detach_disk(alias='ua-other'),
            lambda: guest.resize_disk('sda', 2 * volumes.SIZE),
            lambda: guest.free_target('scsi'),
            lambda: guest.hypervisor.secrets.find('volume', 'x'),
            lambda: guest.hypervisor.secrets.delete('volume', 'x'),
            lambda: guest.hypervisor.secrets.ensure('volume', 'x', b'value'),
        ):
            with pytest.raises(exception.HypervisorUnavailable):
                ask()
    finally:
        libvirtd.start_daemon()
    assert [disk.alias for disk in guest.disks()] == ['ua-volume']


def test_libvirtd_that_stays_away_ends_the_wait_as_unknown(
    libvirtd: PrivateLibvirtd, stubborn: Guest, helper: concurrent.futures.ThreadPoolExecutor
) -> None:
    detach = helper.submit(stubborn.detach_disk, alias='ua-volume', attempts=3, timeout=1.5)
    wait_until_asked(stubborn)
    libvirtd.stop_daemon(kill=True)
    try:
        with pytest.raises(exception.HypervisorUnavailable):
            detach.result(20)
    finally:
        libvirtd.start_daemon()
    assert [disk.alias for disk in stubborn.disks()] == ['ua-volume']


def test_libvirtd_that_hangs_is_given_up_by_all_who_wait(
    libvirtd: PrivateLibvirtd, guest: Guest
) -> None:
    """libvirt's own keepalive would wake one of them, and end the process later."""
    with Hypervisor(libvirtd.uri, answer_timeout=1.0) as hypervisor:
        same = hypervisor.guest(guest.name)
        os.kill(libvirtd.pid, signal.SIGSTOP)
        try:
            calls = [Call(same.disks, what='the disks') for _ in range(6)]
            calls += [Call(hypervisor.guests, what='the guests') for _ in range(2)]
            for call in calls:
                with pytest.raises(exception.HypervisorUnavailable, match='not answered for 1 s'):
                    call.wait(30)
            # One that comes later waits for a new connection, and no longer.
            with pytest.raises(exception.HypervisorUnavailable, match='said nothing for 1 s'):
                same.disks()
        finally:
            os.kill(libvirtd.pid, signal.SIGCONT)
        assert same.disks() == ()
        assert guest.name in {one.name for one in hypervisor.guests()}


COPY = "<disk type='file'><source file='{}'/><driver type='raw'/></disk>"
BACKUP = (
    "<domainbackup mode='pull'><server transport='unix' socket='{0}.sock'/><disks>"
    "<disk name='sda' backup='yes' type='file'><scratch file='{0}'/></disk></disks></domainbackup>"
)


@pytest.mark.parametrize('kind', ['block copy', 'backup'])
def test_job_on_the_disk_is_named(
    guest: Guest, raw_volume: volumes.Volume, tmp_path: pathlib.Path, kind: str
) -> None:
    guest.attach_disk(raw_volume.disk('scsi', 'sda'))
    domain = guest.hypervisor.domain(guest.uuid)
    if kind == 'backup':
        domain.backupBegin(BACKUP.format(tmp_path / 'scratch'), None)
        advice, end = f'"virsh domjobabort {guest.name}"', domain.abortJob
    else:
        flags = libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
        domain.blockCopy('sda', COPY.format(tmp_path / 'copy'), {}, flags)
        advice = f'"virsh blockjob {guest.name} sda --abort"'

        def end() -> None:
            domain.blockJobAbort('sda')

    said = re.escape(f'a {kind} runs on it') + '.*' + re.escape(advice)
    with pytest.raises(exception.Busy, match=said):
        guest.resize_disk('sda', 2 * volumes.SIZE)
    with pytest.raises(exception.Busy, match=said):
        guest.detach_disk(alias='ua-volume', target='sda')
    end()
    guest.resize_disk('sda', 2 * volumes.SIZE)
    guest.detach_disk(alias='ua-volume', target='sda')
    assert guest.disks() == ()
