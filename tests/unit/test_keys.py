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

import contextlib
import http.server
import json
import logging
import pathlib
import threading
import traceback

from castellan.common.objects import opaque_data
from castellan.common.objects import passphrase
from castellan.common.objects import symmetric_key
from oslo_config import cfg
import pytest

from tests import file_key_manager
from volumedrivers import exception
from volumedrivers.attachment import key_logs
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


def test_body_of_barbicans_answer_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """By castellan's Barbican client against a server, with everything at DEBUG."""
    caplog.set_level(logging.DEBUG)
    with Barbican() as server:
        conf = cfg.ConfigOpts()
        conf([])
        from castellan import options

        options.set_defaults(
            conf,
            backend='barbican',
            barbican_endpoint=server.url,
            auth_endpoint=server.url,
        )
        from castellan.common import utils

        conf.register_opts(utils.credential_opts, group=utils.OPT_GROUP)
        for name, value in (
            ('auth_type', 'keystone_token'),
            ('token', 'a-token'),
            ('auth_url', server.url),
        ):
            conf.set_override(name, value, utils.OPT_GROUP)
        keys = CastellanKeys(conf)
        assert keys.passphrase(KEY_ID, 'v') == SECRET.encode()
        assert SECRET not in caplog.text
        # It is said outside of the call, so the test would see it.
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(key_logs, 'quiet', contextlib.nullcontext)
            keys.passphrase(KEY_ID, 'v')
        assert SECRET in caplog.text


KEY_ID = 'c0ffee00-0000-4000-8000-00000000000e'
SECRET = 'a very secret passphrase'


class Barbican:
    """Enough of Keystone and Barbican for one secret of type passphrase."""

    def __enter__(self) -> 'Barbican':
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self, body: object, kind: str = 'application/json') -> None:
                data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(200)
                self.send_header('Content-Type', kind)
                self.send_header('X-Subject-Token', 'scoped')
                self.send_header('Content-Length', str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                if self.path.endswith('/payload'):
                    self.answer(SECRET, 'text/plain')
                elif '/secrets/' in self.path:
                    self.answer(
                        {
                            'name': 'x',
                            'status': 'ACTIVE',
                            'secret_type': 'passphrase',
                            'secret_ref': f'{outer.url}/v1/secrets/{KEY_ID}',
                            'content_types': {'default': 'text/plain'},
                            'algorithm': None,
                            'bit_length': None,
                            'mode': None,
                            'created': '2026-01-01T00:00:00',
                            'updated': '2026-01-01T00:00:00',
                            'expiration': None,
                            'creator_id': 'x',
                        }
                    )
                else:
                    version = {
                        'id': 'v3.14',
                        'status': 'stable',
                        'links': [{'rel': 'self', 'href': f'{outer.url}/v3/'}],
                    }
                    self.answer({'version': version, 'versions': {'values': [version]}})

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers['Content-Length']))
                endpoint = {'interface': 'public', 'url': outer.url, 'region_id': 'r', 'id': 'e'}
                self.answer(
                    {
                        'token': {
                            'methods': ['token'],
                            'expires_at': '2099-01-01T00:00:00.000000Z',
                            'issued_at': '2026-01-01T00:00:00.000000Z',
                            'user': {'id': 'u', 'name': 'u', 'domain': {'id': 'd', 'name': 'd'}},
                            'catalog': [
                                {
                                    'type': 'key-manager',
                                    'id': 'b',
                                    'name': 'b',
                                    'endpoints': [endpoint],
                                }
                            ],
                        }
                    }
                )

            def log_message(self, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.url = f'http://127.0.0.1:{self.server.server_address[1]}'
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.shutdown()
        self.server.server_close()
