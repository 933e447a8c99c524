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
cause, from which the secrets of the connection were taken out (brick_errors);
so they are of what os-brick logs (brick_logs).
"""

from collections.abc import Callable
from collections.abc import Mapping
import copy
import logging
import typing

from oslo_config import cfg

from volumedrivers import exception
from volumedrivers.host import bootstrap
from volumedrivers.host import brick_errors
from volumedrivers.host import brick_logs

LOG = logging.getLogger(__name__)

# What LightOS's connector waits for a device, also for one that is only to be flushed and
# removed: a minute, where what is on the host is seen at the first look.
_WAIT = 'WAIT_DEVICE_TIMEOUT'
_WAIT_AT_REMOVAL = 1  # seconds


class Brick:
    """An os-brick connector of one protocol with fixed options.

    ``Brick('ISCSI', conf, use_multipath=True, device_scan_attempts=5)``;
    keyword arguments go to InitiatorConnector.factory as they are.
    """

    def __init__(self, protocol: str, conf: cfg.ConfigOpts, **options: object) -> None:
        self.protocol = protocol
        self.conf = conf
        self.options = options

    def connect(
        self,
        driver_volume_type: str,
        volume_id: str | None,
        properties: Mapping[str, object],
    ) -> dict[str, typing.Any]:
        """Bring a volume to this host.

        :param properties: connection_info's data, with secrets in the clear;
            os-brick gets a copy
        :returns: os-brick's device_info; its ``path`` is a kernel name for
            some protocols, and for RBD without a local attach an object
        :raises VolumeDeviceNotFound: no device appeared; it may be tried again
        :raises MisconfiguredHost: this host cannot do it
        :raises ConnectFailed
        """
        call = self._call(driver_volume_type, volume_id, properties)
        connector = self._connector(call)
        try:
            with brick_logs.without(call.secrets):
                found = connector.connect_volume(_own(properties))
        except Exception as error:
            brick_errors.scrub(error, call.secrets)
            raise brick_errors.of_connect(error, call) from error
        if not found:
            raise exception.VolumeDeviceNotFound(
                volume_id=volume_id, reason='os-brick returned no device'
            )
        return dict(found)

    def disconnect(
        self,
        driver_volume_type: str,
        volume_id: str | None,
        properties: Mapping[str, object],
        device_info: Mapping[str, object] | None,
        *,
        force: bool,
    ) -> None:
        """Remove a volume from this host.

        :param device_info: what connect returned
        :param force: remove it although what is not written yet is lost; then
            a flush that fails is only logged
        :raises VolumeNotConnected: os-brick found no device; look whether
            something else is left
        :raises FlushFailed: nothing was removed
        :raises DisconnectFailed
        """
        call = self._call(driver_volume_type, volume_id, properties, device_info)
        connector = self._connector(call)
        if hasattr(connector, _WAIT):
            setattr(connector, _WAIT, _WAIT_AT_REMOVAL)
        try:
            with brick_logs.without(call.secrets):
                connector.disconnect_volume(
                    _own(properties),
                    None if device_info is None else _own(device_info),
                    force=force,
                )
        except Exception as error:
            brick_errors.scrub(error, call.secrets)
            ours = brick_errors.of_disconnect(error, call, force=force)
            if ours is not None:
                raise ours from error
            LOG.warning(
                'volume %s was removed by force; on the way: %s',
                volume_id,
                brick_errors.describe(error, call.secrets),
            )

    def extend(
        self, driver_volume_type: str, volume_id: str | None, properties: Mapping[str, object]
    ) -> int | None:
        """Make this host see the new size of a volume.

        :returns: the size in bytes; None where os-brick does not know it
        :raises ExtendVolumeNotSupported: the protocol has no such thing
        :raises ExtendVolumeFailed: for one, a path of several is down
        """
        call = self._call(driver_volume_type, volume_id, properties)
        connector = self._connector(call)
        try:
            with brick_logs.without(call.secrets):
                size = connector.extend_volume(_own(properties))
        except Exception as error:
            brick_errors.scrub(error, call.secrets)
            raise brick_errors.of_extend(error, call) from error
        return None if size is None else int(size)

    def _call(
        self, driver_volume_type: str, volume_id: str | None, *given: object
    ) -> brick_errors.Call:
        secrets = tuple(set(brick_errors.secrets_of(given)))
        return brick_errors.Call(self.protocol, driver_volume_type, volume_id, secrets)

    def _connector(self, call: brick_errors.Call) -> typing.Any:
        connector = bootstrap.load_os_brick()
        try:
            return connector.InitiatorConnector.factory(
                self.protocol, bootstrap.root_helper(self.conf), **self.options
            )
        except Exception as error:
            brick_errors.scrub(error, call.secrets)
            raise brick_errors.of_factory(error, call) from error


def under_connect_lock(function: Callable[[], None]) -> None:
    """Call a function while no connector of this host connects or disconnects.

    It is os-brick's own lock, which its iSCSI, Fibre Channel and NVMe
    connectors hold, also in other processes.
    """
    bootstrap.load_os_brick()
    from os_brick.initiator.connectors import base  # noqa: PLC0415

    base.synchronized('connect_volume', external=True)(function)()


def _own(properties: Mapping[str, object]) -> dict[str, typing.Any]:
    """Return a copy that os-brick may change, of plain types."""
    return {key: _plain(value) for key, value in properties.items()}


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    return str(value) if isinstance(value, str) else copy.deepcopy(value)
