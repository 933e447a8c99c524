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

"""Take a disk off a domain, and know that it is off.

That libvirt's call returned proves nothing: a guest that does not cooperate
keeps the disk, QEMU keeps the file or device open, and whoever disconnects the
volume then pulls it away under a running guest.  A disk is gone when libvirt
reports DEVICE_REMOVED, or when the definition of the running domain, read
again, has it no more.  While libvirt cannot be asked, it is not gone.
"""

import enum
import time
import typing

import libvirt
from lxml import etree
from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.libvirt import errors
from volumedrivers.libvirt import guest_definition
from volumedrivers.libvirt import guest_jobs
from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.events import Verdict
from volumedrivers.libvirt.events import Waiter

if typing.TYPE_CHECKING:
    from volumedrivers.libvirt.hypervisor import Hypervisor

LOG = logging.getLogger(__name__)

# An event may be lost (daemon restarted, nobody runs the event loop), so the
# definition is read again every so many seconds.  Reading takes 0.2 ms.
POLL = 0.5
# libvirt takes a disk out of the definition a moment before QEMU has closed
# its files; the event comes after that.  So many seconds it may be late.
EVENT_GRACE = 1.0


def is_unplug_pending(error: libvirt.libvirtError) -> bool:
    """Tell whether QEMU said that it waits for the guest already.

    QEMU up to 6.0 refuses to ask the guest a second time while it is asked.
    """
    return error.get_error_code() in (
        libvirt.VIR_ERR_INTERNAL_ERROR,
        libvirt.VIR_ERR_OPERATION_FAILED,
    ) and 'already in the process of unplug' in errors.message(error)


def is_device_missing(error: libvirt.libvirtError) -> bool:
    """Tell whether libvirt said that there is no such device."""
    code = error.get_error_code()
    return bool(
        code == libvirt.VIR_ERR_DEVICE_MISSING
        or (code == libvirt.VIR_ERR_OPERATION_FAILED and 'not found' in errors.message(error))
    )


class _Asked(enum.Enum):
    """What became of asking for the disk."""

    YES = enum.auto()
    PERHAPS = enum.auto()  # the connection broke, or QEMU hangs
    GONE = enum.auto()  # there was nothing to ask for


class Detachment:
    """One disk on its way out of one domain."""

    def __init__(
        self,
        hypervisor: 'Hypervisor',
        guest_name: str,
        guest_uuid: str,
        *,
        alias: str | None,
        target: str | None,
        attempts: int,
        timeout: float,
    ) -> None:
        self.hypervisor = hypervisor
        self.guest_name = guest_name
        self.guest_uuid = guest_uuid
        self.alias = alias
        self.target = target
        self.attempts = attempts
        self.timeout = timeout
        self._live_target: str | None = None

    @property
    def disk_name(self) -> str:
        """How errors call the disk."""
        return ' or '.join(name for name in (self.alias, self.target) if name)

    def run(self, seen: guest_definition.Definitions | None = None) -> None:
        """Detach from the persistent definition, then from the running domain.

        In this order a domain that ends meanwhile does not come back with the
        disk.

        :param seen: what libvirt has just said of them; else it is asked
        """
        definitions = self._definitions() if seen is None else seen
        live = self._find(definitions.live)
        persistent = self._find(definitions.persistent)
        if live is None and persistent is None:
            raise exception.DiskNotFound(guest=self.guest_name, disk=self.disk_name)
        if live is not None and persistent is not None and not self._is_same(live, persistent):
            # Found by its name only, and somebody else's by now.
            persistent = None
        if persistent is not None:
            self._detach_persistent(persistent)
        if live is not None:
            self._detach_live(live)

    def _find(self, definition: guest_definition.Definition | None) -> Disk | None:
        if definition is None:
            return None
        return definition.find(alias=self.alias, target=self.target)

    @staticmethod
    def _is_same(live: Disk, persistent: Disk) -> bool:
        if live.alias is not None and live.alias == persistent.alias:
            return True
        return guest_definition.same_source(live, persistent)

    def _definitions(self) -> guest_definition.Definitions:
        return self.hypervisor.ask(
            f'read the disks of guest {self.guest_name}',
            lambda _: guest_definition.read(self.hypervisor.domain(self.guest_uuid)),
            guest=self.guest_name,
        )

    def _detach_persistent(self, disk: Disk) -> None:
        xml = etree.tostring(disk.element, encoding='unicode', with_tail=False)
        try:
            domain = self.hypervisor.domain(self.guest_uuid)
            # It waits for whatever QEMU is doing for libvirt.
            self.hypervisor.within_deadline(
                f'release {self.disk_name}',
                lambda: domain.detachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_CONFIG),
            )
        except libvirt.libvirtError as e:
            if errors.is_connection_lost(e) or errors.is_no_domain(e):
                raise self._translated(e) from e
            if self._find(self._definitions().persistent) is None:
                LOG.debug('%s was gone from the definition already: %s', self.disk_name, e)
                return
            raise self._refused(e) from e

    def _detach_live(self, disk: Disk) -> None:
        alias = disk.alias
        self._live_target = None if disk.target is None else disk.target.dev
        if alias is None:
            raise exception.DetachRefused(
                guest=self.guest_name,
                disk=self.disk_name,
                reason='libvirt shows no alias for it, so nothing can tell when it is gone',
            )
        with self.hypervisor.events.waiter(self.guest_uuid, alias) as waiter:
            for attempt in range(1, self.attempts + 1):
                deadline = time.monotonic() + self.timeout
                if self._is_gone_by(deadline, waiter, alias):
                    LOG.debug('Guest %s released %s', self.guest_name, self.disk_name)
                    return
                LOG.warning(
                    'Guest %s did not release %s within %g s (attempt %d of %d)',
                    self.guest_name,
                    self.disk_name,
                    self.timeout,
                    attempt,
                    self.attempts,
                )
        raise exception.DetachTimeout(
            guest=self.guest_name,
            disk=self.disk_name,
            attempts=self.attempts,
            seconds=self.timeout,
        )

    def _ask_to_go(self, alias: str) -> _Asked:
        """Ask QEMU to ask the guest."""
        try:
            domain = self.hypervisor.domain(self.guest_uuid)
            self.hypervisor.within_deadline(
                f'release {self.disk_name}',
                lambda: domain.detachDeviceAlias(alias, libvirt.VIR_DOMAIN_AFFECT_LIVE),
                seconds=self.timeout,
            )
        except (exception.HypervisorUnavailable, exception.DeadlineExceeded) as e:
            LOG.debug('Detaching %s: %s', self.disk_name, e)
            return _Asked.PERHAPS
        except libvirt.libvirtError as e:
            if errors.is_no_domain(e):
                return _Asked.GONE
            if errors.is_connection_lost(e) or errors.is_lost(e):
                LOG.debug('Detaching %s: %s', self.disk_name, e)
                return _Asked.PERHAPS
            if is_unplug_pending(e):
                LOG.debug('Detaching %s: %s; waiting', self.disk_name, e)
                return _Asked.YES
            if not self._is_live(alias):
                return _Asked.GONE
            if not is_device_missing(e):
                raise self._refused(e) from e
            LOG.debug('libvirt misses %s, but shows it; waiting: %s', self.disk_name, e)
        return _Asked.YES

    def _is_gone_by(self, deadline: float, waiter: Waiter, alias: str) -> bool:
        """Ask for the disk and wait until it is gone, or until the deadline."""
        asked = self._ask_to_go(alias)
        while asked is not _Asked.GONE:
            remaining = deadline - time.monotonic()
            verdict = waiter.wait(min(remaining, POLL))
            if verdict is Verdict.REMOVED:
                return True
            if verdict is Verdict.REFUSED:
                raise exception.DetachRefused(
                    guest=self.guest_name,
                    disk=self.disk_name,
                    reason='its kernel answered that it does not let go',
                )
            try:
                live = self._is_live(alias)
            except exception.HypervisorUnavailable:
                if remaining <= 0:
                    raise
                continue
            if not live:
                if verdict is None:
                    waiter.wait(EVENT_GRACE)
                return True
            if remaining <= 0:
                return False
            if asked is _Asked.PERHAPS:
                # libvirt is back, and may never have heard of it.
                asked = self._ask_to_go(alias)
        return True

    def _is_live(self, alias: str) -> bool:
        """Ask whether the running domain has the disk.

        :raises HypervisorUnavailable, HypervisorError: never an answer instead
        """
        try:
            live = self._definitions().live
        except exception.GuestNotFound:
            return False
        return live is not None and live.find(alias=alias) is not None

    def _translated(self, error: libvirt.libvirtError) -> exception.VolumeDriversError:
        return errors.translate(
            error,
            uri=self.hypervisor.uri,
            action=f'detach {self.disk_name} from guest {self.guest_name}',
            guest=self.guest_name,
        )

    def _refused(self, error: libvirt.libvirtError) -> exception.VolumeDriversError:
        job = guest_jobs.why_refused(
            self.hypervisor, self.guest_uuid, self.guest_name, self._live_target
        )
        if job is not None:
            return job
        if errors.is_busy(error):
            return self._translated(error)
        return exception.DetachRefused(
            guest=self.guest_name, disk=self.disk_name, reason=errors.message(error)
        )
