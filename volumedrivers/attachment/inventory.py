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

"""What guests have, and what the journal says of it."""

from collections.abc import Iterator
import dataclasses
import datetime
import os
import typing

from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment import host_side
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.results import AttachedVolume
from volumedrivers.attachment.results import Recorded

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.attachment.journal import Journal
    from volumedrivers.libvirt.guest import Guest

LOG = logging.getLogger(__name__)

ATTACHED = 'attached'
NOT_CONNECTED = 'not connected since the host started'
NOT_IN_GUEST = 'recorded, not in the guest'
UNRECORDED = 'unrecorded'
UNKNOWN = 'unknown'


class JournalReader:
    """Looks into a journal that it does not make, and writes nothing."""

    def __init__(self, journal: 'Journal') -> None:
        self._journal = journal

    @property
    def path(self) -> str:
        """The file."""
        return self._journal.path

    def check(self) -> None:
        """As Journal.check."""
        if self._is_there():
            self._journal.check()

    def get(self, key: str) -> Record | None:
        """As Journal.get."""
        return self._journal.get(key) if self._is_there() else None

    def find(
        self,
        *,
        volume_id: str | None = None,
        domain_uuid: str | None = None,
        identity: str | None = None,
        unfinished: bool | None = None,
    ) -> tuple[Record, ...]:
        """As Journal.find."""
        if not self._is_there():
            return ()
        return self._journal.find(
            volume_id=volume_id,
            domain_uuid=domain_uuid,
            identity=identity,
            unfinished=unfinished,
        )

    def _is_there(self) -> bool:
        # A volume that nobody has attached needs no journal yet.
        return os.path.lexists(self._journal.path)


def volumes(
    context: 'AttachmentContext', guest: str | None, *, all_disks: bool
) -> tuple[AttachedVolume, ...]:
    """Return the disks of a guest or of all, and what is recorded and in no guest.

    :param guest: name or UUID; by its UUID also a guest that is gone and has
        left something
    :param all_disks: also the disks that have no volume id
    """
    hypervisor = context.hypervisor
    domains = hypervisor.guests() if guest is None else (guest_disks.look_up(hypervisor, guest),)
    rows = _rows(context, None if guest is None else domains[0].uuid)
    if guest is not None and not rows:
        domains = (hypervisor.guest(guest),)  # that it is gone is worth knowing
    found = [one for domain in domains for one in _of_guest(context, domain, rows)]
    keys = {make_key(one.guest_uuid, one.volume_id or '') for one in found}
    found += [
        recorded_only(context, record)
        for record in (rows or {}).values()
        if record.key not in keys
    ]
    return tuple(one for one in found if all_disks or one.volume_id is not None)


def volume(context: 'AttachmentContext', guest: 'Guest', name: str) -> AttachedVolume:
    """Return a volume of a guest, and what is behind it on this host.

    :param name: volume id or target name
    :raises DiskNotFound: neither the guest nor the journal has it
    """
    rows = _rows(context, guest.uuid)
    disk = guest_disks.find(guest, name)
    if disk is not None:
        found = _described(context, guest, disk, rows)
    else:
        record = next(
            (
                record
                for record in (rows or {}).values()
                if name in (record.volume_id, record.target)
            ),
            None,
        )
        if record is None:
            raise exception.DiskNotFound(guest=guest.name, disk=name)
        found = recorded_only(context, record)
    return dataclasses.replace(
        found,
        host=host_side.look(found.source_type, found.source, context.registry.context.devices),
    )


def state_of(context: 'AttachmentContext', record: Record) -> str:
    """Say in a few words how far an attachment is whose volume the guest has."""
    if record.operation is not None:
        how = 'running' if _is_running(context, record) else 'unfinished'
        return f'{record.operation} {how}' + (f' in step {record.step}' if record.step else '')
    return ATTACHED if record.boot_id == context.boot_id else NOT_CONNECTED


def recorded(context: 'AttachmentContext', record: Record) -> Recorded:
    """Return what a person wants to know of a row."""
    volume = record.volume
    opened = record.opened
    return Recorded(
        operation=None if record.operation is None else str(record.operation),
        step=record.step or None,
        problem=record.problem or None,
        attachment_id=record.attachment_id,
        driver_volume_type=record.driver_volume_type,
        identity=None if volume is None or volume.identity is None else str(volume.identity),
        multipath_id=None if volume is None else volume.multipath_id,
        paths_asked=None if volume is None else volume.paths.asked,
        paths_found=None if volume is None else volume.paths.found,
        paths_failed=() if volume is None else volume.paths.failed,
        connect_seconds=None if volume is None else round(volume.seconds, 3),
        encryption=None if opened is None else f'{opened.provider} ({opened.by})',
        this_boot=record.boot_id == context.boot_id,
        began=_time(record.began),
        changed=_time(record.changed),
        process=record.process,
        manager=record.manager or None,
    )


def recorded_only(context: 'AttachmentContext', record: Record) -> AttachedVolume:
    """Return an attachment of which the guest has nothing."""
    volume = record.volume
    return AttachedVolume(
        guest=record.domain_name,
        guest_uuid=record.domain_uuid,
        volume_id=record.volume_id,
        bus=record.disk.get('bus'),
        target=record.target or '',
        device=record.disk.get('type') or 'disk',
        source_type=None if volume is None else volume.source_type,
        source=record.source or (volume.path or '' if volume is not None else ''),
        format=None if volume is None else volume.format,
        state=NOT_IN_GUEST if record.is_settled else state_of(context, record),
        record=recorded(context, record),
    )


def _rows(context: 'AttachmentContext', domain_uuid: str | None) -> dict[str, Record] | None:
    """Return the rows by key; None: the journal cannot be read."""
    try:
        return {
            record.key: record
            for record in JournalReader(context.journal).find(domain_uuid=domain_uuid)
        }
    except exception.VolumeDriversError as error:
        # What guests have can be said all the same.
        LOG.warning('what is recorded is not known: %s', error)
        return None


def _of_guest(
    context: 'AttachmentContext', guest: 'Guest', rows: dict[str, Record] | None
) -> Iterator[AttachedVolume]:
    for disk in guest.disks():
        yield _described(context, guest, disk, rows)


def _described(
    context: 'AttachmentContext',
    guest: 'Guest',
    disk: typing.Any,
    rows: dict[str, Record] | None,
) -> AttachedVolume:
    found = guest_disks.describe(guest, disk)
    if rows is None:
        return dataclasses.replace(found, state=UNKNOWN)
    record = rows.get(make_key(guest.uuid, found.volume_id or ''))
    if record is None:
        return dataclasses.replace(found, state=UNRECORDED)
    return dataclasses.replace(
        found, state=state_of(context, record), record=recorded(context, record)
    )


def _is_running(context: 'AttachmentContext', record: Record) -> bool:
    try:
        return context.locks.holder(context.volume_lock(record.volume_id)) is not None
    except exception.VolumeDriversError as error:
        LOG.warning('whether %s still runs is not known: %s', record.operation, error)
        return False


def _time(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.astimezone().isoformat(timespec='seconds')
