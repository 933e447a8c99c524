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

"""Formatting, links and sizes as root: what is run, and what is refused."""

import fcntl
import os
import pathlib
import stat
import subprocess

import pytest

from volumedrivers import exception
from volumedrivers.host import luks
from volumedrivers.privsep import commands
from volumedrivers.privsep import context
from volumedrivers.privsep import crypt

MIB = 2**20
PASSPHRASE = b'a very secret passphrase'


@pytest.fixture(autouse=True)
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context.sys_admin, 'client_mode', False)


@pytest.fixture
def image(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / 'image'
    with path.open('wb') as file:
        file.truncate(32 * MIB)
    return path


class Runs:
    """Stands for commands.run; remembers what was run and what it could read."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.keys: list[bytes] = []
        self.result = commands.Result(0, '')

    def run(
        self, argv: list[str], *, what: str, timeout: float, keep: tuple[int, ...] = ()
    ) -> commands.Result:
        self.commands.append(list(argv))
        for argument in argv:
            name, _, path = argument.partition('=')
            if name == '--key-file':
                self.keys.append(pathlib.Path(path).read_bytes())
                assert int(path.rpartition('/')[2]) in keep
        return self.result


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    fake = Runs()
    monkeypatch.setattr(commands, 'run', fake.run)
    return fake


def without_numbers(command: list[str]) -> list[str]:
    return [word.rstrip('0123456789') if '/proc/self/fd/' in word else word for word in command]


def format_it(path: pathlib.Path, version: str = 'luks1', **options: object) -> None:
    given = {'cipher': None, 'key_size': None, 'seconds': 60.0, **options}
    luks.format_blank(str(path), version, PASSPHRASE, volume_id='v', **given)  # type: ignore[arg-type]


def test_command_says_what_cinder_says(image: pathlib.Path, runs: Runs) -> None:
    format_it(image, cipher='aes-xts-plain64', key_size=256)
    assert [without_numbers(command) for command in runs.commands] == [
        [
            *('cryptsetup', '--batch-mode', 'luksFormat', '--type', 'luks1'),
            *('--cipher', 'aes-xts-plain64', '--key-size', '256'),
            *('--key-file=/proc/self/fd/', '--', '/proc/self/fd/'),
        ]
    ]
    assert runs.keys == [PASSPHRASE]


def test_options_that_cinder_does_not_name_are_left_out(image: pathlib.Path, runs: Runs) -> None:
    format_it(image)
    assert not {'--cipher', '--key-size'} & set(runs.commands[0])


@pytest.mark.parametrize('offset', [0, 511, 16 * MIB - 1, 24 * MIB, 32 * MIB - 1], ids=str)
def test_what_is_not_blank_is_not_formatted(image: pathlib.Path, runs: Runs, offset: int) -> None:
    with image.open('r+b') as file:
        file.seek(offset)
        file.write(b'\1' * min(65536, 32 * MIB - offset))
    before = image.read_bytes()
    with pytest.raises(exception.FormatRefused) as caught:
        format_it(image)
    assert caught.value.volume_id == 'v'
    assert runs.commands == []
    assert image.read_bytes() == before


def test_device_that_cannot_be_read_is_not_formatted(
    image: pathlib.Path, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> bytes:
        raise OSError(5, 'Input/output error')

    monkeypatch.setattr(os, 'pread', fail)
    with pytest.raises(exception.EncryptionFailed, match='could not be read: Input/output'):
        format_it(image)
    assert runs.commands == []


def test_real_header(image: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = commands.run

    def quickly(argv: list[str], **options: object) -> commands.Result:
        return run([*argv[:3], '--pbkdf-force-iterations', '1000', *argv[3:]], **options)  # type: ignore[arg-type]

    monkeypatch.setattr(commands, 'run', quickly)
    format_it(image, cipher='aes-xts-plain64', key_size=256)
    found = luks.read(str(image), seconds=10)
    assert found is not None
    assert (found.kind, found.payload_offset, found.key_slots) == ('luks1', 2 * MIB, 1)
    subprocess.run(
        ['cryptsetup', 'luksOpen', '--test-passphrase', '--key-file=-', str(image)],
        input=PASSPHRASE,
        check=True,
        capture_output=True,
    )
    before = image.read_bytes()
    format_it(image)  # again, as after a crash
    assert image.read_bytes() == before
    with pytest.raises(exception.FormatRefused, match='it has a luks1 header'):
        format_it(image, 'luks2')
    assert image.read_bytes() == before


def test_formatting_that_was_interrupted_is_done_again(image: pathlib.Path, runs: Runs) -> None:
    header = bytearray(4096)
    header[:8] = b'LUKS\xba\xbe\0\1'
    header[104:108] = (4096).to_bytes(4, 'big')
    with image.open('r+b') as file:
        file.write(header)
        file.write(b'key material')
    format_it(image)
    assert len(runs.commands) == 1
    with image.open('r+b') as file:
        file.seek(2 * MIB)
        file.write(b'data')
    with pytest.raises(exception.FormatRefused, match='data behind it'):
        format_it(image)
    assert len(runs.commands) == 1


def test_cryptsetup_that_is_still_at_work_is_waited_for(
    image: pathlib.Path, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crypt, '_LOCK_SECONDS', 0.1)
    with image.open('rb') as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(exception.Busy):
            format_it(image)
    assert runs.commands == []
    format_it(image)
    assert len(runs.commands) == 1


def test_cryptsetup_that_fails(image: pathlib.Path, runs: Runs) -> None:
    runs.result = commands.Result(1, 'no such cipher')
    with pytest.raises(exception.EncryptionFailed, match='no such cipher') as caught:
        format_it(image)
    assert PASSPHRASE.decode() not in repr(caught.value)


@pytest.mark.parametrize(
    'arguments',
    [
        {'version': 'tcrypt'},
        {'version': '--help'},
        {'cipher': '--header=/x'},
        {'cipher': 'a b'},
        {'cipher': 5},
        {'key_size': -8},
        {'key_size': True},
        {'key_size': '256'},
        {'passphrase': b''},
        {'passphrase': 'text'},
        {'path': 'relative'},
        {'path': '/dev/null'},
        {'path': '/'},
        {'path': '/dev/no\0such'},
        {'path': None},
    ],
    ids=str,
)
def test_impossible_arguments(
    image: pathlib.Path, runs: Runs, arguments: dict[str, object]
) -> None:
    given: dict[str, object] = {
        'path': str(image),
        'version': 'luks1',
        'passphrase': PASSPHRASE,
        'cipher': None,
        'key_size': None,
        'seconds': 60.0,
        **arguments,
    }
    with pytest.raises((exception.PrivilegedCallRefused, exception.EncryptionFailed)):
        crypt.format_blank(**given)  # type: ignore[arg-type]
    assert runs.commands == []


def test_fifo_does_not_keep_anybody_waiting(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / 'fifo')
    with pytest.raises(exception.PrivilegedCallRefused):
        crypt.read_header(str(tmp_path / 'fifo'), 'raw')
    with pytest.raises(exception.PrivilegedCallRefused):
        crypt.contents(str(tmp_path / 'fifo'))


def test_missing_device_is_an_error_not_a_blank_one(tmp_path: pathlib.Path) -> None:
    for ask in (luks.read, luks.contents):
        with pytest.raises(exception.EncryptionFailed, match='No such file') as caught:
            ask(str(tmp_path / 'nowhere'), seconds=5, volume_id='v')
        assert caught.value.volume_id == 'v'


def test_device_of_root_is_read_by_the_helper(
    image: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def refuse(path: str, image_format: str) -> None:
        raise PermissionError(13, 'Permission denied')

    def as_root(path: str, image_format: str) -> tuple[str, int, int, str]:
        asked.append(path)
        return ('luks1', 2 * MIB, 1, 'uuid')

    monkeypatch.setattr(crypt, 'header_of', refuse)
    monkeypatch.setattr(crypt, 'read_header', as_root)
    assert luks.read(str(image), seconds=5) == luks.Header('luks1', 2 * MIB, 1, 'uuid')
    assert asked == [str(image)]


# Links


@pytest.fixture
def links(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(crypt, 'LINKS', str(tmp_path / 'links'))
    return tmp_path / 'links'


def test_link_is_made_moved_and_removed(links: pathlib.Path) -> None:
    assert crypt.make_link('volume-1', '/dev/disk/by-id/one') == str(links / 'volume-1')
    assert os.readlink(links / 'volume-1') == '/dev/disk/by-id/one'
    assert stat.S_IMODE(links.stat().st_mode) == 0o755
    # os-brick has replaced it meanwhile.
    (links / 'volume-1').unlink()
    (links / 'volume-1').symlink_to('/dev/mapper/crypt-volume-1')
    crypt.make_link('volume-1', '/dev/disk/by-id/one')
    assert os.readlink(links / 'volume-1') == '/dev/disk/by-id/one'
    assert os.listdir(links) == ['volume-1']
    assert crypt.remove_link('volume-1') is True
    assert crypt.remove_link('volume-1') is False


def test_no_folder_no_link(links: pathlib.Path) -> None:
    assert crypt.remove_link('volume-1') is False


@pytest.mark.parametrize('name', ['', '.', '..', '../x', 'a/b', '-x', 'a' * 101, 'a\n', None])
def test_impossible_names(links: pathlib.Path, runs: Runs, name: str) -> None:
    for call in (
        lambda: crypt.make_link(name, '/dev/sda'),
        lambda: crypt.remove_link(name),
        lambda: crypt.resize(name, None),
    ):
        with pytest.raises(exception.PrivilegedCallRefused):
            call()
    assert runs.commands == []
    assert not links.exists()


@pytest.mark.parametrize('device', ['/etc/shadow', 'sda', '/dev/../etc/shadow', None, ''])
def test_link_leads_below_dev(links: pathlib.Path, device: str) -> None:
    with pytest.raises(exception.PrivilegedCallRefused, match='not below /dev'):
        crypt.make_link('volume-1', device)
    assert not links.exists()


def test_folder_of_somebody_else_is_not_used(links: pathlib.Path, tmp_path: pathlib.Path) -> None:
    links.symlink_to(tmp_path)
    with pytest.raises(exception.PrivilegedCallRefused, match='no directory of root'):
        crypt.make_link('volume-1', '/dev/sda')
    with pytest.raises(exception.PrivilegedCallRefused, match='no directory of root'):
        crypt.remove_link('volume-1')


# Sizes


def test_resize_with_and_without_a_key(runs: Runs) -> None:
    crypt.resize('volume-1', None)
    crypt.resize('volume-1', PASSPHRASE)
    assert [without_numbers(command) for command in runs.commands] == [
        ['cryptsetup', '--batch-mode', 'resize', '--', 'crypt-volume-1'],
        [
            *('cryptsetup', '--batch-mode', 'resize', '--key-file=/proc/self/fd/'),
            *('--', 'crypt-volume-1'),
        ],
    ]
    assert runs.keys == [PASSPHRASE]
    runs.result = commands.Result(4, 'Device crypt-volume-1 not found')
    with pytest.raises(exception.EncryptionFailed, match='not found'):
        crypt.resize('volume-1', None)


def test_passphrase_is_wiped_from_the_memory_it_was_in(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    run = runs.run

    def keep_it(argv: list[str], **options: object) -> commands.Result:
        held.append(os.dup(options['keep'][0]))  # type: ignore[index]
        return run(argv, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(commands, 'run', keep_it)
    crypt.resize('volume-1', PASSPHRASE)
    assert os.pread(held[0], 100, 0) == bytes(len(PASSPHRASE))
    os.close(held[0])
