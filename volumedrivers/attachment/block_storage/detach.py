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

"""The steps of detaching a volume of Cinder."""

import contextlib
import time
import typing

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment.block_storage import settle
from volumedrivers.attachment.block_storage import sharing
from volumedrivers.attachment.block_storage.reservation import Operation
from volumedrivers.attachment.block_storage.reservation import Reservation
from volumedrivers.attachment.block_storage.results import VolumeDetachResult
from volumedrivers.attachment.block_storage.results import with_inner
from volumedrivers.attachment.block_storage.shared_target import SharedTarget
from volumedrivers.attachment.block_storage.work import StorageWork
from volumedrivers.attachment.results import DetachResult
from volumedrivers.attachment.results import paths_of
from volumedrivers.attachment.steps import Step
from volumedrivers.cinder import volumes

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.context import StorageContext
    from volumedrivers.connection_info import ConnectionInfo
    from volumedrivers.host.fair_lock import Held
    from volumedrivers.libvirt.guest import Guest


class DetachVolume(StorageWork):
    """Cinder lets nobody else in; guest and host let go; Cinder takes it back.

    :ivar in_use: whether Cinder says so of the volume, as ``is_in_use``
    :ivar shared: keeps volumes that share a target from each other
    :ivar info: of a volume that was attached otherwise; None: the journal has it
    """

    operation = Operation.DETACH

    def __init__(
        self,
        context: 'StorageContext',
        guest: 'Guest',
        reservation: Reservation,
        before: Reservation | None,
        held: 'Held | None' = None,
        *,
        in_use: bool,
        volume: typing.Any = None,
        info: 'ConnectionInfo | None' = None,
        force: bool = False,
        attempts: int | None = None,
        timeout: float | None = None,
    ) -> None:
        super().__init__(context, guest, reservation, before, held)
        self.in_use = in_use
        self.shared = SharedTarget(context, volume, self.what)
        self.info = info
        self.force = force
        self.attempts = attempts
        self.timeout = timeout
        self.detached: DetachResult | None = None
        self.is_off_host = False
        self.is_released = False
        self.uncertain = False  # whether Cinder has begun
        self.learn(wanted={'force': force})

    def steps(self) -> tuple[Step, ...]:
        """Return the steps in their order."""
        seconds = self.context.request_timeout
        return (
            Step(
                'begin',
                self.begin,
                self.roll,
                seconds,
                needed=self.in_use,
                stays=lambda: self.is_off_host,
                leaves='the volume as detaching in Cinder',
            ),
            Step('detach', self.detach, nested=True),
            Step('release', self.release, seconds=seconds),
            Step('record', self.forget, records=True),
        )

    def begin(self) -> None:
        try:
            sharing.begin_detaching(self.context, self.flow, self.reservation)
        except exception.CinderUnavailable as error:
            if error.may_be_done:
                self._roll_back(error)
            raise
        except exception.NotInCinder:
            pass  # deleted a moment ago; it has to go all the same

    def roll(self) -> None:
        """Let it be in use again."""
        with contextlib.suppress(exception.NotInCinder):
            self.flow.roll_detaching(self.reservation)

    def detach(self) -> None:
        self.shared.hold()
        self.detached = self.context.attachments.detach(
            self.guest.uuid,
            self.reservation.volume_id,
            connection_info=self.info,
            force=self.force,
            attempts=self.attempts,
            timeout=self.timeout,
        )
        if self.on_host is not None:
            # Forced, and not all of it would go: its LUN is not to be given away.
            raise exception.LeftoversFound(
                volume_id=self.reservation.volume_id,
                leftovers=', '.join(self.detached.leftovers) or 'a row of the journal',
            )
        self.is_off_host = True

    def release(self) -> None:
        assert self.detached is not None  # noqa: S101
        sharing.require_kept(self.context, self.reservation, self.detached.still_used_by)
        self.flow.release(self.reservation)
        self.is_released = True
        self.shared.drop()

    def after_failure(self, problem: str, step: str, *, undone: bool) -> None:
        """Keep the row; it is as before while guest or host have the volume."""
        if step == 'record' and self.context.reservations.get(self.key) is None:
            return  # interrupted when all was done
        if self.is_off_host or not undone or self.uncertain or not self._is_here():
            self.note(problem=problem)
        elif self.before is None:
            self.forget()
        elif self.before.is_settled:
            self.settle(problem=f'{self.operation}: {problem}')
        else:
            self.note(problem=problem)

    def facts(self, left: tuple[str, ...]) -> dict[str, typing.Any]:
        """Return what a Failure says of the volume.

        :param left: what could not be undone
        """
        if self.is_released:
            left = ()
        elif self.is_off_host:
            left = (f'attachment {self.reservation.attachment_id} in Cinder',)
        return super().facts(left)

    def result(self, seconds: dict[str, float]) -> VolumeDetachResult:
        """Say what was done."""
        assert self.detached is not None  # noqa: S101
        return VolumeDetachResult.of(
            self.detached,
            volume_name=self.reservation.volume_name,
            attachment_id=self.reservation.attachment_id,
            seconds=with_inner(seconds, 'detach', self.detached.seconds),
        )

    def _is_here(self) -> bool:
        if self.on_host is not None:
            return True
        try:
            return self.disk is not None
        except exception.VolumeDriversError:
            return False  # not known: recover finds it out

    def _roll_back(self, error: exception.CinderUnavailable) -> None:
        volume_id = self.reservation.volume_id
        storage = self.context.storage
        try:
            begun = storage.ask(storage.proxy.get_volume, volume_id).status == 'detaching'
            self.roll()
        except exception.VolumeDriversError as failure:
            self.uncertain = True
            error.add_note(
                f'whether the volume is detaching in Cinder is not known: {failure}; '
                '"volumedrivers recover" sees to it'
            )
            return
        # One that has not answered may still be at it.
        self.uncertain = not begun and not error.answered
        if self.uncertain:
            error.add_note(
                'Cinder may still be about to let the volume be detaching; '
                '"volumedrivers recover" takes that back'
            )


def volume_if_there(context: 'StorageContext', found: Reservation) -> typing.Any:
    """Return the SDK's Volume; None: Cinder has deleted it, and it has to go all the same.

    :raises CinderNotConfigured: it may only not be shown to this project
    """
    try:
        return volumes.get(context.storage, found.volume_id)
    except exception.NotInCinder:
        settle.require_same_project(context, found)
        return None


def is_in_use(volume: typing.Any, found: Reservation) -> bool:
    """Tell whether Cinder has a volume as in use, and has it so for this attachment.

    Where Cinder has lost it, another one is not to become detaching.

    :param volume: the SDK's; None: Cinder has deleted it
    """
    if volume is None or volume.status != 'in-use':
        return False
    known = [one.get('attachment_id') for one in volume.attachments or ()]
    return not known or found.attachment_id is None or found.attachment_id in known


def is_only_in_cinder(context: 'StorageContext', guest: 'Guest', found: Reservation) -> bool:
    """Tell whether neither host nor guest have the volume of a row (any more)."""
    record = context.host.journal.get(found.key)
    return record is None and guest_disks.find(guest, found.volume_id) is None


def give_back(
    context: 'StorageContext', guest: 'Guest', found: Reservation, *, force: bool
) -> VolumeDetachResult:
    """Give Cinder back what is in no guest and not on this host any more.

    After a detach of guest and host alone, or one that Cinder did not answer.

    :raises VolumeDriversError: as settle
    """
    users = context.host.users().of_volume(found.volume_id, found.domain_uuid)
    started = time.monotonic()
    _, done = settle.settle(context, found) or ('', 'nothing was left to do')
    return VolumeDetachResult(
        guest=guest.name,
        guest_uuid=guest.uuid,
        volume_id=found.volume_id,
        volume_name=found.volume_name,
        attachment_id=found.attachment_id,
        settled=done,
        driver_volume_type='',
        target=None,
        removed_from_guest=False,
        still_used_by=tuple(sorted(users)),
        forced=force,
        leftovers=(),
        seconds={'release': round(time.monotonic() - started, 3)},
        **paths_of(None),
    )
