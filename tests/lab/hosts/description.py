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

"""The file that describes somebody's own host, and the volumes to be tried there.

doc/source/examples/lab-host.yaml is one with everything in it, explained.
"""

from collections.abc import Mapping
import dataclasses
import pathlib
import typing

from tests.lab.hosts.checked import Section
from tests.lab.hosts.checked import read_yaml
from tests.lab.hosts.known_secrets import KnownSecrets
from tests.lab.rows import Row

# What may be allowed beside the faults of a row.
CRASH = 'crash'
POWER_CUT = 'power cut'
FAULTS = ('portal drops', 'portal refuses', 'portal down', 'server hangs', 'daemon killed')
INSTALLED = 'installed'
WORKING_TREE = 'working tree'
WITHOUT_SYSTEM = 'without a system'
SMALL_LINUX = 'small Linux'

Argv = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Machine:
    """How to reach the host, and what is used there.

    :ivar ssh: program and options, without the destination; empty: this machine
    :ivar become: put in front of a command that has to be root's
    :ivar python: has what the package needs
    :ivar package: ``installed`` in that Python, or built from the working tree
    :ivar logs: where QEMU of the guests logs
    """

    name: str
    ssh: Argv
    destination: str | None
    become: Argv
    python: str
    package: str
    uri: str
    guests: str
    logs: str
    state_path: str


@dataclasses.dataclass(frozen=True)
class Volume:
    """A volume that may be used, as Cinder has described it.

    :ivar size: bytes
    :ivar identity: what the host has to find; None: nobody says
    :ivar image: file or device on this machine in which its data can be read
    """

    volume_id: str
    size: int
    connection_info: Mapping[str, typing.Any]
    identity: str | None
    image: pathlib.Path | None
    may_be_overwritten: bool
    secrets: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Cinder:
    """Where volumes can be made: a cloud of clouds.yaml, and a volume type."""

    cloud: str
    volume_type: str | None


@dataclasses.dataclass(frozen=True)
class Storage:
    """What the file says of a row's storage, beside the row.

    :ivar commands: run on this machine, by what they do: ``grow``,
        ``seen by target``, ``break FAULT``, ``mend FAULT``
    """

    volumes: tuple[Volume, ...]
    cinder: Cinder | None
    commands: Mapping[str, Argv]


@dataclasses.dataclass(frozen=True)
class Description:
    """Everything in the file.

    :ivar storages: by the name of the row
    :ivar allowed: what may be done to the host and its storage
    :ivar power_cut: command that cuts the power of the host and gives it back
    :ivar secrets: that may appear nowhere
    """

    path: pathlib.Path
    machine: Machine
    rows: tuple[Row, ...]
    storages: Mapping[str, Storage]
    allowed: frozenset[str]
    power_cut: Argv
    secrets: tuple[str, ...]


def read_description(path: str | pathlib.Path) -> Description:
    """Read and check a file.

    :raises DescriptionError: names file, key and what is wrong
    """
    file = pathlib.Path(path)
    top = read_yaml(file)
    secrets = KnownSecrets(file, top.take('secrets_file', str, None))
    host = top.section('host')
    options = host.take('options', dict, {})
    machine = _machine(host)
    allowed = frozenset(top.strings('allowed'))
    for name in sorted(allowed - {CRASH, POWER_CUT, *FAULTS}):
        raise top.wrong(
            'allowed', f'{name!r} is none of {CRASH}, {POWER_CUT}, {", ".join(FAULTS)}'
        )
    power_cut = top.strings('power_cut_command')
    if (POWER_CUT in allowed) != bool(power_cut):
        raise top.wrong(
            'power_cut_command', f'is needed if {POWER_CUT!r} is allowed, and only then'
        )
    rows: dict[str, Row] = {}
    storages: dict[str, Storage] = {}
    for section in top.sections('rows'):
        row, storage = _row(section, machine, options, allowed, secrets)
        if row.name in rows:
            raise section.wrong('name', f'{row.name!r} is the name of two rows')
        rows[row.name], storages[row.name] = row, storage
    top.finish()
    return Description(
        file,
        machine,
        tuple(rows.values()),
        storages,
        allowed,
        power_cut,
        secrets.all,
    )


def _machine(host: Section) -> Machine:
    destination = host.take('ssh', str, None)
    if destination is not None and destination.startswith('-'):
        raise host.wrong('ssh', f'{destination!r} is no destination')
    program = host.strings('ssh_command')
    if program and destination is None:
        raise host.wrong('ssh_command', 'is of no use without ssh, which names the destination')
    if destination is not None and not program:
        # Nobody is there to answer a question.
        program = ('ssh', '-o', 'BatchMode=yes')
    machine = Machine(
        name=host.take('name', str, destination or 'this machine'),
        ssh=program,
        destination=destination,
        become=host.strings('become'),
        python=host.take('python', str),
        package=host.choice('package', (WORKING_TREE, INSTALLED)),
        uri=host.take('libvirt', str, 'qemu:///system'),
        guests=host.choice('guests', (WITHOUT_SYSTEM, SMALL_LINUX)),
        logs=host.take('guest_logs', str, '/var/log/libvirt/qemu'),
        state_path=host.take('state_path', str, '/var/lib/volumedrivers-lab'),
    )
    host.finish()
    return machine


def _row(
    section: Section,
    machine: Machine,
    options: Mapping[str, typing.Any],
    allowed: frozenset[str],
    secrets: KnownSecrets,
) -> tuple[Row, Storage]:
    name = section.take('name', str)
    cinder = _cinder(section)
    volumes = tuple(_volume(each, secrets) for each in section.sections('volumes', needed=False))
    if bool(volumes) == (cinder is not None):
        raise section.wrong('volumes', 'has to be there, or cinder, and not both')
    kinds = {str(volume.connection_info['driver_volume_type']) for volume in volumes}
    protocol = section.take('protocol', str, next(iter(kinds)) if len(kinds) == 1 else None)
    if protocol is None or kinds - {protocol}:
        raise section.wrong('protocol', 'is not said, or the volumes are of different ones')
    missing = section.take('missing', dict, {})
    for column, reason in missing.items():
        if not isinstance(reason, str):
            raise section.wrong('missing', f'the reason of {column} is no text')
    in_guest = 'virtio' if machine.guests == SMALL_LINUX else 'scsi'
    row = Row(
        name=name,
        protocol=protocol,
        backend=name,
        options={
            'state_path': machine.state_path,
            'lock_path': f'{machine.state_path}/lock',
            **options,
            **section.take('options', dict, {}),
        },
        paths=section.take('paths', int, 1),
        bus=section.take('bus', str, in_guest),
        encryption=section.take('encryption', str, None),
        missing=missing,
    )
    if row.bus == 'virtio' and machine.guests == WITHOUT_SYSTEM:
        raise section.wrong('bus', f'a guest {WITHOUT_SYSTEM} lets go of scsi disks only')
    commands = _commands(section, allowed)
    section.finish()
    return row, Storage(volumes, cinder, commands)


def _commands(section: Section, allowed: frozenset[str]) -> Mapping[str, Argv]:
    found = {}
    for key in ('grow', 'seen_by_target'):
        argv = section.strings(f'{key}_command')
        if argv:
            found[key.replace('_', ' ')] = argv
    for fault in section.sections('faults', needed=False):
        name = fault.take('name', str)
        if name not in FAULTS:
            raise fault.wrong('name', f'{name!r} is none of {", ".join(FAULTS)}')
        if name not in allowed:
            raise fault.wrong('name', f'{name!r} is not in the list of what is allowed')
        for what in ('break', 'mend'):
            found[f'{what} {name}'] = fault.strings(what, needed=True)
        fault.finish()
    return found


def _cinder(section: Section) -> Cinder | None:
    found = section.section('cinder', needed=False)
    if found is None:
        return None
    cinder = Cinder(found.take('cloud', str), found.take('volume_type', str, None))
    found.finish()
    return cinder


def _volume(section: Section, secrets: KnownSecrets) -> Volume:
    volume_id, info = secrets.connection_info(section)
    image = section.take('image', str, None)
    volume = Volume(
        volume_id=volume_id,
        size=section.size('size'),
        connection_info=info,
        identity=section.take('identity', str, None),
        image=None if image is None else pathlib.Path(image),
        may_be_overwritten=section.take('may_be_overwritten', bool, False),
    )
    section.finish()
    return volume
