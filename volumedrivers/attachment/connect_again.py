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

"""The steps that bring an attached volume to this host again.

After a reboot of the host all of it, and for a volume that lost paths those
that are back.
"""

import dataclasses
import typing

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.results import ConnectResult
from volumedrivers.attachment.results import paths_of
from volumedrivers.attachment.steps import Step
from volumedrivers.attachment.work import Work
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import PathReport

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.host.fair_lock import Held
    from volumedrivers.libvirt.guest import Guest


class ConnectAgain(Work):
    """What reconnect and repair share.

    :ivar recorded: the volume as it was connected before
    """

    def __init__(
        self,
        context: 'AttachmentContext',
        guest: 'Guest',
        connection_info: ConnectionInfo,
        before: Record,
        held: 'Held | None' = None,
    ) -> None:
        super().__init__(context, guest, connection_info, before, held)
        self.recorded = before.volume
        self.found: ConnectedVolume | None = None

    @property
    def connected(self) -> ConnectedVolume | None:
        return self.found or self.volume

    def connect(self) -> None:
        # Not into the row before it is known to be the recorded one.
        self.found = self.driver.connect_volume(self.info, self.record.key)

    def identify(self) -> None:
        """Make sure that it is the same volume, under the same name.

        :raises IdentityMismatch: another one, or it is called something else
            than what the guest's definition says
        """
        found, recorded = self._connected(), self.recorded
        now = self.driver.current_identity(self.info, found)
        if now is None and found.identity is not None and found.path is not None:
            raise exception.VolumeDeviceNotFound(
                volume_id=self.volume_id, reason=f'{found.path} vanished as soon as it was found'
            )
        expected = found.identity
        if recorded is not None and recorded.identity is not None:
            expected = recorded.identity
        for identity in (found.identity, now):
            if identity != expected and identity is not None:
                raise exception.IdentityMismatch(
                    path=found.path or str(identity),
                    found=str(identity),
                    expected=str(expected),
                    volume_id=self.volume_id,
                )
        if recorded is not None and found.path != recorded.path:
            raise exception.IdentityMismatch(
                path=f'disk {self.record.target} of guest {self.guest.name}',
                found=f'{found.path} now',
                expected=str(recorded.path),
                volume_id=self.volume_id,
            )
        self.learn(volume=found)

    def result(self, seconds: dict[str, float]) -> ConnectResult:
        """Say what was done."""
        volume = self._connected()
        return ConnectResult(
            guest=self.guest.name,
            guest_uuid=self.guest.uuid,
            volume_id=self.volume_id,
            driver_volume_type=self.info.driver_volume_type,
            target=self.record.target,
            source=self.record.source,
            paths_before=0 if self.recorded is None else self.recorded.paths.found,
            seconds=seconds,
            **paths_of(volume),
        )

    def settle_connected(self) -> None:
        self.settle(problem='', boot_id=self.context.boot_id)

    def after_failure(self, problem: str, step: str, *, undone: bool) -> None:
        """The row as it was, with the reason; or unfinished, if something is left."""
        if not undone:
            self.note(problem=problem)
            return
        assert self.before is not None  # noqa: S101
        self.learn(
            volume=self.recorded,
            opened=self.before.opened,
            boot_id=self.before.boot_id,
            connection_info=self.before.connection_info,
        )
        self.settle(problem=f'{self.operation}: {problem}')

    def _connected(self) -> ConnectedVolume:
        assert self.found is not None  # noqa: S101
        return self.found


class Reconnect(ConnectAgain):
    """After a reboot of the host, before the guest starts."""

    operation = Operation.RECONNECT

    def steps(self) -> tuple[Step, ...]:
        """Return the steps in their order."""
        options = self.context.options
        locks = self.driver.lock_names(self.info, volume=self.volume)
        return (
            Step('connect', self.connect, self.disconnect, options.connect_timeout, locks),
            Step('identify', self.identify, seconds=options.identify_timeout),
            Step(
                'encrypt',
                self.encrypt,
                self.decrypt,
                options.encrypt_timeout,
                needed=self.record.opened is not None,
            ),
            Step('record', self.settle_connected, records=True),
        )

    def find(self) -> None:
        """Make sure that the guest's definition names the recorded source.

        :raises DiskNotFound: it has no such disk
        :raises IdentityMismatch: the disk is another source
        """
        disk = guest_disks.find(self.guest, self.volume_id)
        if disk is None:
            raise exception.DiskNotFound(guest=self.guest.name, disk=self.volume_id)
        source = guest_disks.source_of(disk)
        if self.record.source and source != self.record.source:
            raise exception.IdentityMismatch(
                path=f'disk {guest_disks.target_of(disk)} of guest {self.guest.name}',
                found=source,
                expected=self.record.source,
                volume_id=self.volume_id,
            )
        # Portals or monitors may have moved since; what is connected now is
        # what has to be disconnected.
        self.learn(connection_info=self.info.to_dict())

    def disconnect(self) -> None:
        if self.guest.is_running() or 'block' in self.others().values():
            return
        self.driver.disconnect_volume(self.info, self.record.key, volume=self.found or self.volume)

    def encrypt(self) -> None:
        """Open it as before; a libvirt secret that outlived the reboot is enough."""
        self.open_again(self._connected())

    def decrypt(self) -> None:
        opened = self.record.opened
        if opened is not None and opened.by != 'host':
            # The secret was there before, and nobody may have the key any more.
            return
        if not self.guest.is_running() and not self.others():
            self.context.encryptor.close(
                self.info, self.record.opened, volume=self.volume, last=True
            )


class Repair(ConnectAgain):
    """Add the paths that are missing; what the guest uses is not touched.

    :ivar is_whole: whether nothing is missing; then nothing is connected
    """

    operation = Operation.REPAIR
    HOST_ONLY = True

    def __init__(
        self,
        context: 'AttachmentContext',
        guest: 'Guest',
        connection_info: ConnectionInfo,
        before: Record,
        held: 'Held | None' = None,
    ) -> None:
        super().__init__(context, guest, connection_info, before, held)
        self._require_recorded_targets(before)
        self._working = self._paths_that_work()
        recorded = self.recorded
        # Another protocol's may lack more than paths: a mount, a secret.
        self.is_whole = (
            recorded is not None
            and (recorded.use_multipath is not None or recorded.paths.asked > 1)
            and before.boot_id == context.boot_id
            and self._working is not None
            and self._working >= recorded.paths.asked
        )
        if recorded is not None and self.is_whole:
            paths = PathReport(recorded.paths.asked, recorded.paths.asked)
            self.found = dataclasses.replace(recorded, paths=paths)

    def steps(self) -> tuple[Step, ...]:
        """Return the steps in their order."""
        options = self.context.options
        if self.is_whole:
            settled = self.recorded == self.found and not self.has_problem
            return (
                Step('identify', self.identify, None, options.identify_timeout, intends=False),
                Step('record', self.settle_connected, needed=not settled, records=True),
            )
        return (
            Step('identify', self.identify_recorded, seconds=options.identify_timeout),
            Step(
                'connect',
                self.connect,
                seconds=options.connect_timeout,
                locks=self.driver.lock_names(self.info, volume=self.volume),
            ),
            Step('verify', self.identify, seconds=options.identify_timeout),
            Step('record', self.settle_connected, records=True),
        )

    def identify_recorded(self) -> None:
        """Refuse to add paths to what is not the volume any more."""
        self.found_identity()

    def result(self, seconds: dict[str, float]) -> ConnectResult:
        """Say what was done; what the kernel had before counts, not the record."""
        result = super().result(seconds)
        if self._working is None:
            return result
        return dataclasses.replace(result, paths_before=min(self._working, result.paths_asked))

    @property
    def has_problem(self) -> bool:
        """Whether the row tells of a problem, which a repair takes away."""
        return self.before is not None and bool(self.before.problem)

    def _require_recorded_targets(self, before: Record) -> None:
        """Refuse to add what the row does not name: nobody would remove it.

        :raises InvalidOption
        """
        recorded = ConnectionInfo.parse(before.connection_info)
        if self.driver.lock_names(self.info, volume=self.volume) == self.driver.lock_names(
            recorded, volume=self.volume
        ):
            return
        raise exception.InvalidOption(
            option='connection_info',
            found='one with other targets than the recorded one',
            expected=f'that by which volume {self.volume_id} was connected; refresh the volume '
            'with the new one',
        )

    def _paths_that_work(self) -> int | None:
        """Return how many the kernel has; None: it has no device, or has none to have."""
        volume = self.recorded
        if volume is None or volume.source_type != 'block' or volume.path is None:
            return None
        try:
            paths = self.context.registry.context.devices.paths(volume.path)
        except exception.VolumeNotConnected:
            return None
        return len(paths.names) - len(paths.failed)
