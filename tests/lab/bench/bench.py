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

"""The host under test at work: the package's operations, as the tests ask for them.

A session of the RPC; it may be killed in the middle of any operation.
"""

import collections
from collections.abc import Mapping
import concurrent.futures
import os
import pathlib
import signal
import threading
import time
import typing

import libvirt
from oslo_config import cfg

from tests.lab.bench import facts
from tests.lab.bench import growth
from tests.lab.bench import guests
from tests.lab.bench import traces
from tests.lab.bench import up
from tests.lab.waiting import wait_until
from volumedrivers.attachment import manager as manager_module
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.attachment.volume_encryption import VolumeEncryption
from volumedrivers.conf import opts
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import bootstrap
from volumedrivers.host import connector_properties
from volumedrivers.libvirt.hypervisor import Hypervisor

STATE = pathlib.Path('/var/lib/lab')
DEVICE_NAME_TIMEOUT = 60.0  # seconds
ENCRYPT_TIMEOUT = 600.0  # seconds


# Seconds that udev may take to remove the names of a device that is gone.
NAMES_TAKEN_AWAY = 5.0

# Seconds that storage may take, after a host has let go of a volume, to take the
# device away: by protocols for which the vendor's client does that, not os-brick.
TAKEN_AWAY = dict.fromkeys(('lightos', 'scaleio', 'storpool', 'huaweisdshypervisor'), 20.0)


class Keys:
    """The passphrases of encrypted volumes, as the test gave them."""

    def __init__(self, passphrases: Mapping[str, str]) -> None:
        self.passphrases = passphrases

    def passphrase(self, key_id: str, volume_id: str | None) -> bytes:
        return self.passphrases[key_id].encode()


class Bench:
    """An AttachmentManager, two guests, and what is left on the host.

    :param options: of the group [volumedrivers]
    :param passphrases: of encrypted volumes, by the id of the key
    :param die: where to end with SIGKILL: ``operation``, ``step``, ``moment``
        (before or after)
    :param hang: where to stop for ever, in the same words
    """

    def __init__(
        self,
        options: dict[str, typing.Any],
        passphrases: dict[str, str] | None = None,
        die: dict[str, str] | None = None,
        hang: dict[str, str] | None = None,
        uri: str = 'qemu:///system',
    ) -> None:
        self.conf = make_conf(options)
        self.hypervisor = self._make_hypervisor(uri)
        self.hypervisor.__enter__()
        self._die = die
        self._hang = hang
        self._hanging = pathlib.Path(self.conf.volumedrivers.state_path) / 'hanging'
        self.manager = manager_module.make_manager(
            self.conf, self.hypervisor, keys=Keys(passphrases or {}), observer=self._observe
        )
        self._before: dict[str, set[str]] = {}
        self._types: set[str] = set()

    def close(self) -> None:
        """Let go of libvirt."""
        self.hypervisor.__exit__(None, None, None)

    def connector_properties(self, multipath: bool) -> dict[str, typing.Any]:
        """Return what Cinder is told about this host."""
        self.conf.set_override('volume_use_multipath', multipath, opts.GROUP.name)
        return dict(connector_properties.get_connector_properties(self.conf))

    def facts(self) -> dict[str, typing.Any]:
        """Return the same from the kernel, past os-brick."""
        return facts.initiator()

    # The life of a volume.

    def attach(
        self,
        connection_info: dict[str, typing.Any],
        guest: str = guests.LINUX,
        bus: str = 'virtio',
        encryption: dict[str, typing.Any] | None = None,
        allow_format: bool = False,
    ) -> dict[str, typing.Any]:
        """Attach; return the result as data."""
        return self.manager.attach(
            self._parse(connection_info),
            guest,
            DiskRequest(bus=bus),
            encryption=None if encryption is None else VolumeEncryption.parse(encryption),
            allow_format=allow_format,
        ).to_dict()

    def detach(
        self,
        volume_id: str | None = None,
        guest: str = guests.LINUX,
        connection_info: dict[str, typing.Any] | None = None,
        force: bool = False,
    ) -> dict[str, typing.Any]:
        """Detach; return the result as data."""
        info = None if connection_info is None else self._parse(connection_info)
        return self.manager.detach(guest, volume_id, connection_info=info, force=force).to_dict()

    def attach_many(
        self, connection_infos: list[dict[str, typing.Any]], threads: int, guest: str
    ) -> float:
        """Attach volumes in so many threads; detach them; return the seconds of attaching."""
        infos = [self._parse(info) for info in connection_infos]
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            began = time.monotonic()
            attached = [
                pool.submit(self.manager.attach, info, guest, DiskRequest(bus='scsi'))
                for info in infos
            ]
            for future in attached:
                future.result()
            seconds = time.monotonic() - began
            detached = [pool.submit(self.manager.detach, guest, info.volume_id) for info in infos]
            for other in detached:
                other.result()
        return seconds

    def extend(
        self, volume_id: str, size: int, guest: str = guests.LINUX
    ) -> dict[str, typing.Any]:
        """Let host and guest see a new size."""
        return self.manager.extend(guest, volume_id, size).to_dict()

    def refresh(
        self, volume_id: str, connection_info: dict[str, typing.Any], guest: str = guests.LINUX
    ) -> dict[str, typing.Any]:
        """Go on by the ways of a new connection_info."""
        info = self._parse(connection_info)
        return self.manager.refresh(guest, volume_id, info).to_dict()

    def repair(
        self,
        volume_id: str,
        connection_info: dict[str, typing.Any] | None = None,
        guest: str = guests.LINUX,
    ) -> dict[str, typing.Any]:
        """Add the paths that are back."""
        info = None if connection_info is None else self._parse(connection_info)
        return self.manager.repair(guest, volume_id, connection_info=info).to_dict()

    def reconnect(
        self, volume_id: str, connection_info: dict[str, typing.Any], guest: str = guests.LINUX
    ) -> dict[str, typing.Any]:
        """Connect again after a reboot."""
        info = self._parse(connection_info)
        return self.manager.reconnect(guest, volume_id, connection_info=info).to_dict()

    def recover(
        self, connection_infos: dict[str, dict[str, typing.Any]] | None = None
    ) -> list[dict[str, typing.Any]]:
        """Finish or undo what was interrupted; return each outcome as data."""
        infos = {key: self._parse(info) for key, info in (connection_infos or {}).items()}
        return [vars_of(outcome) for outcome in self.manager.recover(infos)]

    def audit(self) -> list[dict[str, typing.Any]]:
        """Return the findings as data."""
        return [vars_of(finding) for finding in self.manager.audit()]

    def rows(self) -> list[dict[str, typing.Any]]:
        """Return the journal's rows: key, operation, step and the rest, as data."""
        return [vars_of(record) for record in self.manager.context.journal.find()]

    def paths(self, volume_id: str) -> int:
        """Return how many ways the kernel has to a volume that is in the journal."""
        (record,) = (
            row for row in self.manager.context.journal.find() if row.volume_id == volume_id
        )
        assert record.volume is not None
        assert record.volume.path is not None
        return facts.paths(record.volume.path)

    def hangs(self) -> bool:
        """Say whether a session with the same state has stopped where it was told to."""
        return self._hanging.exists()

    def seconds(self) -> dict[str, float]:
        """Return the clock; for durations that the host itself has measured."""
        return {'monotonic': time.monotonic()}

    # What the guests see.

    def write(
        self, volume_id: str, byte: int, offset: int, length: int, guest: str = guests.LINUX
    ) -> None:
        """Write a byte all over, by the guest."""
        self._guest(guest).write(volume_id, byte, offset, length)

    def reads(
        self, volume_id: str, byte: int, offset: int, length: int, guest: str = guests.LINUX
    ) -> bool:
        """Say whether the guest reads this byte all over."""
        return self._guest(guest).reads(volume_id, byte, offset, length)

    def size(self, volume_id: str, guest: str = guests.LINUX) -> int:
        """Return the size that the guest sees, in bytes."""
        return self._guest(guest).size(volume_id)

    def disks(self, guest: str = guests.LINUX) -> list[dict[str, str | None]]:
        """Return the guest's live disks: volume, target and source."""
        found = self.hypervisor.guest(guest).disks()
        return [{'volume_id': disk.serial, 'target': disk.target.dev} for disk in found]

    def start_guest(self, guest: str) -> None:
        """Start a guest that is defined, paused, with the disks it has; running is fine."""
        domain = self.hypervisor.domain(self.hypervisor.guest(guest).uuid)
        if not domain.isActive():
            domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)

    def begin_writing(self, volume_id: str) -> None:
        """Let the guest with a Linux write numbered blocks until ``end_writing``."""
        self._linux().begin_writing(volume_id)

    def wait_written(self, more: int, timeout: float = 150.0) -> int:
        """Wait until the guest has written so many blocks more; return how many it has."""
        linux = self._linux()
        goal = linux.written() + more
        wait_until(lambda: linux.written() >= goal, f'{more} more blocks', timeout=timeout)
        return linux.written()

    def end_writing(self) -> int:
        """Let the guest stop; return how many blocks it has written."""
        return self._linux().end_writing()

    def run_in_guest(self, command: str) -> str:
        """Run a shell command in the guest that has a Linux."""
        with self._linux().shell() as shell:
            return shell.check(command, timeout=guests.TIMEOUT)

    def _linux(self) -> guests.LinuxGuest:
        return guests.LinuxGuest(self.hypervisor.guest(guests.LINUX))

    # The host itself.

    def wait_until_idle(self, guest: str = guests.LINUX, seconds: float = 60.0) -> None:
        """Wait until QEMU has closed what was taken from the guest."""
        self.hypervisor.guest(guest).wait_until_idle(seconds)

    def restart_libvirtd(self) -> None:
        """Kill libvirtd, and start it again as an init system would."""
        up.kill_libvirtd()
        up.daemons()

    # What is on the host.

    def remember_traces(self) -> None:
        """Note what is on the host now, to compare with later."""
        self._before = traces.now(self.hypervisor, self.manager)

    def traces(self) -> list[str]:
        """Return what is on the host and was not there at ``remember_traces``.

        And what was there and is not; one line each, ``+`` or ``-`` in front.
        Looks again for a while where storage takes devices away by itself, and where
        nothing but names is left.
        """
        grace = max((TAKEN_AWAY.get(each, 0.0) for each in self._types), default=0.0)
        began = time.monotonic()
        while True:
            found = traces.difference(self._before, traces.now(self.hypervisor, self.manager))
            names = all(traces.is_name(line) for line in found)
            passed = time.monotonic() - began
            if not found or passed >= max(grace, NAMES_TAKEN_AWAY if names else 0.0):
                return found
            time.sleep(0.2)

    def growth(self) -> dict[str, int]:
        """Return the numbers of files, threads and the like of this process."""
        return growth.now()

    def more_than(self, before: dict[str, int]) -> dict[str, int]:
        """Return what there is more of than then."""
        return growth.more(before, growth.settled(before))

    def _make_hypervisor(self, uri: str) -> Hypervisor:
        return Hypervisor(uri)

    def _parse(self, connection_info: dict[str, typing.Any]) -> ConnectionInfo:
        info = ConnectionInfo.parse(connection_info)
        self._types.add(info.driver_volume_type)
        return info

    def _guest(self, name: str) -> guests.LabGuest:
        return guests.find(self.hypervisor, name)

    def _observe(self, operation: str, step: str, moment: str) -> None:
        here = {'operation': operation, 'step': step, 'moment': moment}
        if self._die == here:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._hang == here:
            self._hanging.touch()
            threading.Event().wait()


def make_conf(options: Mapping[str, typing.Any]) -> cfg.ConfigOpts:
    """Return the options of a host of the lab, with this process prepared by them."""
    conf = cfg.ConfigOpts()
    opts.register_opts(conf)
    conf([], project='volumedrivers', default_config_files=[])
    defaults = {
        'state_path': str(STATE),
        'lock_path': str(STATE / 'lock'),
        # udev takes its time where everything is emulated, and LUKS 2 measures
        # the processor before it makes a key slower.
        'device_name_timeout': DEVICE_NAME_TIMEOUT,
        'encrypt_timeout': ENCRYPT_TIMEOUT,
    }
    for name, value in {**defaults, **options}.items():
        conf.set_override(name, value, opts.GROUP.name)
    bootstrap.setup(conf)
    return conf


def vars_of(found: typing.Any) -> dict[str, typing.Any]:
    """Return the public fields of a dataclass or tuple of this package."""
    if hasattr(found, '_asdict'):
        return collections.OrderedDict(found._asdict())
    names = getattr(found, '__dataclass_fields__', None) or vars(found)
    return {name: getattr(found, name) for name in names if not name.startswith('_')}
