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

"""Migrations of a volume from one back end to another, of which a host does a part.

A volume that no guest has Cinder copies by itself.  Of one that is in use it
makes an empty volume, asks the compute service to let the guest go over, and
waits to be told.  Then the volume has the new one's data under its own id.
"""

import time
import typing

from volumedrivers import exception

if typing.TYPE_CHECKING:
    from volumedrivers.cinder.block_storage import BlockStorage

#: states of a migration in which Cinder waits, or is at it
UNDER_WAY = frozenset(('starting', 'migrating', 'completing'))
DONE = 'success'
_POLL = 0.2


def require_pair(storage: 'BlockStorage', volume_id: str, new_volume_id: str) -> typing.Any:
    """Return the new volume, if Cinder made it for this volume to go to.

    :returns: the SDK's Volume
    :raises WrongVolumeState: Cinder does not wait for this
    :raises VolumeNotFound
    """
    old, new = (_get(storage, each) for each in (volume_id, new_volume_id))
    expected = f'target:{volume_id}'
    if old.migration_status not in UNDER_WAY:
        raise exception.WrongVolumeState(
            volume_id=volume_id,
            status=_told(old),
            expected='being migrated; only Cinder begins that',
        )
    if new.migration_status != expected:
        raise exception.WrongVolumeState(
            volume_id=new_volume_id,
            status=_told(new),
            expected=f'made by Cinder for volume {volume_id} to go to',
        )
    if new.size != old.size:
        raise exception.WrongVolumeState(
            volume_id=new_volume_id,
            status=f'{new.size} GiB',
            expected=f'of {old.size} GiB, as volume {volume_id}',
        )
    return new


def finish(
    storage: 'BlockStorage',
    volume_id: str,
    new_volume_id: str,
    *,
    error: bool = False,
    seconds: float = 60.0,
) -> None:
    """Tell Cinder how its migration has ended; told twice it does no harm.

    :param error: nobody uses the new volume; Cinder deletes it.  Else nobody
        uses the old one: Cinder deletes its data, and gives its id to the new
    :param seconds: how long Cinder may take after it has not answered
    :raises WrongVolumeState: the migration has ended otherwise
    :raises CinderForbidden: it takes an administrator
    :raises CinderUnavailable
    """
    try:
        storage.tell(
            storage.proxy.complete_volume_migration, volume_id, new_volume_id, error=error
        )
    except (exception.CinderError, exception.NotInCinder, exception.CinderUnavailable) as failure:
        if isinstance(failure, exception.CinderUnavailable):
            if not failure.may_be_done:
                raise
        else:
            seconds = 0.0  # it does nothing any more
        found = _ended(storage, volume_id, seconds)
        if found in UNDER_WAY:
            raise
        # That it has failed is known from elsewhere, or it was told so before.
        if (found == DONE) is error:
            raise exception.WrongVolumeState(
                volume_id=volume_id,
                status=f'migrated with {found or "nothing"!r}',
                expected='one whose migration has ' + ('failed' if error else 'succeeded'),
            ) from failure


def _ended(storage: 'BlockStorage', volume_id: str, seconds: float) -> str | None:
    """Return the state of the migration, as soon as Cinder is not at it any more."""
    end = time.monotonic() + seconds
    while True:
        found = _get(storage, volume_id).migration_status
        if found not in UNDER_WAY or time.monotonic() > end:
            return None if found is None else str(found)
        time.sleep(_POLL)


def _get(storage: 'BlockStorage', volume_id: str) -> typing.Any:
    try:
        return storage.ask(storage.proxy.get_volume, volume_id)
    except exception.NotInCinder as error:
        raise exception.VolumeNotFound(volume=volume_id, endpoint=storage.endpoint) from error


def _told(volume: typing.Any) -> str:
    return f'{volume.status}, and its migration {volume.migration_status or "none"},'
