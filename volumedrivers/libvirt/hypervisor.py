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
import threading
import time
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

# How often an error may be lost; see errors.is_lost.
_LOST_ERRORS = 3
Answer = typing.TypeVar('Answer')

# A daemon that hangs before it has accepted is given up after so many seconds.
OPEN_DEADLINE = 30.0
# So many seconds libvirt itself may take to answer.  libvirt's own keepalive is
# not used: when it ends a connection on which several threads wait, libvirt 9.0
# wakes one, leaves the others for ever, and crashes the process later.
ANSWER_DEADLINE = 45.0
# So many seconds saying goodbye may take; a daemon that hangs never answers.
_GOODBYE = 1.0
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
    :param answer_timeout: seconds that libvirt itself may take for an answer,
        as option libvirt_timeout says; default: ANSWER_DEADLINE
    """

    def __init__(
        self, uri: str, *, own_event_loop: bool = True, answer_timeout: float | None = None
    ) -> None:
        self.uri = uri
        self._answer_timeout = ANSWER_DEADLINE if answer_timeout is None else answer_timeout
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
        self._failed_at = 0.0
        self._failure = ''
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
        asked = time.monotonic()
        with self._lock:
            if self._closed:
                raise exception.HypervisorUnavailable(
                    uri=self.uri, reason='this connection was closed'
                )
            if self._connection is not None and not self._is_alive(self._connection):
                LOG.info('The connection to libvirt at %s was lost; opening it again', self.uri)
                self._drop()
            if self._connection is None:
                if self._failed_at > asked:
                    # Whoever was before us in the queue has just tried in vain.
                    raise exception.HypervisorUnavailable(uri=self.uri, reason=self._failure)
                self._connect()
            return self._connection

    def ask(
        self,
        action: str,
        question: typing.Callable[[libvirt.virConnect], Answer],
        *,
        guest: str | None = None,
        of_qemu: bool = False,
    ) -> Answer:
        """Ask libvirt something that changes nothing.

        A connection that breaks meanwhile is opened again and asked once more.

        :param action: what is asked, in words, for an error
        :param guest: name or UUID, where a domain is the matter
        :param of_qemu: QEMU has to answer as well, with a deadline of its own
        :raises HypervisorUnavailable, GuestNotFound, Busy, HypervisorError
        """
        try:
            return self._answer(action, question, QEMU_DEADLINE if of_qemu else 0.0)
        except libvirt.libvirtError as e:
            if not errors.is_connection_lost(e):
                raise errors.translate(e, uri=self.uri, action=action, guest=guest) from e
            LOG.info('libvirt at %s went away (%s); asking again', self.uri, e)
        with self.translated(action, guest=guest):
            return self._answer(action, question, QEMU_DEADLINE if of_qemu else 0.0)

    def change(
        self,
        action: str,
        function: typing.Callable[[libvirt.virConnect], Answer],
        *,
        guest: str | None = None,
    ) -> Answer:
        """Let libvirt do something for which it does not need QEMU.

        A function that looks first: where libvirt's error was lost it is called
        again.

        :param action: what is done, in words, for an error
        :param guest: name or UUID, where a domain is the matter
        :raises HypervisorUnavailable: unknown whether it was done
        :raises GuestNotFound, Busy, HypervisorError
        """
        with self.translated(action, guest=guest):
            return self._answer(action, function, 0.0, interruptible=False)

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

    def _answer(
        self,
        action: str,
        question: typing.Callable[[libvirt.virConnect], Answer],
        seconds: float,
        *,
        interruptible: bool = True,
    ) -> Answer:
        """Ask, and give the connection up when there is no answer.

        :param question: may be called again, where libvirt's error was lost
        :raises libvirt.libvirtError, HypervisorUnavailable
        """
        connection = self.connection()

        def answer() -> Answer:
            for _ in range(_LOST_ERRORS):
                try:
                    return question(connection)
                except libvirt.libvirtError as e:
                    if not errors.is_lost(e):
                        raise
            return question(connection)

        what = f'libvirt, to {action}'
        seconds += self._answer_timeout
        try:
            return deadline.call(
                answer,
                what=what,
                seconds=seconds,
                interruptible=interruptible,
            )
        except exception.DeadlineExceeded as late:
            if late.what != what:
                raise  # of QEMU, which is another matter
            with self._lock:
                if connection is self._connection:
                    self._lost = True
            self.events.connection_lost()
            raise exception.HypervisorUnavailable(
                uri=self.uri, reason=f'it has not answered for {seconds:g} s, to {action}'
            ) from late

    def _connect(self) -> None:
        if self._own_event_loop:
            EventLoop.ensure_running()
        if self.is_embedded:
            EmbeddedSecrets.open(self.uri)
        self._generation += 1
        self._lost = False
        try:
            self._connection, self._registered = _open(
                self.uri, self._prepare, min(OPEN_DEADLINE, self._answer_timeout)
            )
        except libvirt.libvirtError as e:
            # Whatever the code, there is no connection.
            self._unreachable(errors.message(e))
            raise exception.HypervisorUnavailable(uri=self.uri, reason=self._failure) from e
        except exception.HypervisorUnavailable as e:
            self._unreachable(e.reason)
            raise

    def _unreachable(self, reason: str) -> None:
        self._failure = reason
        self._failed_at = time.monotonic()

    def _prepare(self, connection: libvirt.virConnect) -> list[int]:
        with self.translated('ask for events'):
            connection.registerCloseCallback(self._connection_closed, self._generation)
            return self.events.register(connection)

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
        domains, self._domains = self._domains, {}
        self._lost = False
        _say_goodbye(connection, registered, domains)

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


def _open(
    uri: str, prepare: typing.Callable[[libvirt.virConnect], list[int]], seconds: float
) -> tuple[libvirt.virConnect, list[int]]:
    """Open, with a deadline: a daemon that hangs keeps the caller for ever.

    :returns: the connection, and what ``prepare`` returned
    :raises libvirt.libvirtError
    :raises HypervisorUnavailable: the deadline passed
    """
    given_up = threading.Event()

    def work() -> tuple[libvirt.virConnect, list[int]]:
        connection = libvirt.open(uri)
        try:
            registered = prepare(connection)
        except BaseException:
            _close(connection, [])
            raise
        if given_up.is_set():
            _close(connection, registered)
        return connection, registered

    try:
        return deadline.call(work, what=f'libvirt at {uri}', seconds=seconds)
    except exception.DeadlineExceeded:
        given_up.set()
        raise exception.HypervisorUnavailable(
            uri=uri, reason=f'it accepted but said nothing for {seconds:g} s'
        ) from None


def _say_goodbye(
    connection: libvirt.virConnect,
    registered: list[int],
    domains: dict[str, libvirt.virDomain],
) -> None:
    def work() -> None:
        domains.clear()
        _close(connection, registered)

    with contextlib.suppress(exception.DeadlineExceeded):
        deadline.call(work, what='libvirt, to close the connection', seconds=_GOODBYE)


def _close(connection: libvirt.virConnect, registered: list[int]) -> None:
    for callback in registered:
        with contextlib.suppress(libvirt.libvirtError):
            connection.domainEventDeregisterAny(callback)
    with contextlib.suppress(libvirt.libvirtError):
        connection.unregisterCloseCallback()
    with contextlib.suppress(libvirt.libvirtError):
        connection.close()


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
