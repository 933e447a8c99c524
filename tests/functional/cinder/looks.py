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

"""What the tests of volumes that grow, or that several guests have, look at."""

import contextlib
import itertools
import time
import typing
import uuid

from tests.functional.cinder.made_volumes import MadeVolume
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment.block_storage.manager import VolumeManager
from volumedrivers.cinder.block_storage import BlockStorage
from volumedrivers.libvirt.disk import Disk
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests
from volumedrivers.testing.cinder.backends import Backend
from volumedrivers.testing.cinder.nova_events import FakeNova
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.qemu_io import GuestIO

GIB = 2**30
#: for Cinder's configuration: volumes that all tests of a module may have together
MANY = {'quota_volumes': '1000'}
_numbers = itertools.count(1)


def disk(guest: Guest, volume: MadeVolume) -> Disk:
    """Return the guest's disk, which has to be there."""
    found = guest_disks.find(guest, volume.id)
    assert found is not None
    return found


def capacity(guest: Guest, volume: MadeVolume) -> int:
    """Return the bytes that QEMU says the running guest's disk has."""
    target = guest_disks.target_of(disk(guest, volume))
    return int(guest.hypervisor.domain(guest.uuid).blockInfo(target)[0])


class Other:
    """One more guest, and what reads and writes its disks; a context manager."""

    def __init__(self, hypervisor: Hypervisor, libvirtd: PrivateLibvirtd) -> None:
        self.guest = guests.start_guest(hypervisor, f'other{next(_numbers)}', persistent=True)
        name = self.guest.name
        self.io = GuestIO(self.guest, lambda: libvirtd.guest_log(name))

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(self, *exc: object) -> None:
        guests.remove_guest(self.guest)


def attached_elsewhere(
    volume: MadeVolume, *, host: str = 'other-host', instance: str | None = None
) -> typing.Any:
    """Attach a volume to another host, as far as Cinder is concerned."""
    proxy = volume.proxy
    given = {} if instance is None else {'instance': instance}
    made = proxy.create_attachment(volume.id, **given)
    connector = {'host': host, 'initiator': f'iqn.2020-01.test:{host}', 'ip': '127.0.0.2'}
    proxy.update_attachment(made.id, connector=connector)
    proxy.complete_attachment(made.id)
    return made


@contextlib.contextmanager
def stopped(guest: Guest) -> typing.Iterator[None]:
    """Let the guest not run meanwhile."""
    domain = guest.hypervisor.domain(guest.uuid)
    domain.destroy()
    try:
        yield
    finally:
        domain.create()


def told(nova: FakeNova) -> list[dict[str, str]]:
    """Return the events when the first has come."""
    end = time.monotonic() + 20
    while not nova.events:
        assert time.monotonic() < end
        time.sleep(0.02)
    return [dict(event) for event in nova.events]


def event_of(guest: Guest, volume: MadeVolume) -> dict[str, str]:
    return {'name': 'volume-extended', 'server_uuid': guest.uuid, 'tag': volume.id}


def detach_all(manager: VolumeManager) -> None:
    """Detach what a test has left, also from guests that are gone."""
    for row in manager.context.reservations.find():
        manager.detach(row.domain_uuid, row.volume_id)
    assert manager.context.host.journal.find() == ()


def multiattach_type(storage: BlockStorage, backend: Backend) -> str:
    """Make a volume type whose volumes several guests may have; return its name."""
    name = f'{backend.name}-shared-{uuid.uuid4()}'
    specs = {'volume_backend_name': backend.name, 'multiattach': '<is> True'}
    storage.proxy.create_type(name=name, extra_specs=specs)
    return name
