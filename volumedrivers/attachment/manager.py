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

"""The life of an attachment: every operation, with its steps, in one place.

The order is Nova's.  Attach: host, encryption, guest.  Detach: guest,
encryption, host.  Extend: host, then guest.  The steps themselves are in
``attach``, ``detach``, ``change``, ``connect_again`` and ``refresh``.
"""

from collections.abc import Mapping
import dataclasses
import os
import typing

from oslo_config import cfg
from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.attachment import audit
from volumedrivers.attachment import forget
from volumedrivers.attachment import former_work
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment import host_volume
from volumedrivers.attachment import inventory
from volumedrivers.attachment import lookup
from volumedrivers.attachment import recover
from volumedrivers.attachment import repair_all
from volumedrivers.attachment import steps
from volumedrivers.attachment.attach import Attach
from volumedrivers.attachment.change import Extend
from volumedrivers.attachment.change import SetQos
from volumedrivers.attachment.connect_again import Reconnect
from volumedrivers.attachment.connect_again import Repair
from volumedrivers.attachment.context import AttachmentContext
from volumedrivers.attachment.context import Observer
from volumedrivers.attachment.detach import require_volume
from volumedrivers.attachment.encryption import Encryptor
from volumedrivers.attachment.inventory import JournalReader
from volumedrivers.attachment.journal import Journal
from volumedrivers.attachment.keys import CastellanKeys
from volumedrivers.attachment.keys import Keys
from volumedrivers.attachment.planner import Planner
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.refresh import Refresh
from volumedrivers.attachment.results import AttachedVolume
from volumedrivers.attachment.results import AttachResult
from volumedrivers.attachment.results import ConnectResult
from volumedrivers.attachment.results import DetachResult
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.attachment.results import ExtendResult
from volumedrivers.attachment.results import Finding
from volumedrivers.attachment.results import ForgetResult
from volumedrivers.attachment.results import Outcome
from volumedrivers.attachment.results import QosResult
from volumedrivers.attachment.results import RefreshResult
from volumedrivers.attachment.results import Repaired
from volumedrivers.attachment.users import Users
from volumedrivers.attachment.volume_encryption import VolumeEncryption
from volumedrivers.attachment.work import volume_id_of
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import bootstrap
from volumedrivers.host.fair_lock import FairLocks
from volumedrivers.libvirt.context import make_context
from volumedrivers.libvirt.disk import IOTune
from volumedrivers.libvirt.registry import Registry

if typing.TYPE_CHECKING:
    from volumedrivers.host.fair_lock import Held
    from volumedrivers.libvirt.guest import Guest
    from volumedrivers.libvirt.hypervisor import Hypervisor

LOG = logging.getLogger(__name__)

JOURNAL = 'attachments.sqlite'
LOCKS = 'volumedrivers'


class AttachmentManager:
    """What can be done with the volumes of the guests of one hypervisor.

    Every operation may be called again after any failure, also after the
    process was killed: what was begun is in the journal, and is finished or
    undone first.  What libvirt cannot say is never taken for "it is not
    there": the operation stops.  Shared by threads and, through journal and
    locks, by processes.

    Besides what is named there, every operation raises GuestNotFound,
    HypervisorUnavailable, JournalUnusable, LockHeld when another one has the
    volume or its target, DeadlineExceeded when a step is late, and what the
    driver raises, all VolumeDriversError.  ``failure.of(error)`` says what was
    done and what is left.
    """

    def __init__(self, context: AttachmentContext) -> None:
        self.context = context

    @property
    def plan(self) -> Planner:
        """What the operations would do, without doing it (dry run)."""
        return Planner(self.context)

    def attach(
        self,
        connection_info: ConnectionInfo,
        guest: str,
        request: DiskRequest | None = None,
        *,
        attachment_id: str | None = None,
        encryption: VolumeEncryption | None = None,
        allow_format: bool = False,
    ) -> AttachResult:
        """Bring the volume to this host and into the guest.

        After an error the volume is neither in the guest nor on the host;
        where that could not be done, the error's notes say so, and recover
        goes on.  A disk that the guest has only in one of its definitions is
        completed, and so is that of a guest that does not run, after a reboot
        of this host.

        :param guest: name or UUID
        :param attachment_id: Cinder's, for the record
        :param encryption: what Cinder says of an encrypted volume; not needed
            where libvirt has the volume's secret already
        :param allow_format: write the header of an encrypted volume that is
            blank; its first use needs that with some back ends
        :raises AlreadyAttached: the guest runs and has the volume
        :raises LockHeld: another operation on the volume does not end
        :raises VolumeDriversError: of the driver, or of libvirt
        """
        domain = self.context.hypervisor.guest(guest)
        volume_id = volume_id_of(connection_info)
        with self.context.lock_volume(volume_id, 'attach', domain.name) as held:
            job = Attach(
                self.context,
                domain,
                connection_info,
                self._settled(domain, volume_id, held),
                held,
                request=request or DiskRequest(),
                attachment_id=attachment_id,
                encryption=encryption,
                allow_format=allow_format,
            )
            job.look()
            return job.result(steps.run(job, job.steps()))

    def detach(
        self,
        guest: str,
        volume: str | None = None,
        *,
        connection_info: ConnectionInfo | None = None,
        force: bool = False,
        attempts: int | None = None,
        timeout: float | None = None,
    ) -> DetachResult:
        """Take the volume out of the guest and off this host.

        A volume that the guest does not have is still removed from the host,
        unless another guest of this host has it.  What the journal recorded
        counts; connection_info is for a volume that was attached otherwise.

        :param guest: name or UUID; by its UUID also a guest that is gone
        :param volume: volume id or target name; may be None where
            connection_info says which
        :param force: remove from the host even if flushing fails
        :param attempts: live detach attempts; default: option
            device_detach_attempts
        :param timeout: seconds for each; default: option device_detach_timeout
        :raises NotRecorded: nothing is known of it, and no connection_info given
        :raises InvalidOption: the guest has another volume under this target
        :raises IdentityMismatch: the device is another volume by now
        :raises LeftoversFound: something is still on the host
        :raises Busy: a program of an operation that was interrupted still runs
        :raises VolumeDriversError: of the driver, or of libvirt; call again
        """
        domain = guest_disks.look_up(self.context.hypervisor, guest)
        volume_id = lookup.volume_id(self.context, domain, volume, connection_info)
        with self.context.lock_volume(volume_id, 'detach', domain.name) as held:
            # An operation that was interrupted needs no recovery: all of the
            # volume is about to go.
            before = self.context.journal.get(make_key(domain.uuid, volume_id))
            if before is not None and before.operation is Operation.SWAP:
                # Only one of the two places is the volume's.
                before = self._settled(domain, volume_id, held)
            info = lookup.connection_info(before, connection_info, domain, volume or volume_id)
            if before is not None:
                former_work.wait(self.context, before, info, force=force)
            job = host_volume.detaching(before)(
                self.context,
                domain,
                info,
                before,
                held,
                force=force,
                attempts=attempts,
                timeout=timeout,
            )
            job.find(volume)
            return job.result(steps.run(job, job.steps()))

    def extend(
        self,
        guest: str,
        volume: str | None,
        size: int,
        *,
        connection_info: ConnectionInfo | None = None,
    ) -> ExtendResult:
        """Let the host, and the guest if it runs, see that the volume has grown.

        :param size: bytes that the volume has now; a guest that does not run
            sees it at its next start
        :raises InvalidSize, ShrinkRefused, DiskNotFound, NotRecorded
        :raises ExtendVolumeFailed, ExtendVolumeNotSupported, ResizeRefused
        """
        domain = self.context.hypervisor.guest(guest)
        volume_id = lookup.volume_id(self.context, domain, volume, connection_info)
        with self.context.lock_volume(volume_id, 'extend', domain.name) as held:
            before = self._settled(domain, volume_id, held)
            info = lookup.connection_info(before, connection_info, domain, volume or volume_id)
            job = Extend(self.context, domain, info, before, held, size=size)
            job.find(volume)
            return job.result(steps.run(job, job.steps()))

    def set_qos(
        self,
        guest: str,
        volume: str | None,
        limits: IOTune,
        *,
        connection_info: ConnectionInfo | None = None,
    ) -> QosResult:
        """Limit the live disk, and that of the next start; all limits are replaced.

        :raises HypervisorError: libvirt refuses the limits
        :raises DiskNotFound, NotRecorded
        """
        domain = self.context.hypervisor.guest(guest)
        volume_id = lookup.volume_id(self.context, domain, volume, connection_info)
        with self.context.lock_volume(volume_id, 'qos', domain.name) as held:
            before = self._settled(domain, volume_id, held)
            info = lookup.connection_info(before, connection_info, domain, volume or volume_id)
            job = SetQos(self.context, domain, info, before, held, iotune=limits)
            job.find(volume)
            return job.result(steps.run(job, job.steps()))

    def reconnect(
        self, guest: str, volume: str, *, connection_info: ConnectionInfo | None = None
    ) -> ConnectResult:
        """Bring a volume to this host again, after a reboot, before the guest starts.

        :param connection_info: needed where it holds credentials
        :raises IdentityMismatch: another volume, or not under the name that the
            guest's definition has
        :raises NotRecorded, DiskNotFound
        """
        domain = self.context.hypervisor.guest(guest)
        volume_id = lookup.volume_id(self.context, domain, volume, connection_info)
        with self.context.lock_volume(volume_id, 'reconnect', domain.name) as held:
            before = self._recorded(domain, volume_id, volume, held)
            info = lookup.connection_info_to_connect(before, connection_info)
            job = Reconnect(self.context, domain, info, before, held)
            job.find()
            return job.result(steps.run(job, job.steps()))

    def repair(
        self, guest: str, volume: str, *, connection_info: ConnectionInfo | None = None
    ) -> ConnectResult:
        """Add the paths of an attached volume that were missing and are back.

        Where none is missing its identity is looked at, and nothing is done.

        :param connection_info: needed where it holds credentials
        :raises IdentityMismatch: the device is another volume by now
        :raises NotRecorded
        """
        domain = self.context.hypervisor.guest(guest)
        volume_id = lookup.volume_id(self.context, domain, volume, connection_info)
        with self.context.lock_volume(volume_id, 'repair', domain.name) as held:
            before = self._recorded(domain, volume_id, volume, held)
            info = connection_info or ConnectionInfo.parse(before.connection_info)
            job = Repair(self.context, domain, info, before, held)
            if not job.is_whole:
                lookup.connection_info_to_connect(before, connection_info)
            return job.result(steps.run(job, job.steps()))

    def refresh(
        self, guest: str, volume: str | None, connection_info: ConnectionInfo
    ) -> RefreshResult:
        """Let guest and host reach an attached volume as a new connection_info says.

        For portals, monitors, exports or credentials that have changed.  What
        cannot be changed while the guest runs is changed for its next start,
        and the result says so.  What is kept: that the volume is shared,
        read-only or encrypted, its serial, and all that the guest sees of it.

        :param volume: volume id or target name; may be None
        :param connection_info: with its credentials
        :raises RefreshRefused: not while the guest runs; nothing was changed
        :raises IdentityMismatch: it leads to another volume
        :raises InvalidOption: it is that of another volume
        :raises NotRecorded, DiskNotFound, EndpointUnreachable
        """
        domain = self.context.hypervisor.guest(guest)
        volume_id = volume_id_of(connection_info)
        with self.context.lock_volume(volume_id, 'refresh', domain.name) as held:
            before = self._recorded(domain, volume_id, volume or volume_id, held)
            job = Refresh(self.context, domain, connection_info, before, held)
            job.find(volume)
            return job.result(steps.run(job, job.steps()))

    def repair_all(
        self,
        guest: str | None = None,
        *,
        connection_infos: Mapping[str, ConnectionInfo] | None = None,
    ) -> tuple[Repaired, ...]:
        """Repair every attached volume that has fewer paths than were asked for.

        One that fails does not stop the others.

        :param guest: only those of this guest
        :param connection_infos: by volume id, for volumes whose connection
            needs credentials
        """
        infos = connection_infos or {}
        domain_uuid = None if guest is None else self.context.hypervisor.guest(guest).uuid

        def repair(record: Record) -> ConnectResult:
            return self.repair(
                record.domain_uuid,
                record.volume_id,
                connection_info=infos.get(record.volume_id),
            )

        return tuple(
            repair_all.repair(self.context, record, repair)
            for record in repair_all.lacking(self.context, domain_uuid)
        )

    def forget(self, guest: str, volume: str, *, force: bool = False) -> ForgetResult:
        """Take an attachment out of the journal; nothing else is touched.

        :param guest: name or UUID; by its UUID also a guest that is gone
        :param force: even if something of it is still there; the result says what
        :raises StillInUse: the guest has the disk, or the host the device
        :raises NotRecorded
        """
        domain = guest_disks.look_up(self.context.hypervisor, guest)
        volume_id = lookup.volume_id(self.context, domain, volume, None)
        with self.context.lock_volume(volume_id, 'forget', domain.name):
            record = self.context.journal.get(make_key(domain.uuid, volume_id))
            if record is None:
                raise exception.NotRecorded(volume=volume, guest=guest)
            return forget.forget(self.context, domain, record, force=force)

    def recover(
        self, connection_infos: Mapping[str, ConnectionInfo] | None = None
    ) -> tuple[Outcome, ...]:
        """Finish or undo what was interrupted, by what is true on this host now.

        Safe beside running operations, and safe to run again.  After a reboot
        the volumes of persistent guests are connected again.

        :param connection_infos: by volume id, for volumes whose connection
            needs credentials
        """
        infos = connection_infos or {}
        return recover.recover(self.context, lambda record: infos.get(record.volume_id))

    def audit(self) -> tuple[Finding, ...]:
        """Compare journal, guests and host, and change nothing; problems first.

        :raises HypervisorUnavailable, HypervisorError: libvirt could not say
            what guests there are; never "nothing there" instead
        :raises JournalUnusable, HostUnreadable
        """
        return audit.audit(self.context)

    def list(
        self, guest: str | None = None, *, all_disks: bool = False
    ) -> tuple[AttachedVolume, ...]:
        """Return the volumes of a guest, or of all guests.

        Those that are recorded and in no guest, too.  A journal that cannot
        be read is a warning in the log, and the state of all is unknown.

        :param guest: name or UUID; by its UUID also a guest that is gone and
            has left something
        :param all_disks: also the disks that have no volume id
        """
        return inventory.volumes(self.context, guest, all_disks=all_disks)

    def show(self, guest: str, volume: str) -> AttachedVolume:
        """Return one volume of a guest and what is behind it on this host.

        :param guest: name or UUID; by its UUID also a guest that is gone
        :param volume: volume id or target name
        :raises DiskNotFound
        """
        domain = guest_disks.look_up(self.context.hypervisor, guest)
        return inventory.volume(self.context, domain, volume)

    def _settled(self, domain: 'Guest', volume_id: str, held: 'Held') -> Record | None:
        """Return the row, after what was interrupted is finished or undone."""
        record = self.context.journal.get(make_key(domain.uuid, volume_id))
        if record is None or record.is_settled:
            return record
        action, detail = recover.finish(self.context, record, held)
        LOG.warning(
            '%s of volume %s and guest %s had stopped in step %s; it was %s first: %s',
            record.operation,
            record.volume_id,
            record.domain_name,
            record.step or 'none',
            action,
            detail,
        )
        return self.context.journal.get(record.key)

    def _recorded(self, domain: 'Guest', volume_id: str, volume: str, held: 'Held') -> Record:
        require_volume(domain, volume_id, guest_disks.find(domain, volume_id), volume)
        record = self._settled(domain, volume_id, held)
        if record is None:
            raise exception.NotRecorded(volume=volume_id, guest=domain.name)
        return record


def make_manager(
    conf: cfg.ConfigOpts,
    hypervisor: 'Hypervisor',
    *,
    keys: Keys | None = None,
    observer: Observer | None = None,
) -> AttachmentManager:
    """Return the manager of this host's attachments; opens and reads nothing yet.

    Journal and locks are where the options state_path and lock_path say;
    whoever uses the same directories works together.

    :param conf: has the options of group [volumedrivers] registered
    :param keys: where the keys of encrypted volumes come from; default: the
        key manager that castellan's options name
    :param observer: is told of each step
    """
    return AttachmentManager(make_context_of_host(conf, hypervisor, keys=keys, observer=observer))


def make_context_of_host(
    conf: cfg.ConfigOpts,
    hypervisor: 'Hypervisor',
    *,
    keys: Keys | None = None,
    observer: Observer | None = None,
    takes_over_mounts: bool = False,
) -> AttachmentContext:
    """Return what the operations of this host work with; see make_manager.

    :param takes_over_mounts: as ShareMounts says
    """
    options = conf.volumedrivers
    journal = Journal(os.path.join(options.state_path, JOURNAL))
    # Who uses a share is also asked by a dry run, which makes no journal.
    reader = typing.cast(typing.Any, JournalReader(journal))
    drivers = make_context(
        conf,
        secrets=hypervisor.secrets,
        elsewhere=Users(reader, hypervisor).of_directory,
        takes_over_mounts=takes_over_mounts,
    )
    context = AttachmentContext(
        options=options,
        registry=Registry(drivers),
        hypervisor=hypervisor,
        journal=journal,
        locks=FairLocks(lambda: os.path.join(bootstrap.lock_path(conf), LOCKS)),
        encryptor=Encryptor(conf, hypervisor, drivers.devices, keys or CastellanKeys(conf)),
    )
    if observer is not None:
        context = dataclasses.replace(context, observer=observer)
    return context
