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

"""Reading the header of a volume that only QEMU opens."""

from collections.abc import Callable
import gc
import json
import os
import pathlib
import subprocess
import typing

import pytest

from volumedrivers import exception
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.libvirt import network_header
from volumedrivers.libvirt.connected_volume import NetworkHost
from volumedrivers.libvirt.connected_volume import NetworkSource
from volumedrivers.privsep.luks_header import Header

KEY = b'\0a binary key\n'
RBD = NetworkSource(
    'rbd',
    'pool/space/image',
    (NetworkHost('10.0.0.1', 6790), NetworkHost('fd00::1')),
    auth_username='cinder',
    secret_type='ceph',
    secret_uuid='the-uuid',
)
ISCSI = NetworkSource(
    'iscsi',
    'iqn.2020-01.x:y/3',
    (NetworkHost('fd00::1', 3261),),
    auth_username='user',
    secret_type='iscsi',
    secret_uuid='private',
    initiator_iqn='iqn.2020-01.x:host',
)
LUKS1 = b'LUKS\xba\xbe\0\1' + bytes(96) + (4096).to_bytes(4, 'big') + bytes(4096)


def test_rbd() -> None:
    assert network_header.describe(RBD, with_key=True) == {
        'driver': 'rbd',
        'pool': 'pool',
        'namespace': 'space',
        'image': 'image',
        'server': [{'host': '10.0.0.1', 'port': '6790'}, {'host': 'fd00::1', 'port': '6789'}],
        'user': 'cinder',
        'key-secret': 'key',
        'auth-client-required': ['cephx', 'none'],
    }
    plain = network_header.describe(NetworkSource('rbd', 'pool/image'), with_key=False)
    assert plain == {'driver': 'rbd', 'pool': 'pool', 'image': 'image'}


def test_iscsi() -> None:
    assert network_header.describe(ISCSI, with_key=True) == {
        'driver': 'iscsi',
        'transport': 'tcp',
        'portal': '[fd00::1]:3261',
        'target': 'iqn.2020-01.x:y',
        'lun': 3,
        'initiator-name': 'iqn.2020-01.x:host',
        'user': 'user',
        'password-secret': 'key',
    }


def test_gluster_and_nbd() -> None:
    host = (NetworkHost('h', 1),)
    server = {'type': 'inet', 'host': 'h', 'port': '1'}
    gluster = NetworkSource('gluster', 'volume/a/file', host)
    assert network_header.describe(gluster, with_key=False) == {
        'driver': 'gluster',
        'volume': 'volume',
        'path': 'a/file',
        'server': [server],
    }
    nbd = NetworkSource('nbd', 'export', host)
    assert network_header.describe(nbd, with_key=False) == {
        'driver': 'nbd',
        'server': server,
        'export': 'export',
    }
    with pytest.raises(ValueError, match='sheepdog'):
        network_header.describe(NetworkSource('sheepdog', 'x', host), with_key=False)


class Hypervisor:
    class secrets:
        @staticmethod
        def value(uuid: str) -> bytes | None:
            return KEY if uuid == 'the-uuid' else None


Run = Callable[..., 'subprocess.CompletedProcess[bytes]']


class QemuImg:
    """Stands for qemu-img dd; writes where it is told to."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.commands: list[list[str]] = []
        self.keys: list[bytes] = []
        self.raises: Exception | None = None
        self.stderr = b''

    def run(
        self, command: list[str], **options: typing.Any
    ) -> 'subprocess.CompletedProcess[bytes]':
        if self.raises is not None:
            raise self.raises
        self.commands.append(command)
        words = dict(word.partition('=')[::2] for word in command)
        for word in command:
            if word.startswith('secret,'):
                path = word.rpartition('file=')[2]
                assert int(path.rpartition('/')[2]) in options['pass_fds']
                self.keys.append(pathlib.Path(path).read_bytes())
        assert int(words['of'].rpartition('/')[2]) in options['pass_fds']
        with open(words['of'], 'wb') as file:
            file.write(self.data[: int(words['bs'])])
        return subprocess.CompletedProcess(command, 1 if self.stderr else 0, b'', self.stderr)


def info(**data: object) -> ConnectionInfo:
    return ConnectionInfo.parse(
        {'driver_volume_type': 'x', 'serial': 'v', 'data': {'volume_id': 'v', **data}}
    )


def iscsi_info(password: str) -> ConnectionInfo:
    return ConnectionInfo.parse(
        {
            'driver_volume_type': 'iscsi',
            'serial': 'v',
            'data': {
                'target_portal': '10.0.0.1:3260',
                'target_iqn': 'iqn.2020-01.x:y',
                'target_lun': 3,
                'auth_method': 'CHAP',
                'auth_username': 'user',
                'auth_password': password,
            },
        }
    )


def read(
    source: NetworkSource, monkeypatch: pytest.MonkeyPatch, qemu: QemuImg, of: ConnectionInfo
) -> Header | None:
    monkeypatch.setattr(subprocess, 'run', qemu.run)
    return network_header.read(Hypervisor(), of, source, seconds=5)  # type: ignore[arg-type]


def test_key_goes_through_a_file_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    qemu = QemuImg(LUKS1)
    found = read(RBD, monkeypatch, qemu, info())
    assert found == Header('luks1', 2 << 20, 0)
    assert qemu.keys == [KEY]
    (command,) = qemu.commands
    assert command[:3] == ['qemu-img', 'dd', '--force-share']
    assert KEY.decode() not in ' '.join(command)
    described = next(word for word in command if word.startswith('if=json:'))
    assert json.loads(described.removeprefix('if=json:')) == {
        'driver': 'raw',
        'read-only': True,
        'file': network_header.describe(RBD, with_key=True),
    }


def test_chap_password_of_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    qemu = QemuImg(LUKS1)
    read(ISCSI, monkeypatch, qemu, iscsi_info('a-password-14'))
    assert qemu.keys == [b'a-password-14']
    assert 'a-password-14' not in str(qemu.commands)


def test_chap_password_that_a_journal_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    qemu = QemuImg(LUKS1)
    read(ISCSI, monkeypatch, qemu, iscsi_info('***'))
    assert qemu.keys == []
    assert 'password-secret' not in str(qemu.commands)


def test_header_that_is_longer_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 0x100000
    text = json.dumps(
        {'segments': {'0': {'type': 'crypt', 'offset': '16777216'}}, 'keyslots': {'0': {}}}
    )
    data = b'LUKS\xba\xbe\0\2' + size.to_bytes(8, 'big') + bytes(4080)
    data += (' ' * 100_000 + text).encode().ljust(size - 4096, b'\0')
    qemu = QemuImg(data)
    assert read(RBD, monkeypatch, qemu, info()) == Header('luks2', 16 << 20, 1)
    assert len(qemu.commands) == 2


def test_damaged_header(monkeypatch: pytest.MonkeyPatch) -> None:
    qemu = QemuImg(b'LUKS\xba\xbe\0\7' + bytes(4096))
    with pytest.raises(exception.EncryptionFailed, match='version 7'):
        read(RBD, monkeypatch, qemu, info())


def test_no_header(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(RBD, monkeypatch, QemuImg(bytes(65536)), info()) is None


def test_what_qemu_cannot_read_is_not_blank(monkeypatch: pytest.MonkeyPatch) -> None:
    qemu = QemuImg(b'')
    qemu.stderr = b'qemu-img: error connecting:\n Permission denied\n'
    with pytest.raises(network_header.Unreadable, match='error connecting: Permission denied'):
        read(RBD, monkeypatch, qemu, info())
    qemu.raises = subprocess.TimeoutExpired(['qemu-img'], 5)
    with pytest.raises(network_header.Unreadable, match='within 5 s'):
        read(RBD, monkeypatch, qemu, info())
    qemu.raises = FileNotFoundError(2, 'No such file')
    with pytest.raises(exception.ToolMissing, match='qemu-utils'):
        read(RBD, monkeypatch, qemu, info())


def test_no_descriptor_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    # What other tests have left is not to go meanwhile.
    gc.collect()
    before = os.listdir('/proc/self/fd')
    read(RBD, monkeypatch, QemuImg(LUKS1), info())
    assert os.listdir('/proc/self/fd') == before
