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

"""The stand-ins of sds_cli, of the discovery client, and modules under another name."""

import pathlib

from os_brick.initiator.connectors import huawei
import pytest

from tests.lab.standins import discovery_client
from tests.lab.standins import huawei_books
from tests.lab.standins import kernel_module
from tests.lab.standins import sds_cli
from tests.unit.lab.standin_books import VOLUME
from tests.unit.lab.standin_books import Devices
from tests.unit.lab.standin_books import make_books


@pytest.fixture
def books(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> object:
    return make_books(monkeypatch, huawei_books, tmp_path, name=VOLUME, attached=False)


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> Devices:
    return Devices(monkeypatch)


@pytest.fixture
def connector(books, devices, capsys, monkeypatch, tmp_path):
    """os-brick's connector, with the stand-in where it looks for the program."""
    program = tmp_path / 'sds_cli'
    program.touch()
    monkeypatch.setenv('HUAWEISDSHYPERVISORCLI_PATH', str(program))

    def execute(path, *arguments, **_):
        assert path == str(program)
        assert sds_cli.main(list(arguments)) == 0
        captured = capsys.readouterr()
        return captured.out, captured.err

    return huawei.HuaweiStorHyperConnector(None, execute=execute)


def attach(connector):
    return huawei.HuaweiStorHyperConnector.connect_volume.__wrapped__.__wrapped__(
        connector, {'volume_id': VOLUME}
    )


def detach(connector):
    huawei.HuaweiStorHyperConnector.disconnect_volume.__wrapped__.__wrapped__(
        connector, {'volume_id': VOLUME}, None
    )


def test_connector_attaches_and_detaches_also_twice(connector, books):
    for _ in range(2):
        assert attach(connector) == {'type': 'block', 'path': f'/dev/huaweisds/{VOLUME}'}
        assert books.load(VOLUME)['attached']
    for _ in range(2):
        detach(connector)
        assert not books.load(VOLUME)['attached']


def test_connector_hears_that_a_volume_is_open(connector, books, devices):
    attach(connector)
    devices.users = ['qemu (1) has it open']
    with pytest.raises(Exception, match=str(sds_cli.OPEN)):
        detach(connector)
    assert books.load(VOLUME)['attached']


@pytest.mark.parametrize('command', ['attach', 'detach', 'querydev'])
def test_unknown_volume_is_a_failure(books, devices, capsys, command):
    assert sds_cli.main(['-c', command, '-v', 'other']) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith('ret_code=5015')


@pytest.mark.parametrize(
    'arguments',
    [
        [],
        ['attach', VOLUME],
        ['-c', 'attach'],
        ['-v', VOLUME, '-c', 'attach'],
        ['-c', 'extend', '-v', VOLUME],
        ['-c', 'attach', '-v', VOLUME, '-f'],
    ],
)
def test_wrong_arguments_are_refused(books, devices, arguments, capsys):
    assert sds_cli.main(arguments) == 2
    assert devices.there == {}


NODE = '-t tcp -a 10.10.1.1 -s 8009 -q nqn.host -n nqn.cluster'
ENDPOINT = discovery_client.Endpoint('tcp', '10.10.1.1', '8009', 'nqn.host', 'nqn.cluster')


def test_file_of_os_brick_is_understood():
    text = f'# os_brick connector dsc file for LightOS volume: x\n{NODE}\n'
    assert discovery_client.parse(text) == [ENDPOINT]


def test_long_flags_are_understood():
    text = '--transport=tcp --traddr=10.10.1.1 --trsvcid=8009 --hostnqn=nqn.host'
    assert discovery_client.parse(f'{text} --subsysnqn=nqn.cluster') == [ENDPOINT]


def test_line_without_a_field_is_left_out():
    assert discovery_client.parse(f'-t tcp -a 10.10.1.1 -s 8009 -n nqn.cluster\n{NODE}') == [
        ENDPOINT
    ]


@pytest.mark.parametrize(
    ('old', 'new', 'said'),
    [
        ('-t tcp', '-t rdma', 'not a valid transport'),
        ('-s 8009', '-s http', 'not a valid int'),
        ('-s 8009', '-z 8009', 'not a valid flag'),
        ('10.10.1.1', 'nowhere', 'does not appear to be'),
        ('-n nqn.cluster', '-n', 'has no value'),
    ],
)
def test_file_with_something_wrong_is_refused_as_a_whole(old, new, said):
    with pytest.raises(discovery_client.BadFile, match=said):
        discovery_client.parse(f'{NODE}\n{NODE.replace(old, new)}')


def test_files_are_united_and_a_bad_one_harms_no_other(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(discovery_client, 'FILES', tmp_path)
    for name, text in {'a': NODE, 'b': NODE, 'c': '-x', 'tmp.dc.d': '-y'}.items():
        (tmp_path / f'{name}.conf').write_text(text)
    (tmp_path / 'other').write_text('-z')
    assert discovery_client.wanted() == [ENDPOINT]
    assert capsys.readouterr().err == 'c.conf: -x is not a valid flag\n'


def test_client_disconnects_only_what_some_file_has_named(monkeypatch, tmp_path):
    for name, nqn in {'nvme0': 'nqn.cluster', 'nvme1': 'nqn.other'}.items():
        directory = tmp_path / name
        directory.mkdir()
        for attribute, text in {
            'subsysnqn': nqn,
            'address': 'traddr=10.10.1.1,trsvcid=8009,src_addr=10.10.1.2',
            'transport': 'tcp',
            'delete_controller': '',
        }.items():
            (directory / attribute).write_text(f'{text}\n' if text else '')
    monkeypatch.setattr(discovery_client, '_CONTROLLERS', tmp_path)
    client = discovery_client.Client()

    client.follow([ENDPOINT])
    assert (tmp_path / 'nvme0/delete_controller').read_text() == ''
    client.follow([])
    for worker in client._at_work.values():
        worker.join(5)
    assert (tmp_path / 'nvme0/delete_controller').read_text() == '1'
    assert (tmp_path / 'nvme1/delete_controller').read_text() == ''


def test_module_loses_its_signature_and_gets_its_name():
    signature = b'S' * 100
    info = bytes(8) + len(signature).to_bytes(4, 'big')
    module = b'\x7fELF cuse \0 rest' + signature + info + b'~Module signature appended~\n'
    exchange = ((b'cuse \0', b'scini\0'),)
    assert kernel_module.renamed(module, exchange) == b'\x7fELF scini\0 rest'


@pytest.mark.parametrize('exchange', [(b'ext4', b'gpfs0'), (b'xfs', b'zfs')])
def test_module_is_not_renamed_by_halves(exchange):
    with pytest.raises(ValueError, match=r'not of one length|has no'):
        kernel_module.renamed(b'\x7fELF ext4', (exchange,))
