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

"""Stand-in of mount.sofs, by which mount(8) mounts Scality's scale-out file system.

    mount.sofs CONFIGURATION DIRECTORY [-sfnv] [-o OPTIONS]

What is known of it is in Cinder's and Nova's former drivers (scality.py): it
is given sfused's configuration file, its mount is called ``/dev/fuse`` of type
fuse, and a directory ``sys`` in its root says that it works.
"""

import argparse
import json
import os
import sys

from tests.lab.standins import fuse_mount
from tests.lab.standins.shared_file import share_directory

_OPTIONS = {'rw', 'ro', 'nosuid', 'nodev', 'noexec', 'noatime'}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser('mount.sofs', allow_abbrev=False)
    parser.add_argument('configuration')
    parser.add_argument('directory')
    for flag in '-s', '-n', '-v':
        # Of mount(8); they change nothing here.
        parser.add_argument(flag, action='store_true')
    parser.add_argument('-o', dest='options', default='')
    given = parser.parse_args(arguments)
    unknown = set(filter(None, given.options.split(','))) - _OPTIONS
    if unknown:
        return fail(f'unknown option {sorted(unknown)[0]}')
    try:
        with open(given.configuration) as file:
            ring = json.load(file)['ring']
    except (OSError, ValueError, KeyError, TypeError) as error:
        return fail(f'{given.configuration}: no configuration of sfused: {error!r}')
    if ring != 'lab':
        return fail(f'ring {ring} does not answer')
    if not os.path.isdir(given.directory):
        return fail(f'{given.directory} is not a directory')
    try:
        fuse_mount.mount(
            fuse_mount.Mounting(
                client='scality',
                source='/dev/fuse',
                fstype='fuse',
                directory=share_directory('scality'),
                mount_point=given.directory,
                read_only='ro' in given.options.split(','),
            )
        )
    except OSError as error:
        return fail(f'{error.filename}: {error.strerror}')
    return 0


def fail(text: str) -> int:
    print(f'mount.sofs: {text}', file=sys.stderr)
    return 32


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
