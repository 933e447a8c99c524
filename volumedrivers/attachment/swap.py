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

"""The steps by which a running guest goes on with a copy of its volume.

The row stays that of the volume that the guest has, and under its id; of the
new place it says in ``wanted`` what has to be disconnected if nothing comes of
it.  When the guest has gone on, the new place is the row's.  The drivers know
the two apart by the id in the connection_info: that of the new place keeps the
id under which it was connected.
"""

import typing

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.results import SwapResult
from volumedrivers.attachment.results import paths_of
from volumedrivers.attachment.steps import Step
from volumedrivers.attachment.work import DEVICES
from volumedrivers.attachment.work import Work
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.copy_place import Place
from volumedrivers.libvirt.copy_place import Progress
from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.driver import DiskInfo

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.host.fair_lock import Held
    from volumedrivers.libvirt.driver import VolumeDriver
    from volumedrivers.libvirt.guest import Guest
    from volumedrivers.libvirt.guest_copy import DiskCopy


class Swapping(Work):
    """What doing, finishing and undoing share.

    :ivar info: of the volume that the guest has
    :ivar to: the connection_info of the new place
    :ivar there: the new place as it was connected; None before that
    """

    operation = Operation.SWAP

    def __init__(
        self,
        context: 'AttachmentContext',
        guest: 'Guest',
        before: Record,
        held: 'Held | None' = None,
        *,
        to: ConnectionInfo,
        attachment_id: str | None = None,
    ) -> None:
        super().__init__(
            context, guest, ConnectionInfo.parse(before.connection_info), before, held
        )
        self.to = to
        self.new_driver = context.driver(to)
        found = before.wanted.get('volume')
        self.there = None if found is None else ConnectedVolume.from_dict(found)
        self.learn(
            wanted={
                **before.wanted,
                'connection_info': to.to_dict(),
                'attachment_id': attachment_id,
            }
        )

    @property
    def target(self) -> str:
        """Name of the guest's disk."""
        return self.record.target or ''

    def copy_of(self, disk: Disk) -> 'DiskCopy':
        """Return the copy of the guest's disk.

        :param disk: as the guest has it, with the old source or the new one
        """
        from volumedrivers.libvirt.guest_copy import DiskCopy  # noqa: PLC0415 - loads libvirt

        old, new = _bare(disk), _bare(disk)
        for one, info, driver, volume in (
            (old, self.info, self.driver, self.volume),
            (new, self.to, self.new_driver, self.there),
        ):
            assert volume is not None  # noqa: S101
            made = driver.get_disk(info, volume, DiskInfo(bus=_bus(disk), dev=self.target))
            one.type, one.source, one.auth = made.type, made.source, made.auth
            if one.driver is not None and made.driver is not None:
                # How QEMU reads it is the storage's; all else is the guest's.
                for name in ('type', 'cache', 'io', 'discard'):
                    setattr(one.driver, name, getattr(made.driver, name))
        return DiskCopy(self.guest, self.target, old, new)

    def place(self) -> Place:
        """Look where the guest's data is.

        :raises StillInUse: it cannot be seen any more, and was under way
        """
        if self.there is None or 'source' not in self.record.wanted:
            return Place.OLD  # no copy was begun
        disk = guest_disks.find(self.guest, self.volume_id)
        if disk is None:
            return Place.NOWHERE
        return self.copy_of(disk).place()

    def disconnect_old(self) -> None:
        if 'block' not in self.others().values():
            self.found_identity()
            self.driver.disconnect_volume(self.info, self.record.key, volume=self.volume)
            self._require_gone(self.driver, self.info, self.volume)

    def disconnect_new(self) -> None:
        # A device must not be pulled away under a guest.
        if (place := self.place()) is not Place.OLD:
            raise exception.Busy(
                what=f'the new place of volume {self.volume_id}',
                reason=f'of guest {self.guest.name} the disk is {place}; it stays connected',
            )
        self.new_driver.disconnect_volume(self.to, self.record.key, volume=self.there)
        self._require_gone(self.new_driver, self.to, self.there)

    def redefine(self) -> None:
        """Let the guest's next start be with the new place, read as that takes it."""
        disk = next(
            (
                one
                for one in self.guest.disks(persistent=True)
                if guest_disks.volume_id_of(one) == self.volume_id
            ),
            None,
        )
        if disk is None:
            raise exception.DiskNotFound(guest=self.guest.name, disk=self.volume_id)
        self.guest.redefine_disk(self.copy_of(disk).new)

    def _require_gone(
        self, driver: 'VolumeDriver', info: ConnectionInfo, volume: ConnectedVolume | None
    ) -> None:
        """Refuse to go on while a device is left: its LUN is about to be somebody else's.

        :raises LeftoversFound
        """
        found = driver.remains(info, self.record.key, volume=volume)
        left = [str(one) for one in found if one.kind in DEVICES]
        if left:
            raise exception.LeftoversFound(
                volume_id=info.volume_id or self.volume_id, leftovers=', '.join(left)
            )

    def settle_new(self) -> None:
        """The row is the new place's, under the volume's id."""
        assert self.there is not None  # noqa: S101
        self.settle(
            connection_info=self.to.to_dict(),
            driver_volume_type=self.to.driver_volume_type,
            attachment_id=self.record.wanted.get('attachment_id'),
            volume=self.there,
            source=self.record.wanted['source'],
            was_attached=True,
            problem='',
        )

    def settle_old(self) -> None:
        self.settle(was_attached=True, problem=self.record.problem)


class Swap(Swapping):
    """Connect the new place, copy, let the guest go on there, disconnect the old one."""

    def __init__(
        self,
        context: 'AttachmentContext',
        guest: 'Guest',
        before: Record,
        held: 'Held | None' = None,
        *,
        to: ConnectionInfo,
        attachment_id: str | None = None,
        bandwidth: int = 0,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(context, guest, before, held, to=to, attachment_id=attachment_id)
        self.bandwidth = bandwidth
        self.progress = progress
        self.copying: DiskCopy | None = None
        self.copied = 0

    def steps(self) -> tuple[Step, ...]:
        """Return the steps in their order; after the pivot nothing is undone."""
        options = self.context.options
        new_locks = self.new_driver.lock_names(self.to)
        old_locks = self.driver.lock_names(self.info, volume=self.volume)
        return (
            Step('connect', self.connect, self.disconnect_new, options.connect_timeout, new_locks),
            Step('identify', self.identify, seconds=options.identify_timeout),
            # As long as it goes forward, and whoever waits may interrupt it.
            Step('copy', self.copy, self.abort, nested=True),
            Step('pivot', self.pivot, self.stay, options.guest_attach_timeout * 3),
            Step('define', self.redefine, seconds=options.guest_attach_timeout),
            Step('disconnect', self.disconnect_old, None, options.disconnect_timeout, old_locks),
            Step('record', self.settle_new, records=True),
        )

    def find(self) -> None:
        """Look for the guest's disk.

        :raises DiskNotFound
        :raises InvalidOption: the guest does not run
        :raises EncryptionNotSupported: one of the two is encrypted
        """
        disk = guest_disks.find(self.guest, self.volume_id)
        if disk is None:
            raise exception.DiskNotFound(guest=self.guest.name, disk=self.volume_id)
        self.learn(target=guest_disks.target_of(disk))
        if self.record.opened is not None or self.info.encrypted or self.to.encrypted:
            raise exception.EncryptionNotSupported(
                volume_id=self.volume_id,
                provider='a key of its own',
                reason='QEMU would copy it as the guest reads it, not as it is stored; detach '
                'the volume, and let Cinder migrate it then',
            )
        if not self.guest.is_running():
            raise exception.InvalidOption(
                option='guest',
                found=f'{self.guest.name}, which does not run',
                expected='one that runs, or none: Cinder migrates by itself what is not attached',
            )

    def connect(self) -> None:
        self.there = self.new_driver.connect_volume(self.to, self.record.key)
        self.learn(wanted={**self.record.wanted, 'volume': self.there.to_dict()})

    def identify(self) -> None:
        """Make sure that the two places are what they were, and not one."""
        there = self.there
        assert there is not None  # noqa: S101
        self.found_identity()
        self.require_nobody_elses(there)
        found = self.new_driver.current_identity(self.to, there)
        if found != there.identity:
            raise exception.IdentityMismatch(
                path=there.path or str(there.identity),
                found=str(found),
                expected=str(there.identity),
                volume_id=self.to.volume_id,
            )
        if there.identity is not None and there.identity == (self.volume and self.volume.identity):
            raise exception.IdentityMismatch(
                path=there.path or str(there.identity),
                found='where the guest has its data already',
                expected='another place',
                volume_id=self.volume_id,
            )
        disk = guest_disks.find(self.guest, self.volume_id)
        if disk is None:
            raise exception.DiskNotFound(guest=self.guest.name, disk=self.volume_id)
        self.copying = self.copy_of(disk)
        source = guest_disks.source_of(self.copying.new)
        self.learn(wanted={**self.record.wanted, 'source': source})

    def copy(self) -> None:
        job = self._job()
        self._tell('copy', 'before')
        try:
            job.start(bandwidth=self.bandwidth)
            job.wait(stalled=self.context.options.copy_timeout, progress=self._note_progress)
        except Exception as error:
            self._tell('copy', 'failed')
            self._end(error)
            raise
        self._tell('copy', 'after')

    def abort(self) -> None:
        self._job().abort()

    def pivot(self) -> None:
        self._job().pivot()

    def stay(self) -> None:
        """What the guest has written there since is nowhere else."""
        if self.place() not in {Place.OLD, Place.COPYING}:
            raise exception.Busy(
                what=f'volume {self.volume_id}',
                reason=f'guest {self.guest.name} has gone on with its new place',
            )

    def after_failure(self, problem: str, step: str, *, undone: bool) -> None:
        """As before, if the guest has not gone on; else recover finishes it."""
        if undone:
            self.learn(problem=f'{self.operation}: {problem}')
            self.settle_old()
        else:
            self.note(problem=problem)

    def result(self, seconds: dict[str, float]) -> SwapResult:
        """Say what was done."""
        return SwapResult(
            guest=self.guest.name,
            guest_uuid=self.guest.uuid,
            volume_id=self.volume_id,
            driver_volume_type=self.to.driver_volume_type,
            target=self.target,
            source=self.record.source,
            copied=self.copied,
            seconds=seconds,
            **paths_of(self.there),
        )

    def _job(self) -> 'DiskCopy':
        assert self.copying is not None  # noqa: S101
        return self.copying

    def _end(self, error: Exception) -> None:
        try:
            self._job().abort()
        except exception.VolumeDriversError as failure:
            error.add_note(f'whether the copy has ended is not certain: {failure}')

    def _note_progress(self, done: int, total: int) -> None:
        self.copied = total
        if self.progress is not None:
            self.progress(done, total)

    def _tell(self, step: str, moment: str) -> None:
        self.context.observer(str(self.operation), step, moment)


class FinishSwap(Swapping):
    """The guest has gone on: disconnect what it had."""

    def steps(self) -> tuple[Step, ...]:
        """Return the steps in their order."""
        options = self.context.options
        locks = self.driver.lock_names(self.info, volume=self.volume)
        return (
            Step('define', self.redefine, seconds=options.guest_attach_timeout),
            Step('disconnect', self.disconnect_old, None, options.disconnect_timeout, locks),
            Step('record', self.settle_new, records=True),
        )


class UndoSwap(Swapping):
    """The guest has what it had: disconnect the new place."""

    def steps(self) -> tuple[Step, ...]:
        """Return the steps in their order."""
        options = self.context.options
        locks = self.new_driver.lock_names(self.to)
        return (
            Step('abort', self.abort, seconds=options.guest_attach_timeout * 3),
            Step('disconnect', self.disconnect_new, None, options.disconnect_timeout, locks),
            Step('record', self.settle_old, records=True),
        )

    def abort(self) -> None:
        """End the copy, if it still runs: nobody waits for it any more."""
        disk = guest_disks.find(self.guest, self.volume_id)
        if disk is not None and self.place() is Place.COPYING:
            self.copy_of(disk).abort()


def to_settle(
    context: 'AttachmentContext', guest: 'Guest', record: Record, held: 'Held | None'
) -> FinishSwap | UndoSwap:
    """Return what an interrupted swap takes, by what the guest has.

    :raises StillInUse: which of the two it had last cannot be seen any more
    """
    to = ConnectionInfo.parse(record.wanted['connection_info'])
    attachment_id = record.wanted.get('attachment_id')
    undo = UndoSwap(context, guest, record, held, to=to, attachment_id=attachment_id)
    place = undo.place()
    if place in {Place.OLD, Place.COPYING}:
        return undo
    if place is Place.NEW:
        return FinishSwap(context, guest, record, held, to=to, attachment_id=attachment_id)
    raise exception.StillInUse(
        volume_id=record.volume_id,
        guest=guest.name,
        reason=f'the swap stopped in step {record.step}, and the disk is {place} now: whether '
        f'the guest wrote last to {record.source} or to {record.wanted["source"]}, a person has '
        'to find out; both stay connected',
    )


def _bare(disk: Disk) -> Disk:
    """Return a copy of the guest's disk without what is libvirt's own."""
    made = Disk.parse(disk.to_xml())
    made.mirror = made.backing_store = None
    return made


def _bus(disk: Disk) -> str:
    return (disk.target.bus if disk.target is not None else None) or 'virtio'
