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

"""dm-crypt through os-brick's real encryptors, with commands that are not run."""

import logging
import os
import pathlib
import traceback
import typing

from oslo_concurrency import processutils
from oslo_config import cfg
import pytest

from tests.unit import made_up_host
from volumedrivers import exception
from volumedrivers.conf import opts
from volumedrivers.host.block_device import BlockDevices
from volumedrivers.host.crypt_devices import CryptDevices
from volumedrivers.privsep import context
from volumedrivers.privsep import crypt

VOLUME_ID = 'c1b2d3e4-0001-4aaa-8bbb-000000000001'
NAME = f'crypt-{VOLUME_ID}'
PASSPHRASE = b'a very secret passphrase'


class Machine:
    """A host whose cryptsetup and ln do what they would to sysfs and the link."""

    def __init__(self, root: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host = made_up_host.MadeUpHost(root)
        self.dev = self.host.dev
        self.host.device('sdb', size=64 << 20, links=['disk/by-id/wwn-0x1'])
        self.host.device('sdc', size=64 << 20)
        self.path = str(self.dev / 'disk/by-id/wwn-0x1')
        self.links = root / 'links'
        monkeypatch.setattr(crypt, 'LINKS', str(self.links))
        monkeypatch.setattr(crypt, 'MAPPER', str(self.dev / 'mapper'))
        monkeypatch.setattr(context.sys_admin, 'client_mode', False)
        real = crypt.os.path.normpath
        # The made-up /dev is not at /dev.
        monkeypatch.setattr(
            crypt.os.path,
            'normpath',
            lambda path: (
                _Below(real(path)) if real(path).startswith(str(self.dev)) else real(path)
            ),
        )
        self.commands: list[tuple[str, ...]] = []
        self.inputs: list[object] = []
        self.fail: dict[str, processutils.ProcessExecutionError] = {}
        self.lower = 'sdb'
        self.sits = True  # whether luksOpen leaves a device

    def execute(self, *command: str, **options: typing.Any) -> tuple[str, str]:
        assert options.get('run_as_root') is True
        self.commands.append(command)
        self.inputs.append(options.get('process_input'))
        action = command[1] if command[0] == 'cryptsetup' else command[0]
        if action in self.fail:
            raise self.fail[action]
        if action in ('luksOpen', 'create') and self.sits:
            assert os.readlink(self.links / VOLUME_ID) == self.path
            self.open(self.lower)
        elif action in ('luksClose', 'remove'):
            self.close()
        elif action == 'ln':
            os.unlink(command[-1])
            os.symlink(command[-2], command[-1])
        return '', ''

    def open(self, lower: str) -> None:
        self.host.device('dm-3', size=48 << 20, slaves=[lower], dm__name=NAME)

    def close(self) -> None:
        import shutil

        shutil.rmtree(self.host.sysfs / 'block/dm-3', ignore_errors=True)


class _Below(str):
    """A path that says that it is below /dev."""

    __slots__ = ()

    def startswith(self, prefix: typing.Any, *rest: typing.Any) -> bool:
        return prefix == '/dev/' or super().startswith(prefix, *rest)


@pytest.fixture
def machine(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


@pytest.fixture
def devices(machine: Machine) -> CryptDevices:
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([])
    block = BlockDevices(str(machine.host.sysfs), str(machine.dev), str(machine.host.udev))
    return CryptDevices(conf, block, sysfs=str(machine.host.sysfs), execute=machine.execute)


def key() -> bytes:
    return PASSPHRASE


def failure(code: int, stderr: str = '') -> processutils.ProcessExecutionError:
    return processutils.ProcessExecutionError(exit_code=code, stderr=stderr, cmd='cryptsetup')


@pytest.mark.parametrize('provider', ['luks', 'luks2'])
def test_open_and_close(devices: CryptDevices, machine: Machine, provider: str) -> None:
    link = str(machine.links / VOLUME_ID)
    path = devices.open(VOLUME_ID, machine.path, provider, key)
    assert path == str(machine.dev / 'mapper' / NAME)
    assert machine.commands == [
        ('cryptsetup', 'luksOpen', '--key-file=-', str(machine.dev / 'sdb'), NAME),
        ('ln', '--symbolic', '--force', f'/dev/mapper/{NAME}', link),
    ]
    assert machine.inputs == [PASSPHRASE.decode(), None]
    assert devices.found(VOLUME_ID) == (path, link)

    machine.commands.clear()
    devices.close(VOLUME_ID, machine.path)
    assert machine.commands == [('cryptsetup', 'luksClose', NAME)]
    assert devices.found(VOLUME_ID) == ()
    devices.close(VOLUME_ID, machine.path)
    assert len(machine.commands) == 1


def test_plain_says_what_cinder_says(devices: CryptDevices, machine: Machine) -> None:
    devices.open(VOLUME_ID, machine.path, 'plain', key, cipher='aes-xts-plain64', key_size=256)
    assert machine.commands[0] == (
        *('cryptsetup', 'create', '--key-file=-', '--cipher', 'aes-xts-plain64'),
        *('--key-size', '256', NAME, str(machine.dev / 'sdb')),
    )


def test_device_that_is_open_needs_no_key(devices: CryptDevices, machine: Machine) -> None:
    machine.open('sdb')

    def nobody() -> bytes:
        raise AssertionError('the key manager was asked')

    assert devices.open(VOLUME_ID, machine.path, 'luks2', nobody)
    assert machine.commands == []


@pytest.mark.parametrize('lower', ['sdc', 'sdb'])
def test_device_on_another_one_is_refused(
    devices: CryptDevices, machine: Machine, lower: str
) -> None:
    machine.open(lower)
    if lower == 'sdc':
        with pytest.raises(exception.IdentityMismatch, match='sdc'):
            devices.open(VOLUME_ID, machine.path, 'luks2', key)
        with pytest.raises(exception.IdentityMismatch, match='sdc'):
            devices.close(VOLUME_ID, machine.path)
        assert devices.is_open(VOLUME_ID)
    else:
        devices.close(VOLUME_ID, machine.path)
    assert len(machine.commands) == (0 if lower == 'sdc' else 1)


def test_device_that_comes_to_sit_on_another_one_is_refused(
    devices: CryptDevices, machine: Machine
) -> None:
    machine.lower = 'sdc'
    with pytest.raises(exception.IdentityMismatch, match='sdc'):
        devices.open(VOLUME_ID, machine.path, 'luks2', key)


@pytest.mark.parametrize('provider', ['luks', 'luks2'])
def test_nothing_is_formatted_whatever_cryptsetup_says(
    devices: CryptDevices, machine: Machine, provider: str
) -> None:
    machine.fail = {'luksOpen': failure(1), 'isLuks': failure(1)}
    with pytest.raises(exception.FormatRefused):
        devices.open(VOLUME_ID, machine.path, provider, key)
    assert [command[:2] for command in machine.commands] == [
        ('cryptsetup', 'luksOpen'),
        ('cryptsetup', 'isLuks'),
    ]


def test_wrong_key(
    devices: CryptDevices, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    machine.fail = {'luksOpen': failure(2, 'No key available with this passphrase.')}
    with pytest.raises(exception.EncryptionFailed, match='the key does not open it') as caught:
        devices.open(VOLUME_ID, machine.path, 'luks2', key)
    shown = ''.join(traceback.format_exception(caught.value)) + caplog.text
    assert PASSPHRASE.decode() not in shown
    assert not devices.is_open(VOLUME_ID)
    devices.close(VOLUME_ID, machine.path)
    assert devices.found(VOLUME_ID) == ()


def test_passphrase_is_hidden_wherever_it_turns_up(
    devices: CryptDevices, machine: Machine
) -> None:
    machine.fail = {'luksOpen': failure(1, f'what is {PASSPHRASE.decode()}?')}
    machine.fail['luksOpen'].exit_code = 3
    with pytest.raises(exception.EncryptionFailed) as caught:
        devices.open(VOLUME_ID, machine.path, 'luks2', key)
    assert PASSPHRASE.decode() not in ''.join(traceback.format_exception(caught.value))


def test_device_in_use_stays(devices: CryptDevices, machine: Machine) -> None:
    devices.open(VOLUME_ID, machine.path, 'luks2', key)
    machine.fail = {'luksClose': failure(5, 'Device is still in use.')}
    with pytest.raises(exception.Busy):
        devices.close(VOLUME_ID, machine.path)
    assert len(devices.found(VOLUME_ID)) == 2


def test_device_that_does_not_appear(devices: CryptDevices, machine: Machine) -> None:
    machine.sits = False
    with pytest.raises(exception.EncryptionFailed, match='is not there'):
        devices.open(VOLUME_ID, machine.path, 'luks2', key)


def test_device_that_does_not_go(
    devices: CryptDevices, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices.open(VOLUME_ID, machine.path, 'luks2', key)
    monkeypatch.setattr(machine, 'close', lambda: None)
    with pytest.raises(exception.EncryptionFailed, match='still there'):
        devices.close(VOLUME_ID, machine.path)


def test_close_after_the_device_below_is_gone(devices: CryptDevices, machine: Machine) -> None:
    devices.open(VOLUME_ID, machine.path, 'luks2', key)
    os.unlink(machine.path)
    devices.close(VOLUME_ID, machine.path)
    assert devices.found(VOLUME_ID) == ()


def test_open_goes_on_after_a_crash(devices: CryptDevices, machine: Machine) -> None:
    """Killed after the link, after luksOpen, after ln."""
    crypt.make_link(VOLUME_ID, machine.path)
    assert devices.open(VOLUME_ID, machine.path, 'luks2', key)
    devices.close(VOLUME_ID, machine.path)
    machine.links.joinpath(VOLUME_ID).symlink_to(f'/dev/mapper/{NAME}')
    machine.commands.clear()
    assert devices.open(VOLUME_ID, machine.path, 'luks2', key)
    assert machine.commands[0][3] == str(machine.dev / 'sdb')


@pytest.mark.parametrize('provider', ['subprocess.Popen', 'luks1', ''])
def test_provider_is_never_imported(
    devices: CryptDevices, machine: Machine, provider: str
) -> None:
    with pytest.raises(exception.EncryptionFailed, match='no provider'):
        devices.open(VOLUME_ID, machine.path, provider, key)
    assert machine.commands == []


@pytest.mark.parametrize('volume_id', ['../x', 'a/b', '', 'x' * 101])
def test_volume_that_no_device_can_be_named_after(
    devices: CryptDevices, machine: Machine, volume_id: str
) -> None:
    with pytest.raises(exception.EncryptionFailed):
        devices.open(volume_id, machine.path, 'luks2', key)
    assert devices.found(volume_id) == ()


def test_resize(devices: CryptDevices, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bytes | None]] = []
    monkeypatch.setattr(crypt, 'resize', lambda name, key: asked.append((name, key)))
    with pytest.raises(exception.EncryptionFailed, match='not there'):
        devices.resize(VOLUME_ID, None)
    machine.open('sdb')
    assert devices.resize(VOLUME_ID, PASSPHRASE) == 48 << 20
    assert asked[-1] == (VOLUME_ID, PASSPHRASE)
