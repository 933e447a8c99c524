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

"""A real Cinder on the host under test, with real drivers, and the package's use of it.

A session of the RPC; one for all rows, because starting Cinder takes long.
"""

import contextlib
import logging
import os
import pathlib
import shutil
import sys
import typing

from openstack import exceptions as sdk

from tests.lab.bench import guests
from tests.lab.bench.bench import Bench
from tests.lab.cinder import nvmet_library
from tests.lab.cinder.backend import LabBackend
from tests.lab.cinder.lvm_backends import LioBackend
from tests.lab.cinder.lvm_backends import LvmBackend
from tests.lab.cinder.lvm_backends import NvmetBackend
from tests.lab.cinder.nfs_backend import NfsBackend
from tests.lab.cinder.rbd_backend import RbdBackend
from tests.lab.cinder.volume_group import VolumeGroup
from tests.lab.storage.backend import STATE
from tests.lab.waiting import wait_until
from volumedrivers.attachment.block_storage.manager import make_volume_manager
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.cinder.block_storage import BlockStorage
from volumedrivers.testing.cinder.embedded import EmbeddedCinder
from volumedrivers.testing.cinder.nova_events import FakeNova

GIB = 1 << 30
DIRECTORY = STATE / 'cinder'
RUN = DIRECTORY / 'run'

# Programs of Cinder are started anew for each step, and Python's start takes seconds.
TIMEOUT = 300.0
# Cinder answers in this process: who asks all the time keeps it from its work.
PAUSE = 1.0

OPTIONS = {
    'DEFAULT': {
        # The API waits so long for the driver while a volume is exported.
        'rpc_response_timeout': str(int(TIMEOUT)),
        # Capacities are no matter here, and Ceph without a manager knows none.
        'scheduler_default_filters': 'AvailabilityZoneFilter,CapabilitiesFilter',
        # All that it would do is to ask the back ends for their capacities again.
        'backend_stats_polling_interval': '3600',
        'periodic_interval': '600',
        'report_interval': '60',
        'testing_ready_timeout': str(TIMEOUT),
    }
}


# All that they have to say of each of Cinder's requests takes longer than the requests.
TALKATIVE = (
    'keystoneauth',
    'oslo.service',
    'oslo_db',
    'oslo_messaging',
    'oslo_policy',
    'routes',
    'stevedore',
    'urllib3',
)


class CinderBench(Bench):
    """The bench, with a Cinder whose volumes it attaches by their names.

    :param options: of the group [volumedrivers]
    :param backends: names of the back ends that it is to have
    """

    def __init__(
        self, options: dict[str, typing.Any], backends: list[str], **more: typing.Any
    ) -> None:
        waiting = dict.fromkeys(
            ('cinder_timeout', 'cinder_extend_timeout', 'cinder_share_timeout'), TIMEOUT
        )
        super().__init__({**waiting, **options}, **more)
        self._stack = contextlib.ExitStack()
        try:
            self._start(backends)
        except BaseException:
            self._stack.close()
            raise

    def close(self) -> None:
        """Stop Cinder, and leave nothing of it."""
        self._stack.close()
        super().close()

    def _start(self, names: list[str]) -> None:
        # cinder-rtstool is found as it is by a service that runs in this environment.
        found = os.environ.get('PATH', os.defpath)
        os.environ['PATH'] = os.pathsep.join([str(pathlib.Path(sys.executable).parent), found])
        nvmet_library.install()
        group = VolumeGroup(DIRECTORY)
        backends = (
            LioBackend(group),
            NvmetBackend(group),
            NfsBackend(RUN / 'mnt'),
            RbdBackend(),
        )
        self.backends: dict[str, LabBackend] = {
            each.name: each for each in backends if each.name in names
        }
        # A session that was killed has left everything.
        for each in backends:
            each.remove()
        group.remove()
        shutil.rmtree(RUN, ignore_errors=True)
        if any(isinstance(each, LvmBackend) for each in self.backends.values()):
            self._stack.callback(group.remove)
            group.make()
        self.nova = FakeNova()
        self._stack.callback(self.nova.stop)
        self.cinder = EmbeddedCinder(
            RUN,
            list(self.backends.values()),
            options={**OPTIONS, **self.nova.options},
        )
        self._stack.callback(self.cinder.stop)
        _pass_on_warnings()
        for name in TALKATIVE:
            logging.getLogger(name).setLevel(logging.INFO)
        self.cinder.start()
        self.storage = BlockStorage(self.cinder.connection, retries=0, timeout=TIMEOUT)
        self.volumes = make_volume_manager(self.conf, self.storage, self.manager)

    # Cinder, asked by somebody else than the package.

    def create(
        self, backend: str, name: str, size: int, snapshot_id: str | None = None
    ) -> dict[str, typing.Any]:
        """Create a volume and wait until it is available; return what Cinder says of it.

        :param size: GiB
        """
        made = self._proxy.create_volume(
            name=name, size=size, volume_type=backend, snapshot_id=snapshot_id
        )
        return self._wait_for_volume(made.id, 'available')

    def in_cinder(self, volume_id: str) -> dict[str, typing.Any]:
        """Return what Cinder says of a volume and its attachments."""
        found = self._proxy.get_volume(volume_id)
        attachments = self._proxy.attachments(volume_id=volume_id)
        return {
            'volume_id': found.id,
            'name': found.name,
            'status': found.status,
            'size': found.size,
            'attachments': [
                {'id': each.id, 'status': each.status, 'instance': each.instance}
                for each in attachments
            ],
        }

    def grow(self, volume_id: str, size: int, status: str) -> list[dict[str, str]]:
        """Let Cinder extend a volume, past the package; return what it has told Nova.

        :param size: GiB
        :param status: of the volume, before and after
        """
        known = len(self.nova.events)
        self._proxy.extend_volume(volume_id, size)
        wait_until(
            lambda: self._proxy.get_volume(volume_id).size == size,
            f'Cinder to extend volume {volume_id}',
            timeout=TIMEOUT,
            interval=PAUSE,
        )
        self._wait_for_volume(volume_id, status)
        if status == 'in-use':
            self._wait_for_event(known)
        return [dict(event) for event in self.nova.events[known:]]

    def snapshot(self, volume_id: str, name: str) -> str:
        """Make a snapshot, of a volume in use too; return its id."""
        made = self._proxy.create_snapshot(volume_id=volume_id, name=name, force=True)
        wait_until(
            lambda: self._status(self._proxy.get_snapshot(made.id)) == 'available',
            f'the snapshot of volume {volume_id}',
            timeout=TIMEOUT,
            interval=PAUSE,
        )
        return str(made.id)

    def delete_snapshot(self, snapshot_id: str) -> None:
        """Delete a snapshot and wait until it is gone."""
        self._proxy.delete_snapshot(snapshot_id)
        wait_until(
            lambda: self._is_gone(self._proxy.get_snapshot, snapshot_id),
            f'the end of snapshot {snapshot_id}',
            timeout=TIMEOUT,
            interval=PAUSE,
        )

    def delete(self, volume_id: str) -> None:
        """Delete a volume and wait until it is gone."""
        self._proxy.delete_volume(volume_id)
        wait_until(
            lambda: self._is_gone(self._proxy.get_volume, volume_id),
            f'the end of volume {volume_id}',
            timeout=TIMEOUT,
            interval=PAUSE,
        )

    def cinder_contents(self) -> list[str]:
        """Return all volumes, snapshots and attachments that Cinder has."""
        return [
            *(f'attachment {one.id}' for one in self._proxy.attachments()),
            *(f'snapshot {one.id}' for one in self._proxy.snapshots()),
            *(f'volume {one.id} {one.status}' for one in self._proxy.volumes()),
        ]

    def clear(self, volume_id: str) -> None:
        """Take a volume from the guest and from Cinder, whatever has become of it."""
        with contextlib.suppress(Exception):
            self.volumes.detach(guests.LINUX, volume_id, force=True)
        for attachment in self._proxy.attachments(volume_id=volume_id):
            with contextlib.suppress(sdk.HttpException):
                self._proxy.delete_attachment(attachment)
        with contextlib.suppress(sdk.HttpException):
            for snapshot in list(self._proxy.snapshots(volume_id=volume_id)):
                self.delete_snapshot(snapshot.id)
            self._proxy.reset_volume_status(
                volume_id, status='available', attach_status='detached'
            )
            self.delete(volume_id)

    # The package, which takes volumes by their names.

    def attach_volume(self, name: str, bus: str) -> dict[str, typing.Any]:
        """Attach a volume of Cinder; return the result as data."""
        return self.volumes.attach(guests.LINUX, name, DiskRequest(bus=bus)).to_dict()

    def detach_volume(self, name: str) -> dict[str, typing.Any]:
        """Detach it; return the result as data."""
        return self.volumes.detach(guests.LINUX, name).to_dict()

    def extend_volume(self, name: str, size: int) -> dict[str, typing.Any]:
        """Extend it in Cinder and in the guest; return the result as data.

        :param size: bytes
        """
        known = len(self.nova.events)
        result = self.volumes.extend(name, size).to_dict()
        # Which must not be taken for the answer to what comes next.
        self._wait_for_event(known)
        return result

    def extended(self, event: dict[str, str]) -> dict[str, typing.Any]:
        """Take Cinder's event as the compute service would; return the result as data."""
        return self.volumes.extended(event).to_dict()

    def reservations(self) -> list[str]:
        """Return the keys of what is recorded of Cinder's attachments."""
        return [row.key for row in self.volumes.context.reservations.find()]

    # The back ends, past Cinder and the package.

    def stored_bytes(self, backend: str, volume_id: str, offset: int, length: int) -> bytes:
        """Read what a back end has stored."""
        return self.backends[backend].read(volume_id, offset, length)

    def stored_size(self, backend: str, volume_id: str) -> int:
        """Return the size in bytes of what a back end has stored."""
        return self.backends[backend].size(volume_id)

    def stored_identity(self, backend: str, volume_id: str) -> str:
        """Return by what name the host has to know an attached volume."""
        return self.backends[backend].identity(volume_id)

    def served(self, backend: str, volume_id: str) -> list[str]:
        """Return what a back end serves of a volume, and to whom."""
        return self.backends[backend].served(volume_id)

    def contents(self, backend: str) -> list[str]:
        """Return the names of everything that a back end has stored."""
        return self.backends[backend].contents()

    @property
    def _proxy(self) -> typing.Any:
        return self.cinder.connection.block_storage

    def _wait_for_volume(self, volume_id: str, status: str) -> dict[str, typing.Any]:
        wait_until(
            lambda: self._status(self._proxy.get_volume(volume_id)) == status,
            f'volume {volume_id} to be {status}',
            timeout=TIMEOUT,
            interval=PAUSE,
        )
        return self.in_cinder(volume_id)

    def _wait_for_event(self, known: int) -> None:
        """Wait until Nova has been told of more than so much."""
        wait_until(
            lambda: len(self.nova.events) > known, 'the event volume-extended', timeout=TIMEOUT
        )

    def _status(self, found: typing.Any) -> str:
        """Return the state.

        :raises RuntimeError: it is an error, from which no waiting helps
        """
        status = str(found.status)
        if status.startswith('error'):
            raise RuntimeError(f'Cinder has {found.id} as {status}')
        return status

    def _is_gone(self, get: typing.Callable[[str], typing.Any], what: str) -> bool:
        try:
            self._status(get(what))
        except sdk.NotFoundException:
            return True
        return False


def _pass_on_warnings() -> None:
    """Let Cinder's warnings be in the session's log; all the rest is in Cinder's own file."""
    for handler in logging.getLogger().handlers:
        passing = _Warnings(handler)
        logging.getLogger('cinder').addHandler(passing)


class _Warnings(logging.Handler):
    """Passes warnings and errors on to another handler."""

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__(logging.WARNING)
        self._handler = handler

    def emit(self, record: logging.LogRecord) -> None:
        self._handler.handle(record)
