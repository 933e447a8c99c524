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

"""Finish or undo what was interrupted, on Cinder's side as well.

Guest and host come first, of everybody; then each row of what this host has in
Cinder.  Rows at which nothing is to be done cost one request for all of them.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import time
import typing

from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment import recover as host_side
from volumedrivers.attachment.block_storage import settle
from volumedrivers.attachment.block_storage.reservation import Flow
from volumedrivers.attachment.block_storage.reservation import Reservation
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.recover_decision import FAILED
from volumedrivers.attachment.recover_decision import RUNNING
from volumedrivers.attachment.results import Outcome
from volumedrivers.cinder import attachments

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.context import StorageContext
    from volumedrivers.attachment.record import Record
    from volumedrivers.connection_info import ConnectionInfo

LOG = logging.getLogger(__name__)

_UNSETTLED = (FAILED, RUNNING)


def recover(
    context: 'StorageContext', infos: Mapping[str, 'ConnectionInfo'] | None = None
) -> tuple[Outcome, ...]:
    """Go through all rows that need it; one that fails does not stop the others.

    Without a Cinder that answers, guest and host are recovered all the same.

    :param infos: by volume id, where Cinder is not to be asked how a volume is
        connected again after a reboot
    :raises JournalUnusable: it cannot be read
    """
    cinder = _Cinder(context)
    known = infos or {}

    def info_of(record: 'Record') -> 'ConnectionInfo | None':
        return known.get(record.volume_id) or cinder.info_of(record)

    done = host_side.recover(context.host, info_of)
    stuck = {
        make_key(one.guest_uuid, one.volume_id): one
        for one in done
        if one.volume_id and one.action in _UNSETTLED
    }
    return (*done, *_each(context, cinder, stuck))


def _each(
    context: 'StorageContext', cinder: '_Cinder', stuck: Mapping[str, Outcome]
) -> Iterator[Outcome]:
    rows = context.reservations.find()
    if not rows:
        return
    try:
        here = _what_is_here(context)
    except exception.VolumeDriversError as error:
        # Each would wait as long again for a daemon that says nothing.
        for row in rows:
            if not row.is_settled:
                yield host_side.outcome(row, FAILED, str(error), 0.0)
        return
    for row in rows:
        if not cinder.needs_it(row, is_here=row.key in here):
            continue
        before = stuck.get(row.key)
        if before is not None and not row.is_settled:
            detail = f'guest and host come first, and are not settled: {before.detail}'
            yield host_side.outcome(row, before.action, detail, 0.0)
        elif cinder.silent:
            yield host_side.outcome(row, FAILED, _not_asked(cinder.silent), 0.0)
        else:
            yield from _one(context, cinder, row)


def _one(context: 'StorageContext', cinder: '_Cinder', found: Reservation) -> Iterator[Outcome]:
    try:
        held = context.lock(found.volume_id, 'recover', found.domain_name, seconds=0)
    except exception.LockHeld as error:
        yield host_side.outcome(found, RUNNING, error.holder, 0.0)
        return
    with held:
        row = context.reservations.get(found.key)
        if row is None:
            return
        started = time.monotonic()
        LOG.info("recovering Cinder's side of volume %s", row.volume_id)
        try:
            said = settle.settle(context, row, seconds=0)
        except exception.LockHeld as error:
            said = RUNNING, f'waits for {error.lock}: {error.holder}'
        except Exception as error:
            said = FAILED, host_side.problem_of(error, row)
            if isinstance(error, exception.CinderUnavailable) and not error.answered:
                cinder.silent = str(error)
        if said is not None:
            yield host_side.outcome(row, *said, time.monotonic() - started)


class _Cinder:
    """What Cinder has of this host's rows, asked once.

    :ivar silent: why it cannot be asked; '' it can
    """

    def __init__(self, context: 'StorageContext') -> None:
        self.silent = ''
        self._context = context
        self._attached: frozenset[str] | None = None

    def needs_it(self, row: Reservation, *, is_here: bool) -> bool:
        """Tell whether something is to be made of a row.

        Of one that is attached, and was not interrupted, nothing is said while
        Cinder cannot be asked.
        """
        attached = self._ids_attached()
        if not row.is_settled or not is_here:
            return True
        return not self.silent and row.attachment_id not in attached

    def info_of(self, record: 'Record') -> 'ConnectionInfo | None':
        """Return how Cinder says that a volume is connected; None: it does not say.

        After a reboot that is needed where the connection has credentials.
        """
        row = self._context.reservations.get(record.key)
        if row is None or row.attachment_id is None or row.flow is not Flow.ATTACHMENT:
            return None
        if not self._ids_attached():
            return None
        storage = self._context.storage
        try:
            settle.require_same_cinder(self._context, row)
            found = storage.ask(storage.proxy.get_attachment, row.attachment_id)
            volume = storage.ask(storage.proxy.get_volume, row.volume_id)
            if not found.connection_info:
                return None
            return attachments.connection_info(
                found.connection_info, volume, read_only=row.mode == 'ro'
            )
        except exception.VolumeDriversError as error:
            LOG.warning('Cinder does not say how to connect volume %s: %s', row.volume_id, error)
            return None

    def _ids_attached(self) -> frozenset[str]:
        """Return the attachments that are complete, of the whole project."""
        if self._attached is None:
            try:
                listed = attachments.of_project(self._context.storage)
                self._attached = frozenset(
                    str(one.id) for one in listed if one.status == 'attached'
                )
            except exception.VolumeDriversError as error:
                self.silent = str(error)
                self._attached = frozenset()
        return self._attached


def _what_is_here(context: 'StorageContext') -> frozenset[str]:
    """Return the keys of what guests or host have.

    :raises HypervisorUnavailable, HypervisorError: libvirt could not say
    """
    found = {record.key for record in context.host.journal.find()}
    for guest in context.host.hypervisor.guests():
        try:
            disks = guest.sources().disks
        except exception.GuestNotFound:
            continue  # it went while we looked
        found |= {make_key(guest.uuid, guest_disks.volume_id_of(disk) or '') for disk in disks}
    return frozenset(found)


def _not_asked(reason: str) -> str:
    return f'{reason}; run "volumedrivers recover" again when Cinder can be asked'
