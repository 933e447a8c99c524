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

"""The steps of attaching a volume of Cinder, and how each is undone."""

import dataclasses
import typing

from volumedrivers import exception
from volumedrivers.attachment.block_storage import sharing
from volumedrivers.attachment.block_storage.flow import Side
from volumedrivers.attachment.block_storage.reservation import Flow
from volumedrivers.attachment.block_storage.reservation import Operation
from volumedrivers.attachment.block_storage.reservation import Reservation
from volumedrivers.attachment.block_storage.reservation import reservation_of
from volumedrivers.attachment.block_storage.results import VolumeAttachResult
from volumedrivers.attachment.block_storage.results import with_inner
from volumedrivers.attachment.block_storage.shared_target import SharedTarget
from volumedrivers.attachment.block_storage.work import StorageWork
from volumedrivers.attachment.results import AttachResult
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.attachment.steps import Step
from volumedrivers.attachment.volume_encryption import VolumeEncryption
from volumedrivers.cinder import volumes

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.context import StorageContext
    from volumedrivers.connection_info import ConnectionInfo
    from volumedrivers.host.fair_lock import Held
    from volumedrivers.libvirt.guest import Guest


class AttachVolume(StorageWork):
    """Cinder reserves and exports; guest and host have it; Cinder is told."""

    operation = Operation.ATTACH

    def __init__(
        self,
        context: 'StorageContext',
        guest: 'Guest',
        reservation: Reservation,
        before: Reservation | None,
        held: 'Held | None' = None,
        *,
        volume: typing.Any,
        request: DiskRequest,
        allow_format: bool = False,
    ) -> None:
        super().__init__(context, guest, reservation, before, held)
        self.volume = volume
        self.request = request
        self.allow_format = allow_format
        self.info: ConnectionInfo | None = None
        self.attached: AttachResult | None = None
        self.asked = False  # whether Cinder may have been asked to reserve it
        self.uncertain = False  # whether Cinder has reserved it
        self.exporting = False  # whether Cinder may still be at it
        self.shared = SharedTarget(context, volume, self.what)

    def steps(self) -> tuple[Step, ...]:
        """Return the steps in their order."""
        seconds = self.context.request_timeout
        shared = self.context.options.cinder_share_timeout if self.volume.is_multiattach else 0.0
        return (
            Step(
                'reserve',
                self.reserve,
                self.release,
                seconds + 2 * shared,
                leaves='the attachment in Cinder',
            ),
            Step('export', self.export, seconds=seconds + self.shared.patience),
            Step(
                'attach',
                self.attach,
                self.detach,
                nested=True,
                leaves='the volume in the guest, or on this host',
            ),
            Step('complete', self.complete, seconds=seconds),
            Step('record', self.settle_attached, records=True),
        )

    def reserve(self) -> None:
        self.asked = True
        try:
            attachment_id = sharing.reserve(self.context, self.flow, self.reservation, self.volume)
        except exception.CinderUnavailable as error:
            self.asked = error.may_be_done
            if self.asked:
                self._take_back(error)
            raise
        except exception.CinderError:
            self.asked = False
            self._require_state()
            raise
        except exception.NotInCinder as error:
            self.asked = False
            raise exception.VolumeNotFound(
                volume=self.volume.id, endpoint=self.reservation.endpoint
            ) from error
        # Of a volume that is only reserved Cinder does not say for whom.
        wanted = {**self.reservation.wanted, 'reserved': True}
        self.learn(attachment_id=attachment_id, wanted=wanted)

    def release(self) -> None:
        """Take back what Cinder gave, unless this host still has the volume.

        Cinder would give its LUN to somebody else.
        """
        if not self.asked:
            return
        if self.on_host is not None:
            raise exception.StillInUse(
                volume_id=self.reservation.volume_id,
                guest=self.guest.name,
                reason='it is still connected to this host; Cinder keeps the attachment',
            )
        reservation = self.reservation
        unnamed = reservation.attachment_id is None and reservation.instance is None
        if (
            self.uncertain
            or (unnamed and reservation.flow is Flow.ATTACHMENT)
            or (self.exporting and self.flow.look(reservation)[0] is Side.RESERVED)
        ):
            # What is exported after it was taken away would be nobody's.
            raise exception.Busy(
                what=f'Cinder, with volume {self.reservation.volume_id},',
                reason='it has not answered, and may still do what it was asked for',
            )
        if reservation.connector:
            users = self.context.host.users().of_volume(reservation.volume_id, self.guest.uuid)
            sharing.require_kept(self.context, reservation, users)
        self.flow.release(self.reservation)

    def export(self) -> None:
        self.shared.hold()
        connector = self.context.connector()
        self.note(connector=dict(connector))
        try:
            self.info = self.flow.export(self.reservation, self.volume, connector)
        except exception.CinderUnavailable as error:
            self.exporting = error.may_be_done and not error.answered
            raise
        except exception.NotInCinder as error:
            raise _taken_away(error) from error

    def attach(self) -> None:
        info = self.info
        assert info is not None  # noqa: S101
        encryption = None
        if info.encrypted:
            encryption = self._encryption()
        self.attached = self.context.attachments.attach(
            info,
            self.guest.uuid,
            self.request,
            attachment_id=self.reservation.attachment_id,
            encryption=encryption,
            allow_format=self.allow_format,
        )
        self.shared.drop()

    def detach(self) -> None:
        volume_id = self.reservation.volume_id
        if self.on_host is None and self.disk is None:
            return  # interrupted, and undone there
        self.shared.hold()
        self.context.attachments.detach(self.guest.uuid, volume_id, connection_info=self.info)

    def complete(self) -> None:
        assert self.attached is not None  # noqa: S101
        try:
            attachment_id = self.flow.complete(self.reservation, target=self.attached.target)
        except exception.NotInCinder as error:
            raise _taken_away(error) from error
        self.learn(attachment_id=attachment_id)

    def settle_attached(self) -> None:
        self.settle(problem='')

    def after_failure(self, problem: str, step: str, *, undone: bool) -> None:
        """Forget the reservation if Cinder has nothing of it; else keep it for recover."""
        if undone and not self.uncertain:
            self.forget()
        else:
            self.note(problem=problem)

    def result(self, seconds: dict[str, float]) -> VolumeAttachResult:
        """Say what was done."""
        assert self.attached is not None  # noqa: S101
        return VolumeAttachResult.of(
            self.attached,
            volume_name=self.reservation.volume_name,
            attachment_id=self.reservation.attachment_id,
            mode=self.reservation.mode,
            seconds=with_inner(seconds, 'attach', self.attached.seconds),
        )

    def _encryption(self) -> VolumeEncryption:
        volume_id = self.volume.id
        try:
            found = volumes.encryption(self.context.storage, volume_id)
        except exception.NotInCinder as error:
            raise _taken_away(error) from error
        return VolumeEncryption.parse(found, volume_id=volume_id)

    def _take_back(self, error: exception.CinderUnavailable) -> None:
        """See whether Cinder has reserved it although it did not say so."""
        try:
            side, _ = self.flow.look(self.reservation)
            if side is Side.RESERVED and self.reservation.instance is None:
                # Nothing tells it from one of another host.
                self.uncertain = True
            else:
                self.flow.release(self.reservation)
        except exception.VolumeDriversError as failure:
            self.uncertain = True
            error.add_note(f'whether Cinder reserved the volume is not known: {failure}')
            return
        # One that has not answered may still be at it.
        self.uncertain = self.uncertain or (side is Side.NONE and not error.answered)
        if self.uncertain:
            error.add_note(
                'Cinder may have reserved the volume, or be about to; "volumedrivers recover" '
                'takes that back'
            )

    def _require_state(self) -> None:
        """Say which state it is in: it was in the right one when it was looked for.

        :raises WrongVolumeState, Busy
        """
        storage = self.context.storage
        try:
            now = storage.ask(storage.proxy.get_volume, self.volume.id)
        except exception.VolumeDriversError:
            return  # then Cinder's words have to do
        volumes.require(now, sharing.attachable_states(self.volume))


def new_row(
    context: 'StorageContext',
    guest: 'Guest',
    volume: typing.Any,
    *,
    read_only: bool,
    legacy: bool,
) -> Reservation:
    """Return the row with which an attach begins.

    :param volume: the SDK's
    :param legacy: by the calls from before Cinder had attachments
    """
    return dataclasses.replace(
        reservation_of(context, guest, volume),
        flow=Flow.LEGACY if legacy else Flow.ATTACHMENT,
        instance=guest.uuid if context.options.cinder_instance else None,
        mode='ro' if read_only or volumes.is_read_only(volume) else 'rw',
    )


def _taken_away(error: exception.NotInCinder) -> exception.CinderError:
    """Return what it means that something is gone that has just been there."""
    return exception.CinderError(action=error.action, reason=error.reason, status=404)
