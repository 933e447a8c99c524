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

"""A volume driver of Cinder: each volume is a file, exported by a tgtd of its own.

Cinder loads it by name; nothing of this package imports it.
"""

import binascii
import pathlib
import secrets
import shutil
import subprocess
import tempfile
import threading
import typing

from castellan import key_manager
from cinder import context as cinder_context
from cinder import exception
from cinder import interface
from cinder.volume import configuration
from cinder.volume import driver
from oslo_config import cfg
from oslo_utils import units

from volumedrivers.testing import server
from volumedrivers.testing.tgt import IscsiTarget

OPTIONS = [
    cfg.StrOpt('tgt_directory', help='Where the files of the volumes are.'),
    cfg.IntOpt('tgt_capacity_gb', default=1000, help='Size that is reported; files are sparse.'),
]
cfg.CONF.register_opts(OPTIONS, group=configuration.SHARED_CONF_GROUP)

_USER = 'volumedrivers'


@interface.volumedriver
class TgtDriver(driver.CloneableImageVD, driver.BaseVD):  # type: ignore[misc]
    """iSCSI by tgtd in user space, for QEMU's own initiator.

    The target exists while the volume has a connection: a port of 127.0.0.1
    and a password of its own each time.
    """

    VERSION = '1.0.0'
    CI_WIKI_NAME = 'none'

    def __init__(self, *args: typing.Any, **kwargs: typing.Any) -> None:
        super().__init__(*args, **kwargs)
        self.configuration.append_config_values(OPTIONS)
        self._directory = pathlib.Path(self.configuration.tgt_directory)
        # A socket's path has to be short; that of the files is anybody's.
        self._sockets = tempfile.TemporaryDirectory(prefix='tgt-')
        self._targets: dict[str, IscsiTarget] = {}
        self._lock = threading.Lock()

    @staticmethod
    def get_driver_options() -> list[cfg.Opt]:
        """What Cinder lists in its sample configuration."""
        return OPTIONS

    def do_setup(self, context: object) -> None:
        """Find what is needed."""
        for tool in ('tgtd', 'tgtadm'):
            server.find_tool(tool, 'tgt')

    def check_for_setup_error(self) -> None:
        """Nothing can be wrong that do_setup did not find."""

    def stop(self) -> None:
        """End all targets; the files stay."""
        with self._lock:
            while self._targets:
                self._targets.popitem()[1].stop()
            self._sockets.cleanup()

    def create_volume(self, volume: typing.Any) -> None:
        """Make a sparse file, with a header of LUKS if it is to be encrypted.

        As Cinder's driver for Ceph does it: where QEMU is the client there is
        no device on the host that could be formatted.
        """
        _resize(self._image(volume), volume.size)
        if volume.encryption_key_id:
            manager = key_manager.API(cfg.CONF)
            key = manager.get(cinder_context.get_admin_context(), volume.encryption_key_id)
            _format(self._image(volume), binascii.hexlify(bytes(key.get_encoded() or b'')))

    def create_volume_from_snapshot(self, volume: typing.Any, snapshot: typing.Any) -> None:
        """Copy the file, and make it as long as was asked for."""
        _copy(self._image(snapshot), self._image(volume))
        _resize(self._image(volume), volume.size)

    def create_cloned_volume(self, volume: typing.Any, src_vref: typing.Any) -> None:
        """Copy the file, and make it as long as was asked for."""
        _copy(self._image(src_vref), self._image(volume))
        _resize(self._image(volume), volume.size)

    def delete_volume(self, volume: typing.Any) -> None:
        """Remove the file; it may be gone."""
        self.remove_export(None, volume)
        shutil.rmtree(self._image(volume).parent, ignore_errors=True)

    def create_snapshot(self, snapshot: typing.Any) -> None:
        """Copy the file: what a guest has flushed is in it."""
        _copy(self._image(snapshot.volume), self._image(snapshot))

    def delete_snapshot(self, snapshot: typing.Any) -> None:
        """Remove the copy; it may be gone."""
        shutil.rmtree(self._image(snapshot).parent, ignore_errors=True)

    def revert_to_snapshot(
        self, context: object, volume: typing.Any, snapshot: typing.Any
    ) -> None:
        """Copy it back."""
        _copy(self._image(snapshot), self._image(volume))
        _resize(self._image(volume), volume.size)

    def extend_volume(self, volume: typing.Any, new_size: int) -> None:
        """Make the file longer, and tell a running target so."""
        with self._lock:
            target = self._targets.get(volume.id)
            if target is None:
                _resize(self._image(volume), new_size)
            else:
                target.grow(new_size * units.Gi)

    def validate_connector(self, connector: dict[str, typing.Any]) -> None:
        """:raises InvalidConnectorException: it names no initiator"""
        if not connector.get('initiator'):
            raise exception.InvalidConnectorException(missing='initiator')

    def ensure_export(self, context: object, volume: typing.Any) -> None:
        """Export it again; what the attachment says of port and password is void then."""
        self.create_export(context, volume, None)

    def create_export(self, context: object, volume: typing.Any, connector: object) -> None:
        """Start the target unless it runs."""
        with self._lock:
            if volume.id in self._targets:
                return
            image = self._image(volume)
            target = IscsiTarget(
                image.parent,
                size=image.stat().st_size,
                iqn=f'iqn.2010-10.org.openstack:{volume.name}',
                chap=(_USER, secrets.token_hex(7)),
                control=pathlib.Path(self._sockets.name, volume.id),
            )
            target.start()
            self._targets[volume.id] = target

    def remove_export(self, context: object, volume: typing.Any) -> None:
        """Stop the target, if it runs."""
        with self._lock:
            target = self._targets.pop(volume.id, None)
            if target is not None:
                target.stop()
                pathlib.Path(self._sockets.name, volume.id).rmdir()

    def initialize_connection(
        self, volume: typing.Any, connector: object, **kwargs: object
    ) -> dict[str, typing.Any]:
        """Say where the target is."""
        target = self._targets[volume.id]
        assert target.chap is not None  # noqa: S101 - create_export gives it
        return {
            'driver_volume_type': 'iscsi',
            'data': {
                'target_discovered': False,
                'target_portal': target.portal,
                'target_iqn': target.iqn,
                'target_lun': target.lun,
                'auth_method': 'CHAP',
                'auth_username': target.chap[0],
                'auth_password': target.chap[1],
                'discard': False,
            },
        }

    def terminate_connection(
        self, volume: typing.Any, connector: dict[str, typing.Any] | None, **kwargs: object
    ) -> bool:
        """Tell whether others still have it; then Cinder keeps the export."""
        return len([one for one in volume.volume_attachment if one.connector]) > 1

    def _update_volume_stats(self) -> None:
        name = self.configuration.volume_backend_name
        capacity = float(self.configuration.tgt_capacity_gb)
        self._stats = {
            'volume_backend_name': name,
            'vendor_name': 'volumedrivers',
            'driver_version': self.VERSION,
            'storage_protocol': 'iSCSI',
            'shared_targets': False,
            'pools': [
                {
                    'pool_name': name,
                    'total_capacity_gb': capacity,
                    'free_capacity_gb': capacity,
                    'provisioned_capacity_gb': 0,
                    'reserved_percentage': 0,
                    'thin_provisioning_support': True,
                    'thick_provisioning_support': False,
                    'max_over_subscription_ratio': 20.0,
                    'multiattach': True,
                    'QoS_support': True,
                    'online_extend_support': True,
                }
            ],
        }

    def clone_image(self, *args: object) -> tuple[None, bool]:
        """Images are copied by Cinder."""
        return None, False

    def _image(self, volume: typing.Any) -> pathlib.Path:
        # Also a snapshot's: the names differ in their first word.
        return self._directory / str(volume.name) / 'lun.img'


def _resize(image: pathlib.Path, gigabytes: int) -> None:
    image.parent.mkdir(parents=True, exist_ok=True)
    with image.open('ab') as opened:
        opened.truncate(gigabytes * units.Gi)


def _format(image: pathlib.Path, passphrase: bytes) -> None:
    # The passphrase is worth nothing: not much time is spent on stretching it.
    command = [server.find_tool('cryptsetup', 'cryptsetup-bin'), '--batch-mode', 'luksFormat']
    command += ['--type', 'luks1', '--pbkdf-force-iterations', '1000', '--key-file=-', str(image)]
    subprocess.run(command, input=passphrase, check=True, capture_output=True, timeout=60)


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    server.run('cp', '--sparse=always', '--reflink=auto', str(source), str(target), timeout=600)
