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

"""Cinder's RBD driver, on the lab's Ceph cluster."""

import json
import pathlib

from tests.lab.cinder.backend import LabBackend
from tests.lab.storage import ceph
from tests.lab.storage import image_file
from tests.lab.storage.ceph_cluster import LabCluster
from tests.lab.storage.image_volume import settled


class RbdBackend(LabBackend):
    """Images of Ceph."""

    name = 'cinder-rbd'

    def __init__(self) -> None:
        self._server = ceph.CephBackend()

    @property
    def _cluster(self) -> LabCluster:
        return self._server.cluster

    def prepare(self, directory: pathlib.Path) -> dict[str, str]:
        """Give libvirt the key, and return the options of an operator."""
        self._server.define_secret()
        return {
            'volume_driver': 'cinder.volume.drivers.rbd.RBDDriver',
            'rbd_pool': self._cluster.pool,
            'rbd_user': self._cluster.user,
            'rbd_ceph_conf': '/etc/ceph/ceph.conf',
            'rbd_secret_uuid': self._server.secret_uuid,
        }

    def image(self, volume_id: str) -> pathlib.Path:
        """Return the name of pool and image."""
        return pathlib.Path(self._cluster.pool, f'volume-{volume_id}')

    def read(self, volume_id: str, offset: int, length: int) -> bytes:
        return image_file.read_node(
            f'driver=rbd,pool={self._cluster.pool},image=volume-{volume_id},'
            f'conf={self._cluster.conf},user=admin',
            offset,
            length,
        )

    def size(self, volume_id: str) -> int:
        said = self._cluster.rbd('info', '--format', 'json', str(self.image(volume_id)))
        return int(json.loads(said)['size'])

    def identity(self, volume_id: str) -> str:
        return f'rbd:{self._cluster.fsid}/{self.image(volume_id)}'

    def served(self, volume_id: str) -> list[str]:
        """Return who has the image open."""
        return settled(
            lambda: ceph.watchers(self._cluster.rbd('status', str(self.image(volume_id))))
        )

    def contents(self) -> list[str]:
        """Return images, snapshots, and what is in the trash."""
        found = []
        pool = self._cluster.pool
        for each in json.loads(self._cluster.rbd('ls', '--long', '--format', 'json', pool)):
            snapshot = f'@{each["snapshot"]}' if 'snapshot' in each else ''
            found.append(f'{each["image"]}{snapshot}')
        trash = json.loads(self._cluster.rbd('trash', 'ls', '--format', 'json', pool))
        return sorted(found) + [f'trash {each["name"]}' for each in trash]
