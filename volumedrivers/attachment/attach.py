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

"""The steps of attaching a volume, and how each is undone."""

import dataclasses
import time
import typing

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment.record import Opened
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.results import AttachResult
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.attachment.results import paths_of
from volumedrivers.attachment.steps import Step
from volumedrivers.attachment.work import Work
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt import encryption_support
from volumedrivers.libvirt import target_names
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.driver import DiskEncryption
from volumedrivers.libvirt.driver import DiskInfo

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.attachment.volume_encryption import VolumeEncryption
    from volumedrivers.host.fair_lock import Held
    from volumedrivers.libvirt.disk import Disk
    from volumedrivers.libvirt.guest import Guest


# Seconds for which a look at a guest will do.  What this host attaches is in the
# journal at once, and a name that somebody else takes is refused by libvirt.
_FRESH = 0.05


class Attach(Work):
    """Host, encryption, guest."""

    operation = Operation.ATTACH

    def __init__(
        self,
        context: 'AttachmentContext',
        guest: 'Guest',
        connection_info: ConnectionInfo,
        before: Record | None,
        held: 'Held | None' = None,
        *,
        request: DiskRequest,
        attachment_id: str | None = None,
        encryption: 'VolumeEncryption | None' = None,
        allow_format: bool = False,
    ) -> None:
        super().__init__(context, guest, connection_info, before, held)
        self.request = request
        self.encryption = encryption
        self.allow_format = allow_format
        self.disk: Disk | None = None
        self.offered = False  # libvirt was asked to attach
        self.pending = False  # QEMU hangs, and may attach when it goes on
        self.had_it = False  # one of the guest's definitions, before
        self.learn(
            boot_id=context.boot_id,
            host=context.host,
            domain_name=guest.name,
            driver_volume_type=connection_info.driver_volume_type,
            connection_info=connection_info.to_dict(),
            attachment_id=attachment_id,
            encryption=None if encryption is None else encryption.to_dict(),
        )

    def steps(self) -> tuple[Step, ...]:
        """Return the steps in their order."""
        options = self.context.options
        locks = self.driver.lock_names(self.info)
        return (
            Step(
                'connect',
                self.connect,
                self.disconnect,
                options.connect_timeout,
                locks,
                leaves='the volume on this host',
            ),
            Step('identify', self.identify, seconds=options.identify_timeout),
            Step(
                'encrypt',
                self.encrypt,
                self.decrypt,
                options.encrypt_timeout,
                needed=self.must_be_opened,
                leaves='what decrypts it',
            ),
            Step(
                'attach',
                self.attach,
                self.detach,
                options.guest_attach_timeout,
                # The row gets the disk's name first, and the intent with it.
                intends=False,
                leaves='its disk in the guest',
            ),
            Step('record', self.settle_attached, records=True),
        )

    @property
    def must_be_opened(self) -> bool:
        """Whether the volume is encrypted and the caller has not opened it."""
        return (
            self.info.encrypted or self.encryption is not None
        ) and self.request.encryption is None

    def look(self) -> None:
        """See what the guest has already.

        A disk that only one of its definitions has, or that of a guest that
        does not run, is completed: the volume may not be on this host any more.

        :raises AlreadyAttached, InvalidDiskInfo
        :raises IdentityMismatch: the guest's disk of this volume is another device
        """
        wanted = self.request.target
        if wanted is not None:
            # libvirt would refuse it too, but only once the volume is here.
            target_names.index_of(wanted)
        self._look_again()
        disks = self._seen.disks()
        disk = guest_disks.find_among(disks, self.volume_id)
        if disk is not None:
            target = guest_disks.target_of(disk)
            if self.guest.is_running() and guest_disks.is_complete(self.guest, self.volume_id):
                self._require_own(disk)
                raise exception.AlreadyAttached(
                    guest=self.guest.name, volume_id=self.volume_id, target=target
                )
            if wanted not in (None, target):
                raise exception.InvalidDiskInfo(
                    key='target',
                    found=str(wanted),
                    expected=f'{target}, as which guest {self.guest.name} has the volume',
                )
            self.had_it = True
            self.request = guest_disks.request_of(disk, self.request)
        elif wanted:
            _require_free(wanted, disks)
        # What the guest had before, recover does not take from it.
        self.learn(disk=_plain(self.request), was_attached=self.had_it)

    def connect(self) -> None:
        self.learn(volume=self.driver.connect_volume(self.info, self.record.key))

    def disconnect(self) -> None:
        # A device must not be pulled away under a guest: whether it has the
        # disk is asked, and if libvirt cannot say, the volume stays connected.
        may_have_it = self.offered or (self.had_it and self.guest.is_running())
        if may_have_it and guest_disks.find(self.guest, self.volume_id) is not None:
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
        if 'block' not in self.others().values() and not self._was_connected():
            self.found_identity()
            self.devices_to_remove()
            self.driver.disconnect_volume(self.info, self.record.key, volume=self.volume)

    def identify(self) -> None:
        """Make sure that what was connected is the volume, and nobody else's."""
        volume = self._connected()
        recorded = self.before.volume if self.before is not None else None
        if recorded is not None and recorded.identity not in (None, volume.identity):
            raise exception.IdentityMismatch(
                path=volume.path or str(volume.identity),
                found=str(volume.identity),
                expected=str(recorded.identity),
                volume_id=self.volume_id,
            )
        if self.found_identity() is None and volume.identity is not None:
            raise exception.VolumeDeviceNotFound(
                volume_id=self.volume_id,
                reason=f'{volume.path or volume.identity} vanished as soon as it was found',
            )
        self.require_nobody_elses(volume)

    def encrypt(self) -> None:
        """Let QEMU or this host decrypt the volume."""
        opened = self.context.encryptor.open(
            self.info, self._connected(), self.encryption, allow_format=self.allow_format
        )
        self.learn(opened=opened)
        self.found_identity()

    def decrypt(self) -> None:
        if not self.others() and not self._was_connected():
            self.context.encryptor.close(
                self.info, self.record.opened, volume=self.volume, last=True
            )

    def attach(self) -> None:
        if time.monotonic() > self._seen_at + _FRESH:
            self._look_again()
        self.disk = self._describe(self._seen.names())
        self.offered = True
        try:
            self.guest.attach_disk(self.disk, seen=self._seen)
        except Exception as error:
            self.pending = _may_still_be_done(error)
            self._take_back(error)
            opened = self.record.opened
            engine = None if opened is None else opened.engine
            explained = encryption_support.explain(error, self._connected(), engine)
            if explained is error:
                raise
            raise explained from error

    def detach(self) -> None:
        if not self.had_it and guest_disks.find(self.guest, self.volume_id) is not None:
            self.guest.detach_disk(alias=self.alias, target=self.record.target)

    def place(
        self, names: 'target_names.Names', others: tuple[Record, ...]
    ) -> tuple[str, int | None]:
        """Return the target name and the SCSI unit that the disk gets.

        :param others: the guest's other attachments: of two at once, the
            second sees what the first has taken
        :raises InvalidDiskInfo: nothing is free, or no disk can be on that bus
        """
        request = self.request
        target = request.target or names.free_target(
            request.bus,
            prefix=self.context.options.disk_prefix or None,
            taken={other.target for other in others if other.target},
        )
        unit = request.unit
        if unit is None and request.bus == 'scsi':
            taken = (other.disk.get('unit') for other in others)
            unit = names.free_scsi_unit(taken={unit for unit in taken if unit is not None})
        return target, unit

    def require_scsi(self, volume: ConnectedVolume) -> None:
        """Refuse to pass through what is no SCSI unit.

        :raises InvalidDiskInfo
        """
        if self.request.type == 'lun' and not _answers_scsi(volume):
            raise exception.InvalidDiskInfo(
                key='type',
                found='lun',
                expected=f'disk: a volume of type {self.info.driver_volume_type} is no SCSI '
                'device of this host',
            )

    def settle_attached(self) -> None:
        self.settle(was_attached=True, problem='')

    def after_failure(self, problem: str, step: str, *, undone: bool) -> None:
        """Forget the attachment if nothing of it is there; else keep it for recover."""
        if not undone:
            self.note(problem=problem)
        elif self.before is not None:
            self.context.journal.put(self.before)
        else:
            self.context.journal.remove(self.record.key)

    def result(self, seconds: dict[str, float]) -> AttachResult:
        """Say what was done."""
        volume = self._connected()
        disk = self.disk
        assert disk is not None  # noqa: S101
        opened = self.record.opened
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
            multipath_id=volume.multipath_id,
            encryption=None if opened is None else f'{opened.provider} ({opened.by})',
            seconds=seconds,
            **paths_of(volume),
        )

    def _was_connected(self) -> bool:
        """Tell whether a settled row says that the host had the volume already."""
        return self.before is not None and self.before.boot_id == self.context.boot_id

    def _look_again(self) -> None:
        self._seen_at = time.monotonic()
        self._seen = self.guest.definitions()

    def _connected(self) -> ConnectedVolume:
        assert self.volume is not None  # noqa: S101
        return self.volume

    def _require_own(self, disk: 'Disk') -> None:
        """Refuse a disk that has this volume's name and another one's device."""
        record = self.before
        if record is None:
            devices = self.context.registry.context.devices
            found = guest_disks.connected_volume(disk, self.info, devices)
            if found is not None:
                self.require_nobody_elses(found)
            return
        if record.volume is None or not record.source:
            return
        source = guest_disks.source_of(disk)
        if source != record.source:
            raise exception.IdentityMismatch(
                path=f'disk {guest_disks.target_of(disk)} of guest {self.guest.name}',
                found=source,
                expected=f'{record.source} ({record.volume.identity})',
                volume_id=self.volume_id,
            )

    def _describe(self, names: target_names.Names) -> 'Disk':
        """Reserve a target name in the journal, and describe the disk."""
        volume = self._connected()
        request = self.request
        self.require_scsi(volume)
        opened = self.record.opened
        if opened is not None and opened.path is not None:
            volume = dataclasses.replace(volume, path=opened.path)
        described: list[Disk] = []

        def choose(others: tuple[Record, ...]) -> Record:
            target, unit = self.place(names, others)
            disk = self.driver.get_disk(
                self.info,
                volume,
                DiskInfo(
                    bus=request.bus,
                    dev=target,
                    type=request.type,
                    unit=unit,
                    boot_index=request.boot_index,
                    encryption=request.encryption or _by_qemu(opened),
                ),
            )
            described.append(disk)
            return dataclasses.replace(
                self.record,
                step='attach',
                target=target,
                disk={**self.record.disk, 'unit': unit},
                source=guest_disks.source_of(disk),
            )

        self.record = self.context.journal.reserve(self.record.key, choose)
        return described[-1]

    def _take_back(self, error: Exception) -> None:
        """Detach what libvirt attached before it failed, such as one of two definitions."""
        try:
            self.detach()
        except Exception as failure:
            error.add_note(f'whether the guest has the disk is not certain: {failure}')


def require_place(guest: 'Guest', request: DiskRequest) -> None:
    """Refuse a target name or a bus that the guest has no place on, before anything is done.

    :raises InvalidDiskInfo
    """
    seen = guest.definitions()
    if request.target is None:
        seen.names().free_target(request.bus)
    else:
        target_names.index_of(request.target)
        _require_free(request.target, seen.disks())


def _require_free(target: str, disks: 'tuple[Disk, ...]') -> None:
    if guest_disks.find_among(disks, target):
        raise exception.InvalidDiskInfo(
            key='target',
            found=f'{target}, which the guest has already',
            expected='a free one, or none',
        )


def _plain(request: DiskRequest) -> dict[str, typing.Any]:
    return dataclasses.asdict(request)


def _by_qemu(opened: Opened | None) -> DiskEncryption | None:
    if opened is None or opened.secret_uuid is None:
        return None
    return DiskEncryption(opened.secret_uuid, opened.provider, opened.engine)


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
