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

"""One domain: attach, detach and resize its disks, and wait for the guest."""

import time
import typing

import libvirt
from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.libvirt import errors
from volumedrivers.libvirt import guest_definition
from volumedrivers.libvirt import guest_jobs
from volumedrivers.libvirt import guest_sources
from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.disk import IOTune
from volumedrivers.libvirt.guest_detach import Detachment
from volumedrivers.libvirt.target_names import Names
from volumedrivers.sizes import check_size

if typing.TYPE_CHECKING:
    from volumedrivers.libvirt.hypervisor import Hypervisor

LOG = logging.getLogger(__name__)

_POLL = 0.05  # seconds between two questions whether QEMU has answered

# setBlockIoTune leaves a kind of limit alone when nothing of it is given, and
# refuses to lift one whose burst or request size it is to leave alone.  So all
# numbers are always given, and what is not limited is 0.
_LIMITS = tuple(name for name in IOTune.FIELDS if name != 'group_name')


class Guest:
    """A libvirt domain; made by Hypervisor.guest.

    Live and persistent definition are both kept right: what is running is
    changed live, what is defined is changed for the next start.  Shared by
    threads like the Hypervisor it is from; survives a restart of libvirt.
    """

    def __init__(self, hypervisor: 'Hypervisor', name: str, uuid: str) -> None:
        self.hypervisor = hypervisor
        self._name = name
        self._uuid = uuid

    def __repr__(self) -> str:
        return f'Guest({self._name!r}, {self._uuid!r})'

    @property
    def name(self) -> str:
        """The domain's name when it was looked up."""
        return self._name

    @property
    def uuid(self) -> str:
        """The domain's UUID."""
        return self._uuid

    def is_running(self) -> bool:
        """Ask whether there is a QEMU process, paused or not.

        :raises HypervisorUnavailable, GuestNotFound
        """
        return bool(self._ask('ask for the state of', lambda domain: domain.isActive()))

    def wait_until_idle(self, seconds: float = 5.0) -> None:
        """Wait until libvirt waits for nothing that QEMU of this guest does.

        A disk that is being attached is in no definition until QEMU has it: who
        takes "the guest has no such disk" for an answer asks this first.

        :raises Busy: QEMU is still at it
        :raises HypervisorUnavailable, GuestNotFound, HypervisorError
        """
        end = time.monotonic() + seconds
        while self._is_occupied():
            if time.monotonic() > end:
                raise exception.Busy(
                    what=f'guest {self._name}',
                    reason=f'its QEMU has not answered libvirt for {seconds:g} s, and may still '
                    'get or lose a disk',
                )
            time.sleep(_POLL)

    def disks(self, *, persistent: bool = False) -> tuple[Disk, ...]:
        """The disks of the live definition (or the persistent one).

        A domain that does not run has only the persistent one, a transient
        domain only the live one; asked for the other, that is the answer.

        :raises HypervisorUnavailable, HypervisorError: libvirt could not say;
            never an empty answer instead
        """
        definitions = self._definitions()
        live, defined = definitions.live, definitions.persistent
        wanted = (defined or live) if persistent else (live or defined)
        return () if wanted is None else tuple(Disk.parse(disk.element) for disk in wanted.disks)

    def sources(self) -> guest_sources.GuestSources:
        """Return what both definitions name of this host: disks, and every path.

        :raises HypervisorUnavailable, GuestNotFound, HypervisorError
        """
        found: guest_sources.GuestSources = self._ask(
            'read the definitions of', guest_sources.read
        )
        return found

    def all_disks(self) -> tuple[Disk, ...]:
        """Return the disks of the live and then of the persistent definition.

        Both were read together; what both have is there twice.  For looking
        only: change a copy (``Disk.parse(disk.element)``).

        :raises HypervisorUnavailable, HypervisorError
        """
        return self._definitions().disks()

    def definitions(self) -> guest_definition.Definitions:
        """Read the definitions, for looking only: by them disks are named and attached.

        :raises HypervisorUnavailable, HypervisorError
        """
        return self._definitions()

    def names(self) -> Names:
        """Return which target names and SCSI units are free, as of now.

        Those of both definitions are taken.

        :raises HypervisorUnavailable, HypervisorError
        """
        return self._definitions().names()

    def free_target(self, bus: str, *, prefix: str | None = None) -> str:
        """Return the first target name of the bus that no disk has (vdb, sdaa).

        :raises InvalidDiskInfo: no disk can be on that bus
        :raises HypervisorUnavailable, HypervisorError
        """
        return self.names().free_target(bus, prefix=prefix)

    def next_scsi_unit(self) -> int:
        """Return the first free unit of SCSI controller 0.

        :raises InvalidDiskInfo: the controller is full
        :raises HypervisorUnavailable, HypervisorError
        """
        return self.names().free_scsi_unit()

    def attach_disk(self, disk: Disk, *, seen: guest_definition.Definitions | None = None) -> None:
        """Attach, live and persistently as the domain's state asks.

        The same disk (its alias or its target, and the same source) that is
        there already is success, and is completed where one of the two
        definitions lacks it.

        :param seen: what ``definitions`` has just answered; else they are read
        :raises AttachRefused: nothing is left of it
        :raises HypervisorUnavailable: unknown how far it came; call again
        :raises DeadlineExceeded: QEMU hangs; it may still get the disk later
        :raises Busy, GuestNotFound
        """
        flags = self._missing(disk, seen)
        if not flags:
            LOG.debug('Guest %s has %s already', self._name, _name_of(disk))
            return
        try:
            domain = self.hypervisor.domain(self._uuid)
            self._wait_for_qemu(
                f'attach {_name_of(disk)} to',
                lambda: domain.attachDeviceFlags(disk.to_xml(), flags),
            )
        except libvirt.libvirtError as e:
            error = self._translated(e, f'attach {_name_of(disk)} to')
            if isinstance(error, exception.HypervisorError):
                error = exception.AttachRefused(
                    guest=self._name, disk=_name_of(disk), reason=errors.message(e)
                )
            if not errors.is_connection_lost(e) and self._settle_attach(disk, flags, error):
                return
            raise error from e

    def detach_disk(
        self,
        *,
        alias: str | None = None,
        target: str | None = None,
        attempts: int = 8,
        timeout: float = 20.0,
        seen: guest_definition.Definitions | None = None,
    ) -> None:
        """Detach and wait until the guest has let go.

        Looks for the alias (``ua-<volume id>``) first, then the target name;
        a disk at the target that has another user alias is another volume's
        and is not touched.  The persistent definition is changed first, and
        stays changed if the guest refuses: its next start is without the disk.

        :param attempts: how often the guest is asked
        :param timeout: seconds to wait in each attempt
        :param seen: what ``definitions`` has just answered; else they are read
        :raises DiskNotFound: neither definition has it
        :raises DetachRefused: QEMU or the guest refused
        :raises DetachTimeout: the guest did not answer; the disk is still there
        :raises HypervisorUnavailable: unknown whether it is still there
        :raises Busy: a block job uses the disk
        :raises GuestNotFound
        """
        if alias is None and target is None:
            raise exception.InvalidDiskInfo(
                key='alias and target', found='not given', expected='one of them'
            )
        if attempts < 1:
            raise exception.InvalidOption(
                option='attempts', found=str(attempts), expected='at least 1'
            )
        if timeout <= 0:
            raise exception.InvalidOption(
                option='timeout', found=str(timeout), expected='seconds, more than 0'
            )
        Detachment(
            self.hypervisor,
            self._name,
            self._uuid,
            alias=alias,
            target=target,
            attempts=attempts,
            timeout=timeout,
        ).run(seen)

    def redefine_disk(self, disk: Disk) -> bool:
        """Replace a disk of the persistent definition; a live one stays as it is.

        :param disk: all of it, as it shall be; found by its target name
        :returns: False: a transient domain has no such definition
        :raises DiskNotFound: the definition has no such disk
        :raises AttachRefused: libvirt does not take it; nothing has changed
        :raises HypervisorUnavailable, DeadlineExceeded, Busy, GuestNotFound
        """
        definition = self._definitions().persistent
        if definition is None:
            return False
        target = None if disk.target is None else disk.target.dev
        found = definition.find(alias=disk.alias, target=target)
        # libvirt goes by the target name alone.
        if found is None or found.target is None or found.target.dev != target:
            raise exception.DiskNotFound(guest=self._name, disk=_name_of(disk))
        try:
            domain = self.hypervisor.domain(self._uuid)
            self._wait_for_qemu(
                f'redefine {_name_of(disk)} of',
                lambda: domain.updateDeviceFlags(disk.to_xml(), libvirt.VIR_DOMAIN_AFFECT_CONFIG),
            )
        except libvirt.libvirtError as e:
            error = self._translated(e, f'redefine {_name_of(disk)} of')
            if isinstance(error, exception.HypervisorError):
                error = exception.AttachRefused(
                    guest=self._name, disk=_name_of(disk), reason=errors.message(e)
                )
            raise error from e
        return True

    def resize_disk(self, target: str, size: int) -> None:
        """Tell the running guest that its disk has ``size`` bytes.

        A guest that does not run sees the size at its next start, and one
        that has it already is not told again.

        :raises InvalidSize: 0, negative or not a whole number
        :raises ShrinkRefused, DiskNotFound, ResizeRefused
        :raises HypervisorUnavailable, DeadlineExceeded, Busy, GuestNotFound
        """
        check_size(size, target)
        definitions = self._definitions()
        self._require(definitions, target)
        if definitions.live is None or definitions.live.find(target=target) is None:
            return
        capacity = self._ask_qemu(
            f'ask for the size of {target} of', lambda domain: domain.blockInfo(target)
        )[0]
        if capacity == size:
            return
        if capacity > size:
            raise exception.ShrinkRefused(disk=target, current=capacity, size=size)
        try:
            domain = self.hypervisor.domain(self._uuid)
            self._wait_for_qemu(
                f'resize {target} of',
                lambda: domain.blockResize(target, size, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES),
            )
        except libvirt.libvirtError as e:
            error = self._translated(e, f'resize {target} of')
            if isinstance(error, exception.HypervisorError):
                error = guest_jobs.why_refused(
                    self.hypervisor, self._uuid, self._name, target
                ) or exception.ResizeRefused(
                    guest=self._name, disk=target, size=size, reason=errors.message(e)
                )
            raise error from e

    def iotune(self, target: str) -> IOTune:
        """Return the limits that are in force, or will be at the next start.

        What is not limited is not in the answer.

        :raises DiskNotFound, HypervisorUnavailable, DeadlineExceeded, HypervisorError
        """
        definitions = self._definitions()
        self._require(definitions, target)
        # For a domain that runs, QEMU is asked; its definition may say less.
        flags = (
            libvirt.VIR_DOMAIN_AFFECT_CONFIG
            if definitions.live is None
            else libvirt.VIR_DOMAIN_AFFECT_LIVE
        )
        found = self._ask_qemu(
            f'ask for the limits of {target} of', lambda domain: domain.blockIoTune(target, flags)
        )
        return IOTune(
            **{name: value for name, value in found.items() if value and name in IOTune.FIELDS}
        )

    def set_iotune(self, target: str, iotune: IOTune) -> None:
        """Limit a disk; the limits it had are replaced.

        :raises HypervisorError: libvirt refused it, such as a total together
            with a read or write limit of the same kind
        :raises DiskNotFound, HypervisorUnavailable, DeadlineExceeded, Busy, GuestNotFound
        """
        definitions = self._definitions()
        flags = self._require(definitions, target)
        parameters: dict[str, int | str] = dict.fromkeys(_LIMITS, 0)
        for name in IOTune.FIELDS:
            value = getattr(iotune, name)
            if value is not None:
                parameters[name] = value
        with self.hypervisor.translated(f'limit {target} of guest {self._name}', guest=self._name):
            domain = self.hypervisor.domain(self._uuid)
            self._wait_for_qemu(
                f'limit {target} of', lambda: domain.setBlockIoTune(target, parameters, flags)
            )

    def _ask(
        self,
        action: str,
        question: typing.Callable[[libvirt.virDomain], typing.Any],
        *,
        of_qemu: bool = False,
    ) -> typing.Any:
        return self.hypervisor.ask(
            f'{action} guest {self._name}',
            lambda _: question(self.hypervisor.domain(self._uuid)),
            guest=self._name,
            of_qemu=of_qemu,
        )

    def _ask_qemu(
        self, action: str, question: typing.Callable[[libvirt.virDomain], typing.Any]
    ) -> typing.Any:
        return self._ask(
            action,
            lambda domain: self._wait_for_qemu(action, lambda: question(domain)),
            of_qemu=True,
        )

    def _wait_for_qemu(self, action: str, function: typing.Callable[[], typing.Any]) -> typing.Any:
        return self.hypervisor.within_deadline(f'{action} guest {self._name}', function)

    def _is_occupied(self) -> bool:
        def question(domain: libvirt.virDomain) -> bool:
            if not domain.isActive():
                return False
            try:
                state: int = domain.controlInfo()[0]
            except libvirt.libvirtError as e:
                if e.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID:
                    return False  # it ended in between
                raise
            return bool(state == libvirt.VIR_DOMAIN_CONTROL_OCCUPIED)

        return bool(self._ask('ask for the QEMU of', question))

    def _definitions(self) -> guest_definition.Definitions:
        definitions: guest_definition.Definitions = self._ask(
            'read the disks of', guest_definition.read
        )
        return definitions

    def _translated(
        self, error: libvirt.libvirtError, action: str
    ) -> exception.VolumeDriversError:
        return errors.translate(
            error,
            uri=self.hypervisor.uri,
            action=f'{action} guest {self._name}',
            guest=self._name,
        )

    def _require(self, definitions: guest_definition.Definitions, target: str) -> int:
        """Return the flags for the definitions that have the disk.

        :raises DiskNotFound: none has it
        """
        flags = 0
        if definitions.live is not None and definitions.live.find(target=target):
            flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
        if definitions.persistent is not None and definitions.persistent.find(target=target):
            flags |= libvirt.VIR_DOMAIN_AFFECT_CONFIG
        if not flags:
            raise exception.DiskNotFound(guest=self._name, disk=target)
        return flags

    def _missing(self, disk: Disk, seen: guest_definition.Definitions | None = None) -> int:
        """Return the flags for the definitions that lack the disk.

        :raises AttachRefused: another disk has the alias or the target
        """
        definitions = self._definitions() if seen is None else seen
        flags = 0
        if definitions.live is not None and not self._has(definitions.live, disk):
            flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
        if definitions.persistent is not None and not self._has(definitions.persistent, disk):
            flags |= libvirt.VIR_DOMAIN_AFFECT_CONFIG
        return flags

    def _has(self, definition: guest_definition.Definition, disk: Disk) -> bool:
        target = None if disk.target is None else disk.target.dev
        for name, found in (
            (disk.alias, definition.find(alias=disk.alias) if disk.alias else None),
            (target, definition.find(target=target) if target else None),
        ):
            if found is None:
                continue
            if guest_definition.same_source(found, disk):
                return True
            raise exception.AttachRefused(
                guest=self._name,
                disk=_name_of(disk),
                reason=f'another disk ({found.path or "empty"}) has {name} already',
            )
        return False

    def _settle_attach(self, disk: Disk, flags: int, error: exception.VolumeDriversError) -> bool:
        """Look what a failed attach left; True when the disk is there after all.

        Somebody else may have attached it meanwhile.  A half of it, in the
        running domain and not in its definition, is taken off.
        """
        both = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
        try:
            missing = self._missing(disk)
            if flags == both and missing == libvirt.VIR_DOMAIN_AFFECT_CONFIG:
                target = None if disk.target is None else disk.target.dev
                self.detach_disk(alias=disk.alias, target=target, attempts=1)
        except exception.VolumeDriversError as undo:
            # The first error is the one reported.
            error.add_note(f'looking what is left, or undoing it, failed as well: {undo}')
            LOG.warning('%s; undoing it failed as well: %s', error, undo)
            return False
        return missing == 0


def _name_of(disk: Disk) -> str:
    target = None if disk.target is None else disk.target.dev
    return disk.alias or target or 'without a target'
