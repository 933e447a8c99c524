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

"""Ceph: images of one pool, with cephx, opened by librbd in QEMU or mapped by the kernel."""

import functools
import pathlib
import shutil
import typing
import uuid

import libvirt

from tests.lab.storage import backend
from tests.lab.storage import image_file
from tests.lab.storage import networks
from tests.lab.storage import packet_filter
from tests.lab.storage.ceph_cluster import LabCluster
from tests.lab.storage.cinder_info import connection_info
from tests.lab.storage.configfs import modprobe
from tests.lab.storage.records import Records
from tests.lab.waiting import wait_until
from volumedrivers.testing import ceph

ADDRESS = backend.NETWORKS[0]
OSD_PORTS = '6800-7300'
ETC = pathlib.Path('/etc/ceph')
LIBVIRT = 'qemu:///system'
SECRETS = pathlib.Path('/etc/libvirt/secrets')
# A client that has died without a word is a watcher for so long.
WATCH_TIMEOUT = 30.0  # seconds

CLIENT_CONFIGURATION = """\
[global]
fsid = {fsid}
mon_host = [v2:{address}:{port_v2},v1:{address}:{port_v1}]
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
# layering only, which every client knows
rbd_default_features = 1
"""


class CephBackend(backend.Backend):
    """One monitor and one OSD, whose data are in a file."""

    name = 'ceph'
    faults = ('portal drops', 'portal refuses', 'server hangs', 'daemon killed')

    def __init__(self, state: pathlib.Path = backend.STATE) -> None:
        self.state = state / self.name
        self.records = Records(self.state / 'volumes')

    @functools.cached_property
    def cluster(self) -> LabCluster:
        """The cluster; that of before if there was one."""
        return LabCluster(self.state / 'cluster', ADDRESS)

    @functools.cached_property
    def secret_uuid(self) -> str:
        """The libvirt secret with the key; of this installation alone."""
        records = Records(self.state)
        try:
            return typing.cast(str, records.load('secret')['uuid'])
        except KeyError:
            records.save('secret', {'uuid': str(uuid.uuid4())})
            return typing.cast(str, records.load('secret')['uuid'])

    def up(self) -> None:
        networks.up()
        modprobe('rbd')
        self.state.mkdir(parents=True, exist_ok=True)
        self.cluster.up()
        self._configure_client()
        self.define_secret()

    def is_up(self) -> bool:
        return self.cluster.is_up()

    def make_volume(
        self,
        volume_id: str,
        size: int,
        *,
        keyring: bool = False,
        encrypted: bool = False,
        formatted_for: str | None = None,
        **variant: typing.Any,
    ) -> 'RbdVolume':
        """Make an image.

        :param keyring: Cinder sends the key, too
        :param formatted_for: passphrase, where it is to be one of LUKS version 1
        """
        if variant:
            raise backend.Unreachable(f'{self.name} has no {", ".join(sorted(variant))}')
        self.records.save(volume_id, {'keyring': keyring, 'encrypted': encrypted, 'size': size})
        volume = self.find_volume(volume_id)
        self.cluster.create_image(volume.image, size)
        if formatted_for is not None:
            volume.write(0, image_file.luks_header(formatted_for))
        return volume

    def find_volume(self, volume_id: str) -> 'RbdVolume':
        volume = RbdVolume(self, volume_id)
        self.define_secret()
        return volume

    def break_(self, fault: str, **where: typing.Any) -> None:
        """Break it.

        :param where: ``daemon='mon'``; without it the OSD is killed
        """
        if fault in ('portal drops', 'server hangs'):
            packet_filter.drop(self.name, [ADDRESS], (*ceph.PORTS, OSD_PORTS))
        elif fault == 'portal refuses':
            packet_filter.refuse(self.name, [ADDRESS], (*ceph.PORTS, OSD_PORTS))
        elif fault == 'daemon killed':
            self.cluster.kill(where.get('daemon', 'osd'))
        else:
            super().break_(fault, **where)

    def mend(self) -> None:
        packet_filter.clear(self.name)
        self.up()

    def _configure_client(self) -> None:
        """Let this host be a client, as its operator would: ceph.conf and the user's keyring."""
        ETC.mkdir(exist_ok=True)
        (ETC / 'ceph.conf').write_text(CLIENT_CONFIGURATION.format(**vars(self.cluster)))
        keyring = ETC / f'ceph.client.{self.cluster.user}.keyring'
        keyring.touch(mode=0o600)
        shutil.copyfile(self.cluster.keyring, keyring)

    def define_secret(self) -> None:
        """Give libvirt the user's key, as an operator does once for each host."""
        try:
            connection = libvirt.open(LIBVIRT)
        except libvirt.libvirtError:
            # It does not run yet; it will read them.
            self._write_secret()
            return
        try:
            connection.secretDefineXML(self._secret_document).setValue(self.cluster.key)
        finally:
            connection.close()

    def _write_secret(self) -> None:
        """Write what libvirt itself would write of the secret."""
        SECRETS.mkdir(mode=0o700, parents=True, exist_ok=True)
        for suffix, text in (('xml', self._secret_document), ('base64', self.cluster.key_text)):
            file = SECRETS / f'{self.secret_uuid}.{suffix}'
            file.touch(mode=0o600)
            file.write_text(text)

    @property
    def _secret_document(self) -> str:
        return (
            "<secret ephemeral='no' private='yes'>"
            f'<uuid>{self.secret_uuid}</uuid>'
            f"<usage type='ceph'><name>client.{self.cluster.user} secret</name></usage></secret>"
        )


class RbdVolume(backend.Volume):
    """One image.

    :ivar record: size, encrypted, keyring
    """

    def __init__(self, server: CephBackend, volume_id: str) -> None:
        self.server = server
        self.cluster = server.cluster
        self.volume_id = volume_id
        self.record = server.records.load(volume_id)

    @property
    def size(self) -> int:  # type: ignore[override]
        return typing.cast(int, self.record['size'])

    @property
    def image(self) -> str:
        return f'volume-{self.volume_id}'

    def connection_info(self) -> dict[str, typing.Any]:
        data = {
            'name': f'{self.cluster.pool}/{self.image}',
            'hosts': [host for host, _ in self.cluster.monitors],
            'ports': [str(port) for _, port in self.cluster.monitors],
            'cluster_name': 'ceph',
            'auth_enabled': True,
            'auth_username': self.cluster.user,
            'secret_type': 'ceph',
            'secret_uuid': self.server.secret_uuid,
            'discard': True,
            'keyring': self.cluster.keyring.read_text() if self.record['keyring'] else None,
        }
        return connection_info('rbd', self.volume_id, data, encrypted=self.record['encrypted'])

    def secrets(self) -> list[str]:
        return [self.cluster.key_text]

    def read(self, offset: int, length: int) -> bytes:
        with self.cluster.image_opened(self.image, read_only=True) as image:
            return bytes(image.read(offset, length))

    def write(self, offset: int, data: bytes) -> None:
        with self.cluster.image_opened(self.image) as image:
            image.write(data, offset)
            image.flush()

    def grow(self, size: int) -> None:
        self.record['size'] = size
        self.server.records.save(self.volume_id, self.record)
        self.cluster.resize(self.image, size)

    def identity(self) -> str:
        return f'rbd:{self.cluster.fsid}/{self.cluster.pool}/{self.image}'

    def seen_by_target(self) -> list[str]:
        return [f'watched by {address}' for address in self.cluster.watching(self.image)]

    def delete(self) -> None:
        try:
            self.server.records.load(self.volume_id)
        except KeyError:
            return
        # Of a host whose power was cut.
        wait_until(
            lambda: not self.seen_by_target(),
            f'the watchers of {self.image} to be gone',
            timeout=2 * WATCH_TIMEOUT,
            interval=1,
        )
        self.cluster.remove(self.image)
        self.server.records.forget(self.volume_id)
