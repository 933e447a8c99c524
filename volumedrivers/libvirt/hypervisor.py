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

"""The connection to libvirt: its event loop, reconnects, guests and secrets."""

import contextlib
import queue
import threading
import typing
import urllib.parse
import uuid

import libvirt
from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.host import deadline
from volumedrivers.libvirt import errors
from volumedrivers.libvirt.events import EventLoop
from volumedrivers.libvirt.events import GuestEvents
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.secret_store import SecretStore

LOG = logging.getLogger(__name__)

Answer = typing.TypeVar('Answer')

# A daemon that says nothing for so long is given up: interval in seconds,
# and how many may go unanswered.
KEEPALIVE = (5, 6)
# A daemon that hangs before keepalive works is given up after so many seconds.
OPEN_DEADLINE = 30.0
# So many domains are remembered at most.
KNOWN_DOMAINS = 256
# What QEMU has to do itself may take so many seconds.  libvirt waits for QEMU
# without end, and 30 s for another call that waits for it.
QEMU_DEADLINE = 120.0


class Hypervisor:
    """One libvirt URI: qemu:///system, qemu:///session, qemu:///embed?root=DIR ...

    Opens on first use, registers the event loop before, reconnects when the
    daemon was restarted.  Close it, or use it as a context manager.  Any
    number of threads may share one; a process that forks makes a new one in
    the child.

    An embedded driver (``embed``) lives in this process: libvirt allows one
    root directory a process and one process a root directory.  Its guests
    outlive the process.

    :param own_event_loop: run libvirt's event loop in a thread, one a process,
        and keep libvirt from printing errors to stderr.  A program that has a
        loop for libvirt already, such as nova-compute, says False; it must
        have registered it before, and must run it.
    """

    def __init__(self, uri: str, *, own_event_loop: bool = True) -> None:
        self.uri = uri
        self.events = GuestEvents()
        self.secrets = SecretStore(self)
        self._own_event_loop = own_event_loop
        self._lock = threading.RLock()
        self._connection: libvirt.virConnect | None = None
        self._registered: list[int] = []
        # By UUID, of this connection: to look one up is a round trip.
        self._domains: dict[str, libvirt.virDomain] = {}
        # Counts connections, so that the end of an old one, which may be
        # reported late, does not end the new one.
        self._generation = 0
        self._lost = False
        self._closed = False

    @property
    def is_embedded(self) -> bool:
        """Whether the driver lives in this process instead of in a daemon."""
        return urllib.parse.urlsplit(self.uri).path == '/embed'

    def connection(self) -> libvirt.virConnect:
        """Return the open connection; open it, or open it again, if need be.

        :raises HypervisorUnavailable: libvirt cannot be reached, or this
            object was closed
        """
        with self._lock:
            if self._closed:
                raise exception.HypervisorUnavailable(
                    uri=self.uri, reason='this connection was closed'
                )
            if self._connection is not None and not self._is_alive(self._connection):
                LOG.info('The connection to libvirt at %s was lost; opening it again', self.uri)
                self._drop()
            if self._connection is None:
                self._connect()
            return self._connection

    def ask(
        self,
        action: str,
        question: typing.Callable[[libvirt.virConnect], Answer],
        *,
        guest: str | None = None,
    ) -> Answer:
        """Ask libvirt something that changes nothing.

        A connection that breaks meanwhile is opened again and asked once more.

        :param action: what is asked, in words, for an error
        :param guest: name or UUID, where a domain is the matter
        :raises HypervisorUnavailable, GuestNotFound, Busy, HypervisorError
        """
        try:
            return question(self.connection())
        except libvirt.libvirtError as e:
            if not errors.is_connection_lost(e):
                raise errors.translate(e, uri=self.uri, action=action, guest=guest) from e
            LOG.info('libvirt at %s went away (%s); asking again', self.uri, e)
        with self.translated(action, guest=guest):
            return question(self.connection())

    @contextlib.contextmanager
    def translated(self, action: str, *, guest: str | None = None) -> typing.Iterator[None]:
        """Turn libvirt's errors within the block into ours."""
        try:
            yield
        except libvirt.libvirtError as e:
            raise errors.translate(e, uri=self.uri, action=action, guest=guest) from e

    def within_deadline(
        self,
        action: str,
        function: typing.Callable[[], Answer],
        *,
        seconds: float | None = None,
    ) -> Answer:
        """Call libvirt for something that QEMU has to do, or to answer.

        :param action: what it is, in words, for the error
        :param seconds: how long it may take; default: QEMU_DEADLINE
        :raises libvirt.libvirtError: raw; for use within ``translated``
        :raises DeadlineExceeded: QEMU hangs; it may still do it later
        """
        return deadline.call(
            function,
            what=f'QEMU, to {action}',
            seconds=QEMU_DEADLINE if seconds is None else seconds,
            # Whoever is interrupted has to know what came of it.
            interruptible=False,
        )

    def guest(self, name: str) -> Guest:
        """Find a domain by name or UUID.

        :raises GuestNotFound: libvirt said there is none
        :raises HypervisorUnavailable: libvirt could not say
        """

        def look_up(connection: libvirt.virConnect) -> libvirt.virDomain:
            try:
                return connection.lookupByName(name)
            except libvirt.libvirtError as e:
                if not (errors.is_no_domain(e) and _is_uuid(name)):
                    raise
            return connection.lookupByUUIDString(name)

        domain = self.ask(f'look up guest {name}', look_up, guest=name)
        return Guest(self, domain.name(), domain.UUIDString())

    def guests(self) -> tuple[Guest, ...]:
        """All domains, running or defined.

        :raises HypervisorUnavailable, HypervisorError: libvirt could not say
        """
        domains = self.ask('list the guests', lambda connection: connection.listAllDomains())
        return tuple(Guest(self, domain.name(), domain.UUIDString()) for domain in domains)

    def domain(self, guest_uuid: str) -> libvirt.virDomain:
        """Return libvirt's own object of a domain, on the connection of now.

        It may be one that was looked up before.  libvirt knows by the UUID
        which domain is meant, and says so when there is none any more.

        :raises libvirt.libvirtError: raw; for use within ``translated``
        :raises HypervisorUnavailable
        """
        connection = self.connection()
        with self._lock:
            known = self._domains.get(guest_uuid) if connection is self._connection else None
        if known is not None:
            return known
        domain = connection.lookupByUUIDString(guest_uuid)
        with self._lock:
            if connection is self._connection:
                if len(self._domains) >= KNOWN_DOMAINS:
                    self._domains.clear()
                self._domains[guest_uuid] = domain
        return domain

    def close(self) -> None:
        """Close the connection, for good; guests go on running."""
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._drop()

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _connect(self) -> None:
        if self._own_event_loop:
            EventLoop.ensure_running()
        if self.is_embedded:
            EmbeddedSecrets.open(self.uri)
        try:
            connection = _open(self.uri)
        except libvirt.libvirtError as e:
            # Whatever the code, there is no connection.
            raise exception.HypervisorUnavailable(uri=self.uri, reason=errors.message(e)) from e
        self._generation += 1
        self._lost = False
        self._connection = connection
        try:
            with self.translated('ask for events'):
                connection.registerCloseCallback(self._connection_closed, self._generation)
                self._registered = self.events.register(connection)
                _keep_alive(connection)
        except BaseException:
            self._drop()
            raise

    def _is_alive(self, connection: libvirt.virConnect) -> bool:
        try:
            return not self._lost and bool(connection.isAlive())
        except libvirt.libvirtError:
            return False

    def _drop(self) -> None:
        """Give the connection up; it may be broken already."""
        connection: libvirt.virConnect = self._connection
        self._connection = None
        registered, self._registered = self._registered, []
        # Each keeps its connection open.
        self._domains.clear()
        self._lost = False
        for callback in registered:
            with contextlib.suppress(libvirt.libvirtError):
                connection.domainEventDeregisterAny(callback)
        with contextlib.suppress(libvirt.libvirtError):
            connection.unregisterCloseCallback()
        with contextlib.suppress(libvirt.libvirtError):
            connection.close()

    def _connection_closed(
        self, connection: libvirt.virConnect, reason: int, generation: int
    ) -> None:
        # On the thread of the event loop: no lock that a caller of libvirt
        # may hold, and no call into libvirt.
        if reason != libvirt.VIR_CONNECT_CLOSE_REASON_CLIENT and generation == self._generation:
            self._lost = True
            self.events.connection_lost()


class EmbeddedSecrets:
    """The secret driver beside an embedded QEMU driver.

    It has to be there before the QEMU driver is opened, has the same root
    directory, and can be opened once a process; so it is kept for good.
    """

    _lock = threading.Lock()
    _connections: typing.ClassVar[dict[str, libvirt.virConnect]] = {}

    @classmethod
    def open(cls, uri: str) -> libvirt.virConnect:
        """Return the connection for an embedded QEMU driver's URI.

        :raises HypervisorUnavailable
        """
        secrets_uri = urllib.parse.urlunsplit(urllib.parse.urlsplit(uri)._replace(scheme='secret'))
        with cls._lock:
            if secrets_uri not in cls._connections:
                try:
                    cls._connections[secrets_uri] = libvirt.open(secrets_uri)
                except libvirt.libvirtError as e:
                    raise exception.HypervisorUnavailable(
                        uri=secrets_uri, reason=errors.message(e)
                    ) from e
            return cls._connections[secrets_uri]


def _open(uri: str) -> libvirt.virConnect:
    """Open, with a deadline: a daemon that hangs keeps the caller for ever.

    :raises libvirt.libvirtError
    :raises HypervisorUnavailable: the deadline passed
    """
    outcome: queue.SimpleQueue[object] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcome.put(libvirt.open(uri))
        except libvirt.libvirtError as e:
            outcome.put(e)

    threading.Thread(target=work, name='libvirt-open', daemon=True).start()
    try:
        result = outcome.get(timeout=OPEN_DEADLINE)
    except queue.Empty:
        raise exception.HypervisorUnavailable(
            uri=uri, reason=f'it accepted but said nothing for {OPEN_DEADLINE:g} s'
        ) from None
    if isinstance(result, libvirt.libvirtError):
        raise result
    return result


def _keep_alive(connection: libvirt.virConnect) -> None:
    try:
        connection.setKeepAlive(*KEEPALIVE)
    except libvirt.libvirtError as e:
        # Drivers within this process have nothing to keep alive.
        if e.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
