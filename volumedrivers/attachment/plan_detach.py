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

"""What detach and forget would do."""

import typing

from volumedrivers.attachment import forget
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment import plan
from volumedrivers.attachment.detach import Detach
from volumedrivers.attachment.record import Record

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.libvirt.guest import Guest


def detach(job: Detach) -> plan.Plan:
    """Say what it would do, after it has found the disk.

    :raises VolumeDriversError
    """
    before = plan.interrupted(job.before, 'what is left of it is removed now')
    return plan.make(job, actions(job), target=job.record.target, before=before)


def actions(job: Detach) -> dict[str, tuple[str, ...]]:
    """Return what would be done in each step.

    :raises VolumeDriversError
    """
    guest, record, disk = job.guest, job.record, job.disk
    others = job.others()
    stays = 'block' in others.values()
    in_guest: tuple[str, ...] = (f'guest {guest.name} does not have the volume',)
    if disk is not None:
        in_guest = (
            f'take {guest_disks.target_of(disk)} out of guest {guest.name}, '
            + plan.when(running=guest.is_running())
            + f'; ask it {job.attempts} times and wait {job.timeout:g} s each time',
        )
    on_host: tuple[str, ...] = ()
    if stays:
        on_host = (f'leave the device to {", ".join(sorted(others))}',)
    elif job.is_here():
        on_host = job.driver.plan_disconnect(job.info, record.key, volume=job.volume)
    return {
        'look': (f'see that guest {guest.name} does not run with it',),
        'detach': in_guest,
        'decrypt': job.context.encryptor.plan_close(
            job.info, record.opened, volume=job.volume, last=not others
        ),
        'disconnect': on_host,
        'prove': ()
        if stays
        else ('look whether anything of the volume is left, and remove it once more',),
        'record': (f'remove the attachment from {job.context.journal.path}',),
    }


def forgetting(
    context: 'AttachmentContext', guest: 'Guest', record: Record, *, force: bool
) -> plan.Plan:
    """Say what forget would do: its one step is to remove the row.

    :raises StillInUse: the guest has the disk, or the host the device
    """
    if not force:
        forget.require_unused(context, guest, record)
    step = plan.PlannedStep(
        name='record',
        seconds=context.options.identify_timeout,
        locks=(),
        actions=(f'remove the attachment from {context.journal.path}; touch nothing else',),
    )
    return plan.of_record(
        context,
        record,
        'forget',
        before=plan.interrupted(record, 'that is forgotten as well'),
        on_host=forget.what_is_left(context, guest, record),
        steps=(step,),
    )
