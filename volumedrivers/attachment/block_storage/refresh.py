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

"""The steps by which Cinder gives a new connection_info for what a guest has.

Cinder is asked again for the same attachment: it exists all the time, and with
it the reservation, the instance, the mode and what is shared.  The volume is
``attaching`` for a moment, and never ``available``.  A second attachment of
the same instance would not do: its end takes the export of many back ends from
the one that stays.
"""

import typing

from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.attachment.block_storage.flow import Side
from volumedrivers.attachment.block_storage.reservation import Operation
from volumedrivers.attachment.block_storage.reservation import Reservation
from volumedrivers.attachment.block_storage.results import VolumeRefreshResult
from volumedrivers.attachment.block_storage.results import with_inner
from volumedrivers.attachment.block_storage.shared_target import SharedTarget
from volumedrivers.attachment.block_storage.work import StorageWork
from volumedrivers.attachment.results import RefreshResult
from volumedrivers.attachment.steps import Step
from volumedrivers.cinder import volumes
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt import disk_of_volume
from volumedrivers.libvirt.disk import IOTune

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.context import StorageContext
    from volumedrivers.attachment.record import Record
    from volumedrivers.connection_info import ConnectionInfo
    from volumedrivers.host.fair_lock import Held
    from volumedrivers.libvirt.guest import Guest

LOG = logging.getLogger(__name__)

# What Cinder's administrators see of a volume that is not being moved.
_AT_REST = (None, '', 'none', 'success', 'error')


class RefreshVolume(StorageWork):
    """Cinder exports it again; guest and host follow."""

    operation = Operation.REFRESH

    def __init__(
        self,
        context: 'StorageContext',
        guest: 'Guest',
        reservation: Reservation,
        before: Reservation | None,
        held: 'Held | None' = None,
        *,
        volume: typing.Any,
    ) -> None:
        super().__init__(context, guest, reservation, before, held)
        self.volume = volume
        self.info: ConnectionInfo | None = None
        self.refreshed: RefreshResult | None = None
        self.shared = SharedTarget(context, volume, self.what)
        self.learn(wanted={})

    def steps(self) -> tuple[Step, ...]:
        """Return the steps in their order."""
        seconds = self.context.request_timeout
        return (
            Step(
                'export',
                self.export,
                self.complete,
                seconds + self.shared.patience,
                leaves='the volume as attaching in Cinder',
            ),
            Step('complete', self.complete, seconds=seconds),
            Step('refresh', self.refresh, nested=True),
            Step('record', self.settle_refreshed, records=True),
        )

    def require_possible(self) -> 'Record':
        """Refuse what is not attached, here and in Cinder, or is in passing.

        :raises NotRecorded, AttachmentLost, Busy, WrongVolumeState
        """
        record = self.on_host
        if record is None:
            raise exception.NotRecorded(volume=self.reservation.volume_id, guest=self.guest.name)
        if self.flow.look(self.reservation)[0] in (Side.NONE, Side.RESERVED):
            raise exception.AttachmentLost(
                guest=self.guest.name,
                volume_id=self.reservation.volume_id,
                attachment_id=self.reservation.attachment_id or 'of it',
                endpoint=self.reservation.endpoint,
            )
        # Cinder does not look at it itself, and says in-use of it afterwards.
        volumes.require(self.volume, ('in-use',))
        if self.volume.migration_status not in _AT_REST:
            raise exception.Busy(
                what=f'volume {self.volume.id}',
                reason=f'its migration is {self.volume.migration_status} in Cinder',
            )
        return record

    def export(self) -> None:
        self.shared.hold()
        connector = self.context.connector()
        self.note(connector=dict(connector))
        try:
            self.info = self.flow.export(self.reservation, self.volume, connector)
        except exception.VolumeDriversError as error:
            self._complete_after(error)
            raise

    def complete(self) -> None:
        """Let Cinder's attachment be attached; it is, if nothing was begun."""
        if self.flow.look(self.reservation)[0] is Side.EXPORTED:
            record = self.on_host
            target = (None if record is None else record.target) or ''
            self.learn(attachment_id=self.flow.complete(self.reservation, target=target))

    def refresh(self) -> None:
        assert self.info is not None  # noqa: S101
        self._limit(self.info)
        self.refreshed = self.context.attachments.refresh(
            self.guest.uuid, self.reservation.volume_id, self.info
        )
        self.shared.drop()

    def _limit(self, info: ConnectionInfo) -> None:
        """Give the disk the limits that the volume's type has now, if they are others.

        Before the row gets them, so that one who goes on sees them as others.
        """
        record = self.on_host
        if record is None:
            return
        options = self.context.options
        before = disk_of_volume.iotune(options, ConnectionInfo.parse(record.connection_info))
        now = disk_of_volume.iotune(options, info)
        if before != now:
            self.context.attachments.set_qos(
                self.guest.uuid, self.reservation.volume_id, now or IOTune()
            )

    def settle_refreshed(self) -> None:
        if self.before is None:
            self.forget()  # it is somebody else's attachment
        else:
            self.settle(problem='')

    def after_failure(self, problem: str, step: str, *, undone: bool) -> None:
        """Cinder's side is as before, unless it may still be at it."""
        if not undone or self._is_uncertain():
            self.note(problem=problem)
        elif self.before is None:
            self.forget()
        else:
            self.learn(connector=self.before.connector)
            self.settle(problem=f'{self.operation}: {problem}')

    def result(self, seconds: dict[str, float]) -> VolumeRefreshResult:
        """Say what was done."""
        assert self.refreshed is not None  # noqa: S101
        return VolumeRefreshResult.of(
            self.refreshed,
            volume_name=self.reservation.volume_name,
            attachment_id=self.reservation.attachment_id,
            mode=self.reservation.mode,
            seconds=with_inner(seconds, 'refresh', self.refreshed.seconds),
        )

    def _is_uncertain(self) -> bool:
        return bool(self.reservation.wanted.get('uncertain'))

    def _complete_after(self, error: exception.VolumeDriversError) -> None:
        """Let it be attached again, however far Cinder has got."""
        lost = isinstance(error, exception.CinderUnavailable) and error.may_be_done
        unanswered = lost and not typing.cast(exception.CinderUnavailable, error).answered
        if unanswered:
            # Whoever goes on waits until Cinder has come to an end with it.
            self.learn(wanted={'uncertain': True})
        try:
            self.complete()
        except exception.VolumeDriversError as failure:
            self.learn(wanted={'uncertain': True})
            error.add_note(
                f'whether the volume is in use in Cinder is not known: {failure}; '
                '"volumedrivers recover" sees to it'
            )
