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

"""Read and write a guest's disk from outside, through QEMU itself.

What the guest would read and write goes the same way; so a pattern that is
written here and found in the volume shows that the disk really is the volume.
No operating system in the guest is needed.  The guest's answers come by
QEMU's standard output, which is the log of the guest.
"""

from collections.abc import Callable
import json
import re
import time
import typing

import libvirt_qemu  # type: ignore[import-untyped]

from volumedrivers import exception
from volumedrivers.libvirt.guest import Guest


class GuestIO:
    """The disks of a guest, as QEMU sees them.

    :param log: returns what is in the guest's log now
    """

    def __init__(self, guest: Guest, log: Callable[[], str]) -> None:
        self.guest = guest
        self.log = log

    def write(self, alias: str, pattern: int, offset: int, length: int) -> None:
        """Write bytes of one value and flush them.

        :param alias: the disk's alias in libvirt
        :raises HypervisorError: QEMU could not write
        """
        self._run(f'-d {self._device(alias)} "write -P {pattern:#x} {offset} {length}"', 'wrote')
        self._run(f'-d {self._device(alias)} "flush"', '')

    def read(self, alias: str, pattern: int, offset: int, length: int) -> None:
        """Read bytes that have to be of this one value.

        :raises HypervisorError: they are not, or QEMU could not read
        """
        self._run(f'-d {self._device(alias)} "read -P {pattern:#x} {offset} {length}"', 'read')

    def node_names(self) -> set[str]:
        """Return QEMU's block nodes; those of a detached disk have to be gone."""
        return {node['node-name'] for node in self._qmp('query-named-block-nodes')}

    def _device(self, alias: str) -> str:
        """Return QEMU's own id of the device."""
        for device in self._qmp('query-block'):
            if alias in device.get('qdev', '').split('/'):
                return str(device['qdev'])
        raise exception.DiskNotFound(guest=self.guest.name, disk=alias)

    def _qmp(self, command: str) -> list[dict[str, typing.Any]]:
        answer = self._monitor(json.dumps({'execute': command}), 0)
        found: list[dict[str, typing.Any]] = json.loads(answer)['return']
        return found

    def _monitor(self, command: str, flags: int) -> str:
        with self.guest.hypervisor.translated(f'tell QEMU of {self.guest.name} {command}'):
            domain = self.guest.hypervisor.domain(self.guest.uuid)
            return str(libvirt_qemu.qemuMonitorCommand(domain, command, flags))

    def _run(self, arguments: str, done: str) -> None:
        before = len(self.log())
        reply = self._monitor(
            f'qemu-io {arguments}', libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
        )
        said = reply
        deadline = time.monotonic() + 5
        while done and time.monotonic() < deadline:
            said = reply + self.log()[before:]
            if re.search(rf'^{done} |rror|failed', said, re.MULTILINE):
                break
            time.sleep(0.01)
        if (done and not re.search(f'^{done} ', said, re.MULTILINE)) or re.search(
            'rror|failed', said
        ):
            raise exception.HypervisorError(
                action=f'qemu-io {arguments}', reason=said.strip() or 'no answer'
            )
