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

"""Volumes of somebody's Cinder, made for the tests and deleted after them."""

from collections.abc import Callable
from collections.abc import Mapping
import math
import typing

from oslo_config import cfg

from tests.lab.hosts.description import Cinder
from tests.lab.hosts.description import Volume
from tests.lab.storage.backend import Unreachable
from tests.lab.waiting import wait_until
from volumedrivers import exception
from volumedrivers.cinder import attachments
from volumedrivers.cinder import connection
from volumedrivers.cinder import volumes
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo

GIB = 1 << 30
NAME = 'volumedrivers-lab'
# Attachments, complete; and extending a volume that is in use.
ATTACHMENTS = '3.44'
TIMEOUT = 600.0  # seconds
_PASSING = ('creating', 'attaching', 'detaching', 'deleting', 'extending', 'reserved')


class CinderVolumes:
    """Makes volumes of a type, and attachments of them to the host under test.

    :param properties: returns the host's connector properties
    """

    def __init__(self, cinder: Cinder, properties: Callable[[], dict[str, typing.Any]]) -> None:
        conf = cfg.ConfigOpts()
        opts.register_opts(conf)
        conf([], project='volumedrivers', default_config_files=[])
        self._cinder = cinder
        self._properties = properties
        self._storage = connection.connect(conf, cinder.cloud)
        self._attachments: dict[str, str] = {}

    def make(self, size: int) -> Volume:
        """Make a volume of so many bytes at least, and export it to the host.

        :raises VolumeDriversError
        """
        self._storage.require(ATTACHMENTS, 'the attachments of the lab')
        proxy = self._storage.proxy
        made = self._storage.tell(
            proxy.create_volume,
            name=NAME,
            size=math.ceil(size / GIB),
            volume_type=self._cinder.volume_type,
        )
        self._attachments[made.id] = ''
        volume = volumes.wait(self._storage, made.id, _PASSING, seconds=TIMEOUT)
        volumes.require(volume, ('available',))
        # Of no instance: Cinder asks Nova before it deletes that of one.
        attachment = self._storage.tell(proxy.create_attachment, made.id)
        self._attachments[made.id] = attachment.id
        exported = self._storage.ask(
            proxy.update_attachment, attachment.id, connector=self._properties()
        )
        self._storage.ask(proxy.complete_attachment, attachment.id)
        info = connection_info(exported.connection_info or {}, made.id)
        return Volume(
            volume_id=made.id,
            size=volume.size * GIB,
            connection_info=info,
            identity=None,
            image=None,
            may_be_overwritten=True,
            secrets=tuple(ConnectionInfo.parse(info).secrets()),
        )

    def grow(self, volume_id: str, size: int) -> None:
        """Let a volume that is in use grow.

        :raises Unreachable: Cinder cannot
        """
        gib = math.ceil(size / GIB)
        try:
            self._storage.ask(self._storage.proxy.extend_volume, volume_id, gib)
        except exception.CinderError as error:
            raise Unreachable(f'Cinder does not extend a volume in use: {error}') from error

        def has_grown() -> bool:
            found = volumes.get(self._storage, volume_id)
            return found.size == gib and found.status not in _PASSING

        wait_until(has_grown, f'Cinder to extend volume {volume_id}', timeout=TIMEOUT)

    def delete(self, volume_id: str) -> None:
        """Take attachment and volume away; once more is fine."""
        attachment = self._attachments.pop(volume_id, None)
        try:
            if attachment:
                attachments.delete(self._storage, attachment, instance=None)
            volumes.wait(self._storage, volume_id, _PASSING, seconds=TIMEOUT)
            self._storage.ask(self._storage.proxy.delete_volume, volume_id)
        except (exception.NotInCinder, exception.VolumeNotFound):
            # It is gone, as it has to be.
            return

    def close(self) -> None:
        """Delete all that were made."""
        for volume_id in list(self._attachments):
            self.delete(volume_id)


def connection_info(answer: Mapping[str, typing.Any], volume_id: str) -> dict[str, typing.Any]:
    """Return the connection_info in an attachment, where type and data are in one level."""
    data = dict(answer)
    kind = data.pop('driver_volume_type', None)
    data.pop('attachment_id', None)
    return {
        'driver_volume_type': kind,
        'data': data,
        'serial': volume_id,
        'volume_id': volume_id,
    }
