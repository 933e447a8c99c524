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

"""Who has a volume of Cinder: the guests of this host, and other hosts."""

import dataclasses
import typing

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.cinder import attachments

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.context import StorageContext
    from volumedrivers.connection_info import ConnectionInfo


@dataclasses.dataclass(frozen=True)
class Guest:
    """A guest of this host that has the volume, as journal or Cinder say.

    :ivar info: of one that somebody else attached; None: the journal has it
    :ivar driver_volume_type: how it is connected
    """

    uuid: str
    name: str
    info: 'ConnectionInfo | None'
    driver_volume_type: str


@dataclasses.dataclass(frozen=True)
class VolumeUsers:
    """All of them.

    :ivar elsewhere: attachments of other hosts, for people to read
    """

    here: tuple[Guest, ...]
    elsewhere: tuple[str, ...]


def find(context: 'StorageContext', volume: typing.Any) -> VolumeUsers:
    """Return who has a volume.

    :param volume: the SDK's
    :raises CinderUnavailable, JournalUnusable
    """
    here = {
        record.domain_uuid: Guest(
            record.domain_uuid, record.domain_name, None, record.driver_volume_type
        )
        for record in context.host.journal.find(volume_id=volume.id)
    }
    ours = {row.attachment_id for row in context.reservations.find(volume_id=volume.id)}
    elsewhere = []
    for one in attachments.of_volume(context.storage, volume.id):
        if one.instance in here or one.id in ours:
            continue
        host = attachments.host_of(volume, one.id)
        if one.instance and _is_here(context, host, one):
            here.update(_of_somebody_else(context, volume, one))
        else:
            elsewhere.append(
                f'{one.id} (host {host or "not known"}, guest {one.instance or "not named"})'
            )
    return VolumeUsers(tuple(here.values()), tuple(elsewhere))


def _is_here(context: 'StorageContext', host: str | None, attachment: typing.Any) -> bool:
    if host is not None:
        return host.lower() == context.host.host.lower()
    try:
        guest = context.host.hypervisor.guest(attachment.instance)
    except exception.GuestNotFound:
        return False
    return guest_disks.find(guest, attachment.volume_id) is not None


def _of_somebody_else(
    context: 'StorageContext', volume: typing.Any, attachment: typing.Any
) -> dict[str, Guest]:
    """Return what is attached to a guest of this host, and not in the journal."""
    full = context.storage.ask(context.storage.proxy.get_attachment, attachment.id)
    if not full.connection_info:
        return {}
    info = attachments.connection_info(full.connection_info, volume)
    guest_uuid = str(attachment.instance)
    return {guest_uuid: Guest(guest_uuid, guest_uuid, info, info.driver_volume_type)}


def has_file(context: 'StorageContext', guest_uuid: str, volume_id: str) -> bool:
    """Tell whether the guest's disk is a file on a share: then only QEMU can grow it."""
    try:
        domain = context.host.hypervisor.guest(guest_uuid)
    except exception.GuestNotFound:
        return False
    disk = guest_disks.find(domain, volume_id)
    return disk is not None and disk.type == 'file'
