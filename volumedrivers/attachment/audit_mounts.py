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

"""Look for shares that hang, are not used any more, or are not known."""

from collections.abc import Iterator
import os
import shlex
import typing

from volumedrivers import exception
from volumedrivers.attachment import audit_facts
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment.audit_facts import finding
from volumedrivers.attachment.audit_guests import UUID
from volumedrivers.attachment.results import Finding
from volumedrivers.host import mount_table
from volumedrivers.host import share_health

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.audit_facts import Facts
    from volumedrivers.host.share_users import Counted

_BASE = '_mount_point_base'


def of_mounts(facts: 'Facts') -> Iterator[Finding]:
    """Yield what is to say of mounts and of who is counted as their user."""
    for place, answer in facts.shares.items():
        if answer.problem:
            mount = facts.mounts.get(place)
            yield finding(
                'problem',
                'no-answer',
                place,
                f'{mount.source if mount else "the share"}: {answer.problem}',
                'Look at its server and the network; guests that use it stand still meanwhile.',
            )
    places = set()
    for counted in facts.counted:
        yield from _users(facts, counted)
        if counted.mount_point is None:
            continue
        places.add(facts.walk.resolve(counted.mount_point))
        if not counted.users and counted.mark is not None:
            users = facts.users_of(counted.mount_point)
            if users:
                continue
            if facts.walk.resolve(counted.mount_point) in facts.mounts:
                yield finding(
                    'problem',
                    'idle-mount',
                    counted.mount_point,
                    'the share was mounted for volumes, and nobody uses it any more',
                    'Run "volumedrivers recover", which unmounts it.',
                )
                continue
            # What it was begun for has failed, and its row is gone.
            yield finding(
                'note',
                'idle-claim',
                counted.mount_point,
                'nothing is mounted; a mount was begun that did not come about in time, or is '
                'gone, and it would be of this package',
                'Run "volumedrivers recover", which forgets it and removes the directory.',
            )
    yield from _unclaimed(facts, places)


def _users(facts: 'Facts', counted: 'Counted') -> Iterator[Finding]:
    for user in sorted(counted.users):
        key = audit_facts.key_of(user)
        guest_uuid, _, volume_id = key.partition('/')
        if key in facts.rows or user.startswith('sha256-'):
            continue
        guest = facts.guests.get(guest_uuid)
        if guest is not None and any(
            guest_disks.volume_id_of(disk) == volume_id for disk in guest.disks
        ):
            continue  # its disk is found to be not recorded
        ours = bool(UUID.fullmatch(guest_uuid) and volume_id)
        yield finding(
            'problem' if ours else 'note',
            'stray-user',
            counted.mount_point or 'a share',
            f'{user} is counted as a user of the share; no row and no guest has it',
            f'Run "volumedrivers detach {shlex.quote(guest_uuid)} {shlex.quote(volume_id)}" with '
            "the volume's connection_info."
            if ours
            else 'Nothing has to be done if another program has counted it.',
            volume_id=volume_id,
        )


def _unclaimed(facts: 'Facts', places: set[str]) -> Iterator[Finding]:
    """Yield mounts where this package mounts, of which it has not counted anything."""
    options = facts.context.registry.context.conf.volumedrivers
    bases = {facts.walk.resolve(options[name]) for name in options if name.endswith(_BASE)}
    for place, mount in facts.mounts.items():
        if os.path.dirname(place) in bases and place not in places:
            users = facts.users_of(place)
            yield finding(
                'note',
                'stray-mount',
                place,
                f'{mount.source} ({mount.fstype}) is mounted, and was not mounted for a volume '
                'that is recorded; ' + (f'used by {", ".join(users)}' if users else 'unused'),
                f'If nobody else has mounted it, run "umount {shlex.quote(place)}".',
            )


class Again:
    """Looks once more at mounts of which something is said.

    One that is just being unmounted answers nothing, and is no problem.
    """

    def __init__(self, facts: 'Facts') -> None:
        self._facts = facts
        self._counted: tuple[Counted, ...] | None = None

    def holds(self, found: Finding) -> bool:
        """Tell whether it is still so; what is not about a mount is."""
        if found.kind == 'no-answer':
            return self._is_there(found.what) and self._is_silent(found.what)
        if found.kind == 'idle-claim' and self._is_mounted(found.what):
            return False
        if found.kind in ('idle-mount', 'idle-claim'):
            return any(
                one.mount_point == found.what and not one.users and one.mark is not None
                for one in self._now()
            )
        if found.kind == 'stray-mount':
            walk = self._facts.walk
            counted = (one.mount_point for one in self._now() if one.mount_point is not None)
            return self._is_there(found.what) and found.what not in map(walk.resolve, counted)
        return True

    def _is_there(self, place: str) -> bool:
        before = self._facts.mounts.get(place)
        now = _mounted(place)
        return before is not None and now is not None and now.mark == before.mark

    def _is_mounted(self, mount_point: str) -> bool:
        return _mounted(self._facts.walk.resolve(mount_point)) is not None

    def _is_silent(self, place: str) -> bool:
        if self._facts.shares[place].timed_out:
            return True  # as long again would tell nothing new
        answer = share_health.ask({place: ()}, audit_facts.longest_wait(self._facts.context))
        # It may have gone in between, and then what is below it was asked.
        return bool(answer[place].problem) and self._is_there(place)

    def _now(self) -> 'tuple[Counted, ...]':
        if self._counted is None:
            self._counted = self._facts.context.registry.context.shares.users.counted()
        return self._counted


def _mounted(place: str) -> mount_table.Mount | None:
    try:
        now = [mount for mount in mount_table.read() if mount.mount_point == place]
    except OSError as error:
        raise exception.HostUnreadable(
            what='the mount table', reason=error.strerror or str(error)
        ) from error
    return now[-1] if now else None
