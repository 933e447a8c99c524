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

"""Finish or undo a migration that was interrupted, by what guest and host have."""

import dataclasses
import typing

from volumedrivers import exception
from volumedrivers.attachment.block_storage import swap
from volumedrivers.attachment.block_storage.attachment_flow import AttachmentFlow
from volumedrivers.attachment.recover_decision import FINISHED
from volumedrivers.attachment.recover_decision import UNDONE
from volumedrivers.cinder import attachments

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.context import StorageContext
    from volumedrivers.attachment.block_storage.reservation import Reservation
    from volumedrivers.attachment.record import Record

# Before these began the guest has not gone over, and after them it has.
_BEFORE = frozenset(('', 'accept', 'reserve', 'export', 'undo reserve', 'undo accept'))
_AFTER = frozenset(('complete', 'release', 'finish', 'record'))


def settle(
    context: 'StorageContext', found: 'Reservation', record: 'Record | None'
) -> tuple[str, str]:
    """Settle a row of a migration; guest and host are recovered already.

    :param record: of guest and host
    :returns: what was done (finished, undone), and why
    :raises StillInUse: which of the two volumes the guest had last is not known
    """
    moved = swap.has_moved(record, found)
    if moved is None and record is None:
        # Detached since: what the guest had last, the step tells.
        moved = True if found.step in _AFTER else False if found.step in _BEFORE else None
    if moved is None:
        raise exception.StillInUse(
            volume_id=found.volume_id,
            guest=found.domain_name,
            reason=f'whether its data is there or in volume {found.wanted["new"]["volume_id"]}, '
            'to which Cinder was migrating it, a person has to find out',
        )
    found = _with_attachment(context, found)
    if moved:
        if swap.of_new(found).attachment_id is not None:
            swap.complete_new(context, found, record)
        swap.release_old(context, found, record)
        swap.tell_cinder(context, found, error=False)
        swap.settled_as_new(context, found)
        return FINISHED, f'guest {found.domain_name} has gone over to the new volume'
    AttachmentFlow(context.storage).release(swap.of_new(found))
    swap.tell_cinder(context, found, error=True)
    context.reservations.put(
        dataclasses.replace(found, operation=None, step='', wanted={}, problem='')
    )
    return UNDONE, f'guest {found.domain_name} has the volume it had'


def _with_attachment(context: 'StorageContext', found: 'Reservation') -> 'Reservation':
    """Find out what the new volume's attachment is called, where the answer was lost."""
    new = found.wanted['new']
    if new.get('attachment_id') is not None:
        return found
    for one in attachments.of_volume(context.storage, new['volume_id'], instance=found.instance):
        if one.instance == found.instance:
            wanted = {**found.wanted, 'new': {**new, 'attachment_id': str(one.id)}}
            return dataclasses.replace(found, wanted=wanted)
    return found
