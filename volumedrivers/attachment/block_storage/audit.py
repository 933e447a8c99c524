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

"""Compare what this host has in Cinder, too, and change nothing.

Beside the audit of journal, guests and host.  As there nothing is said of what
has changed meanwhile, or is being worked on.
"""

from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import typing

from volumedrivers import exception
from volumedrivers.attachment import audit as host_audit
from volumedrivers.attachment import audit_facts
from volumedrivers.attachment.block_storage import audit_rows
from volumedrivers.attachment.block_storage import audit_strays
from volumedrivers.attachment.block_storage.in_cinder import InCinder
from volumedrivers.attachment.block_storage.reader import only_look
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.results import Finding

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.audit_facts import Facts
    from volumedrivers.attachment.block_storage.context import StorageContext
    from volumedrivers.attachment.block_storage.reservation import Reservation

# What is said of an operation that runs, or that was interrupted.
_OF_OPERATIONS = frozenset(('running', 'unfinished'))

_ON_HOST, _IN_CINDER = '"volumedrivers detach ', '"volumedrivers volume detach '
# Which the attachment in Cinder has.
_WITH_INFO = ' with its connection_info'

_Rows = typing.Mapping[str, 'Reservation']


def audit(context: 'StorageContext') -> 'tuple[Finding, ...]':
    """Return what does not agree; problems first.

    :raises HypervisorUnavailable, HypervisorError: libvirt could not say what
        guests there are
    :raises JournalUnusable, HostUnreadable
    """
    context = only_look(context)
    # Before Cinder: what is new there has a row that has changed at the end.
    rows = {row.key: row for row in context.reservations.find()}
    cinder: InCinder | None = None
    reason = ''
    try:
        cinder = InCinder(context.storage)
    except exception.VolumeDriversError as error:
        reason = str(error)
    facts, found = host_audit.look(context.host)
    facts.capacities.update(
        audit_facts.sizes(facts, {row.domain_uuid for row in rows.values()} if cinder else ())
    )
    of_cinder = tuple(_of_cinder(context, facts, rows, cinder))
    if of_cinder:
        of_cinder = tuple(_still_true(context, rows, of_cinder))
    unknown = [_cannot_be_asked(reason, rows)] if reason else []
    said = (_to_cinder(one, rows, cinder) for one in _said_once(found, of_cinder))
    return host_audit.in_order([*unknown, *of_cinder, *said])


def _of_cinder(
    context: 'StorageContext', facts: 'Facts', rows: _Rows, cinder: InCinder | None
) -> Iterator[Finding]:
    here = audit_rows.keys_here(facts)
    try:
        for row in rows.values():
            yield from audit_rows.of_row(context, facts, here, row, cinder)
        if cinder is not None:
            yield from audit_strays.of_guests(facts, rows, cinder)
            yield from audit_strays.of_attachments(facts, here, rows, cinder)
    except exception.VolumeDriversError as error:
        yield _cannot_be_asked(str(error), rows)


def _still_true(
    context: 'StorageContext', before: _Rows, found: Iterable[Finding]
) -> Iterator[Finding]:
    """Leave out what is said of volumes with which something is being done."""
    now = {row.key: row.changed for row in context.reservations.find()}
    moved = {
        key.partition('/')[2]
        for key in now.keys() | before.keys()
        if key not in before or now.get(key) != before[key].changed
    }
    busy: dict[str, bool] = {'': False}
    for one in found:
        if one.volume_id in moved and one.kind != 'running':
            continue
        if one.kind not in _OF_OPERATIONS:
            if one.volume_id not in busy:
                names = (f'reservation {one.volume_id}', f'volume {one.volume_id}')
                busy[one.volume_id] = any(map(context.locks.holder, names))
            if busy[one.volume_id]:
                continue
        yield one


def _said_once(found: Iterable[Finding], of_cinder: Iterable[Finding]) -> Iterator[Finding]:
    """Leave out that a disk is not recorded, where it is said that Cinder does not know it."""
    known = {(one.guest_uuid, one.volume_id) for one in of_cinder}
    for one in found:
        if one.kind != 'not-recorded' or (one.guest_uuid, one.volume_id) not in known:
            yield one


def _to_cinder(one: Finding, rows: _Rows, cinder: InCinder | None) -> Finding:
    """Let what is to be taken away be taken away in Cinder as well, where that has it."""
    instances = {each.instance for each in cinder.of_volume(one.volume_id)} if cinder else ()
    if make_key(one.guest_uuid, one.volume_id) not in rows and one.guest_uuid not in instances:
        return one
    advice = one.what_to_do.replace(_ON_HOST, _IN_CINDER).replace(_WITH_INFO, '')
    return dataclasses.replace(one, what_to_do=advice)


def _cannot_be_asked(reason: str, rows: _Rows) -> Finding:
    several = f'{len(rows)} attachment{"s"[: len(rows) != 1]} of this host'
    return Finding(
        kind='unknown',
        severity='problem',
        guest='',
        guest_uuid='',
        volume_id='',
        what='Cinder',
        detail=f'it could not be asked what it has of {several}: {reason}',
        what_to_do='Run the audit again when Cinder can be asked.',
    )
