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

"""Look for disks of guests that the journal does not know."""

from collections.abc import Iterator
import re
import shlex
import typing

from volumedrivers.attachment import guest_disks
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.results import Finding
from volumedrivers.attachment.users import paths_of
from volumedrivers.host import device_route

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.audit_facts import Facts
    from volumedrivers.attachment.record import Record
    from volumedrivers.libvirt.guest_sources import DiskSources
    from volumedrivers.libvirt.guest_sources import GuestSources

UUID = re.compile(r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}')
# Transports of storage that is not in this host.
_REMOTE = frozenset(('iscsi', 'fc', 'tcp', 'rdma', 'loop'))


class Owners(typing.NamedTuple):
    """The rows of this boot, by what they have on this host.

    :ivar paths: by path, as libvirt was given it or as the driver named it
    :ivar devices: by the kernel's name
    """

    paths: 'dict[str, Record]'
    devices: 'dict[str, Record]'

    def of(self, facts: 'Facts', disk: 'DiskSources') -> 'Record | None':
        """Return the row whose volume the disk has, whatever it is called."""
        for source in (disk.source, *disk.below):
            name = facts.inventory.kernel_name(source)
            row = self.paths.get(source) or self.devices.get(name or '')
            if row is not None:
                return row
        return None


def owners(facts: 'Facts') -> Owners:
    """Return who has what."""
    found = Owners({}, {})
    for row in facts.rows.values():
        if not facts.is_here(row):
            continue
        for path in paths_of(row):
            found.paths.setdefault(path, row)
            name = facts.inventory.kernel_name(path)
            if name is not None:
                found.devices.setdefault(name, row)
    return found


def of_guest(facts: 'Facts', guest: 'GuestSources', known: Owners) -> Iterator[Finding]:
    """Yield what is to say of a guest's disks, one for each target."""
    said: set[str] = set()
    for disk in guest.disks:
        if disk.target not in said:
            found = _of_disk(facts, guest, disk, known)
            if found is not None:
                said.add(disk.target)
                yield found


def _of_disk(
    facts: 'Facts', guest: 'GuestSources', disk: 'DiskSources', known: Owners
) -> Finding | None:
    volume_id = guest_disks.volume_id_of(disk) or ''
    if make_key(guest.uuid, volume_id) in facts.rows:
        return None
    owner = known.of(facts, disk)
    if owner is not None and owner.domain_uuid == guest.uuid:
        return None  # the volume's own disk, under another name
    what = f'{disk.target}: {disk.source or "empty"}'

    def finding(
        severity: typing.Literal['problem', 'note'], kind: str, detail: str, do: str
    ) -> Finding:
        return Finding(
            kind=kind,
            severity=severity,
            guest=guest.name,
            guest_uuid=guest.uuid,
            volume_id=volume_id,
            what=what,
            detail=detail,
            what_to_do=do,
        )

    name = shlex.quote(guest.name)
    if owner is not None and owner.volume_id != volume_id:
        return finding(
            'problem',
            'used-by-another',
            f'it is volume {owner.volume_id} of guest {owner.domain_name}, and was not given to '
            'this guest',
            f'Find out who has it; take it away with "virsh detach-disk {name} {disk.target}".',
        )
    if volume_id and (UUID.fullmatch(volume_id) or _is_named_as_ours(disk)):
        return finding(
            'note' if owner is None else 'problem',
            'not-recorded',
            'it looks like a volume of Cinder, and was not attached by this journal',
            f'To take it away run "volumedrivers detach {name} {shlex.quote(volume_id)}" with '
            'its connection_info.',
        )
    return _of_source(facts, disk, finding)


def _of_source(
    facts: 'Facts', disk: 'DiskSources', finding: typing.Callable[..., Finding]
) -> Finding | None:
    name = facts.inventory.kernel_name(disk.source)
    if name is not None:
        device = facts.inventory.devices.get(name)
        names = (name,) if device is None or not device.below else device.below
        route = next(filter(None, (_remote_route(one) for one in names)), None)
        if route is not None:
            return finding(
                'note',
                'not-recorded',
                f'the device is reached by {route.transport} '
                f'({" ".join(filter(None, (route.portal, route.target)))}), and not recorded',
                'Nothing has to be done if somebody else has connected it.',
            )
    elif disk.type == 'file':
        mount = facts.mount_of(disk.source)
        places = {facts.walk.resolve(place) for place in facts.places.values()}
        if mount is not None and mount.mount_point in places:
            return finding(
                'note',
                'not-recorded',
                f'the file is on {mount.source}, which is used by recorded volumes; the share '
                'stays mounted for it',
                'Nothing has to be done if somebody else has attached it.',
            )
    return None


def _remote_route(name: str) -> device_route.Route | None:
    route = device_route.find(name)
    return route if route.transport in _REMOTE else None


def _is_named_as_ours(disk: 'DiskSources') -> bool:
    return (disk.alias or '').startswith(guest_disks.ALIAS_PREFIX)
