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

"""Bring Cinder's side of an attachment to what guest and host have.

Guest and host are recovered first: what they have then, Cinder is to have, too.
"""

import dataclasses
import typing

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment import recover
from volumedrivers.attachment.block_storage import flow
from volumedrivers.attachment.block_storage.flow import Side
from volumedrivers.attachment.block_storage.reservation import Operation
from volumedrivers.attachment.block_storage.reservation import Reservation
from volumedrivers.attachment.recover_decision import FINISHED
from volumedrivers.attachment.recover_decision import UNDONE

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.context import StorageContext
    from volumedrivers.attachment.record import Record


def settle(context: 'StorageContext', found: Reservation) -> tuple[str, str] | None:
    """Settle one row, with its lock held.

    :returns: what was done (finished, undone), and why; None: all is as it should be
    :raises AttachmentLost: Cinder has no attachment for what the guest has
    :raises Busy: it is too early to know whether Cinder has reserved it
    :raises CinderNotConfigured: the row is of another Cinder
    :raises VolumeDriversError: guest, host or Cinder could not say
    """
    _require_same_cinder(context, found)
    record = _host_side(context, found)
    guest = guest_disks.look_up(context.host.hypervisor, found.domain_uuid)
    disk = guest_disks.find(guest, found.volume_id)
    cinder = flow.of(context.storage, found)
    side, attachment_id = cinder.look(found)
    if disk is None and record is None:
        return _take_back(context, found, cinder, side)
    if side is Side.NONE:
        raise exception.AttachmentLost(
            guest=found.domain_name,
            volume_id=found.volume_id,
            attachment_id=found.attachment_id or 'of it',
            endpoint=found.endpoint,
        )
    target = '' if disk is None else guest_disks.target_of(disk)
    if side is not Side.ATTACHED:
        cinder.complete(dataclasses.replace(found, attachment_id=attachment_id), target=target)
    elif found.is_settled:
        return None
    if found.operation is Operation.DETACH:
        cinder.roll_detaching(found)
    context.reservations.put(
        dataclasses.replace(
            found, attachment_id=attachment_id, operation=None, step='', wanted={}, problem=''
        )
    )
    undone = found.operation is Operation.DETACH
    return UNDONE if undone else FINISHED, f'guest {found.domain_name} has the volume'


def _take_back(
    context: 'StorageContext', found: Reservation, cinder: flow.StorageFlow, side: Side
) -> tuple[str, str]:
    cinder.release(found)
    context.reservations.remove(found.key)
    what = 'nothing was reserved' if side is Side.NONE else 'Cinder has the volume back'
    return UNDONE if found.operation is Operation.ATTACH else FINISHED, what


def _host_side(context: 'StorageContext', found: Reservation) -> 'Record | None':
    """Return what guest and host have, after what was interrupted there is settled."""
    host = context.host
    record = host.journal.get(found.key)
    if record is None or record.is_settled:
        return record
    with host.lock_volume(found.volume_id, 'recover', found.domain_name) as held:
        record = host.journal.get(found.key)
        if record is not None and not record.is_settled:
            recover.finish(host, record, held)
    return host.journal.get(found.key)


def _require_same_cinder(context: 'StorageContext', found: Reservation) -> None:
    endpoint = context.storage.endpoint
    if endpoint != found.endpoint:
        raise exception.CinderNotConfigured(
            reason=f'volume {found.volume_id} is of Cinder at {found.endpoint}, and the '
            f'configured one is at {endpoint}'
        )
