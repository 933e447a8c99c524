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

"""What operations on a volume of Cinder would do, without doing it.

Cinder, host and guest are looked at; Cinder is asked nothing that changes it.
"""

from collections.abc import Mapping
import dataclasses
import typing

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment import plan
from volumedrivers.attachment.block_storage import adopt
from volumedrivers.attachment.block_storage import extend
from volumedrivers.attachment.block_storage import image_metadata
from volumedrivers.attachment.block_storage import legacy_flow
from volumedrivers.attachment.block_storage import naming
from volumedrivers.attachment.block_storage import plan_recover
from volumedrivers.attachment.block_storage import settle
from volumedrivers.attachment.block_storage import sharing
from volumedrivers.attachment.block_storage import users
from volumedrivers.attachment.block_storage.attach import AttachVolume
from volumedrivers.attachment.block_storage.attach import new_row
from volumedrivers.attachment.block_storage.detach import DetachVolume
from volumedrivers.attachment.block_storage.detach import is_in_use
from volumedrivers.attachment.block_storage.detach import is_only_in_cinder
from volumedrivers.attachment.block_storage.detach import volume_if_there
from volumedrivers.attachment.block_storage.reader import only_look
from volumedrivers.attachment.block_storage.reservation import Flow
from volumedrivers.attachment.block_storage.reservation import Reservation
from volumedrivers.attachment.plan import Plan
from volumedrivers.attachment.plan import PlannedOutcome
from volumedrivers.attachment.plan import PlannedStep
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.cinder import extension
from volumedrivers.cinder import volumes
from volumedrivers.sizes import check_size

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.context import StorageContext
    from volumedrivers.connection_info import ConnectionInfo
    from volumedrivers.libvirt.guest import Guest

_AS_CINDER_SAYS = 'as Cinder says when it has exported the volume, which it does only then'


@dataclasses.dataclass(frozen=True, kw_only=True)
class VolumePlan(Plan):
    """What an operation on a volume of Cinder would do; extending it: in all guests.

    :ivar status: of the volume in Cinder now; deleted: it is not there any more
    :ivar attachment_id: Cinder's; None: there is none yet
    """

    volume_name: str
    status: str
    attachment_id: str | None


class VolumePlanner:
    """Plans operations; each takes what the manager's operation takes.

    All raise what the operation would find out by looking, such as
    AlreadyAttached and WrongVolumeState.
    """

    def __init__(self, context: 'StorageContext') -> None:
        self._context = only_look(context)

    def attach(
        self,
        guest: str,
        volume: str,
        request: DiskRequest | None = None,
        *,
        read_only: bool = False,
        legacy: bool = False,
        allow_format: bool = False,
    ) -> VolumePlan:
        """Say what attach would do.

        How the volume is connected Cinder says when it exports it, so of the
        steps on the host only the names are known.

        :raises VolumeDriversError
        """
        context = self._context
        domain = context.host.hypervisor.guest(guest)
        found = volumes.find(context.storage, volume)
        if legacy:
            legacy_flow.require_possible(found, read_only=read_only)
        request = image_metadata.request_for(domain, found, request)
        before = context.reservations.get(make_key(domain.uuid, found.id))
        disk = guest_disks.find(domain, found.id)
        if disk is not None and (before is None or before.is_settled):
            raise exception.AlreadyAttached(
                guest=domain.name, volume_id=found.id, target=guest_disks.target_of(disk)
            )
        if before is None:
            volumes.require(found, sharing.attachable_states(found))
        sharing.require_not_here(context, found, domain.uuid)
        reservation = new_row(context, domain, found, read_only=read_only, legacy=legacy)
        job = AttachVolume(
            context,
            domain,
            reservation,
            before,
            volume=found,
            request=request,
            allow_format=allow_format,
        )
        target = self._target(domain, request)
        actions = _legacy_attach(job) if legacy else _attach(job)
        steps = _steps(job, actions, self._on_host(job, target))
        return self._plan(job, found, steps, target=target)

    def detach(
        self,
        guest: str,
        volume: str,
        *,
        force: bool = False,
        attempts: int | None = None,
        timeout: float | None = None,
    ) -> VolumePlan:
        """Say what detach would do.

        :raises VolumeDriversError
        """
        context = self._context
        domain = guest_disks.look_up(context.host.hypervisor, guest)
        volume_id = naming.volume_id(context, domain, volume)
        before = context.reservations.get(make_key(domain.uuid, volume_id))
        if before is None:
            found = volumes.find(context.storage, volume_id)
            reservation, info = adopt.adopt(context, domain, found)
        else:
            settle.require_same_cinder(context, before)
            found = volume_if_there(context, before)
            reservation, info = before, None
        in_use = is_in_use(found, reservation)
        job = DetachVolume(context, domain, reservation, before, in_use=in_use, force=force)
        here = None
        if before is None or not is_only_in_cinder(context, domain, before):
            here = context.attachments.plan.detach(
                domain.uuid,
                volume_id,
                connection_info=info,
                force=force,
                attempts=attempts,
                timeout=timeout,
            )
        name = f'attachment {reservation.attachment_id}'
        if reservation.flow is Flow.LEGACY:
            name = f'what attached it by the legacy calls ({name})'
        actions = {
            'begin': f'tell Cinder that volume {_called(reservation)} is being detached, so that '
            'nobody else does it',
            'release': f'delete {name} in Cinder, which takes the export away; only when nothing '
            'of the volume is on this host any more',
            'record': f'remove the reservation from {context.host.journal.path}',
        }
        if here is None:  # guest and host have let go before
            only = tuple(step for step in _steps(job, actions, ()) if step.name != 'begin')
            return self._plan(job, found, only)
        return self._plan(job, found, _steps(job, actions, here.steps), here=here)

    def extend(self, volume: str, size: int) -> VolumePlan:
        """Say what extend would do in Cinder, and in each guest of this host that has it.

        :raises VolumeDriversError
        """
        context = self._context
        check_size(size, f'volume {volume}')
        wanted = extension.gibibytes(size)
        found = volumes.find(context.storage, volume)
        action = f'nothing: Cinder has it with {found.size} GiB'
        if found.size < wanted:
            if found.status not in (extension.EXTENDING, extension.FAILED):
                volumes.require(found, extension.READY)
            action = f'let Cinder extend it from {found.size} to {wanted} GiB, and wait for that'
        seconds = context.options.cinder_extend_timeout
        steps = [PlannedStep(name='cinder', seconds=seconds, locks=(), actions=(action,))]
        guests: list[Plan] = []
        for guest in users.find(context, found).here:
            try:
                here = context.attachments.plan.extend(
                    guest.uuid, found.id, wanted * extension.GIB, connection_info=guest.info
                )
            except extend.WITHOUT:
                continue
            guests.append(here)
            steps += [
                dataclasses.replace(step, name=f'{step.name} of guest {here.guest}')
                for step in here.steps
            ]
        volume_lock = context.host.volume_lock(found.id)
        holder = context.locks.holder(f'reservation {found.id}')
        return VolumePlan(
            operation=extend.OPERATION,
            guest=', '.join(here.guest for here in guests),
            guest_uuid='',
            volume_id=found.id,
            volume_name=found.name or '',
            status=found.status,
            attachment_id=None,
            driver_volume_type='',
            target=None,
            lock=f'reservation {found.id}, then {volume_lock}',
            locked_by=str(holder) if holder else plan.locked_by(context.host, found.id),
            before=None,
            recorded=tuple(dict.fromkeys(fact for here in guests for fact in here.recorded)),
            on_host=tuple(dict.fromkeys(fact for here in guests for fact in here.on_host)),
            used_by=(),
            steps=tuple(steps),
            xml=None,
        )

    def recover(
        self, connection_infos: 'Mapping[str, ConnectionInfo] | None' = None
    ) -> tuple[PlannedOutcome, ...]:
        """Say what recover would do, with guests, host and Cinder.

        :raises JournalUnusable
        """
        return plan_recover.recovering(self._context, connection_infos)

    def _target(self, domain: 'Guest', request: DiskRequest) -> str:
        if request.target:
            return request.target
        others = self._context.host.journal.find(domain_uuid=domain.uuid)
        return domain.names().free_target(
            request.bus,
            prefix=self._context.options.disk_prefix or None,
            taken={other.target for other in others if other.target},
        )

    def _on_host(self, job: AttachVolume, target: str) -> tuple[PlannedStep, ...]:
        """Return the steps of guest and host, which Cinder's answer will say more of."""
        options = self._context.options
        steps = {
            'connect': (options.connect_timeout, f'connect it to this host, {_AS_CINDER_SAYS}'),
            'identify': (
                options.identify_timeout,
                'read what it is, and refuse it if that is recorded as another volume',
            ),
            'encrypt': (options.encrypt_timeout, 'ask the key manager for its key, and open it'),
            'attach': (
                options.guest_attach_timeout,
                f'give guest {job.guest.name} a disk {target} on bus {job.request.bus}, '
                + plan.when(running=job.guest.is_running()),
            ),
        }
        if not job.volume.is_encrypted:
            del steps['encrypt']
        return tuple(
            PlannedStep(name=name, seconds=seconds, locks=(), actions=(action,))
            for name, (seconds, action) in steps.items()
        )

    def _plan(
        self,
        job: AttachVolume | DetachVolume,
        volume: typing.Any,
        steps: tuple[PlannedStep, ...],
        *,
        target: str | None = None,
        here: Plan | None = None,
    ) -> VolumePlan:
        context, found = self._context, job.reservation
        volume_lock = context.host.volume_lock(found.volume_id)
        own = f'reservation {found.volume_id}'
        holder = context.locks.holder(own)
        in_cinder = f'{found.attachment_id} at {found.endpoint}' if found.attachment_id else ''
        return VolumePlan(
            operation=str(job.operation),
            guest=job.guest.name,
            guest_uuid=job.guest.uuid,
            volume_id=found.volume_id,
            volume_name=found.volume_name,
            status='deleted' if volume is None else str(volume.status),
            attachment_id=found.attachment_id,
            driver_volume_type=here.driver_volume_type if here else '',
            target=here.target if here else target,
            lock=f'{own}, then {volume_lock}',
            locked_by=str(holder) if holder else plan.locked_by(context.host, found.volume_id),
            before=_interrupted(job.before) or (here.before if here else None),
            recorded=(
                *((f'attachment {in_cinder}',) if in_cinder else ()),
                *(here.recorded if here else ()),
            ),
            on_host=here.on_host if here else (),
            used_by=here.used_by if here else (),
            steps=steps,
            xml=here.xml if here else None,
        )


def _steps(
    job: AttachVolume | DetachVolume, actions: Mapping[str, str], here: tuple[PlannedStep, ...]
) -> tuple[PlannedStep, ...]:
    """Return the steps that would be run; the nested one is those of the host."""
    steps: list[PlannedStep] = []
    for step in job.steps():
        if not step.needed:
            continue
        if step.nested:
            steps += here
            continue
        steps.append(
            PlannedStep(
                name=step.name,
                seconds=step.seconds,
                locks=step.locks,
                actions=(actions[step.name],),
            )
        )
    return tuple(steps)


def _attach(job: AttachVolume) -> dict[str, str]:
    found = job.reservation
    instance = f' for instance {found.instance}' if found.instance else ''
    return {
        'reserve': f'create an attachment of volume {_called(found)} in Cinder{instance}, '
        f'mode {found.mode}; from then on nobody else gets it',
        'export': f'tell Cinder that this host is {found.host} and what connects it; it exports '
        'the volume and says how to connect it',
        'complete': 'tell Cinder that the volume is attached',
        'record': f'write to {job.context.host.journal.path} that Cinder knows',
    }


def _legacy_attach(job: AttachVolume) -> dict[str, str]:
    found = job.reservation
    return {
        'reserve': f'reserve volume {_called(found)} in Cinder (os-reserve)',
        'export': f'let Cinder export it to host {found.host}, and say how to connect it '
        '(os-initialize_connection)',
        'complete': 'tell Cinder that the volume is attached (os-attach)',
        'record': f'write to {job.context.host.journal.path} that Cinder knows',
    }


def _called(found: Reservation) -> str:
    return found.volume_name or found.volume_id


def _interrupted(before: Reservation | None) -> str | None:
    if before is None or before.is_settled:
        return None
    problem = f' ({before.problem})' if before.problem else ''
    return (
        f'{before.operation} began and stopped in step {before.step or "none"}{problem}; first it '
        'is finished or undone, by what guest and host have'
    )
