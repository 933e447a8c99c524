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

from volumedrivers import exception
from volumedrivers.libvirt import target_names


@pytest.mark.parametrize(
    ('bus', 'index', 'name'),
    [
        ('virtio', 0, 'vda'),
        ('virtio', 25, 'vdz'),
        ('virtio', 26, 'vdaa'),
        ('virtio', 51, 'vdaz'),
        ('virtio', 52, 'vdba'),
        ('virtio', 701, 'vdzz'),
        ('virtio', 702, 'vdaaa'),
        ('scsi', 255, 'sdiv'),
        ('sata', 1, 'sdb'),
        ('usb', 2, 'sdc'),
        ('sd', 0, 'sda'),
        ('ide', 3, 'hdd'),
        ('fdc', 1, 'fdb'),
        ('xen', 1, 'xvdb'),
        ('uml', 1, 'ubdb'),
        ('nvme', 0, 'nvme0n1'),
        ('nvme', 11, 'nvme11n1'),
    ],
)
def test_a_name_and_its_index(bus, index, name):
    assert target_names.name_of(bus, index) == name
    assert target_names.index_of(name) == index


def test_names_and_indexes_are_one_to_one():
    names = [target_names.name_of('scsi', index) for index in range(20000)]
    assert len(set(names)) == 20000
    assert [target_names.index_of(name) for name in names] == list(range(20000))


@pytest.mark.parametrize(
    'name',
    [
        '',
        'vd',
        'vda1',
        'VDA',
        '/dev/vda',
        'vda ',
        'xda',
        'sd\u0430',
        'vd-1',
        'nvme0',
        'nvme0n2',
        'nvme00n1',
        'nvme\u0661n1',
        'dvda',
    ],
)
def test_what_is_no_name_is_refused(name):
    with pytest.raises(exception.InvalidDiskInfo) as caught:
        target_names.index_of(name)
    assert caught.value.key == 'dev'
    assert repr(name) in str(caught.value)


def test_an_unknown_bus_is_refused():
    for call in (
        target_names.prefix,
        lambda bus: target_names.name_of(bus, 0),
        lambda bus: target_names.first_free_name(bus, ()),
    ):
        with pytest.raises(exception.InvalidDiskInfo) as caught:
            call('pata')
        assert caught.value.key == 'bus'


def test_a_negative_index_is_refused():
    with pytest.raises(exception.InvalidDiskInfo):
        target_names.name_of('virtio', -1)


@pytest.mark.parametrize(
    ('bus', 'used', 'name'),
    [
        ('virtio', [], 'vda'),
        ('virtio', ['vda', 'vdc'], 'vdb'),
        ('virtio', ['vda', 'vdb'], 'vdc'),
        ('virtio', ['sda', 'hda'], 'vda'),
        # sata, usb and scsi share their names: libvirt wants a target only once.
        ('scsi', ['sda', 'sdb'], 'sdc'),
        ('virtio', [f'vd{letter}' for letter in 'abcdefghijklmnopqrstuvwxyz'], 'vdaa'),
        ('nvme', ['nvme0n1'], 'nvme1n1'),
    ],
)
def test_the_first_free_name(bus, used, name):
    assert target_names.first_free_name(bus, used) == name
    assert target_names.first_free_name(bus, iter(used)) == name


def test_libvirt_puts_seven_disks_on_a_controller():
    assert target_names.default_scsi_address(0) == (0, 0)
    assert target_names.default_scsi_address(6) == (0, 6)
    assert target_names.default_scsi_address(7) == (1, 0)
    assert target_names.default_scsi_address(26) == (3, 5)


@pytest.mark.parametrize(
    ('model', 'used', 'unit'),
    [
        ('virtio-scsi', [], 0),
        ('virtio-scsi', [0, 1, 3], 2),
        ('virtio-scsi', range(7), 7),
        ('virtio-scsi', range(16383), 16383),
        ('lsilogic', range(6), 6),
        ('buslogic', range(7), 8),
        ('buslogic', range(15), 15),
    ],
)
def test_the_first_free_unit(model, used, unit):
    assert target_names.first_free_unit(used, model=model) == unit


def test_past_all_units_as_nova_does_it():
    assert target_names.first_free_unit([0, 1, 5], least=6) == 6


@pytest.mark.parametrize(
    ('model', 'used'),
    [
        ('virtio-scsi', range(16384)),
        ('lsilogic', range(7)),
        ('buslogic', [*range(7), *range(8, 16)]),
    ],
)
def test_a_full_controller_is_refused(model, used):
    with pytest.raises(exception.InvalidDiskInfo) as caught:
        target_names.first_free_unit(used, model=model)
    assert model in str(caught.value)
