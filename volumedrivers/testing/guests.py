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

"""Guests to attach disks to: one without an operating system, one with a small one.

The first starts paused, in 0.3 s, and lets go of virtio-scsi disks (QEMU does
that alone) but not of virtio-blk ones, which need a kernel that cooperates.
The second boots a Debian kernel with busybox in some 3 s and runs commands.
"""

import contextlib
import gzip
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
import typing
import uuid

import libvirt

from volumedrivers import exception
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing.libvirtd import cache_directory
from volumedrivers.testing.libvirtd import find_program

DOMAIN = """\
<domain type='{kind}'>
  <name>{name}</name>
  <memory unit='MiB'>{memory}</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type>{boot}</os>
  <features><acpi/></features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    <controller type='pci' index='0' model='pcie-root'/>
    {ports}
    <controller type='scsi' index='0' model='virtio-scsi'/>
    {serial}
  </devices>
</domain>
"""

KERNEL_PACKAGE = 'linux-image-cloud-amd64'

# What the guest needs for disks on PCI; their dependencies are looked up.
MODULES = ('virtio_pci', 'virtio_blk', 'virtio_scsi', 'sd_mod')

INIT = r"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs d /dev
mount -t proc p /proc
mount -t sysfs s /sys
for module in $(cat /lib/modules/order); do insmod /lib/modules/$module; done
stty -F /dev/ttyS1 raw -echo 115200
exec </dev/ttyS1 >/dev/ttyS1 2>&1
echo READY
while IFS= read -r line; do
    eval "$line"
    printf '\n@@%s\n' $?
done
echo o >/proc/sysrq-trigger
"""


def domain_xml(
    name: str,
    *,
    memory: int = 64,
    ports: int = 8,
    boot: str = '',
    serial: str = '',
    kind: str = 'qemu',
) -> str:
    """Return a q35 machine with virtio-scsi and no disk.

    :param memory: MiB
    :param ports: PCIe root ports; every virtio-blk disk and every further
        controller takes one, the SCSI controller one as well
    :param kind: 'qemu': emulated, which works everywhere; 'kvm'
    """
    return DOMAIN.format(
        name=name,
        memory=memory,
        boot=boot,
        ports="<controller type='pci' model='pcie-root-port'/>" * ports,
        serial=serial,
        kind=kind,
    )


def start_guest(
    hypervisor: Hypervisor,
    name: str,
    *,
    persistent: bool = False,
    running: bool = True,
    ports: int = 8,
    kind: str = 'qemu',
) -> Guest:
    """Start a guest without an operating system; it stays paused.

    :param persistent: define it; otherwise it is transient
    :param running: False: define only, which implies persistent
    :param kind: 'qemu' or 'kvm'
    """
    connection = hypervisor.connection()
    xml = domain_xml(name, ports=ports, kind=kind)
    with hypervisor.translated(f'start guest {name}'):
        if persistent or not running:
            domain = connection.defineXML(xml)
            if running:
                domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        else:
            connection.createXML(xml, libvirt.VIR_DOMAIN_START_PAUSED)
    return hypervisor.guest(name)


def remove_guest(guest: Guest) -> None:
    """Destroy and undefine a guest, whatever of it is there."""
    hypervisor = guest.hypervisor
    for remove in ('destroy', 'undefine'):
        with contextlib.suppress(exception.GuestNotFound, libvirt.libvirtError):
            getattr(hypervisor.domain(guest.uuid), remove)()


def reset_guest(guest: Guest) -> None:
    """Press the reset button; QEMU then lets go of what the guest did not."""
    with guest.hypervisor.translated(f'reset guest {guest.name}'):
        guest.hypervisor.domain(guest.uuid).reset(0)


class GuestShell:
    """Runs commands in a guest with the small Linux, through its serial line.

    :param name: of the guest, for messages
    :param channel: connected to the serial line
    """

    def __init__(self, name: str, channel: socket.socket) -> None:
        self.name = name
        self._channel = channel

    @staticmethod
    def connect(name: str, path: pathlib.Path, *, timeout: float = 60.0) -> 'GuestShell':
        """Return the shell of a guest that runs already; one at a time can have it.

        What an earlier one left unread is thrown away.

        :param path: of the serial line's socket
        :param timeout: seconds
        :raises DeadlineExceeded
        """
        channel = socket.socket(socket.AF_UNIX)
        channel.connect(str(path))
        shell = GuestShell(name, channel)
        deadline = time.monotonic() + timeout
        patience = timeout / 8
        while True:
            # A guest that is busy loses some of a line now and then.  Each try has a mark of its
            # own, as an earlier one may be answered late.
            mark = f'here-{uuid.uuid4()}'
            channel.sendall(f'\necho {mark}\n'.encode())
            remaining = deadline - time.monotonic()
            try:
                shell._read_until(f'{mark}\n\n@@0\n', timeout=min(remaining, patience))
            except exception.DeadlineExceeded:
                if remaining <= patience:
                    raise
                patience *= 2
            else:
                return shell

    def close(self) -> None:
        """Leave the serial line to others."""
        self._channel.close()

    def run(self, command: str, *, timeout: float = 20.0) -> tuple[int, str]:
        """Run a shell command in the guest; return its code and its output.

        :param timeout: seconds
        :raises DeadlineExceeded
        """
        if '\n' in command:
            raise exception.InvalidOption(
                option='command', found='more than one line', expected='one line'
            )
        self._channel.sendall(command.encode() + b'\n')
        text = self._read_until('\n@@', timeout=timeout)
        code = self._read_until('\n', timeout=timeout)
        return int(code), text

    def check(self, command: str, *, timeout: float = 20.0) -> str:
        """Run a command that has to succeed; return its output, stripped."""
        code, text = self.run(command, timeout=timeout)
        if code != 0:
            raise exception.HypervisorError(
                action=f'run {command!r} in guest {self.name}', reason=f'code {code}: {text}'
            )
        return text.strip()

    def device_of(self, serial: str, *, timeout: float = 10.0) -> str:
        """Return the guest's name of the disk with a serial (vda, sdb), once it sees it.

        :raises DeadlineExceeded
        """
        # virtio-blk has 20 characters of it; SCSI has them in page 0x80.
        command = (
            # Quoted: a pattern that matched nothing must not match a disk that
            # appears in between.
            'for d in /sys/block/vd* /sys/block/sd*; do [ -e "$d" ] || continue; '
            'echo "${d##*/} $(cat "$d/serial" "$d/device/vpd_pg80" 2>/dev/null | '
            "tr -cd 'a-zA-Z0-9_-')\"; done"
        )
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for line in self.check(command, timeout=max(timeout, 20.0)).splitlines():
                device, _, found = line.partition(' ')
                if found and (found.endswith(serial) or serial.startswith(found)):
                    return device
            time.sleep(0.02)
        raise exception.DeadlineExceeded(what=f'disk {serial} in {self.name}', seconds=timeout)

    def _read_until(self, end: str, *, timeout: float) -> str:
        # Byte by byte, so that nothing is read past the end; lines are short.
        found = bytearray()
        deadline = time.monotonic() + timeout
        while not found.endswith(end.encode()):
            self._channel.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                byte = self._channel.recv(1)
            except TimeoutError:
                byte = b''
            if not byte:
                raise exception.DeadlineExceeded(
                    what=f'{end!r} from guest {self.name}, which said {bytes(found)!r}',
                    seconds=timeout,
                )
            found += byte
        return found[: -len(end)].decode(errors='replace').replace('\r', '')


class CooperatingGuest(GuestShell):
    """A guest with a small Linux that runs commands; a context manager.

    Its serial line is the socket ``<name>.sock`` in the directory.

    :param boot_timeout: seconds
    :param kind: 'qemu' or 'kvm'
    :ivar guest: to attach disks to
    """

    def __init__(
        self,
        hypervisor: Hypervisor,
        directory: pathlib.Path,
        name: str,
        *,
        boot_timeout: float = 60.0,
        kind: str = 'qemu',
    ) -> None:
        self.hypervisor = hypervisor
        self.directory = directory
        self.boot_timeout = boot_timeout
        self.kind = kind
        super().__init__(name, socket.socket(socket.AF_UNIX))
        self.guest: Guest

    def __enter__(self) -> typing.Self:
        kernel, initramfs = boot_files()
        console = self.directory / f'{self.name}.console'
        path = self.directory / f'{self.name}.sock'
        serial = (
            f"<serial type='file'><source path='{console}'/></serial>"
            f"<serial type='unix'><source mode='bind' path='{path}'/></serial>"
        )
        boot = (
            f'<kernel>{kernel}</kernel><initrd>{initramfs}</initrd>'
            '<cmdline>console=ttyS0 quiet panic=1 mitigations=off nokaslr audit=0'
            ' tsc=reliable no_timer_check</cmdline>'
        )
        xml = domain_xml(self.name, memory=128, boot=boot, serial=serial, kind=self.kind)
        with self.hypervisor.translated(f'start guest {self.name}'):
            # Paused until somebody listens, so that no word is lost.
            domain = self.hypervisor.connection().createXML(xml, libvirt.VIR_DOMAIN_START_PAUSED)
            self.guest = self.hypervisor.guest(self.name)
            try:
                self._channel.connect(str(path))
                domain.resume()
                self._read_until('READY\n', timeout=self.boot_timeout)
            except BaseException:
                remove_guest(self.guest)
                raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
        remove_guest(self.guest)


def boot_files() -> tuple[pathlib.Path, pathlib.Path]:
    """Return kernel and initramfs of the small Linux; the latter is made once.

    :raises ToolMissing
    """
    kernels = sorted(pathlib.Path('/boot').glob('vmlinuz-*-cloud-amd64'))
    if not kernels:
        raise exception.ToolMissing(tool='/boot/vmlinuz-*-cloud-amd64', package=KERNEL_PACKAGE)
    kernel = kernels[-1]
    version = kernel.name.removeprefix('vmlinuz-')
    busybox = pathlib.Path(find_program('busybox', 'busybox-static'))
    initramfs = cache_directory() / f'initramfs-{version}.gz'
    newest = max(path.stat().st_mtime for path in (kernel, busybox, pathlib.Path(__file__)))
    if not initramfs.exists() or initramfs.stat().st_mtime < newest:
        _make_initramfs(version, busybox, initramfs)
    return kernel, initramfs


def _make_initramfs(version: str, busybox: pathlib.Path, initramfs: pathlib.Path) -> None:
    cpio = find_program('cpio', 'cpio')
    with tempfile.TemporaryDirectory(dir=initramfs.parent) as directory:
        root = pathlib.Path(directory) / 'root'
        modules = root / 'lib' / 'modules'
        for name in ('bin', 'dev', 'proc', 'sys', 'tmp', 'lib/modules'):
            (root / name).mkdir(parents=True, exist_ok=True)
        shutil.copy2(busybox, root / 'bin' / 'busybox')
        (root / 'init').write_text(INIT)
        (root / 'init').chmod(0o755)
        order = _modules(version)
        for path in order:
            shutil.copy2(path, modules / path.name)
        (modules / 'order').write_text(''.join(f'{path.name}\n' for path in order))
        names = sorted(str(path.relative_to(root)) for path in root.rglob('*'))
        archive = subprocess.run(
            [cpio, '-o', '-H', 'newc', '--quiet'],
            cwd=root,
            input='\n'.join(['.', *names, '']).encode(),
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        fresh = pathlib.Path(directory) / 'initramfs.gz'
        fresh.write_bytes(gzip.compress(archive, 1))
        fresh.replace(initramfs)


def _modules(version: str) -> list[pathlib.Path]:
    """Return the module files to load, each after those it needs."""
    base = pathlib.Path('/lib/modules') / version
    table = base / 'modules.dep'
    if not table.exists():
        raise exception.ToolMissing(tool=str(table), package=KERNEL_PACKAGE)
    needs: dict[str, tuple[str, list[str]]] = {}
    for line in table.read_text().splitlines():
        path, _, dependencies = line.partition(':')
        needs[pathlib.Path(path).name.split('.')[0]] = (path, dependencies.split())
    order: list[pathlib.Path] = []
    for module in MODULES:
        path, others = needs[module]
        # The table names them from the nearest to the farthest.
        for name in [*reversed(others), path]:
            if base / name not in order:
                order.append(base / name)
    return order
