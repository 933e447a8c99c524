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

"""Volumes of several kinds for Nova: what Cinder would say of them, and what they hold."""

import abc
import itertools
import pathlib
import subprocess
import typing
import uuid

from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import server
from volumedrivers.testing.ceph import CephCluster
from volumedrivers.testing.tgt import IscsiTarget

MIB = 2**20
SIZE = 16 * MIB
_CEPH_SECRET = 'client.cinder secret'
_numbers = itertools.count(1)


class Storage(abc.ABC):
    """One volume; a context manager.

    :ivar volume_id: a UUID
    :cvar can_extend: there is something for the host to do when it has grown
    """

    kind: typing.ClassVar[str]
    can_extend: typing.ClassVar[bool] = True

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.volume_id = str(uuid.uuid4())

    @property
    def alias(self) -> str:
        """What the disk is called in libvirt."""
        return f'ua-{self.volume_id}'

    @abc.abstractmethod
    def start(self) -> None:
        """Make it, and let it be used."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Take it away."""

    @abc.abstractmethod
    def connection_info(self) -> dict[str, typing.Any]:
        """Return what Cinder would give to Nova."""

    @abc.abstractmethod
    def grow(self, size: int) -> None:
        """Make it larger on the storage's side."""

    @abc.abstractmethod
    def users(self) -> int:
        """Return how many have it open, by the storage's own account."""

    @abc.abstractmethod
    def read(self, offset: int, length: int) -> bytes:
        """Return what it holds; no guest has it open."""

    def _described(self, driver_volume_type: str, **data: object) -> dict[str, typing.Any]:
        return {
            'driver_volume_type': driver_volume_type,
            'data': {
                **data,
                'access_mode': 'rw',
                'qos_specs': None,
                'encrypted': False,
                'cacheable': False,
            },
            'serial': self.volume_id,
            'volume_id': self.volume_id,
            'multiattach': False,
        }

    def __enter__(self) -> typing.Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


class LoopStorage(Storage):
    """A loop device of this host; the type is local."""

    kind = 'local'
    can_extend = False

    def start(self) -> None:
        self._image = self.directory / f'{self.volume_id}.raw'
        with self._image.open('wb') as image:
            image.truncate(SIZE)
        self._devices = [self._make_device()]

    def stop(self) -> None:
        for device in self._devices:
            _losetup('--detach', device)

    def another_device(self) -> str:
        """Return the path of a second device with the same content, as another host has one."""
        self._devices.append(self._make_device())
        return self._devices[-1]

    def _make_device(self) -> str:
        return _losetup('--find', '--show', str(self._image)).strip()

    @property
    def _device(self) -> str:
        return self._devices[0]

    def connection_info(self) -> dict[str, typing.Any]:
        return self._described('local', device_path=self._device, volume_id=self.volume_id)

    def grow(self, size: int) -> None:
        with self._image.open('r+b') as image:
            image.truncate(size)
        _losetup('--set-capacity', self._device)

    def users(self) -> int:
        return _opened(self._device)

    def read(self, offset: int, length: int) -> bytes:
        return _read(self._image, offset, length)


class IscsiStorage(Storage):
    """A target of tgtd with CHAP, for the initiator that QEMU has itself."""

    kind = 'iscsi'

    def start(self) -> None:
        self._target = IscsiTarget(
            self.directory / f'target{next(_numbers)}',
            size=SIZE,
            chap=('user', 'a-password-14'),
            iqn=f'iqn.2020-01.org.volumedrivers:{self.volume_id}',
        )
        self._target.start()

    def stop(self) -> None:
        self._target.stop()

    def connection_info(self) -> dict[str, typing.Any]:
        return self._target.connection_info(self.volume_id)

    def grow(self, size: int) -> None:
        self._target.grow(size)

    def users(self) -> int:
        return self._target.sessions()

    def read(self, offset: int, length: int) -> bytes:
        return _read(self._target.image, offset, length)


class RbdStorage(Storage):
    """An image of a Ceph with cephx; the key is in libvirt, as the operator puts it there."""

    kind = 'rbd'

    def __init__(
        self, directory: pathlib.Path, cluster: CephCluster, hypervisor: Hypervisor
    ) -> None:
        super().__init__(directory)
        self._cluster = cluster
        self._hypervisor = hypervisor
        self._image = f'volume-{self.volume_id}'

    def start(self) -> None:
        self._cluster.create_image(self._image, SIZE)

    def stop(self) -> None:
        self._cluster.remove(self._image)

    def share_secret(self, other: Hypervisor) -> None:
        """Let another host have the key, under the same UUID, as the operator does."""
        uuid = self.connection_info()['data']['secret_uuid']
        document = (
            f"<secret ephemeral='yes' private='yes'><uuid>{uuid}</uuid>"
            f"<usage type='ceph'><name>{_CEPH_SECRET}</name></usage></secret>"
        )
        other.change(
            'set the ceph secret',
            lambda libvirt: libvirt.secretDefineXML(document).setValue(self._cluster.key),
        )

    def connection_info(self) -> dict[str, typing.Any]:
        secret = self._hypervisor.secrets.ensure('ceph', _CEPH_SECRET, self._cluster.key)
        return self._cluster.connection_info(self._image, self.volume_id, secret_uuid=secret)

    def grow(self, size: int) -> None:
        self._cluster.resize(self._image, size)

    def users(self) -> int:
        return self._cluster.watchers(self._image)

    def read(self, offset: int, length: int) -> bytes:
        return self._cluster.read(self._image, self.directory)[offset : offset + length]


def _losetup(*arguments: str) -> str:
    return server.run(server.find_tool('losetup', 'mount'), *arguments)


def _opened(device: str) -> int:
    """Return how many QEMUs have a device open."""
    found = 0
    for process in pathlib.Path('/proc').glob('[0-9]*'):
        try:
            if not (process / 'comm').read_text().startswith('qemu-system'):
                continue
            found += any(str(link.readlink()) == device for link in (process / 'fd').iterdir())
        except OSError:
            continue  # it has ended
    return found


def _read(path: pathlib.Path, offset: int, length: int) -> bytes:
    subprocess.run(['sync', str(path)], check=True)
    with path.open('rb') as image:
        image.seek(offset)
        return image.read(length)
