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

"""iSCSI sessions of this host and the disks behind them, read from sysfs.

Format: the kernel's drivers/scsi/scsi_transport_iscsi.c.  A session's unit is
a directory ``target1:0:0/1:0:0:<lun>`` below it; a unit that is no disk, such
as the controller that some targets show as LUN 0, has no ``block`` in it.
"""

import dataclasses
import os
import re

from volumedrivers.host.sysfs import listdir
from volumedrivers.host.sysfs import read

_SESSION = re.compile(r'session\d+')
_UNIT = re.compile(r'\d+:\d+:\d+:(\d+)')


@dataclasses.dataclass(frozen=True)
class Session:
    """A login to one target through one portal.

    :ivar name: the kernel's, such as session3
    :ivar target: the IQN
    :ivar portal: ``address:port``, as iscsiadm lists it; None: not known (yet)
    :ivar disks: (LUN, kernel's name) of each disk
    """

    name: str
    target: str | None
    portal: str | None
    disks: tuple[tuple[int, str], ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether no disk is behind it."""
        return not self.disks


def sessions(sysfs: str = '/sys') -> tuple[Session, ...]:
    """Return all sessions of this host.

    :raises OSError: the kernel did not say
    """
    root = os.path.join(sysfs, 'class/iscsi_session')
    return tuple(
        Session(
            name,
            read(root, name, 'targetname'),
            _portal(os.path.join(sysfs, 'class/iscsi_connection'), name),
            _disks(os.path.join(root, name, 'device')),
        )
        for name in listdir(root)
        if _SESSION.fullmatch(name)
    )


def _portal(connections: str, session: str) -> str | None:
    # One session may have several connections by the standard; Linux has one.
    connection = os.path.join(connections, f'connection{session.removeprefix("session")}:0')
    address = read(connection, 'persistent_address')
    port = read(connection, 'persistent_port')
    if address is None or port is None:
        return None
    address = address.lower()
    return f'[{address}]:{port}' if ':' in address else f'{address}:{port}'


def _disks(device: str) -> tuple[tuple[int, str], ...]:
    return tuple(
        (int(unit[1]), disk)
        for target in listdir(device)
        if target.startswith('target')
        for entry in listdir(device, target)
        if (unit := _UNIT.fullmatch(entry)) is not None
        for disk in listdir(device, target, entry, 'block')
    )
