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

"""The one place that calls os-brick: fresh connectors, our errors.

os-brick keeps state on its connectors, changes the dictionaries it is given
and raises a zoo of exceptions; here each call gets a new connector and a copy,
and what it raises becomes an exception of this package with the raw one as its
cause.
"""

import typing
from collections.abc import Mapping

from oslo_config import cfg


class Brick:
    """An os-brick connector of one protocol with fixed options.

    ``Brick('ISCSI', conf, use_multipath=True, device_scan_attempts=5)``;
    keyword arguments go to InitiatorConnector.factory as they are.
    """

    def __init__(self, protocol: str, conf: cfg.ConfigOpts, **options: object) -> None:
        self.protocol = protocol
        self.conf = conf
        self.options = options

    def connect(self, driver_volume_type: str, volume_id: str | None,
                properties: Mapping[str, object]) -> dict[str, typing.Any]:
        """:raises VolumeDeviceNotFound, ConnectFailed, MisconfiguredHost"""
        raise NotImplementedError

    def disconnect(self, driver_volume_type: str, volume_id: str | None,
                   properties: Mapping[str, object],
                   device_info: Mapping[str, object] | None, *, force: bool) -> None:
        """:raises VolumeNotConnected, FlushFailed, DisconnectFailed"""
        raise NotImplementedError

    def extend(self, driver_volume_type: str, volume_id: str | None,
               properties: Mapping[str, object]) -> int | None:
        """:raises ExtendVolumeFailed, ExtendVolumeNotSupported"""
        raise NotImplementedError
