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

from collections.abc import Iterator
import threading
import typing

import libvirt
from lxml import etree
import pytest

from tests.unit import fake_libvirt
from tests.unit.fake_libvirt import LOST
from tests.unit.fake_libvirt import NO_DOMAIN
from tests.unit.fake_libvirt import FakeConnection
from tests.unit.fake_libvirt import FakeDomain
from volumedrivers import exception
from volumedrivers.libvirt import guest_detach
from volumedrivers.libvirt import hypervisor
from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.disk import IOTune
from volumedrivers.libvirt.events import Verdict
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor

LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
CONFIG = libvirt.VIR_DOMAIN_AFFECT_CONFIG
BOTH = LIVE | CONFIG

DISK = Disk.parse(
    "<disk type='file' device='disk'><source file='/volume'/>"
    "<target dev='vdb' bus='virtio'/><alias name='ua-1'/></disk>"
)


class Scene:
    """A guest on a fake libvirt; its disk is where the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, domain: FakeDomain) -> None:
        self.domain = domain
        self.connection = FakeConnection(domain)
        monkeypatch.setattr(libvirt, 'open', lambda uri: self.connection)
        monkeypatch.setattr(guest_detach, 'POLL', 0.005)
        monkeypatch.setattr(guest_detach, 'EVENT_GRACE', 0.01)
        self.hypervisor = Hypervisor('test:///fake', own_event_loop=False)
        self.guest: Guest = self.hypervisor.guest(domain.name())

    def put(self, *definitions: str, disk: Disk = DISK) -> None:
        for definition in definitions:
            getattr(self.domain, definition).append(disk.build())

    def emit(self, event: int, *details: object) -> None:
        self.connection.emit(event, self.domain, *details)

    def removed(self) -> None:
        self.domain.remove_live()
        self.emit(libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, 'ua-1')

    def detach(self, **options: typing.Any) -> None:
        options = {'alias': 'ua-1', 'target': 'vdb', 'attempts': 2, 'timeout': 0.03, **options}
        self.guest.detach_disk(**options)

    def asked(self) -> int:
        return sum(call[0] == 'detach alias' for call in self.domain.calls)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch, FakeDomain())


@pytest.fixture
def attached(scene: Scene) -> Scene:
    scene.put('live', 'persistent')
    return scene


# What QEMU is at


def test_guest_whose_qemu_does_not_answer_is_busy(scene: Scene) -> None:
    scene.domain.control = libvirt.VIR_DOMAIN_CONTROL_OCCUPIED
    with pytest.raises(exception.Busy, match='may still get or lose a disk'):
        scene.guest.wait_until_idle(0.01)


def test_guest_is_waited_for_until_its_qemu_answers(scene: Scene) -> None:
    scene.domain.control = libvirt.VIR_DOMAIN_CONTROL_OCCUPIED

    def answer() -> None:
        scene.domain.control = libvirt.VIR_DOMAIN_CONTROL_JOB

    scene.domain.script['controlInfo'] = [lambda: None, answer]
    scene.guest.wait_until_idle(10)
    assert scene.domain.script['controlInfo'] == []


def test_guest_that_does_not_run_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch, FakeDomain(running=False))
    scene.domain.control = libvirt.VIR_DOMAIN_CONTROL_OCCUPIED
    scene.guest.wait_until_idle(0)


# Attach


@pytest.mark.parametrize(
    ('running', 'defined', 'flags'),
    [(True, True, BOTH), (True, False, LIVE), (False, True, CONFIG)],
)
def test_state_decides_what_is_changed(
    monkeypatch: pytest.MonkeyPatch, running: bool, defined: bool, flags: int
) -> None:
    scene = Scene(monkeypatch, FakeDomain(running=running, defined=defined))
    scene.guest.attach_disk(DISK)
    assert scene.domain.calls == [('attach', flags)]


@pytest.mark.parametrize(
    ('there', 'calls'),
    [
        (('live', 'persistent'), []),
        (('live',), [('attach', CONFIG)]),
        (('persistent',), [('attach', LIVE)]),
    ],
)
def test_only_what_is_missing_is_attached(
    scene: Scene, there: tuple[str, ...], calls: list[object]
) -> None:
    scene.put(*there)
    scene.guest.attach_disk(DISK)
    assert scene.domain.calls == calls


def other_disk(**changes: str) -> Disk:
    xml = DISK.to_xml()
    for old, new in changes.items():
        assert old in xml
        xml = xml.replace(old, new)
    return Disk.parse(xml)


@pytest.mark.parametrize(
    'asked',
    [
        other_disk(volume='other'),
        Disk.parse(DISK.to_xml().replace('ua-1', 'ua-2').replace('/volume', '/other')),
        Disk.parse(DISK.to_xml().replace('vdb', 'vdc').replace('/volume', '/other')),
    ],
)
@pytest.mark.parametrize('definition', ['live', 'persistent'])
def test_name_of_another_disk_is_refused(scene: Scene, definition: str, asked: Disk) -> None:
    scene.put(definition)
    with pytest.raises(exception.AttachRefused, match=r'has (ua-1|vdb) already'):
        scene.guest.attach_disk(asked)
    assert scene.domain.calls == []


@pytest.fixture
def hangs(monkeypatch: pytest.MonkeyPatch) -> Iterator[typing.Callable[..., int]]:
    """A call of libvirt that waits for a QEMU which never answers."""
    monkeypatch.setattr(hypervisor, 'QEMU_DEADLINE', 0.05)
    end = threading.Event()

    def hang(*_: object) -> int:
        end.wait(10)
        return 0

    yield hang
    end.set()


def test_qemu_that_hangs_is_given_up(
    attached: Scene, monkeypatch: pytest.MonkeyPatch, hangs: typing.Callable[..., int]
) -> None:
    guest = attached.guest
    other = Disk.parse(DISK.to_xml().replace('ua-1', 'ua-2').replace('vdb', 'vdc'))
    for name, call in {
        'attachDeviceFlags': lambda: guest.attach_disk(other),
        'blockInfo': lambda: guest.resize_disk('vdb', 1 << 30),
        'blockIoTune': lambda: guest.iotune('vdb'),
        'setBlockIoTune': lambda: guest.set_iotune('vdb', IOTune(total_bytes_sec=1)),
    }.items():
        monkeypatch.setattr(attached.domain, name, hangs, raising=False)
        with pytest.raises(exception.DeadlineExceeded, match='QEMU'):
            call()
    monkeypatch.setattr(attached.domain, 'detachDeviceAlias', hangs)
    with pytest.raises(exception.DetachTimeout):
        attached.detach()


def test_live_half_is_undone_when_the_other_half_fails(scene: Scene) -> None:
    refusal = fake_libvirt.error(libvirt.VIR_ERR_XML_ERROR, 'cannot save')

    def attach(xml: str, flags: int) -> int:
        scene.put('live')
        raise refusal

    scene.domain.script = {'detach alias': [scene.removed]}
    scene.domain.attachDeviceFlags = attach  # type: ignore[method-assign]
    with pytest.raises(exception.AttachRefused, match='cannot save') as caught:
        scene.guest.attach_disk(DISK)
    assert caught.value.__cause__ is refusal
    assert scene.domain.live == scene.domain.persistent == []
    assert scene.asked() == 1


def test_disk_that_somebody_else_attached_meanwhile_is_success(scene: Scene) -> None:
    def attach(xml: str, flags: int) -> int:
        scene.put('live', 'persistent')
        raise fake_libvirt.error(libvirt.VIR_ERR_OPERATION_FAILED, 'target vdb already exists')

    scene.domain.attachDeviceFlags = attach  # type: ignore[method-assign]
    scene.guest.attach_disk(DISK)
    assert scene.asked() == 0


def test_another_disk_that_came_meanwhile_stays(scene: Scene) -> None:
    other = other_disk(volume='other')

    def attach(xml: str, flags: int) -> int:
        scene.put('live', disk=other)
        raise fake_libvirt.error(libvirt.VIR_ERR_OPERATION_FAILED, 'target vdb already exists')

    scene.domain.attachDeviceFlags = attach  # type: ignore[method-assign]
    with pytest.raises(exception.AttachRefused, match='target vdb already exists'):
        scene.guest.attach_disk(DISK)
    assert scene.asked() == 0


def test_undo_that_fails_does_not_hide_the_first_error(scene: Scene) -> None:
    def attach(xml: str, flags: int) -> int:
        scene.put('live')
        raise fake_libvirt.error(libvirt.VIR_ERR_XML_ERROR, 'cannot save')

    scene.domain.attachDeviceFlags = attach  # type: ignore[method-assign]
    scene.domain.script = {
        'detach alias': [fake_libvirt.error(libvirt.VIR_ERR_CONFIG_UNSUPPORTED, 'not this one')]
    }
    with pytest.raises(exception.AttachRefused, match='cannot save') as caught:
        scene.guest.attach_disk(DISK)
    assert 'not this one' in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ('raised', 'expected'),
    [
        (LOST, exception.HypervisorUnavailable),
        (NO_DOMAIN, exception.GuestNotFound),
        (fake_libvirt.error(libvirt.VIR_ERR_OPERATION_TIMEOUT), exception.Busy),
        (fake_libvirt.error(libvirt.VIR_ERR_INTERNAL_ERROR), exception.AttachRefused),
        (fake_libvirt.error(libvirt.VIR_ERR_CONFIG_UNSUPPORTED), exception.AttachRefused),
    ],
)
def test_errors_of_attach(scene: Scene, raised: Exception, expected: type[Exception]) -> None:
    scene.domain.script['attach'] = [raised]
    with pytest.raises(expected) as caught:
        scene.guest.attach_disk(DISK)
    assert caught.value.__cause__ is raised
    assert scene.domain.live == scene.domain.persistent == []


# Detach: what counts as gone


def test_event_ends_the_wait(attached: Scene) -> None:
    attached.domain.script['detach alias'] = [attached.removed]
    attached.detach(timeout=30)
    assert attached.domain.calls == [('detach', CONFIG), ('detach alias', 'ua-1', LIVE)]


def test_event_that_comes_later_ends_the_wait(attached: Scene) -> None:
    timer = threading.Timer(0.05, attached.removed)
    attached.domain.script['detach alias'] = [timer.start]
    attached.detach(timeout=30)
    assert attached.asked() == 1


def test_lost_event_is_made_up_for_by_looking(attached: Scene) -> None:
    attached.domain.script['detach alias'] = [attached.domain.remove_live]
    attached.detach(timeout=30)
    assert attached.asked() == 1


def test_event_of_another_device_proves_nothing(attached: Scene) -> None:
    removed = libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED
    attached.domain.script['detach alias'] = [lambda: attached.emit(removed, 'ua-2')]
    with pytest.raises(exception.DetachTimeout):
        attached.detach(attempts=1)


def test_return_of_0_proves_nothing(attached: Scene) -> None:
    with pytest.raises(exception.DetachTimeout) as caught:
        attached.detach(attempts=3)
    assert caught.value.details == {
        'guest': 'vm1',
        'disk': 'ua-1 or vdb',
        'attempts': 3,
        'seconds': 0.03,
        'reason': 'its kernel has to cooperate',
    }
    assert attached.asked() == 3
    # The persistent definition is not asked again.
    assert attached.domain.calls.count(('detach', CONFIG)) == 1


def test_guest_that_refuses_ends_it_at_once(attached: Scene) -> None:
    failed = libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED
    attached.domain.script['detach alias'] = [lambda: attached.emit(failed, 'ua-1')]
    with pytest.raises(exception.DetachRefused):
        attached.detach(timeout=30)
    assert attached.asked() == 1


def test_second_attempt_may_succeed(attached: Scene) -> None:
    attached.domain.script['detach alias'] = [lambda: None, attached.removed]
    attached.detach()
    assert attached.asked() == 2


def test_live_only_and_persistent_only(scene: Scene) -> None:
    scene.put('persistent')
    scene.detach()
    assert scene.domain.calls == [('detach', CONFIG)]
    scene.put('live')
    scene.domain.script['detach alias'] = [scene.removed]
    scene.detach()
    assert scene.domain.calls[1:] == [('detach alias', 'ua-1', LIVE)]


def test_disk_in_neither_definition(scene: Scene) -> None:
    with pytest.raises(exception.DiskNotFound):
        scene.detach()
    assert scene.domain.calls == []


def test_target_of_another_volume_is_left_alone(scene: Scene) -> None:
    scene.put('live', 'persistent', disk=other_disk(**{'ua-1': 'ua-2'}))
    with pytest.raises(exception.DiskNotFound):
        scene.detach()
    assert scene.domain.calls == []


def test_persistent_disk_of_the_same_target_with_another_source_is_left_alone(
    scene: Scene,
) -> None:
    scene.put('live')
    stranger = Disk.parse(
        "<disk type='file' device='disk'><source file='/stranger'/>"
        "<target dev='vdb' bus='virtio'/></disk>"
    )
    scene.put('persistent', disk=stranger)
    scene.domain.script['detach alias'] = [scene.removed]
    scene.detach()
    assert scene.domain.persistent is not None
    assert len(scene.domain.persistent) == 1


def test_by_target_libvirts_own_alias_is_waited_for(scene: Scene) -> None:
    scene.put('live', disk=other_disk(**{'ua-1': 'virtio-disk1'}))
    removed = libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED
    scene.domain.script['detach alias'] = [lambda: scene.emit(removed, 'virtio-disk1')]
    scene.detach(timeout=30)
    assert scene.domain.calls == [('detach alias', 'virtio-disk1', LIVE)]


# Detach: the domain changes meanwhile


def test_domain_that_stops_lets_go(attached: Scene) -> None:
    def stop() -> None:
        attached.domain.stop()
        attached.emit(libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_STOPPED, 0)

    attached.domain.script['detach alias'] = [stop]
    attached.detach(timeout=30)
    assert attached.domain.persistent == []


def test_domain_that_stopped_and_started_again_with_the_disk_keeps_it(attached: Scene) -> None:
    attached.domain.script['detach alias'] = [
        lambda: attached.emit(
            libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_STOPPED, 0
        )
    ]
    with pytest.raises(exception.DetachTimeout):
        attached.detach(attempts=1)


def test_other_lifecycle_events_prove_nothing(attached: Scene) -> None:
    attached.domain.script['detach alias'] = [
        lambda: attached.emit(
            libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_SUSPENDED, 0
        )
    ]
    with pytest.raises(exception.DetachTimeout):
        attached.detach(attempts=1)


def test_domain_that_vanishes_lets_go(attached: Scene) -> None:
    attached.domain.script['detach alias'] = [attached.connection.domains.clear]
    attached.detach(attempts=1, timeout=1)


def test_domain_that_is_not_there_at_all(attached: Scene) -> None:
    attached.connection.domains.clear()
    with pytest.raises(exception.GuestNotFound):
        attached.detach()


# Detach: libvirt's errors

PENDING = fake_libvirt.error(
    libvirt.VIR_ERR_INTERNAL_ERROR,
    "unable to execute QEMU command 'device_del': Device ua-1 is already in the process of unplug",
)
MISSING = fake_libvirt.error(libvirt.VIR_ERR_DEVICE_MISSING, 'no device with alias ua-1')
NOT_FOUND = fake_libvirt.error(libvirt.VIR_ERR_OPERATION_FAILED, 'disk vdb not found')
REJECTED = fake_libvirt.error(
    libvirt.VIR_ERR_OPERATION_FAILED, 'unplug of device was rejected by the guest'
)
NOT_RUNNING = fake_libvirt.error(libvirt.VIR_ERR_OPERATION_INVALID, 'domain is not running')


@pytest.mark.parametrize('raised', [PENDING, MISSING, NOT_FOUND])
def test_errors_after_which_the_guest_may_still_let_go(attached: Scene, raised: Exception) -> None:
    timer = threading.Timer(0.05, attached.removed)

    def fail() -> None:
        timer.start()
        raise raised

    attached.domain.script['detach alias'] = [fail]
    attached.detach(timeout=30)
    assert attached.asked() == 1


def test_question_that_may_have_been_lost_is_asked_again(attached: Scene) -> None:
    attached.domain.script['detach alias'] = [LOST, LOST, attached.removed]
    attached.detach(attempts=1, timeout=30)
    assert attached.asked() == 3


@pytest.mark.parametrize('raised', [PENDING, MISSING, NOT_FOUND])
def test_errors_that_do_not_prove_it_gone(attached: Scene, raised: Exception) -> None:
    attached.domain.script['detach alias'] = [raised, raised]
    with pytest.raises(exception.DetachTimeout):
        attached.detach()
    assert attached.asked() == 2


@pytest.mark.parametrize('raised', [MISSING, NOT_FOUND, REJECTED, NOT_RUNNING])
def test_whatever_the_error_a_disk_that_is_gone_is_gone(
    attached: Scene, raised: Exception
) -> None:
    def fail() -> None:
        attached.domain.remove_live()
        raise raised

    attached.domain.script['detach alias'] = [fail]
    attached.detach(timeout=30)


def test_domain_gone_while_it_is_asked(attached: Scene) -> None:
    attached.domain.script['detach alias'] = [NO_DOMAIN]
    attached.detach(timeout=30)


@pytest.mark.parametrize(
    ('code', 'expected'),
    [
        (libvirt.VIR_ERR_OPERATION_FAILED, exception.DetachRefused),
        (libvirt.VIR_ERR_OPERATION_INVALID, exception.DetachRefused),
        (libvirt.VIR_ERR_OPERATION_UNSUPPORTED, exception.DetachRefused),
        (libvirt.VIR_ERR_CONFIG_UNSUPPORTED, exception.DetachRefused),
        (libvirt.VIR_ERR_INTERNAL_ERROR, exception.DetachRefused),
        (libvirt.VIR_ERR_ACCESS_DENIED, exception.DetachRefused),
        (libvirt.VIR_ERR_OPERATION_TIMEOUT, exception.Busy),
        (libvirt.VIR_ERR_BLOCK_COPY_ACTIVE, exception.Busy),
        (libvirt.VIR_ERR_RESOURCE_BUSY, exception.Busy),
    ],
)
@pytest.mark.parametrize('method', ['detach', 'detach alias'])
def test_refusals(attached: Scene, method: str, code: int, expected: type[Exception]) -> None:
    raised = fake_libvirt.error(code)
    attached.domain.script[method] = [raised]
    with pytest.raises(expected) as caught:
        attached.detach(timeout=30)
    assert caught.value.__cause__ is raised
    assert attached.domain.live


def test_persistent_definition_that_lost_it_meanwhile(attached: Scene) -> None:
    def fail() -> None:
        attached.domain.persistent = []
        raise MISSING

    attached.domain.script = {'detach': [fail], 'detach alias': [attached.removed]}
    attached.detach(timeout=30)


@pytest.mark.parametrize(
    ('raised', 'expected'),
    [(LOST, exception.HypervisorUnavailable), (NO_DOMAIN, exception.GuestNotFound)],
)
def test_persistent_definition_cannot_be_changed(
    attached: Scene, raised: Exception, expected: type[Exception]
) -> None:
    attached.domain.script['detach'] = [raised]
    with pytest.raises(expected):
        attached.detach()
    assert attached.asked() == 0


@pytest.mark.parametrize(
    ('raised', 'expected'),
    [
        (fake_libvirt.error(libvirt.VIR_ERR_INTERNAL_ERROR), exception.HypervisorError),
        (fake_libvirt.error(libvirt.VIR_ERR_NO_CONNECT), exception.HypervisorUnavailable),
    ],
)
def test_definition_that_cannot_be_read_is_not_an_empty_one(
    attached: Scene, raised: Exception, expected: type[Exception]
) -> None:
    for ask in (
        attached.detach,
        attached.guest.disks,
        lambda: attached.guest.attach_disk(DISK),
        lambda: attached.guest.free_target('virtio'),
        lambda: attached.guest.iotune('vdb'),
        lambda: attached.guest.resize_disk('vdb', 2**31),
    ):
        attached.domain.script['XMLDesc'] = [raised, raised]
        with pytest.raises(expected):
            ask()
    assert attached.domain.calls == []


def test_definition_that_cannot_be_read_while_waiting_is_unknown(attached: Scene) -> None:
    raised = fake_libvirt.error(libvirt.VIR_ERR_INTERNAL_ERROR)
    attached.domain.script['detach alias'] = [
        lambda: attached.domain.script.update(XMLDesc=[raised])
    ]
    with pytest.raises(exception.HypervisorError):
        attached.detach(timeout=30)


def test_libvirt_that_stays_away_while_waiting_is_unknown(
    attached: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go_away() -> None:
        attached.connection.alive = False
        monkeypatch.setattr(libvirt, 'open', refuse)

    def refuse(uri: str) -> typing.NoReturn:
        raise fake_libvirt.error(libvirt.VIR_ERR_NO_CONNECT)

    attached.domain.script['detach alias'] = [go_away]
    with pytest.raises(exception.HypervisorUnavailable):
        attached.detach(attempts=5, timeout=0.05)


def test_libvirt_that_comes_back_while_waiting(
    attached: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies: list[FakeConnection | Exception] = [
        fake_libvirt.error(libvirt.VIR_ERR_NO_CONNECT),
        fake_libvirt.error(libvirt.VIR_ERR_NO_CONNECT),
        FakeConnection(attached.domain),
    ]

    def reopen(uri: str) -> FakeConnection:
        reply = replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def go_away() -> None:
        attached.connection.alive = False
        monkeypatch.setattr(libvirt, 'open', reopen)
        attached.domain.remove_live()

    attached.domain.script['detach alias'] = [go_away]
    attached.detach(timeout=30)
    assert replies == []


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        ({'alias': None, 'target': None}, exception.InvalidDiskInfo),
        ({'attempts': 0}, exception.InvalidOption),
        ({'timeout': 0}, exception.InvalidOption),
        ({'timeout': -1.0}, exception.InvalidOption),
    ],
)
def test_impossible_detach(
    attached: Scene, options: dict[str, object], expected: type[Exception]
) -> None:
    with pytest.raises(expected):
        attached.detach(**options)
    assert attached.domain.calls == []


# Redefine

MOVED = Disk.parse(DISK.to_xml().replace('/volume', '/moved'))


def test_only_the_persistent_definition_is_changed(attached: Scene) -> None:
    assert attached.guest.redefine_disk(MOVED)
    assert attached.domain.calls == [('update', CONFIG)]
    assert [disk.path for disk in attached.guest.disks()] == ['/volume']
    assert [disk.path for disk in attached.guest.disks(persistent=True)] == ['/moved']


def test_transient_domain_has_nothing_to_redefine(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch, FakeDomain(defined=False))
    scene.put('live')
    assert not scene.guest.redefine_disk(MOVED)
    assert scene.domain.calls == []


@pytest.mark.parametrize('there', ['vdc', 'ua-2'])
def test_another_disk_is_not_redefined(scene: Scene, there: str) -> None:
    old = 'ua-1' if there == 'ua-2' else 'vdb'
    scene.put('live', 'persistent', disk=Disk.parse(DISK.to_xml().replace(old, there)))
    with pytest.raises(exception.DiskNotFound):
        scene.guest.redefine_disk(MOVED)
    assert scene.domain.calls == []


def test_source_that_libvirt_does_not_take(attached: Scene) -> None:
    attached.domain.script['update'] = [
        fake_libvirt.error(libvirt.VIR_ERR_CONFIG_UNSUPPORTED, 'not that')
    ]
    with pytest.raises(exception.AttachRefused, match='not that'):
        attached.guest.redefine_disk(MOVED)
    assert [disk.path for disk in attached.guest.disks(persistent=True)] == ['/volume']


# Resize and limits


def test_resize_is_in_bytes(attached: Scene) -> None:
    attached.guest.resize_disk('vdb', 2**31)
    attached.guest.resize_disk('vdb', 2**31)
    assert attached.domain.calls == [
        ('resize', 'vdb', 2**31, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
    ]


@pytest.mark.parametrize(
    ('raised', 'expected'),
    [
        (LOST, exception.HypervisorUnavailable),
        (fake_libvirt.error(libvirt.VIR_ERR_INTERNAL_ERROR), exception.ResizeRefused),
        (fake_libvirt.error(libvirt.VIR_ERR_BLOCK_COPY_ACTIVE), exception.Busy),
    ],
)
def test_errors_of_resize(attached: Scene, raised: Exception, expected: type[Exception]) -> None:
    attached.domain.script['resize'] = [raised]
    with pytest.raises(expected) as caught:
        attached.guest.resize_disk('vdb', 2**31)
    assert caught.value.__cause__ is raised


@pytest.mark.parametrize('size', [0, -1, True, 1.5, '1', None])
def test_impossible_size(attached: Scene, size: typing.Any) -> None:
    with pytest.raises(exception.InvalidSize):
        attached.guest.resize_disk('vdb', size)
    assert attached.domain.calls == []


def test_shrinking_is_refused(attached: Scene) -> None:
    with pytest.raises(exception.ShrinkRefused) as caught:
        attached.guest.resize_disk('vdb', 2**30 - 512)
    assert caught.value.details == {'disk': 'vdb', 'current': 2**30, 'size': 2**30 - 512}
    assert attached.domain.calls == []


@pytest.mark.parametrize('running', [True, False])
def test_resize_of_a_disk_for_the_next_start_is_nothing(
    monkeypatch: pytest.MonkeyPatch, running: bool
) -> None:
    scene = Scene(monkeypatch, FakeDomain(running=running))
    scene.put('persistent')
    scene.guest.resize_disk('vdb', 512)
    with pytest.raises(exception.DiskNotFound):
        scene.guest.resize_disk('vdc', 512)
    assert scene.domain.calls == []


def test_unknown_capacity_is_not_shrunk_over(attached: Scene) -> None:
    attached.domain.script['blockInfo'] = [fake_libvirt.error(libvirt.VIR_ERR_INTERNAL_ERROR)]
    with pytest.raises(exception.HypervisorError):
        attached.guest.resize_disk('vdb', 2**31)
    assert attached.domain.calls == []


def test_limits_not_given_are_lifted(attached: Scene) -> None:
    attached.guest.set_iotune('vdb', IOTune(total_iops_sec=5, group_name='g'))
    assert attached.domain.calls == [('limit', 'vdb', BOTH)]
    assert attached.domain.limits['total_iops_sec'] == 5
    assert attached.domain.limits['group_name'] == 'g'
    others = set(attached.domain.limits) - {'total_iops_sec', 'group_name'}
    assert {attached.domain.limits[name] for name in others} == {0}
    assert attached.guest.iotune('vdb') == IOTune(total_iops_sec=5, group_name='g')


def test_limits_change_only_where_the_disk_is(scene: Scene) -> None:
    scene.put('persistent')
    scene.guest.set_iotune('vdb', IOTune(total_iops_sec=5))
    assert scene.domain.calls == [('limit', 'vdb', CONFIG)]


# Waiters


def test_waiter_is_forgotten_after_use(attached: Scene) -> None:
    events = attached.hypervisor.events
    with events.waiter('uuid', 'ua-1') as one, events.waiter('uuid', 'ua-1') as two:
        events.connection_lost()
        assert one.wait(1) is two.wait(1) is Verdict.UNCERTAIN
        assert one.wait(0) is None
    assert events._waiters == {}


def test_events_nobody_waits_for_are_no_error(attached: Scene) -> None:
    attached.removed()
    attached.emit(libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_STOPPED, 0)
    assert attached.hypervisor.events._waiters == {}


def test_scsi_units_are_those_of_the_first_controller(scene: Scene) -> None:
    for controller, unit in ((0, 0), (1, 1), (0, 2)):
        disk = etree.fromstring(
            f"<disk><target dev='sd{unit}' bus='scsi'/>"
            f"<address type='drive' controller='{controller}' unit='{unit}'/></disk>"
        )
        assert scene.domain.live is not None
        scene.domain.live.append(disk)
    assert scene.guest.next_scsi_unit() == 1
