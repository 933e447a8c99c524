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

"""A guest for all the tests here, and who knows what it and its volumes have."""

from collections.abc import Iterator
import contextlib

from openstack import exceptions as sdk
import pytest

from tests.functional.cinder.faults.agreement import Bench
from tests.functional.cinder.made_volumes import MadeVolume
from tests.functional.cinder.made_volumes import VolumeMaker
from volumedrivers.attachment.block_storage.manager import VolumeManager
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing.cinder.backends import IscsiBackend
from volumedrivers.testing.cinder.embedded import EmbeddedCinder
from volumedrivers.testing.cinder.faults import Faults


@pytest.fixture(scope='package')
def guest(hypervisor: Hypervisor) -> Iterator[Guest]:
    started = guests.start_guest(hypervisor, 'faults', persistent=True)
    yield started
    guests.remove_guest(started)


@pytest.fixture
def bench(
    volume_manager: VolumeManager, guest: Guest, faults: Faults, cinder: EmbeddedCinder
) -> Bench:
    return Bench(volume_manager, guest, faults, (cinder.directory,))


@pytest.fixture
def volume(make_volume: VolumeMaker, iscsi: IscsiBackend, faults: Faults) -> Iterator[MadeVolume]:
    made = make_volume(iscsi)
    yield made
    with faults.aside(), contextlib.suppress(sdk.NotFoundException):
        if made.status not in {'available', 'in-use'}:
            made.proxy.reset_volume_status(made.id, status='available', attach_status='detached')
