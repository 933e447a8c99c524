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

"""The journal's table of what this host has in Cinder."""

import os
import pathlib
import sqlite3
import time

import pytest

from volumedrivers import exception
from volumedrivers.attachment.block_storage.reservation import Flow
from volumedrivers.attachment.block_storage.reservation import Operation
from volumedrivers.attachment.block_storage.reservation import Reservation
from volumedrivers.attachment.block_storage.reservations import Reservations
from volumedrivers.attachment.journal import Journal


def make_row(guest: str = 'web1', volume: str = 'v1', **values: object) -> Reservation:
    return Reservation(
        key=f'{guest}-uuid/{volume}',
        endpoint='http://cinder.test',
        host='this-host',
        domain_uuid=f'{guest}-uuid',
        domain_name=guest,
        volume_id=volume,
        volume_name='data',
        **values,  # type: ignore[arg-type]
    )


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / 'attachments.sqlite'


@pytest.fixture
def rows(path: pathlib.Path) -> Reservations:
    return Reservations(Journal(str(path)).database)


def test_written_and_read(rows: Reservations) -> None:
    row = make_row(
        flow=Flow.LEGACY,
        attachment_id='a1',
        instance='web1-uuid',
        mode='ro',
        connector={'host': 'this-host', 'wwpns': ['500a', '500b'], 'multipath': True},
        operation=Operation.ATTACH,
        step='export',
        wanted={'others': ['a0']},
        problem='it stopped',
        began=1.5,
    )
    stamped = rows.put(row)
    assert stamped.process == os.getpid()
    assert abs(stamped.changed - time.time()) < 60
    found = rows.get(row.key)
    assert found == stamped
    assert found is not None
    assert not found.is_settled
    assert isinstance(found.operation, Operation)
    assert isinstance(found.flow, Flow)


def test_written_again(rows: Reservations) -> None:
    rows.put(make_row(operation=Operation.ATTACH))
    rows.put(make_row(attachment_id='a1'))
    (found,) = rows.find()
    assert found.is_settled
    assert found.attachment_id == 'a1'


def test_found_by_guest_and_volume(rows: Reservations) -> None:
    for guest, volume in (('web2', 'v1'), ('web1', 'v2'), ('web1', 'v1')):
        rows.put(make_row(guest, volume))
    assert [one.key for one in rows.find()] == ['web1-uuid/v1', 'web1-uuid/v2', 'web2-uuid/v1']
    assert [one.domain_name for one in rows.find(volume_id='v1')] == ['web1', 'web2']
    assert [one.volume_id for one in rows.find(domain_uuid='web1-uuid')] == ['v1', 'v2']
    assert rows.find(volume_id='v2', domain_uuid='web2-uuid') == ()


def test_removed(rows: Reservations) -> None:
    row = rows.put(make_row())
    assert rows.remove(row.key)
    assert not rows.remove(row.key)
    assert rows.get(row.key) is None


def test_beside_the_other_table(path: pathlib.Path, rows: Reservations) -> None:
    rows.put(make_row())
    assert Journal(str(path)).find() == ()


def test_no_secret_is_written(path: pathlib.Path, rows: Reservations) -> None:
    rows.put(
        make_row(
            connector={'host': 'this-host', 'auth_password': 'a-secret-1'},
            wanted={'connection_info': {'data': {'auth_password': 'a-secret-2'}}},
            problem='GET http://user:a-secret-3@cinder.test/v3 failed',
        )
    )
    rows._database.close()
    for name in path.parent.iterdir():
        assert b'a-secret' not in name.read_bytes()
    (found,) = rows.find()
    assert found.connector == {'host': 'this-host', 'auth_password': '***'}


@pytest.mark.parametrize(
    'damage', ["connector = '{'", "operation = 'something newer'", "flow = 'another'"]
)
def test_damaged_row(path: pathlib.Path, rows: Reservations, damage: str) -> None:
    row = rows.put(make_row())
    rows._database.close()
    with sqlite3.connect(path) as connection:
        connection.execute(f'UPDATE reservations SET {damage}')
    with pytest.raises(exception.JournalUnusable, match=row.key):
        rows.find()
    with pytest.raises(exception.JournalUnusable, match=row.key):
        rows.get(row.key)
