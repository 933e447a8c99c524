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

"""Passphrases from castellan."""

import pathlib
import traceback

from castellan.common.objects import opaque_data
from castellan.common.objects import passphrase
from castellan.common.objects import symmetric_key
from oslo_config import cfg
import pytest

from tests import file_key_manager
from volumedrivers import exception
from volumedrivers.attachment.keys import CastellanKeys

KEY = bytes(range(32))


@pytest.fixture
def conf() -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    conf([])
    return conf


@pytest.fixture
def store(conf: cfg.ConfigOpts, tmp_path: pathlib.Path) -> file_key_manager.FileKeyManager:
    return file_key_manager.configure(conf, tmp_path / 'keys')


def test_key_is_written_as_hexadecimal_digits(
    conf: cfg.ConfigOpts, store: file_key_manager.FileKeyManager
) -> None:
    key_id = store.store(None, symmetric_key.SymmetricKey('AES', 256, KEY))
    assert CastellanKeys(conf).passphrase(key_id, 'v') == KEY.hex().encode()


def test_opaque_data_is_taken_for_a_key(
    conf: cfg.ConfigOpts, store: file_key_manager.FileKeyManager
) -> None:
    key_id = store.store(None, opaque_data.OpaqueData(b'text'))
    assert CastellanKeys(conf).passphrase(key_id, 'v') == b'74657874'


def test_passphrase_is_taken_as_it_is(
    conf: cfg.ConfigOpts, store: file_key_manager.FileKeyManager
) -> None:
    key_id = store.store(None, passphrase.Passphrase('gr\u00fcn'.encode()))
    assert CastellanKeys(conf).passphrase(key_id, 'v') == 'gr\u00fcn'.encode()


def test_as_os_brick_reads_it(
    conf: cfg.ConfigOpts, store: file_key_manager.FileKeyManager
) -> None:
    from os_brick import utils

    for managed in (
        symmetric_key.SymmetricKey('AES', 256, KEY),
        passphrase.Passphrase(b'words'),
        opaque_data.OpaqueData(b'data'),
    ):
        key_id = store.store(None, managed)
        assert CastellanKeys(conf).passphrase(key_id, None) == (
            utils.get_passphrase_from_secret(managed).encode()
        )


def test_missing_key(conf: cfg.ConfigOpts, store: file_key_manager.FileKeyManager) -> None:
    with pytest.raises(exception.KeyUnavailable, match='no such key') as caught:
        CastellanKeys(conf).passphrase('nowhere', 'the-volume')
    assert (caught.value.key_id, caught.value.volume_id) == ('nowhere', 'the-volume')


def test_empty_key(conf: cfg.ConfigOpts, store: file_key_manager.FileKeyManager) -> None:
    key_id = store.store(None, opaque_data.OpaqueData(b''))
    with pytest.raises(exception.KeyUnavailable, match='empty'):
        CastellanKeys(conf).passphrase(key_id, 'v')


def test_error_of_a_back_end_shows_nothing_it_holds(
    conf: cfg.ConfigOpts,
    store: file_key_manager.FileKeyManager,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError('token s3cr3t')

    monkeypatch.setattr(file_key_manager.FileKeyManager, 'get', fail)
    with pytest.raises(exception.KeyUnavailable, match='RuntimeError') as caught:
        CastellanKeys(conf).passphrase('id', 'v')
    assert 's3cr3t' not in ''.join(traceback.format_exception(caught.value))
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_key_manager_that_is_not_there(conf: cfg.ConfigOpts, tmp_path: pathlib.Path) -> None:
    file_key_manager.configure(conf, tmp_path)
    conf.set_override('backend', 'no.such.KeyManager', 'key_manager')
    with pytest.raises(exception.KeyUnavailable, match='not installed'):
        CastellanKeys(conf).passphrase('id', 'v')


def test_credentials_of_the_configuration_are_used(
    conf: cfg.ConfigOpts,
    store: file_key_manager.FileKeyManager,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from castellan.common import utils

    conf.register_opts(utils.credential_opts, group=utils.OPT_GROUP)
    conf.set_override('auth_type', 'token', utils.OPT_GROUP)
    conf.set_override('token', 'a-token', utils.OPT_GROUP)
    seen: list[object] = []

    def get(self: object, context: object, key_id: str) -> object:
        seen.append(context)
        return opaque_data.OpaqueData(b'x')

    monkeypatch.setattr(file_key_manager.FileKeyManager, 'get', get)
    CastellanKeys(conf).passphrase('id', 'v')
    assert seen[0].token == 'a-token'  # type: ignore[attr-defined]
    own = object()
    CastellanKeys(conf, own).passphrase('id', 'v')
    assert seen[1] is own
