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

"""A server that cannot be reached: its packets vanish, or are refused.

One table of nftables for each back end, so that none ends another one's faults.
Both ends are on this machine; what is sent to the server passes the input hook.
"""

from collections.abc import Iterable

from tests.lab.storage.server_process import run

# Ports of one server; a range is written 6800-7300.
Ports = Iterable[int | str]


def drop(name: str, addresses: Iterable[str], ports: Ports, protocol: str = 'tcp') -> None:
    """Let packets to these ports vanish, those of open connections too.

    :param protocol: tcp or udp
    """
    _load(rules(name, addresses, ports, 'drop', protocol))


def refuse(name: str, addresses: Iterable[str], ports: Ports) -> None:
    """Answer these ports' packets with a reset, as if nobody listened."""
    _load(rules(name, addresses, ports, 'reject with tcp reset'))


def clear(name: str) -> None:
    """Let everything pass again; nothing need have been stopped."""
    _load(f'table inet {table(name)} {{}}\ndelete table inet {table(name)}\n')


def table(name: str) -> str:
    """Return the name of a back end's table."""
    return f'lab_{name}'


def rules(
    name: str, addresses: Iterable[str], ports: Ports, verdict: str, protocol: str = 'tcp'
) -> str:
    """Return what nft reads: the one rule in place of whatever the table had."""
    where = ', '.join(map(str, ports))
    each = ''.join(
        f'    {_family(address)} daddr {address} {protocol} dport {{ {where} }} {verdict}\n'
        for address in addresses
    )
    return (
        f'table inet {table(name)} {{}}\n'
        f'delete table inet {table(name)}\n'
        f'table inet {table(name)} {{\n'
        '  chain input {\n'
        '    type filter hook input priority -10;\n'
        f'{each}'
        '  }\n'
        '}\n'
    )


def _family(address: str) -> str:
    return 'ip6' if ':' in address else 'ip'


def _load(text: str) -> None:
    run('nft', '-f', '-', input=text.encode())
