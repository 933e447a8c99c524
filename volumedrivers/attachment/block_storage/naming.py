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

"""Which volume is meant by what a person calls it."""

import typing

from volumedrivers import exception
from volumedrivers.attachment import guest_disks
from volumedrivers.attachment import lookup
from volumedrivers.cinder import volumes

if typing.TYPE_CHECKING:
    from volumedrivers.attachment.block_storage.context import StorageContext
    from volumedrivers.libvirt.guest import Guest


def volume_id(context: 'StorageContext', domain: 'Guest', volume: str) -> str:
    """Return the id of what the guest, the journal or Cinder calls that.

    :raises VolumeNotFound, VolumeNotUnique
    """
    found = lookup.volume_id(context.host, domain, volume, None)
    if found != volume or guest_disks.find(domain, volume) is not None:
        return found
    rows = context.reservations.find(domain_uuid=domain.uuid)
    if volume in (row.volume_id for row in rows):
        return volume
    recorded = {row.volume_id for row in rows if row.volume_name == volume}
    if not recorded:
        return str(volumes.find(context.storage, volume).id)
    # A volume can be renamed while it is attached, and another one be called so.
    now = {str(one.id) for one in volumes.named(context.storage, volume)}
    meant = recorded | now.intersection(row.volume_id for row in rows)
    if len(meant) > 1 or (now and not meant & now):
        raise exception.VolumeNotUnique(volume=volume, endpoint=context.storage.endpoint)
    return meant.pop()
