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

"""The SDK's proxy of a Cinder that is kept in memory, and managers on a host of fakes.

What the SDK raises is translated elsewhere; here it has been, already.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import dataclasses
import itertools
import pathlib
import types
import typing

from openstack import exceptions as sdk
from openstack.block_storage.v3.attachment import Attachment
from openstack.block_storage.v3.volume import Volume

from tests.unit import fake_hypervisor as fake
from volumedrivers import exception
from volumedrivers.attachment.block_storage.context import StorageContext
from volumedrivers.attachment.block_storage.manager import VolumeManager
from volumedrivers.attachment.block_storage.reservation import Reservation
from volumedrivers.attachment.block_storage.reservations import Reservations
from volumedrivers.attachment.manager import AttachmentManager
from volumedrivers.attachment.record import Record
from volumedrivers.attachment.record import make_key
from volumedrivers.cinder.block_storage import BlockStorage

ENDPOINT = 'http://cinder.test'
HOST = 'this-host'
KEY = make_key(fake.GUEST_UUID, fake.VOLUME_ID)
# Calls that change something, as they are listed.
CHANGES = (
    'create_attachment',
    'update_attachment',
    'complete_attachment',
    'delete_attachment',
    'begin_volume_detaching',
    'abort_volume_detaching',
)


def silent(method: str = 'it') -> Exception:
    """No answer: it may be done."""
    return _unavailable(method)


def answered(method: str = 'it') -> Exception:
    """Cinder says that it failed."""
    return _unavailable(method, answered=True)


def refused(method: str = 'it') -> Exception:
    """Nobody is there."""
    return _unavailable(method, may_be_done=False)


def _unavailable(method: str, **more: bool) -> exception.CinderUnavailable:
    return exception.CinderUnavailable(endpoint=ENDPOINT, action=method, reason='a test', **more)


def _not_there(what: str) -> exception.NotInCinder:
    return exception.NotInCinder(endpoint=ENDPOINT, action=f'get {what}', reason='a test')


class FakeProxy:
    """Attachments and volumes, in the states and with the refusals of Cinder.

    :ivar calls: what was asked, in order
    :ivar before: errors that a call raises, and does nothing; each once, unless
        it is to be for ever
    :ivar after: errors that it raises when all is done
    :ivar hidden: volumes that no list shows
    :ivar late: names of calls that are not answered, and done in ``catch_up``
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.before: dict[str, BaseException] = {}
        self.after: dict[str, BaseException] = {}
        self.late: set[str] = set()
        self._under_way: list[Callable[[], object]] = []
        self.for_ever = False
        self.hidden: set[str] = set()
        self.volumes_: dict[str, dict[str, typing.Any]] = {}
        self.attachments_: dict[str, dict[str, typing.Any]] = {}
        self.make_volume(fake.VOLUME_ID)
        self._numbers = itertools.count(1)

    def make_volume(self, volume_id: str, **values: typing.Any) -> None:
        self.volumes_[volume_id] = {
            'id': volume_id,
            'name': 'data',
            'status': 'available',
            'size': 1,
            'is_multiattach': False,
            **values,
        }

    def make_attachment(self, volume_id: str = fake.VOLUME_ID, **values: typing.Any) -> str:
        """Make one of somebody else."""
        made = f'{next(self._numbers):08x}-0000-4000-8000-00000000a77a'
        self.attachments_[made] = {
            'id': made,
            'volume_id': volume_id,
            'instance': None,
            'status': 'reserved',
            'connection_info': {},
            'attach_mode': 'rw',
            'host_name': None,
            **values,
        }
        return made

    def catch_up(self) -> None:
        """Do what is late."""
        for do in self._under_way:
            with contextlib.suppress(exception.VolumeDriversError):
                do()
        self._under_way.clear()

    @property
    def changes(self) -> list[str]:
        """What was asked, but for questions."""
        return [call for call in self.calls if call in CHANGES]

    # the SDK's

    def get_endpoint(self) -> str:
        return ENDPOINT

    def create_attachment(self, volume: str, **attributes: typing.Any) -> Attachment:
        def do() -> str:
            found = self._volume(volume)
            if found['status'] != 'available':
                self._refuse(f'status must be available, but is {found["status"]}')
            found['status'] = 'reserved'
            return self.make_attachment(
                volume,
                instance=attributes.get('instance'),
                attach_mode=attributes.get('mode', 'rw'),
            )

        made = self._do('create_attachment', do)
        return Attachment(**self._shown(self.attachments_[made]))

    def update_attachment(self, attachment: str, connector: typing.Any) -> Attachment:
        def do() -> None:
            found = self._attachment(attachment)
            found['status'] = 'attaching'
            found['host_name'] = connector['host']
            found['connection_info'] = _flat_info(found['volume_id'])
            self._volume(found['volume_id'])['status'] = 'attaching'

        self._do('update_attachment', do)
        return Attachment(**self._shown(self.attachments_[attachment]))

    def complete_attachment(self, attachment: str) -> None:
        def do() -> None:
            found = self._attachment(attachment)
            found['status'] = 'attached'
            self._volume(found['volume_id'])['status'] = 'in-use'

        self._do('complete_attachment', do)

    def delete_attachment(self, attachment: str, ignore_missing: bool = False) -> None:
        def do() -> None:
            found = self._attachment(attachment)
            del self.attachments_[attachment]
            left = [
                one for one in self.attachments_.values() if one['volume_id'] == found['volume_id']
            ]
            self._volume(found['volume_id'])['status'] = 'in-use' if left else 'available'

        self._do('delete_attachment', do)

    def get_attachment(self, attachment: str) -> Attachment:
        self._do('get_attachment')
        return Attachment(**self._shown(self._attachment(attachment)))

    def attachments(self, **query: typing.Any) -> Iterator[Attachment]:
        self._do('attachments')
        for one in list(self.attachments_.values()):
            if one['volume_id'] in self.hidden:
                continue
            if query.get('volume_id') not in (None, one['volume_id']):
                continue
            if query.get('instance_id') not in (None, one['instance']):
                continue
            yield Attachment(**self._shown(one))

    def get_volume(self, volume: str) -> Volume:
        self._do('get_volume')
        return self._show_volume(self._volume(volume))

    def find_volume(self, name_or_id: str, ignore_missing: bool = True) -> Volume:
        self._do('find_volume')
        for one in self.volumes_.values():
            if name_or_id in (one['id'], one['name']):
                return self._show_volume(one)
        raise sdk.NotFoundException(f'no volume {name_or_id}')  # as volumes.find expects it

    def volumes(self, details: bool = True, **query: typing.Any) -> Iterator[Volume]:
        self._do('volumes')
        for one in list(self.volumes_.values()):
            if one['id'] not in self.hidden:
                yield self._show_volume(one)

    def begin_volume_detaching(self, volume: str) -> None:
        def do() -> None:
            found = self._volume(volume)
            if found['status'] != 'in-use':
                self._refuse(f'status must be in-use, but is {found["status"]}')
            found['status'] = 'detaching'

        self._do('begin_volume_detaching', do)

    def abort_volume_detaching(self, volume: str) -> None:
        def do() -> None:
            found = self._volume(volume)
            if found['status'] == 'detaching':
                found['status'] = 'in-use'

        self._do('abort_volume_detaching', do)

    def complete_volume_migration(self, volume: str, new_volume: str, error: bool = False) -> None:
        def do() -> None:
            self._volume(volume)['migration_status'] = 'error' if error else 'success'
            del self.volumes_[new_volume]

        self._do('complete_volume_migration', do)

    # how it fails

    def _do(self, name: str, do: Callable[[], typing.Any] = lambda: None) -> typing.Any:
        self.calls.append(name)
        if name in self.before or 'all' in self.before:
            key = name if name in self.before else 'all'
            raise self.before[key] if self.for_ever else self.before.pop(key)
        if name in self.late:
            self.late.remove(name)
            self._under_way.append(do)
            raise silent(name)
        done = do()
        if name in self.after:
            raise self.after.pop(name)
        return done

    def _refuse(self, reason: str) -> typing.NoReturn:
        raise exception.CinderError(action='it', reason=reason, status=400)

    def _volume(self, volume: str) -> dict[str, typing.Any]:
        if volume not in self.volumes_:
            raise _not_there(f'volume {volume}')
        return self.volumes_[volume]

    def _attachment(self, attachment: str) -> dict[str, typing.Any]:
        if attachment not in self.attachments_:
            raise _not_there(f'attachment {attachment}')
        return self.attachments_[attachment]

    def _shown(self, one: dict[str, typing.Any]) -> dict[str, typing.Any]:
        # Cinder does not show the connector.
        return {name: value for name, value in one.items() if name != 'host_name'}

    def _show_volume(self, one: dict[str, typing.Any]) -> Volume:
        attachments = [
            {
                'attachment_id': each['id'],
                'server_id': each['instance'],
                'host_name': each['host_name'],
                'volume_id': one['id'],
            }
            for each in self.attachments_.values()
            if each['volume_id'] == one['id'] and each['status'] == 'attached'
        ]
        return Volume(**one, attachments=attachments)


def _flat_info(volume_id: str) -> dict[str, typing.Any]:
    info = fake.connection_info(volume_id)
    return {'driver_volume_type': info['driver_volume_type'], **info['data']}


@dataclasses.dataclass
class Room:
    """A host, its guest, and a Cinder.

    :ivar proxy: what Cinder has
    """

    fakes: fake.Calls
    guest: fake.FakeGuest
    driver: fake.FakeDriver
    proxy: FakeProxy
    manager: VolumeManager
    options: typing.Any

    @property
    def host(self) -> AttachmentManager:
        return self.manager.context.attachments

    @property
    def reservations(self) -> Reservations:
        return self.manager.context.reservations

    @property
    def row(self) -> Reservation | None:
        return self.reservations.get(KEY)

    @property
    def record(self) -> Record | None:
        return self.host.context.journal.get(KEY)

    @property
    def status(self) -> str:
        return str(self.proxy.volumes_[fake.VOLUME_ID]['status'])

    def attach(self, **options: typing.Any) -> typing.Any:
        return self.manager.attach('web1', 'data', **options)

    def detach(self, **options: typing.Any) -> typing.Any:
        return self.manager.detach('web1', 'data', **options)

    def pass_time(self) -> None:
        """Let it be later than Cinder may be: nothing comes any more."""
        self.options.conf.set_override('cinder_timeout', 1.0, 'volumedrivers')
        for row in self.reservations.find():
            with self.reservations._database.transaction(write=True) as connection:
                connection.execute(
                    'UPDATE reservations SET changed = changed - 1000 WHERE key = ?', (row.key,)
                )

    def agrees(self) -> bool:
        """Tell whether Cinder, both tables, guest and host say the same."""
        has = bool(self.guest.present)
        of_guest = [
            one
            for one in self.proxy.attachments_.values()
            if one['volume_id'] == fake.VOLUME_ID and one['instance'] == fake.GUEST_UUID
        ]
        if not has:
            return (
                not of_guest
                and self.status in ('available', 'gone')
                and self.row is None
                and self.record is None
            )
        return (
            [one['status'] for one in of_guest] == ['attached']
            and self.status == 'in-use'
            and self.row is not None
            and self.row.is_settled
            and self.row.attachment_id == of_guest[0]['id']
            and self.record is not None
            and self.record.is_settled
        )


def make_room(directory: pathlib.Path, observer: typing.Any = None) -> Room:
    """Return one with a guest web1, and a volume that is called data."""
    fakes = fake.Calls()
    guest = fake.FakeGuest(fakes)
    other = fake.FakeGuest(fakes, 'web2', fake.OTHER_UUID)
    driver = fake.FakeDriver(fakes)
    conf = fake.make_conf()
    conf.set_override('host', HOST, 'volumedrivers')
    inner = fake.make_manager(conf, directory, driver, guest, other, observer=observer)
    proxy = FakeProxy()
    manager = VolumeManager(
        StorageContext(
            storage=make_storage(proxy),
            attachments=inner,
            reservations=Reservations(inner.context.journal.database),
            connector=lambda: {'host': HOST, 'initiator': 'iqn.2020-01.test:this-host'},
        )
    )
    options = types.SimpleNamespace(conf=conf)
    return Room(fakes, guest, driver, proxy, manager, options)


def make_storage(proxy: FakeProxy, endpoint: str = ENDPOINT) -> BlockStorage:
    """Return the package's own, which has found this proxy."""
    storage = BlockStorage(typing.cast(typing.Any, None), retries=0, pause=0.0)
    storage._proxy = proxy
    storage._endpoint = endpoint
    return storage


class NoCinder(BlockStorage):
    """What a host has that is not told where Cinder is."""

    def __init__(self) -> None:
        super().__init__(typing.cast(typing.Any, None))

    @property
    def proxy(self) -> typing.Any:
        raise exception.CinderNotConfigured(reason='group [cinder] has no auth_type')

    @property
    def endpoint(self) -> str:
        return str(self.proxy)
