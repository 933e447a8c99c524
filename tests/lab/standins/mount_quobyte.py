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

"""Stand-in of mount.quobyte, the Quobyte client.

    mount.quobyte [--disable-xattrs] [-c FILE] [-o OPTIONS] REGISTRY/VOLUME DIRECTORY

The arguments are those that Nova, the vendor's container plugins
(quobyte/docker-volume) and this package call it with; others are refused.  What
is mounted has the type fuse.quobyte, a source that begins with ``quobyte@``, and
a root of size 0, by which Nova and Cinder tell a living client.
"""

import argparse
import os
import pathlib
import sys

from tests.lab.standins import fuse_mount
from tests.lab.standins.passthrough import Look
from tests.lab.standins.shared_file import share_directory

REGISTRY = '127.0.0.1:7861'
VOLUME = 'lab'
_OPTIONS = {'rw', 'ro', 'nosuid', 'nodev', 'noexec', 'user_xattr', 'nouser_xattr'}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser('mount.quobyte', allow_abbrev=False)
    parser.add_argument('volume')
    parser.add_argument('directory')
    parser.add_argument('--disable-xattrs', action='store_true')
    parser.add_argument('-c', dest='configuration')
    parser.add_argument('-o', dest='options', default='')
    given = parser.parse_args(arguments)
    registries, _, volume = given.volume.removeprefix('quobyte://').partition('/')
    unknown = set(filter(None, given.options.split(','))) - _OPTIONS
    if unknown:
        return fail(f'unknown mount option: {sorted(unknown)[0]}')
    if given.configuration and not os.access(given.configuration, os.R_OK):
        return fail(f'cannot read {given.configuration}')
    if REGISTRY not in registries.split(','):
        return fail(f'cannot reach any registry of {registries}')
    if volume.strip('/') != VOLUME:
        return fail(f'volume {volume} does not exist')
    if not os.path.isdir(given.directory):
        return fail(f'{given.directory} is not a directory')
    try:
        fuse_mount.mount(
            fuse_mount.Mounting(
                client='quobyte',
                source=f'quobyte@{registries}/{VOLUME}',
                fstype='fuse.quobyte',
                directory=pathlib.Path(share_directory('quobyte')),
                mount_point=given.directory,
                look=Look(root_size=0),
                read_only='ro' in given.options.split(','),
            )
        )
    except OSError as error:
        return fail(f'mount failed: {error.strerror}')
    return 0


def fail(text: str) -> int:
    print(f'mount.quobyte: {text}', file=sys.stderr)
    return 1


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
