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

"""What Cinder calls Nova for, with as much of Nova as it takes."""

from collections.abc import Callable
import time
import typing

import pytest

from tests.functional.cinder.made_volumes import MadeVolume
from tests.functional.cinder.made_volumes import VolumeMaker
from volumedrivers.cinder.block_storage import BlockStorage
from volumedrivers.testing.cinder.backends import IscsiBackend
from volumedrivers.testing.cinder.backends import NfsBackend
from volumedrivers.testing.cinder.nova_events import FakeNova

INSTANCE = '11111111-2222-4333-8444-555555555555'
CONNECTOR = {'host': 'elsewhere', 'initiator': 'iqn.2020-01.test:elsewhere'}
NO_SERVICE = {'X-Service-Roles': ''}


def wait_until(ready: Callable[[], typing.Any]) -> None:
    end = time.monotonic() + 20
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.02)


def attached(storage: BlockStorage, volume: MadeVolume) -> str:
    """Attach it to an instance, as far as Cinder is concerned."""
    made = storage.proxy.create_attachment(
        volume.id, instance=INSTANCE, connector={**CONNECTOR, 'mountpoint': 'vdb'}
    )
    storage.proxy.complete_attachment(made)
    return str(made.id)


def test_event(
    nova: FakeNova, storage: BlockStorage, make_volume: VolumeMaker, iscsi: IscsiBackend
) -> None:
    volume = make_volume(iscsi)
    attached(storage, volume)
    handled: list[object] = []
    nova.on_event = handled.append
    storage.proxy.extend_volume(volume.id, 2)
    wait_until(lambda: nova.events)
    nova.wait_idle()
    assert (
        handled
        == nova.events
        == [{'name': 'volume-extended', 'server_uuid': INSTANCE, 'tag': volume.id}]
    )
    assert nova.failures == []
    assert storage.proxy.get_volume(volume.id).size == 2


def test_failure_is_told_to_the_test(
    nova: FakeNova, storage: BlockStorage, make_volume: VolumeMaker, iscsi: IscsiBackend
) -> None:
    volume = make_volume(iscsi)
    attached(storage, volume)

    def fail(event: object) -> None:
        raise ValueError('no such guest')

    nova.on_event = fail
    storage.proxy.extend_volume(volume.id, 2)
    wait_until(lambda: nova.events)
    nova.wait_idle()
    assert [str(error) for error in nova.failures] == ['no such guest']


def test_move_to_another_volume(
    nova: FakeNova,
    admin: typing.Any,
    storage: BlockStorage,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    nfs: NfsBackend,
) -> None:
    """Cinder makes the other volume, and asks Nova to move the guest; then it is told."""
    volume = make_volume(iscsi)
    before = volume.get().host
    attached(storage, volume)
    admin.retype_volume(volume.id, nfs.name, 'on-demand')
    wait_until(lambda: nova.swaps)
    ((server, old, new),) = nova.swaps
    assert (server, old) == (INSTANCE, volume.id)
    assert admin.get_volume(new).volume_type == nfs.name
    assert volume.get().migration_status == 'migrating'
    admin.complete_volume_migration(volume.id, new, error=True)
    wait_until(lambda: volume.get().migration_status == 'error')
    assert volume.get().host == before


@pytest.mark.parametrize('known', [True, False])
def test_who_may_take_an_attachment_away(
    nova: FakeNova,
    storage: BlockStorage,
    make_volume: VolumeMaker,
    iscsi: IscsiBackend,
    known: bool,
) -> None:
    """Without the service role only what Nova knows nothing of (bug 2004555)."""
    volume = make_volume(iscsi)
    attachment = attached(storage, volume)
    if known:
        nova.attachments[INSTANCE, volume.id] = attachment
    answer = storage.proxy.delete(f'/attachments/{attachment}', headers=NO_SERVICE)
    assert answer.status_code == (409 if known else 200)
    assert len(volume.attachments()) == known
