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

"""Nova's driver and table, with a host of fakes, a real journal and real locks below."""

from collections.abc import Iterator
import dataclasses
import pathlib
import types
import typing

from nova.virt.libvirt import driver as libvirt_driver
import pytest

from tests.unit import fake_hypervisor as fake
from volumedrivers.attachment.host_manager import HostManager
from volumedrivers.attachment.journal import Journal
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.record import make_key
from volumedrivers.nova import registration
from volumedrivers.nova import services

KEY = make_key(fake.GUEST_UUID, fake.VOLUME_ID)


class Secrets:
    """Enough of libvirt's secrets."""

    def __init__(self) -> None:
        self.uuids: dict[tuple[str, str], str] = {}
        self.error: Exception | None = None

    def find(self, usage_type: str, usage_id: str) -> str | None:
        if self.error is not None:
            raise self.error
        return self.uuids.get((usage_type, usage_id))


@dataclasses.dataclass
class Host:
    """This host, and the guests that libvirt knows."""

    fakes: fake.Calls
    guest: fake.FakeGuest
    other: fake.FakeGuest
    driver: fake.FakeDriver
    manager: HostManager
    secrets: Secrets
    instance: typing.Any
    neighbour: typing.Any

    @property
    def calls(self) -> list[str]:
        """What was changed; not what was only looked at."""
        return [call for call in self.fakes.calls if call not in ('current_identity', 'remains')]

    @property
    def journal(self) -> Journal:
        return self.manager.context.journal

    def row(self) -> Record | None:
        return self.journal.get(KEY)


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Iterator[Host]:
    fakes = fake.Calls()
    guest = fake.FakeGuest(fakes, 'instance-1')
    other = fake.FakeGuest(fake.Calls(), 'instance-2', fake.OTHER_UUID)
    driver = fake.FakeDriver(fakes)
    conf = fake.make_conf()
    context = fake.make_manager(conf, tmp_path, driver, guest, other).context
    context.registry.why_not = lambda name: None  # type: ignore[method-assign]
    manager = HostManager(context, services.MANAGER)
    secrets = Secrets()
    services.use(
        services.Services(conf, context.registry, manager, typing.cast(typing.Any, secrets))
    )
    yield Host(
        fakes,
        guest,
        other,
        driver,
        manager,
        secrets,
        types.SimpleNamespace(uuid=fake.GUEST_UUID, name='instance-1'),
        types.SimpleNamespace(uuid=fake.OTHER_UUID, name='instance-2'),
    )
    services.use(None)


@pytest.fixture
def table() -> Iterator[dict[str, str]]:
    """Nova's table of volume drivers, with this package's in it."""
    before = dict(libvirt_driver.VOLUME_DRIVERS)
    registered = registration.register()
    yield libvirt_driver.VOLUME_DRIVERS
    registered.unregister()
    assert before == libvirt_driver.VOLUME_DRIVERS
