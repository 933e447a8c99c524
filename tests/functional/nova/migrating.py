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

"""Two hosts of Nova, and an instance that goes from one to the other."""

from collections.abc import Callable
import contextlib
import dataclasses
import json
import pathlib
import typing

from tests.functional import test_cli
from tests.functional.nova.process import NovaProcess
from tests.functional.nova.storages import RbdStorage
from tests.functional.nova.storages import Storage
from volumedrivers.attachment import manager
from volumedrivers.attachment.journal import Journal
from volumedrivers.libvirt.hypervisor import Hypervisor
from volumedrivers.testing.libvirtd import PrivateLibvirtd
from volumedrivers.testing.qemu_io import GuestIO

MakeStorage = Callable[[str], Storage]


@dataclasses.dataclass(frozen=True)
class Host:
    """A nova-compute, its libvirtd, and what this package keeps there.

    :ivar directory: with ``state``, where the journal is
    """

    room: NovaProcess
    libvirtd: PrivateLibvirtd
    hypervisor: Hypervisor
    directory: pathlib.Path

    def rows(self, uuid: str) -> dict[str, str | None]:
        """Return who has written the rows of the instance's volumes, by volume."""
        with contextlib.closing(
            Journal(str(self.directory / 'state' / manager.JOURNAL))
        ) as opened:
            return {row.volume_id: row.manager for row in opened.find(domain_uuid=uuid)}

    def guests(self) -> set[str]:
        """Return the uuids of all that libvirt knows, also of those that do not run."""
        return {guest.uuid for guest in self.hypervisor.guests()}

    def passwords(self, uuid: str) -> set[str]:
        """Return for what libvirt has passwords that were made for the instance."""
        secrets = self.hypervisor.ask('list secrets', lambda asked: asked.listAllSecrets())
        return {one.usageID() for one in secrets if uuid in one.usageID()}

    def io(self, uuid: str) -> GuestIO:
        guest = self.hypervisor.guest(uuid)
        return GuestIO(guest, lambda: self.libvirtd.guest_log(guest.name))

    @property
    def command(self) -> test_cli.Command:
        return test_cli.Command(self.libvirtd.uri, self.directory)


class Move:
    """An instance that is to go from one host to another.

    :ivar uuid: of the instance and of its guest
    :ivar data: what the hosts have told each other, as Nova sends it
    :ivar told: what Cinder says of the volumes to each host
    """

    def __init__(self, source: Host, destination: Host, make_storage: MakeStorage) -> None:
        self.source = source
        self.destination = destination
        self.uuid = ''
        self.data: dict[str, typing.Any] = {}
        self.volumes: list[Storage] = []
        self.told: dict[str, dict[str, typing.Any]] = {}
        self._make = make_storage

    def make_storage(self, kind: str, *, multiattach: bool = False) -> Storage:
        """Make a volume that both hosts can reach."""
        made = self._make(kind)
        if isinstance(made, RbdStorage):
            made.share_secret(self.destination.hypervisor)
        self.volumes.append(made)
        self.told[made.volume_id] = {**made.connection_info(), 'multiattach': multiattach}
        return made

    def start(self, kind: str, *, multiattach: bool = False) -> None:
        """Start the instance on its source, with a volume."""
        root = self.make_storage('local')
        self.uuid = self.source.room.call('spawn', root.connection_info())
        volume = self.make_storage(kind, multiattach=multiattach)
        self.source.room.call('attach', self.uuid, self.told[volume.volume_id], 'sdb')

    def prepare(self) -> None:
        """Check both hosts, and connect the volumes to the destination."""
        there, here = self.destination.room, self.source.room
        there.call(
            'expect',
            self.uuid,
            self.source.libvirtd.name,
            [
                (self.told[info['volume_id']], device, index)
                for info, device, index in here.call('mappings', self.uuid)
            ],
        )
        data = there.call('check_at_destination', self.uuid, here.call('resources'))
        self.data = here.call('check_at_source', self.uuid, data)
        there.call('end_check_at_destination', data)
        self.data = there.call('pre_live_migration', self.uuid, self.data)

    def told_back(self) -> dict[str, typing.Any]:
        """Return connection_info of the destination, as the source has learned it."""
        infos = [
            json.loads(one['nova_object.data']['connection_info_json'])
            for one in self.data['nova_object.data']['bdms']
        ]
        return {info['serial']: info for info in infos}

    def go(self) -> tuple[str, str]:
        """Migrate; return how that ended, and what Nova's driver has raised."""
        name = self.destination.libvirtd.name
        ended, said = self.source.room.call('live_migration', self.uuid, name, self.data)
        return ended, said

    def arrive(self) -> None:
        """End a migration that was successful."""
        self.destination.room.call('post_live_migration_at_destination', self.uuid)
        self.source.room.call('forget', self.uuid)

    def roll_back(self, *, volumes: bool = True) -> None:
        """Do what the source's nova-compute then asks for.

        :param volumes: it knows that the destination has connected them
        """
        if volumes:
            self.source.room.call('rollback_live_migration_at_source', self.uuid, self.data)
            for volume in self.volumes:
                self.destination.room.call('remove_volume_connection', self.uuid, volume.volume_id)
        self.destination.room.call('rollback_live_migration_at_destination', self.uuid, self.data)
