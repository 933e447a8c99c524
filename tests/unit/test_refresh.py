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
import shutil
import typing

import pytest

from tests.unit import fake_hypervisor as fake
from tests.unit.fake_brick import FakeBrick
from tests.unit.test_identity import WWN_A
from tests.unit.test_identity import WWN_B
from tests.unit.test_identity import Host
from volumedrivers import exception
from volumedrivers.attachment import refresh_kinds
from volumedrivers.attachment import refreshed_disk
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.record import make_key
from volumedrivers.attachment.results import RefreshResult
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import bootstrap
from volumedrivers.libvirt import block_leftovers
from volumedrivers.libvirt import changed_ways
from volumedrivers.libvirt import gone_paths
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import NetworkHost
from volumedrivers.libvirt.connected_volume import NetworkSource
from volumedrivers.libvirt.disk import Disk
from volumedrivers.privsep import nvme
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


def kill(host: Host, step: str, portals: tuple[str, ...] = NEW) -> None:
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
        refresh(host, portals)
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


def test_a_detach_removes_the_old_ways_too(host: Host, paths: Paths) -> None:
    new = ('192.0.2.3:3260', '192.0.2.4:3260')
    paths.dead.update(new)
    refresh(host, new)
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
    done = host.manager.detach('web1', fake.VOLUME_ID)
    assert removed == [[*new, *OLD]]
    assert done.leftovers == ()


def test_the_other_guests_of_a_device_are_recorded_with_it(host: Host, paths: Paths) -> None:
    """Whoever is the last to detach removes what there is."""
    host.manager.attach(info_of(OLD), 'web2')
    before = host.other.present[0].to_xml()
    refresh(host)
    found = host.manager.context.journal.get(make_key(fake.OTHER_UUID, fake.VOLUME_ID))
    assert found is not None
    assert found.connection_info['data']['target_portals'] == list(NEW)
    assert found.is_settled
    assert host.other.present[0].to_xml() == before


def test_a_stopped_guest_whose_volume_another_one_has(host: Host, paths: Paths) -> None:
    host.manager.attach(info_of(OLD), 'web2')
    host.guest.running = False
    done = refresh(host)
    assert set(paths.names) == set(NEW)
    assert done.now[0] == '2 of 2 paths are in use'


def test_one_path_of_a_running_guest_cannot_be_exchanged(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.manager.context.registry.context.conf.set_override(
        'volume_use_multipath', False, 'volumedrivers'
    )
    host.disk('sdb', WWN_A)
    host.manager.attach(info_of(OLD[:1]), 'web1')
    before = row(host)
    with pytest.raises(exception.RefreshRefused, match='stop the guest'):
        refresh(host, NEW[1:])
    # Nothing but a password may be new: the next connection is given it.
    done = refresh(host, OLD[:1])
    assert done.next_start == ('new credentials are used when it is connected again',)
    assert (row(host).volume, row(host).problem) == (before.volume, '')
    assert len(host.brick.calls) == 1


@pytest.mark.parametrize('step', ['identify', 'disconnect', 'connect', 'verify', 'define'])
def test_killed_while_the_guest_is_stopped(host: Host, step: str) -> None:
    conf = host.manager.context.registry.context.conf
    conf.set_override('volume_use_multipath', False, 'volumedrivers')
    path = host.disk('sdb', WWN_A)
    host.manager.attach(info_of(OLD[:1]), 'web1')
    host.guest.defined = list(host.guest.present)
    host.guest.running = False
    connect, disconnect = host.brick.connect_volume, host.brick.disconnect_volume

    def connects(properties: dict[str, typing.Any]) -> dict[str, typing.Any]:
        if not (host.kernel.dev / 'sdb').exists():
            host.kernel.device(
                'sdb',
                links=[f'disk/by-id/wwn-0x{WWN_A}'],
                device__wwid=f'naa.{WWN_A}',
                size=fake.GIB,
            )
        return connect(properties)  # type: ignore[no-any-return]

    def disconnects(*arguments: typing.Any, **options: typing.Any) -> None:
        disconnect(*arguments, **options)
        if (host.kernel.dev / 'sdb').exists():
            host.kernel.remove('sdb')
            shutil.rmtree(host.kernel.root / 'removed-sdb')

    host.brick.connect_volume = connects  # type: ignore[method-assign]
    host.brick.disconnect_volume = disconnects  # type: ignore[method-assign]
    kill(host, step, NEW[1:])

    outcomes = host.manager.recover({fake.VOLUME_ID: info_of(NEW[1:])})
    assert {outcome.action for outcome in outcomes} <= {'finished', 'undone', 'reconnected'}
    assert row(host).is_settled
    assert host.manager.recover({fake.VOLUME_ID: info_of(NEW[1:])}) == ()
    refresh(host, NEW[1:])
    found = row(host)
    assert (found.problem, found.source) == ('', path)
    assert found.connection_info['data']['target_portal'] == NEW[1]
    host.manager.detach('web1', fake.VOLUME_ID)
    assert not (host.kernel.dev / 'sdb').exists()
    assert host.manager.context.journal.find() == ()


def test_a_dry_run_changes_nothing(host: Host, paths: Paths) -> None:
    before = row(host)
    planned = host.manager.plan.refresh('web1', 'vda', info_of(NEW))
    assert [step.name for step in planned.steps] == [
        'identify',
        'connect',
        'verify',
        'remove',
        'record',
    ]
    assert planned.steps[3].actions == (
        f'take the path by way of {OLD[0]} {IQN} away, unless it is the last that works',
    )
    assert 'chapsecret' not in str(planned.to_dict())
    host.guest.running = False
    planned = host.manager.plan.refresh('web1', None, info_of(NEW))
    assert [step.name for step in planned.steps] == [
        'identify',
        'disconnect',
        'connect',
        'verify',
        'define',
        'record',
    ]
    assert row(host) == before
    assert host.brick.calls == []


class TestNvme:
    """Controllers are the paths; other volumes of the subsystem keep theirs."""

    NQN = 'nqn.2014-08.org.nvmexpress:uuid:1'
    UUID = 'c0ffee00-0000-4000-8000-00000000000c'

    def info(self, *hosts: str) -> ConnectionInfo:
        return ConnectionInfo.parse(
            {
                'driver_volume_type': 'nvmeof',
                'serial': fake.VOLUME_ID,
                'data': {
                    'target_nqn': self.NQN,
                    'vol_uuid': self.UUID,
                    'portals': [[host, 4420, 'tcp'] for host in hosts],
                },
            }
        )

    def volume(self, host: Host, states: dict[str, str]) -> ConnectedVolume:
        """A namespace head with a controller for each address."""
        path = host.kernel.device('nvme0n1', wwid=f'uuid.{self.UUID}')
        for number, (address, state) in enumerate(states.items()):
            name = f'nvme{number}'
            host.kernel.write(f'block/nvme0n1/device/{name}/state', state + '\n')
            host.kernel.write(f'block/nvme0n1/device/{name}/nvme0c{number}n1/size', '8\n')
            host.kernel.controller(name, self.NQN, f'{address}:4420', f'nvme0c{number}n1')
        return ConnectedVolume(
            'nvmeof', fake.VOLUME_ID, 'block', path, identity=Identity('uuid', self.UUID)
        )

    def remove(
        self, host: Host, volume: ConnectedVolume, old: ConnectionInfo, new: ConnectionInfo
    ) -> gone_paths.Removal:
        return gone_paths.remove(
            host.manager.context.registry.get('nvmeof'),
            host.manager.context.registry.context.devices,
            new,
            'attachment',
            volume,
            gone=changed_ways.gone(old, new),
        )

    @pytest.fixture
    def deleted(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        names: list[str] = []
        monkeypatch.setattr(nvme, 'delete_controller', names.append)
        monkeypatch.setattr(gone_paths.brick, 'under_connect_lock', lambda function: function())
        return names

    def test_the_controller_of_a_portal_that_is_gone(self, host: Host, deleted: list[str]) -> None:
        volume = self.volume(host, {'192.0.2.1': 'connecting', '192.0.2.2': 'live'})
        devices = host.manager.context.registry.context.devices
        old, new = self.info('192.0.2.1', '192.0.2.2'), self.info('192.0.2.2')
        assert refresh_kinds.family(volume, new, devices) is refresh_kinds.Family.PATHS
        done = self.remove(host, volume, old, new)
        assert [str(way) for way in done.removed] == ['192.0.2.1:4420']
        assert deleted == ['nvme0']

    def test_not_the_last_that_is_live(self, host: Host, deleted: list[str]) -> None:
        volume = self.volume(host, {'192.0.2.1': 'live', '192.0.2.2': 'connecting'})
        old, new = self.info('192.0.2.1', '192.0.2.2'), self.info('192.0.2.2')
        done = self.remove(host, volume, old, new)
        assert done.removed == ()
        assert done.left[0][1] == 'no other path works'
        assert deleted == []

    def test_not_that_of_another_volume(self, host: Host, deleted: list[str]) -> None:
        volume = self.volume(host, {'192.0.2.1': 'live', '192.0.2.2': 'live'})
        (host.kernel.sysfs / 'class/nvme/nvme0/nvme0c0n2').mkdir()
        old, new = self.info('192.0.2.1', '192.0.2.2'), self.info('192.0.2.2')
        done = self.remove(host, volume, old, new)
        assert done.left[0][1] == 'it leads to nvme0n2 as well'
        assert deleted == []

    def test_another_subsystem_is_another_device(self, host: Host) -> None:
        old = self.info('192.0.2.1')
        raw = typing.cast(dict[str, typing.Any], old.to_dict())
        raw['data']['target_nqn'] = f'{self.NQN}-2'
        new = ConnectionInfo.parse(raw)
        kinds = refresh_kinds
        assert kinds.how(kinds.Family.PATHS, old, new, in_use=True) is kinds.How.REFUSE
        assert kinds.how(kinds.Family.PATHS, old, new, in_use=False) is kinds.How.CONNECT

    def test_the_older_form_can_name_several_portals(self) -> None:
        raw = {
            'driver_volume_type': 'nvmeof',
            'serial': fake.VOLUME_ID,
            'data': {
                'nqn': self.NQN,
                'target_portal': '192.0.2.1',
                'target_port': 4420,
                'transport_type': 'tcp',
                'ns_id': 1,
            },
        }
        old = ConnectionInfo.parse(raw)
        both = changed_ways.with_ways(
            old, (*changed_ways.ways(self.info('192.0.2.2')), *changed_ways.ways(old))
        )
        assert [str(way) for way in changed_ways.ways(both)] == [
            '192.0.2.2:4420',
            '192.0.2.1:4420',
        ]


class TestFibreChannel:
    PORTS = ('50014380186b3f65', '50014380186b3f67', '50014380186b3f69')

    def info(self, *ports: str) -> ConnectionInfo:
        return ConnectionInfo.parse(
            {
                'driver_volume_type': 'fibre_channel',
                'serial': fake.VOLUME_ID,
                'data': {
                    'target_wwn': list(ports),
                    'target_lun': 1,
                    'initiator_target_map': {'21000024ff34c92d': list(ports)},
                },
            }
        )

    def test_ports_are_named_and_gone(self) -> None:
        old, new = self.info(*self.PORTS[:2]), self.info(*self.PORTS[1:])
        (way,) = changed_ways.gone(old, new)
        assert str(way) == self.PORTS[0]
        both = changed_ways.with_ways(new, (*changed_ways.ways(new), way))
        assert {str(each) for each in changed_ways.ways(both)} == set(self.PORTS)
        assert both.to_connector()['initiator_target_map'] == {
            '21000024ff34c92d': [*self.PORTS[1:], self.PORTS[0]]
        }

    def test_disk_of_a_port_that_is_gone(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, port in zip(('sdb', 'sdc'), self.PORTS, strict=False):
            host.kernel.device(
                name,
                links=[f'disk/by-path/pci-0000:00:04.0-fc-0x{port}-lun-1'],
                device__wwid=f'naa.{WWN_A}',
                device__state='running',
            )
        path = host.kernel.device(
            'dm-0', links=[MAP], slaves=['sdb', 'sdc'], dm__uuid=f'mpath-3{WWN_A}'
        )

        def delete(name: str) -> None:
            (host.kernel.sysfs / f'block/dm-0/slaves/{name}').rmdir()

        monkeypatch.setattr(scsi, 'delete_device', delete)
        volume = ConnectedVolume(
            'fibre_channel',
            fake.VOLUME_ID,
            'block',
            path,
            identity=Identity('wwn', f'3{WWN_A}'),
        )
        context = host.manager.context.registry.context
        new = self.info(*self.PORTS[1:])
        done = gone_paths.remove(
            host.manager.context.registry.get('fibre_channel'),
            context.devices,
            new,
            'attachment',
            volume,
            gone=changed_ways.gone(self.info(*self.PORTS[:2]), new),
        )
        assert [str(way) for way in done.removed] == [self.PORTS[0]]
        assert context.devices.paths(path).names == ('sdc',)


class TestKept:
    """What a refresh does not change (W18)."""

    def test_flags_that_were_lost(self) -> None:
        raw = fake.connection_info()
        raw['multiattach'] = True
        raw['data'].update(access_mode='ro', encrypted=True)
        old = ConnectionInfo.parse(raw)
        new = info_of(NEW)
        kept = refresh_kinds.kept(old, new)
        assert (kept.multiattach, kept.access_mode, kept.encrypted) == (True, 'ro', True)
        assert kept.serial == fake.VOLUME_ID
        assert kept.to_connector()['auth_password'] == 'chapsecret-99'
        assert (new.multiattach, new.access_mode, new.encrypted) == (False, None, False)

    def test_what_does_not_tell_the_way_is_no_change(self) -> None:
        old = info_of(OLD)
        new = old.updated({}, {'qos_specs': {'read_iops_sec': '5'}, 'discard': True})
        assert refresh_kinds.changes(old, new) == ()
        assert refresh_kinds.changes(old, old.updated({}, {'target_lun': '1'})) == ()
        assert refresh_kinds.changes(old, info_of(NEW)) == ('target_portal', 'target_portals')


class TestDisk:
    OLD = """
    <disk type='network' device='disk' snapshot='no'>
      <driver name='qemu' type='raw' cache='none' discard='unmap'/>
      <auth username='old'>
        <secret type='iscsi' uuid='00000000-0000-4000-8000-000000000001'/>
      </auth>
      <source protocol='iscsi' name='iqn.2010-10.org.openstack:volume-1/1'>
        <host name='192.0.2.1' port='3260'/>
        <initiator><iqn name='iqn.2020-01.test:old'/></initiator>
        <seclabel model='dac' relabel='no'/>
      </source>
      <target dev='sdb' bus='scsi'/>
      <iotune><read_iops_sec>5</read_iops_sec></iotune>
      <shareable/>
      <serial>c1b2d3e4-0001-4aaa-8bbb-000000000001</serial>
      <boot order='2'/>
      <alias name='ua-c1b2d3e4-0001-4aaa-8bbb-000000000001'/>
      <address type='drive' controller='0' bus='0' target='0' unit='7'/>
    </disk>"""

    def test_only_the_source_is_another_one(self, host: Host) -> None:
        secret = '00000000-0000-4000-8000-000000000002'
        source = NetworkSource(
            'iscsi',
            f'{IQN}/1',
            (NetworkHost('192.0.2.9', 3261),),
            auth_username='new',
            secret_type='iscsi',
            secret_uuid=secret,
            initiator_iqn='iqn.2020-01.test:new',
        )
        volume = ConnectedVolume('iscsi', fake.VOLUME_ID, 'network', source=source)
        host.disk('sdb', WWN_A)
        host.manager.attach(info_of(OLD[:1]), 'web1')
        old = Disk.parse(self.OLD)
        driver = host.manager.context.registry.get('iscsi')
        fresh = refreshed_disk.refreshed(driver, info_of(NEW), volume, row(host), old)
        expected = (
            self.OLD.replace('192.0.2.1', '192.0.2.9')
            .replace("'3260'", "'3261'")
            .replace("username='old'", "username='new'")
            .replace('00000000-0000-4000-8000-000000000001', secret)
            .replace('test:old', 'test:new')
        )
        assert fresh == Disk.parse(expected)
        assert not refreshed_disk.says_the_same(old, fresh)
        assert refreshed_disk.says_the_same(fresh, Disk.parse(expected))
        assert old == Disk.parse(self.OLD)
