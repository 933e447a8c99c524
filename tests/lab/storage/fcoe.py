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

"""Two Fibre Channel fabrics: Fibre Channel over Ethernet, from one port straight to another.

Each fabric is a cable between two network cards, known by their MAC addresses:
one is the host's adapter, the other one the storage's.  VN2VN needs no switch
(FC-BB-6).
"""

import contextlib
import dataclasses
import pathlib

from tests.lab.storage.configfs import modprobe
from tests.lab.storage.configfs import read
from tests.lab.storage.configfs import write
from tests.lab.storage.server_process import run
from tests.lab.waiting import wait_until

_NET = pathlib.Path('/sys/class/net')
_REMOTE = pathlib.Path('/sys/class/fc_remote_ports')
_LIBFCOE = pathlib.Path('/sys/module/libfcoe/parameters')
_MTU = 2500  # bytes; a whole frame of Fibre Channel
_NO_TARGET = '-1'
_TABLE = 'lab_fcoe_{}'
# Ethernet types of FCoE and of FIP, by which its ports find each other.
_TYPES = '{ 0x8906, 0x8914 }'


@dataclasses.dataclass(frozen=True)
class Fabric:
    """One cable.

    :ivar host: MAC address of the host's card
    :ivar target: MAC address of the storage's
    """

    name: str
    host: str
    target: str

    @property
    def host_port(self) -> str:
        """The host's port name (WWPN), 16 digits."""
        return wwpn(self.host)

    @property
    def target_port(self) -> str:
        """The storage's port name (WWPN), 16 digits."""
        return wwpn(self.target)

    def cards(self) -> tuple[str, str]:
        """Return the names of the two network cards, the storage's first.

        :raises LookupError: this machine has no such card
        """
        return card(self.target), card(self.host)


FABRICS = (
    Fabric('a', '52:54:00:fc:a0:00', '52:54:00:fc:a0:01'),
    Fabric('b', '52:54:00:fc:b0:00', '52:54:00:fc:b0:01'),
)


def wwpn(mac: str) -> str:
    """Return the port name that FCoE makes of a MAC address: NAA 2."""
    return f'2000{mac.replace(":", "")}'


def with_colons(name: str) -> str:
    """Return a port name as LIO and sysfs of a fabric write it: 20:00:..."""
    return ':'.join(name[i : i + 2] for i in range(0, len(name), 2))


def card(mac: str) -> str:
    """Return the network card with this address.

    :raises LookupError: there is none
    """
    for address in sorted(_NET.glob('*/address')):
        if read(address) == mac:
            return address.parent.name
    raise LookupError(f'no network card has the address {mac}')


def plug_in() -> None:
    """Make the ports, and wait until each host's port has its target; twice is fine.

    The targets have to be in LIO before: a port that has logged in as an
    initiator only is never asked for units again.
    """
    modprobe('libfc', 'libfcoe', 'fcoe', 'sd_mod')
    new = [name for fabric in FABRICS for name in fabric.cards() if not _has_port(name)]
    for name in new:
        # A frame that arrives while the port is being made is the end of
        # libfcoe 6.1: it follows a pointer that is not there yet.
        run('ip', 'link', 'set', name, 'down')
        run('ip', 'link', 'set', name, 'mtu', str(_MTU))
    for name in new:
        write(_LIBFCOE / 'create_vn2vn', name)
    for fabric in FABRICS:
        for name in fabric.cards():
            run('ip', 'link', 'set', name, 'up')
    for fabric in FABRICS:
        wait_until(
            lambda fabric=fabric: is_logged_in(fabric),
            f'login of the host into fabric {fabric.name}',
            timeout=180,
        )


def is_logged_in(fabric: Fabric) -> bool:
    """Say whether the host can ask the target of a fabric for units."""
    for port in _REMOTE.glob('rport-*') if _REMOTE.is_dir() else ():
        if (
            read(port / 'port_name') == f'0x{fabric.target_port}'
            and read(port / 'port_state') == 'Online'
            and 'FCP Target' in (read(port / 'roles') or '')
        ):
            return read(port / 'scsi_target_id') != _NO_TARGET
    return False


def pull(fabric: Fabric) -> None:
    """Pull the cable: both ends lose the link at once."""
    for name in fabric.cards():
        run('ip', 'link', 'set', name, 'down')


def drop(fabric: Fabric) -> None:
    """Let frames vanish in both directions, and wait until the host has lost the target."""
    table = _TABLE.format(fabric.name)
    chains = ''.join(
        f'  chain {name} {{\n'
        f'    type filter hook ingress device "{name}" priority 0;\n'
        f'    ether type {_TYPES} drop\n'
        '  }\n'
        for name in fabric.cards()
    )
    run('nft', '-f', '-', input=f'table netdev {table} {{\n{chains}}}\n'.encode())
    wait_until(lambda: not is_logged_in(fabric), f'the loss of fabric {fabric.name}', timeout=180)


def pass_all() -> None:
    """Let frames pass again."""
    for fabric in FABRICS:
        table = _TABLE.format(fabric.name)
        text = f'table netdev {table} {{}}\ndelete table netdev {table}\n'
        run('nft', '-f', '-', input=text.encode())


def _has_port(name: str) -> bool:
    with contextlib.suppress(StopIteration):
        next((_NET / name).glob('ctlr_*'))
        return True
    return False
