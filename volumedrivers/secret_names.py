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

"""What tells a secret: the name of its key, or its place in a URL."""

import functools
import re
import typing
import unicodedata

# Of a name without what separates its words, in lower case.
_SECRET_NAME = re.compile(
    r'passw|passphrase|passcode|pwd|pswd|secret|token|credential|authorization|keyring'
    r'|(?:pass|psk|^key|(?:private|api|access|account|admin|auth|ceph[a-z]*|chap|client|crypt[a-z]*'
    r'|disk|encrypt[a-z]*|luks|master|psk|security|session|shared|signing|ssl|tls|user)key)[0-9]*$'
)
_SEPARATORS = re.compile(r'[\W_]+')
# https://user:password@host, //user:password@host/share; not https://host:80/a@b
_URL_PASSWORD = re.compile(r'(?P<lead>//[^/@\s:]*:)(?![0-9]+/)(?P<password>[^@\s]+)(?=@)')
_NOT_SECRET: typing.Final = frozenset({'secret_uuid', 'secret_type'})


@functools.lru_cache(maxsize=1024)
def is_secret_name(key: str) -> bool:
    """Tell whether the value of a key so named is a secret."""
    if key in _NOT_SECRET:
        return False
    name = key if key.isascii() else unicodedata.normalize('NFKC', key)
    return _SECRET_NAME.search(_SEPARATORS.sub('', name).lower()) is not None


def url_passwords(text: str) -> frozenset[str]:
    """Return the passwords in the URLs of a text."""
    if '//' not in text:
        return frozenset()
    return frozenset(match['password'] for match in _URL_PASSWORD.finditer(text))


def mask_urls(text: str) -> str:
    """Return a text with ``***`` for the passwords in its URLs."""
    return _URL_PASSWORD.sub(r'\g<lead>***', text)
