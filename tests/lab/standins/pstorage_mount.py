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

"""Stand-in of pstorage-mount, the client of Virtuozzo Storage.

    pstorage-mount -c CLUSTER [-l LOG] [-C CACHE] [-u USER] [-g GROUP] [-m MODE] DIRECTORY

The options are those of vstorage-mount(1) that os-brick and Nova give it; any
other one is refused.  The host has to know a metadata server (bs_list) and to
be let in (pstorage auth-node).  Owner and access bits of all files are those of
the command line, and the kernel goes by them.
"""

import argparse
import grp
import os
import pathlib
import pwd
import sys

from tests.lab.standins import fuse_mount
from tests.lab.standins import vz_cluster
from tests.lab.standins.passthrough import Look
from tests.lab.standins.shared_file import share_directory


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser('pstorage-mount', allow_abbrev=False)
    parser.add_argument('-c', dest='cluster', required=True)
    parser.add_argument('-l', dest='log', type=pathlib.Path)
    parser.add_argument('-C', dest='cache', type=pathlib.Path)
    parser.add_argument('-u', dest='user', default='root')
    parser.add_argument('-g', dest='group', default='root')
    parser.add_argument('-m', dest='mode', default='0700')
    parser.add_argument('directory')
    given = parser.parse_args(arguments)
    try:
        owner = pwd.getpwnam(given.user).pw_uid, grp.getgrnam(given.group).gr_gid
        mode = int(given.mode, 8)
    except (KeyError, ValueError) as error:
        return fail(f'invalid option: {error}')
    if given.cluster != vz_cluster.CLUSTER or not set(vz_cluster.servers(given.cluster)) & set(
        vz_cluster.MDS
    ):
        return fail(f'unable to connect to cluster {given.cluster}: no MDS answers')
    if not vz_cluster.key(given.cluster).exists():
        return fail(f'this node is not authenticated in cluster {given.cluster}')
    if not os.path.isdir(given.directory):
        return fail(f'{given.directory} is not a directory')
    try:
        for path in filter(None, (given.log, given.cache)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        fuse_mount.mount(
            fuse_mount.Mounting(
                client='vzstorage',
                source=f'vstorage://{given.cluster}',
                fstype='fuse.vstorage',
                directory=share_directory('vzstorage'),
                mount_point=given.directory,
                look=Look(owner=owner, mode=mode),
                checked=True,
            )
        )
    except OSError as error:
        return fail(f'{error.filename}: {error.strerror}')
    return 0


def fail(text: str) -> int:
    print(f'pstorage-mount: {text}', file=sys.stderr)
    return 1


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
