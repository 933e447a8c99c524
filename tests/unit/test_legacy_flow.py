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

"""The calls from before Cinder had attachments, and what a volume's status tells of them."""

import datetime
import functools
import time
import types
import typing
from unittest import mock

from openstack.block_storage.v3 import _proxy
import pytest

from volumedrivers import exception
from volumedrivers.attachment.block_storage import flows
from volumedrivers.attachment.block_storage import legacy_flow
from volumedrivers.attachment.block_storage.attachment_flow import AttachmentFlow
from volumedrivers.attachment.block_storage.flow import Side
from volumedrivers.attachment.block_storage.legacy_flow import LegacyFlow
from volumedrivers.attachment.block_storage.reservation import Flow
from volumedrivers.attachment.block_storage.reservation import Reservation
from volumedrivers.cinder.block_storage import BlockStorage

VOLUME = '11111111-1111-1111-1111-111111111111'
GUEST = '22222222-2222-2222-2222-222222222222'
CONNECTOR = {'host': 'this-host', 'initiator': 'iqn.2020-01.test:this-host'}


@functools.cache
def made_once() -> mock.Mock:
    return typing.cast(mock.Mock, mock.create_autospec(_proxy.Proxy, instance=True))


def sdk_proxy() -> mock.Mock:
    """Return what takes the calls of the SDK's proxy, with their arguments, and no others."""
    proxy = made_once()
    proxy.reset_mock()
    return proxy


def stamp(seconds: float) -> str:
    """Write a time as Cinder does: UTC, and no word of it."""
    found = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return found.replace(tzinfo=None).isoformat()


def volume(status: str, **more: typing.Any) -> types.SimpleNamespace:
    fields: dict[str, typing.Any] = {
        'id': VOLUME,
        'status': status,
        'attachments': [],
        'updated_at': None,
        'is_multiattach': False,
        'metadata': {},
        **more,
    }
    return types.SimpleNamespace(**fields)


def attachment(
    name: str, *, instance: str | None = GUEST, status: str = 'attached', info: object = None
) -> types.SimpleNamespace:
    return types.SimpleNamespace(id=name, instance=instance, status=status, connection_info=info)


def row(**more: typing.Any) -> Reservation:
    fields: dict[str, typing.Any] = {
        'key': f'{GUEST}/{VOLUME}',
        'endpoint': 'http://cinder',
        'host': 'this-host',
        'domain_uuid': GUEST,
        'domain_name': 'guest',
        'volume_id': VOLUME,
        'volume_name': 'a volume',
        'flow': Flow.LEGACY,
        'instance': GUEST,
        'step': 'export',
        'began': time.time(),
        **more,
    }
    return Reservation(**fields)


class StandIn:
    """The SDK's proxy, of which only the answers are made up."""

    def __init__(self, *volumes: types.SimpleNamespace | Exception) -> None:
        self.proxy = sdk_proxy()
        self.proxy.get_volume.side_effect = [*volumes, *[volumes[-1]] * 9]
        self.proxy.attachments.return_value = []
        storage = BlockStorage(typing.cast(typing.Any, None), retries=0)
        storage._proxy = self.proxy
        self.flow = LegacyFlow(storage)

    @property
    def changed(self) -> list[str]:
        """The calls that change something, in their order."""
        reading = {'get_volume', 'attachments', 'get_attachment'}
        return [one[0] for one in self.proxy.method_calls if one[0] not in reading]


def test_the_row_says_which_calls() -> None:
    storage = StandIn(volume('available')).flow.storage
    assert isinstance(flows.of(storage, row()), LegacyFlow)
    assert isinstance(flows.of(storage, row(flow=Flow.ATTACHMENT)), AttachmentFlow)


@pytest.mark.parametrize('status', ['available', 'in-use', 'reserved', 'error', 'deleting'])
def test_nothing_of_it_is_there(status: str) -> None:
    there = StandIn(volume(status))
    there.proxy.attachments.return_value = [attachment('a', instance='another')]
    assert there.flow.look(row()) == (Side.NONE, None)
    there.flow.release(row())
    assert there.changed == []


def test_the_volume_is_gone() -> None:
    there = StandIn(
        exception.NotInCinder(action='get volume', reason='gone', endpoint='http://cinder')
    )
    assert there.flow.look(row()) == (Side.NONE, None)


def test_reserved() -> None:
    there = StandIn(volume('attaching'))
    assert there.flow.look(row()) == (Side.RESERVED, None)
    there.flow.release(row())
    assert there.changed == ['unreserve_volume']


def test_exported() -> None:
    there = StandIn(volume('attaching'), volume('attaching'), volume('available'))
    found = row(connector=CONNECTOR)
    assert there.flow.look(found) == (Side.EXPORTED, None)
    there.flow.release(found)
    # With the connector that was recorded; Cinder takes the reservation back, too.
    there.proxy.terminate_volume_attachment.assert_called_once_with(VOLUME, CONNECTOR)
    assert there.changed == ['terminate_volume_attachment']


def test_exported_by_a_cinder_that_keeps_the_reservation() -> None:
    there = StandIn(volume('attaching'))
    there.flow.release(row(connector=CONNECTOR))
    assert there.changed == ['terminate_volume_attachment', 'unreserve_volume']


@pytest.mark.parametrize('status', ['in-use', 'detaching', 'attaching'])
def test_attached(status: str) -> None:
    there = StandIn(volume(status))
    there.proxy.attachments.return_value = [attachment('another'), attachment('mine')]
    found = row(connector=CONNECTOR, attachment_id='mine')
    assert there.flow.look(found) == (Side.ATTACHED, 'mine')
    there.flow.release(found)
    assert there.changed == ['terminate_volume_attachment', 'detach_volume']
    there.proxy.detach_volume.assert_called_once_with(VOLUME, 'mine')


def test_detached_already() -> None:
    """What Cinder has of it now is somebody else's."""
    there = StandIn(volume('attaching'))
    there.proxy.attachments.return_value = [attachment('another')]
    assert there.flow.look(row(attachment_id='mine')) == (Side.NONE, None)


def test_an_attachment_of_the_other_calls_is_not_it() -> None:
    there = StandIn(volume('in-use'))
    there.proxy.attachments.return_value = [
        attachment('new', info={'driver_volume_type': 'nfs'}),
        attachment('reserved', status='reserved'),
    ]
    assert there.flow.look(row()) == (Side.NONE, None)


def test_by_the_host() -> None:
    named = [
        {'attachment_id': 'theirs', 'host_name': 'other-host'},
        {'attachment_id': 'mine', 'host_name': 'THIS-host'},
    ]
    there = StandIn(volume('in-use', attachments=named))
    there.proxy.attachments.return_value = [
        attachment('theirs', instance=None),
        attachment('mine', instance=None),
    ]
    assert there.flow.look(row(instance=None)) == (Side.ATTACHED, 'mine')


@pytest.mark.parametrize('step', ['', 'reserve', 'undo reserve'])
def test_whose_reservation_is_it(step: str) -> None:
    now = time.time()
    at_once = StandIn(volume('attaching', updated_at=stamp(now + 20)))
    found = row(step=step, began=now)
    assert at_once.flow.look(found) == (Side.RESERVED, None)

    for later in (stamp(now + 3600), stamp(now - 3600), None):
        there = StandIn(volume('attaching', updated_at=later))
        with pytest.raises(exception.Busy):
            there.flow.release(found)
        assert there.changed == []
        # Cinder had answered.
        assert there.flow.look(row(step=step, wanted={'reserved': True}))[0] is Side.RESERVED


def test_complete() -> None:
    there = StandIn(volume('in-use'))
    there.proxy.attachments.return_value = [attachment('mine')]
    assert there.flow.complete(row(), target='vdb') == 'mine'
    there.proxy.attach_volume.assert_called_once_with(
        VOLUME, '/dev/vdb', instance=GUEST, host_name='this-host'
    )


def test_complete_and_there_is_none() -> None:
    there = StandIn(volume('attaching'))
    with pytest.raises(exception.AttachmentLost):
        there.flow.complete(row(), target='vdb')


def test_export() -> None:
    there = StandIn(volume('attaching'))
    there.proxy.init_volume_attachment.return_value = {
        'driver_volume_type': 'nfs',
        'data': {'export': '127.0.0.1:/export', 'name': 'volume-1', 'format': 'raw'},
    }
    info = there.flow.export(row(), volume('attaching'), CONNECTOR)
    assert (info.driver_volume_type, info.volume_id) == ('nfs', VOLUME)
    there.proxy.init_volume_attachment.assert_called_once_with(VOLUME, CONNECTOR)


def test_what_these_calls_cannot_do() -> None:
    legacy_flow.require_possible(volume('available'), read_only=False)
    with pytest.raises(exception.InvalidOption, match='read-only'):
        legacy_flow.require_possible(volume('available'), read_only=True)
    with pytest.raises(exception.InvalidOption, match='more than one guest'):
        legacy_flow.require_possible(volume('available', is_multiattach=True), read_only=False)
