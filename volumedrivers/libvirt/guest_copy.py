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

"""Copy a disk of a running guest to another place, and let the guest go on there.

The job is QEMU's: what the guest writes meanwhile reaches both.  libvirt ends
it without a word when the guest stops or the new place fails, so that "there
is no job" never counts as "it is done": where the disk's data is, is looked at.
"""

from collections.abc import Callable
import time
import typing

import libvirt
from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.libvirt import guest_definition
from volumedrivers.libvirt import guest_jobs
from volumedrivers.libvirt.copy_place import Place
from volumedrivers.libvirt.disk import Disk

if typing.TYPE_CHECKING:
    from volumedrivers.libvirt.copy_place import Progress
    from volumedrivers.libvirt.guest import Guest
    from volumedrivers.libvirt.hypervisor import Answer

LOG = logging.getLogger(__name__)

# The copy is there, as long as the disk; and the domain stays defined, which
# libvirt only allows for a job that does not survive the guest.
_FLAGS = libvirt.VIR_DOMAIN_BLOCK_COPY_REUSE_EXT | libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
_POLL = 0.1
# What QEMU has in flight when the job ends is written first.
_END = 120.0


class DiskCopy:
    """One copy; every call may be made again, also by another process.

    :ivar old: the disk as the guest had it before
    :ivar new: the same disk with its new source
    """

    def __init__(self, guest: 'Guest', target: str, old: Disk, new: Disk) -> None:
        self.guest = guest
        self.target = target
        self.old = old
        self.new = new

    def place(self) -> Place:
        """Look where the guest's data is; of a guest that does not run, by its definition.

        :raises HypervisorUnavailable, HypervisorError: libvirt could not say
        """
        definitions = self.guest.definitions()
        definition = definitions.live or definitions.persistent
        disk = None if definition is None else definition.find(target=self.target)
        if disk is None:
            return Place.NOWHERE
        if guest_definition.same_source(disk, self.new):
            return Place.NEW
        if not guest_definition.same_source(disk, self.old):
            return Place.ELSEWHERE
        return Place.OLD if disk.mirror is None else Place.COPYING

    def start(self, *, bandwidth: int = 0) -> None:
        """Begin it; one that was begun already goes on.

        :param bandwidth: bytes a second at most; 0: no limit
        :raises Busy: another job runs on the disk
        :raises CopyFailed: QEMU cannot open the new place; nothing has changed
        :raises HypervisorUnavailable, DeadlineExceeded: unknown whether it runs
        """
        if self._mirror() is not None:
            self._refuse_another()
            return
        parameters = {libvirt.VIR_DOMAIN_BLOCK_COPY_BANDWIDTH: bandwidth} if bandwidth else {}
        document = self.new.to_xml()
        try:
            self._qemu(
                'copy', lambda domain: domain.blockCopy(self.target, document, parameters, _FLAGS)
            )
        except exception.HypervisorError as error:
            busy = guest_jobs.why_refused(
                self.guest.hypervisor, self.guest.uuid, self.guest.name, self.target
            )
            raise busy or self._failed(error.reason) from error

    def wait(self, *, stalled: float, progress: 'Progress | None' = None) -> None:
        """Wait until everything is copied, for as long as it goes forward.

        :param stalled: seconds without a step forward after which it is given up
        :raises CopyFailed: the job has ended by itself, or the guest has
        :raises DeadlineExceeded: it does not go forward; it still runs
        """
        best, end = -1, time.monotonic() + stalled
        while True:
            ready, done, total = self._ask_job()
            if progress is not None:
                progress(done, total)
            if ready and done >= total:
                return
            now = time.monotonic()
            if done > best:
                best, end = done, now + stalled
            elif now > end:
                raise exception.DeadlineExceeded(
                    what=f'the copy of disk {self.target} of guest {self.guest.name}, of which '
                    f'{done} of {total} bytes are done',
                    seconds=stalled,
                )
            time.sleep(_POLL)

    def pivot(self) -> None:
        """Let the guest go on with the copy; both definitions name it then.

        :raises CopyFailed: it goes on with what it had
        :raises HypervisorUnavailable, DeadlineExceeded, HypervisorError: unknown which
        """
        flags = libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT
        try:
            self._qemu('pivot', lambda domain: domain.blockJobAbort(self.target, flags), _END)
        except exception.HypervisorError as error:
            if self.place() in (Place.OLD, Place.COPYING):
                raise self._failed(error.reason) from error
        if (place := self.place()) is not Place.NEW:
            raise self._failed(f'the disk is {place} after it')

    def abort(self) -> None:
        """End it, unless the guest has gone on with the copy already.

        :raises Busy: the job on the disk is another one
        :raises StillInUse: the guest has the copy
        :raises HypervisorUnavailable, DeadlineExceeded, HypervisorError: unknown
            whether it has ended
        """
        place = self.place()
        if place is Place.COPYING:
            self._refuse_another()
            try:
                self._qemu('end', lambda domain: domain.blockJobAbort(self.target, 0), _END)
            except exception.HypervisorError as error:
                LOG.debug('%s', error)  # it may have ended by itself
            place = self.place()
        if place is Place.NEW:
            raise exception.StillInUse(
                volume_id=self.new.serial or '',
                guest=self.guest.name,
                reason=f'disk {self.target} has gone on with it',
            )
        if place is Place.COPYING:
            raise exception.Busy(
                what=f'disk {self.target} of guest {self.guest.name}',
                reason='the copy of it has not ended',
            )

    def _mirror(self) -> Disk | None:
        """Return the live disk if a job copies it.

        :raises CopyFailed: the guest does not run, or has no such disk
        """
        live = self.guest.definitions().live
        disk = None if live is None else live.find(target=self.target)
        if disk is None:
            raise self._failed('the guest does not run, or has no such disk')
        return disk if disk.mirror is not None else None

    def _ask_job(self) -> tuple[bool, int, int]:
        """Return whether all is copied, and how many bytes of how many."""
        disk = self._mirror()
        if disk is None or disk.mirror is None:
            raise self._failed('the job has ended by itself; QEMU could not read or write')
        job = self._qemu('ask for', lambda domain: domain.blockJobInfo(self.target, 0))
        if not job:
            raise self._failed('the job has ended by itself; QEMU could not read or write')
        return disk.mirror.ready == 'yes', int(job['cur']), int(job['end'])

    def _refuse_another(self) -> None:
        """Refuse a job that copies to somewhere else.

        :raises Busy
        """
        disk = self._mirror()
        mirror = None if disk is None else disk.mirror
        if mirror is None:
            return
        found = Disk()
        found.type, found.source = mirror.type, mirror.source
        if mirror.job != 'copy' or not guest_definition.same_source(found, self.new):
            raise exception.Busy(
                what=f'disk {self.target} of guest {self.guest.name}',
                reason='another job runs on it; wait for its end, or end it with "virsh blockjob '
                f'{self.guest.name} {self.target} --abort"',
            )

    def _qemu(
        self,
        what: str,
        function: 'Callable[[libvirt.virDomain], Answer]',
        seconds: float | None = None,
    ) -> 'Answer':
        """:raises HypervisorError: and what ``errors.translate`` makes of others"""
        hypervisor, guest = self.guest.hypervisor, self.guest
        action = f'{what} the copy of {self.target} of guest {guest.name}'
        with hypervisor.translated(action, guest=guest.name):
            domain = hypervisor.domain(guest.uuid)
            return hypervisor.within_deadline(action, lambda: function(domain), seconds=seconds)

    def _failed(self, reason: str) -> exception.CopyFailed:
        return exception.CopyFailed(guest=self.guest.name, disk=self.target, reason=reason)
