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

"""What the steps of attach, detach and extend do, and how each is undone."""

import typing

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment.results import AttachResult
from volumedrivers.attachment.results import DetachResult
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.attachment.results import ExtendResult
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt import target_names
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.driver import DiskInfo
from volumedrivers.sizes import check_size

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.operations import Operations
    from volumedrivers.libvirt.disk import Disk
    from volumedrivers.libvirt.guest import Guest


class Work:
    """One operation on one volume and one guest; holds what its steps found out."""

    def __init__(
        self, operations: 'Operations', connection_info: ConnectionInfo, guest: 'Guest'
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


class Attach(Work):
    """Host, document, guest."""

    def __init__(
        self,
        operations: 'Operations',
        connection_info: ConnectionInfo,
        guest: 'Guest',
        request: DiskRequest,
    ) -> None:
        super().__init__(operations, connection_info, guest)
        self.request = request
        self.disk: Disk | None = None
        self.offered = False  # libvirt was asked to attach
        self.pending = False  # QEMU hangs, and may attach when it goes on
        self.had_it = False  # one of the guest's definitions, before

    def look(self) -> None:
        """See what the guest has already.

        A disk that only one of its definitions has, or that of a guest that
        does not run, is completed: the volume may not be on this host any more.

        :raises AlreadyAttached, InvalidDiskInfo
        """
        wanted = self.request.target
        if self.info.encrypted and self.request.encryption is None:
            # The guest would take the cipher for an empty disk, and format it.
            raise exception.InvalidDiskInfo(
                key='encryption',
                found='missing',
                expected=f'the libvirt secret that opens volume {self.volume_id}, which Cinder '
                'says is encrypted (DiskRequest.encryption of the Python API)',
            )
        if wanted is not None:
            # libvirt would refuse it too, but only once the volume is here.
            target_names.index_of(wanted)
        disk = guest_disks.find(self.guest, self.volume_id)
        if disk is not None:
            self.target = guest_disks.target_of(disk)
            if self.guest.is_running() and guest_disks.is_complete(self.guest, self.volume_id):
                raise exception.AlreadyAttached(
                    guest=self.guest.name, volume_id=self.volume_id, target=self.target
                )
            if wanted not in (None, self.target):
                raise exception.InvalidDiskInfo(
                    key='target',
                    found=str(wanted),
                    expected=f'{self.target}, as which guest {self.guest.name} has the volume',
                )
            self.had_it = True
            self.request = guest_disks.request_of(disk, self.request)
        elif wanted and guest_disks.find(self.guest, wanted):
            raise exception.InvalidDiskInfo(
                key='target',
                found=f'{wanted}, which the guest has already',
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
        if self.pending:
            raise exception.Busy(
                what=f'volume {self.volume_id}',
                reason=f'guest {self.guest.name} may still get it; it stays connected. '
                'Call attach or detach again when the guest answers',
            )
        if 'block' not in self.others().values():
            self.driver.disconnect_volume(self.info, self.name, volume=self.volume)

    def describe(self) -> None:
        assert self.volume is not None  # noqa: S101
        request = self.request
        if request.type == 'lun' and not _answers_scsi(self.volume):
            raise exception.InvalidDiskInfo(
                key='type',
                found='lun',
                expected=f'disk: a volume of type {self.info.driver_volume_type} is no SCSI '
                'device of this host',
            )
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
            self.pending = _may_still_be_done(error)
            self._take_back(error)
            raise

    def detach(self) -> None:
        if not self.had_it and guest_disks.find(self.guest, self.volume_id) is not None:
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


class Detach(Work):
    """Guest, then host.  Nothing is undone: calling it again goes on."""

    def __init__(
        self,
        operations: 'Operations',
        connection_info: ConnectionInfo,
        guest: 'Guest',
        *,
        force: bool,
        attempts: int | None,
        timeout: float | None,
    ) -> None:
        super().__init__(operations, connection_info, guest)
        self.force = force
        self.attempts = self.options.device_detach_attempts if attempts is None else attempts
        self.timeout = self.options.device_detach_timeout if timeout is None else timeout
        self.removed_from_guest = False
        self.still_used_by: tuple[str, ...] = ()

    def detach(self) -> None:
        if self.target is None:
            # An attach that hangs in QEMU, or was begun by somebody else.
            self.guest.wait_until_idle()
            self.find(None)
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

    def result(self, seconds: dict[str, float]) -> DetachResult:
        return DetachResult(
            guest=self.guest.name,
            guest_uuid=self.guest.uuid,
            volume_id=self.volume_id,
            driver_volume_type=self.info.driver_volume_type,
            target=self.target,
            removed_from_guest=self.removed_from_guest,
            still_used_by=self.still_used_by,
            forced=self.force,
            seconds=seconds,
        )


class Extend(Work):
    """Host, then guest.  Nothing is undone: a volume does not shrink again."""

    def __init__(
        self, operations: 'Operations', connection_info: ConnectionInfo, guest: 'Guest', size: int
    ) -> None:
        super().__init__(operations, connection_info, guest)
        self.requested = size
        self.size = 0
        self.resized = False

    def find(self, volume: str | None) -> None:
        check_size(self.requested, f'volume {self.volume_id}')
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


def _answers_scsi(volume: ConnectedVolume) -> bool:
    """Tell whether libvirt would pass the guest's SCSI commands on to the volume."""
    if volume.source is not None:
        return volume.source.protocol == 'iscsi'
    return volume.source_type == 'block'


def _may_still_be_done(error: Exception) -> bool:
    """Tell whether an attach waits for a QEMU that hangs: this one, or one before it."""
    if isinstance(error, exception.Busy):
        # libvirt names the call that holds the guest.
        return 'AttachDevice' in error.reason
    return isinstance(error, exception.DeadlineExceeded)


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
