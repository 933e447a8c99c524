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

"""iSCSI by the kernel: sessions, portals that are found, LUN numbers used again."""

import copy
import dataclasses
import threading

from oslo_config import cfg
import pytest

from tests.unit.connection_infos import IQN
from tests.unit.connection_infos import sample
from tests.unit.fake_brick import FakeBrick
from tests.unit.made_up_host import MadeUpHost
from tests.unit.network_fakes import FakeProbe
from volumedrivers import exception
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.connection_info import IscsiTarget
from volumedrivers.host import bootstrap
from volumedrivers.host import iscsi_discovery
from volumedrivers.host import iscsi_session
from volumedrivers.host import os_brick_link
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.libvirt import block_leftovers
from volumedrivers.libvirt import disk_answers
from volumedrivers.libvirt import iscsi_ways
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import FailedPath
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.libvirt.connected_volume import Remainder
from volumedrivers.libvirt.driver import DriverContext
from volumedrivers.libvirt.registry import Registry
from volumedrivers.privsep import context
from volumedrivers.privsep import device_link
from volumedrivers.privsep import scsi
from volumedrivers.protocol_data import Portal

A, B = '600140511112', '600140522223'
ONE, TWO, OTHER = '10.0.2.15:3260', '10.0.2.16:3260', '10.9.9.9:3260'
LINK = f'disk/by-path/ip-{ONE}-iscsi-{IQN}-lun-1'


class Brick(FakeBrick):
    """Removes from the made-up host what os-brick would remove, by target and LUN."""

    def __init__(self, host):
        super().__init__()
        self.host = host
        self.works = True

    def disconnect_volume(self, properties, device_info, force=False):
        before = copy.deepcopy(properties)
        super().disconnect_volume(properties, device_info, force)
        if self.works:
            self.remove(before)

    def remove(self, properties):
        portals = properties.get('target_portals') or [properties['target_portal']]
        iqns = properties.get('target_iqns') or [properties['target_iqn']]
        luns = properties.get('target_luns') or [properties['target_lun']]
        for session in iscsi_session.sessions(str(self.host.sysfs)):
            for portal, iqn, lun in zip(portals, iqns, luns, strict=True):
                if (session.portal, session.target) != (portal, iqn):
                    continue
                mine = [name for number, name in session.disks if number == int(lun)]
                for name in mine:
                    self.host.remove(name)
                if len(mine) == len(session.disks):
                    self.host.logout(session.name.removeprefix('session'))


@pytest.fixture
def host(tmp_path):
    return MadeUpHost(tmp_path)


@pytest.fixture
def brick(host, monkeypatch):
    brick = Brick(host)
    connector = bootstrap.load_os_brick()
    monkeypatch.setattr(connector.InitiatorConnector, 'factory', staticmethod(brick.factory))
    monkeypatch.setattr(block_leftovers, 'REMOVAL_TIME', 0.0)
    monkeypatch.setattr(device_link, 'FOLDER', str(host.dev / 'disk/by-id'))
    monkeypatch.setattr(context.sys_admin, 'client_mode', False)
    return brick


@pytest.fixture
def probe():
    return FakeProbe()


@pytest.fixture
def driver(host, brick, probe):
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], project='volumedrivers', default_config_files=[])
    conf.set_override('device_name_timeout', 0, group='volumedrivers')
    devices = BlockDevices(sysfs=str(host.sysfs), dev=str(host.dev), udev=str(host.udev))
    context = DriverContext(conf=conf, devices=devices, shares=None, endpoints=probe)
    return Registry(context).get('iscsi')


def disk(host, name, wwid, *, links=(), **more):
    return host.device(
        name, device__wwid=f'naa.{wwid}', links=[f'disk/by-id/wwn-0x{wwid}', *links], **more
    )


def info_of(**data):
    return ConnectionInfo.parse(sample('iscsi', **data))


def volume_of(host, wwid=A, **more):
    return ConnectedVolume(
        'iscsi',
        None,
        'block',
        path=str(host.dev / f'disk/by-id/wwn-0x{wwid}'),
        identity=Identity('wwn', f'3{wwid}'),
        **more,
    )


def link_of_os_brick(host, leads_to):
    dev = str(host.dev)
    return host.link(os_brick_link.link_of(f'{dev}/sdb', dev).removeprefix(f'{dev}/'), leads_to)


def redacted(info):
    """What the journal keeps of it."""
    return ConnectionInfo.parse(info.to_dict())


class TestNumberUsedAgain:
    """OSSA-2023-003: Cinder took the volume away and gave its LUN to another."""

    @pytest.fixture(params=['link of udev', 'session of the kernel'])
    def reused(self, host, request):
        if request.param == 'link of udev':
            disk(host, 'sdc', B, links=[LINK])
        else:
            disk(host, 'sdc', B)
            host.session(1, ONE, IQN, lun1='sdc')

    @pytest.mark.parametrize('force', [False, True])
    def test_the_other_volume_is_not_removed(self, host, brick, driver, reused, force):
        with pytest.raises(exception.IdentityMismatch) as caught:
            driver.disconnect_volume(info_of(), 'guest', volume=volume_of(host), force=force)

        assert caught.value.found == f'wwn:3{B}'
        assert caught.value.expected == f'wwn:3{A}'
        assert brick.calls == []
        assert (host.dev / 'sdc').exists()

    def test_the_other_volume_is_not_grown(self, host, brick, driver, reused):
        with pytest.raises(exception.IdentityMismatch):
            driver.extend_volume(info_of(), 'guest', 1 << 30, volume=volume_of(host))

        assert brick.calls == []

    def test_the_other_volume_does_not_remain(self, host, driver, reused):
        assert driver.remains(info_of(), 'guest', volume=volume_of(host)) == ()
        assert driver.current_identity(info_of(), volume_of(host)) is None

    def test_one_path_of_two_leads_to_the_other(self, host, brick, driver, reused):
        disk(host, 'sdd', A)

        with pytest.raises(exception.IdentityMismatch):
            driver.disconnect_volume(info_of(), 'guest', volume=volume_of(host))
        assert brick.calls == []

    def test_without_a_record_two_volumes_are_refused(self, host, brick, driver, reused):
        host.link(f'disk/by-path/pci-0000:01:00.0-{LINK.rpartition("/")[2]}', 'sdd')
        disk(host, 'sdd', A)

        with pytest.raises(exception.IdentityMismatch):
            driver.disconnect_volume(info_of(), 'guest')
        assert brick.calls == []


class TestDiskThatWasLeft:
    """The other half of OSSA-2023-003: what is connected is the disk of an earlier volume."""

    @pytest.fixture
    def answers(self, monkeypatch):
        answers = {}
        monkeypatch.setattr(scsi, 'read_page_83', answers.get)
        return answers

    @pytest.fixture(autouse=True)
    def left(self, host, brick):
        path = disk(
            host, 'sdb', A, links=[LINK], device__state='running', device__vpd_pg83=page_83(A)
        )
        brick.found = {'type': 'block', 'path': path}

    def test_it_is_not_taken_for_the_new_one(self, brick, driver, answers):
        answers['sdb'] = page_83(B)

        with pytest.raises(exception.IdentityMismatch) as caught:
            driver.connect_volume(info_of(), 'guest')

        assert (caught.value.found, caught.value.expected) == (f'wwn:3{B}', f'wwn:3{A}')
        assert brick.calls == []

    def test_it_is_the_same_volume_for_another_guest(self, brick, driver, answers):
        answers['sdb'] = page_83(A)

        assert driver.connect_volume(info_of(), 'guest').identity == Identity('wwn', f'3{A}')

    def test_it_does_not_answer(self, brick, driver, answers):
        assert driver.connect_volume(info_of(), 'guest').identity == Identity('wwn', f'3{A}')

    def test_it_is_not_asked_while_its_path_is_down(self, host, driver, answers):
        answers['sdb'] = page_83(B)
        host.write('block/sdb/device/state', 'offline\n')

        assert driver.connect_volume(info_of(), 'guest')

    def test_it_stays_when_connecting_it_again_fails(self, host, brick, driver):
        (host.dev / f'disk/by-id/wwn-0x{A}').unlink()
        (host.dev / LINK).rename(host.dev / f'disk/by-path/other-ip-{LINK.partition("ip-")[2]}')
        brick.found['path'] = str(host.dev / 'nothing')

        with pytest.raises(exception.UnstableDevicePath):
            driver.connect_volume(info_of(), 'guest')

        assert [call[0] for call in brick.calls] == ['connect']

    def test_it_hangs(self, driver, monkeypatch):
        monkeypatch.setattr(scsi, 'read_page_83', lambda name: threading.Event().wait(30))
        monkeypatch.setattr(disk_answers, 'ANSWER_TIME', 0.05)

        assert driver.connect_volume(info_of(), 'guest')


class TestDiskThatBecameAnother:
    """The kernel keeps the identity it read first; the disk itself knows better."""

    @pytest.fixture
    def answers(self, monkeypatch):
        answers = {}
        monkeypatch.setattr(scsi, 'read_page_83', answers.get)
        return answers

    @pytest.fixture(autouse=True)
    def mapped(self, host):
        for name, portal in (('sdb', ONE), ('sdc', TWO)):
            link = f'disk/by-path/ip-{portal}-iscsi-{IQN}-lun-1'
            host.device(
                name,
                device__wwid=f'naa.{A}',
                device__state='running',
                device__vpd_pg83=page_83(A),
                links=[link],
            )
        uuid = f'mpath-3{A}'
        link = f'disk/by-id/dm-uuid-{uuid}'
        host.device('dm-0', dm__uuid=uuid, slaves=['sdb', 'sdc'], links=[link])

    @pytest.fixture
    def volume(self, host):
        path = str(host.dev / f'disk/by-id/dm-uuid-mpath-3{A}')
        return dataclasses.replace(volume_of(host, use_multipath=True), path=path)

    @pytest.mark.parametrize('name', ['sdb', 'sdc'])
    def test_one_way_of_a_map_leads_elsewhere(self, brick, driver, answers, volume, name):
        answers |= {'sdb': page_83(A), 'sdc': page_83(A), name: page_83(B)}

        assert driver.current_identity(info_of(), volume) == Identity('wwn', f'3{B}')
        for touch in (
            lambda: driver.disconnect_volume(info_of(), 'guest', volume=volume),
            lambda: driver.disconnect_volume(info_of(), 'guest', volume=volume, force=True),
            lambda: driver.disconnect_volume(info_of(), 'guest'),
            lambda: driver.extend_volume(info_of(), 'guest', 1 << 30, volume=volume),
        ):
            with pytest.raises(exception.IdentityMismatch) as caught:
                touch()
            assert (caught.value.found, caught.value.expected) == (f'wwn:3{B}', f'wwn:3{A}')
        assert brick.calls == []

    def test_the_kernel_asked_one_again_and_it_stayed_in_the_map(
        self, host, brick, driver, answers, volume
    ):
        host.write('block/sdb/device/wwid', f'naa.{B}\n')
        host.write('block/sdb/device/vpd_pg83', page_83(B))
        answers |= {'sdb': page_83(B), 'sdc': page_83(A)}

        assert driver.current_identity(info_of(), volume) == Identity('wwn', f'3{B}')
        with pytest.raises(exception.DeviceReused) as caught:
            driver.connect_volume(info_of(), 'guest')
        assert (caught.value.found, caught.value.expected) == (f'wwn:3{B}', f'wwn:3{A}')
        assert brick.calls == []

    def test_none_answers(self, brick, driver, answers, volume):
        assert driver.current_identity(info_of(), volume) == Identity('wwn', f'3{A}')
        with pytest.raises(exception.LeftoversFound):
            driver.disconnect_volume(info_of(), 'guest', volume=volume)
        assert [call[0] for call in brick.calls] == ['disconnect']

    def test_it_has_no_identity_any_more(self, driver, answers, volume):
        answers['sdb'] = bytes((0, 0x83, 0, 0))

        assert driver.current_identity(info_of(), volume) != Identity('wwn', f'3{A}')

    def test_disks_that_hang_are_waited_for_together(self, driver, monkeypatch, volume):
        over = threading.Event()
        asked = []

        def hang(name):
            asked.append(name)
            over.wait(30)

        monkeypatch.setattr(scsi, 'read_page_83', hang)
        monkeypatch.setattr(disk_answers, 'ANSWER_TIME', 0.05)
        try:
            assert driver.current_identity(info_of(), volume) == Identity('wwn', f'3{A}')
        finally:
            over.set()
        assert sorted(asked) == ['sdb', 'sdc']

    def test_a_device_that_went_is_no_other_volume(self, host, driver, answers, volume):
        for name in ('dm-0', 'sdb', 'sdc'):
            host.remove(name)

        assert driver.current_identity(info_of(), volume) is None


def page_83(wwid):
    """VPD page 0x83 with one NAA designator of the unit."""
    value = bytes.fromhex(wwid)
    designator = bytes((1, 3, 0, len(value))) + value
    return bytes((0, 0x83)) + len(designator).to_bytes(2, 'big') + designator


class TestNameOfAnother:
    """CVE-2020-17376: after a failed migration a name is the one that another host gave."""

    def test_path_that_was_recorded(self, host, brick, driver):
        disk(host, 'sdb', A, links=[LINK])
        disk(host, 'sdc', B)
        volume = dataclasses.replace(volume_of(host), path=str(host.dev / 'sdc'))

        for force in (False, True):
            with pytest.raises(exception.IdentityMismatch, match=f'wwn:3{B}'):
                driver.disconnect_volume(info_of(), 'guest', volume=volume, force=force)
        assert brick.calls == []
        assert driver.current_identity(info_of(), volume) == Identity('wwn', f'3{B}')

    def test_path_in_the_connection_info(self, host, brick, driver):
        disk(host, 'sdb', A, links=[LINK])
        disk(host, 'sdc', B)

        with pytest.raises(exception.IdentityMismatch, match=f'wwn:3{B}'):
            driver.disconnect_volume(info_of(device_path=str(host.dev / 'sdc')), 'guest')
        assert brick.calls == []

    def test_path_of_the_volume_itself(self, host, brick, driver):
        disk(host, 'sdb', A, links=[LINK])
        host.session(1, ONE, IQN, lun1='sdb')

        driver.disconnect_volume(info_of(device_path=str(host.dev / 'sdb')), 'guest')

        assert [call[0] for call in brick.calls] == ['disconnect']

    def test_path_that_is_all_there_is_does_not_say_what_the_volume_is(self, host, brick, driver):
        disk(host, 'sdc', B)

        driver.disconnect_volume(info_of(device_path=str(host.dev / 'sdc')), 'guest')

        assert (host.dev / 'sdc').exists()


def test_disk_that_never_told_what_it_is_goes_with_its_lun(host, brick, driver):
    host.device('sdb', links=[LINK])
    host.session(1, ONE, IQN, lun1='sdb')
    volume = volume_of(host)

    assert [each.name for each in driver.remains(info_of(), 'guest', volume=volume)] == [
        str(host.dev / 'sdb')
    ]
    driver.disconnect_volume(info_of(), 'guest', volume=volume)

    assert not (host.dev / 'sdb').exists()


class TestInterrupted:
    """What a process leaves that is killed inside os-brick's connect_volume."""

    def test_a_login_without_a_disk(self, host, brick, driver):
        host.session(1, ONE, IQN)
        host.session(2, OTHER, 'iqn.x:other')
        info = redacted(info_of())

        assert driver.remains(info, 'guest') == (
            Remainder('session', f'{ONE} {IQN}', 'no disk is behind it'),
        )
        driver.disconnect_volume(info, 'guest')
        assert driver.remains(info, 'guest') == ()
        assert [each.name for each in iscsi_session.sessions(str(host.sysfs))] == ['session2']

    def test_a_login_that_os_brick_leaves_is_tried_again(self, host, brick, driver):
        host.session(1, ONE, IQN)
        brick.works = False

        driver.disconnect_volume(info_of(), 'guest')

        assert [call[0] for call in brick.calls] == ['disconnect', 'disconnect']
        assert [found.kind for found in driver.remains(info_of(), 'guest')] == ['session']

    def test_a_disk_and_the_map_over_it(self, host, brick, driver, monkeypatch):
        disk(host, 'sdb', A, links=[LINK])
        host.device('dm-3', dm__uuid=f'mpath-3{A}', slaves=['sdb'])
        host.session(1, ONE, IQN, lun1='sdb')
        info = redacted(info_of())
        flushed = []

        def flush(wwid):
            flushed.append(wwid)
            host.remove('dm-3')

        monkeypatch.setattr(block_leftovers.multipath, 'flush_map', flush)
        found = driver.remains(info, 'guest')
        assert [(each.kind, each.name) for each in found] == [
            ('device', str(host.dev / 'sdb')),
            ('map', str(host.dev / 'dm-3')),
        ]
        driver.disconnect_volume(info, 'guest')
        assert brick.made[0][1]['use_multipath'] is True
        assert flushed == [f'3{A}']
        assert driver.remains(info, 'guest') == ()

    @pytest.mark.parametrize('leads_to', ['sdb', 'dm-9'])
    def test_the_link_of_an_encrypted_volume(self, host, brick, driver, leads_to):
        disk(host, 'sdb', A, links=[LINK])
        host.session(1, ONE, IQN, lun1='sdb')
        dev = str(host.dev)
        link = link_of_os_brick(host, leads_to)
        info = redacted(info_of(encrypted=True))

        kinds = [(each.kind, each.name) for each in driver.remains(info, 'guest')]
        assert kinds == [('device', f'{dev}/sdb'), ('link', link)]
        driver.disconnect_volume(info, 'guest')
        assert driver.remains(info, 'guest') == ()

    def test_nothing_at_all(self, driver, brick):
        assert driver.remains(redacted(info_of()), 'guest') == ()
        driver.disconnect_volume(redacted(info_of()), 'guest')


class TestSessionsOfOthers:
    def test_a_session_with_another_lun_stays(self, host, brick, driver):
        disk(host, 'sdb', A, links=[LINK])
        disk(host, 'sdc', B)
        host.session(1, ONE, IQN, lun1='sdb', lun2='sdc')
        volume = volume_of(host)

        driver.disconnect_volume(info_of(), 'guest', volume=volume)

        (session,) = iscsi_session.sessions(str(host.sysfs))
        assert session.disks == ((2, 'sdc'),)
        assert driver.remains(info_of(), 'guest', volume=volume) == ()

    def test_recorded_link_whose_name_is_another_s_now(self, host, driver):
        disk(host, 'sdb', B)
        link = link_of_os_brick(host, 'sdb')
        volume = volume_of(host, device_info={'path': link})

        assert driver.remains(info_of(encrypted=True), 'guest', volume=volume) == ()

    def test_recorded_link_that_leads_nowhere(self, host, brick, driver):
        link = link_of_os_brick(host, 'sdb')
        volume = volume_of(host, device_info={'path': link})
        info = info_of(encrypted=True)

        assert driver.remains(info, 'guest', volume=volume) == (
            Remainder('link', link, 'leads nowhere'),
        )
        driver.disconnect_volume(info, 'guest', volume=volume)
        assert driver.remains(info, 'guest', volume=volume) == ()


class TestPortalsThatAreFound:
    @pytest.fixture
    def found(self, driver, monkeypatch):
        driver.context.conf.set_override('volume_use_multipath', True, group='volumedrivers')
        found = [
            iscsi_discovery.Found(iscsi_discovery.parse_portal(portal), iqn)
            for portal in (ONE, TWO)
            for iqn in (IQN, 'iqn.x:other')
        ]

        def discover(portal, *, initiator_name, seconds, auth):
            assert auth is None
            if isinstance(found[0], Exception):
                raise found[0]
            return tuple(found)

        monkeypatch.setattr(iscsi_discovery, 'discover', discover)
        return found

    def connect(self, host, brick, driver, **data):
        brick.found = {
            'type': 'block',
            'path': disk(host, 'sdb', A, links=[LINK], device__state='running'),
        }
        return driver.connect_volume(info_of(**data), 'guest')

    def test_the_one_that_is_dead_is_left_out(self, host, brick, probe, driver, found):
        probe.dead[TWO] = 'no answer within 5 s'

        volume = self.connect(host, brick, driver)

        (_, told) = brick.calls[0]
        assert told['target_portals'] == [ONE]
        assert told['target_iqns'] == [IQN]
        assert told['target_luns'] == [1]
        assert (volume.paths.asked, volume.paths.found) == (2, 1)
        assert volume.paths.failed == (FailedPath(f'{TWO} {IQN}', 'no answer within 5 s'),)

    def test_all_that_answer_are_told(self, host, brick, probe, driver, found):
        self.connect(host, brick, driver)

        assert brick.calls[0][1]['target_portals'] == [ONE, TWO]
        assert probe.asked == [('iscsi', [ONE]), ('iscsi', [ONE, TWO])]

    def test_a_target_with_one_portal_is_not_looked_for_again(self, host, brick, driver, found):
        found[:] = [way for way in found if str(way.portal) == ONE]

        volume = self.connect(host, brick, driver)

        told = brick.calls[0][1]
        assert (told['target_portals'], told['target_iqns']) == ([ONE], [IQN])
        assert (volume.paths.asked, volume.paths.found) == (1, 1)

    def test_os_brick_looks_itself_where_we_cannot(self, host, brick, driver, found):
        found[0] = exception.EndpointUnreachable(protocol='iscsi', endpoint=ONE, reason='CHAP')

        self.connect(host, brick, driver)

        assert 'target_portals' not in brick.calls[0][1]

    def test_a_portal_that_wants_a_password_for_it_is_given_it(
        self, host, brick, driver, found, monkeypatch
    ):
        known = []

        def discover(portal, *, initiator_name, seconds, auth):
            known.append((auth.username, auth.password.reveal()))
            return tuple(found)

        monkeypatch.setattr(iscsi_discovery, 'discover', discover)

        self.connect(
            host,
            brick,
            driver,
            discovery_auth_method='CHAP',
            discovery_auth_username='user',
            discovery_auth_password='secret-99',
        )

        assert known == [('user', 'secret-99')]
        assert brick.calls[0][1]['target_portals'] == [ONE, TWO]

    def test_one_way_is_not_looked_for(self, host, brick, driver, found, monkeypatch):
        driver.context.conf.set_override('volume_use_multipath', False, group='volumedrivers')
        monkeypatch.setattr(iscsi_discovery, 'discover', None)

        self.connect(host, brick, driver)

        assert 'target_portals' not in brick.calls[0][1]

    def test_a_removal_is_told_of_them(self, host, brick, driver):
        disk(host, 'sdb', A, links=[LINK])
        disk(host, 'sdc', A.replace('1111', '3333'))
        host.session(1, ONE, IQN, lun1='sdb')
        host.device('sdd', device__wwid=f'naa.{A}')
        host.session(2, TWO, 'iqn.x:second', lun5='sdd')
        host.session(3, OTHER, IQN, lun1='sdc')
        host.session(4, OTHER, 'iqn.x:fourth')

        driver.disconnect_volume(info_of(), 'guest', volume=volume_of(host))

        told = brick.calls[0][1]
        assert told['target_portals'] == [ONE, TWO]
        assert told['target_iqns'] == [IQN, 'iqn.x:second']
        assert told['target_luns'] == [1, 5]
        left = iscsi_session.sessions(str(host.sysfs))
        assert [session.name for session in left] == ['session3', 'session4']

    def test_a_removal_without_a_record_goes_by_target_and_lun(self, host, brick, driver):
        disk(host, 'sdb', A, links=[LINK])
        disk(host, 'sdc', B)
        host.device('sdd', device__wwid=f'naa.{A}')
        host.session(1, ONE, IQN, lun1='sdb')
        host.session(2, TWO, IQN, lun1='sdd')
        host.session(3, TWO, 'iqn.x:other', lun1='sdc')
        host.session(4, OTHER, IQN)

        driver.disconnect_volume(redacted(info_of()), 'guest')

        assert brick.calls[0][1]['target_portals'] == [ONE, TWO, OTHER]
        (left,) = iscsi_session.sessions(str(host.sysfs))
        assert left.name == 'session3'

    @pytest.mark.parametrize(
        ('pairs', 'ways'),
        [
            ([], [(ONE, IQN)]),
            ([(TWO, IQN)], [(ONE, IQN), (TWO, IQN)]),
            ([(ONE, IQN), (ONE, 'x'), (TWO, IQN)], [(ONE, IQN), (TWO, IQN)]),
            ([(ONE, IQN), (TWO, 'x')], [(ONE, IQN), (TWO, 'x')]),
            ([(ONE, IQN), (ONE, 'x'), (TWO, 'x')], [(ONE, IQN)]),
            ([(ONE, IQN), (TWO, IQN), (OTHER, 'x')], [(ONE, IQN), (TWO, IQN)]),
            ([(ONE, 'x'), (TWO, 'y')], [(ONE, IQN)]),
        ],
    )
    def test_ways_are_those_of_the_volume(self, pairs, ways):
        target = IscsiTarget(iscsi_discovery.parse_portal(ONE), IQN, 1)
        found = [
            iscsi_discovery.Found(iscsi_discovery.parse_portal(portal), iqn)
            for portal, iqn in pairs
        ]

        chosen = iscsi_ways.chosen(target, found)

        assert [(str(way.portal), way.iqn) for way in chosen] == ways


@pytest.mark.parametrize(
    ('text', 'portal'),
    [
        ('10.0.0.1:3261,1', Portal('10.0.0.1', 3261)),
        ('10.0.0.1', Portal('10.0.0.1', 3260)),
        ('[FD00::1]:3261,2', Portal('fd00::1', 3261)),
        ('[fd00::1]', Portal('fd00::1', 3260)),
        ('storage.example:1,1', Portal('storage.example', 1)),
    ],
)
def test_address_of_a_target(text, portal):
    assert iscsi_discovery.parse_portal(text) == portal


def test_sessions_of_a_host_without_any(tmp_path):
    assert iscsi_session.sessions(str(tmp_path)) == ()


def test_session_is_read_as_iscsiadm_shows_it(host):
    device = host.session(3, '[FD00::A]:3260', IQN, lun1='sdb', lun0='sda')
    # The controller of the target, which is no disk.
    (device / 'target3:0:0/3:0:0:9').mkdir()

    (session,) = iscsi_session.sessions(str(host.sysfs))

    assert session == iscsi_session.Session(
        'session3', IQN, '[fd00::a]:3260', ((0, 'sda'), (1, 'sdb'))
    )
    assert not session.is_empty
