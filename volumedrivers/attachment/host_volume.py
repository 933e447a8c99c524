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

"""The steps for a volume whose disk somebody else puts into the guest, such as Nova.

Host only: those of attach, detach and extend without the guest's.  The guest
need not be known to libvirt: Nova connects the volumes before it defines it.
"""

from collections.abc import Mapping
import dataclasses
import typing

from volumedrivers import exception
from volumedrivers.attachment import users
from volumedrivers.attachment.attach import Attach
from volumedrivers.attachment.change import Extend
from volumedrivers.attachment.detach import Detach
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.results import DiskRequest
from volumedrivers.attachment.steps import Step
from volumedrivers.connection_info import ConnectionInfo
from volumedrivers.host import os_brick_link
from volumedrivers.libvirt.connected_volume import ConnectedVolume
from volumedrivers.libvirt.connected_volume import Identity
from volumedrivers.protocol_data import LocalData

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.context import AttachmentContext
    from volumedrivers.host.fair_lock import Held
    from volumedrivers.libvirt.guest import Guest

#: what an earlier connect left in the data of a connection_info
RESULTS = ('device_path', 'multipath_id', 'volumedrivers_source')
_PATH = RESULTS[0]


@dataclasses.dataclass(frozen=True)
class HostGuest:
    """A guest by its names; libvirt need not know it (yet, or any more).

    :ivar uuid: libvirt's
    :ivar name: libvirt's
    """

    uuid: str
    name: str

    def as_guest(self) -> 'Guest':
        """Return it for the operations, whose host side asks for the names alone."""
        return typing.cast('Guest', self)


def path_for_guest(connection_info: ConnectionInfo, volume: ConnectedVolume) -> str | None:
    """Return the path that the guest's disk gets; None: a network source.

    Of an encrypted volume that is the link that os-brick made: whoever decrypts
    it on this host lets it lead to the decrypted device.
    """
    found = str(volume.device_info.get('path') or '')
    if connection_info.encrypted and os_brick_link.is_link(found):
        return found
    return volume.path


class HostConnect(Attach):
    """Bring a volume to this host and write down whose it is."""

    HOST_ONLY = True

    def __init__(
        self,
        context: 'AttachmentContext',
        guest: HostGuest,
        connection_info: ConnectionInfo,
        before: Record | None,
        held: 'Held | None' = None,
        *,
        manager: str,
    ) -> None:
        super().__init__(
            context, guest.as_guest(), connection_info, before, held, request=DiskRequest()
        )
        self.learn(manager=manager, connection_info=without_results(connection_info))

    def steps(self) -> tuple[Step, ...]:
        """Return the steps in their order."""
        return (
            *_named(super().steps(), 'connect', 'identify'),
            Step('record', self.settle_connected, records=True),
        )

    def settle_connected(self) -> None:
        """Write the row; the source is what the guest's disk will name."""
        volume = self._connected()
        path = path_for_guest(self.info, volume)
        source = volume.source
        if path is None and source is not None:
            path = f'{source.protocol}:{source.name}'
        self.settle(was_attached=True, problem='', source=path or '')

    @property
    def found(self) -> ConnectedVolume:
        """What was connected."""
        return self._connected()


class HostDisconnect(Detach):
    """Take a volume off this host, unless somebody has it."""

    HOST_ONLY = True

    def steps(self) -> tuple[Step, ...]:
        """Return the steps in their order."""
        seconds = self.context.options.identify_timeout
        return (
            Step('look', self.look, seconds=seconds, intends=False),
            *_named(super().steps(), 'disconnect', 'prove', 'record'),
        )

    @property
    def is_encrypted(self) -> bool:
        """No: what decrypts it is closed by whoever has opened it."""
        return False

    def find(self, volume: str | None) -> None:
        """Learn of an unrecorded volume what its path tells, where that path lasts."""
        path = self.info.device_path
        if self.before is not None or path is None or isinstance(self.info.data, LocalData):
            return
        devices = self.context.registry.context.devices
        if not path.startswith('/dev/') or os_brick_link.is_link(path):
            return
        if devices.stable_path(path, wait=0.0) != path:
            return  # a name of the kernel's may be any device by now
        try:
            found = devices.identity(path)
        except exception.VolumeNotConnected:
            return
        self.learn(
            volume=ConnectedVolume(
                driver_volume_type=self.info.driver_volume_type,
                volume_id=self.volume_id,
                source_type='block',
                path=path,
                identity=None if found is None else Identity(*found),
                multipath_id=self.info.multipath_id,
            )
        )

    def look(self) -> None:
        """Refuse to pull a device away from under the guest itself.

        :raises StillInUse: the running guest has it
        :raises HypervisorUnavailable, HypervisorError: libvirt could not say
        """
        volume = self.volume
        if volume is not None and volume.source is not None:
            return  # nothing of it is on this host that a running guest needs
        paths = set(users.paths_of(self.record))
        if self.info.device_path is not None and self.before is None:
            paths.add(self.info.device_path)
        target = self.context.users().live_disk(self.guest.uuid, frozenset(paths))
        if target is not None:
            raise exception.StillInUse(
                volume_id=self.volume_id,
                guest=self.guest.name,
                reason=f'the guest runs and has it as {target}',
            )

    def after_failure(self, problem: str, step: str, *, undone: bool) -> None:
        """Keep the row as it was where nothing was begun; else for recover."""
        if step != 'look':
            super().after_failure(problem, step, undone=undone)
        elif self.before is None:
            self.context.journal.remove(self.record.key)
        else:
            self.context.journal.put(dataclasses.replace(self.before, problem=problem))


def detaching(before: Record | None) -> type[Detach]:
    """Return what takes a recorded volume away: not out of a guest that is managed elsewhere."""
    return HostDisconnect if before is not None and before.manager else Detach


class HostExtend(Extend):
    """Let this host see that a volume has grown; the guest is told by somebody else."""

    HOST_ONLY = True

    def steps(self) -> tuple[Step, ...]:
        """Return the steps in their order."""
        return _named(super().steps(), 'identify', 'extend', 'record')


def without_results(connection_info: ConnectionInfo) -> Mapping[str, typing.Any]:
    """Return it for the journal, without what an earlier connect left in it.

    After a migration that was another host's.
    """
    shown: dict[str, typing.Any] = dict(connection_info.to_dict())
    if not isinstance(connection_info.data, LocalData):
        data = shown['data']
        shown['data'] = {key: data[key] for key in data if key not in RESULTS}
    return shown


def is_same_place(record: Record, connection_info: ConnectionInfo) -> bool:
    """Tell whether a row and a connection_info lead to the same place on the storage."""
    recorded = record.connection_info
    place = _place(connection_info.to_dict())
    return bool(place) and place == _place(recorded)


# What may be said of the same place in another way from one time to the next; Nova
# writes the volume's id into the data after it was migrated.
_VARIES = frozenset(
    (
        *RESULTS,
        'access_mode',
        'cacheable',
        'discard',
        'encrypted',
        'enforce_multipath',
        'options',
        'qos_specs',
        'volume_id',
    )
)


def _place(shown: Mapping[str, typing.Any]) -> dict[str, object]:
    """Return what says where it is; of a local device the path alone does."""
    data = shown['data']
    found = {key: value for key, value in data.items() if key not in _VARIES}
    if not found and data.get(_PATH):
        found = {_PATH: data[_PATH]}
    return {'driver_volume_type': shown.get('driver_volume_type'), **found} if found else {}


def _named(steps: tuple[Step, ...], *names: str) -> tuple[Step, ...]:
    return tuple(step for step in steps if step.name in names)
