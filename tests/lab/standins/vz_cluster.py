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

"""The cluster of the Virtuozzo Storage stand-in, as its programs on this host know it."""

import pathlib

CLUSTER = 'lab-cluster'
MDS = ('127.0.0.1:2510', '127.0.0.1:2511')
PASSWORD = 'Lab-Vz-Cluster-42'

# os-brick has this place in its code.
CONFIGURATION = pathlib.Path('/etc/pstorage/clusters')


def servers(cluster: str) -> list[str]:
    """Return the metadata servers that this host knows of."""
    try:
        return (CONFIGURATION / cluster / 'bs_list').read_text().split()
    except FileNotFoundError:
        return []


def key(cluster: str) -> pathlib.Path:
    """Return where a host keeps that it has been let into the cluster."""
    return CONFIGURATION / cluster / 'auth_digest.key'
