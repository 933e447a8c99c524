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

"""The steps of detaching a volume.  Nothing is undone: calling it again goes on."""

import dataclasses
import time
import typing

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment import silent_share
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.results import DetachResult
from volumedrivers.attachment.results import paths_of
from volumedrivers.attachment.steps import Step
from volumedrivers.attachment.work import Work
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.driver import Capability

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.host.fair_lock import Held
    from volumedrivers.libvirt.connected_volume import Remainder
    from volumedrivers.libvirt.disk import Disk
    from volumedrivers.libvirt.guest import Guest
    from volumedrivers.libvirt.guest_definition import Definitions

# Seconds that asking libvirt takes besides waiting for the guest.
_MARGIN = 60.0
# Seconds that QEMU may take for a request of a process that has died since.
_FORMER_REQUEST = 1.0
_POLL = 0.02


class Detach(Work):
    """Guest, encryption, host; then a look whether anything is left."""

    operation = Operation.DETACH

    def __init__(
        self,
        context: 'AttachmentContext',
        guest: 'Guest',
        connection_info: ConnectionInfo,
        before: Record | None,
        held: 'Held | None' = None,
        *,
        force: bool = False,
        attempts: int | None = None,
        timeout: float | None = None,
    ) -> None:
        super().__init__(context, guest, connection_info, before, held)
        options = context.options
        self.force = force
        self.attempts = options.device_detach_attempts if attempts is None else attempts
        self.timeout = options.device_detach_timeout if timeout is None else timeout
        self.removed_from_guest = False
        self.still_used_by: dict[str, str] = {}
        # What is of this volume, and was not made for this attachment.
        self.foreign: tuple[Remainder, ...] = ()
        # What the guest had when the disk was looked for.
        self._seen: Disk | None = None
        self._definitions: Definitions | None = None
        self.learn(wanted={'force': force})

    def steps(self) -> tuple[Step, ...]:
        """Return the steps in their order."""
        options = self.context.options
        locks = self.driver.lock_names(self.info, volume=self.volume)
        return (
            Step('detach', self.detach, seconds=self.attempts * self.timeout + _MARGIN),
            Step(
                'decrypt',
                self.decrypt,
                seconds=options.encrypt_timeout,
                needed=self.is_encrypted,
            ),
            Step('disconnect', self.disconnect, seconds=options.disconnect_timeout, locks=locks),
            Step('prove', self.prove, None, options.prove_timeout, locks, intends=False),
            Step('record', self.forget, records=True),
        )

    @property
    def is_encrypted(self) -> bool:
        """Whether something may have to be closed, also after a crash while it was opened.

        What the caller has opened is the caller's to close.
        """
        record = self.record
        if self._opened_by_caller:
            return False
        return self.info.encrypted or record.opened is not None or record.encryption is not None

    @property
    def _opened_by_caller(self) -> bool:
        return self.record.disk.get('encryption') is not None

    @property
    def is_void(self) -> bool:
        """Whether the host side was made before this host started."""
        return self.record.boot_id != self.context.boot_id

    @property
    def disk(self) -> 'Disk | None':
        """The guest's disk of the volume, as it was found; None: it has none."""
        return self._seen

    def find(self, volume: str | None) -> None:
        """Look for the disk, and refuse one that is another volume's.

        :raises InvalidOption
        :raises IdentityMismatch: its device is, though it has this volume's name
        """
        disk = self._seen = self._disk()
        if disk is not None:
            self.know_disk(disk)
        require_volume(self.guest, self.volume_id, disk, volume)

    def detach(self) -> None:
        """Take the disk out of the guest and wait until it has let go."""
        self._await_former_request()
        if self._seen is None:
            # An attach that hangs in QEMU, or was begun by somebody else.
            self.guest.wait_until_idle()
            self.find(None)
        disk = self._seen
        if disk is None:
            return
        try:
            self.guest.detach_disk(
                alias=self._alias_of(disk),
                target=guest_disks.target_of(disk),
                attempts=self.attempts,
                timeout=self.timeout,
                seen=self._definitions,
            )
        except exception.DiskNotFound:
            return  # it went while we looked
        except exception.DetachTimeout as error:
            explained = silent_share.explain(error, disk, self.context.options.mount_timeout)
            if explained is error:
                raise
            raise explained from None
        self.removed_from_guest = True

    def decrypt(self) -> None:
        opened = self.record.opened
        if opened is not None and self.before is not None and not self.before.is_settled:
            # Whoever was interrupted may have deleted the secret, and another
            # guest that has come and gone since may have left a new one.
            opened = dataclasses.replace(opened, secret_uuid=None)
        self.context.encryptor.close(self.info, opened, volume=self.volume, last=not self.others())

    def disconnect(self) -> None:
        self.still_used_by = self.others()
        # A device is one for all guests; of shares and network sources each
        # guest has a use of its own, which the driver counts.
        if 'block' in self.still_used_by.values() or not self.is_here():
            return
        self.still_used_by |= self._users_of_found()
        if 'block' in self.still_used_by.values():
            return
        self.driver.disconnect_volume(
            self.info, self.record.key, volume=self.volume, force=self.force
        )

    def prove(self) -> None:
        """Look whether anything of the volume is left, and remove it once more.

        :raises LeftoversFound: not forced, and it did not go
        """
        if 'block' in self.still_used_by.values() or not self.is_here():
            return
        self.left = self._remains()
        if self.left:
            if self.is_encrypted:
                self.decrypt()
            self.driver.disconnect_volume(
                self.info, self.record.key, volume=self.volume, force=self.force
            )
            self.left = self._remains()
        self.foreign = self._foreign_remains()
        if self.left and not self.force:
            # Whoever lets the storage go now gives its LUN to somebody else.
            raise exception.LeftoversFound(
                volume_id=self.volume_id, leftovers=', '.join(map(str, self.left))
            )

    def forget(self) -> None:
        if self.left:
            self.note(problem=f'left behind: {", ".join(map(str, self.left))}')
        else:
            self.context.journal.remove(self.record.key)

    def after_failure(self, problem: str, step: str, *, undone: bool) -> None:
        """Keep the row; it is as before while the guest certainly has the disk."""
        if step == 'record' and self.context.journal.get(self.record.key) is None:
            return  # interrupted when all was done
        if step != 'detach' or not self._guest_still_has_it():
            self.note(problem=problem)
        elif self.before is not None and self.before.is_settled:
            self.settle(problem=f'detach: {problem}')
        elif self.before is None:
            self.context.journal.remove(self.record.key)
        else:
            self.note(problem=problem)

    def result(self, seconds: dict[str, float]) -> DetachResult:
        """Say what was done."""
        return DetachResult(
            guest=self.guest.name,
            guest_uuid=self.guest.uuid,
            volume_id=self.volume_id,
            driver_volume_type=self.info.driver_volume_type,
            target=self.record.target,
            removed_from_guest=self.removed_from_guest,
            still_used_by=tuple(sorted(self.still_used_by)),
            forced=self.force,
            leftovers=tuple(map(str, self.left + self.foreign)),
            seconds=seconds,
            **paths_of(self.volume),
        )

    def _disk(self) -> 'Disk | None':
        self._definitions = self.guest.definitions()
        disks = self._definitions.disks()
        found = guest_disks.find_among(disks, self.volume_id)
        if found is None and self.record.was_attached:
            # An attach that was interrupted may have got no further than to a
            # name that another disk of the guest has.
            found = guest_disks.find_source(disks, self.record.source)
        return found

    def _await_former_request(self) -> None:
        """Let a disk go that was asked for by a process that has just died.

        Asked for again at the moment at which QEMU has let go of it, libvirt
        9.0 forgets it while QEMU has its files open, or crashes.
        """
        before = self.before
        if self._seen is None or before is None or before.is_settled:
            return
        age = max(0.0, time.time() - before.changed)
        end = time.monotonic() + _FORMER_REQUEST - age
        while time.monotonic() < end and self.guest.is_running():
            if all(
                guest_disks.volume_id_of(disk) != self.volume_id for disk in self.guest.disks()
            ):
                break
            time.sleep(_POLL)
        self._seen = self._disk()

    def _alias_of(self, disk: 'Disk') -> str | None:
        # A disk that was found by its source alone may have any alias.
        by_id = guest_disks.volume_id_of(disk) == self.volume_id
        return self.alias if by_id else disk.alias

    def _users_of_found(self) -> dict[str, str]:
        """Return the other guests that have a device which is found by its LUN alone."""
        users = self.context.users()
        found: dict[str, str] = {}
        for path in self.devices_to_remove():
            record = dataclasses.replace(self.record, source=path)
            found |= users.of_volume(self.volume_id, self.guest.uuid, record)
        return found

    def _guest_still_has_it(self) -> bool:
        try:
            return self.guest.is_running() and self._disk() is not None
        except exception.VolumeDriversError:
            return False

    def is_here(self) -> bool:
        """Tell whether there is something of the volume to be removed.

        :raises IdentityMismatch: something else is there now
        """
        try:
            self.found_identity()
            self.devices_to_remove()
        except exception.IdentityMismatch:
            if self.is_void:
                return False  # what has its name since the last boot is not ours
            raise
        is_mapped = Capability.STORAGE_MAPPING in self.driver.CAPABILITIES
        return not self.is_void or is_mapped or bool(self._remains())

    def _remains(self) -> 'tuple[Remainder, ...]':
        left = self.driver.remains(self.info, self.record.key, volume=self.volume)
        if self.is_encrypted and not self.still_used_by:
            left += self.context.encryptor.remains(self.volume_id, self.record.opened)
        return left

    def _foreign_remains(self) -> 'tuple[Remainder, ...]':
        """Return what decrypts the volume, though it was attached as it is."""
        if self.is_encrypted or self._opened_by_caller or self.still_used_by:
            return ()
        return self.context.encryptor.remains(self.volume_id, None)


def require_volume(
    guest: 'Guest', volume_id: str, disk: 'Disk | None', volume: str | None
) -> None:
    """Refuse to take a name that the caller gave for another volume's disk.

    :param disk: the guest's disk of the volume
    :param volume: volume id or target name that was asked for
    :raises InvalidOption
    """
    target = guest_disks.target_of(disk) if disk is not None else None
    if volume in (None, volume_id, target):
        return
    other = guest_disks.find(guest, volume or '')
    if other is not None and guest_disks.volume_id_of(other):
        found = f'volume {guest_disks.volume_id_of(other)} in guest {guest.name}'
    elif other is not None:
        found = f'no volume, but {guest_disks.source_of(other)}, in guest {guest.name}'
    elif disk is None:
        # The guest has neither.  A target name cannot be told from a wrong
        # volume id, but the connection_info names one volume for certain.
        return
    else:
        found = f'not in guest {guest.name}'
    raise exception.InvalidOption(
        option=f'{volume!r}',
        found=found,
        expected=f'volume {volume_id}, which the connection_info is of',
    )
