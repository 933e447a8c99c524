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

import pathlib

from tests.lab.cinder.backend import LabBackend
from tests.lab.storage import ceph
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
        with self._cluster.image_opened(self.image(volume_id).name, read_only=True) as image:
            return bytes(image.read(offset, length))

    def size(self, volume_id: str) -> int:
        with self._cluster.image_opened(self.image(volume_id).name, read_only=True) as image:
            return int(image.size())

    def identity(self, volume_id: str) -> str:
        return f'rbd:{self._cluster.fsid}/{self.image(volume_id)}'

    def served(self, volume_id: str) -> list[str]:
        """Return who has the image open."""
        return settled(lambda: self._cluster.watching(self.image(volume_id).name))

    def contents(self) -> list[str]:
        """Return images, snapshots, and what is in the trash."""
        import rbd

        with self._cluster.pool_opened() as ioctx:
            found = []
            for name in rbd.RBD().list(ioctx):
                with rbd.Image(ioctx, name, read_only=True) as image:
                    found += [name, *(f'{name}@{each["name"]}' for each in image.list_snaps())]
            found += [f'trash {each["name"]}' for each in rbd.RBD().trash_list(ioctx)]
        return sorted(found)
