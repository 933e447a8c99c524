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

"""NVMe-oF controllers of this host, read from sysfs.

Format: Documentation/ABI/testing/sysfs-nvme and drivers/nvme/host/fabrics.c,
which writes ``address`` as ``traddr=10.0.0.1,trsvcid=4420[,...]``.
"""

from collections.abc import Collection
import os
import re

from volumedrivers.host.sysfs import listdir
from volumedrivers.host.sysfs import read

_CONTROLLER = re.compile(r'nvme\d+')
_NAMESPACE = re.compile(r'nvme\d+(c\d+)?n\d+')


def idle_controllers(
    nqn: str, portals: Collection[tuple[str, str]], *, sysfs: str = '/sys'
) -> tuple[str, ...]:
    """Return the connected controllers of a subsystem that lead to no namespace.

    :param nqn: the subsystem's name
    :param portals: (address, port) of those that may be returned; port ``0``
        is any, for Fibre Channel, which has none
    """
    return tuple(
        name
        for name, namespaces in controllers(nqn, portals, sysfs=sysfs).items()
        if not namespaces
    )


def controllers(
    nqn: str, portals: Collection[tuple[str, str]], *, sysfs: str = '/sys'
) -> dict[str, frozenset[str]]:
    """Return the namespaces that lead through each controller, by its name.

    The parameters are those of idle_controllers; a namespace is called as its
    block device is, such as nvme0n1.
    """
    root = os.path.join(sysfs, 'class', 'nvme')
    return {
        name: frozenset(
            # nvme0c1n2 is the way to nvme0n2 through controller nvme1.
            re.sub(r'c\d+', '', entry)
            for entry in listdir(root, name)
            if _NAMESPACE.fullmatch(entry)
        )
        for name in listdir(root)
        if _CONTROLLER.fullmatch(name)
        and read(root, name, 'subsysnqn') == nqn
        and _leads_to(read(root, name, 'address') or '', portals)
    }


def _leads_to(address: str, portals: Collection[tuple[str, str]]) -> bool:
    fields = dict(field.partition('=')[::2] for field in address.split(','))
    host, port = fields.get('traddr', '').lower(), fields.get('trsvcid', '').strip()
    return (host, port) in portals or (host, '0') in portals
