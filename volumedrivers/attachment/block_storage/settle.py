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
import time
import typing

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment import recover
from volumedrivers.attachment.block_storage import flows
from volumedrivers.attachment.block_storage import settle_decision
from volumedrivers.attachment.block_storage import settle_swap
from volumedrivers.attachment.block_storage import sharing
from volumedrivers.attachment.block_storage.flow import Side
from volumedrivers.attachment.block_storage.reservation import Flow
from volumedrivers.attachment.block_storage.reservation import Operation
from volumedrivers.attachment.block_storage.reservation import Reservation
from volumedrivers.attachment.block_storage.settle_decision import Do
from volumedrivers.attachment.block_storage.settle_decision import Seen
from volumedrivers.attachment.recover_decision import FINISHED
from volumedrivers.attachment.recover_decision import UNDONE
from volumedrivers.cinder import attachments
from volumedrivers.host import deadline

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.context import StorageContext
    from volumedrivers.attachment.record import Record
    from volumedrivers.libvirt.disk import Disk


def settle(
    context: 'StorageContext', found: Reservation, *, seconds: float | None = None
) -> tuple[str, str] | None:
    """Settle one row, with its lock held.

    :param seconds: how long to wait for the volume's lock; default: option lock_timeout
    :returns: what was done (finished, undone), and why; None: all is as it should be
    :raises AttachmentLost: Cinder has no attachment for what the guest has
    :raises Busy: it is too early to know what Cinder does with a request that
        it has not answered; or Cinder keeps the volume, and nothing says for whom
    :raises StillInUse: the volume is in no guest, and still on this host
    :raises CinderNotConfigured: the row is of another Cinder, or another project
    :raises VolumeDriversError: guest, host or Cinder could not say
    """
    require_same_cinder(context, found)
    record = _host_side(context, found, seconds)
    if found.operation is Operation.MIGRATE:
        return settle_swap.settle(context, found, record)
    disk = _disk(context, found)
    cinder = flows.of(context.storage, found)
    seen, attachment_id = see(context, found, here=disk is not None or record is not None)
    done = settle_decision.decide(seen)
    now = dataclasses.replace(found, attachment_id=attachment_id)
    if done is Do.NOTHING:
        return None
    if done is Do.WAIT:
        raise _too_early(context, found)
    if done is Do.REPORT:
        raise exception.AttachmentLost(
            guest=found.domain_name,
            volume_id=found.volume_id,
            attachment_id=found.attachment_id or 'of it',
            endpoint=found.endpoint,
        )
    if done is Do.COMPLETE:
        target = '' if disk is None else guest_disks.target_of(disk)
        made = cinder.complete(now, target=target)
        now = dataclasses.replace(now, attachment_id=made)
    if done in (Do.COMPLETE, Do.SETTLE):
        if seen.begun and found.operation is Operation.DETACH:
            cinder.roll_detaching(found)
        context.reservations.put(
            dataclasses.replace(now, operation=None, step='', wanted={}, problem='')
        )
        detail = f'guest {found.domain_name} has the volume'
    else:
        if done is Do.RELEASE:
            if seen.side is not Side.RESERVED:
                _require_off_host(context, now)
            cinder.release(now)
        elif found.operation is Operation.ATTACH and found.attachment_id is None:
            _require_unreserved(context, found)
        context.reservations.remove(found.key)
        detail = 'Cinder has the volume back' if done is Do.RELEASE else 'nothing was reserved'
        if done is Do.FORGET and found.operation is not Operation.ATTACH:
            detail = 'Cinder had the volume back already'
    return UNDONE if settle_decision.is_undone(seen, done) else FINISHED, detail


def see(context: 'StorageContext', found: Reservation, *, here: bool) -> tuple[Seen, str | None]:
    """Ask Cinder what it has of a row; return what there is, and the attachment's id.

    :param here: whether guest or host have the volume
    :raises VolumeDriversError: Cinder could not say
    """
    side, attachment_id = flows.of(context.storage, found).look(found)
    if side is Side.NONE:
        require_same_project(context, found)
    seen = Seen(
        operation=found.operation,
        step=found.step,
        here=here,
        side=side,
        known=found.attachment_id is not None,
        named=found.instance is not None,
        early=_is_early(context, found),
        begun=here and _is_detaching(context, found),
    )
    return seen, attachment_id


def require_same_cinder(context: 'StorageContext', found: Reservation) -> None:
    """Refuse a row of which this Cinder knows nothing.

    :raises CinderNotConfigured
    """
    endpoint = context.storage.endpoint
    if endpoint != found.endpoint:
        raise exception.CinderNotConfigured(
            reason=f'volume {found.volume_id} is of Cinder at {found.endpoint}, and the '
            f'configured one is at {endpoint}'
        )


def require_same_project(context: 'StorageContext', found: Reservation) -> None:
    """Refuse to take for gone what Cinder may not show to another project.

    :raises CinderNotConfigured
    """
    project = context.storage.project
    if None not in (project, found.project) and project != found.project:
        raise exception.CinderNotConfigured(
            reason=f'volume {found.volume_id} was attached in project {found.project}, and to '
            f'project {project} Cinder shows nothing of that'
        )


def _host_side(
    context: 'StorageContext', found: Reservation, seconds: float | None
) -> 'Record | None':
    """Return what guest and host have, after what was interrupted there is settled."""
    host = context.host
    record = host.journal.get(found.key)
    if record is None or record.is_settled:
        return record
    with host.lock_volume(found.volume_id, 'recover', found.domain_name, seconds=seconds) as held:
        record = host.journal.get(found.key)
        if record is not None and not record.is_settled:
            recover.finish(host, record, held)
    return host.journal.get(found.key)


def _disk(context: 'StorageContext', found: Reservation) -> 'Disk | None':
    guest = guest_disks.look_up(context.host.hypervisor, found.domain_uuid)
    return guest_disks.find(guest, found.volume_id)


def _is_detaching(context: 'StorageContext', found: Reservation) -> bool:
    if found.operation is not Operation.DETACH:
        return False
    try:
        volume = context.storage.ask(context.storage.proxy.get_volume, found.volume_id)
    except exception.NotInCinder:
        return False
    return bool(volume.status == 'detaching')


def _is_early(context: 'StorageContext', found: Reservation) -> bool:
    # A clock that was set back does not make it early for ever.
    return abs(time.time() - found.changed) < float(context.options.cinder_timeout)


def _too_early(context: 'StorageContext', found: Reservation) -> exception.Busy:
    left = context.options.cinder_timeout - abs(time.time() - found.changed)
    return exception.Busy(
        what=f'Cinder, with volume {found.volume_id},',
        reason=f'it may still do what it was asked for in step {found.step!r} of '
        f'{found.operation}, to which it has not answered; recover again in {left:.0f} s',
    )


def _require_unreserved(context: 'StorageContext', found: Reservation) -> None:
    """Refuse to forget a volume that Cinder keeps, and nobody can be seen for whom.

    :raises Busy: Cinder was stopped itself, between the two
    """
    storage = context.storage
    try:
        volume = storage.ask(storage.proxy.get_volume, found.volume_id)
    except exception.NotInCinder:
        return
    if volume.status != 'reserved' or attachments.of_volume(storage, found.volume_id):
        return
    raise exception.Busy(
        what=f'volume {found.volume_id}',
        reason='it is reserved in Cinder, and no attachment says for whom; an administrator runs '
        f'"openstack volume set --state available {found.volume_id}"',
    )


def _require_off_host(context: 'StorageContext', found: Reservation) -> None:
    """Refuse to give back what is still on this host, though nobody says so.

    :raises StillInUse
    """
    storage, host = context.storage, context.host
    users = host.users().of_volume(found.volume_id, found.domain_uuid)
    sharing.require_kept(context, found, users)
    if users or _saw_it_go(found) or found.flow is not Flow.ATTACHMENT:
        return
    answer = storage.ask(storage.proxy.get_attachment, found.attachment_id).connection_info
    if not answer:
        return
    try:
        volume = storage.ask(storage.proxy.get_volume, found.volume_id)
    except exception.NotInCinder:
        return
    info = attachments.connection_info(answer, volume)
    left = deadline.call(
        lambda: host.driver(info).remains(info, found.key),
        what=f'a look at what is left of volume {found.volume_id}',
        seconds=host.options.prove_timeout,
    )
    if left:
        raise exception.StillInUse(
            volume_id=found.volume_id,
            guest=found.domain_name,
            reason=f'this host has {", ".join(map(str, left))}; Cinder keeps the attachment',
        )


def _saw_it_go(found: Reservation) -> bool:
    """Tell whether the operation itself took the volume off this host, or never had it there.

    Else the row of guest and host may have been forgotten.
    """
    return found.operation is Operation.ATTACH or found.step in ('release', 'record')
