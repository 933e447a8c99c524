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


"""A volume whose portals have moved: paths are added and removed, never the last one.

The drivers, the journal and the locks are real; os-brick, libvirt and the
kernel are made up.
"""

import pathlib
import typing

import pytest

from tests.unit import fake_hypervisor as fake
from tests.unit.fake_brick import FakeBrick
from tests.unit.test_identity import WWN_A
from tests.unit.test_identity import WWN_B
from tests.unit.test_identity import Host
from volumedrivers import exception
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.results import RefreshResult
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import bootstrap
from volumedrivers.libvirt import block_leftovers
from volumedrivers.libvirt import gone_paths
from volumedrivers.privsep import scsi

IQN = 'iqn.2010-10.org.openstack:volume-1'
OLD = ('192.0.2.1:3260', '192.0.2.2:3260')
NEW = ('192.0.2.2:3260', '192.0.2.3:3260')
MAP = f'disk/by-id/dm-uuid-mpath-3{WWN_A}'


def info_of(portals: tuple[str, ...], *, password: str = 'chapsecret-99') -> ConnectionInfo:
    raw = fake.connection_info()
    raw['data'].update(
        target_portal=portals[0],
        target_portals=list(portals),
        target_iqns=[IQN] * len(portals),
        target_luns=[1] * len(portals),
        auth_password=password,
    )
    return ConnectionInfo.parse(raw)


class Paths:
    """What the kernel, multipathd and os-brick do with the portals of a volume."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.numbers: dict[str, int] = {}
        self.names: dict[str, str] = {}
        self.dead: set[str] = set()
        self.keeps: set[str] = set()  # paths that multipathd does not drop
        self.wwn = WWN_A
        self.logged_out: list[str] = []
        self.make_map()
        self.connect = host.brick.connect_volume
        host.brick.connect_volume = self._connect  # type: ignore[method-assign]
        self.disconnect = host.brick.disconnect_volume
        host.brick.disconnect_volume = self._disconnect  # type: ignore[method-assign]

    @property
    def there(self) -> set[str]:
        slaves = self.host.kernel.sysfs / 'block/dm-0/slaves'
        return {each.name for each in slaves.iterdir()} if slaves.exists() else set()

    def make_map(self) -> None:
        self.host.kernel.device('dm-0', links=[MAP], dm__uuid=f'mpath-3{WWN_A}', size=fake.GIB)

    def fail(self, portal: str) -> None:
        self.host.kernel.write(f'block/{self.names[portal]}/device/state', 'offline\n')

    def delete(self, name: str) -> None:
        if name not in self.keeps:
            (self.host.kernel.sysfs / f'block/dm-0/slaves/{name}').rmdir()
        self.host.kernel.remove(name)

    def _connect(self, properties: dict[str, typing.Any]) -> dict[str, typing.Any]:
        if not (self.host.kernel.dev / 'dm-0').exists():
            self.make_map()
        for portal in properties['target_portals']:
            if portal not in self.names and portal not in self.dead:
                number = len(self.numbers) + 1
                name = f'sd{chr(ord("a") + number)}'
                self.numbers[portal], self.names[portal] = number, name
                self.host.kernel.device(
                    name, device__wwid=f'naa.{self.wwn}', device__state='running'
                )
                self.host.kernel.session(number, portal, IQN, lun1=name)
                self.host.kernel.device('dm-0', slaves=[name])
        found = self.connect(properties)
        found.update(path=str(self.host.kernel.dev / 'dm-0'), multipath_id=f'3{WWN_A}')
        return found

    def _disconnect(
        self, properties: dict[str, typing.Any], info: typing.Any, force: bool = False
    ) -> None:
        portals = list(properties['target_portals'])
        self.disconnect(properties, info, force)
        for portal in portals:
            if portal in self.names and self.names[portal] not in self.there:
                self.host.kernel.logout(self.numbers[portal])
                self.logged_out.append(portal)
                del self.names[portal]


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    brick = FakeBrick()
    connector = bootstrap.load_os_brick()
    monkeypatch.setattr(connector.InitiatorConnector, 'factory', staticmethod(brick.factory))
    monkeypatch.setattr(block_leftovers, 'REMOVAL_TIME', 0.0)
    monkeypatch.setattr(gone_paths, 'MAP_TIME', 0.0)
    made = Host(tmp_path, brick)
    made.manager.context.registry.context.conf.set_override(
        'volume_use_multipath', True, 'volumedrivers'
    )
    return made


@pytest.fixture
def paths(host: Host, monkeypatch: pytest.MonkeyPatch) -> Paths:
    made = Paths(host)
    monkeypatch.setattr(scsi, 'delete_device', made.delete)
    host.manager.attach(info_of(OLD), 'web1')
    host.guest.defined = list(host.guest.present)
    del host.calls.calls[:], host.brick.calls[:]
    return made


def row(host: Host) -> Record:
    found = host.manager.context.journal.get(make_key(fake.GUEST_UUID, fake.VOLUME_ID))
    assert found is not None
    return found


def refresh(host: Host, portals: tuple[str, ...] = NEW, **more: typing.Any) -> RefreshResult:
    return host.manager.refresh('web1', 'vda', info_of(portals, **more))


def test_paths_are_added_and_removed_under_a_running_guest(host: Host, paths: Paths) -> None:
    before = host.guest.present[0].to_xml()
    done = refresh(host)
    assert set(paths.names) == set(NEW)
    assert paths.there == {paths.names[portal] for portal in NEW}
    assert paths.logged_out == [OLD[0]]
    assert 'target_portals' in done.changed
    assert done.now == ('2 of 2 paths are in use', f'removed: {OLD[0]} {IQN}')
    assert (done.next_start, done.left) == ((), ())
    found = row(host)
    assert found.is_settled
    assert found.connection_info['data']['target_portals'] == list(NEW)
    assert host.guest.present[0].to_xml() == before
    assert 'redefine_disk' not in host.calls.calls


def test_a_stopped_guest_gets_it_anew(host: Host, paths: Paths) -> None:
    host.guest.running = False
    for portal in OLD:
        paths.dead.add(portal)
    removed = []
    original = host.brick.disconnect_volume

    def disconnect(
        properties: dict[str, typing.Any], info: typing.Any, force: bool = False
    ) -> None:
        removed.append(list(properties['target_portals']))
        for name in list(paths.there):
            paths.delete(name)
        host.kernel.remove('dm-0')
        original(properties, info, force)

    host.brick.disconnect_volume = disconnect  # type: ignore[method-assign]
    done = refresh(host, ('192.0.2.3:3260', '192.0.2.4:3260'))
    assert removed == [list(OLD)]
    assert done.now[0] == 'the volume was connected again'
    assert row(host).connection_info['data']['target_portals'] == [
        '192.0.2.3:3260',
        '192.0.2.4:3260',
    ]


def test_the_last_path_that_works_stays(host: Host, paths: Paths) -> None:
    """Nothing of the new portals came: what the guest has is all there is."""
    new = ('192.0.2.3:3260', '192.0.2.4:3260')
    paths.dead.update(new)
    done = refresh(host, new)
    assert paths.there == {paths.names[portal] for portal in OLD}
    assert done.left == tuple(f'{portal} {IQN}: no other path works' for portal in OLD)
    # A detach removes both, and so does the next refresh.
    assert row(host).connection_info['data']['target_portals'] == [*new, *OLD]
    paths.dead.clear()
    done = refresh(host, new)
    assert done.left == ()
    assert set(paths.names) == set(new)
    assert row(host).connection_info['data']['target_portals'] == list(new)


def test_a_path_that_does_not_work_does_not_count(host: Host, paths: Paths) -> None:
    paths.fail(OLD[1])
    paths.dead.add(NEW[1])
    done = refresh(host)
    assert done.left == (f'{OLD[0]} {IQN}: no other path works',)
    assert paths.names[OLD[0]] in paths.there


def test_a_path_that_is_not_dropped_is_told(host: Host, paths: Paths) -> None:
    paths.keeps.add(paths.names[OLD[0]])
    done = refresh(host)
    assert done.left == (f'{OLD[0]} {IQN}: {paths.names[OLD[0]]} is still in the map',)
    assert OLD[0] in row(host).connection_info['data']['target_portals']
    assert paths.logged_out == []


def test_nothing_has_changed(host: Host, paths: Paths) -> None:
    """Only credentials may have; a login that is there keeps its own."""
    done = refresh(host, OLD, password='another-secret1')
    assert (done.changed, done.now, done.left) == ((), (), ())
    assert len(host.brick.calls) == 1
    assert paths.there == {paths.names[portal] for portal in OLD}
    assert 'another-secret1' not in str(row(host).to_dict())


def test_what_is_behind_a_way_that_is_gone_is_another_volume(host: Host, paths: Paths) -> None:
    host.becomes(paths.names[OLD[0]], WWN_B)
    with pytest.raises(exception.IdentityMismatch):
        refresh(host)
    assert paths.names[OLD[0]] in paths.there
    found = row(host)
    assert found.is_settled
    assert found.problem.startswith('refresh: ')


def test_another_volume_is_refused(host: Host, paths: Paths) -> None:
    other = fake.connection_info(fake.OTHER_ID)
    with pytest.raises(exception.VolumeDriversError):
        host.manager.refresh('web1', 'vda', ConnectionInfo.parse(other))
    raw = fake.connection_info()
    raw['driver_volume_type'] = 'iser'
    with pytest.raises(exception.InvalidOption, match='driver_volume_type'):
        host.manager.refresh('web1', 'vda', ConnectionInfo.parse(raw))
    assert host.brick.calls == []
    assert row(host).problem == ''


@pytest.mark.parametrize('step', ['identify', 'connect', 'verify', 'remove'])
def test_each_step_fails(host: Host, paths: Paths, step: str) -> None:
    """The guest keeps its volume; the row names all that may be there."""
    observer = host.manager.context.observer

    def fail(operation: str, name: str, moment: str) -> None:
        if (name, moment) == (step, 'before'):
            monkey[step]()

    monkey = {
        'identify': lambda: host.becomes(paths.names[OLD[0]], WWN_B),
        'connect': lambda: host.brick.raises.update(connect=OSError('no')),
        'verify': lambda: host.kernel.write('block/dm-0/dm/uuid', f'mpath-3{WWN_B}'),
        'remove': lambda: host.becomes(paths.names[OLD[0]], WWN_B),
    }
    object.__setattr__(host.manager.context, 'observer', fail)
    with pytest.raises(exception.VolumeDriversError):
        refresh(host)
    object.__setattr__(host.manager.context, 'observer', observer)
    found = row(host)
    assert found.is_settled
    assert found.problem.startswith('refresh: ')
    portals = found.connection_info['data']['target_portals']
    assert set(portals) == {*OLD} | (set() if step == 'identify' else {*NEW})
    assert set(paths.names) <= set(portals)
    assert len(host.guest.present) == 1


class Killed(BaseException):
    """The process has ended."""


def kill(host: Host, step: str) -> None:
    """Refresh, and die as soon as the row says that this step begins."""
    journal = host.manager.context.journal
    original = journal.put
    dead = []

    def put(record: Record) -> Record:
        if dead:
            raise Killed
        stored = original(record)
        if record.step == step:
            dead.append(step)
            raise Killed
        return stored

    journal.put = put  # type: ignore[method-assign]
    with pytest.raises(Killed):
        refresh(host)
    journal.put = original  # type: ignore[method-assign]
    assert row(host).operation == 'refresh'


@pytest.mark.parametrize('step', ['identify', 'connect', 'verify', 'remove'])
def test_killed_before_each_step(host: Host, paths: Paths, step: str) -> None:
    kill(host, step)
    found = row(host)
    left = found.connection_info['data']['target_portals']
    assert set(paths.names) <= set(left)
    outcomes = host.manager.recover()
    assert all(outcome.action != 'failed' for outcome in outcomes)
    assert row(host).is_settled
    assert host.manager.recover() == ()
    done = refresh(host)
    assert done.left == ()
    assert set(paths.names) == set(NEW)
    assert row(host).problem == ''
