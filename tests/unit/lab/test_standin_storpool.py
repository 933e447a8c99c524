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

"""The stand-in of StorPool's API: what os-brick calls works, anything else is refused."""

from collections.abc import Iterator
import pathlib
import threading

from os_brick.initiator import storpool_utils
import pytest

from tests.lab.standins import http_service
from tests.lab.standins import storpool_api
from tests.lab.standins import storpool_books
from tests.unit.lab.standin_books import VOLUME
from tests.unit.lab.standin_books import Devices
from tests.unit.lab.standin_books import make_books

NAME = storpool_books.name_of(VOLUME)
GLOBAL_ID = 'lab.b.0d9f3c526a'


@pytest.fixture
def books(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> object:
    return make_books(
        monkeypatch, storpool_books, tmp_path, name=NAME, global_id=GLOBAL_ID, rights=None
    )


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> Devices:
    return Devices(monkeypatch)


@pytest.fixture
def port() -> Iterator[int]:
    with http_service.Server(('127.0.0.1', 0), storpool_api.Api) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def api(port: int) -> storpool_utils.StorPoolAPI:
    return storpool_utils.StorPoolAPI('127.0.0.1', port, storpool_books.TOKEN)


def reassign(api, **entry):
    api.volumes_reassign_wait({'reassign': [{'volume': NAME, **entry}]})


def rights(books):
    return books.load(VOLUME)['rights']


@pytest.mark.parametrize(('mode', 'read_only'), [('rw', False), ('ro', True)])
def test_volume_is_attached_and_detached(api, books, devices, tmp_path, mode, read_only):
    reassign(api, **{mode: [storpool_books.CLIENT]})
    assert rights(books) == mode
    assert devices.there == {tmp_path / f'{VOLUME}.img': read_only}
    assert api.volume_get_info(NAME)['globalId'] == GLOBAL_ID
    assert api.volume(NAME)[0]['size'] == 1 << 20

    api.volumes_reassign_wait(
        {'reassign': [{'volume': f'~{GLOBAL_ID}', 'detach': ['7'], 'force': False}]}
    )
    assert rights(books) is None
    assert devices.there == {}


def test_volume_that_is_open_is_busy_unless_forced(api, books, devices):
    reassign(api, rw=[storpool_books.CLIENT])
    devices.users = ['qemu (1) has it open']

    with pytest.raises(storpool_utils.StorPoolAPIError) as caught:
        reassign(api, detach=[storpool_books.CLIENT])
    # What os-brick looks for before it tries again.
    assert caught.value.name == 'busy'
    assert 'is open at' in caught.value.desc
    assert rights(books) == 'rw'

    reassign(api, detach=[storpool_books.CLIENT], force=True)
    assert rights(books) is None


@pytest.mark.parametrize(
    ('entry', 'said'),
    [
        ({'rw': [8]}, 'not in the cluster'),
        ({'rw': ['seven']}, 'not a client id'),
        ({'rw': 7}, 'not a list of clients'),
        ({'rw': []}, 'not a list of clients'),
        ({}, 'one of detach, ro, rw'),
        ({'rw': [7], 'detach': [7]}, 'one of detach, ro, rw'),
        ({'rw': [7], 'mode': 'x'}, 'Unknown fields'),
        ({'detach': [7], 'force': 'yes'}, 'not a boolean'),
        ({'rw': [7], 'volume': 'no such volume'}, 'not the name of a volume'),
        ({'rw': [7], 'volume': 'lab--volume-2'}, 'does not exist'),
    ],
)
def test_wrong_reassignment_is_refused_and_nothing_done(api, books, devices, entry, said):
    with pytest.raises(storpool_utils.StorPoolAPIError, match=said):
        reassign(api, **entry)
    assert rights(books) is None
    assert devices.there == {}


def test_stranger_is_refused(port, books):
    api = storpool_utils.StorPoolAPI('127.0.0.1', port, 'another token')
    with pytest.raises(storpool_utils.StorPoolAPIError, match='invalidAuth'):
        api.volume(NAME)


def test_call_that_there_is_not_is_refused(api, books):
    with pytest.raises(storpool_utils.StorPoolAPIError, match='No such API call'):
        api.disks_list()
