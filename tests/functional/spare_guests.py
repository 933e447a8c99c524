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

"""Guests that one test after another has: to start one takes longer than many a test.

A test gets one that nobody had, or one that is in every respect as it was when it
had just been started; any other is removed.
"""

import contextlib
import dataclasses
import itertools
import json

import libvirt
import libvirt_qemu  # type: ignore[import-untyped]

from volumedrivers import exception
from volumedrivers.libvirt.guest import Guest
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing import guests

# What QEMU has of disks, and what it does to them.
_ASKED = ('query-named-block-nodes', 'query-block', 'query-block-jobs', 'query-jobs')

_numbers = itertools.count(1)


@dataclasses.dataclass(frozen=True)
class _Looks:
    """Of a guest: what libvirt and QEMU say of it.

    :ivar state: of libvirt: whether it runs, and why not
    :ivar running: its XML
    :ivar defined: that of its definition
    :ivar disks: the answers of QEMU
    """

    state: tuple[int, ...]
    running: str
    defined: str
    disks: tuple[str, ...]


class SpareGuests:
    """Persistent guests without an operating system, paused, with virtio-scsi."""

    def __init__(self) -> None:
        self._fresh: dict[str, _Looks] = {}
        self._spare: dict[str, list[str]] = {}

    def take(self, hypervisor: Hypervisor) -> Guest:
        """Return one that is as if it had just been started."""
        spare = self._spare.setdefault(hypervisor.uri, [])
        while spare:
            with contextlib.suppress(exception.VolumeDriversError):
                guest = hypervisor.guest(spare.pop())
                if self._is_fresh(guest):
                    return guest
                guests.remove_guest(guest)
        guest = guests.start_guest(hypervisor, f'guest{next(_numbers)}', persistent=True)
        self._fresh[guest.uuid] = _look(guest)
        return guest

    def give_back(self, guest: Guest) -> None:
        """Keep it for another test if nothing of it has changed; else remove it."""
        if self._is_fresh(guest):
            self._spare[guest.hypervisor.uri].append(guest.name)
        else:
            guests.remove_guest(guest)

    def _is_fresh(self, guest: Guest) -> bool:
        try:
            return _look(guest) == self._fresh[guest.uuid]
        except (exception.VolumeDriversError, libvirt.libvirtError):
            return False


def _look(guest: Guest) -> _Looks:
    domain = guest.hypervisor.domain(guest.uuid)
    return _Looks(
        tuple(domain.state()),
        domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE),
        domain.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE | libvirt.VIR_DOMAIN_XML_INACTIVE),
        tuple(_ask(domain, command) for command in _ASKED),
    )


def _ask(domain: libvirt.virDomain, command: str) -> str:
    answer = libvirt_qemu.qemuMonitorCommand(domain, json.dumps({'execute': command}), 0)
    return json.dumps(json.loads(answer)['return'], sort_keys=True)
