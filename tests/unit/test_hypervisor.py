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

import threading
import time
import typing

import libvirt
import pytest

from tests.unit import fake_libvirt
from tests.unit.fake_libvirt import LOST
from tests.unit.fake_libvirt import NO_DOMAIN
from tests.unit.fake_libvirt import FakeConnection
from tests.unit.fake_libvirt import FakeDomain
from volumedrivers import exception
from volumedrivers.host.deadline import Call
from volumedrivers.libvirt import errors
from volumedrivers.libvirt import hypervisor as hypervisor_module
from volumedrivers.libvirt.hypervisor import Hypervisor

SECRET_VALUE = b'correct horse battery staple'


class Daemon:
    """What libvirt.open finds: a new connection each time, or an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.domain = FakeDomain()
        self.connections: list[FakeConnection] = []
        self.error: Exception | None = None
        self.prepare: typing.Callable[[FakeConnection], None] = lambda connection: None
        monkeypatch.setattr(libvirt, 'open', self.open)

    def open(self, uri: str) -> FakeConnection:
        if self.error is not None:
            raise self.error
        self.connections.append(FakeConnection(self.domain))
        self.prepare(self.connections[-1])
        return self.connections[-1]

    def report_end(self, connection: FakeConnection, reason: int) -> None:
        assert connection.close_callback is not None
        callback, opaque = connection.close_callback
        callback(connection, reason, opaque)


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Daemon:
    return Daemon(monkeypatch)


@pytest.fixture
def hypervisor() -> Hypervisor:
    return Hypervisor('qemu:///system', own_event_loop=False)


def test_opens_on_first_use_and_once(daemon: Daemon, hypervisor: Hypervisor) -> None:
    assert daemon.connections == []
    assert hypervisor.guest('vm1').name == 'vm1'
    assert [guest.name for guest in hypervisor.guests()] == ['vm1']
    assert len(daemon.connections) == 1


def test_guest_by_name_and_uuid(daemon: Daemon, hypervisor: Hypervisor) -> None:
    by_name = hypervisor.guest('vm1')
    assert by_name.uuid == daemon.domain.UUIDString()
    assert hypervisor.guest(by_name.uuid).name == 'vm1'


@pytest.mark.parametrize('name', ['vm2', '2e4e0cf4-4d44-4b7b-9a06-3f5a1f6ae9a2', ''])
def test_guest_that_is_not_there(daemon: Daemon, hypervisor: Hypervisor, name: str) -> None:
    with pytest.raises(exception.GuestNotFound) as caught:
        hypervisor.guest(name)
    assert caught.value.details == {'guest': name, 'uri': 'qemu:///system'}


def test_daemon_that_is_not_there(daemon: Daemon, hypervisor: Hypervisor) -> None:
    daemon.error = fake_libvirt.error(
        libvirt.VIR_ERR_SYSTEM_ERROR, 'Connection refused', libvirt.VIR_FROM_RPC
    )
    with pytest.raises(exception.HypervisorUnavailable, match='Connection refused') as caught:
        hypervisor.guest('vm1')
    assert caught.value.__cause__ is daemon.error
    daemon.error = None
    assert hypervisor.guest('vm1').name == 'vm1'


def test_daemon_that_hangs_is_given_up(
    monkeypatch: pytest.MonkeyPatch, hypervisor: Hypervisor
) -> None:
    hanging = threading.Event()
    monkeypatch.setattr(libvirt, 'open', lambda uri: hanging.wait(10))
    monkeypatch.setattr(hypervisor_module, 'OPEN_DEADLINE', 0.05)
    with pytest.raises(exception.HypervisorUnavailable, match='said nothing'):
        hypervisor.guests()
    hanging.set()


@pytest.mark.parametrize('how', ['not alive', 'reported'])
def test_lost_connection_is_opened_again(daemon: Daemon, hypervisor: Hypervisor, how: str) -> None:
    guest = hypervisor.guest('vm1')
    first = daemon.connections[0]
    if how == 'reported':
        daemon.report_end(first, libvirt.VIR_CONNECT_CLOSE_REASON_EOF)
    else:
        first.alive = False
    assert guest.disks() == ()
    assert len(daemon.connections) == 2
    second = daemon.connections[1]
    assert first.closed
    assert first.events == {}
    assert sorted(event for event, _ in second.events.values()) == sorted(
        (
            libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
            libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
            libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED,
        )
    )


def test_domain_is_looked_up_once_a_connection(daemon: Daemon, hypervisor: Hypervisor) -> None:
    guest = hypervisor.guest('vm1')
    assert guest.disks() == guest.disks() == ()
    first = daemon.connections[0]
    # Another look-up would fail.
    first.script['lookup'] = [NO_DOMAIN]
    assert guest.disks() == ()
    first.alive = False
    assert guest.disks() == ()
    assert guest.hypervisor.domain(guest.uuid) is daemon.domain
    assert len(daemon.connections) == 2
    daemon.connections[1].domains.clear()
    with pytest.raises(exception.GuestNotFound):
        guest.disks()


def test_remembered_domains_are_not_without_end(
    daemon: Daemon, hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hypervisor_module, 'KNOWN_DOMAINS', 2)
    guests = [FakeDomain(f'vm{number}') for number in range(5)]

    def prepare(connection: FakeConnection) -> None:
        connection.domains.update({domain.name(): domain for domain in guests})

    daemon.prepare = prepare
    for domain in guests:
        assert hypervisor.domain(domain.UUIDString()) is domain
    assert len(hypervisor._domains) <= 2


def test_late_report_of_an_old_connection_does_not_end_the_new_one(
    daemon: Daemon, hypervisor: Hypervisor
) -> None:
    guest = hypervisor.guest('vm1')
    first = daemon.connections[0]
    assert first.close_callback is not None
    callback, opaque = first.close_callback
    first.alive = False
    guest.disks()
    callback(first, libvirt.VIR_CONNECT_CLOSE_REASON_ERROR, opaque)
    guest.disks()
    assert len(daemon.connections) == 2


def test_our_own_close_is_not_a_loss(daemon: Daemon, hypervisor: Hypervisor) -> None:
    hypervisor.guest('vm1')
    with hypervisor.events.waiter('uuid', 'ua-1') as waiter:
        daemon.report_end(daemon.connections[0], libvirt.VIR_CONNECT_CLOSE_REASON_CLIENT)
        assert waiter.wait(0) is None


def test_question_that_breaks_the_connection_is_asked_again(
    daemon: Daemon, hypervisor: Hypervisor
) -> None:
    hypervisor.guest('vm1')

    def break_down() -> None:
        daemon.connections[0].alive = False
        raise LOST

    daemon.connections[0].script['list'] = [break_down]
    assert [guest.name for guest in hypervisor.guests()] == ['vm1']
    assert len(daemon.connections) == 2


def test_question_whose_error_was_lost_is_asked_again(
    daemon: Daemon, hypervisor: Hypervisor
) -> None:
    """The binding raises an empty error where the thread's last one was wiped."""
    libvirt.virResetLastError()
    wiped = libvirt.libvirtError('virConnectListAllDomains() failed')
    assert wiped.get_error_code() is None
    daemon.prepare = lambda connection: connection.script.update(list=[wiped, wiped])
    assert [guest.name for guest in hypervisor.guests()] == ['vm1']
    assert len(daemon.connections) == 1


def test_question_is_asked_twice_at_most(daemon: Daemon, hypervisor: Hypervisor) -> None:
    daemon.prepare = lambda connection: connection.script.update(list=[LOST, LOST])
    with pytest.raises(exception.HypervisorUnavailable):
        hypervisor.guests()


def test_other_errors_are_not_asked_again(daemon: Daemon, hypervisor: Hypervisor) -> None:
    raised = fake_libvirt.error(libvirt.VIR_ERR_INTERNAL_ERROR, 'broken')
    daemon.prepare = lambda connection: connection.script.update(list=[raised])
    with pytest.raises(exception.HypervisorError, match='list the guests failed: broken'):
        hypervisor.guests()
    assert hypervisor.guests()


def test_connection_without_events_is_not_kept(daemon: Daemon, hypervisor: Hypervisor) -> None:
    raised = fake_libvirt.error(libvirt.VIR_ERR_NO_SUPPORT, 'no events')
    daemon.prepare = lambda connection: connection.script.update(domainEventRegisterAny=[raised])
    with pytest.raises(exception.HypervisorError):
        hypervisor.guests()
    assert daemon.connections[0].closed


def test_answer_that_does_not_come_ends_the_connection(daemon: Daemon) -> None:
    hypervisor = Hypervisor('qemu:///system', own_event_loop=False, answer_timeout=0.05)
    go_on = threading.Event()
    daemon.prepare = lambda connection: connection.script.update(list=[lambda: go_on.wait(10)])
    with pytest.raises(exception.HypervisorUnavailable, match=r'0\.05 s, to list the guests'):
        hypervisor.guests()
    daemon.prepare = lambda connection: None
    assert [guest.name for guest in hypervisor.guests()] == ['vm1']
    assert [connection.closed for connection in daemon.connections] == [True, False]
    go_on.set()


def test_connection_that_cannot_be_closed_is_left(daemon: Daemon, hypervisor: Hypervisor) -> None:
    """libvirt asks a daemon that hangs to forget what it reports, and waits."""
    hypervisor.guests()
    go_on = threading.Event()
    first = daemon.connections[0]
    first.script['domainEventDeregisterAny'] = [lambda: go_on.wait(30)]
    first.alive = False
    assert hypervisor.guests()
    assert not first.closed
    go_on.set()


def test_those_who_wait_in_a_queue_share_the_failure(
    monkeypatch: pytest.MonkeyPatch, hypervisor: Hypervisor
) -> None:
    attempts = []
    go_on = threading.Event()

    def hang(uri: str) -> None:
        attempts.append(uri)
        go_on.wait(10)
        raise fake_libvirt.error(libvirt.VIR_ERR_SYSTEM_ERROR, 'Connection refused')

    monkeypatch.setattr(libvirt, 'open', hang)
    began = threading.Barrier(9)

    def ask() -> None:
        began.wait(10)
        hypervisor.guests()

    calls = [Call(ask, what='the guests') for _ in range(8)]
    began.wait(10)
    while not attempts:
        time.sleep(0.01)
    time.sleep(0.2)
    go_on.set()
    for call in calls:
        with pytest.raises(exception.HypervisorUnavailable, match='Connection refused'):
            call.wait(10)
    assert len(attempts) == 1


def test_closed_is_closed(daemon: Daemon, hypervisor: Hypervisor) -> None:
    with hypervisor:
        hypervisor.guests()
    assert daemon.connections[0].closed
    with pytest.raises(exception.HypervisorUnavailable, match='closed'):
        hypervisor.guests()
    hypervisor.close()


@pytest.mark.parametrize(
    ('uri', 'embedded'),
    [
        ('qemu:///embed?root=/x', True),
        ('qemu:///system', False),
        ('qemu:///session', False),
        ('qemu+unix:///system?socket=/embed', False),
    ],
)
def test_embedded_is_told_from_the_uri(uri: str, embedded: bool) -> None:
    assert Hypervisor(uri).is_embedded is embedded


# Errors


@pytest.mark.parametrize(
    ('code', 'domain', 'expected'),
    [
        (libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_FROM_NONE, exception.HypervisorUnavailable),
        (libvirt.VIR_ERR_INVALID_CONN, libvirt.VIR_FROM_NONE, exception.HypervisorUnavailable),
        (libvirt.VIR_ERR_AUTH_FAILED, libvirt.VIR_FROM_RPC, exception.HypervisorUnavailable),
        (
            libvirt.VIR_ERR_AUTH_UNAVAILABLE,
            libvirt.VIR_FROM_POLKIT,
            exception.HypervisorUnavailable,
        ),
        (libvirt.VIR_ERR_RPC, libvirt.VIR_FROM_RPC, exception.HypervisorUnavailable),
        (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_RPC, exception.HypervisorUnavailable),
        (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_RPC, exception.HypervisorUnavailable),
        (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_REMOTE, exception.HypervisorUnavailable),
        (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_QEMU, exception.HypervisorError),
        (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU, exception.HypervisorError),
        (libvirt.VIR_ERR_OPERATION_TIMEOUT, libvirt.VIR_FROM_QEMU, exception.Busy),
        (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_FROM_QEMU, exception.GuestNotFound),
        (libvirt.VIR_ERR_OPERATION_DENIED, libvirt.VIR_FROM_QEMU, exception.HypervisorError),
    ],
)
def test_translation(code: int, domain: int, expected: type[Exception]) -> None:
    raised = fake_libvirt.error(code, 'why', domain)
    found = errors.translate(raised, uri='qemu:///system', action='look', guest='vm1')
    assert type(found) is expected


# Secrets


def test_secret_is_defined_found_and_deleted(daemon: Daemon, hypervisor: Hypervisor) -> None:
    secrets = hypervisor.secrets
    for usage_type in ('volume', 'ceph', 'iscsi', 'tls'):
        assert secrets.find(usage_type, 'id') is None
        uuid = secrets.ensure(usage_type, 'id', SECRET_VALUE)
        assert secrets.find(usage_type, 'id') == uuid
        assert secrets.ensure(usage_type, 'id', b'another') == uuid
    connection = daemon.connections[0]
    assert len(connection.secret_xml) == 8  # each without a value first
    assert {secret.value for secret in connection.secrets.values()} == {b'another'}
    for xml in connection.secret_xml:
        assert 'ephemeral="yes"' in xml
        assert 'private="yes"' in xml
        assert SECRET_VALUE.decode() not in xml
    assert secrets.delete('volume', 'id') is True
    assert secrets.delete('volume', 'id') is False
    assert secrets.find('volume', 'id') is None


def test_secret_may_be_kept_on_disk(daemon: Daemon, hypervisor: Hypervisor) -> None:
    hypervisor.secrets.ensure('volume', 'id', SECRET_VALUE, ephemeral=False)
    assert 'ephemeral="no"' in daemon.connections[0].secret_xml[0]


@pytest.mark.parametrize(
    ('raised', 'expected'),
    [
        (fake_libvirt.error(libvirt.VIR_ERR_INTERNAL_ERROR), exception.HypervisorError),
        (fake_libvirt.error(libvirt.VIR_ERR_ACCESS_DENIED), exception.HypervisorError),
        (LOST, exception.HypervisorUnavailable),
    ],
)
def test_secret_that_cannot_be_asked_for_is_not_absent(
    daemon: Daemon, hypervisor: Hypervisor, raised: Exception, expected: type[Exception]
) -> None:
    secrets = hypervisor.secrets
    for ask in (
        lambda: secrets.find('volume', 'id'),
        lambda: secrets.find_complete('volume', 'id'),
        lambda: secrets.delete('volume', 'id'),
        lambda: secrets.ensure('volume', 'id', SECRET_VALUE),
    ):
        hypervisor.connection()
        daemon.connections[-1].script['secretLookupByUsage'] = [raised, raised]
        with pytest.raises(expected) as caught:
            ask()
        assert SECRET_VALUE.decode() not in str(caught.value)
    assert daemon.connections[-1].secret_xml == []


def test_secret_without_its_value_is_undone(daemon: Daemon, hypervisor: Hypervisor) -> None:
    raised = fake_libvirt.error(libvirt.VIR_ERR_INTERNAL_ERROR, 'no value')
    daemon.prepare = lambda connection: connection.script.update(setValue=[raised])
    with pytest.raises(exception.HypervisorError, match='no value'):
        hypervisor.secrets.ensure('volume', 'id', SECRET_VALUE)
    assert daemon.connections[0].secrets == {}


def test_secret_whose_maker_was_killed_before_it_had_a_value(
    daemon: Daemon, hypervisor: Hypervisor
) -> None:
    secrets = hypervisor.secrets
    killed = KeyboardInterrupt()
    daemon.prepare = lambda connection: connection.script.update(setValue=[killed])
    with pytest.raises(KeyboardInterrupt):
        secrets.ensure('volume', 'id', SECRET_VALUE)
    uuid = secrets.find('volume', 'id')
    assert uuid is not None
    assert secrets.find_complete('volume', 'id') is None
    assert secrets.ensure('volume', 'id', SECRET_VALUE) == uuid
    assert secrets.find_complete('volume', 'id') == uuid


def test_secret_that_was_there_stays_when_its_value_cannot_be_set(
    daemon: Daemon, hypervisor: Hypervisor
) -> None:
    uuid = hypervisor.secrets.ensure('volume', 'id', SECRET_VALUE)
    raised = fake_libvirt.error(libvirt.VIR_ERR_INTERNAL_ERROR)
    daemon.connections[0].script['setValue'] = [raised]
    with pytest.raises(exception.HypervisorError):
        hypervisor.secrets.ensure('volume', 'id', b'another')
    assert hypervisor.secrets.find('volume', 'id') == uuid


def test_secret_that_somebody_else_defines_first(daemon: Daemon, hypervisor: Hypervisor) -> None:
    hypervisor.connection()
    connection = daemon.connections[0]

    def other() -> None:
        connection.secrets[1, 'id'] = fake_libvirt.FakeSecret(connection, (1, 'id'))
        raise fake_libvirt.error(libvirt.VIR_ERR_INTERNAL_ERROR, 'already defined')

    connection.script['secretDefineXML'] = [other]
    assert hypervisor.secrets.ensure('volume', 'id', SECRET_VALUE)
    assert connection.secrets[1, 'id'].value == SECRET_VALUE


def test_secret_that_somebody_else_deletes_first(daemon: Daemon, hypervisor: Hypervisor) -> None:
    hypervisor.secrets.ensure('volume', 'id', SECRET_VALUE)
    gone = fake_libvirt.error(libvirt.VIR_ERR_NO_SECRET)
    daemon.connections[0].script['undefine'] = [gone]
    assert hypervisor.secrets.delete('volume', 'id') is False


@pytest.mark.parametrize(('usage_type', 'usage_id'), [('vtpm', 'x'), ('', 'x'), ('volume', '')])
def test_impossible_secret(hypervisor: Hypervisor, usage_type: str, usage_id: str) -> None:
    secrets = hypervisor.secrets
    for ask in (
        lambda: secrets.find(usage_type, usage_id),
        lambda: secrets.delete(usage_type, usage_id),
        lambda: secrets.ensure(usage_type, usage_id, SECRET_VALUE),
    ):
        with pytest.raises(exception.InvalidDocument):
            ask()


def test_embedded_libvirt_is_not_made_to_crash() -> None:
    secrets = Hypervisor('qemu:///embed?root=/x', own_event_loop=False).secrets
    with pytest.raises(exception.SecretsNotSupported) as caught:
        secrets.ensure('volume', 'id', SECRET_VALUE)
    assert SECRET_VALUE.decode() not in str(caught.value)
    with pytest.raises(exception.SecretsNotSupported):
        secrets.delete('volume', 'id')
