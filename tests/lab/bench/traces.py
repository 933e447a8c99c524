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

"""What a volume can leave on a host, read from the kernel and from libvirt.

Nothing here asks the package what it believes, and nothing asks os-brick: sysfs,
/proc and /dev say what is there.
"""

from collections.abc import Iterator
import os
import pathlib
import typing

SYS = pathlib.Path('/sys')
_NAME = 'name of a device'
DISK_LINKS = pathlib.Path('/dev/disk')


def now(hypervisor: typing.Any, manager: typing.Any) -> dict[str, set[str]]:
    """Return everything that is on this host, by kind."""
    return {
        'block device': set(_names(SYS / 'class/block')),
        _NAME: set(_links()),
        'SCSI device': set(_names(SYS / 'class/scsi_device')),
        'iSCSI session': set(_names(SYS / 'class/iscsi_session')),
        'iSCSI record': set(_iscsi_records()),
        'NVMe controller': set(_names(SYS / 'class/nvme')),
        'NVMe subsystem': set(_names(SYS / 'class/nvme-subsystem')),
        'RBD mapping': set(_names(SYS / 'bus/rbd/devices')),
        'mount': set(_mounts(manager.context.options)),
        'encryption of os-brick': set(_names(pathlib.Path('/dev/disk/by-id'), 'os-brick')),
        'disk of a guest': set(_disks(hypervisor)),
        'secret of libvirt': set(hypervisor.connection().listSecrets()),
        'row of the journal': {record.key for record in manager.context.journal.find()},
    }


def difference(before: dict[str, set[str]], after: dict[str, set[str]]) -> list[str]:
    """Return what has come (+) and gone (-), one line each, sorted."""
    return sorted(
        f'{sign} {kind} {name}'
        for kind in after
        for sign, names in (
            ('+', after[kind] - before.get(kind, set())),
            ('-', before.get(kind, set()) - after[kind]),
        )
        for name in names
    )


def is_name(line: str) -> bool:
    """Say whether a line of ``difference`` is about a name that a device has from udev."""
    return line[2:].startswith(_NAME)


def _names(directory: pathlib.Path, beginning: str = '') -> list[str]:
    try:
        return [name for name in os.listdir(directory) if name.startswith(beginning)]
    except FileNotFoundError:
        # The module that makes it is not loaded.
        return []


def _links() -> Iterator[str]:
    for path in DISK_LINKS.rglob('*'):
        # Every disk has a name by its number in a sequence, and loses it when
        # the lab's rules for udev come to it; the disk itself is counted.
        if not path.is_symlink() or path.parent.name == 'by-diskseq':
            continue
        yield str(path)


def _iscsi_records() -> Iterator[str]:
    for where in ('/etc/iscsi/nodes', '/etc/iscsi/send_targets'):
        for path in pathlib.Path(where).rglob('*'):
            if path.is_file():
                yield str(path)


def _mounts(options: typing.Any) -> Iterator[str]:
    # Elsewhere others mount and unmount what is theirs, at the same time.
    bases = tuple(f'{options[one]}/' for one in options if one.endswith('_mount_point_base'))
    for line in pathlib.Path('/proc/self/mountinfo').read_text().splitlines():
        left, _, right = line.partition(' - ')
        kind, source, *_ = right.split()
        place = left.split()[4]
        if place.startswith(bases):
            yield f'{source} at {place} ({kind})'


def _disks(hypervisor: typing.Any) -> Iterator[str]:
    for domain in hypervisor.connection().listAllDomains():
        guest = hypervisor.guest(domain.name())
        for definition, persistent in (('live', False), ('persistent', True)):
            if not persistent and not domain.isActive():
                continue
            if persistent and not domain.isPersistent():
                continue
            for disk in guest.disks(persistent=persistent):
                yield f'{domain.name()} {definition} {disk.target.dev} {disk.serial}'
