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

"""Which portal, port or controller a kernel device is reached through."""

import dataclasses
import os
import re

from volumedrivers.host import sysfs

_SESSION = re.compile(r'/(session[0-9]+)/')
_REMOTE_PORT = re.compile(r'/(rport-[0-9]+:[0-9]+-[0-9]+)/')
# nvme0c1n1 is the path of head nvme0n1 through controller nvme1.
_NVME = re.compile(r'nvme([0-9]+)(?:c([0-9]+))?n[0-9]+')


@dataclasses.dataclass(frozen=True)
class Route:
    """What sysfs says; None where it says nothing.

    :ivar transport: iscsi, fc, tcp, rdma ...
    :ivar portal: address:port, or the WWPN of the target's port
    :ivar target: IQN, or NQN
    """

    transport: str | None = None
    portal: str | None = None
    target: str | None = None


def find(name: str, *, sys: str = '/sys') -> Route:
    """Return the route of a device by its kernel name, such as sda or nvme0c1n1."""
    nvme = _NVME.fullmatch(name)
    if nvme is not None:
        return _nvme(os.path.join(sys, 'class/nvme', f'nvme{nvme[2] or nvme[1]}'))
    device = os.path.realpath(os.path.join(sys, 'block', name, 'device')) + '/'
    session = _SESSION.search(device)
    if session is not None:
        return _iscsi(sys, session[1])
    port = _REMOTE_PORT.search(device)
    if port is not None:
        return Route('fc', sysfs.read(sys, 'class/fc_remote_ports', port[1], 'port_name'))
    return Route()


def _iscsi(sys: str, session: str) -> Route:
    # One session may have several connections by the standard; Linux has one.
    connection = os.path.join(
        sys, 'class/iscsi_connection', f'connection{session.removeprefix("session")}:0'
    )
    address = sysfs.read(connection, 'persistent_address')
    port = sysfs.read(connection, 'persistent_port')
    if address is not None and ':' in address:
        address = f'[{address}]'
    portal = f'{address}:{port}' if address and port else address
    return Route('iscsi', portal, sysfs.read(sys, 'class/iscsi_session', session, 'targetname'))


def _nvme(controller: str) -> Route:
    # address: traddr=10.0.0.1,trsvcid=4420,src_addr=...
    said = dict(
        part.strip().partition('=')[::2]
        for part in (sysfs.read(controller, 'address') or '').split(',')
    )
    address = said.get('traddr')
    if address is not None and ':' in address and said.get('trsvcid'):
        address = f'[{address}]'
    portal = f'{address}:{said["trsvcid"]}' if address and said.get('trsvcid') else address
    return Route(sysfs.read(controller, 'transport'), portal, sysfs.read(controller, 'subsysnqn'))
