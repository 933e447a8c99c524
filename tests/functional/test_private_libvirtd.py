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

"""The private libvirtd itself: apart from the machine's, and gone afterwards."""

from collections.abc import Iterator
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from volumedrivers import exception
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing.libvirtd import PrivateLibvirtd


@pytest.fixture
def directory() -> Iterator[pathlib.Path]:
    with tempfile.TemporaryDirectory(prefix='vd-host') as name:
        yield pathlib.Path(name)


def processes_of(directory: pathlib.Path) -> list[str]:
    """Return the command lines that name the directory."""
    found = []
    for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
        try:
            command = path.read_bytes().replace(b'\0', b' ').decode(errors='replace')
        except OSError:
            continue
        if str(directory) in command:
            found.append(command)
    return found


def guests_of(log: pathlib.Path) -> list[str]:
    """Return what has the log of a guest open: its QEMU."""
    found = []
    for opened in pathlib.Path('/proc').glob('[0-9]*/fd/1'):
        try:
            # The same file has another name inside the namespace.
            if opened.samefile(log):
                found.append(str(opened))
        except OSError:
            continue
    return found


def test_two_hosts_beside_each_other(directory: pathlib.Path) -> None:
    with (
        PrivateLibvirtd(directory / 'a', name='hosta') as one,
        PrivateLibvirtd(directory / 'b', name='hostb') as two,
        Hypervisor(one.uri) as hypervisor_one,
        Hypervisor(two.uri) as hypervisor_two,
    ):
        guests.start_guest(hypervisor_one, 'same-name')
        assert hypervisor_two.guests() == ()
        assert hypervisor_one.connection().getHostname() == 'hosta'
        assert hypervisor_two.connection().getHostname() == 'hostb'
        assert processes_of(directory)
        mounts = pathlib.Path('/proc/self/mounts').read_text()
        assert str(directory) not in mounts
        assert '/run/libvirt' not in mounts
    assert processes_of(directory) == []


SCRIPT = """
import pathlib, sys, time
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing.libvirtd import PrivateLibvirtd
with PrivateLibvirtd(pathlib.Path(sys.argv[1])) as libvirtd:
    hypervisor = Hypervisor(libvirtd.uri)
    guests.start_guest(hypervisor, 'orphan')
    print('ready', flush=True)
    time.sleep(100)
"""


def test_killed_tests_leave_nothing(directory: pathlib.Path) -> None:
    with subprocess.Popen(
        [sys.executable, '-c', SCRIPT, str(directory)], stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == 'ready\n'
            log = directory / 'log' / 'qemu' / 'orphan.log'
            assert guests_of(log)
        finally:
            child.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 15
    while processes_of(directory) + guests_of(log) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(directory) == []
    assert guests_of(log) == []


def test_directory_too_long_for_a_socket(tmp_path: pathlib.Path) -> None:
    with pytest.raises(exception.InvalidOption):
        PrivateLibvirtd(tmp_path / ('x' * 90))
