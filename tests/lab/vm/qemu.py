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

"""The arguments of QEMU: what the virtual machine consists of.

A frozen machine can only be restored into the same one, so everything here is
part of the key of a frozen state.
"""

import functools
import pathlib
import platform
import subprocess

from tests.lab.vm import counter
from tests.lab.vm import programs

# PCI addresses follow from os-brick and udev: both name a Fibre Channel path
# by the network card below, which has to be a real PCI function with a number
# of its own, and e1000e is one.
FABRICS = {
    'fabric_a_initiator': ('0x4', '52:54:00:fc:a0:00', 1),
    'fabric_a_target': ('0x5', '52:54:00:fc:a0:01', 1),
    'fabric_b_initiator': ('0x6', '52:54:00:fc:b0:00', 2),
    'fabric_b_target': ('0x7', '52:54:00:fc:b0:01', 2),
}

AGENT_PORT = 7000

# Monitor and logs are named relative to the machine's directory, where QEMU
# runs: the address of a Unix socket is short.
MONITOR = 'monitor.sock'
CONSOLE = 'console.log'
TOKEN = 'token'

MEMORY_ID = 'ram'

# Without huge pages, as host and target are one kernel here and hand each other pages: what TCP
# has put together of two adjacent huge ones is taken for an overrun by hardened usercopy, which
# ends nvmet's worker.
COMMAND_LINE = (
    'console=ttyS0 panic=-1 quiet mitigations=off nokaslr tsc=reliable audit=0'
    ' selinux=0 apparmor=0 random.trust_cpu=on net.ifnames=1 transparent_hugepage=never'
)


def program() -> str:
    """Return QEMU's path.

    :raises programs.ProgramMissing
    """
    return programs.find('qemu-system-x86_64', 'qemu-system-x86')


def version() -> str:
    """Return QEMU's version as it says it."""
    return programs.run([program(), '--version']).splitlines()[0]


def accelerator_arguments(accelerator: str) -> list[str]:
    """Return the arguments for 'kvm' or 'tcg'."""
    if accelerator == 'kvm':
        return ['-accel', 'kvm', '-cpu', 'host']
    # Emulated, what is to be fast byte by byte is not: without ERMS the kernel clears
    # and copies pages by words; a page table has four levels, not five, to walk.
    return ['-accel', 'tcg,thread=multi,tb-size=1024', '-cpu', 'max,-erms,-la57']


def arguments(
    accelerator: str,
    *,
    kernel: pathlib.Path,
    initrd: pathlib.Path,
    disk: str,
    size: int,
    processors: int,
    memory: str,
) -> list[str]:
    """Return the whole command line, to be run in the machine's directory.

    :param disk: file name of a qcow2 image
    :param size: of the memory, MiB
    :param memory: type and properties of the memory's backend, without name and size
    """
    kind, _, properties = memory.partition(',')
    backend = f'{kind},id={MEMORY_ID},size={size}M' + (f',{properties}' if properties else '')
    return [
        program(),
        *accelerator_arguments(accelerator),
        *('-machine', f'q35,memory-backend={MEMORY_ID}', '-object', backend),
        *('-smp', str(processors), '-m', f'{size}M'),
        *('-kernel', str(kernel), '-initrd', str(initrd)),
        *('-append', ' '.join([COMMAND_LINE, *_clock(accelerator)])),
        # What it flushes is in this kernel's cache, which outlives QEMU; on the
        # disk itself it is never needed.
        *('-drive', f'file={disk},if=none,id=disk,format=qcow2,cache=unsafe'),
        *devices(),
    ]


@functools.cache
def _clock(accelerator: str) -> tuple[str, ...]:
    """Return what the kernel has to be told of its clock; KVM tells it itself."""
    rate = counter.kilohertz() if accelerator == 'tcg' else None
    return (f'tsc_early_khz={rate}',) if rate else ()


def processor() -> str:
    """Return this machine's processor, whose counter a frozen machine goes on with."""
    for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines():
        if line.startswith('model name'):
            return line.partition(':')[2].strip()
    return platform.machine()


def devices() -> list[str]:
    """Return the arguments that are the same for every machine."""
    arguments = [
        *('-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none'),
        *('-chardev', f'file,id=console,path={CONSOLE}', '-serial', 'chardev:console'),
        *('-chardev', f'socket,id=monitor,path={MONITOR},server=on,wait=off'),
        *('-mon', 'chardev=monitor,mode=control'),
        *('-fw_cfg', f'name=opt/volumedrivers/token,file={TOKEN}'),
        *('-device', 'virtio-blk-pci,drive=disk,addr=0x2'),
        *('-netdev', f'user,id=agent,restrict=on,hostfwd=tcp:127.0.0.1:0-:{AGENT_PORT}'),
        *('-device', 'virtio-net-pci,netdev=agent,addr=0x3'),
    ]
    for name, (slot, address, hub) in FABRICS.items():
        arguments += ['-netdev', f'hubport,id={name}_port,hubid={hub}']
        arguments += ['-device', f'e1000e,id={name},netdev={name}_port,mac={address},addr={slot}']
    return [*arguments, '-device', 'virtio-rng-pci,addr=0x8']


def works(accelerator: str, kernel: pathlib.Path, seconds: float = 15.0) -> bool:
    """Tell whether a machine starts a kernel with that accelerator.

    A /dev/kvm may be there and its guests hang all the same.
    """
    arguments = [
        program(),
        *('-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none'),
        *('-machine', 'q35', '-m', '256', '-serial', 'stdio', '-kernel', str(kernel)),
        # Without a root file system it gives up, which ends QEMU.
        *('-append', 'console=ttyS0 panic=-1'),
        *accelerator_arguments(accelerator),
    ]
    try:
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 and b'Kernel panic' in done.stdout
