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

"""The steps that change an attached volume: a new size, new limits."""

import typing

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment.detach import require_volume
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.results import ExtendResult
from volumedrivers.attachment.results import QosResult
from volumedrivers.attachment.results import paths_of
from volumedrivers.attachment.steps import Step
from volumedrivers.attachment.volume_encryption import VolumeEncryption
from volumedrivers.attachment.work import Work
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.disk import IOTune
from volumedrivers.sizes import check_size

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.host.fair_lock import Held
    from volumedrivers.libvirt.guest import Guest


class Change(Work):
    """Changes what is attached; when it fails the volume is attached as before."""

    def find(self, volume: str | None) -> None:
        """Look for the disk.

        :raises DiskNotFound, InvalidOption
        :raises IdentityMismatch: its device is another volume's
        """
        disk = guest_disks.find(self.guest, self.volume_id)
        require_volume(self.guest, self.volume_id, disk, volume)
        if disk is None:
            raise exception.DiskNotFound(guest=self.guest.name, disk=volume or self.volume_id)
        self.know_disk(disk)

    @property
    def target(self) -> str:
        """Name of the guest's disk."""
        return self.record.target or ''

    def identify(self) -> None:
        """Make sure that it still is the volume that is changed."""
        volume = self.volume
        if volume is None or self.found_identity() is not None:
            return
        # What has no identity of its own cannot be missed by it.
        if volume.path is not None and volume.identity is not None:
            raise exception.VolumeNotConnected(volume_id=self.volume_id)

    def done(self) -> None:
        """Write the row; a volume that was not recorded before is not now."""
        if self.before is None:
            self.context.journal.remove(self.record.key)
        else:
            self.settle(problem='')

    def after_failure(self, problem: str, step: str, *, undone: bool) -> None:
        """The volume is attached as it was, unless a limit could not be set back."""
        if not undone:
            self.note(problem=problem)
        elif self.before is None:
            self.context.journal.remove(self.record.key)
        else:
            self.settle(problem=f'{self.operation}: {problem}')


class Extend(Change):
    """Host, then guest.  Nothing is undone: a volume does not shrink again."""

    operation = Operation.EXTEND

    def __init__(
        self,
        context: 'AttachmentContext',
        guest: 'Guest',
        connection_info: ConnectionInfo,
        before: Record | None,
        held: 'Held | None' = None,
        *,
        size: int,
    ) -> None:
        super().__init__(context, guest, connection_info, before, held)
        self.requested = check_size(size, f'volume {self.volume_id}')
        self.size = 0
        self.for_guest = 0
        self.resized = False
        self.learn(wanted={'size': size})

    def steps(self) -> tuple[Step, ...]:
        """Return the steps in their order."""
        options = self.context.options
        return (
            Step('identify', self.identify, seconds=options.identify_timeout),
            Step(
                'extend',
                self.extend,
                seconds=options.extend_timeout,
                locks=self.driver.lock_names(self.info, volume=self.volume),
            ),
            Step('resize', self.resize, seconds=options.guest_attach_timeout),
            Step('record', self.done, records=True),
        )

    def extend(self) -> None:
        """Let this host see the new size, and open more of an encrypted volume."""
        self.size = self.driver.extend_volume(
            self.info, self.record.key, self.requested, volume=self.volume
        )
        if self.size < self.requested:
            raise exception.ExtendVolumeFailed(
                volume_id=self.volume_id,
                reason=f'this host still sees {self.size} bytes, not {self.requested}; '
                'extend the volume in Cinder first',
            )
        opened = self.record.opened
        self.for_guest = self.size
        if opened is not None:
            metadata = self.record.encryption
            self.for_guest = self.context.encryptor.grow(
                self.info,
                opened,
                self.volume,
                self.size,
                encryption=None if metadata is None else VolumeEncryption.parse(metadata),
                running=self.guest.is_running(),
            )

    def resize(self) -> None:
        self.guest.resize_disk(self.target, self.for_guest)
        self.resized = self.guest.is_running()

    def result(self, seconds: dict[str, float]) -> ExtendResult:
        """Say what was done."""
        return ExtendResult(
            guest=self.guest.name,
            guest_uuid=self.guest.uuid,
            volume_id=self.volume_id,
            driver_volume_type=self.info.driver_volume_type,
            target=self.target,
            requested_size=self.requested,
            size=self.size,
            resized_in_guest=self.resized,
            seconds=seconds,
            **paths_of(self.volume),
        )


class SetQos(Change):
    """Limits of the live disk, and of the next start."""

    operation = Operation.QOS

    def __init__(
        self,
        context: 'AttachmentContext',
        guest: 'Guest',
        connection_info: ConnectionInfo,
        before: Record | None,
        held: 'Held | None' = None,
        *,
        iotune: IOTune,
    ) -> None:
        super().__init__(context, guest, connection_info, before, held)
        self.iotune = iotune
        self.limits = {
            name: value for name in IOTune.FIELDS if (value := getattr(iotune, name)) is not None
        }
        self.learn(wanted={'limits': self.limits})

    def steps(self) -> tuple[Step, ...]:
        """Return the steps in their order."""
        options = self.context.options
        return (
            Step('limit', self.limit, self.unlimit, options.guest_attach_timeout),
            Step('record', self.done, records=True),
        )

    def limit(self) -> None:
        self.previous = self.guest.iotune(self.target)
        self.guest.set_iotune(self.target, self.iotune)

    def unlimit(self) -> None:
        self.guest.set_iotune(self.target, self.previous)

    def result(self, seconds: dict[str, float]) -> QosResult:
        """Say what was done."""
        return QosResult(
            guest=self.guest.name,
            guest_uuid=self.guest.uuid,
            volume_id=self.volume_id,
            driver_volume_type=self.info.driver_volume_type,
            target=self.target,
            limits=self.limits,
            seconds=seconds,
            **paths_of(self.volume),
        )
