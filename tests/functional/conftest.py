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

"""A libvirtd, a hypervisor and guests for the functional tests."""

from collections.abc import Iterator
import pathlib
import typing

import pytest

from tests.functional import crash_table
from tests.functional import volumes
from tests.functional.spare_guests import SpareGuests
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing.ceph import CephCluster
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.qemu_io import GuestIO


@pytest.fixture(scope='session')
def libvirtd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateLibvirtd]:
    """A libvirtd of our own, which may be restarted by any test."""
    with PrivateLibvirtd(tmp_path_factory.mktemp('libvirtd')) as daemon:
        yield daemon


@pytest.fixture(scope='session')
def hypervisor(libvirtd: PrivateLibvirtd) -> Iterator[Hypervisor]:
    with Hypervisor(libvirtd.uri) as opened:
        yield opened


@pytest.fixture(scope='session')
def spare_guests() -> SpareGuests:
    """Those that wait for the next test; they end with their libvirtd."""
    return SpareGuests()


@pytest.fixture
def guest(hypervisor: Hypervisor, spare_guests: SpareGuests) -> Iterator[Guest]:
    """A persistent guest without an operating system, paused, with virtio-scsi."""
    started = spare_guests.take(hypervisor)
    yield started
    spare_guests.give_back(started)


@pytest.fixture
def guest_io(guest: Guest, libvirtd: PrivateLibvirtd) -> GuestIO:
    """What reads and writes the disks of ``guest``."""
    return GuestIO(guest, lambda: libvirtd.guest_log(guest.name))


@pytest.fixture(scope='session')
def linux_guest(
    hypervisor: Hypervisor, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[guests.CooperatingGuest]:
    """A guest with a small Linux, which lets go of virtio-blk disks too."""
    directory: pathlib.Path = tmp_path_factory.mktemp('linux')
    with guests.CooperatingGuest(hypervisor, directory, 'linux') as started:
        yield started


@pytest.fixture(scope='session')
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CephCluster]:
    """A Ceph of one node; each test has an image of its own in it."""
    with CephCluster(tmp_path_factory.mktemp('ceph') / 'cluster') as started:
        yield started


@pytest.fixture
def raw_volume(tmp_path: pathlib.Path) -> volumes.Volume:
    return volumes.RawVolume(tmp_path)


@pytest.fixture(params=volumes.KINDS)
def volume(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[volumes.Volume]:
    """A volume of every kind, one after the other."""
    with volumes.KINDS[request.param](tmp_path) as made:
        yield made


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand over what a process that runs a part of the tests has noted."""
    if hasattr(session.config, 'workeroutput'):
        session.config.workeroutput['killed'] = crash_table.export()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: typing.Any) -> None:
    """Take it from one that has ended; of one that died there is nothing."""
    crash_table.take(getattr(node, 'workeroutput', {}).get('killed', []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what became of the processes that were killed."""
    lines = list(crash_table.lines())
    if lines:
        terminalreporter.section('killed, and recovered')
        for line in lines:
            terminalreporter.write_line(line)
