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

"""Headers that cryptsetup and QEMU wrote, and such as nobody wrote."""

import contextlib
import pathlib
import subprocess

from hypothesis import given
from hypothesis import strategies as st
import pytest

from volumedrivers.privsep import luks_header
from volumedrivers.testing.libvirtd import find_program

MIB = 2**20
QUICK = ('--pbkdf-force-iterations', '1000')


def parse(data: bytes) -> luks_header.Header | None:
    return luks_header.parse(lambda offset, length: data[offset : offset + length])


def cryptsetup(*arguments: str) -> str:
    return subprocess.run(
        [find_program('cryptsetup', 'cryptsetup-bin'), '--batch-mode', *arguments],
        input=b'passphrase',
        check=True,
        capture_output=True,
        timeout=60,
    ).stdout.decode()


@pytest.fixture
def image(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / 'image'
    with path.open('wb') as file:
        file.truncate(20 * MIB)
    return path


def test_luks1(image: pathlib.Path) -> None:
    cryptsetup('luksFormat', '--type', 'luks1', *QUICK, '--key-file=-', str(image))
    uuid = cryptsetup('luksUUID', str(image)).strip()
    assert parse(image.read_bytes()) == luks_header.Header('luks1', 2 * MIB, 1, uuid)


def test_luks2(image: pathlib.Path) -> None:
    quick = ('--pbkdf', 'pbkdf2', *QUICK)
    cryptsetup('luksFormat', '--type', 'luks2', *quick, '--key-file=-', str(image))
    uuid = cryptsetup('luksUUID', str(image)).strip()
    data = image.read_bytes()
    assert parse(data) == luks_header.Header('luks2', 16 * MIB, 1, uuid)

    with pytest.raises(luks_header.DamagedHeader, match='the copy at 16384 is there'):
        parse(bytes(4096) + data[4096:])
    with pytest.raises(luks_header.DamagedHeader, match='cannot be read'):
        parse(data[:4096] + bytes(len(data) - 4096))


def test_erased_key_slots(image: pathlib.Path) -> None:
    cryptsetup('luksFormat', '--type', 'luks1', *QUICK, '--key-file=-', str(image))
    cryptsetup('luksErase', str(image))
    found = parse(image.read_bytes())
    assert found is not None
    assert found.key_slots == 0


@pytest.mark.parametrize('data', [b'', bytes(MIB), b'\1' * MIB, b'LUKS' + bytes(8192)])
def test_no_header(data: bytes) -> None:
    assert parse(data) is None


@pytest.mark.parametrize(
    'data',
    [
        b'LUKS\xba\xbe\0\3' + bytes(8192),
        b'LUKS\xba\xbe\0\1' + bytes(100),
        b'LUKS\xba\xbe\0\2' + bytes(8192),
        b'LUKS\xba\xbe\0\2' + (0x4000).to_bytes(8, 'big') + bytes(4080) + b'{}',
        b'LUKS\xba\xbe\0\2' + (0x4000).to_bytes(8, 'big') + bytes(4080) + b'[' * 10000,
    ],
)
def test_damaged(data: bytes) -> None:
    with pytest.raises(luks_header.DamagedHeader):
        parse(data)


@given(st.binary(max_size=300), st.sampled_from([b'\0\1', b'\0\2', b'']))
def test_anything_is_read_or_refused(data: bytes, version: bytes) -> None:
    with contextlib.suppress(luks_header.DamagedHeader):
        assert parse(luks_header.MAGIC + version + data + bytes(4096)) is not None


def parse_qcow2(path: pathlib.Path) -> luks_header.Header | None:
    data = path.read_bytes()
    return luks_header.parse_qcow2(lambda offset, length: data[offset : offset + length])


def test_qcow2(tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'image.qcow2'
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', str(path), '1M'], check=True)
    assert parse_qcow2(path) is None
    data = bytearray(path.read_bytes())
    for method, kind in ((1, 'qcow2-aes'), (2, 'qcow2-luks')):
        data[32:36] = method.to_bytes(4, 'big')
        path.write_bytes(data)
        assert parse_qcow2(path) == luks_header.Header(kind, 0, -1)
    data[32:36] = (3).to_bytes(4, 'big')
    path.write_bytes(data)
    with pytest.raises(luks_header.DamagedHeader):
        parse_qcow2(path)
    path.write_bytes(bytes(512))
    with pytest.raises(luks_header.DamagedHeader, match='no qcow2'):
        parse_qcow2(path)
