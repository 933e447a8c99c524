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

import pytest

from tests.unit.fake_libvirt import FakeDomain
from volumedrivers.libvirt import guest_definition
from volumedrivers.libvirt.disk import Disk


def disk(source: str, kind: str = 'network') -> Disk:
    return Disk.parse(f"<disk type='{kind}'>{source}<target dev='vda' bus='virtio'/></disk>")


SAME = [
    ("<source file='/a'/>", "<source file='/a' index='1'/>", 'file'),
    ("<source dev='/dev/a'/>", "<source dev='/dev/a' index='3'><seclabel/></source>", 'block'),
    # libvirt adds the port of the protocol.
    (
        "<source protocol='nbd' name='x'><host name='h'/></source>",
        "<source protocol='nbd' name='x' index='1'><host name='h' port='10809'/></source>",
        'network',
    ),
    (
        "<source protocol='nbd'><host transport='unix' socket='/s'/></source>",
        "<source protocol='nbd'><host transport='unix' socket='/s'/></source>",
        'network',
    ),
    ('', '', 'file'),
]
OTHER = [
    ("<source file='/a'/>", "<source file='/b'/>", 'file'),
    ("<source dev='/dev/a'/>", "<source dev='/dev/b'/>", 'block'),
    (
        "<source protocol='nbd' name='x'><host name='h'/></source>",
        "<source protocol='nbd' name='y'><host name='h'/></source>",
        'network',
    ),
    (
        "<source protocol='nbd' name='x'><host name='h' port='1'/></source>",
        "<source protocol='nbd' name='x'><host name='h' port='2'/></source>",
        'network',
    ),
    (
        "<source protocol='rbd' name='p/i'><host name='a'/><host name='b'/></source>",
        "<source protocol='rbd' name='p/i'><host name='a'/></source>",
        'network',
    ),
    (
        "<source protocol='rbd' name='p/i'><snapshot name='s'/></source>",
        "<source protocol='rbd' name='p/i'/>",
        'network',
    ),
    (
        "<source type='pci' namespace='1'><address domain='0' bus='1' slot='0'/></source>",
        "<source type='pci' namespace='1'><address domain='0' bus='2' slot='0'/></source>",
        'nvme',
    ),
    ("<source pool='p' volume='a'/>", "<source pool='p' volume='b'/>", 'volume'),
    ("<source file='/a'/>", '', 'file'),
]


@pytest.mark.parametrize(('one', 'other', 'kind'), SAME)
def test_same_data(one: str, other: str, kind: str) -> None:
    assert guest_definition.same_source(disk(one, kind), disk(other, kind))
    assert guest_definition.same_source(disk(other, kind), disk(one, kind))


@pytest.mark.parametrize(('one', 'other', 'kind'), OTHER)
def test_other_data(one: str, other: str, kind: str) -> None:
    assert not guest_definition.same_source(disk(one, kind), disk(other, kind))
    assert not guest_definition.same_source(disk(other, kind), disk(one, kind))


def test_other_kind_of_source() -> None:
    assert not guest_definition.same_source(disk('', 'file'), disk('', 'block'))


@pytest.mark.parametrize(('running', 'defined'), [(True, True), (True, False), (False, True)])
def test_definitions_a_domain_has(running: bool, defined: bool) -> None:
    found = guest_definition.read(FakeDomain(running=running, defined=defined))
    assert (found.live is not None) is running
    assert (found.persistent is not None) is defined
    assert found.targets() == found.scsi_units() == set()
    assert found.scsi_model() == 'virtio-scsi'
