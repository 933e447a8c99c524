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

"""Take over an attachment of Cinder that somebody else made for a guest of this host."""

import dataclasses
import typing

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment.block_storage import legacy_flow
from volumedrivers.attachment.block_storage.reservation import Flow
from volumedrivers.attachment.block_storage.reservation import Reservation
from volumedrivers.attachment.block_storage.reservation import reservation_of
from volumedrivers.cinder import attachments

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.context import StorageContext
    from volumedrivers.connection_info import ConnectionInfo
    from volumedrivers.libvirt.guest import Guest


def adopt(
    context: 'StorageContext', domain: 'Guest', volume: typing.Any
) -> tuple[Reservation, 'ConnectionInfo | None']:
    """Return a row for it, which is not written yet, and how the volume is connected.

    :param volume: the SDK's
    :raises NotRecorded: Cinder has none of this guest
    :raises AttachedElsewhere: it is of another host
    """
    one = _of_this_host(context, domain, volume)
    if one is None:
        raise exception.NotRecorded(volume=volume.id, guest=domain.name)
    storage = context.storage
    row = dataclasses.replace(
        reservation_of(context, domain, volume),
        attachment_id=str(one.id),
        instance=one.instance,
    )
    if legacy_flow.is_legacy(one):
        return _legacy(context, row, volume)
    full = storage.ask(storage.proxy.get_attachment, one.id)
    info = None
    if full.connection_info:
        info = attachments.connection_info(full.connection_info, volume)
    return row, info


def _of_this_host(context: 'StorageContext', domain: 'Guest', volume: typing.Any) -> typing.Any:
    """Return the SDK's attachment; None: Cinder has none of this guest.

    A guest that is moved from host to host has one for each.  Where Cinder does
    not say of which host one is, the guest has to have the volume here: what is
    taken away may be what it uses elsewhere.

    :raises AttachedElsewhere
    """
    named = attachments.of_volume(context.storage, volume.id, instance=domain.uuid)
    found = named or _without_instance(context, domain, volume)
    hosts = {one.id: attachments.host_of(volume, one.id) for one in found}
    ours = context.host.host.lower()
    unsaid = [one for one in found if hosts[one.id] is None]
    for one in found:
        if (hosts[one.id] or '').lower() == ours:
            return one
    if len(unsaid) == 1 and guest_disks.find(domain, volume.id) is not None:
        return unsaid[0]
    if not found:
        return None
    host = hosts[found[0].id]
    raise exception.AttachedElsewhere(
        attachment_id=found[0].id,
        volume_id=volume.id,
        found=f'host {host}' if host else 'a host that Cinder does not tell this user',
        expected=context.host.host,
    )


def _legacy(
    context: 'StorageContext', row: Reservation, volume: typing.Any
) -> tuple[Reservation, 'ConnectionInfo']:
    """Ask the back end again how the volume is connected: nobody has written it down."""
    connector = dict(context.connector())
    row = dataclasses.replace(row, flow=Flow.LEGACY, connector=connector)
    return row, legacy_flow.LegacyFlow(context.storage).export(row, volume, connector)


def _without_instance(
    context: 'StorageContext', domain: 'Guest', volume: typing.Any
) -> tuple[typing.Any, ...]:
    """Return the attachments that name no guest, if this guest has the volume."""
    if guest_disks.find(domain, volume.id) is None:
        return ()
    return tuple(
        one
        for one in attachments.of_volume(context.storage, volume.id)
        if one.instance is None and attachments.host_of(volume, one.id) is not None
    )
