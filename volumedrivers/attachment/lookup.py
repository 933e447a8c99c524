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

"""Which volume of a guest is meant, and how it was connected."""

import typing

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.work import volume_id_of
from volumedrivers.connection_info import ConnectionInfo

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.libvirt.guest import Guest


def volume_id(
    context: 'AttachmentContext', domain: 'Guest', volume: str | None, given: ConnectionInfo | None
) -> str:
    """Return the id of the volume that is meant by an id, a target or its info.

    :raises InvalidOption: neither was given
    """
    if given is not None:
        return volume_id_of(given)
    if volume is None:
        raise exception.InvalidOption(
            option='volume', found='missing', expected='a volume id or target name'
        )
    if context.journal.get(make_key(domain.uuid, volume)) is not None:
        return volume
    disk = guest_disks.find(domain, volume)
    if disk is not None:
        return guest_disks.volume_id_of(disk) or volume
    for record in context.journal.find(domain_uuid=domain.uuid):
        if volume == record.target:
            return record.volume_id
    return volume


def connection_info(
    record: Record | None, given: ConnectionInfo | None, domain: 'Guest', volume: str
) -> ConnectionInfo:
    """Return how the volume was connected: what was recorded counts.

    A caller's may be that of another host, after a migration.

    :raises NotRecorded: nothing is known of it, and the guest does not have it
    :raises InvalidOption: the guest has it, and it is not recorded
    """
    if record is None:
        if given is None:
            _refuse_unrecorded(domain, volume)
        return given
    if given is not None and given.to_dict() == dict(record.connection_info):
        return given
    return ConnectionInfo.parse(record.connection_info)


def connection_info_to_connect(record: Record, given: ConnectionInfo | None) -> ConnectionInfo:
    """Return what the volume can be connected with.

    :raises InvalidOption: that needs credentials, which are not recorded
    """
    info = ConnectionInfo.parse(record.connection_info)
    if given is not None:
        return as_connected(record, given)
    if info.secrets():
        raise exception.InvalidOption(
            option='connection_info',
            found='missing',
            expected=f'that of volume {record.volume_id}, whose credentials are not recorded',
        )
    return info


def as_connected(record: Record, given: ConnectionInfo) -> ConnectionInfo:
    """Return it with the id under which the volume is on this host.

    After Cinder has migrated it that is not the volume's: mounts and secrets
    are called as the new place was when it was connected.
    """
    serial = record.connection_info.get('serial')
    name = ConnectionInfo.parse(record.connection_info).volume_id
    if serial is None or name == given.volume_id or record.volume_id != given.volume_id:
        return given
    return given.updated({'serial': serial, 'volume_id': name}, {})


def _refuse_unrecorded(domain: 'Guest', volume: str) -> typing.NoReturn:
    disk = guest_disks.find(domain, volume)
    if disk is None:
        raise exception.NotRecorded(volume=volume, guest=domain.name)
    # Not "nothing to do": the guest has it.
    raise exception.InvalidOption(
        option='connection_info',
        found='missing',
        expected=f'that of {volume}: guest {domain.name} has it as '
        f'{guest_disks.target_of(disk)}, but it is not recorded on this host',
    )
