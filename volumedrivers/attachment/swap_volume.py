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

"""Let a running guest go on with a copy of its volume: guest and host."""

import typing

from volumedrivers import exception
from volumedrivers.attachment import recover
from volumedrivers.attachment import steps
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.results import SwapResult
from volumedrivers.attachment.swap import Swap

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.connection_info import ConnectionInfo
    from volumedrivers.libvirt.copy_place import Progress


def swap(
    context: 'AttachmentContext',
    guest: str,
    volume_id: str,
    to: 'ConnectionInfo',
    *,
    attachment_id: str | None = None,
    bandwidth: int = 0,
    progress: 'Progress | None' = None,
) -> SwapResult:
    """Copy the volume of a running guest to another place, and let it go on there.

    The volume keeps its id, and the guest its disk.  After an error the guest
    has what it had, unless it had gone on already: then the error's notes say
    so, and recover finishes it.

    :param guest: name or UUID
    :param to: the new place, under an id of its own
    :param attachment_id: Cinder's, of the new place, for the record
    :param bandwidth: bytes a second at most; 0: no limit
    :param progress: is told the bytes that are copied, and of how many
    :raises CopyFailed, EncryptionNotSupported, IdentityMismatch
    :raises InvalidOption: the guest does not run
    :raises DeadlineExceeded: the copy does not go forward
    :raises NotRecorded, DiskNotFound, LockHeld
    """
    domain = context.hypervisor.guest(guest)
    with context.lock_volume(volume_id, 'swap', domain.name) as held:
        before = context.journal.get(make_key(domain.uuid, volume_id))
        if before is not None and not before.is_settled:
            recover.finish(context, before, held)
            before = context.journal.get(before.key)
        if before is None:
            raise exception.NotRecorded(volume=volume_id, guest=domain.name)
        job = Swap(
            context,
            domain,
            before,
            held,
            to=to,
            attachment_id=attachment_id,
            bandwidth=bandwidth,
            progress=progress,
        )
        job.find()
        return job.result(steps.run(job, job.steps()))
