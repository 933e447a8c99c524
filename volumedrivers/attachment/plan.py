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

"""What an operation would do: its steps, with the exact actions of each.

The steps are those that the operation itself would run.  Host, guest and
storage are looked at, and nothing is changed, locked or written.
"""

from collections.abc import Mapping
import dataclasses
import typing

from volumedrivers.attachment import guest_disks
from volumedrivers.attachment import lookup
from volumedrivers.attachment.attach import Attach
from volumedrivers.attachment.change import Extend
from volumedrivers.attachment.detach import Detach
from volumedrivers.attachment.inventory import JournalReader
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.attachment.results import Result
from volumedrivers.attachment.work import volume_id_of
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host.crypt_devices import CryptDevices
from volumedrivers.libvirt import encryption_support
from volumedrivers.libvirt import pretend
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.driver import DiskEncryption
from volumedrivers.libvirt.driver import DiskInfo

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.attachment.volume_encryption import VolumeEncryption
    from volumedrivers.libvirt.guest import Guest

_NOTHING = 'nothing to do'


@dataclasses.dataclass(frozen=True)
class PlannedStep:
    """A step that would be run.

    :ivar seconds: how long it may take
    :ivar locks: what it would have for itself meanwhile
    :ivar actions: what would be done, in order; nothing of it is secret
    """

    name: str
    seconds: float
    locks: tuple[str, ...]
    actions: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Plan(Result):
    """What an operation would do.

    :ivar target: the guest's disk
    :ivar lock: what would be locked for the whole of it
    :ivar locked_by: who has that lock now
    :ivar before: what would be done first, with an interrupted operation
    :ivar recorded: what the journal says of the volume on this host
    :ivar on_host: what of it is on this host now
    :ivar used_by: other guests that have the volume
    :ivar xml: the disk that libvirt would be given
    """

    operation: str
    guest: str
    guest_uuid: str
    volume_id: str
    driver_volume_type: str
    target: str | None
    lock: str
    locked_by: str | None
    before: str | None
    recorded: tuple[str, ...]
    on_host: tuple[str, ...]
    used_by: tuple[str, ...]
    steps: tuple[PlannedStep, ...]
    xml: str | None = None


class Planner:
    """Plans operations; each takes what the manager's operation takes.

    All raise what the operation would find out by looking, such as
    AlreadyAttached.
    """

    def __init__(self, context: 'AttachmentContext') -> None:
        # Whatever is asked of the journal here, it is neither made nor written.
        self._context = dataclasses.replace(
            context, journal=typing.cast(typing.Any, JournalReader(context.journal))
        )

    def attach(
        self,
        connection_info: ConnectionInfo,
        guest: str,
        request: DiskRequest | None = None,
        *,
        encryption: 'VolumeEncryption | None' = None,
        allow_format: bool = False,
    ) -> Plan:
        """Say what attach would do.

        :raises VolumeDriversError
        """
        context = self._context
        domain = context.hypervisor.guest(guest)
        job = Attach(
            context,
            domain,
            connection_info,
            context.journal.get(make_key(domain.uuid, volume_id_of(connection_info))),
            request=request or DiskRequest(),
            encryption=encryption,
            allow_format=allow_format,
        )
        return _attach(job, encryption)

    def detach(
        self,
        guest: str,
        volume: str | None = None,
        *,
        connection_info: ConnectionInfo | None = None,
        force: bool = False,
        attempts: int | None = None,
        timeout: float | None = None,
    ) -> Plan:
        """Say what detach would do.

        :raises VolumeDriversError
        """
        domain = guest_disks.look_up(self._context.hypervisor, guest)
        info, before = self._find(domain, volume, connection_info)
        job = Detach(
            self._context,
            domain,
            info,
            before,
            force=force,
            attempts=attempts,
            timeout=timeout,
        )
        return _detach(job, volume)

    def extend(
        self,
        guest: str,
        volume: str | None,
        size: int,
        *,
        connection_info: ConnectionInfo | None = None,
    ) -> Plan:
        """Say what extend would do.

        :raises VolumeDriversError
        """
        domain = self._context.hypervisor.guest(guest)
        info, before = self._find(domain, volume, connection_info)
        return _extend(Extend(self._context, domain, info, before, size=size), volume)

    def _find(
        self, domain: 'Guest', volume: str | None, given: ConnectionInfo | None
    ) -> tuple[ConnectionInfo, Record | None]:
        """Return how the volume was connected, and its row as it is."""
        volume_id = lookup.volume_id(self._context, domain, volume, given)
        before = self._context.journal.get(make_key(domain.uuid, volume_id))
        return lookup.connection_info(before, given, domain, volume or volume_id), before


def _attach(job: Attach, encryption: 'VolumeEncryption | None') -> Plan:
    job.look()
    context, guest = job.context, job.guest
    others = tuple(
        record
        for record in context.journal.find(domain_uuid=guest.uuid)
        if record.key != job.record.key
    )
    target, unit = job.place(guest.names(), others)
    preview = _Preview(job, encryption)
    xml, about = _disk(job, preview, target, unit)
    running = guest.is_running()
    actions = {
        'connect': job.driver.plan_connect(job.info, job.record.key),
        'identify': (
            'read what the device is, and refuse it if that is recorded as another volume',
        ),
        'encrypt': preview.opening,
        'attach': (
            f'reserve {target} in the journal',
            f'give guest {guest.name} the disk below, '
            + _when(running=running)
            + (f' ({about})' if about else ''),
        ),
        'record': (f'write to {context.journal.path} that the volume is attached',),
    }
    return _plan(job, actions, target=target, xml=xml)


def _detach(job: Detach, volume: str | None) -> Plan:
    job.find(volume)
    guest, record = job.guest, job.record
    disk = guest_disks.find(guest, job.volume_id)
    others = job.others()
    stays = 'block' in others.values()
    in_guest: tuple[str, ...] = (f'guest {guest.name} does not have the volume',)
    if disk is not None:
        in_guest = (
            f'take {guest_disks.target_of(disk)} out of guest {guest.name}, '
            + _when(running=guest.is_running())
            + f'; ask it {job.attempts} times and wait {job.timeout:g} s each time',
        )
    on_host: tuple[str, ...] = ()
    if stays:
        on_host = (f'leave the device to {", ".join(sorted(others))}',)
    elif job.is_here():
        on_host = job.driver.plan_disconnect(job.info, record.key, volume=job.volume)
    actions = {
        'detach': in_guest,
        'decrypt': job.context.encryptor.plan_close(
            job.info, record.opened, volume=job.volume, last=not others
        ),
        'disconnect': on_host,
        'prove': ()
        if stays
        else ('look whether anything of the volume is left, and remove it once more',),
        'record': (f'remove the attachment from {job.context.journal.path}',),
    }
    return _plan(job, actions, target=record.target)


def _extend(job: Extend, volume: str | None) -> Plan:
    job.find(volume)
    job.identify()
    guest, record = job.guest, job.record
    opened = record.opened
    where = _where(record)
    grow = _growing(job, where)
    if opened is not None and opened.by == 'host':
        grow += (f'cryptsetup resize {opened.path}',)
    less = opened.header_size if opened is not None else 0
    running = guest.is_running()
    actions = {
        'identify': _comparing(record, where),
        'extend': grow,
        'resize': (
            f'tell guest {guest.name} that {job.target} has {job.requested - less} bytes'
            if running
            else f'guest {guest.name} does not run, and sees the new size when it starts',
        ),
        'record': (f'write to {job.context.journal.path} that it is done',),
    }
    return _plan(job, actions, target=job.target)


def _plan(
    job: Attach | Detach | Extend,
    actions: Mapping[str, tuple[str, ...]],
    *,
    target: str | None,
    xml: str | None = None,
) -> Plan:
    context, record = job.context, job.record
    lock = context.volume_lock(job.volume_id)
    holder = context.locks.holder(lock)
    remains = job.driver.remains(
        job.info, record.key, volume=job.volume
    ) + context.encryptor.remains(job.volume_id, record.opened)
    return Plan(
        operation=str(job.operation),
        guest=job.guest.name,
        guest_uuid=job.guest.uuid,
        volume_id=job.volume_id,
        driver_volume_type=job.info.driver_volume_type,
        target=target,
        lock=lock,
        locked_by=None if holder is None else str(holder),
        before=_interrupted(job.before),
        recorded=_recorded(job.before),
        on_host=tuple(map(str, remains)),
        used_by=tuple(sorted(job.others())),
        steps=tuple(
            PlannedStep(
                name=step.name,
                seconds=step.seconds,
                locks=step.locks,
                actions=actions[step.name] or (_NOTHING,),
            )
            for step in job.steps()
            if step.needed
        ),
        xml=xml,
    )


class _Preview:
    """The volume as it would be once it is connected and opened.

    :ivar opening: what would be done to decrypt it
    :ivar seen: the volume as the guest would get it
    :ivar encryption: what its disk would say of it
    """

    def __init__(self, job: Attach, encryption: 'VolumeEncryption | None') -> None:
        context, info = job.context, job.info
        conf = context.registry.context.conf
        driver = pretend.make_registry(conf).get(info.driver_volume_type)
        self.driver = driver
        self.seen = _connected_already(job) or pretend.volume(driver, info, conf.volumedrivers)
        self.encryption = job.request.encryption
        self.opening: tuple[str, ...] = ()
        if not job.must_be_opened:
            return
        way = None
        if encryption is None or encryption.is_ours:
            provider = 'luks' if encryption is None else encryption.provider
            way = encryption_support.choose(context.hypervisor, self.seen, provider)
            if way.by == 'host':
                path = CryptDevices.path(job.volume_id)
                self.seen = dataclasses.replace(self.seen, path=path)
            else:
                self.encryption = DiskEncryption(pretend.UNKNOWN_SECRET, provider, way.engine)
        self.opening = context.encryptor.plan_open(
            info, None, encryption, allow_format=job.allow_format, way=way
        )


def _disk(job: Attach, preview: _Preview, target: str, unit: int | None) -> tuple[str, str]:
    """Return the disk's document, and what in it only connecting will tell."""
    job.require_scsi(preview.seen)
    request = job.request
    disk = preview.driver.get_disk(
        job.info,
        preview.seen,
        DiskInfo(
            bus=request.bus,
            dev=target,
            type=request.type,
            unit=unit,
            boot_index=request.boot_index,
            encryption=preview.encryption,
        ),
    )
    xml = disk.to_xml()
    unknown = [
        what
        for value, what in (
            (pretend.UNKNOWN_DEVICE, 'the name of the device'),
            (pretend.UNKNOWN_SECRET, 'the UUID of the secret'),
        )
        if value in xml
    ]
    return xml, f'{" and ".join(unknown)} will be known by then' if unknown else ''


def _connected_already(job: Attach) -> ConnectedVolume | None:
    """Return the volume as another guest has it: a device is one for all of them."""
    for record in job.context.journal.find(volume_id=job.volume_id):
        if (
            record.volume is not None
            and record.volume.source_type == 'block'
            and record.boot_id == job.context.boot_id
        ):
            return record.volume
    return None


def _when(*, running: bool) -> str:
    return 'while it runs and for its next start' if running else 'for its next start'


def _interrupted(record: Record | None) -> str | None:
    if record is None or record.is_settled:
        return None
    return (
        f'{record.operation} began and stopped in step {record.step or "none"}'
        f'{f" ({record.problem})" if record.problem else ""}; it is finished or undone first'
    )


def _recorded(record: Record | None) -> tuple[str, ...]:
    if record is None or record.volume is None:
        return ()
    volume = record.volume
    facts = [
        f'{volume.source_type} {record.source or volume.path or ""}'.rstrip(),
        f'multipath map {volume.multipath_id}' if volume.multipath_id else '',
        f'{volume.paths.found} of {volume.paths.asked} paths',
        f'identity {volume.identity}' if volume.identity is not None else '',
    ]
    if record.opened is not None:
        facts.append(f'encrypted with {record.opened.provider}, opened by {record.opened.by}')
    return tuple(fact for fact in facts if fact)


def _where(record: Record) -> str:
    volume = record.volume
    return record.source or (volume.path or '' if volume is not None else '')


def _comparing(record: Record, where: str) -> tuple[str, ...]:
    volume = record.volume
    if volume is None or volume.identity is None or volume.identity.kind == 'path':
        return ()  # its name is all that it is known by
    return (f'make sure that {where} still is {volume.identity}',)


def _growing(job: Extend, where: str) -> tuple[str, ...]:
    source_type = job.volume.source_type if job.volume is not None else ''
    if source_type == 'block':
        return (
            f'scan {where} again, on all its paths, until this host sees {job.requested} bytes',
        )
    if source_type == 'file':
        return (f'make sure that {where} is the file that was attached; QEMU makes it larger',)
    if source_type == 'network':
        return (f'make sure that {where} is the volume that was attached; QEMU asks its storage',)
    return ('let this host look again at the volume',)
