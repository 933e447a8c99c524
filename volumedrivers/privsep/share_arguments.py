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

"""What a share's type, source, options and credentials may look like.

Options of a mount come partly from Cinder, over the network, and go to a
program that runs as root.  What such an option can do besides mounting is
refused: name a file that is read or written, allow set-uid programs or device
nodes, or carry a secret where everybody sees it.
"""

import re
import typing

from volumedrivers import exception
from volumedrivers import mount_options

_HOST = r'(?:\[[0-9A-Fa-f:.%]+\]|[0-9A-Za-z_][0-9A-Za-z_.-]*)'
_PATH = r'/[^\x00-\x1f\x7f]*'

# What mount(8) or the tool of the type is given as the source.
SOURCES: typing.Mapping[str, str] = {
    'nfs': f'{_HOST}:{_PATH}',
    'nfs4': f'{_HOST}:{_PATH}',
    'cifs': f'//{_HOST}{_PATH}',
    'glusterfs': rf'{_HOST}(?:,{_HOST})*:/?[0-9A-Za-z_][0-9A-Za-z_./-]*',
    'quobyte': rf'(?:quobyte://)?{_HOST}(?::\d+)?(?:,{_HOST}(?::\d+)?)*{_PATH}',
    'ceph': rf'(?:{_HOST}(?::\d+)?(?:[,/]{_HOST}(?::\d+)?)*:|[0-9A-Za-z_.-]+@[^\s/=]*=){_PATH}',
    'sofs': _PATH,
}

# The secret (and what belongs to it) that each type can be given.
CREDENTIALS: typing.Mapping[str, frozenset[str]] = {
    'cifs': frozenset({'username', 'password', 'domain'}),
    'ceph': frozenset({'secret'}),
}

# How the kernel names what was mounted; "fuse" alone is what a client that
# sets no subtype gets.
MOUNTED_TYPES = re.compile(r'nfs4?|cifs|smb3|ceph|fuse(?:\.[0-9A-Za-z_.-]+)?')

_OPTION = re.compile(r'[0-9A-Za-z_][0-9A-Za-z_.+-]*(?:=[^,\x00-\x1f\x7f]*)?')
_REFUSED = re.compile(
    r'(?:suid|dev|defaults|user|users|owner|group|remount|r?bind|r?shared|r?slave|r?private'
    r'|r?unbindable|move|loop|offset|sizelimit|helper|context|fscontext|defcontext|rootcontext'
    r'|x-.*|comment|cred|credentials|pass|password|secret|secretfile|keyring|conf|log-?file'
    r'|dump-fuse|volfile.*|xlator-option|process-name|pid-?file|password2'
    r'|username|domain|dom|workgroup)',
    re.IGNORECASE,
)
# Who mounts is said in Cinder's options of a CIFS share; without a password
# it is no secret.
_ALLOWED_FOR = {
    'cifs': frozenset({'username', 'user', 'domain', 'dom', 'workgroup'}),
    'ceph': frozenset({'name'}),
}


def refused(reason: str) -> exception.PrivilegedCallRefused:
    """Return the error of an argument that is not accepted."""
    return exception.PrivilegedCallRefused(function='mount', reason=reason)


def check_source(fstype: str, source: str) -> None:
    """:raises PrivilegedCallRefused: no share of that type is called this"""
    if fstype not in SOURCES:
        raise refused(f'file system type {fstype!r} is not one of {", ".join(sorted(SOURCES))}')
    if not isinstance(source, str) or not re.fullmatch(SOURCES[fstype], source):
        # A user and a password may stand before the host.
        shown = re.sub(r'(?<=//).*@', '***@', repr(source))
        raise refused(f'{shown} is no source of a {fstype} mount')


def check_options(fstype: str, options: typing.Sequence[str]) -> list[str]:
    """Return the options one by one, with ``nosuid`` and ``nodev`` at the end.

    :raises PrivilegedCallRefused: one of them does more than mount
    """
    single: list[str] = []
    for option in options:
        if not isinstance(option, str):
            raise refused(f'mount option of type {type(option).__name__}')
        single += option.split(',')
    for option in single:
        # The value is not shown: it may be a secret in the wrong place.
        name, _, value = option.partition('=')
        if not _OPTION.fullmatch(option):
            raise refused(f'mount option {name!r} is malformed')
        if _REFUSED.fullmatch(name) and name.lower() not in _ALLOWED_FOR.get(fstype, ()):
            raise refused(f'mount option {name!r} is not allowed')
        if mount_options.secrets(option):
            raise refused(f'mount option {name!r} carries a secret, which everybody would see')
        if value.startswith(('/', '.', '~')):
            raise refused(f'mount option {name!r} names a file')
    return [*(option for option in single if option not in ('nosuid', 'nodev')), 'nosuid', 'nodev']


def check_credentials(fstype: str, credentials: typing.Mapping[str, str]) -> None:
    """:raises PrivilegedCallRefused: the type takes none such"""
    unknown = set(credentials) - CREDENTIALS.get(fstype, frozenset())
    if unknown:
        raise refused(f'a {fstype} mount takes no {", ".join(sorted(unknown))}')
    for name, value in credentials.items():
        if not isinstance(value, str) or not value.isprintable() or not value:
            raise refused(f'{name} is empty or has unprintable characters')
