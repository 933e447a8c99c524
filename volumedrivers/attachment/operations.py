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

"""Attach, detach and extend: the steps in their order, each with its undo.

The order is Nova's.  Attach: host, disk document, guest.  Detach: guest, then
host.  Extend: host, then guest.
"""

import dataclasses
import typing

from oslo_config import cfg

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment import host_side
from volumedrivers.attachment import steps
from volumedrivers.attachment.results import AttachedVolume
from volumedrivers.attachment.results import AttachResult
from volumedrivers.attachment.results import DetachResult
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.attachment.results import ExtendResult
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.driver import DiskInfo

if typing.TYPE_CHECKING:
    from volumedrivers.libvirt.disk import Disk
    from volumedrivers.libvirt.guest import Guest
    from volumedrivers.libvirt.hypervisor import Hypervisor
    from volumedrivers.libvirt.registry import Registry


class Operations:
    """What can be done with the volumes of the guests of one hypervisor.

    Every operation may be called again after any failure.  What libvirt cannot
    say is never taken for "it is not there": the operation stops.
    """

    def __init__(
        self, conf: cfg.ConfigOpts, registry: 'Registry', hypervisor: 'Hypervisor'
    ) -> None:
        self.options = conf.volumedrivers
        self.registry = registry
        self.hypervisor = hypervisor

    def attach(
        self, connection_info: ConnectionInfo, guest: str, request: DiskRequest | None = None
    ) -> AttachResult:
        """Bring the volume to this host and into the guest.

        After an error the volume is neither in the guest nor on the host;
        where that could not be done, the error's notes say so.

        :param guest: name or UUID
        :raises AlreadyAttached: the guest has the volume
        :raises VolumeDriversError: of the driver, or of libvirt
        """
        domain = self.hypervisor.guest(guest)
        work = _Attach(self, connection_info, domain, request or DiskRequest())
        work.refuse_what_is_there()
        seconds = steps.run(
            (
                steps.Step('connect', work.connect, work.disconnect),
                steps.Step('describe', work.describe),
                steps.Step('attach', work.attach, work.detach),
            )
        )
        return work.result(seconds)

    def detach(
        self,
        connection_info: ConnectionInfo,
        guest: str,
        volume: str | None = None,
        *,
        force: bool = False,
        attempts: int | None = None,
        timeout: float | None = None,
    ) -> DetachResult:
        """Take the volume out of the guest and off this host.

        A volume that the guest does not have is still removed from the host,
        unless another guest of this host has it.

        :param guest: name or UUID; by its UUID also a guest that is gone
        :param volume: volume id or target name; must be the volume of
            connection_info, which is what counts when it is None
        :param force: remove from the host even if flushing fails
        :param attempts: live detach attempts; default: option
            device_detach_attempts
        :param timeout: seconds for each; default: option device_detach_timeout
        :raises InvalidOption: the guest has another volume under this target
        :raises VolumeDriversError: of the driver, or of libvirt; call again
        """
        domain = guest_disks.look_up(self.hypervisor, guest)
        options = self.options
        work = _Detach(self, connection_info, domain, force=force)
        work.find(volume)
        work.attempts = attempts if attempts is not None else options.device_detach_attempts
        work.timeout = timeout if timeout is not None else options.device_detach_timeout
        seconds = steps.run(
            (
                steps.Step('detach', work.detach),
                steps.Step('disconnect', work.disconnect),
            )
        )
        return work.result(seconds)

    def extend(
        self, connection_info: ConnectionInfo, guest: str, volume: str | None, size: int
    ) -> ExtendResult:
        """Let the host, and the guest if it runs, see that the volume has grown.

        :param size: bytes that the volume has now; a guest that does not run
            sees it at its next start
        :raises InvalidSize, ShrinkRefused, DiskNotFound
        :raises ExtendVolumeFailed, ExtendVolumeNotSupported, ResizeRefused
        """
        domain = self.hypervisor.guest(guest)
        work = _Extend(self, connection_info, domain, size)
        work.find(volume)
        seconds = steps.run(
            (
                steps.Step('extend', work.extend),
                steps.Step('resize', work.resize),
            )
        )
        return work.result(seconds)

    def list(
        self, guest: str | None = None, *, all_disks: bool = False
    ) -> tuple[AttachedVolume, ...]:
        """Return the volumes of a guest, or of all guests.

        :param all_disks: also the disks that have no volume id
        """
        domains = self.hypervisor.guests() if guest is None else (self.hypervisor.guest(guest),)
        found = (
            guest_disks.describe(domain, disk) for domain in domains for disk in domain.disks()
        )
        return tuple(volume for volume in found if all_disks or volume.volume_id is not None)

    def show(self, guest: str, volume: str) -> AttachedVolume:
        """Return one volume of a guest and what is behind it on this host.

        :param volume: volume id or target name
        :raises DiskNotFound
        """
        domain = self.hypervisor.guest(guest)
        disk = guest_disks.find(domain, volume)
        if disk is None:
            raise exception.DiskNotFound(guest=domain.name, disk=volume)
        found = guest_disks.describe(domain, disk)
        return dataclasses.replace(
            found,
            host=host_side.look(found.source_type, found.source, self.registry.context.devices),
        )


class _Work:
    """One operation on one volume and one guest; holds what its steps found out."""

    def __init__(
        self, operations: Operations, connection_info: ConnectionInfo, guest: 'Guest'
    ) -> None:
        self.registry = operations.registry
        self.hypervisor = operations.hypervisor
        self.options = operations.options
        self.info = connection_info
        self.guest = guest
        self.driver = self.registry.get(connection_info.driver_volume_type)
        self.volume_id = _volume_id(connection_info)
        #: this use of the volume, as the drivers count it
        self.name = f'{guest.uuid}/{self.volume_id}'
        self.target: str | None = None
        self.volume: ConnectedVolume | None = None

    @property
    def alias(self) -> str:
        return f'{guest_disks.ALIAS_PREFIX}{self.volume_id}'

    def find(self, volume: str | None) -> None:
        """Look for the disk, and refuse one that is another volume's.

        :raises InvalidOption
        """
        disk = guest_disks.find(self.guest, self.volume_id)
        if disk is not None:
            self.target = guest_disks.target_of(disk)
            self.volume = guest_disks.connected_volume(
                disk, self.info, self.registry.context.devices
            )
        if volume in (None, self.volume_id, self.target):
            return
        other = guest_disks.find(self.guest, volume or '')
        if other is not None and guest_disks.volume_id_of(other):
            found = f'volume {guest_disks.volume_id_of(other)} in guest {self.guest.name}'
        elif other is not None:
            found = f'no volume, but {guest_disks.source_of(other)}, in guest {self.guest.name}'
        elif disk is None:
            # The guest has neither.  A target name cannot be told from a wrong
            # volume id, but the connection_info names one volume for certain.
            return
        else:
            found = f'not in guest {self.guest.name}'
        raise exception.InvalidOption(
            option=f'{volume!r}',
            found=found,
            expected=f'volume {self.volume_id}, which the connection_info is of',
        )

    def others(self) -> dict[str, str]:
        """Return the other guests that have the volume, and their disk's source type.

        :raises HypervisorUnavailable, HypervisorError: libvirt could not say
        """
        return guest_disks.other_users(self.hypervisor, self.volume_id, self.guest.uuid)


class _Attach(_Work):
    def __init__(
        self,
        operations: Operations,
        connection_info: ConnectionInfo,
        guest: 'Guest',
        request: DiskRequest,
    ) -> None:
        super().__init__(operations, connection_info, guest)
        self.request = request
        self.disk: Disk | None = None
        self.offered = False  # libvirt was asked to attach

    def refuse_what_is_there(self) -> None:
        """:raises AlreadyAttached, InvalidDiskInfo"""
        disk = guest_disks.find(self.guest, self.volume_id)
        if disk is not None:
            raise exception.AlreadyAttached(
                guest=self.guest.name, volume_id=self.volume_id, target=guest_disks.target_of(disk)
            )
        if self.request.target and guest_disks.find(self.guest, self.request.target):
            raise exception.InvalidDiskInfo(
                key='target',
                found=f'{self.request.target}, which the guest has already',
                expected='a free one, or none',
            )

    def connect(self) -> None:
        self.volume = self.driver.connect_volume(self.info, self.name)

    def disconnect(self) -> None:
        # A device must not be pulled away under a guest: whether it has the
        # disk is asked, and if libvirt cannot say, the volume stays connected.
        if self.offered and guest_disks.find(self.guest, self.volume_id) is not None:
            raise exception.Busy(
                what=f'volume {self.volume_id}',
                reason=f'guest {self.guest.name} has it; it stays connected',
            )
        if 'block' not in self.others().values():
            self.driver.disconnect_volume(self.info, self.name, volume=self.volume)

    def describe(self) -> None:
        assert self.volume is not None  # noqa: S101
        request = self.request
        self.target = request.target or self.guest.free_target(
            request.bus, prefix=self.options.disk_prefix or None
        )
        unit = request.unit
        if unit is None and request.bus == 'scsi':
            unit = self.guest.next_scsi_unit()
        self.disk = self.driver.get_disk(
            self.info,
            self.volume,
            DiskInfo(
                bus=request.bus,
                dev=self.target,
                type=request.type,
                unit=unit,
                boot_index=request.boot_index,
                encryption=request.encryption,
            ),
        )

    def attach(self) -> None:
        assert self.disk is not None  # noqa: S101
        self.offered = True
        try:
            self.guest.attach_disk(self.disk)
        except Exception as error:
            self._take_back(error)
            raise

    def detach(self) -> None:
        if guest_disks.find(self.guest, self.volume_id) is not None:
            self.guest.detach_disk(alias=self.alias, target=self.target)

    def _take_back(self, error: Exception) -> None:
        """Detach what libvirt attached before it failed, such as one of two definitions."""
        try:
            self.detach()
        except Exception as failure:
            error.add_note(f'whether the guest has the disk is not certain: {failure}')

    def result(self, seconds: dict[str, float]) -> AttachResult:
        volume = self.volume
        disk = self.disk
        assert volume is not None  # noqa: S101
        assert disk is not None  # noqa: S101
        return AttachResult(
            guest=self.guest.name,
            guest_uuid=self.guest.uuid,
            volume_id=self.volume_id,
            driver_volume_type=self.info.driver_volume_type,
            bus=self.request.bus,
            target=guest_disks.target_of(disk),
            source_type=volume.source_type,
            source=guest_disks.source_of(disk),
            format=volume.format,
            identity=None if volume.identity is None else str(volume.identity),
            multipath_id=volume.multipath_id,
            paths_asked=volume.paths.asked,
            paths_found=volume.paths.found,
            paths_failed=volume.paths.failed,
            degraded=volume.degraded,
            seconds=seconds,
        )


class _Detach(_Work):
    attempts: int
    timeout: float

    def __init__(
        self,
        operations: Operations,
        connection_info: ConnectionInfo,
        guest: 'Guest',
        *,
        force: bool,
    ) -> None:
        super().__init__(operations, connection_info, guest)
        self.force = force
        self.removed_from_guest = False
        self.removed_from_host = False
        self.still_used_by: tuple[str, ...] = ()

    def detach(self) -> None:
        if self.target is None:
            return
        try:
            self.guest.detach_disk(
                alias=self.alias, target=self.target, attempts=self.attempts, timeout=self.timeout
            )
        except exception.DiskNotFound:
            return  # it went while we looked
        self.removed_from_guest = True

    def disconnect(self) -> None:
        others = self.others()
        self.still_used_by = tuple(sorted(others))
        # A device is one for all guests; of shares and network sources each
        # guest has a use of its own, which the driver counts.
        if 'block' not in others.values():
            self.driver.disconnect_volume(
                self.info, self.name, volume=self.volume, force=self.force
            )
            self.removed_from_host = True

    def result(self, seconds: dict[str, float]) -> DetachResult:
        return DetachResult(
            guest=self.guest.name,
            guest_uuid=self.guest.uuid,
            volume_id=self.volume_id,
            driver_volume_type=self.info.driver_volume_type,
            target=self.target,
            removed_from_guest=self.removed_from_guest,
            removed_from_host=self.removed_from_host,
            still_used_by=self.still_used_by,
            forced=self.force,
            seconds=seconds,
        )


class _Extend(_Work):
    def __init__(
        self, operations: Operations, connection_info: ConnectionInfo, guest: 'Guest', size: int
    ) -> None:
        super().__init__(operations, connection_info, guest)
        self.requested = size
        self.size = 0
        self.resized = False

    def find(self, volume: str | None) -> None:
        if (
            isinstance(self.requested, bool)
            or not isinstance(self.requested, int)
            or (self.requested <= 0)
        ):
            raise exception.InvalidSize(
                size=self.requested,
                volume=f'volume {self.volume_id}',
                reason='a whole number of bytes above 0 is expected',
            )
        super().find(volume)
        if self.target is None:
            raise exception.DiskNotFound(guest=self.guest.name, disk=volume or self.volume_id)

    def extend(self) -> None:
        self.size = self.driver.extend_volume(
            self.info, self.name, self.requested, volume=self.volume
        )
        if self.size < self.requested:
            raise exception.ExtendVolumeFailed(
                volume_id=self.volume_id,
                reason=f'this host still sees {self.size} bytes, not {self.requested}; '
                'extend the volume in Cinder first',
            )

    def resize(self) -> None:
        assert self.target is not None  # noqa: S101
        self.guest.resize_disk(self.target, self.size)
        self.resized = self.guest.is_running()

    def result(self, seconds: dict[str, float]) -> ExtendResult:
        assert self.target is not None  # noqa: S101
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
        )


def _volume_id(connection_info: ConnectionInfo) -> str:
    volume_id = connection_info.volume_id or connection_info.serial
    if not volume_id:
        raise exception.InvalidConnectionInfo(
            driver_volume_type=connection_info.driver_volume_type,
            key='serial',
            found='missing',
            expected='the id of the volume; by it the disk is found again',
        )
    return volume_id


__all__ = (
    'AttachResult',
    'AttachedVolume',
    'DetachResult',
    'DiskRequest',
    'ExtendResult',
    'Operations',
)
