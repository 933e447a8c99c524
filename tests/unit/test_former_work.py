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

"""What an interrupted operation has started is waited for before anything is concluded."""

from collections.abc import Collection
import dataclasses
import pathlib
import typing

import pytest

from tests.unit import fake_hypervisor as fake
from tests.unit import network_fakes
from volumedrivers import exception
from volumedrivers.attachment import former_work
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.attachment.record import Opened
from volumedrivers.attachment.record import Operation
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.record import make_key
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import former_processes

INFO = ConnectionInfo.parse(fake.connection_info())
KEY = make_key(fake.GUEST_UUID, fake.VOLUME_ID)


class Waits:
    """Programs that end when they are told to."""

    def __init__(self) -> None:
        self.busy = True
        self.asked: list[dict[str, typing.Any]] = []

    def wait(self, words: Collection[str], seconds: float, **options: typing.Any) -> None:
        self.asked.append({'words': set(words), 'seconds': seconds, **options})
        if self.busy:
            raise exception.Busy(what=options['what'], reason='iscsiadm (process 17) was begun')


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    made = Waits()
    monkeypatch.setattr(former_processes, 'wait_until_ended', made.wait)
    monkeypatch.setattr('volumedrivers.attachment.detach._FORMER_REQUEST', 0.0)
    return made


@pytest.fixture
def manager(tmp_path: pathlib.Path) -> AttachmentManager:
    fakes = fake.Calls()
    return fake.make_manager(
        fake.make_conf(), tmp_path, fake.FakeDriver(fakes), fake.FakeGuest(fakes)
    )


def row(manager: AttachmentManager) -> Record:
    record = manager.context.journal.get(KEY)
    assert record is not None
    return record


def interrupt(manager: AttachmentManager, operation: Operation, **changes: typing.Any) -> None:
    manager.attach(INFO, 'web1')
    manager.context.journal.put(
        dataclasses.replace(row(manager), operation=operation, step='connect', **changes)
    )


def test_row_stays_while_a_program_is_at_work(manager: AttachmentManager, waits: Waits) -> None:
    interrupt(manager, Operation.ATTACH)
    outcome = manager.recover()[0]
    assert outcome.action == 'failed'
    assert 'iscsiadm (process 17)' in outcome.detail
    for call in (
        lambda: manager.attach(INFO, 'web1'),
        lambda: manager.detach('web1', fake.VOLUME_ID),
    ):
        with pytest.raises(exception.Busy, match='iscsiadm'):
            call()
    assert row(manager).operation is Operation.ATTACH
    assert [each['unmounting'] for each in waits.asked] == [True] * 3

    waits.busy = False
    assert manager.recover()[0].action == 'finished'


def test_detach_that_was_interrupted_is_gone_on_with(
    manager: AttachmentManager, waits: Waits
) -> None:
    interrupt(manager, Operation.DETACH, wanted={'force': True})
    waits.busy = False
    manager.detach('web1', fake.VOLUME_ID, force=True)
    assert [each['unmounting'] for each in waits.asked] == [False]
    assert waits.asked[0]['seconds'] == manager.context.options.prove_timeout
    assert manager.context.journal.get(KEY) is None


def test_processes_are_not_looked_at_for_a_settled_row(
    manager: AttachmentManager, waits: Waits
) -> None:
    manager.attach(INFO, 'web1')
    manager.detach('web1', fake.VOLUME_ID)
    interrupt(manager, Operation.DETACH, boot_id='of another boot')
    manager.recover()
    assert waits.asked == []


def test_words_of_a_target(manager: AttachmentManager) -> None:
    manager.attach(INFO, 'web1')
    record = dataclasses.replace(
        row(manager), opened=Opened('luks', 'host', path='/dev/mapper/crypt-here')
    )
    words = set(former_work.words(record, INFO))
    assert {
        fake.VOLUME_ID,
        f'crypt-{fake.VOLUME_ID}',
        'iqn.2010-10.org.openstack:volume-1',
        '192.0.2.1:3260',
        '/dev/mapper/crypt-here',
    } <= words
    assert not words & INFO.secrets()
    # What programs that are at work on other volumes name as well.
    assert 'chapuser' not in words


def test_words_of_an_image(manager: AttachmentManager) -> None:
    manager.attach(INFO, 'web1')
    record = dataclasses.replace(row(manager), volume=None)
    assert set(former_work.words(record, network_fakes.rbd())) == {
        fake.VOLUME_ID,
        f'crypt-{fake.VOLUME_ID}',
        'volume-1',
        'volumes/volume-1',
    }
