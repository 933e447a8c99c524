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

"""Look for what Cinder has of this host, and the journal has not; and the other way round."""

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
import shlex
import typing

from volumedrivers.attachment import guest_disks
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.results import Finding

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.audit_facts import Facts
    from volumedrivers.attachment.block_storage.in_cinder import InCinder
    from volumedrivers.attachment.block_storage.reservation import Reservation
    from volumedrivers.libvirt.guest_sources import GuestSources

_Rows = Mapping[str, 'Reservation']


def of_guests(facts: 'Facts', rows: _Rows, cinder: 'InCinder') -> Iterator[Finding]:
    """Yield what Cinder does not know, or has for another host, of disks without a row there.

    :raises VolumeDriversError: Cinder cannot be asked any more
    """
    for guest in facts.guests.values():
        ids = {guest_disks.volume_id_of(disk) for disk in guest.disks}
        for volume_id in sorted(filter(None, ids)):
            if volume_id in cinder.volumes and make_key(guest.uuid, volume_id) not in rows:
                yield from _of_disk(facts, guest, volume_id, cinder)


def of_attachments(
    facts: 'Facts', here: Collection[str], rows: _Rows, cinder: 'InCinder'
) -> Iterator[Finding]:
    """Yield the attachments of this host that no row, no guest and no device is of.

    :param here: keys of what guests or host have
    :raises VolumeDriversError: Cinder cannot be asked any more
    """
    volumes_here = {key.partition('/')[2] for key in here}
    ours = {row.attachment_id for row in rows.values()}
    # Whose id is not known yet.
    reserving = {row.volume_id for row in rows.values() if row.attachment_id is None}
    for one in list(cinder.attachments.values()):
        if one.id in ours or one.volume_id in reserving:
            continue
        host = cinder.host_of(one)
        is_ours = host is not None and host.lower() == _host(facts)
        guest = facts.guests.get(one.instance or '')
        if guest is not None:
            stray = (is_ours or host is None) and make_key(guest.uuid, one.volume_id) not in here
        else:
            stray = is_ours and one.volume_id not in volumes_here
        if not stray or cinder.attachment_now(str(one.id)) is None:
            continue
        yield _stray(one, guest, host)


def _of_disk(
    facts: 'Facts', guest: 'GuestSources', volume_id: str, cinder: 'InCinder'
) -> Iterator[Finding]:
    hosts = {str(one.id): cinder.host_of(one) for one in cinder.of_volume(volume_id)}
    of_guest = [one for one in cinder.of_volume(volume_id) if one.instance == guest.uuid]
    # One that names no guest may be this guest's.
    unnamed = [one for one in cinder.of_volume(volume_id) if one.instance is None]
    here = _host(facts)
    elsewhere = {
        attachment_id: host
        for attachment_id, host in hosts.items()
        if host is not None and host.lower() != here
    }
    name = shlex.quote(guest.name)

    def finding(kind: str, detail: str, what_to_do: str) -> Finding:
        return Finding(
            kind=kind,
            severity='problem',
            guest=guest.name,
            guest_uuid=guest.uuid,
            volume_id=volume_id,
            what=f'volume {volume_id}',
            detail=detail,
            what_to_do=what_to_do,
        )

    mine = [one for one in (*of_guest, *unnamed) if str(one.id) not in elsewhere]
    if mine:
        return
    if elsewhere:
        attachment_id, host = next(iter(elsewhere.items()))
        yield finding(
            'attached-elsewhere',
            f'guest {guest.name} has it here, and Cinder has it for host {host} (attachment '
            f'{attachment_id})',
            'Find out on which host the guest is to run; both may write to the volume.',
        )
    elif not any(True for _ in cinder.of_volume(volume_id)):
        yield finding(
            'attachment-lost',
            f'guest {guest.name} has it, and Cinder has it for nobody: it may give it to '
            'somebody else',
            f'Run "volumedrivers detach {name} {volume_id}" with its connection_info, and then '
            f'"volumedrivers volume attach {name} {volume_id}".',
        )


def _host(facts: 'Facts') -> str:
    return facts.context.host.lower()


def _stray(one: typing.Any, guest: 'GuestSources | None', host: str | None) -> Finding:
    of_whom = 'that names no guest' if one.instance is None else f'of guest {one.instance}'
    if guest is not None:
        of_whom = f'of guest {guest.name}, which does not have the volume'
    elif one.instance is not None:
        of_whom += ', which libvirt does not have'
    where = f'for host {host}' if host else f'({one.status})'
    return Finding(
        kind='stray-attachment',
        severity='problem',
        guest='' if guest is None else guest.name,
        guest_uuid=str(one.instance or ''),
        volume_id=str(one.volume_id),
        what=f'attachment {one.id}',
        detail=f'Cinder has it {where}, {of_whom}; no row, disk or device on this host is of it',
        what_to_do='If nobody else is just attaching it, run "openstack volume attachment delete '
        f'{one.id}" (--os-volume-api-version 3.27).',
    )
