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

"""Stand-in of pstorage, the program that manages a Virtuozzo Storage cluster.

    pstorage -c CLUSTER auth-node -P      reads the cluster's password

os-brick (``remotefs/remotefs.py``) calls nothing else of it; in the vendor's
manual ("vstorage -c CLUSTER auth-node", and -P to read the password from
standard input) a host has to be let in once before it can mount.
"""

import sys

from tests.lab.standins import vz_cluster


def main(arguments: list[str]) -> int:
    if len(arguments) != 4 or arguments[0] != '-c' or arguments[2:] != ['auth-node', '-P']:
        print(f'Invalid arguments: {" ".join(arguments)}', file=sys.stderr)
        return 1
    cluster = arguments[1]
    if cluster != vz_cluster.CLUSTER or not set(vz_cluster.servers(cluster)) & set(vz_cluster.MDS):
        print(f'Unable to connect to MDS of cluster {cluster}', file=sys.stderr)
        return 1
    if sys.stdin.readline().rstrip('\n') != vz_cluster.PASSWORD:
        print('Authentication failed: incorrect password', file=sys.stderr)
        return 1
    key = vz_cluster.key(cluster)
    key.write_text('authenticated\n')
    key.chmod(0o600)
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
