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

"""The volumes of a project and their attachments, and what this host has of them."""

from collections.abc import Iterable
from collections.abc import Iterator
import typing

from oslo_log import log as logging

from volumedrivers import exception
from volumedrivers.attachment.block_storage.listed import ListedAttachment
from volumedrivers.attachment.block_storage.listed import ListedVolume
from volumedrivers.attachment.block_storage.listed import ShownVolume
from volumedrivers.attachment.block_storage.reader import only_look
from volumedrivers.attachment.results import AttachedVolume
from volumedrivers.cinder import attachments
from volumedrivers.cinder import volumes

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.context import StorageContext
    from volumedrivers.attachment.block_storage.reservation import Reservation

LOG = logging.getLogger(__name__)

NOT_IN_CINDER = 'not in Cinder'
_NOT_TOLD = (exception.CinderForbidden, exception.NotInCinder)


class Listing:
    """Looks at Cinder, journal and guests; what libvirt cannot say is a warning."""

    def __init__(self, context: 'StorageContext') -> None:
        self._context = only_look(context)
        self._reservations = self._context.reservations.find()
        self._names: dict[str, str] = {}
        self._disks: tuple[AttachedVolume, ...] = ()
        self._look_at_guests()

    def volumes(self) -> tuple[ListedVolume, ...]:
        """Return all of the project, by name.

        :raises CinderUnavailable, CinderForbidden, CinderError
        """
        proxy = self._context.storage.proxy

        def list_volumes() -> list[typing.Any]:
            return list(proxy.volumes())

        found = self._context.storage.ask(list_volumes)
        return tuple(
            ListedVolume(**self._facts(volume))
            for volume in sorted(found, key=lambda one: (one.name or '', one.id))
        )

    def volume(self, volume: str) -> ShownVolume:
        """Return one of them.

        :param volume: name or id
        :raises VolumeNotFound, VolumeNotUnique
        :raises CinderUnavailable, CinderForbidden, CinderError
        """
        found = volumes.find(self._context.storage, volume)
        return ShownVolume(
            **self._facts(found),
            description=found.description or None,
            availability_zone=found.availability_zone,
            created_at=found.created_at,
            encryption=self._encryption(found),
            qos=self._qos(found),
            image_metadata=dict(found.volume_image_metadata or {}),
            attachments=self._attachments([found], volume_id=found.id),
            on_this_host=tuple(self._here(found.id)),
        )

    def attachments(self, volume: str | None = None) -> tuple[ListedAttachment, ...]:
        """Return Cinder's, and those that only the journal has; by volume.

        :param volume: name or id; None: all of the project
        :raises VolumeNotFound, VolumeNotUnique
        :raises CinderUnavailable, CinderForbidden, CinderError
        """
        proxy = self._context.storage.proxy
        if volume is not None:
            found = volumes.find(self._context.storage, volume)
            return self._attachments([found], volume_id=found.id)

        def list_volumes() -> list[typing.Any]:
            return list(proxy.volumes())

        return self._attachments(self._context.storage.ask(list_volumes))

    def _look_at_guests(self) -> None:
        try:
            self._names = {one.uuid: one.name for one in self._context.host.hypervisor.guests()}
            self._disks = self._context.attachments.list()
        except exception.VolumeDriversError as error:
            # What Cinder has can be said all the same.
            LOG.warning('what the guests of this host have is not known: %s', error)

    def _here(self, volume_id: str) -> Iterator[AttachedVolume]:
        return (disk for disk in self._disks if disk.volume_id == volume_id)

    def _facts(self, volume: typing.Any) -> dict[str, typing.Any]:
        return {
            'name': volume.name or '',
            'id': volume.id,
            'status': volume.status,
            'size_gib': volume.size,
            'volume_type': volume.volume_type,
            'bootable': bool(volume.is_bootable),
            'multiattach': bool(volume.is_multiattach),
            'encrypted': bool(volume.is_encrypted),
            'read_only': volumes.is_read_only(volume),
            'attached_to': tuple(self._attached_to(volume)),
        }

    def _attached_to(self, volume: typing.Any) -> Iterator[str]:
        ours = set()
        for disk in self._here(volume.id):
            ours.add(disk.guest_uuid)
            state = '' if disk.state in ('attached', 'unknown') else f' ({disk.state})'
            yield f'{disk.guest} as {disk.target}{state}'
        for one in volume.attachments or ():
            if one.get('server_id') in ours:
                continue
            reservation = self._reservation(one.get('attachment_id'))
            if reservation is not None and reservation.domain_uuid in ours:
                continue
            instance = one.get('server_id')
            name = self._names.get(instance or '')
            if name is not None:
                # The guest of this host does not have it, or is on another by now.
                instance = f'{instance} ({name})'
            yield _elsewhere(instance, one.get('host_name'))

    def _reservation(self, attachment_id: str | None) -> 'Reservation | None':
        if attachment_id is None:
            return None
        return next(
            (one for one in self._reservations if one.attachment_id == attachment_id), None
        )

    def _attachments(
        self, found: Iterable[typing.Any], *, volume_id: str | None = None
    ) -> tuple[ListedAttachment, ...]:
        storage = self._context.storage
        by_id = {volume.id: volume for volume in found}
        if volume_id is None:
            in_cinder = attachments.of_project(storage)
        else:
            in_cinder = attachments.of_volume(storage, volume_id)
        rows = [self._attachment(one, by_id.get(one.volume_id)) for one in in_cinder]
        known = {row.attachment_id for row in rows}
        rows += [
            self._only_recorded(one)
            for one in self._reservations
            if one.attachment_id not in known and volume_id in (None, one.volume_id)
        ]
        return tuple(
            sorted(rows, key=lambda row: (row.volume_name, row.volume_id, row.guest or ''))
        )

    def _attachment(self, attachment: typing.Any, volume: typing.Any) -> ListedAttachment:
        reservation = self._reservation(attachment.id)
        guest_uuid = attachment.instance
        if guest_uuid is None and reservation is not None:
            guest_uuid = reservation.domain_uuid
        disk = next(
            (one for one in self._here(attachment.volume_id) if one.guest_uuid == guest_uuid), None
        )
        guest = self._names.get(guest_uuid or '')
        if guest is None and reservation is not None:
            guest = reservation.domain_name
        host = None if volume is None else attachments.host_of(volume, attachment.id)
        return ListedAttachment(
            attachment_id=attachment.id,
            volume_id=attachment.volume_id,
            volume_name='' if volume is None else volume.name or '',
            status=attachment.status,
            guest=guest,
            guest_uuid=guest_uuid,
            target=disk.target if disk else None,
            host=host or (reservation.host if reservation else None),
            mode=_mode(attachment, reservation),
            recorded=_recorded(reservation),
        )

    def _only_recorded(self, found: 'Reservation') -> ListedAttachment:
        disk = next(
            (one for one in self._here(found.volume_id) if one.guest_uuid == found.domain_uuid),
            None,
        )
        elsewhere = found.endpoint != self._context.storage.endpoint
        return ListedAttachment(
            attachment_id=found.attachment_id,
            volume_id=found.volume_id,
            volume_name=found.volume_name,
            status=f'of Cinder at {found.endpoint}' if elsewhere else NOT_IN_CINDER,
            guest=found.domain_name,
            guest_uuid=found.domain_uuid,
            target=disk.target if disk else None,
            host=found.host,
            mode=found.mode,
            recorded=_recorded(found),
        )

    def _encryption(self, volume: typing.Any) -> dict[str, typing.Any] | None:
        if not volume.is_encrypted:
            return {}
        try:
            return dict(volumes.encryption(self._context.storage, volume.id))
        except _NOT_TOLD:
            return None

    def _qos(self, volume: typing.Any) -> dict[str, typing.Any] | None:
        """Return what its type asks for; most clouds tell that to administrators only."""
        storage = self._context.storage
        if not volume.volume_type_id:
            return {}

        def get_volume_type() -> typing.Any:
            from openstack import exceptions as sdk  # noqa: PLC0415

            # The SDK's Type does not keep which QoS specs it has.
            answer = storage.proxy.get(f'/types/{volume.volume_type_id}')
            sdk.raise_from_response(answer)
            return answer.json()['volume_type']

        try:
            found = storage.ask(get_volume_type)
            if 'qos_specs_id' not in found:
                return None
            if found['qos_specs_id'] is None:
                return {}
            specs = storage.ask(storage.proxy.get_qos_spec, found['qos_specs_id'])
        except _NOT_TOLD:
            return None
        return {'name': specs.name, 'consumer': specs.consumer, **(specs.specs or {})}


def _elsewhere(instance: str | None, host: str | None) -> str:
    who = f'instance {instance}' if instance else 'something that is no instance'
    return f'{who} on {host}' if host else who


def _mode(attachment: typing.Any, found: 'Reservation | None') -> str | None:
    if found is not None:
        return found.mode
    # Of one that is only reserved Cinder says "null", in words.
    return attachment.attach_mode if attachment.attach_mode in ('rw', 'ro') else None


def _recorded(found: 'Reservation | None') -> str:
    if found is None:
        return 'no'
    if found.is_settled:
        return 'yes'
    return f'{found.operation} unfinished' + (f' in step {found.step}' if found.step else '')
