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

"""The steps by which an attached volume is reached another way.

The storage has moved portals or monitors, or has given new credentials.  What
may be on this host is in the row at every moment: while paths are exchanged it
names the old ways and the new ones, so that a detach removes both.
"""

import dataclasses
import typing

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment import lookup
from volumedrivers.attachment import refresh_decision
from volumedrivers.attachment import refresh_kinds
from volumedrivers.attachment import refreshed_disk
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.refresh_kinds import Family
from volumedrivers.attachment.refresh_kinds import How
from volumedrivers.attachment.results import RefreshResult
from volumedrivers.attachment.results import paths_of
from volumedrivers.attachment.steps import Step
from volumedrivers.attachment.work import Work
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt import asked_paths
from volumedrivers.libvirt import changed_ways
from volumedrivers.libvirt import gone_paths
from volumedrivers.libvirt.block_device import BlockDeviceDriver
from volumedrivers.libvirt.client_choice import ClientChoiceDriver
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import FailedPath
from volumedrivers.libvirt.connected_volume import PathReport
from volumedrivers.libvirt.share_file import ShareFileDriver

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.host.block_device import BlockDevices
    from volumedrivers.host.fair_lock import Held
    from volumedrivers.libvirt.disk import Disk
    from volumedrivers.libvirt.driver import VolumeDriver
    from volumedrivers.libvirt.guest import Guest


class Refresh(Work):
    """Lets guest and host reach an attached volume by a new connection_info.

    :ivar old: by which it is, or was, connected
    :ivar how: what is done about it
    :ivar changed: the keys that say that it is reached another way
    """

    operation = Operation.REFRESH

    def __init__(
        self,
        context: 'AttachmentContext',
        guest: 'Guest',
        connection_info: ConnectionInfo,
        before: Record,
        held: 'Held | None' = None,
    ) -> None:
        self.old = ConnectionInfo.parse(before.connection_info)
        new = refresh_kinds.kept(self.old, lookup.as_connected(before, connection_info))
        super().__init__(context, guest, new, before, held)
        self.changed = refresh_kinds.changes(self.old, new)
        self.found: ConnectedVolume | None = None
        self.removal = gone_paths.Removal()
        self.now: list[str] = []
        self.next_start: list[str] = []
        self._disk: Disk | None = None  # of the definition, as it was
        self._redefined = False
        self._is_mounted = False  # the share was, when the volume was connected
        self._also: tuple[str, ...] = ()  # ways that one of the new ones leads to
        change = refresh_decision.Change(before, self.old, new, self.changed)
        self.family, self.how = refresh_decision.decide(context, guest, change, self.others)
        if self.how is How.SOURCE and new.secrets():
            # By it the secret is found again that is about to be made.
            self.learn(connection_info=new.to_dict())
        self.learn(wanted={'how': str(self.how), 'changed': list(self.changed)})

    @property
    def recorded(self) -> ConnectedVolume:
        """As it was connected before."""
        assert self.before is not None  # noqa: S101
        assert self.before.volume is not None  # noqa: S101 - decide has looked
        return self.before.volume

    @property
    def connected(self) -> ConnectedVolume | None:
        return self.found or self.volume

    @property
    def devices(self) -> 'BlockDevices':
        """Of this host."""
        return self.context.registry.context.devices

    @property
    def is_void(self) -> bool:
        """Whether nothing has been connected since this host started."""
        return self.before is not None and self.before.boot_id != self.context.boot_id

    @property
    def client(self) -> 'VolumeDriver':
        """The driver that connected the volume, where there is a choice."""
        driver = self.driver
        return driver.client(self.volume) if isinstance(driver, ClientChoiceDriver) else driver

    def steps(self) -> tuple[Step, ...]:
        """Return the steps in their order."""
        options = self.context.options
        locks = tuple(
            sorted(
                {
                    *self.driver.lock_names(self.info, volume=self.volume),
                    *self.driver.lock_names(self.old, volume=self.volume),
                }
            )
        )
        undo = None if self.how is How.SOURCE else self.disconnect_new
        connect = Step('connect', self.connect, undo, options.connect_timeout, locks)
        verify = Step('verify', self.verify, seconds=options.identify_timeout)
        define = Step('define', self.define, self.undefine, options.guest_attach_timeout)
        record = Step('record', self.settle_refreshed, records=True)
        if self.how is How.RECORD:
            return (record,)
        identify = Step('identify', self.identify, seconds=options.identify_timeout)
        if self.how is How.SOURCE:
            clean = Step(
                'clean',
                self.clean,
                seconds=options.disconnect_timeout,
                needed=bool(self.old.secrets()) and not self.info.secrets(),
            )
            return (connect, verify, define, clean, record)
        if self.how is How.PATHS:
            remove = Step('remove', self.remove, None, options.disconnect_timeout, locks)
            return (identify, connect, verify, remove, record)
        by_host = self.record.opened is not None and self.record.opened.by == 'host'
        seconds = options.encrypt_timeout
        is_here = not self.is_void
        return (
            identify,
            Step('decrypt', self.decrypt, self.encrypt_old, seconds, needed=by_host and is_here),
            Step(
                'disconnect',
                self.disconnect,
                self.connect_old,
                options.disconnect_timeout,
                locks,
                needed=is_here,
            ),
            connect,
            verify,
            Step('encrypt', self.encrypt, self.decrypt, seconds, needed=by_host),
            define,
            # While the definition names a file on the old share, that stays mounted.
            Step(
                'clean',
                self.clean,
                None,
                options.disconnect_timeout,
                locks,
                needed=self.family is Family.SHARE and is_here and self._is_elsewhere(),
            ),
            record,
        )

    def find(self, volume: str | None) -> None:
        """Look for the guest's disk.

        :raises DiskNotFound
        """
        persistent = guest_disks.find_among(self.guest.disks(persistent=True), self.volume_id)
        disk = persistent or guest_disks.find(self.guest, self.volume_id)
        if disk is None:
            raise exception.DiskNotFound(guest=self.guest.name, disk=volume or self.volume_id)
        self._disk = persistent
        self.learn(target=guest_disks.target_of(disk))

    def identify(self) -> None:
        """Make sure that what is here is the volume, and that the new ways answer.

        :raises EndpointUnreachable: none does; nothing was changed
        """
        if not self.is_void and self.family is not Family.SHARE:
            # A share is refreshed because its server does not answer any more.
            self.found_identity()
        client = self.client
        if isinstance(client, BlockDeviceDriver):
            chosen = client.choose_ways(self.info, self.info.to_connector())
            self._also = tuple(way.name for way in chosen.asked)
        if self.how is How.PATHS:
            both = (*changed_ways.ways(self.info), *changed_ways.ways(self.old))
            self.learn(connection_info=changed_ways.with_ways(self.info, both).to_dict())

    def connect(self) -> None:
        client = self.client
        if isinstance(client, ShareFileDriver):
            shares = self.context.registry.context.shares
            self._is_mounted = shares.mount_of(client.share_of(self.info, None)) is not None
        self.found = self.driver.connect_volume(self.info, self.record.key)

    def verify(self) -> None:
        """Make sure that it is the same volume.

        :raises IdentityMismatch: it is another one, or a device that is in use
            is called something else now
        :raises InvalidOption: the options let another client connect it
        """
        found, recorded = self._connected(), self.recorded
        if found.source_type != recorded.source_type:
            raise exception.InvalidOption(
                option=f'{self.info.driver_volume_type}_client',
                found=f'one that makes a source of type {found.source_type}',
                expected=f'the one that connected the volume ({recorded.source_type}); to change '
                'it detach the volume, and attach it again',
            )
        now = self.driver.current_identity(self.info, found)
        for identity in (found.identity, now):
            if not self._is_the_volume(identity):
                raise exception.IdentityMismatch(
                    path=found.path or str(identity),
                    found=str(identity),
                    expected=str(recorded.identity),
                    volume_id=self.volume_id,
                )
        if self.how is How.PATHS and found.path != recorded.path:
            raise exception.IdentityMismatch(
                path=f'disk {self.record.target} of guest {self.guest.name}',
                found=f'{found.path} now',
                expected=str(recorded.path),
                volume_id=self.volume_id,
            )
        self.learn(volume=found)
        if self.how is not How.PATHS:
            self.learn(connection_info=self.info.to_dict(), boot_id=self.context.boot_id)

    def remove(self) -> None:
        """Take the paths away that lead to portals which are gone."""
        gone = changed_ways.gone(
            ConnectionInfo.parse(self.record.connection_info), self.info, self._also
        )
        self.removal = gone_paths.remove(
            self.client,
            self.devices,
            self.info,
            self.record.key,
            self._connected(),
            gone=gone,
        )
        left = [way for way, _ in self.removal.left]
        info = self.info
        if left:
            # Nobody would remove what no row names.
            info = changed_ways.with_ways(info, (*changed_ways.ways(info), *left))
        self.learn(connection_info=info.to_dict(), volume=self._counted())

    def decrypt(self) -> None:
        self.context.encryptor.close(self.old, self.record.opened, volume=self.volume, last=True)

    def encrypt(self) -> None:
        """Open it as before."""
        self.open_again(self._connected())

    def encrypt_old(self) -> None:
        self.found = self.found or self.recorded
        self.encrypt()

    def disconnect(self) -> None:
        """Take it off this host; nobody uses it.

        :raises LeftoversFound
        """
        try:
            self.driver.disconnect_volume(self.old, self.record.key, volume=self.recorded)
        except exception.RetryLater:
            if self.family is not Family.SHARE:
                raise
            # The guest has written nothing that is still to be written.
            self.driver.disconnect_volume(
                self.old, self.record.key, volume=self.recorded, force=True
            )
        left = self.driver.remains(self.old, self.record.key, volume=self.recorded)
        if left:
            raise exception.LeftoversFound(
                volume_id=self.volume_id, leftovers=', '.join(map(str, left))
            )
        self.learn(connection_info=self.info.to_dict(), boot_id='')

    def connect_old(self) -> None:
        """Connect it as it was, which takes credentials that are not recorded.

        :raises InvalidOption
        """
        if self.old.secrets():
            raise exception.InvalidOption(
                option='connection_info',
                found='missing',
                expected=f'that of volume {self.volume_id}, whose credentials are not recorded; '
                'refresh it again',
            )
        assert self.before is not None  # noqa: S101
        self.note(connection_info=self.before.connection_info, volume=self.before.volume)
        self.found = self.driver.connect_volume(self.old, self.record.key)
        self.found_identity()
        self.learn(boot_id=self.context.boot_id, volume=self.found)

    def disconnect_new(self) -> None:
        """Take back what was connected, unless it is what somebody uses.

        :raises IdentityMismatch: it is the device of another volume
        """
        found = self.found
        if found is not None and found.source_type == 'block':
            if self.how is How.PATHS and found.identity == self.recorded.identity:
                return  # paths that were added do no harm, and the row names them
            self.require_nobody_elses(found)
            seen = dataclasses.replace(self.record, source=found.path or '', volume=found)
            users = self.context.users().of_volume(self.volume_id, self.guest.uuid, seen)
            if 'block' in users.values():
                return
        elif self.how is How.PATHS:
            return
        self.driver.disconnect_volume(self.info, self.record.key, volume=found or self.recorded)

    def define(self) -> None:
        """Replace the source in the persistent definition, and nothing else."""
        disk = self._disk
        found = self._connected()
        if disk is None:
            return
        fresh = refreshed_disk.refreshed(self.driver, self.info, found, self.record, disk)
        if refreshed_disk.says_the_same(disk, fresh):
            return
        self.learn(source=guest_disks.source_of(fresh))
        if self.guest.redefine_disk(fresh):
            self._redefined = True
            told = self.next_start if self.guest.is_running() else self.now
            told.append(f'disk {self.record.target} is opened as {refreshed_disk.written(fresh)}')

    def undefine(self) -> None:
        if self._redefined and self._disk is not None:
            self.guest.redefine_disk(self._disk)

    def clean(self) -> None:
        """Remove what is not needed any more: a secret, or the mount of the old share."""
        self.driver.disconnect_volume(self.old, self.record.key, volume=self.recorded)

    def settle_refreshed(self) -> None:
        """Write the row, and of a device those of the other guests that have it."""
        self._tell()
        if self.how in (How.SOURCE, How.RECORD):
            self.learn(connection_info=self.info.to_dict())
        assert self.before is not None  # noqa: S101
        problem = self.before.problem
        if self.how is not How.RECORD or problem.startswith(f'{self.operation}: '):
            problem = ''
        self.settle(problem=problem)
        if self.how is not How.PATHS:
            return
        for other in self.context.journal.find(volume_id=self.volume_id):
            if other.key != self.record.key and self._has_the_device(other):
                named = ConnectionInfo.parse(self.record.connection_info)
                named = refresh_kinds.kept(
                    ConnectionInfo.parse(other.connection_info), lookup.as_connected(other, named)
                )
                self.context.journal.put(
                    dataclasses.replace(
                        other, connection_info=named.to_dict(), volume=self.record.volume
                    )
                )

    def after_failure(self, problem: str, step: str, *, undone: bool) -> None:
        """The row as it was, with the reason; or unfinished, if that cannot be said."""
        assert self.before is not None  # noqa: S101
        if not undone or (self.how is How.CONNECT and step == 'disconnect'):
            self.note(problem=problem)
            return
        before = dataclasses.replace(self.before, problem=f'{self.operation}: {problem}')
        if self.how is How.PATHS or (self.how is How.SOURCE and self.info.secrets()):
            # What was added stays: a path, or a secret.
            before = dataclasses.replace(before, connection_info=self.record.connection_info)
        self.context.journal.put(before)

    def result(self, seconds: dict[str, float]) -> RefreshResult:
        """Say what was done."""
        return RefreshResult(
            guest=self.guest.name,
            guest_uuid=self.guest.uuid,
            volume_id=self.volume_id,
            driver_volume_type=self.info.driver_volume_type,
            target=self.record.target,
            source=self.record.source,
            changed=self.changed,
            now=tuple(self.now),
            next_start=tuple(self.next_start),
            left=tuple(
                f'{changed_ways.written(way)}: {reason}' for way, reason in self.removal.left
            ),
            seconds=seconds,
            **paths_of(self.volume),
        )

    def _is_the_volume(self, identity: typing.Any) -> bool:
        expected = self.recorded.identity
        if identity is None or expected is None or identity == expected:
            return True
        if identity.kind != expected.kind:
            return False
        if expected.kind == 'file':
            # The same file of an export that has another name now.
            return bool(identity.value.rpartition('#')[2] == expected.value.rpartition('#')[2])
        # Of QEMU's sources the names were compared before; others are their name.
        return expected.kind == 'path' and self.recorded.source_type == 'network'

    def _is_elsewhere(self) -> bool:
        """Tell whether another share is mounted elsewhere."""
        old, new = (
            self.driver.lock_names(info, volume=self.recorded) for info in (self.old, self.info)
        )
        return old != new

    def _counted(self) -> ConnectedVolume:
        """Return the volume with the paths that are left."""
        found = self._connected()
        if found.path is None or not self.removal.removed:
            return found
        asked = asked_paths.asked_paths(self.info.data, use_multipath=True)
        if self._also:
            asked = tuple(asked_paths.AskedPath(name) for name in self._also)
        there = self.devices.paths(found.path)
        broken = tuple(FailedPath(name, state) for name, state in there.failed)
        working = len(there.names) - len(broken)
        count = max(len(asked), 1)
        return dataclasses.replace(found, paths=PathReport(count, min(working, count), broken))

    def _has_the_device(self, other: Record) -> bool:
        return (
            other.is_settled
            and other.boot_id == self.context.boot_id
            and other.volume is not None
            and other.volume.source_type == 'block'
        )

    def _tell(self) -> None:
        """Say what was done besides the definition."""
        found = self.found
        if self.how is How.PATHS and found is not None:
            paths = self._connected_paths()
            if self.changed:
                self.now.append(f'{paths} are in use')
            if self.removal.removed:
                names = ', '.join(map(changed_ways.written, self.removal.removed))
                self.now.append(f'removed: {names}')
        elif self.how is How.CONNECT:
            self.now.append('the volume was connected again')
            if self._is_mounted:
                self.next_start.append(
                    'the share stays mounted as it is, with its options, while others use it'
                )
        elif self.how is How.SOURCE and self.info.secrets():
            self.now.append('the secret was renewed')
        elif self.how is How.RECORD and self.family is Family.MAPPING and self.changed:
            self.next_start.append('the kernel client follows the monitors by itself until then')
        elif self.how is How.RECORD and self.info.secrets() and self.family is Family.DEVICE:
            self.next_start.append('new credentials are used when it is connected again')

    def _connected_paths(self) -> str:
        volume = self.record.volume
        assert volume is not None  # noqa: S101
        return f'{volume.paths.found} of {volume.paths.asked} paths'

    def _connected(self) -> ConnectedVolume:
        assert self.found is not None  # noqa: S101
        return self.found
