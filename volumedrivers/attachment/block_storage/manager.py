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

"""Volumes of Cinder, by their name, in the guests of this host: every operation in one place.

Around what ``attachment.manager`` does with guest and host: before it Cinder
is asked, and after it Cinder is told.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import typing

from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment import steps
from volumedrivers.attachment.attach import require_place
from volumedrivers.attachment.block_storage import adopt
from volumedrivers.attachment.block_storage import audit
from volumedrivers.attachment.block_storage import extend
from volumedrivers.attachment.block_storage import image_metadata
from volumedrivers.attachment.block_storage import legacy_flow
from volumedrivers.attachment.block_storage import naming
from volumedrivers.attachment.block_storage import recover
from volumedrivers.attachment.block_storage import settle
from volumedrivers.attachment.block_storage import sharing
from volumedrivers.attachment.block_storage.attach import AttachVolume
from volumedrivers.attachment.block_storage.attach import new_row
from volumedrivers.attachment.block_storage.context import StorageContext
from volumedrivers.attachment.block_storage.detach import DetachVolume
from volumedrivers.attachment.block_storage.detach import give_back
from volumedrivers.attachment.block_storage.detach import is_in_use
from volumedrivers.attachment.block_storage.detach import is_only_in_cinder
from volumedrivers.attachment.block_storage.detach import volume_if_there
from volumedrivers.attachment.block_storage.listed import ListedAttachment
from volumedrivers.attachment.block_storage.listed import ListedVolume
from volumedrivers.attachment.block_storage.listed import ShownVolume
from volumedrivers.attachment.block_storage.listing import Listing
from volumedrivers.attachment.block_storage.planner import VolumePlanner
from volumedrivers.attachment.block_storage.refresh import RefreshVolume
from volumedrivers.attachment.block_storage.reservation import Operation
from volumedrivers.attachment.block_storage.reservation import Reservation
from volumedrivers.attachment.block_storage.reservations import Reservations
from volumedrivers.attachment.block_storage.results import VolumeAttachResult
from volumedrivers.attachment.block_storage.results import VolumeDetachResult
from volumedrivers.attachment.block_storage.results import VolumeExtendResult
from volumedrivers.attachment.block_storage.results import VolumeRefreshResult
from volumedrivers.attachment.block_storage.results import VolumeSwapResult
from volumedrivers.attachment.block_storage.swap import SwapVolume
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.attachment.results import Finding
from volumedrivers.attachment.results import Outcome
from volumedrivers.cinder import attachments
from volumedrivers.cinder import migration
from volumedrivers.cinder import volumes
from volumedrivers.host import connector_properties

if typing.TYPE_CHECKING:
    from oslo_config import cfg

    from volumedrivers.cinder.block_storage import BlockStorage
    from volumedrivers.connection_info import ConnectionInfo
    from volumedrivers.libvirt.copy_place import Progress
    from volumedrivers.libvirt.guest import Guest

LOG = logging.getLogger(__name__)


class VolumeManager:
    """What can be done with Cinder's volumes and the guests of one hypervisor.

    As with AttachmentManager every operation may be called again after any
    failure: what was begun is in the journal, and settled first.

    Besides what is named there, every operation raises CinderUnavailable,
    CinderForbidden, CinderTooOld, CinderError, LockHeld, JournalUnusable, and
    what AttachmentManager raises.  ``failure.of(error)`` says what was done
    and what is left.
    """

    def __init__(self, context: StorageContext) -> None:
        self.context = context

    @property
    def plan(self) -> VolumePlanner:
        """What the operations would do, without doing it (dry run)."""
        return VolumePlanner(self.context)

    def attach(
        self,
        guest: str,
        volume: str,
        request: DiskRequest | None = None,
        *,
        read_only: bool = False,
        legacy: bool = False,
        allow_format: bool = False,
    ) -> VolumeAttachResult:
        """Reserve the volume in Cinder, bring it into the guest, and tell Cinder.

        After an error Cinder, host and guest are as they were; where that
        could not be done, the error's notes say so, and recover goes on.

        :param guest: name or UUID
        :param volume: name or id in Cinder
        :param request: None, or one with bus '': the bus is the one that the image
            of a bootable volume asks for (hw_disk_bus), else virtio
        :param read_only: the guest cannot write to it; nor can it to one that
            Cinder has as read-only
        :param legacy: by the calls from before Cinder had attachments; only for
            a Cinder that has none: nobody but this host's journal knows then
            who reserved the volume
        :param allow_format: write the header of an encrypted volume that is blank
        :raises VolumeNotFound, VolumeNotUnique, WrongVolumeState, AlreadyAttached
        :raises Busy: the volume's state in Cinder is passing
        """
        context = self.context
        domain = context.host.hypervisor.guest(guest)
        found = volumes.find(context.storage, volume)
        if legacy:
            legacy_flow.require_possible(found, read_only=read_only)
        with context.lock(found.id, 'attach', domain.name) as held:
            before = self._settled(domain, found.id)
            self._refuse_attached(domain, found.id)
            if before is not None:
                # Neither guest nor host have it any more.
                settle.settle(context, before)
                before = None
            found = sharing.attachable(context, found)
            sharing.require_not_here(context, found, domain.uuid)
            row = new_row(context, domain, found, read_only=read_only, legacy=legacy)
            wanted = image_metadata.request_for(domain, found, request)
            require_place(domain, wanted)
            job = AttachVolume(
                context,
                domain,
                dataclasses.replace(row, wanted={'others': self._others(found)}),
                before,
                held,
                volume=found,
                request=wanted,
                allow_format=allow_format,
            )
            with job.shared:
                return job.result(steps.run(job, job.steps()))

    def detach(
        self,
        guest: str,
        volume: str,
        *,
        force: bool = False,
        attempts: int | None = None,
        timeout: float | None = None,
    ) -> VolumeDetachResult:
        """Take the volume out of the guest and off this host, and give it back to Cinder.

        Where guest and host have let go already, only Cinder is told.

        :param guest: name or UUID; by its UUID also a guest that is gone
        :param volume: volume id, target name such as vdb, or name in Cinder
        :param force: remove from the host even if flushing fails
        :param attempts: live detach attempts; default: option device_detach_attempts
        :param timeout: seconds for each; default: option device_detach_timeout
        :raises NotRecorded: neither this host nor Cinder knows of it
        :raises AttachedElsewhere: Cinder has it for another host
        :raises ServiceRoleNeeded, LeftoversFound, IdentityMismatch
        """
        context = self.context
        domain = guest_disks.look_up(context.host.hypervisor, guest)
        volume_id = self._volume_id(domain, volume)
        with context.lock(volume_id, 'detach', domain.name) as held:
            before = self._to_detach(domain, volume_id)
            if before is not None and is_only_in_cinder(context, domain, before):
                return give_back(context, domain, before, force=force)
            if before is None:
                found = volumes.find(context.storage, volume_id)
            else:
                found = volume_if_there(context, before)
            reservation, info = (before, None) if before else adopt.adopt(context, domain, found)
            job = DetachVolume(
                context,
                domain,
                reservation,
                before,
                held,
                in_use=is_in_use(found, reservation),
                volume=found,
                info=info,
                force=force,
                attempts=attempts,
                timeout=timeout,
            )
            with job.shared:
                return job.result(steps.run(job, job.steps()))

    def refresh(self, guest: str, volume: str) -> VolumeRefreshResult:
        """Let guest and host reach the volume as Cinder's back end says now.

        For portals, monitors, exports or credentials that have changed.  The
        attachment in Cinder stays the same one, and the volume is reserved all
        the time.  What cannot be changed while the guest runs is changed for
        its next start, and the result says so.

        :param guest: name or UUID
        :param volume: volume id, target name such as vdb, or name in Cinder
        :raises NotRecorded: this host does not have it
        :raises AttachmentLost, AttachedElsewhere
        :raises WrongVolumeState, Busy: it is not in use in Cinder
        :raises RefreshRefused: not while the guest runs
        :raises IdentityMismatch: Cinder's answer leads to another volume
        """
        context = self.context
        domain = context.host.hypervisor.guest(guest)
        volume_id = self._volume_id(domain, volume)
        with context.lock(volume_id, 'refresh', domain.name) as held:
            before = self._settled(domain, volume_id)
            found = volumes.find(context.storage, volume_id)
            reservation = before or adopt.adopt(context, domain, found)[0]
            job = RefreshVolume(context, domain, reservation, before, held, volume=found)
            job.require_possible()
            with job.shared:
                return job.result(steps.run(job, job.steps()))

    def extend(self, volume: str, size: int) -> VolumeExtendResult:
        """Let Cinder extend the volume, and every guest of this host that has it see that.

        Where Cinder has the size already, only the guests are looked at; where
        no guest of this host has the volume, only Cinder is asked.  Called
        again after any failure, it goes on.  Guests do not hinder each other:
        the first error is raised when all have been tried, with the others in
        its notes.

        :param volume: name or id in Cinder
        :param size: bytes that the volume is to have at least.  Cinder counts
            in GiB, so it is rounded up; the result says to what.
        :raises VolumeNotFound, VolumeNotUnique, InvalidSize
        :raises WrongVolumeState: it is neither available nor in use
        :raises Busy: its state in Cinder is passing
        :raises ExtendVolumeFailed: Cinder's back end, a host or a guest could not
        :raises ExtendVolumeNotSupported: not while it is attached
        :raises DeadlineExceeded: Cinder takes longer than option cinder_extend_timeout
        """
        return extend.extend(self.context, volume, size)

    def extended(self, event: Mapping[str, object]) -> VolumeExtendResult:
        """Let the guest see that a volume has grown; for Cinder's event volume-extended.

        Cinder sends it to the compute API, one for each guest, when a volume
        with an attachment that names an instance was extended.  Whoever stands
        there calls this on the guest's host.  Where Cinder waits to be told how
        it ended (it has the volume in state extending), it is told, also of
        a failure.

        :param event: ``{'name': 'volume-extended', 'server_uuid': ..., 'tag': ...}``:
            the guest's UUID and the volume's id
        :raises InvalidEvent: it is another one, or says too little
        :raises GuestNotFound: the guest is not on this host
        :raises VolumeNotFound: Cinder has no such volume
        :raises DiskNotFound, NotRecorded: the guest does not have the volume
        :raises ExtendVolumeFailed, ExtendVolumeNotSupported, ResizeRefused
        :raises RetryLater: and all classes below it: call again with the event
        """
        return extend.extended(self.context, event)

    def swap(
        self,
        guest: str,
        volume_id: str,
        new_volume_id: str,
        *,
        bandwidth: int = 0,
        progress: 'Progress | None' = None,
    ) -> VolumeSwapResult:
        """Let a running guest go over to the volume to which Cinder migrates its volume.

        Cinder asks the compute API for that when a volume in use is migrated,
        or retyped, to another back end (``PUT /servers/{guest}/os-volume_attachments/
        {volume_id}``).  Whoever stands there calls this on the guest's host;
        it takes as long as copying all of the volume does, while the guest
        goes on.  Then the volume has its new place under its old id, and
        Cinder is told; it is also told of a failure, after which the guest has
        the volume it had.

        :param guest: name or UUID
        :param new_volume_id: made by Cinder; gone afterwards
        :param bandwidth: bytes a second at most; 0: no limit
        :param progress: is told the bytes that are copied, and of how many
        :raises WrongVolumeState: Cinder does not wait for it
        :raises NotRecorded: this host has not attached it.  That, GuestNotFound
            and LockHeld come before anything is begun, and Cinder waits on: call
            again, or ``finish_migration``
        :raises InvalidOption: the guest does not run
        :raises EncryptionNotSupported, CopyFailed, IdentityMismatch
        :raises DeadlineExceeded: the copy does not go forward (option copy_timeout)
        """
        context = self.context
        domain = context.host.hypervisor.guest(guest)
        with context.lock(volume_id, 'migrate', domain.name) as held:
            before = self._settled(domain, volume_id)
            if before is None:
                raise exception.NotRecorded(volume=volume_id, guest=domain.name)
            job = SwapVolume(
                context,
                domain,
                before,
                held,
                new_volume_id=new_volume_id,
                bandwidth=bandwidth,
                progress=progress,
            )
            return job.result(steps.run(job, job.steps()))

    def finish_migration(self, volume_id: str, new_volume_id: str, *, error: bool = False) -> None:
        """Tell Cinder how a migration has ended that ``swap`` has no part in.

        Of a guest whose volume was moved otherwise, or was not.  Told twice it
        does no harm.

        :param error: the guest has the volume it had; Cinder deletes the new one
        :raises WrongVolumeState: it has ended otherwise
        :raises Busy: ``swap`` has begun it, and recover ends it
        """
        context = self.context
        with context.lock(volume_id, 'finish migration', 'of another host'):
            for row in context.reservations.find(volume_id=volume_id):
                if row.operation is Operation.MIGRATE:
                    raise exception.Busy(
                        what=f'volume {volume_id}',
                        reason=f'guest {row.domain_name} was going over to another and stopped '
                        f'in step {row.step}; "volumedrivers recover" ends that',
                    )
            migration.finish(context.storage, volume_id, new_volume_id, error=error)

    def recover(
        self, connection_infos: Mapping[str, 'ConnectionInfo'] | None = None
    ) -> tuple[Outcome, ...]:
        """Finish or undo what was interrupted, on this host and in Cinder, by what is true now.

        What AttachmentManager.recover does, and then Cinder gets back what no
        guest and no connection of this host backs, and is told what they have.
        Safe beside running operations, and safe to run again.  Without a
        Cinder that answers the rest is done, and said what is left.

        :param connection_infos: by volume id, where Cinder is not to be asked
            how to connect a volume again after a reboot
        """
        return recover.recover(self.context, connection_infos)

    def audit(self) -> tuple[Finding, ...]:
        """Compare journal, guests, host and Cinder, and change nothing; problems first.

        A Cinder that cannot be asked is a finding, never "all is right".

        :raises HypervisorUnavailable, HypervisorError: libvirt could not say
            what guests there are; never "nothing there" instead
        :raises JournalUnusable, HostUnreadable
        """
        return audit.audit(self.context)

    def list(self) -> tuple[ListedVolume, ...]:
        """Return the volumes of the project, and which guests of this host have them.

        What libvirt cannot say is a warning in the log.
        """
        return Listing(self.context).volumes()

    def show(self, volume: str) -> ShownVolume:
        """Return one of them, with all that Cinder and this host say of it.

        :param volume: name or id
        :raises VolumeNotFound, VolumeNotUnique
        """
        return Listing(self.context).volume(volume)

    def attachments(self, volume: str | None = None) -> tuple[ListedAttachment, ...]:
        """Return Cinder's attachments, and those that only this host's journal has.

        :param volume: name or id; None: of all volumes of the project
        :raises VolumeNotFound, VolumeNotUnique
        """
        return Listing(self.context).attachments(volume)

    def _to_detach(self, domain: 'Guest', volume_id: str) -> Reservation | None:
        """Return the row; what was interrupted needs no recovery, as all of it is to go.

        But of a migration it has to be known first which volume the guest has.
        """
        found = self.context.reservations.get(make_key(domain.uuid, volume_id))
        if found is None or found.operation is Operation.MIGRATE:
            return self._settled(domain, volume_id)
        # Another one would say that there is nothing to give back.
        settle.require_same_cinder(self.context, found)
        return found

    def _settled(self, domain: 'Guest', volume_id: str) -> Reservation | None:
        """Return the row, after what was interrupted is finished or undone."""
        context = self.context
        found = context.reservations.get(make_key(domain.uuid, volume_id))
        if found is None:
            return None
        settle.require_same_cinder(context, found)
        if found.is_settled:
            return found
        said = settle.settle(context, found)
        LOG.warning(
            '%s of volume %s and guest %s had stopped in step %s; it was %s first: %s',
            found.operation or 'detach',
            found.volume_id,
            found.domain_name,
            found.step or 'none',
            *(said or ('settled', 'nothing was left to do')),
        )
        return context.reservations.get(found.key)

    def _others(self, volume: typing.Any) -> Sequence[str]:
        """Return the attachments that the volume has, before one is made.

        :raises WrongVolumeState, Busy: it may have no other one
        """
        if volume.status == 'available':
            return []
        volumes.require(volume, sharing.attachable_states(volume))
        return [str(one.id) for one in attachments.of_volume(self.context.storage, volume.id)]

    def _refuse_attached(self, domain: 'Guest', volume_id: str) -> None:
        """Refuse to attach what guest and host have, also from somebody else."""
        disk = guest_disks.find(domain, volume_id)
        record = self.context.host.journal.get(make_key(domain.uuid, volume_id))
        if disk is None and (record is None or not record.is_settled):
            return
        raise exception.AlreadyAttached(
            guest=domain.name,
            volume_id=volume_id,
            target=guest_disks.target_of(disk) if disk else (record and record.target) or '',
        )

    def _volume_id(self, domain: 'Guest', volume: str) -> str:
        """Return the id of what the guest, the journal or Cinder calls that."""
        return naming.volume_id(self.context, domain, volume)


def make_volume_manager(
    conf: 'cfg.ConfigOpts',
    storage: 'BlockStorage',
    manager: AttachmentManager,
    *,
    connector: Callable[[], Mapping[str, typing.Any]] | None = None,
) -> VolumeManager:
    """Return the manager of Cinder's volumes on this host; opens and reads nothing yet.

    :param conf: has the options of group [volumedrivers] registered
    :param manager: of guest and host; ``attachment.manager.make_manager`` makes it
    :param connector: what Cinder is told of this host; default: its connector properties
    """
    return VolumeManager(
        StorageContext(
            storage=storage,
            attachments=manager,
            reservations=Reservations(manager.context.journal.database),
            connector=connector or (lambda: connector_properties.get_connector_properties(conf)),
        )
    )
