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
_lock = threading.Lock()


def end(number: int, side: int) -> str:
    """Return the name of one end of a cable."""
    return f'{"storage" if side == _TARGET else "host"}{number}'


def up() -> None:
    """Lay the cables, or what is missing of them; twice is fine."""
    with _lock:
        for number in NUMBERS:
            _lay(number)
        for family in ('-4', '-6'):
            _local_last(family)
        for number in NUMBERS:
            for side in (_TARGET, _HOST):
                _route(number, side)


def is_up() -> bool:
    """Say whether both cables are there and connected."""
    ends = [end(number, side) for number in NUMBERS for side in (_TARGET, _HOST)]
    return all(read(_NET / name / 'operstate') == 'up' for name in ends)


def rdma_up() -> None:
    """Let every end of the networks have an RDMA device; twice is fine."""
    up()
    with _lock:
        modprobe('rdma_rxe', 'rdma_cm', 'ib_uverbs')
        for number in NUMBERS:
            for side in (_TARGET, _HOST):
                device = f'rxe_{end(number, side)}'
                if not (_RDMA / device).exists():
                    run('rdma', 'link', 'add', device, 'type', 'rxe', 'netdev', end(number, side))
    wait_until(rdma_is_up, 'the RDMA devices to be active')


def rdma_is_up() -> bool:
    """Say whether all RDMA devices are active."""
    states = [
        read(_RDMA / f'rxe_{end(number, side)}' / 'ports/1/state') or ''
        for number in NUMBERS
        for side in (_TARGET, _HOST)
    ]
    return all('ACTIVE' in state for state in states)


def pull(number: int) -> None:
    """Pull the plug of the target's end."""
    run('ip', 'link', 'set', end(number, _TARGET), 'down')


def _lay(number: int) -> None:
    target, host = end(number, _TARGET), end(number, _HOST)
    if not (_NET / target).exists():
        run('ip', 'link', 'add', target, 'type', 'veth', 'peer', 'name', host)
    for side in (_TARGET, _HOST):
        name = end(number, side)
        for setting, value in (
            ('ipv4/conf/{}/accept_local', 1),
            ('ipv4/conf/{}/rp_filter', 0),
            ('ipv4/conf/{}/arp_ignore', 1),
            ('ipv4/conf/{}/arp_announce', 2),
            ('ipv6/conf/{}/accept_dad', 0),
            ('ipv6/conf/{}/keep_addr_on_down', 1),
        ):
            write(_SYSCTL / setting.format(name), value)
        run('ip', 'link', 'set', name, 'mtu', str(MTU))
        run('ip', 'address', 'replace', f'{IPV4.format(number, side)}/24', 'dev', name)
        run('ip', 'address', 'replace', f'{IPV6.format(number, side)}/64', 'dev', name, 'nodad')
        run('ip', 'link', 'set', name, 'up')
    wait_until(
        lambda: all(read(_NET / name / 'operstate') == 'up' for name in (target, host)),
        f'the link of {target}',
    )


def _local_last(family: str) -> None:
    """Let rules of this module be asked before the table of the kernel's own addresses."""
    rules = run('ip', family, 'rule', 'show')
    if f'{_LOCAL}:' not in rules.split():
        run('ip', family, 'rule', 'add', 'preference', str(_LOCAL), 'lookup', 'local')
    if '0:' in rules.split():
        run('ip', family, 'rule', 'delete', 'preference', '0')


def _route(number: int, side: int) -> None:
    """Let what this machine sends to one end leave by the other."""
    other = _HOST if side == _TARGET else _TARGET
    table = str(_TABLE + number)
    for family, form in (('-4', IPV4), ('-6', IPV6)):
        to, source = form.format(number, side), form.format(number, other)
        device = end(number, other)
        run('ip', family, 'route', 'replace', to, 'dev', device, 'src', source, 'table', table)
        rule = f'from all to {to} iif lo lookup {table}'
        if rule not in run('ip', family, 'rule', 'show'):
            run(
                *('ip', family, 'rule', 'add', 'preference', str(_FIRST)),
                *('to', to, 'iif', 'lo', 'lookup', table),
            )
