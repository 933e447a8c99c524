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

"""Cinder's encryption metadata."""

import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st
import pytest

from volumedrivers import exception
from volumedrivers.attachment.volume_encryption import VolumeEncryption

KEY_ID = 'c0ffee00-0000-4000-8000-00000000000e'
METADATA = {
    'provider': 'luks',
    'encryption_key_id': KEY_ID,
    'cipher': 'aes-xts-plain64',
    'key_size': 256,
    'control_location': 'front-end',
}


def test_as_cinder_sends_it() -> None:
    found = VolumeEncryption.parse(METADATA, volume_id='v')
    assert found == VolumeEncryption('luks', KEY_ID, 'aes-xts-plain64', 256, 'front-end')
    assert found.is_ours


def test_its_own_dict_is_read_back() -> None:
    found = VolumeEncryption.parse(METADATA)
    assert VolumeEncryption.parse(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize(
    ('name', 'provider'),
    [
        ('luks', 'luks'),
        ('luks2', 'luks2'),
        ('plain', 'plain'),
        ('LuksEncryptor', 'luks'),
        ('CryptsetupEncryptor', 'plain'),
        ('NoOpEncryptor', 'none'),
        ('nova.volume.encryptors.luks.LuksEncryptor', 'luks'),
        ('nova.volume.encryptors.cryptsetup.CryptsetupEncryptor', 'plain'),
        ('nova.volume.encryptors.nop.NoopEncryptor', 'none'),
        ('os_brick.encryptors.luks.LuksEncryptor', 'luks'),
        ('os_brick.encryptors.luks.Luks2Encryptor', 'luks2'),
        ('os_brick.encryptors.cryptsetup.CryptsetupEncryptor', 'plain'),
        ('os_brick.encryptors.nop.NoopEncryptor', 'none'),
    ],
)
def test_providers(name: str, provider: str) -> None:
    found = VolumeEncryption.parse({**METADATA, 'provider': name})
    assert found.provider == provider
    assert found.is_ours == (provider != 'none')


def test_every_provider_os_brick_knows_is_known() -> None:
    from os_brick import encryptors

    known = set(encryptors.LEGACY_PROVIDER_CLASS_TO_FORMAT_MAP)
    for name in known | set(encryptors.FORMAT_TO_FRONTEND_ENCRYPTOR_MAP):
        assert VolumeEncryption.parse({**METADATA, 'provider': name})


@pytest.mark.parametrize(
    ('changes', 'key'),
    [
        ({'provider': 'subprocess.Popen'}, 'provider'),
        ({'provider': None}, 'provider'),
        ({'provider': ['luks']}, 'provider'),
        ({'provider': 'LUKS'}, 'provider'),
        ({'encryption_key_id': None}, 'encryption_key_id'),
        ({'encryption_key_id': 'a\nb'}, 'encryption_key_id'),
        ({'encryption_key_id': 'x' * 256}, 'encryption_key_id'),
        ({'cipher': '--header=/etc/shadow'}, 'cipher'),
        ({'cipher': 'aes xts'}, 'cipher'),
        ({'cipher': 5}, 'cipher'),
        ({'key_size': 0}, 'key_size'),
        ({'key_size': True}, 'key_size'),
        ({'key_size': 255}, 'key_size'),
        ({'key_size': '256 '}, 'key_size'),
        ({'key_size': 2.5}, 'key_size'),
        ({'control_location': 'middle'}, 'control_location'),
    ],
)
def test_what_is_impossible_is_refused(changes: dict[str, object], key: str) -> None:
    with pytest.raises(exception.InvalidEncryption) as caught:
        VolumeEncryption.parse({**METADATA, **changes}, volume_id='the-volume')
    assert caught.value.key == key
    assert 'the-volume' in str(caught.value)


def test_empty_metadata_is_no_encryption() -> None:
    with pytest.raises(exception.InvalidEncryption):
        VolumeEncryption.parse({})


def test_back_end_is_not_ours_and_needs_no_key() -> None:
    found = VolumeEncryption.parse(
        {'provider': 'luks', 'encryption_key_id': None, 'control_location': 'Back-End'}
    )
    assert not found.is_ours


def test_numbers_may_be_written_as_text() -> None:
    assert VolumeEncryption.parse({**METADATA, 'key_size': '512'}).key_size == 512


@given(
    st.dictionaries(
        st.sampled_from([*METADATA, 'other']),
        st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text()),
    )
)
def test_it_is_read_or_refused(metadata: dict[str, object]) -> None:
    with contextlib.suppress(exception.InvalidEncryption):
        found = VolumeEncryption.parse(metadata)
        assert VolumeEncryption.parse(found.to_dict()) == found
