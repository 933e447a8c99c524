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

"""A real Ceph cluster of one monitor and one OSD on loopback, for tests.

It keeps its data in memory, unless it is told to keep them in a file, and
everything else below one directory; nothing is read from or written to
/etc/ceph or /var/lib/ceph.  Without a manager RBD works; only the statistics
stay 0.
"""

import base64
from collections.abc import Mapping
import os
import pathlib
import typing
import uuid

from volumedrivers.testing import server

# Of messenger 2 and 1.  A client takes them as a sign of which to speak; with
# others it tries both, and then a wrong key is no error but a wait of 300 s.
PORTS = (3300, 6789)
_CONF = """\
[global]
fsid = {fsid}
mon_host = [v2:{address}:{port_v2},v1:{address}:{port_v1}]
public_addr = {address}
cluster_addr = {address}
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
# one copy of everything, on the one OSD there is
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mon_data_avail_crit = 1
mon_data = {directory}/mon
osd_data = {directory}/osd
osd_objectstore = {objectstore}
memstore_device_bytes = 2147483648
osd_class_default_list = *
osd_class_load_list = *
# layering only, which every client knows
rbd_default_features = 1
keyring = {directory}/$name.keyring
log_file = {directory}/$name.log
mon_cluster_log_file = {directory}/cluster.log
paxos_propose_interval = 0.05
admin_socket =
run_dir = {directory}
{more}
[osd]
osd_op_num_shards = 2
osd_op_num_threads_per_shard = 1
keyring = {directory}/osd/keyring
"""


class CephCluster:
    """mon.a, osd.0, one pool and the user ``client.cinder``; a context manager.

    :ivar address: one of 127.0.0.0/8 of its own, so that several run at once
    :ivar conf: its ceph.conf
    :ivar fsid: its UUID
    :cvar timeout: seconds for each command
    """

    user = 'cinder'
    timeout: typing.ClassVar[float] = 30

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        pool: str = 'volumes',
        address: str = '',
        objectstore: str = 'memstore',
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare; ``start`` makes and starts it.

        :param address: where it serves; empty: one of 127.0.0.0/8 that is free
        :param objectstore: bluestore keeps the data in a file
        :param settings: more of section [global] of its ceph.conf
        """
        self.directory = pathlib.Path(directory)
        self.pool = pool
        self.fsid = str(uuid.uuid4())
        self.conf = self.directory / 'ceph.conf'
        self.address = address
        self.objectstore = objectstore
        self.more = '\n'.join(f'{name} = {value}' for name, value in (settings or {}).items())
        self.port_v2, self.port_v1 = PORTS
        self._servers: list[server.Server] = []
        # Whatever the caller's environment says about another cluster.
        self._env = {
            name: value for name, value in os.environ.items() if not name.startswith('CEPH_')
        }

    def start(self) -> None:
        """Make the cluster and wait until the pool can be used; a second or two.

        :raises ToolMissing, Busy, DeadlineExceeded, OperationFailed
        """
        mon = server.find_tool('ceph-mon', 'ceph-mon')
        osd = server.find_tool('ceph-osd', 'ceph-osd')
        for name in ('mon', 'osd'):
            (self.directory / name).mkdir(parents=True)
        self.address = self.address or server.free_address(*PORTS)
        self.conf.write_text(_CONF.format(**vars(self)))
        try:
            self._make_keys()
            self._run(
                'monmaptool',
                '--create',
                '--fsid',
                self.fsid,
                '--addv',
                'a',
                f'[v2:{self.address}:{self.port_v2},v1:{self.address}:{self.port_v1}]',
                str(self.directory / 'monmap'),
            )
            self._run(
                mon,
                '-i',
                'a',
                '--mkfs',
                '--monmap',
                str(self.directory / 'monmap'),
                '--keyring',
                str(self.directory / 'mon.keyring'),
            )
            self._serve(mon, 'a')
            osd_uuid = str(uuid.uuid4())
            self.ceph('osd', 'new', osd_uuid)
            self._run(osd, '-i', '0', '--mkfs', '--osd-uuid', osd_uuid)
            self._serve(osd, '0')
            # A client that asks before the OSD is up asks again only after 5 s.
            server.wait_until(
                lambda: '1 up' in self.ceph('osd', 'stat'), what='osd.0', timeout=self.timeout
            )
            self.ceph('osd', 'pool', 'create', self.pool, '8')
            self.rbd('pool', 'init', self.pool)
        except BaseException:
            self.stop()
            raise

    def _make_keys(self) -> None:
        mon_keys = self.directory / 'mon.keyring'
        everything = ('mon', 'allow *', 'osd', 'allow *', 'mds', 'allow *', 'mgr', 'allow *')
        profile = ('mon', 'profile rbd', 'osd', 'profile rbd', 'mgr', 'profile rbd')
        self._make_key(mon_keys, 'mon.', 'mon', 'allow *')
        for path, name, *capabilities in (
            (self.directory / 'client.admin.keyring', 'client.admin', *everything),
            (
                self.directory / 'osd' / 'keyring',
                'osd.0',
                'mon',
                'allow profile osd',
                'osd',
                'allow *',
                'mgr',
                'allow profile osd',
            ),
            (self.keyring, f'client.{self.user}', *profile),
        ):
            self._make_key(path, name, *capabilities)
            self._run('ceph-authtool', str(mon_keys), '--import-keyring', str(path))

    def _make_key(self, path: pathlib.Path, name: str, *capabilities: str) -> None:
        pairs = zip(capabilities[::2], capabilities[1::2], strict=True)
        self._run(
            'ceph-authtool',
            '--create-keyring',
            str(path),
            '--gen-key',
            '-n',
            name,
            *(word for pair in pairs for word in ('--cap', *pair)),
        )

    def _serve(self, program: str, name: str) -> None:
        kind = pathlib.Path(program).name
        daemon = server.Server(
            [program, '-f', '-i', name, '-c', str(self.conf), '--cluster', 'ceph'],
            self.directory / f'{kind}.out',
            self._env,
        )
        self._servers.append(daemon)
        if kind == 'ceph-mon':
            daemon.start(lambda: all(server.listens(port, self.address) for port in PORTS))
        else:
            # That it serves is seen from the cluster.
            daemon.start(lambda: True)

    @property
    def keyring(self) -> pathlib.Path:
        """The keyring file of the user."""
        return self.directory / f'client.{self.user}.keyring'

    @property
    def key(self) -> bytes:
        """The user's key as a libvirt secret holds it (decoded)."""
        for line in self.keyring.read_text().splitlines():
            name, _, value = line.partition('=')
            if name.strip() == 'key':
                return base64.b64decode(value)
        raise ValueError(f'no key in {self.keyring}')

    @property
    def monitors(self) -> list[tuple[str, int]]:
        """The monitor as Cinder names it (messenger 1)."""
        return [(self.address, self.port_v1)]

    def create_image(self, name: str, size: int) -> None:
        """Make an image of ``size`` bytes (whole MiB)."""
        self.rbd('create', '--size', _mebibytes(size), f'{self.pool}/{name}')

    def resize(self, name: str, size: int) -> None:
        """Make the image ``size`` bytes (whole MiB) long."""
        self.rbd('resize', '--no-progress', '--size', _mebibytes(size), f'{self.pool}/{name}')

    def remove(self, name: str) -> None:
        """Remove an image that nobody uses."""
        self.rbd('rm', '--no-progress', f'{self.pool}/{name}')

    def watchers(self, name: str) -> int:
        """Return how many clients have the image open."""
        return self.rbd('status', f'{self.pool}/{name}').count('watcher=')

    def read(self, name: str, directory: pathlib.Path) -> bytes:
        """Return all bytes of the image as the cluster has them."""
        copy = directory / f'{name}.export'
        copy.unlink(missing_ok=True)
        self.rbd('export', '--no-progress', f'{self.pool}/{name}', str(copy))
        return copy.read_bytes()

    def connection_info(
        self,
        name: str,
        volume_id: str = 'c0ffee00-0000-4000-8000-000000000002',
        *,
        secret_uuid: str | None,
    ) -> dict[str, typing.Any]:
        """Return what Cinder would say of the image."""
        data: dict[str, typing.Any] = {
            'name': f'{self.pool}/{name}',
            'hosts': [host for host, _ in self.monitors],
            'ports': [str(port) for _, port in self.monitors],
            'cluster_name': 'ceph',
            'auth_enabled': True,
            'auth_username': self.user,
            'secret_type': 'ceph',
            'secret_uuid': secret_uuid,
            'keyring': None,
            'volume_id': volume_id,
            'access_mode': 'rw',
            'qos_specs': None,
            'encrypted': False,
            'cacheable': False,
            'discard': True,
        }
        return {
            'driver_volume_type': 'rbd',
            'data': data,
            'serial': volume_id,
            'volume_id': volume_id,
            'multiattach': False,
        }

    def ceph(self, *arguments: str) -> str:
        """Run a ceph command as client.admin."""
        return self._run('ceph', *arguments)

    def rbd(self, *arguments: str) -> str:
        """Run an rbd command as client.admin."""
        return self._run('rbd', *arguments)

    def stop(self) -> None:
        """Stop the daemons; what they held is gone with them."""
        while self._servers:
            self._servers.pop().stop()

    def _run(self, program: str, *arguments: str) -> str:
        tool = server.find_tool(program, 'ceph-common')
        conf = () if program in ('ceph-authtool', 'monmaptool') else ('-c', str(self.conf))
        return server.run(tool, *conf, *arguments, env=self._env, timeout=self.timeout)

    def __enter__(self) -> typing.Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def _mebibytes(size: int) -> str:
    whole, rest = divmod(size, 2**20)
    if rest:
        raise ValueError(f'{size} is not a whole number of MiB')
    return str(whole)
