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

"""Compare journal, guests and host, and change nothing.

What is found to differ may be just about to change: operations go on
meanwhile.  So journal and mounts are looked at again at the end, and nothing is
said of those that have changed or are being worked on.
"""

from collections.abc import Iterable
from collections.abc import Iterator
import typing

from volumedrivers.attachment import audit_facts
from volumedrivers.attachment import audit_guests
from volumedrivers.attachment import audit_host
from volumedrivers.attachment import audit_mounts
from volumedrivers.attachment import audit_rows

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.audit_facts import Facts
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.attachment.results import Finding

# What is said of an operation that runs, or that was interrupted.
_OF_OPERATIONS = frozenset(('running', 'unfinished'))


def audit(context: 'AttachmentContext') -> 'tuple[Finding, ...]':
    """Return what does not agree; problems first.

    Nothing of it waits for a share or a device that hangs for longer than
    mount_timeout, and at most 10 s.

    :raises HypervisorUnavailable, HypervisorError: libvirt could not say what
        guests there are
    :raises JournalUnusable, HostUnreadable
    """
    return look(context)[1]


def look(context: 'AttachmentContext') -> 'tuple[Facts, tuple[Finding, ...]]':
    """Return what was looked at as well, for whoever looks further.

    :raises HypervisorUnavailable, HypervisorError, JournalUnusable, HostUnreadable
    """
    facts = audit_facts.gather(context)
    found = tuple(_all(facts))
    if found:
        found = tuple(_still_true(facts, found))
    return facts, in_order(found)


def in_order(found: 'Iterable[Finding]') -> 'tuple[Finding, ...]':
    """Return them with the problems first."""
    return tuple(
        sorted(
            found,
            key=lambda one: (one.severity == 'note', one.guest, one.volume_id, one.kind, one.what),
        )
    )


def _all(facts: 'Facts') -> 'Iterator[Finding]':
    for row in facts.rows.values():
        yield from audit_rows.of_row(facts, row)
    known = audit_guests.owners(facts)
    for guest in facts.guests.values():
        yield from audit_guests.of_guest(facts, guest, known)
    yield from audit_mounts.of_mounts(facts)
    yield from audit_host.of_host(facts)


def _still_true(facts: 'Facts', found: 'tuple[Finding, ...]') -> 'Iterator[Finding]':
    """Leave out what is said of volumes with which something is being done."""
    now = {row.key: row.changed for row in facts.context.journal.find()}
    before = {row.key: row.changed for row in facts.rows.values()}
    moved = {
        key.partition('/')[2]
        for key in now.keys() | before.keys()
        if now.get(key) != before.get(key)
    }
    busy: dict[str, bool] = {'': False}
    mounts = audit_mounts.Again(facts)
    for one in found:
        if not mounts.holds(one):
            continue
        if one.volume_id in moved and one.kind != 'running':
            continue
        if one.kind not in _OF_OPERATIONS:
            if one.volume_id not in busy:
                holder = facts.context.locks.holder(f'volume {one.volume_id}')
                busy[one.volume_id] = holder is not None
            if busy[one.volume_id]:
                continue
        yield one
