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

"""What an audit looks at, read once for all attachments.

Journal first and guests after it: an attachment that comes or goes meanwhile is
known by its row having changed when the audit is done.
"""

from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import os
import typing

from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.attachment.results import Finding
from volumedrivers.attachment.users import paths_of
from volumedrivers.host import mount_table
from volumedrivers.host import rbd_device
from volumedrivers.host import share_health
from volumedrivers.host.path_walk import PathWalk
from volumedrivers.host.path_walk import is_within
from volumedrivers.libvirt import disk_answers

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.attachment.record import Record
    from volumedrivers.host.block_device import BlockDevices
    from volumedrivers.host.block_inventory import Inventory
    from volumedrivers.host.mount_table import Mount
    from volumedrivers.host.rbd_device import RbdDevice
    from volumedrivers.host.share_users import Counted
    from volumedrivers.libvirt.connected_volume import Identity
    from volumedrivers.libvirt.guest_sources import GuestSources
    from volumedrivers.libvirt.whole_host import KnownSecret

LOG = logging.getLogger(__name__)

# However long a mount may take, an audit does not wait longer for a file.
_LONGEST_WAIT = 10.0


@dataclasses.dataclass(frozen=True)
class Facts:
    """The journal, libvirt and this host, as they were a moment ago.

    :ivar rows: by key
    :ivar guests: by UUID
    :ivar secrets: by UUID
    :ivar capacities: bytes that a running guest's disk has, by UUID and target
    :ivar images: what the kernel has mapped
    :ivar mounts: the topmost at each place
    :ivar walk: tells where paths lead
    :ivar places: where the share of a row was mounted, by key
    :ivar shares: what each mount said of the files of its rows, by mount point
    :ivar answers: what became of endpoints that did not answer when a volume
        was connected: '' answers now, or the reason
    :ivar changed_disks: what each SCSI disk is that is not what sysfs says of
        it, by the kernel's name
    """

    context: 'AttachmentContext'
    boot_id: str
    rows: 'dict[str, Record]'
    guests: 'dict[str, GuestSources]'
    secrets: 'dict[str, KnownSecret]'
    capacities: dict[tuple[str, str], int]
    inventory: 'Inventory'
    images: 'tuple[RbdDevice, ...]'
    mounts: 'dict[str, Mount]'
    walk: PathWalk
    counted: 'tuple[Counted, ...]'
    places: dict[str, str]
    shares: 'dict[str, share_health.Answer]'
    answers: dict[str, str]
    changed_disks: 'dict[str, Identity]'

    @property
    def devices(self) -> 'BlockDevices':
        """The block devices of this host."""
        return self.context.registry.context.devices

    def is_here(self, row: 'Record') -> bool:
        """Whether a row says what is on this host now."""
        return row.boot_id == self.boot_id

    def mount_of(self, path: str) -> 'Mount | None':
        """Return the mount that a path lies on."""
        place = self.walk.resolve(path)
        while place not in self.mounts and place != '/':
            place = os.path.dirname(place)
        return self.mounts.get(place)

    def users_of(self, place: str) -> list[str]:
        """Return the guests and rows that have something in a directory."""
        real = self.walk.resolve(place)

        def has(path: str) -> bool:
            return is_within(path, place) or is_within(self.walk.resolve(path), real)

        found = {guest.name for guest in self.guests.values() if any(map(has, guest.paths))}
        found.update(
            row.domain_name
            for row in self.rows.values()
            if self.is_here(row) and any(map(has, paths_of(row)))
        )
        return sorted(found)


def gather(context: 'AttachmentContext') -> Facts:
    """Ask everybody once.

    :raises HypervisorUnavailable, HypervisorError: libvirt could not say
    :raises JournalUnusable, HostUnreadable
    """
    from volumedrivers.libvirt import whole_host  # noqa: PLC0415 - imports libvirt

    # SQLite does not notice by itself that rows have been lost.
    context.journal.check()
    rows = {row.key: row for row in context.journal.find()}
    guests = dict(_guests(context))
    drivers = context.registry.context
    try:
        mounts = mount_table.read()
        inventory = drivers.devices.inventory()
        images = rbd_device.devices()
    except OSError as error:
        raise exception.HostUnreadable(
            what='this host', reason=f'{error.filename}: {error.strerror}'
        ) from error
    counted = drivers.shares.users.counted()
    facts = Facts(
        context=context,
        boot_id=context.boot_id,
        rows=rows,
        guests=guests,
        secrets={one.uuid: one for one in whole_host.secrets(context.hypervisor)},
        capacities={},
        inventory=inventory,
        images=images,
        mounts={mount.mount_point: mount for mount in mounts},
        walk=PathWalk(mounts),
        counted=counted,
        places={
            key_of(user): one.mount_point
            for one in counted
            if one.mount_point is not None
            for user in one.users
        },
        shares={},
        answers={},
        changed_disks={},
    )
    facts = dataclasses.replace(
        facts,
        shares=_ask_shares(facts),
        answers=_ask_endpoints(facts),
        changed_disks=_ask_disks(facts),
    )
    sized = {guest.uuid for guest in guests.values() if _can_be_sized(facts, guest)}
    return dataclasses.replace(facts, capacities=whole_host.capacities(context.hypervisor, sized))


def key_of(user: str) -> str:
    """Return the key of the row that a share's user belongs to."""
    return '/'.join(user.split('/')[:2])


def mount_place(facts: Facts, row: 'Record') -> str | None:
    """Return the mount point of a file's row as the mount table has it; None: unmounted."""
    volume = row.volume
    if volume is None or volume.path is None:
        return None
    mount = facts.mount_of(volume.path)
    place = facts.places.get(row.key)
    if place is not None and (mount is None or mount.mount_point != facts.walk.resolve(place)):
        return None
    return None if mount is None else mount.mount_point


def _guests(context: 'AttachmentContext') -> 'Iterator[tuple[str, GuestSources]]':
    for guest in context.hypervisor.guests():
        try:
            yield guest.uuid, guest.sources()
        except exception.GuestNotFound:
            continue  # it went while we looked


def sizes(facts: Facts, wanted: Iterable[str]) -> dict[tuple[str, str], int]:
    """Return the bytes of the disks of more running guests, by UUID and target.

    :param wanted: UUIDs of guests; those that may hang are left out
    :raises HypervisorUnavailable
    """
    from volumedrivers.libvirt import whole_host  # noqa: PLC0415 - imports libvirt

    guests = [facts.guests[uuid] for uuid in wanted if uuid in facts.guests]
    safe = {one.uuid for one in guests if one.is_running and _answers(facts, one)}
    return whole_host.capacities(facts.context.hypervisor, safe)


def _can_be_sized(facts: Facts, guest: 'GuestSources') -> bool:
    """Tell whether libvirt is to be asked for disk sizes, and can be."""
    has_devices = any(disk.type == 'block' for disk in guest.disks)
    return guest.is_running and has_devices and _answers(facts, guest)


def _answers(facts: Facts, guest: 'GuestSources') -> bool:
    """Tell whether libvirt can look at all disks without looking at what may hang."""
    for disk in guest.disks:
        if disk.source.startswith('gluster:'):
            return False  # libvirt would ask its server
        for path in disk.paths:
            mount = facts.mount_of(path)
            place = '/' if mount is None else mount.mount_point
            answer = facts.shares.get(place)
            if facts.walk.may_hang(place) and (answer is None or answer.problem):
                return False
    return True


def _ask_shares(facts: Facts) -> dict[str, share_health.Answer]:
    files: dict[str, list[str]] = {}
    for counted in facts.counted:
        if counted.mount_point is not None:
            place = facts.walk.resolve(counted.mount_point)
            if place in facts.mounts:
                files[place] = []
    for row in facts.rows.values():
        volume = row.volume
        if facts.is_here(row) and volume is not None and volume.source_type == 'file':
            holding = mount_place(facts, row)
            if holding is not None and volume.path is not None:
                files.setdefault(holding, []).append(volume.path)
    return share_health.ask(files, longest_wait(facts.context))


def longest_wait(context: 'AttachmentContext') -> float:
    """Return how many seconds shares have for an answer."""
    return min(float(context.options.mount_timeout), _LONGEST_WAIT)


def _ask_endpoints(facts: Facts) -> dict[str, str]:
    """Ask what did not answer when a volume was connected, all at once."""
    wanted: dict[str, dict[str, tuple[str, int]]] = {}
    for row in facts.rows.values():
        volume = row.volume
        if volume is None or not facts.is_here(row):
            continue
        protocol = _PROTOCOLS.get(row.driver_volume_type)
        if volume.source is not None:
            protocol = volume.source.protocol
        for failed in volume.paths.failed:
            endpoint = endpoint_of(failed.name)
            if protocol in _ASKABLE and endpoint is not None:
                wanted.setdefault(protocol, {})[failed.name] = endpoint
    answers: dict[str, str] = {}
    timeout = min(float(facts.context.options.endpoint_timeout), _LONGEST_WAIT)
    for protocol, endpoints in wanted.items():
        answers.update(_ask_one_kind(facts, protocol, endpoints, timeout))
    return answers


# What host.endpoint calls the protocol of a volume that this host connects.
_PROTOCOLS = {'iscsi': 'iscsi', 'nvmeof': 'nvme', 'lightos': 'nvme'}
_ASKABLE = frozenset(('rbd', 'iscsi', 'nvme', 'gluster', 'nbd'))


def _ask_disks(facts: Facts) -> 'dict[str, Identity]':
    """Ask the disks of all volumes that have a WWN what they are."""
    paths = [
        row.volume.path
        for row in facts.rows.values()
        if row.volume is not None
        and row.volume.path is not None
        and row.volume.identity is not None
        and row.volume.identity.kind == 'wwn'
        and facts.is_here(row)
    ]
    try:
        names = disk_answers.disks_under(facts.devices, *paths)
        changed = disk_answers.changed(facts.devices, names, seconds=_LONGEST_WAIT)
    except exception.VolumeDriversError as error:
        # Only root may ask them; the rest of the audit does without.
        LOG.warning('Disks were not asked what they are: %s', error)
        return {}
    return {name: found for name, found, _ in changed}


def _ask_one_kind(
    facts: Facts, protocol: str, endpoints: dict[str, tuple[str, int]], timeout: float
) -> dict[str, str]:
    places = sorted(set(endpoints.values()))
    try:
        result = facts.context.registry.context.endpoints.check(protocol, places, timeout=timeout)
    except exception.EndpointUnreachable:
        return dict.fromkeys(endpoints, 'does not answer')
    failed = {endpoint_of(name) for name, _ in result.failed}
    return {
        name: 'does not answer' if place in failed else '' for name, place in endpoints.items()
    }


def endpoint_of(name: str) -> tuple[str, int] | None:
    """Return host and port of a path's name; None: it names no portal."""
    host, _, port = name.partition(' ')[0].rpartition(':')
    if not host or not port.isdecimal():
        return None
    return host.strip('[]'), int(port)


def device_names(facts: Facts) -> frozenset[str]:
    """Return the kernel's names of all devices that rows are of, and what is below."""
    found: set[str] = set()
    for row in facts.rows.values():
        for path in paths_of(row):
            name = facts.inventory.kernel_name(path)
            if name is not None:
                found |= with_below(facts, name)
    return frozenset(found)


def with_below(facts: Facts, name: str) -> set[str]:
    """Return a device and all that it is made of."""
    found = {name}
    device = facts.inventory.devices.get(name)
    for below in () if device is None else device.below:
        found |= with_below(facts, below)
    return found


def finding(
    severity: typing.Literal['problem', 'note'],
    kind: str,
    what: str,
    detail: str,
    what_to_do: str,
    *,
    volume_id: str = '',
    row: 'Record | None' = None,
) -> Finding:
    """Return a finding, of an attachment where one is known."""
    return Finding(
        kind=kind,
        severity=severity,
        guest='' if row is None else row.domain_name,
        guest_uuid='' if row is None else row.domain_uuid,
        volume_id=volume_id if row is None else row.volume_id,
        what=what,
        detail=detail,
        what_to_do=what_to_do,
    )
