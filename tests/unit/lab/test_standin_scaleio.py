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

"""The stand-in of PowerFlex's gateway and client, as os-brick's connector speaks to them."""

from collections.abc import Iterator
import pathlib
import struct
import threading
import uuid

from os_brick.initiator.connectors import scaleio
import pytest
import requests

from tests.lab.standins import fuse_wire
from tests.lab.standins import powerflex
from tests.lab.standins import scaleio as standin
from tests.lab.standins import scaleio_gateway
from tests.lab.standins import scini
from tests.lab.standins.character_device import CharacterDevice
from tests.unit.lab.standin_books import VOLUME
from tests.unit.lab.standin_books import Devices
from tests.unit.lab.standin_books import make_books

ID = '0d9f3c526a414c1e'
NAME = 'lab 0d9f/3c52'


@pytest.fixture
def books(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> object:
    record = {'name': NAME, 'scaleio_id': ID, 'mapped': False, 'limits': {}}
    return make_books(monkeypatch, powerflex, tmp_path / 'volumes', **record)


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> Devices:
    return Devices(monkeypatch)


@pytest.fixture
def certificate(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> pathlib.Path:
    monkeypatch.setattr(powerflex, 'DIRECTORY', tmp_path)
    monkeypatch.setattr(powerflex, 'CERTIFICATE', tmp_path / 'gateway.pem')
    monkeypatch.setattr(powerflex, 'KEY', tmp_path / 'gateway.key')
    standin.make_certificate()
    return tmp_path / 'gateway.pem'


@pytest.fixture
def port(certificate: pathlib.Path) -> Iterator[int]:
    server = scaleio_gateway.make_server(
        '127.0.0.1', 0, str(certificate), str(certificate.with_suffix('.key'))
    )
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def connector(monkeypatch: pytest.MonkeyPatch, books: object, devices: Devices) -> object:
    monkeypatch.setattr(scaleio.priv_scaleio, 'get_guid', lambda code: powerflex.SDC_GUID)
    connector = scaleio.ScaleIOConnector(None, execute=lambda *args, **kwargs: ('', ''))
    # What udev makes of the device is not here.
    monkeypatch.setattr(connector, '_find_volume_path', lambda: f'/dev/disk/by-id/x-{ID}')
    return connector


@pytest.fixture
def properties(port: int, certificate: pathlib.Path) -> dict[str, object]:
    return {
        'scaleIO_volname': NAME,
        'scaleIO_volume_id': ID,
        'hostIP': '127.0.0.1',
        'serverIP': '127.0.0.1',
        'serverPort': port,
        'serverUsername': powerflex.USER,
        'serverPassword': powerflex.PASSWORD,
        'serverToken': 'expired',
        'iopsLimit': '5000',
        'bandwidthLimit': '102400',
        'verify_certificate': True,
        'certificate_path': str(certificate),
    }


def connect(connector, properties):
    return scaleio.ScaleIOConnector.connect_volume.__wrapped__.__wrapped__.__wrapped__(
        connector, properties
    )


def test_connector_maps_and_limits(connector, properties, books):
    connect(connector, properties)

    record = books.load(VOLUME)
    assert record['mapped']
    assert record['limits'] == {'bandwidthLimitInKbps': '102400', 'iopsLimit': '5000'}


def test_connector_finds_the_id_of_a_name(connector, properties, books):
    del properties['scaleIO_volume_id']
    connect(connector, properties)
    assert books.load(VOLUME)['mapped']


def test_wrong_password_maps_nothing(connector, properties, books):
    properties['serverPassword'] = 'wrong'
    with pytest.raises(Exception, match='Unauthorized'):
        connect(connector, properties)
    assert not books.load(VOLUME)['mapped']


def test_wrong_certificate_is_noticed(connector, properties, books):
    properties['certificate_path'] = True
    with pytest.raises(requests.exceptions.SSLError):
        connect(connector, {**properties, 'certificate_path': None})
    assert not books.load(VOLUME)['mapped']


class Client:
    """Logged in, and free to say wrong things."""

    def __init__(self, port: int, certificate: pathlib.Path) -> None:
        self.url = f'https://127.0.0.1:{port}/api'
        self.verify = str(certificate)
        login = self.get('/login', powerflex.PASSWORD)
        self.token = login.json()

    def get(self, path, secret=None):
        auth = (powerflex.USER, secret or self.token)
        return requests.get(self.url + path, auth=auth, verify=self.verify, timeout=30)

    def act(self, action, volume=ID, **request):
        return requests.post(
            f'{self.url}/instances/Volume::{volume}/action/{action}',
            auth=(powerflex.USER, self.token),
            verify=self.verify,
            timeout=30,
            **request,
        )


@pytest.fixture
def client(port: int, certificate: pathlib.Path, books: object, devices: Devices) -> Client:
    return Client(port, certificate)


@pytest.mark.parametrize(
    ('action', 'body', 'status', 'code'),
    [
        ('addMappedSdc', {'guid': 'another'}, 500, scaleio_gateway.NO_SUCH_CLIENT),
        ('addMappedSdc', {}, 500, scaleio_gateway.NO_SUCH_CLIENT),
        ('addMappedSdc', {'guid': powerflex.SDC_GUID, 'allowMultiMapp': 'TRUE'}, 400, 0),
        ('addMappedSdc', {'guid': powerflex.SDC_GUID, 'allowMultipleMappings': True}, 400, 0),
        ('removeMappedSdc', {'guid': powerflex.SDC_GUID}, 500, scaleio_gateway.NOT_MAPPED),
        ('setMappedSdcLimits', {'guid': powerflex.SDC_GUID, 'iopsLimit': '10'}, 400, 0),
        (
            'setMappedSdcLimits',
            {'guid': powerflex.SDC_GUID, 'bandwidthLimitInKbps': '1000'},
            400,
            0,
        ),
        ('setMappedSdcLimits', {'guid': powerflex.SDC_GUID, 'iopsLimit': 'x'}, 400, 0),
        ('mapToSdc', {'guid': powerflex.SDC_GUID}, 404, 0),
    ],
)
def test_wrong_action_is_refused(client, books, action, body, status, code):
    answer = client.act(action, json=body)
    assert answer.status_code == status
    assert answer.json()['errorCode'] == code
    assert not books.load(VOLUME)['mapped']


def test_map_twice_and_unmap_twice_are_errors_of_their_own(client, books):
    guid = {'guid': powerflex.SDC_GUID}
    assert client.act('addMappedSdc', json=guid).json() == {}
    assert client.act('addMappedSdc', json=guid).json()['errorCode'] == 81
    assert client.act('removeMappedSdc', json=guid).json() == {}
    assert client.act('removeMappedSdc', json=guid).json()['errorCode'] == 84


def test_body_has_to_be_json_and_to_be_called_so(client):
    assert client.act('addMappedSdc', data='{}').status_code == 415
    headers = {'Content-Type': 'application/json'}
    assert client.act('addMappedSdc', data='{', headers=headers).status_code == 400


def test_unknown_volume_and_path(client):
    guid = {'guid': powerflex.SDC_GUID}
    answer = client.act('addMappedSdc', volume='f' * 16, json=guid)
    assert answer.json()['errorCode'] == scaleio_gateway.NOT_FOUND
    assert client.get('/types/Volume/instances').status_code == 404


def test_password_is_no_token(client):
    assert client.get(f'/types/Volume/instances/getByName::{ID}', 'guess').status_code == 401
    assert client.get('/login', 'guess').status_code == 401


# /dev/scini


def request(code: int, body: bytes) -> fuse_wire.Request:
    header = fuse_wire.HEADER.pack(fuse_wire.HEADER.size + len(body), code, 5, 0, 0, 0, 1, 0)
    return fuse_wire.Request.parse(header + body)


def ioctl(number: int, seen: bytes = b'') -> tuple[int, bytes]:
    body = struct.pack('=QIIQII', 1, 0, number, 0xABC000, len(seen), len(seen)) + seen
    answer = CharacterDevice('scini', scini.IOCTLS).answer(request(fuse_wire.IOCTL, body))
    _, error, unique = fuse_wire.ANSWER.unpack_from(answer)
    assert unique == 5
    return error, answer[fuse_wire.ANSWER.size :]


def test_ioctl_of_the_guid_asks_for_the_bytes_and_answers_as_os_brick_reads():
    assert scini.QUERY_GUID == scaleio.ScaleIOConnector.GET_GUID_OP_CODE
    error, body = ioctl(scini.QUERY_GUID)
    # Once more, with 24 bytes of the caller to read and to write.
    assert (error, body[:16]) == (0, struct.pack('=iIII', 0, 1 << 2, 1, 1))
    assert body[16:] == struct.pack('=QQ', 0xABC000, 24) * 2

    error, body = ioctl(scini.QUERY_GUID, bytes(24))
    found = body[16:]
    assert (error, len(found), found[0]) == (0, 24, powerflex.RC_SUCCESS)
    assert str(uuid.UUID(found[8:].hex())) == powerflex.SDC_GUID


def test_ioctl_of_rescan_lets_the_client_see_new_sizes(books, devices):
    assert scini.RESCAN == scaleio.ScaleIOConnector.RESCAN_VOLS_OP_CODE
    books.save(VOLUME, {**books.load(VOLUME), 'mapped': True})
    error, _ = ioctl(scini.RESCAN, bytes(8))
    assert (error, devices.sizes_noticed) == (0, 1)


def test_other_ioctls_are_refused():
    assert ioctl(scini.RESCAN + 1) == (-25, b'')
