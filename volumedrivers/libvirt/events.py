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

"""Wait for what a guest does with a device.

libvirt calls from the thread of its event loop; nothing here blocks that
thread.  A waiter is registered before the call whose outcome it waits for, so
that no event can come too early.

Events: https://libvirt.org/html/libvirt-libvirt-domain.html#virDomainEventID
"""

import collections
from collections.abc import Iterator
import contextlib
import enum
import queue
import threading
import time
import typing

import libvirt
from oslo_log import log as logging

LOG = logging.getLogger(__name__)


class Verdict(enum.Enum):
    """What became of a device that was asked to go."""

    REMOVED = 'removed'  # it is gone
    REFUSED = 'refused'  # the guest does not let it go
    STOPPED = 'stopped'  # the domain does not run any more
    UNCERTAIN = 'uncertain'  # the connection broke; events may be lost


class Waiter:
    """Waits for the events of one device."""

    def __init__(self) -> None:
        self._verdicts: queue.SimpleQueue[Verdict] = queue.SimpleQueue()

    def tell(self, verdict: Verdict) -> None:
        """Wake who waits; never blocks."""
        self._verdicts.put(verdict)

    def wait(self, seconds: float) -> Verdict | None:
        """Return the next verdict, or None after so many seconds."""
        try:
            return self._verdicts.get(timeout=max(seconds, 0.0))
        except queue.Empty:
            return None


class GuestEvents:
    """Hands the events of a connection to those who wait for them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: dict[tuple[str, str], list[Waiter]] = collections.defaultdict(list)

    @contextlib.contextmanager
    def waiter(self, guest_uuid: str, alias: str) -> Iterator[Waiter]:
        """Wait for the removal of the device with this alias."""
        key = (guest_uuid, alias)
        waiter = Waiter()
        with self._lock:
            self._waiters[key].append(waiter)
        try:
            yield waiter
        finally:
            with self._lock:
                self._waiters[key].remove(waiter)
                if not self._waiters[key]:
                    del self._waiters[key]

    def register(self, connection: libvirt.virConnect) -> list[int]:
        """Ask libvirt for the events of all domains; return what to deregister.

        :raises libvirt.libvirtError: the driver has no such events
        """
        wanted = (
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, self._device_removed),
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, self._removal_failed),
            (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._lifecycle),
        )
        return [
            connection.domainEventRegisterAny(None, event, callback, None)
            for event, callback in wanted
        ]

    def connection_lost(self) -> None:
        """Wake everybody: what happens from now on may pass unseen."""
        self._tell(lambda key: True, Verdict.UNCERTAIN)

    def _tell(self, whom: typing.Callable[[tuple[str, str]], bool], verdict: Verdict) -> None:
        with self._lock:
            found = [w for key, waiters in self._waiters.items() if whom(key) for w in waiters]
        for waiter in found:
            waiter.tell(verdict)

    def _device(self, domain: libvirt.virDomain, alias: str, verdict: Verdict) -> None:
        LOG.debug('Device %s of guest %s: %s', alias, domain.name(), verdict.value)
        key = (domain.UUIDString(), alias)
        self._tell(lambda other: other == key, verdict)

    def _device_removed(
        self, connection: object, domain: libvirt.virDomain, alias: str, opaque: object
    ) -> None:
        self._device(domain, alias, Verdict.REMOVED)

    def _removal_failed(
        self, connection: object, domain: libvirt.virDomain, alias: str, opaque: object
    ) -> None:
        self._device(domain, alias, Verdict.REFUSED)

    def _lifecycle(
        self,
        connection: object,
        domain: libvirt.virDomain,
        event: int,
        detail: int,
        opaque: object,
    ) -> None:
        if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
            guest_uuid = domain.UUIDString()
            self._tell(lambda key: key[0] == guest_uuid, Verdict.STOPPED)


class EventLoop:
    """libvirt's own event loop, run by one daemon thread of this process.

    libvirt takes one event loop a process, before its first connection, and
    cannot be asked whether it has one: who has a loop of his own tells
    Hypervisor so (``own_event_loop=False``) and this one is never started.
    """

    _lock = threading.Lock()
    _thread: threading.Thread | None = None

    @classmethod
    def ensure_running(cls) -> None:
        """Register and start the loop, the first time only."""
        with cls._lock:
            if cls._thread is not None:
                return
            # libvirt would print every error to stderr besides raising it.
            libvirt.registerErrorHandler(_log_error, None)
            libvirt.virEventRegisterDefaultImpl()
            cls._thread = threading.Thread(target=cls._run, name='libvirt-event-loop', daemon=True)
            cls._thread.start()

    @staticmethod
    def _run() -> None:
        while True:
            try:
                libvirt.virEventRunDefaultImpl()
            except libvirt.libvirtError:
                LOG.exception('The event loop of libvirt failed once; going on')
                time.sleep(0.1)


def _log_error(context: object, error: tuple[object, ...]) -> None:
    LOG.debug('libvirt: %s', error[2])
