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

"""What the manager's operations would do, without doing it.

Host, guest and storage are looked at, and nothing is changed, locked or written.
"""

from collections.abc import Mapping
import dataclasses
import typing

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment import host_volume
from volumedrivers.attachment import lookup
from volumedrivers.attachment import plan
from volumedrivers.attachment import plan_attach
from volumedrivers.attachment import plan_change
from volumedrivers.attachment import plan_connect_again
from volumedrivers.attachment import plan_detach
from volumedrivers.attachment import plan_recover
from volumedrivers.attachment import plan_refresh
from volumedrivers.attachment import recover
from volumedrivers.attachment import recover_decision
from volumedrivers.attachment import repair_all
from volumedrivers.attachment.attach import Attach
from volumedrivers.attachment.change import Extend
from volumedrivers.attachment.change import SetQos
from volumedrivers.attachment.connect_again import Reconnect
from volumedrivers.attachment.connect_again import Repair
from volumedrivers.attachment.detach import require_volume
from volumedrivers.attachment.inventory import JournalReader
from volumedrivers.attachment.plan import Plan
from volumedrivers.attachment.plan import PlannedOutcome
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.refresh import Refresh
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.attachment.work import volume_id_of
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.disk import IOTune

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.attachment.volume_encryption import VolumeEncryption
    from volumedrivers.libvirt.guest import Guest


class Planner:
    """Plans operations; each takes what the manager's operation takes.

    All raise what the operation would find out by looking, such as
    AlreadyAttached.
    """

    def __init__(self, context: 'AttachmentContext') -> None:
        # Whatever is asked of the journal here, it is neither made nor written.
        self._context = dataclasses.replace(
            context, journal=typing.cast(typing.Any, JournalReader(context.journal))
        )

    def attach(
        self,
        connection_info: ConnectionInfo,
        guest: str,
        request: DiskRequest | None = None,
        *,
        encryption: 'VolumeEncryption | None' = None,
        allow_format: bool = False,
    ) -> Plan:
        """Say what attach would do.

        :raises VolumeDriversError
        """
        context = self._context
        domain = context.hypervisor.guest(guest)
        before = context.journal.get(make_key(domain.uuid, volume_id_of(connection_info)))
        first = self._first(before)
        job = Attach(
            context,
            domain,
            connection_info,
            before,
            request=request or DiskRequest(),
            encryption=encryption,
            allow_format=allow_format,
        )
        return plan_attach.attach(job, encryption, first)

    def detach(
        self,
        guest: str,
        volume: str | None = None,
        *,
        connection_info: ConnectionInfo | None = None,
        force: bool = False,
        attempts: int | None = None,
        timeout: float | None = None,
    ) -> Plan:
        """Say what detach would do.

        :raises VolumeDriversError
        """
        domain = guest_disks.look_up(self._context.hypervisor, guest)
        info, before = self._find(domain, volume, connection_info)
        job = host_volume.detaching(before)(
            self._context,
            domain,
            info,
            before,
            force=force,
            attempts=attempts,
            timeout=timeout,
        )
        job.find(volume)
        return plan_detach.detach(job)

    def extend(
        self,
        guest: str,
        volume: str | None,
        size: int,
        *,
        connection_info: ConnectionInfo | None = None,
    ) -> Plan:
        """Say what extend would do.

        :raises VolumeDriversError
        """
        domain = self._context.hypervisor.guest(guest)
        info, before = self._find(domain, volume, connection_info)
        first = self._first(before)
        job = Extend(self._context, domain, info, before, size=size)
        job.find(volume)
        return plan_change.change(job, first)

    def set_qos(
        self,
        guest: str,
        volume: str | None,
        limits: IOTune,
        *,
        connection_info: ConnectionInfo | None = None,
    ) -> Plan:
        """Say what set_qos would do.

        :raises VolumeDriversError
        """
        domain = self._context.hypervisor.guest(guest)
        info, before = self._find(domain, volume, connection_info)
        first = self._first(before)
        job = SetQos(self._context, domain, info, before, iotune=limits)
        job.find(volume)
        return plan_change.change(job, first)

    def reconnect(
        self, guest: str, volume: str, *, connection_info: ConnectionInfo | None = None
    ) -> Plan:
        """Say what reconnect would do.

        :raises VolumeDriversError
        """
        domain = self._context.hypervisor.guest(guest)
        before = self._recorded(domain, volume, connection_info)
        first = self._first(before)
        info = lookup.connection_info_to_connect(before, connection_info)
        job = Reconnect(self._context, domain, info, before)
        job.find()
        return plan_connect_again.connect_again(job, first)

    def repair(
        self, guest: str, volume: str, *, connection_info: ConnectionInfo | None = None
    ) -> Plan:
        """Say what repair would do.

        :raises VolumeDriversError
        """
        domain = self._context.hypervisor.guest(guest)
        before = self._recorded(domain, volume, connection_info)
        first = self._first(before)
        info = connection_info or ConnectionInfo.parse(before.connection_info)
        job = Repair(self._context, domain, info, before)
        if not job.is_whole:
            lookup.connection_info_to_connect(before, connection_info)
        return plan_connect_again.connect_again(job, first)

    def refresh(self, guest: str, volume: str | None, connection_info: ConnectionInfo) -> Plan:
        """Say what refresh would do.

        :raises VolumeDriversError
        """
        domain = self._context.hypervisor.guest(guest)
        named = volume or volume_id_of(connection_info)
        before = self._recorded(domain, named, connection_info)
        first = self._first(before)
        job = Refresh(self._context, domain, connection_info, before)
        job.find(volume)
        return plan_refresh.refresh(job, first)

    def repair_all(
        self,
        guest: str | None = None,
        *,
        connection_infos: Mapping[str, ConnectionInfo] | None = None,
    ) -> tuple[Plan, ...]:
        """Say what repair_all would do, volume by volume.

        One that would fail has its ``problem``, and does not stop the others.

        :raises GuestNotFound, JournalUnusable
        """
        infos = connection_infos or {}
        context = self._context
        domain_uuid = None if guest is None else context.hypervisor.guest(guest).uuid
        plans = []
        for record in repair_all.lacking(context, domain_uuid):
            try:
                found = self.repair(
                    record.domain_uuid,
                    record.volume_id,
                    connection_info=infos.get(record.volume_id),
                )
            except Exception as error:
                problem = recover.problem_of(error, record)
                found = plan.of_record(context, record, 'repair', problem=problem)
            plans.append(found)
        return tuple(plans)

    def forget(self, guest: str, volume: str, *, force: bool = False) -> Plan:
        """Say what forget would do.

        :raises VolumeDriversError
        """
        domain = guest_disks.look_up(self._context.hypervisor, guest)
        volume_id = lookup.volume_id(self._context, domain, volume, None)
        record = self._context.journal.get(make_key(domain.uuid, volume_id))
        if record is None:
            raise exception.NotRecorded(volume=volume, guest=guest)
        return plan_detach.forgetting(self._context, domain, record, force=force)

    def recover(
        self, connection_infos: Mapping[str, ConnectionInfo] | None = None
    ) -> tuple[PlannedOutcome, ...]:
        """Say what recover would do, with each attachment and each mount.

        :raises JournalUnusable
        """
        infos = connection_infos or {}
        return plan_recover.recovering(self._context, lambda record: infos.get(record.volume_id))

    def _find(
        self, domain: 'Guest', volume: str | None, given: ConnectionInfo | None
    ) -> tuple[ConnectionInfo, Record | None]:
        """Return how the volume was connected, and its row as it is."""
        volume_id = lookup.volume_id(self._context, domain, volume, given)
        before = self._context.journal.get(make_key(domain.uuid, volume_id))
        return lookup.connection_info(before, given, domain, volume or volume_id), before

    def _recorded(self, domain: 'Guest', volume: str, given: ConnectionInfo | None) -> Record:
        volume_id = lookup.volume_id(self._context, domain, volume, given)
        require_volume(domain, volume_id, guest_disks.find(domain, volume_id), volume)
        record = self._context.journal.get(make_key(domain.uuid, volume_id))
        if record is None:
            raise exception.NotRecorded(volume=volume_id, guest=domain.name)
        return record

    def _first(self, record: Record | None) -> str | None:
        """Say what would be made of an interrupted operation, before anything else.

        :raises VolumeDriversError: neither to finish nor to undo it is right
        """
        if record is None or record.is_settled:
            return None
        decision = recover_decision.of_unfinished(self._context, record)
        return plan.interrupted(record, f'first it is {decision.action}: {decision.detail}')
