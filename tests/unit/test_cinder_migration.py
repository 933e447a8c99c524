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

"""Cinder is told how its migration has ended, also where its answers are lost."""

import functools
import types
import typing
from unittest import mock

from keystoneauth1 import exceptions as keystoneauth
from openstack import exceptions as sdk
from openstack.block_storage.v3 import _proxy
import pytest

from volumedrivers import exception
from volumedrivers.attachment.block_storage import settle_swap
from volumedrivers.attachment.block_storage import swap
from volumedrivers.attachment.block_storage.reservation import Operation
from volumedrivers.attachment.block_storage.reservation import Reservation
from volumedrivers.cinder import migration
from volumedrivers.cinder.block_storage import BlockStorage

OLD = '11111111-1111-1111-1111-111111111111'
NEW = '33333333-3333-3333-3333-333333333333'
GUEST = '22222222-2222-2222-2222-222222222222'
LOST = keystoneauth.ConnectFailure('Connection reset by peer')
NO = sdk.BadRequestException('no', http_status=400)


@functools.cache
def made_once() -> mock.Mock:
    return typing.cast(mock.Mock, mock.create_autospec(_proxy.Proxy, instance=True))


def sdk_proxy() -> mock.Mock:
    """Return what takes the calls of the SDK's proxy, with their arguments, and no others."""
    proxy = made_once()
    proxy.reset_mock()
    return proxy


def volume(status: str | None, size: int = 1) -> types.SimpleNamespace:
    return types.SimpleNamespace(id=OLD, status='in-use', migration_status=status, size=size)


def cinder(
    *volumes: types.SimpleNamespace, error: Exception | None = None
) -> tuple[BlockStorage, mock.Mock]:
    proxy = sdk_proxy()
    proxy.get_volume.side_effect = [*volumes, *volumes[-1:] * 9]
    proxy.complete_volume_migration.side_effect = error
    proxy.complete_volume_migration.__name__ = 'complete_volume_migration'
    storage = BlockStorage(typing.cast(typing.Any, None), retries=0)
    storage._proxy, storage._endpoint = proxy, 'http://cinder'
    return storage, proxy


@pytest.mark.parametrize('error', [False, True])
def test_told(error: bool) -> None:
    storage, proxy = cinder(volume('migrating'))
    migration.finish(storage, OLD, NEW, error=error)
    proxy.complete_volume_migration.assert_called_once_with(OLD, NEW, error=error)


@pytest.mark.parametrize('failure', [LOST, NO])
def test_it_was_done_already(failure: Exception) -> None:
    migration.finish(cinder(volume('success'), error=failure)[0], OLD, NEW)
    for status in ('error', None):
        migration.finish(cinder(volume(status), error=failure)[0], OLD, NEW, error=True)


@pytest.mark.parametrize('failure', [LOST, NO])
@pytest.mark.parametrize(('status', 'error'), [('error', False), (None, False), ('success', True)])
def test_it_has_ended_otherwise(failure: Exception, status: str | None, error: bool) -> None:
    storage, _ = cinder(volume(status), error=failure)
    with pytest.raises(exception.WrongVolumeState):
        migration.finish(storage, OLD, NEW, error=error)


def test_the_answer_is_lost_while_cinder_is_at_it() -> None:
    storage, _ = cinder(volume('completing'), volume('completing'), volume('success'), error=LOST)
    migration.finish(storage, OLD, NEW, seconds=20.0)


def test_it_does_not_come_about() -> None:
    with pytest.raises(exception.CinderUnavailable):
        migration.finish(cinder(volume('completing'), error=LOST)[0], OLD, NEW, seconds=0.0)
    with pytest.raises(exception.CinderError):
        migration.finish(cinder(volume('migrating'), error=NO)[0], OLD, NEW)


def test_it_takes_an_administrator() -> None:
    failure = sdk.ForbiddenException('no', http_status=403)
    with pytest.raises(exception.CinderForbidden):
        migration.finish(cinder(volume('migrating'), error=failure)[0], OLD, NEW)


def test_the_pair() -> None:
    target = volume(f'target:{OLD}')
    storage, _ = cinder(volume('migrating'), target)
    assert migration.require_pair(storage, OLD, NEW) is target
    for old, new in (
        (volume(None), target),
        (volume('success'), target),
        (volume('migrating'), volume(None)),
        (volume('migrating'), volume(f'target:{GUEST}')),
        (volume('migrating'), volume(f'target:{OLD}', size=2)),
    ):
        with pytest.raises(exception.WrongVolumeState):
            migration.require_pair(cinder(old, new)[0], OLD, NEW)


def row(step: str) -> Reservation:
    return Reservation(
        key=f'{GUEST}/{OLD}',
        endpoint='http://cinder',
        host='this-host',
        domain_uuid=GUEST,
        domain_name='guest',
        volume_id=OLD,
        volume_name='a volume',
        attachment_id='old',
        instance=GUEST,
        operation=Operation.MIGRATE,
        step=step,
        wanted={'new': {'volume_id': NEW, 'attachment_id': 'new'}},
    )


def record(volume_id: str, *, settled: bool = True) -> typing.Any:
    return types.SimpleNamespace(connection_info={'volume_id': volume_id}, is_settled=settled)


def test_where_guest_and_host_have_it() -> None:
    found = row('swap')
    assert swap.has_moved(record(NEW), found) is True
    assert swap.has_moved(record(OLD), found) is False
    assert swap.has_moved(record(NEW, settled=False), found) is None
    assert swap.has_moved(None, found) is None


def test_what_the_guest_had_last_is_not_guessed() -> None:
    nothing = typing.cast(typing.Any, None)
    with pytest.raises(exception.StillInUse, match='a person has to find out'):
        settle_swap.settle(nothing, row('swap'), None)
    with pytest.raises(exception.StillInUse):
        settle_swap.settle(nothing, row('release'), record(NEW, settled=False))


def test_cinder_does_not_get_back_what_this_host_has() -> None:
    nothing = typing.cast(typing.Any, None)
    for here in (record(OLD), record(NEW, settled=False)):
        with pytest.raises(exception.StillInUse):
            swap.release_old(nothing, row('release'), here)
