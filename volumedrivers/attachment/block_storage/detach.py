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

import typing

from volumedrivers import exception
from volumedrivers.attachment.block_storage import sharing
from volumedrivers.attachment.block_storage.reservation import Operation
from volumedrivers.attachment.block_storage.reservation import Reservation
from volumedrivers.attachment.block_storage.results import VolumeDetachResult
from volumedrivers.attachment.block_storage.work import StorageWork
from volumedrivers.attachment.results import DetachResult
from volumedrivers.attachment.steps import Step

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.context import StorageContext
    from volumedrivers.connection_info import ConnectionInfo
    from volumedrivers.host.fair_lock import Held
    from volumedrivers.libvirt.guest import Guest


class DetachVolume(StorageWork):
    """Cinder lets nobody else in; guest and host let go; Cinder takes it back.

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
        info: 'ConnectionInfo | None' = None,
        force: bool = False,
        attempts: int | None = None,
        timeout: float | None = None,
    ) -> None:
        super().__init__(context, guest, reservation, before, held)
        self.in_use = in_use
        self.info = info
        self.force = force
        self.attempts = attempts
        self.timeout = timeout
        self.detached: DetachResult | None = None
        self.learn(wanted={'force': force})

    def steps(self) -> tuple[Step, ...]:
        """Return the steps in their order."""
        seconds = self.context.request_timeout
        return (
            Step('begin', self.begin, self.roll, seconds, needed=self.in_use),
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

    def roll(self) -> None:
        """Let it be in use again, unless guest and host have let go."""
        if self.detached is None:
            self.flow.roll_detaching(self.reservation)

    def detach(self) -> None:
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

    def release(self) -> None:
        self.flow.release(self.reservation)

    def after_failure(self, problem: str, step: str, *, undone: bool) -> None:
        """Keep the row; it is as before while this host has the volume."""
        if step == 'record' and self.context.reservations.get(self.key) is None:
            return  # interrupted when all was done
        if not undone or step == 'release' or self.on_host is None:
            self.note(problem=problem)
        elif self.before is None:
            self.forget()
        else:
            self.settle(problem=f'{self.operation}: {problem}')

    def result(self, seconds: dict[str, float]) -> VolumeDetachResult:
        """Say what was done."""
        assert self.detached is not None  # noqa: S101
        inner = self.detached.seconds
        begin = {'begin': seconds['begin']} if 'begin' in seconds else {}
        return VolumeDetachResult.of(
            self.detached,
            volume_name=self.reservation.volume_name,
            attachment_id=self.reservation.attachment_id,
            seconds={
                **begin,
                **{name: inner[name] for name in inner if name != 'record'},
                'release': seconds['release'],
                'record': round(seconds['record'] + inner.get('record', 0.0), 3),
            },
        )

    def _roll_back(self, error: exception.CinderUnavailable) -> None:
        try:
            self.roll()
        except exception.VolumeDriversError as failure:
            error.add_note(
                f'whether the volume is detaching in Cinder is not known: {failure}; '
                '"volumedrivers recover" sees to it'
            )
