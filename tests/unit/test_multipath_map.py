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

"""A volume with several ways comes as a map, also where one way alone has come."""

import pytest

from tests.unit.made_up_host import MadeUpHost
from volumedrivers import exception
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.libvirt import multipath_map
from volumedrivers.libvirt.asked_paths import AskedPath
from volumedrivers.libvirt.asked_paths import Ways

NAA = '600140512345678901234567890abcde'
WWID = f'3{NAA}'
ONE = Ways((AskedPath('a'),))
TWO = Ways((AskedPath('a'), AskedPath('b')))


@pytest.fixture
def host(tmp_path):
    return MadeUpHost(tmp_path)


@pytest.fixture
def devices(host):
    return BlockDevices(str(host.sysfs), str(host.dev), str(host.udev))


@pytest.fixture
def multipathd(host, monkeypatch):
    """Makes the map of the disk that it is told of; holds what it was told."""
    told = []

    def make_map(wwid, disk):
        told.append((wwid, disk))
        host.device('dm-0', dm__uuid=f'mpath-{wwid}', slaves=[disk])

    monkeypatch.setattr(multipath_map.multipath, 'make_map', make_map)
    return told


def asked(devices, ways, *answers):
    """Connect; return the answer and how often os-brick was asked."""
    left = list(answers)
    found = multipath_map.connect(lambda: {'path': left.pop(0)}, devices, ways, 0.2)
    return found['path'], len(answers) - len(left)


def test_lonely_disk_is_put_into_a_map(host, devices, multipathd):
    disk = host.device('sdb', device__wwid=f'naa.{NAA}')
    assert asked(devices, TWO, disk, '/dev/dm-0') == ('/dev/dm-0', 2)
    assert multipathd == [(WWID, 'sdb')]


def test_disk_of_a_volume_with_one_way_stays_a_disk(host, devices, multipathd):
    disk = host.device('sdb', device__wwid=f'naa.{NAA}')
    assert asked(devices, ONE, disk, '/dev/dm-0') == (disk, 1)
    assert asked(devices, Ways(), disk, '/dev/dm-0') == (disk, 1)
    assert multipathd == []


def test_map_and_namespace_are_fine_as_they_are(host, devices, multipathd):
    for path in (host.device('dm-0', dm__uuid=f'mpath-{WWID}'), host.device('nvme0n1')):
        assert asked(devices, TWO, path, 'another') == (path, 1)
    assert multipathd == []


def test_map_that_came_meanwhile_is_asked_for(host, devices, multipathd):
    disk = host.device('sdb', device__wwid=f'naa.{NAA}')
    host.device('dm-0', dm__uuid=f'mpath-{WWID}', slaves=['sdb'])
    assert asked(devices, TWO, disk, '/dev/dm-0') == ('/dev/dm-0', 2)
    assert multipathd == []


@pytest.mark.parametrize('fails', [True, False])
def test_without_multipathd_the_disk_is_used(host, devices, monkeypatch, fails):
    def make_map(wwid, disk):
        if fails:
            raise exception.ToolMissing(tool='multipath', package='multipath-tools')

    monkeypatch.setattr(multipath_map.multipath, 'make_map', make_map)
    disk = host.device('sdb', device__wwid=f'naa.{NAA}')
    assert asked(devices, TWO, disk, '/dev/dm-0') == (disk, 1)


def test_disk_without_a_name_of_its_own_is_left_alone(host, devices, multipathd):
    disk = host.device('sdb')
    assert asked(devices, TWO, disk, '/dev/dm-0') == (disk, 1)
    assert multipathd == []
