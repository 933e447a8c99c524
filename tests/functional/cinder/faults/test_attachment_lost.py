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

"""An attachment is taken away in Cinder, and others get the volume."""

from collections.abc import Iterator
import contextlib

import pytest

from tests.functional.cinder.faults.agreement import Bench
from tests.functional.cinder.made_volumes import MadeVolume
from volumedrivers import exception
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests

ELSEWHERE = {
    'host': 'another-host',
    'initiator': 'iqn.2020-01.test:another-host',
    'ip': '127.0.0.1',
}
GIB = 2**30


@pytest.fixture
def other(hypervisor: Hypervisor) -> Iterator[Guest]:
    started = guests.start_guest(hypervisor, 'other')
    yield started
    guests.remove_guest(started)


@pytest.fixture
def lost(bench: Bench, volume: MadeVolume) -> Iterator[MadeVolume]:
    """A volume that the guest has, and Cinder knows nothing of that."""
    bench.attach(volume)
    (attachment,) = volume.attachments()
    bench.proxy.delete_attachment(attachment)
    yield volume
    with contextlib.suppress(exception.NothingToDo):
        bench.detach(volume)


def test_another_guest_of_this_host_does_not_get_it(
    bench: Bench, lost: MadeVolume, other: Guest
) -> None:
    before = bench.state(lost.id)
    for attach in (bench.manager.attach, bench.manager.plan.attach):
        with pytest.raises(exception.AttachmentLost, match=f'guest {bench.guest.name} has'):
            attach(other.name, lost.id)
    assert bench.state(lost.id) == before


def test_nor_where_only_the_state_was_changed(
    bench: Bench, volume: MadeVolume, other: Guest
) -> None:
    bench.attach(volume)
    bench.proxy.reset_volume_status(volume.id, status='available')
    before = bench.state(volume.id)
    with pytest.raises(exception.WrongVolumeState, match='in-use: guest'):
        bench.manager.attach(other.name, volume.id)
    assert bench.state(volume.id) == before
    bench.detach(volume)


def test_it_is_not_extended(bench: Bench, lost: MadeVolume) -> None:
    with pytest.raises(exception.AttachmentLost, match='it may give the volume to somebody'):
        bench.manager.extend(lost.id, 2 * GIB)
    assert lost.get().size == 1


def test_another_host_keeps_what_it_got_meanwhile(bench: Bench, lost: MadeVolume) -> None:
    theirs = bench.proxy.create_attachment(lost.get(), connector=ELSEWHERE)
    bench.proxy.complete_attachment(theirs)
    assert lost.status == 'in-use'
    bench.detach(lost)
    assert lost.status == 'in-use'
    assert [one.id for one in lost.attachments()] == [theirs.id]
    assert bench.recover() == []
    bench.proxy.delete_attachment(theirs)
