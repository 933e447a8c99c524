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

"""Look whether Cinder has what a row of the journal says that this host has there."""

from collections.abc import Collection
from collections.abc import Iterator
import shlex
import typing

from volumedrivers.attachment import guest_disks
from volumedrivers.attachment.audit_findings import RowFindings
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.results import Finding
from volumedrivers.cinder import attachments

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.audit_facts import Facts
    from volumedrivers.attachment.block_storage.context import StorageContext
    from volumedrivers.attachment.block_storage.in_cinder import InCinder
    from volumedrivers.attachment.block_storage.reservation import Reservation

RECOVER = 'Run "volumedrivers recover".'
_GIB = 2**30


def of_row(
    context: 'StorageContext',
    facts: 'Facts',
    here: Collection[str],
    row: 'Reservation',
    cinder: 'InCinder | None',
) -> Iterator[Finding]:
    """Yield what is wrong with one attachment.

    :param here: keys of what guests or host have
    :param cinder: None: it cannot be asked, which is said once
    :raises VolumeDriversError: Cinder cannot be asked any more
    """
    look = _Row(context, facts, row)
    if not row.is_settled:
        yield look.unfinished()
    elif cinder is None:
        return
    elif row.endpoint != cinder.endpoint:
        yield look.other_cinder(cinder.endpoint)
    elif look.is_hidden(cinder):
        yield look.other_project(cinder.project)
    elif row.key not in here:
        yield look.not_backed(cinder)
    else:
        yield from look.attachment(cinder)


def keys_here(facts: 'Facts') -> frozenset[str]:
    """Return the keys of what guests or host have."""
    in_guests = {
        make_key(guest.uuid, guest_disks.volume_id_of(disk) or '')
        for guest in facts.guests.values()
        for disk in guest.disks
    }
    return frozenset(in_guests | facts.rows.keys())


class _Row(RowFindings['Reservation']):
    """One row, beside what is known of guests, host and Cinder."""

    def __init__(self, context: 'StorageContext', facts: 'Facts', row: 'Reservation') -> None:
        super().__init__(row)
        self.context = context
        self.facts = facts
        self.guest = facts.guests.get(row.domain_uuid)

    @property
    def what(self) -> str:
        return f'attachment {self.row.attachment_id or "not known"}'

    def command(self, verb: str) -> str:
        """Return what to type to do something with this attachment."""
        known = self.guest is not None and self.guest.name == self.row.domain_name
        guest = self.row.domain_name if known else self.row.domain_uuid
        return f'volumedrivers volume {verb} {shlex.quote(guest)} {self.row.volume_id}'

    def unfinished(self) -> Finding:
        """Say whether the operation runs, or was interrupted."""
        row = self.row
        step = f'step {row.step!r} of {row.operation}' if row.step else str(row.operation)
        holder = self.context.locks.holder(f'reservation {row.volume_id}')
        if holder is not None:
            return self.note('running', self.what, f'{step}: {holder}', 'Wait until it has ended.')
        why = row.problem or 'the process ended'
        return self.problem('unfinished', self.what, f'{step} did not end: {why}', RECOVER)

    def other_cinder(self, endpoint: str) -> Finding:
        """Say that this Cinder is not the one to ask."""
        return self.problem(
            'other-cinder',
            self.what,
            f'it is of Cinder at {self.row.endpoint}, and the configured one is at {endpoint}',
            'Run the audit with the --os-cloud of that Cinder.',
        )

    def is_hidden(self, cinder: 'InCinder') -> bool:
        """Tell whether Cinder may only not show the volume to this project."""
        if None in (self.row.project, cinder.project) or self.row.project == cinder.project:
            return False
        return cinder.volume(self.row.volume_id) is None

    def other_project(self, project: str | None) -> Finding:
        """Say that this user is not the one to ask."""
        return self.problem(
            'other-project',
            self.what,
            f'it is of project {self.row.project}, and to project {project} Cinder does not show '
            'the volume',
            'Run the audit as a user of that project, or as an administrator.',
        )

    def not_backed(self, cinder: 'InCinder') -> Finding:
        """Say that neither guest nor host have the volume."""
        row = self.row
        there = row.attachment_id and cinder.attachment(row.attachment_id)
        detail = 'Cinder keeps the volume for it' if there else 'neither has Cinder any more'
        return self.problem(
            'not-released',
            self.what,
            f'guest {row.domain_name} and this host do not have the volume, and {detail}',
            RECOVER,
        )

    def attachment(self, cinder: 'InCinder') -> Iterator[Finding]:
        """Compare an attachment with the disk that the guest has."""
        row = self.row
        volume = cinder.volume(row.volume_id)
        found = row.attachment_id and cinder.attachment(row.attachment_id)
        if volume is None:
            yield self.problem(
                'volume-gone',
                f'volume {row.volume_id}',
                f'Cinder has deleted it, and guest {row.domain_name} still has it',
                f'Save what is on it; then run "{self.command("detach")}".',
            )
            return
        if not found:
            yield self._lost(cinder)
            return
        host = cinder.host_of(found)
        if host is not None and host.lower() != row.host.lower():
            yield self.problem(
                'attached-elsewhere',
                self.what,
                f'guest {row.domain_name} has the volume here, and Cinder has it for host {host}',
                'Find out on which host the guest is to run; both may write to the volume.',
            )
        elif attachments.is_reserved(found):
            yield self.problem(
                'attachment-lost',
                self.what,
                f'guest {row.domain_name} has the volume, and Cinder has only reserved it: it '
                'may give it to somebody else',
                f'Run "{self.command("detach")}", and attach it again.',
            )
        elif found.status != 'attached':
            yield self.problem(
                'not-complete',
                self.what,
                f'guest {row.domain_name} has the volume, and in Cinder it is {found.status}',
                RECOVER,
            )
        yield from self._state(cinder)
        yield from self._mode(found)
        yield from self._size(volume)

    def _lost(self, cinder: 'InCinder') -> Finding:
        row = self.row
        others = [
            (one, host)
            for one in cinder.of_volume(row.volume_id)
            if (host := cinder.host_of(one)) is not None and host.lower() != row.host.lower()
        ]
        for one, host in others:
            return self.problem(
                'attached-elsewhere',
                self.what,
                f'guest {row.domain_name} has the volume here; Cinder lost that attachment, and '
                f'has {one.id} of host {host}',
                f'Run "{self.command("detach")}" at once: both may write to the volume.',
            )
        return self.problem(
            'attachment-lost',
            self.what,
            f'guest {row.domain_name} has the volume, and Cinder does not know: it may give it '
            'to somebody else',
            f'Run "{self.command("detach")}", and attach it again.',
        )

    def _state(self, cinder: 'InCinder') -> Iterator[Finding]:
        """Look for a state in which nobody is at it."""
        volume_id = self.row.volume_id
        status = cinder.volume(volume_id).status
        if status in ('in-use', 'attaching'):
            return
        # It may have been passing.
        volume = cinder.volume_now(volume_id)
        if volume is None or volume.status == 'in-use':
            return
        if volume.status == 'detaching':
            yield self.problem(
                'detaching',
                f'volume {volume_id}',
                'it is detaching in Cinder, and nothing on this host is at it',
                f'Run "{self.command("detach")}"; if it is to stay, an administrator runs '
                f'"openstack volume set --state in-use {volume_id}".',
            )
        elif str(volume.status).startswith('error'):
            yield self.problem(
                'volume-error',
                f'volume {volume_id}',
                f'it is in state {volume.status} in Cinder, and guest {self.row.domain_name} '
                'has it',
                f'Look at "openstack volume show {volume_id}" and Cinder\'s log; an '
                f'administrator runs "openstack volume set --state in-use {volume_id}".',
            )
        elif volume.status in ('available', 'reserved'):
            yield self.problem(
                'volume-state',
                f'volume {volume_id}',
                f'it is {volume.status} in Cinder, though guest {self.row.domain_name} has it: '
                'somebody else may get it',
                f'An administrator runs "openstack volume set --state in-use {volume_id}".',
            )

    def _mode(self, found: typing.Any) -> Iterator[Finding]:
        """Look whether the guest can write what it may only read."""
        info = found.connection_info or {}
        # Not attach_mode: Cinder says ro as soon as somebody has set the volume's
        # read-only flag back to false.
        read_only = 'ro' in (self.row.mode, info.get('access_mode'))
        if not read_only or self.guest is None:
            return
        guest = self.context.host.hypervisor.guest(self.row.domain_uuid)
        writable = [
            guest_disks.target_of(disk)
            for disk in guest.all_disks()
            if guest_disks.volume_id_of(disk) == self.row.volume_id and not disk.readonly
        ]
        if writable:
            yield self.problem(
                'writable',
                self.what,
                f'it is read-only, and guest {self.guest.name} can write to {writable[0]}',
                f'Run "{self.command("detach")}", and attach it again with --read-only.',
            )

    def _size(self, volume: typing.Any) -> Iterator[Finding]:
        """Look whether the guest has seen the volume grow."""
        if self.guest is None or not volume.size:
            return
        targets = {
            disk.target
            for disk in self.guest.disks
            if guest_disks.volume_id_of(disk) == self.row.volume_id
        }
        for target in sorted(targets):
            size = self.facts.capacities.get((self.guest.uuid, target))
            # The header of an encrypted volume is not the guest's.
            if size is not None and size <= (int(volume.size) - 1) * _GIB:
                yield self.note(
                    'not-extended',
                    f'{target}: volume {self.row.volume_id}',
                    f'it has {volume.size} GiB in Cinder, and the guest sees {size} bytes',
                    f'Run "volumedrivers extend {shlex.quote(self.guest.name)} '
                    f'{self.row.volume_id} {volume.size}G".',
                )
