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

"""The key manager that the embedded Cinder and the host share."""

import pathlib

from castellan.common import exception as castellan
from castellan.common.objects import passphrase
from oslo_config import cfg
import pytest

from volumedrivers import exception
from volumedrivers.attachment.keys import CastellanKeys
from volumedrivers.testing.cinder import keys


@pytest.fixture
def conf(tmp_path: pathlib.Path) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    conf([])
    keys.configure(conf, tmp_path / 'keys')
    return conf


def test_key_that_cinder_makes_is_found_by_the_host(
    conf: cfg.ConfigOpts, tmp_path: pathlib.Path
) -> None:
    manager = keys.FileKeyManager(conf)
    key_id = manager.create_key(None, 'AES', 256)
    (file,) = (tmp_path / 'keys').iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert CastellanKeys(conf).passphrase(key_id, None) == file.read_bytes().hex().encode()
    assert manager.get(None, key_id).bit_length == 256
    assert manager.create_key(None, 'AES', 256) != key_id


def test_passphrase(conf: cfg.ConfigOpts) -> None:
    key_id = keys.FileKeyManager(conf).store(None, passphrase.Passphrase(b'open sesame'))
    assert CastellanKeys(conf).passphrase(key_id, None) == b'open sesame'


def test_deleted(conf: cfg.ConfigOpts) -> None:
    manager = keys.FileKeyManager(conf)
    key_id = manager.create_key(None, 'AES', 128)
    manager.delete(None, key_id)
    manager.delete(None, key_id)
    with pytest.raises(castellan.ManagedObjectNotFoundError):
        manager.get(None, key_id)
    with pytest.raises(exception.KeyUnavailable):
        CastellanKeys(conf).passphrase(key_id, None)
