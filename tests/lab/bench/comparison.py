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

"""What a driver of the package takes, beside os-brick alone, on the same volume."""

import copy
import time
import typing

from tests.lab.bench.bench import make_conf
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import bootstrap
from volumedrivers.libvirt.client_choice import ClientChoiceDriver
from volumedrivers.libvirt.context import make_context
from volumedrivers.libvirt.registry import Registry

ATTACHMENT = 'comparison'

T = typing.TypeVar('T')


class Comparison:
    """Connects and disconnects a volume by turns; a session of the RPC.

    :param options: of the group [volumedrivers]
    """

    def __init__(self, options: dict[str, typing.Any]) -> None:
        self.conf = make_conf(options)
        self.registry = Registry(make_context(self.conf))

    def rounds(
        self, connection_info: dict[str, typing.Any], count: int, protocol: str
    ) -> dict[str, list[float]]:
        """Return the seconds of each round: ours and os-brick's, connect and disconnect.

        :param protocol: os-brick's name of the connector
        """
        driver: typing.Any = self.registry.get(connection_info['driver_volume_type'])
        if isinstance(driver, ClientChoiceDriver):
            driver = driver.client()
        brick = bootstrap.load_os_brick().InitiatorConnector.factory(
            protocol, bootstrap.root_helper(self.conf), **driver.connector_options()
        )
        seconds: dict[str, list[float]] = {}

        def timed(
            name: str, do: typing.Callable[..., T], *arguments: object, **named: object
        ) -> T:
            began = time.monotonic()
            found = do(*arguments, **named)
            seconds.setdefault(name, []).append(time.monotonic() - began)
            return found

        info = ConnectionInfo.parse(connection_info)
        for _ in range(count):
            properties = copy.deepcopy(connection_info['data'])
            device = timed('connect, os-brick', brick.connect_volume, properties)
            timed('disconnect, os-brick', brick.disconnect_volume, properties, device)
            volume = timed('connect', driver.connect_volume, info, ATTACHMENT)
            timed('disconnect', driver.disconnect_volume, info, ATTACHMENT, volume=volume)
        return seconds
