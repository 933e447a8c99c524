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

"""A volume that several guests have, or may have: one is seen to after the other."""

from collections.abc import Collection
import time
import typing

from volumedrivers import exception
from volumedrivers.cinder import attachments
from volumedrivers.cinder import volumes

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.context import StorageContext
    from volumedrivers.attachment.block_storage.flow import StorageFlow
    from volumedrivers.attachment.block_storage.reservation import Reservation
    from volumedrivers.attachment.record import Record

# States that another guest's attaching, detaching or extending brings.
_PASSING = ('reserved', 'attaching', 'detaching', 'extending')
_POLL = 0.1


def attachable_states(volume: typing.Any) -> tuple[str, ...]:
    """Return the states in which Cinder lets a volume be attached (once more).

    :param volume: the SDK's
    """
    return ('available', 'in-use') if volume.is_multiattach else ('available',)


def attachable(context: 'StorageContext', volume: typing.Any) -> typing.Any:
    """Return a volume when it may be attached (once more).

    :param volume: the SDK's, which may have been read before a lock was waited
        for; where Cinder has another state by now, it refuses what it is asked
    :raises WrongVolumeState: it is in use, and only one guest may have it
    :raises Busy: its state is passing; with a volume that several guests may
        have, for longer than option cinder_share_timeout
    :raises VolumeNotFound
    """
    allowed = attachable_states(volume)
    if volume.status in allowed:
        return volume
    now = _now(context, volume.id)
    if now.is_multiattach and now.status in _PASSING:
        try:
            now = volumes.wait(
                context.storage,
                volume.id,
                _PASSING,
                seconds=context.options.cinder_share_timeout,
            )
        except exception.DeadlineExceeded:
            now = _now(context, volume.id)
    volumes.require(now, allowed)
    return now


def require_not_here(context: 'StorageContext', volume: typing.Any, domain_uuid: str) -> None:
    """Refuse what Cinder would give, while another guest of this host has it.

    Somebody has taken the attachment away in Cinder, or changed the volume's
    state; two guests would write to it.

    :param volume: the SDK's
    :param domain_uuid: of the guest that is to have it
    :raises AttachmentLost, WrongVolumeState: names the other one
    """
    if volume.is_multiattach:
        return
    for record in context.host.journal.find(volume_id=volume.id):
        if record.domain_uuid != domain_uuid:
            require_known(context, record)
            raise exception.WrongVolumeState(
                volume_id=volume.id,
                status=volume.status,
                expected=f'in-use: guest {record.domain_name} has it',
            )


def require_known(context: 'StorageContext', record: 'Record') -> None:
    """Refuse what guest and host have, and Cinder knows nothing of.

    :raises AttachmentLost
    """
    row = context.reservations.get(record.key)
    found = attachments.of_volume(context.storage, record.volume_id)
    if row is None or row.attachment_id not in {one.id for one in found}:
        raise exception.AttachmentLost(
            guest=record.domain_name,
            volume_id=record.volume_id,
            attachment_id=(row and row.attachment_id) or 'of it',
            endpoint=context.storage.endpoint,
        )


def reserve(
    context: 'StorageContext', flow: 'StorageFlow', found: 'Reservation', volume: typing.Any
) -> str | None:
    """Keep the volume for this host; again if another host was faster, and several may have it.

    :param volume: the SDK's
    :returns: the attachment's id, where it has one yet
    """
    end = time.monotonic() + context.options.cinder_share_timeout
    while True:
        try:
            return flow.reserve(found)
        except exception.CinderError as error:
            if error.status != 400 or not volume.is_multiattach:
                raise
            refused = error
        if time.monotonic() > end:
            raise refused
        try:
            attachable(context, _now(context, found.volume_id))
        except exception.VolumeDriversError as reason:
            # It says more: busy, or in a state that does not pass.
            raise reason from refused
        time.sleep(_POLL)


def begin_detaching(context: 'StorageContext', flow: 'StorageFlow', found: 'Reservation') -> None:
    """Let Cinder refuse everybody else while the volume is detached.

    Where it sees to another guest's attachment at the moment, it does so already.
    """
    try:
        flow.begin_detaching(found)
    except exception.CinderError as error:
        if error.status != 400:
            raise
        volume = _now(context, found.volume_id)
        if not volume.is_multiattach or volume.status not in _PASSING:
            raise


def require_kept(context: 'StorageContext', found: 'Reservation', users: Collection[str]) -> None:
    """Refuse to give back what other guests use, and Cinder has only this attachment of.

    A back end keeps a host's export as long as Cinder has another attachment
    of that host; without one the other guests would lose the volume, and
    somebody else would get its LUN.

    :param users: names of the other guests of this host that have the volume
    :raises StillInUse
    """
    if not users:
        return
    uuids = _uuids(context, users)
    rows = context.reservations.find(volume_id=found.volume_id)
    ours = {row.attachment_id for row in rows if row.domain_uuid in uuids}
    for one in attachments.of_volume(context.storage, found.volume_id):
        if one.id == found.attachment_id or attachments.is_reserved(one):
            continue
        if one.id in ours or one.instance in uuids:
            return
    raise exception.StillInUse(
        volume_id=found.volume_id,
        guest=', '.join(sorted(users)),
        reason='Cinder knows of no other attachment of this host, and would take it away; it '
        'keeps this one until no guest here has the volume',
    )


def _uuids(context: 'StorageContext', names: Collection[str]) -> frozenset[str]:
    uuids = {one.uuid for one in context.host.hypervisor.guests() if one.name in names}
    # Of guests that are gone, and left the volume on this host.
    records = context.host.journal.find()
    return frozenset(uuids | {one.domain_uuid for one in records if one.domain_name in names})


def _now(context: 'StorageContext', volume_id: str) -> typing.Any:
    return volumes.wait(context.storage, volume_id, (), seconds=0.0)
