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

"""Bring the hypervisor of the lab up: libvirtd, and the two guests.

python -m tests.lab.bench.up [--without-linux]
"""

import argparse
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys
import time

from tests.lab.bench import guests as lab_guests
from tests.lab.waiting import wait_until
from volumedrivers import exception
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests

URI = 'qemu:///system'
# Nested emulation.
BOOT_TIMEOUT = 400.0  # seconds


def daemons() -> None:
    """Start D-Bus, virtlogd and libvirtd where they do not run; wait for the last."""
    pathlib.Path('/run/dbus').mkdir(exist_ok=True)
    conf = pathlib.Path('/etc/libvirt/qemu.conf')
    setting = 'security_driver = "none"\n'
    if setting not in conf.read_text():
        conf.write_text(conf.read_text() + setting)
    if not pathlib.Path('/run/dbus/system_bus_socket').exists():
        subprocess.run(['dbus-daemon', '--system', '--fork'], check=True)
    # Its child would hold our standard output open for ever.
    for daemon in ('virtlogd', 'libvirtd'):
        if not _runs(daemon):
            subprocess.run(
                [_program(daemon), '-d'],
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
    wait_until(answers, 'libvirtd to answer', timeout=120)


def kill_libvirtd() -> None:
    """Kill libvirtd; the guests go on."""
    pid = int(pathlib.Path('/run/libvirtd.pid').read_text())
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not _runs('libvirtd'), 'libvirtd to end')


def answers() -> bool:
    """Say whether libvirtd answers."""
    try:
        with Hypervisor(URI) as hypervisor:
            hypervisor.connection()
    except exception.VolumeDriversError:
        return False
    return True


def start_linux(hypervisor: Hypervisor) -> None:
    """Start the guest with a Linux, and leave it running."""
    # QEMU is nobody's there, and what it boots is in root's own cache.
    for directory in guests.boot_files()[1].parents:
        directory.chmod(directory.stat().st_mode | stat.S_IXGRP | stat.S_IXOTH)
    lab_guests.DIRECTORY.mkdir(exist_ok=True)
    linux = guests.CooperatingGuest(
        hypervisor,
        lab_guests.DIRECTORY,
        lab_guests.LINUX,
        boot_timeout=BOOT_TIMEOUT,
        kind=kind(),
    )
    linux.__enter__()
    linux.close()


def start_second(hypervisor: Hypervisor) -> None:
    """Start the guest without an operating system; it is persistent."""
    guests.start_guest(hypervisor, lab_guests.SECOND, persistent=True, kind=kind())


def kind() -> str:
    """Return how guests run: an emulated machine has a KVM, too, ten times as fast as none."""
    return 'kvm' if pathlib.Path('/dev/kvm').exists() else 'qemu'


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--without-linux', action='store_true')
    options = parser.parse_args(arguments)
    began = time.monotonic()
    daemons()
    print(f'libvirtd {time.monotonic() - began:.1f} s', flush=True)
    with Hypervisor(URI) as hypervisor:
        running = {domain.name() for domain in hypervisor.connection().listAllDomains()}
        if lab_guests.SECOND not in running:
            start_second(hypervisor)
        if lab_guests.LINUX not in running and not options.without_linux:
            began = time.monotonic()
            start_linux(hypervisor)
            print(f'guest with a Linux {time.monotonic() - began:.1f} s', flush=True)
    return 0


def _runs(daemon: str) -> bool:
    pid = pathlib.Path(f'/run/{daemon}.pid')
    try:
        os.kill(int(pid.read_text()), 0)
    except (OSError, ValueError):
        return False
    return True


def _program(name: str) -> str:
    found = shutil.which(name, path='/usr/sbin:/usr/bin:/sbin:/bin')
    if found is None:
        raise exception.ToolMissing(tool=name, package='libvirt-daemon-system')
    return found


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
