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

"""Volumes of this host whose disks somebody else puts into the guests, such as Nova."""

import dataclasses
import typing

from oslo_log import log as logging

from volumedrivers.attachment import former_work
from volumedrivers.attachment import host_volume
from volumedrivers.attachment import recover
from volumedrivers.attachment import steps
from volumedrivers.attachment.host_volume import HostConnect
from volumedrivers.attachment.host_volume import HostDisconnect
from volumedrivers.attachment.host_volume import HostExtend
from volumedrivers.attachment.host_volume import HostGuest
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.work import volume_id_of
from volumedrivers.connection_info import ConnectionInfo

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.attachment.results import DetachResult
    from volumedrivers.host.fair_lock import Held
    from volumedrivers.libvirt.connected_volume import ConnectedVolume

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class HostVolume:
    """A volume on this host.

    :ivar path: what the guest's disk shall name; None: a network source
    """

    volume: 'ConnectedVolume'
    path: str | None


class HostManager:
    """Connect, disconnect and extend, with journal, locks and identities.

    As AttachmentManager's operations: each may be called again after any
    failure, what is interrupted is in the journal, and what cannot be known
    is an error.  Besides what is named there, each raises JournalUnusable,
    LockHeld, DeadlineExceeded, and what the driver raises.

    :ivar manager: who puts the disks into the guests, as the rows name it
    """

    def __init__(self, context: 'AttachmentContext', manager: str) -> None:
        self.context = context
        self.manager = manager

    def connect(self, connection_info: ConnectionInfo, guest: HostGuest) -> HostVolume:
        """Bring the volume to this host, or see that it is there already.

        :raises IdentityMismatch: what is there is not the recorded volume
        :raises VolumeDriversError: it is not connected, unless it was before
        """
        volume_id = volume_id_of(connection_info)
        with self.context.lock_volume(volume_id, 'attach', guest.name) as held:
            before = self._settled(self._row(connection_info, guest), held)
            job = HostConnect(
                self.context, guest, connection_info, before, held, manager=self.manager
            )
            steps.run(job, job.steps())
        return HostVolume(job.found, host_volume.path_for_guest(connection_info, job.found))

    def disconnect(
        self, connection_info: ConnectionInfo, guest: HostGuest, *, force: bool = False
    ) -> 'DetachResult':
        """Take the volume off this host, unless another guest here has it.

        What was recorded counts; of a volume that is not recorded, what the
        connection_info says, with what an earlier connect left in it.

        :param force: even if flushing fails
        :raises StillInUse: the guest itself runs and has it
        :raises IdentityMismatch: the device is another volume by now
        :raises LeftoversFound: not forced, and something is still there
        :raises Busy: a program of an operation that was interrupted still runs
        """
        row = self._row(connection_info, guest)
        volume_id = volume_id_of(connection_info) if row is None else row.volume_id
        with self.context.lock_volume(volume_id, 'detach', guest.name) as held:
            before = self._row(connection_info, guest)
            info = _of_record(before, connection_info)
            if before is not None:
                former_work.wait(self.context, before, info, force=force)
            job = HostDisconnect(self.context, guest.as_guest(), info, before, held, force=force)
            job.learn(manager=self.manager)
            job.find(None)
            return job.result(steps.run(job, job.steps()))

    def extend(self, connection_info: ConnectionInfo, guest: HostGuest, size: int) -> int:
        """Return the bytes that this host sees of a volume that has grown.

        :raises InvalidSize, ExtendVolumeFailed, ExtendVolumeNotSupported
        :raises IdentityMismatch: the device is another volume by now
        """
        row = self._row(connection_info, guest)
        volume_id = volume_id_of(connection_info) if row is None else row.volume_id
        with self.context.lock_volume(volume_id, 'extend', guest.name) as held:
            before = self._settled(self._row(connection_info, guest), held)
            info = _of_record(before, connection_info)
            job = HostExtend(self.context, guest.as_guest(), info, before, held, size=size)
            job.learn(manager=self.manager)
            steps.run(job, job.steps())
            return job.size

    def _row(self, connection_info: ConnectionInfo, guest: HostGuest) -> Record | None:
        """Return the row of a volume, which Cinder may call something else by now.

        After a migration of a volume in use Cinder keeps its id, and the new
        place was connected under the id of the copy.
        """
        volume_id = volume_id_of(connection_info)
        row = self.context.journal.get(make_key(guest.uuid, volume_id))
        if row is not None:
            return row
        for other in self.context.journal.find(domain_uuid=guest.uuid):
            if host_volume.is_same_place(other, connection_info):
                return other
        return None

    def _settled(self, row: Record | None, held: 'Held') -> Record | None:
        """Return the row, after what was interrupted is finished or undone."""
        if row is None or row.is_settled:
            return row
        action, detail = recover.finish(self.context, row, held)
        LOG.warning(
            '%s of volume %s and guest %s had stopped in step %s; it was %s first: %s',
            row.operation,
            row.volume_id,
            row.domain_name,
            row.step or 'none',
            action,
            detail,
        )
        return self.context.journal.get(row.key)


def _of_record(row: Record | None, given: ConnectionInfo) -> ConnectionInfo:
    """Return how the volume was connected; the caller's may be that of another host.

    What was made for it here, such as a secret, is called after the id it had then.
    """
    if row is None:
        return given
    if not host_volume.is_same_place(row, given):
        return ConnectionInfo.parse(row.connection_info)
    if given.volume_id == row.volume_id:
        return given
    return given.updated({'serial': row.volume_id}, {'volume_id': row.volume_id})
