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

"""The two storage networks, each a cable with both its ends in this machine.

``storage1`` (10.10.1.1, fd00:10:10:1::1) is the target's end of the first one,
``host1`` (10.10.1.2, ::2) the host's.  The kernel would hand on what it sends
to an address of its own without any cable; rules let it go through the cable,
so that packets can be lost there, the link can go down, and RDMA, which takes
part in no loopback of the network, has two devices.
"""

import pathlib
import threading

from tests.lab.storage.configfs import modprobe
from tests.lab.storage.configfs import read
from tests.lab.storage.configfs import write
from tests.lab.storage.server_process import run
from tests.lab.waiting import wait_until

NUMBERS = (1, 2)
IPV4 = '10.10.{}.{}'
IPV6 = 'fd00:10:10:{}::{}'
# RDMA and iSCSI are faster in larger packets, the more so without hardware.
MTU = 9000

_NET = pathlib.Path('/sys/class/net')
_SYSCTL = pathlib.Path('/proc/sys/net')
_RDMA = pathlib.Path('/sys/class/infiniband')
_TARGET, _HOST = 1, 2  # last part of an address
_TABLE = 100  # of routes; one a network
_FIRST, _LOCAL = 1, 10  # preference of rules
_SIDES = (_TARGET, _HOST)
_SETTINGS = {
    'ipv4/conf/{}/accept_local': 1,
    'ipv4/conf/{}/rp_filter': 0,
    'ipv4/conf/{}/arp_ignore': 1,
    'ipv4/conf/{}/arp_announce': 2,
    'ipv6/conf/{}/accept_dad': 0,
    'ipv6/conf/{}/keep_addr_on_down': 1,
}
_lock = threading.Lock()


def end(number: int, side: int) -> str:
    """Return the name of one end of a cable."""
    return f'{"storage" if side == _TARGET else "host"}{number}'


ENDS = tuple(end(number, side) for number in NUMBERS for side in _SIDES)


def up() -> None:
    """Lay the cables, or what is missing of them; twice is fine."""
    with _lock:
        new = [number for number in NUMBERS if not (_NET / end(number, _TARGET)).exists()]
        _batch('-4', [_cable(number) for number in new])
        for name in ENDS:
            for setting, value in _SETTINGS.items():
                write(_SYSCTL / setting.format(name), value)
        for family, form in (('-4', IPV4), ('-6', IPV6)):
            _batch(family, _ends(form) + _links() + _routes(form) + _missing_rules(family, form))
    wait_until(is_up, 'the links of the storage networks')


def is_up() -> bool:
    """Say whether both cables are there and connected."""
    return all(read(_NET / name / 'operstate') == 'up' for name in ENDS)


def rdma_up() -> None:
    """Let every end of the networks have an RDMA device; twice is fine."""
    up()
    with _lock:
        modprobe('rdma_rxe', 'rdma_cm', 'rdma_ucm', 'ib_uverbs')
        for name in ENDS:
            device = f'rxe_{name}'
            if not (_RDMA / device).exists():
                run('rdma', 'link', 'add', device, 'type', 'rxe', 'netdev', name)
    wait_until(rdma_is_up, 'the RDMA devices to be active')


def rdma_is_up() -> bool:
    """Say whether all RDMA devices are active."""
    states = [read(_RDMA / f'rxe_{name}' / 'ports/1/state') or '' for name in ENDS]
    return all('ACTIVE' in state for state in states)


def pull(number: int) -> None:
    """Pull the plug of the target's end."""
    run('ip', 'link', 'set', end(number, _TARGET), 'down')


def _cable(number: int) -> str:
    return f'link add {end(number, _TARGET)} type veth peer name {end(number, _HOST)}'


def _ends(form: str) -> list[str]:
    prefix = '/64 nodad' if ':' in form else '/24'
    return [
        f'address replace {form.format(number, side)}{prefix} dev {end(number, side)}'
        for number in NUMBERS
        for side in _SIDES
    ]


def _links() -> list[str]:
    return [f'link set {name} mtu {MTU} up' for name in ENDS]


def _routes(form: str) -> list[str]:
    """Let what this machine sends to one end leave by the other, where a rule says so."""
    return [
        f'route replace {form.format(number, side)} dev {end(number, other)}'
        f' src {form.format(number, other)} table {_TABLE + number}'
        for number in NUMBERS
        for side, other in (_SIDES, _SIDES[::-1])
    ]


def _missing_rules(family: str, form: str) -> list[str]:
    """Let those routes be asked before the table of the kernel's own addresses."""
    there = run('ip', family, 'rule', 'show')
    lines = [
        f'rule add preference {_FIRST} to {form.format(number, side)} iif lo'
        f' lookup {_TABLE + number}'
        for number in NUMBERS
        for side in _SIDES
        if f'to {form.format(number, side)} iif lo' not in there
    ]
    if f'{_LOCAL}:' not in there.split():
        lines.append(f'rule add preference {_LOCAL} lookup local')
    if '0:' in there.split():
        lines.append('rule delete preference 0')
    return lines


def _batch(family: str, lines: list[str]) -> None:
    """Give ip several orders at once; it is slow to start on an emulated machine."""
    if lines:
        run('ip', family, '-batch', '-', input=''.join(f'{line}\n' for line in lines).encode())
