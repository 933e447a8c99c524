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

"""What tells one Cinder from another: its URL, without what differs from user to user."""

import re
import urllib.parse

_PORTS = {'http': 80, 'https': 443}
_VERSION = re.compile(r'/v[0-9]+(\.[0-9]+)?(/.*)?$')
_V3 = '/v3/'


def identity(url: str) -> str:
    """Return the URL of a Cinder as it is recorded, and compared.

    Without version and project, which a catalog's have and others need not,
    without a slash at the end, a port that goes without saying, user and query.
    """
    parts = urllib.parse.urlsplit(url.strip())
    scheme = parts.scheme.lower()
    host = (parts.hostname or '').rstrip('.')
    if ':' in host:
        host = f'[{host}]'
    try:
        port = parts.port
    except ValueError:
        port = None
    if port is not None and port != _PORTS.get(scheme):
        host = f'{host}:{port}'
    path = _VERSION.sub('', parts.path.rstrip('/')).rstrip('/')
    return f'{scheme}://{host}{path}'


def asked(url: str) -> str:
    """Return the URL that somebody has configured as the one at which versions are asked for.

    That is one request; from the root, or without the slash, it would be two.
    """
    url = url.strip()
    path = urllib.parse.urlsplit(url).path.rstrip('/')
    version = _VERSION.search(path)
    if version is None:
        return f'{url.rstrip("/")}{_V3}'
    return f'{url.rstrip("/")}/' if version[2] is None else url.rstrip('/')
